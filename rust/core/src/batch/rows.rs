//! Rows of coefficients over a block of points: seconds, added up by where they are spent.

use super::affine::{Affine, BLOCK, PerStep, grows};
use super::program::Row;
use crate::roof::Bound;

/// Seconds of a block's points so far.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seconds {
    /// Of all pipeline stages: computing, communicating; then the same of the busiest stage.
    pub(super) lanes: [PerStep; LANES],
}

/// Computing, all stages.
pub(super) const COMPUTING: usize = 0;
/// Communicating, all stages.
pub(super) const LINKING: usize = 1;
/// Computing, busiest stage.
pub(super) const STAGE_COMPUTING: usize = 2;
/// Communicating, busiest stage.
pub(super) const STAGE_LINKING: usize = 3;
/// Busiest stage, bound by memory; then by the tensor unit, and by the vector unit.
pub(super) const BY_BOUND: usize = 4;
/// Lanes in all.
pub(super) const LANES: usize = 7;

/// Where a bound's seconds stand among the three of [`BY_BOUND`].
pub(super) fn place(bound: Bound) -> usize {
    match bound {
        Bound::Memory => BY_BOUND,
        Bound::Compute => BY_BOUND + 1,
        Bound::Vector => BY_BOUND + 2,
        // Launching is not among the ceilings of the roofline that rows express.
        Bound::Link | Bound::Launch => STAGE_LINKING,
    }
}

impl Default for Seconds {
    fn default() -> Seconds {
        Seconds { lanes: [[0.0; BLOCK]; LANES] }
    }
}

impl Seconds {
    /// Forgets what the first `count` points have.
    pub(super) fn clear(&mut self, count: usize) {
        self.lanes.iter_mut().for_each(|lane| lane[..count].fill(0.0));
    }
}

/// What is computed of a row besides its seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Detail {
    /// Whether seconds are told apart by what bounds them.
    pub(super) bounds: bool,
    /// Whether a stage is the whole model, and need not be added up on its own.
    pub(super) one_stage: bool,
}

/// Values of a row's forms while it is priced.
#[derive(Debug, Clone)]
pub(super) struct Values {
    lanes: [PerStep; 3],
}

impl Default for Values {
    fn default() -> Values {
        Values { lanes: [[0.0; BLOCK]; 3] }
    }
}

/// Adds every row's seconds to the first `count` points.
pub(super) fn add(
    rows: &[Row],
    columns: &[PerStep],
    count: usize,
    detail: Detail,
    values: &mut Values,
    seconds: &mut Seconds,
) {
    for row in rows {
        let link = row.forms[0].0 == Bound::Link;
        greatest(row, columns, count, detail.bounds && !link, values, seconds);
        let best = &values.lanes[0][..count];
        let (whole, stage) = if link { (LINKING, STAGE_LINKING) } else { (COMPUTING, STAGE_COMPUTING) };
        add_times(&mut seconds.lanes[whole][..count], best, row.repeat);
        if !detail.one_stage {
            add_times(&mut seconds.lanes[stage][..count], best, row.stage_repeat);
        }
    }
}

/// The same for one row where all steps have the same counts: most rows are then straight lines over one column, and
/// the greatest of them is added in one loop.
pub(super) fn add_over_one(
    row: &Row,
    columns: &[PerStep],
    count: usize,
    detail: Detail,
    values: &mut Values,
    seconds: &mut Seconds,
) {
    let link = row.forms[0].0 == Bound::Link;
    let over = row.forms.iter().find_map(|(_, form)| form.terms.iter().find(|(column, _)| grows(*column)));
    let column = over.map_or(0, |(column, _)| *column);
    let line = |form: &Affine| -> Option<(f64, f64)> {
        form.terms.iter().try_fold((form.fixed, 0.0), |(start, slope), &(other, coefficient)| {
            match grows(other) {
                true if other == column => Some((start, slope + coefficient)),
                true => None,
                false => Some((start + coefficient * columns[other][0], slope)),
            }
        })
    };
    let lines: Option<Vec<(f64, f64)>> = row.forms.iter().map(|(_, form)| line(form)).collect();
    let (Some(lines), true) = (lines, detail.one_stage && !link) else {
        return add(std::slice::from_ref(row), columns, count, detail, values, seconds);
    };
    let sum = seconds.lanes[COMPUTING][..count].iter_mut().zip(&columns[column]);
    let greater = |a: f64, b: f64| if b > a { b } else { a };
    let at = |line: (f64, f64), value: f64| line.0 + line.1 * value;
    match *lines {
        [a] => sum.for_each(|(sum, value)| *sum += at(a, *value) * row.repeat),
        [a, b] => sum.for_each(|(sum, v)| *sum += greater(at(a, *v), at(b, *v)) * row.repeat),
        [a, b, c] => sum.for_each(|(sum, v)| {
            *sum += greater(greater(at(a, *v), at(b, *v)), at(c, *v)) * row.repeat;
        }),
        _ => add(std::slice::from_ref(row), columns, count, detail, values, seconds),
    }
}

fn add_times(sum: &mut [f64], values: &[f64], times: f64) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += value * times;
    }
}

/// Leaves the greatest of a row's forms in the first lane of `values`.
fn greatest(
    row: &Row,
    columns: &[PerStep],
    count: usize,
    bounds: bool,
    values: &mut Values,
    seconds: &mut Seconds,
) {
    let [best, second, third] = &mut values.lanes;
    let (best, second, third) = (&mut best[..count], &mut second[..count], &mut third[..count]);
    match &*row.forms {
        [] => best.fill(0.0),
        [(bound, form)] => {
            form.fill(best, columns);
            if bounds {
                add_times(&mut seconds.lanes[place(*bound)][..count], best, row.stage_repeat);
            }
        }
        [(one, a), (two, b)] => {
            if bounds {
                a.fill(best, columns);
                b.fill(second, columns);
                let (first, last) = two_lanes(&mut seconds.lanes, place(*one), place(*two));
                split(best, second, first, last, row.stage_repeat);
            } else if !one_column(best, columns, a, b) {
                a.fill(best, columns);
                b.fill(second, columns);
                for (best, other) in best.iter_mut().zip(&*second) {
                    *best = if *other > *best { *other } else { *best };
                }
            }
        }
        [(one, a), (two, b), rest @ ..] => {
            a.fill(best, columns);
            b.fill(second, columns);
            third.fill(0.0);
            for (_, form) in rest {
                let mut other = [0.0; BLOCK];
                form.fill(&mut other[..count], columns);
                for (third, other) in third.iter_mut().zip(&other) {
                    *third = if *other > *third { *other } else { *third };
                }
            }
            if bounds {
                let last = place(rest[0].0);
                for at in 0..count {
                    let (a, b, c) = (best[at], second[at], third[at]);
                    let ab = if b > a { b } else { a };
                    let most = if c > ab { c } else { ab };
                    best[at] = most;
                    let seconds_of = most * row.stage_repeat;
                    seconds.lanes[last][at] += if c > ab { seconds_of } else { 0.0 };
                    seconds.lanes[place(*two)][at] += if b > a && c <= ab { seconds_of } else { 0.0 };
                    seconds.lanes[place(*one)][at] += if b <= a && c <= ab { seconds_of } else { 0.0 };
                }
            } else {
                for ((best, b), c) in best.iter_mut().zip(&*second).zip(&*third) {
                    let ab = if *b > *best { *b } else { *best };
                    *best = if *c > ab { *c } else { ab };
                }
            }
        }
    }
}

/// The greater of two forms of one and the same column, in one loop; `false` where they are not.
fn one_column(best: &mut [f64], columns: &[PerStep], a: &Affine, b: &Affine) -> bool {
    let (x, column, y) = match (&*a.terms, &*b.terms) {
        ([(column, x)], [(other, y)]) if column == other => (*x, *column, *y),
        ([], [(column, y)]) => (0.0, *column, *y),
        ([(column, x)], []) => (*x, *column, 0.0),
        _ => return false,
    };
    for (best, value) in best.iter_mut().zip(&columns[column]) {
        let (one, two) = (a.fixed + x * value, b.fixed + y * value);
        *best = if two > one { two } else { one };
    }
    true
}

/// Leaves the greater of two lanes in the first, and adds it to the lane of whichever it was.
fn split(best: &mut [f64], other: &[f64], first: &mut PerStep, second: &mut PerStep, times: f64) {
    for (((best, other), first), second) in best.iter_mut().zip(other).zip(first).zip(second) {
        let later = *other > *best;
        *best = if later { *other } else { *best };
        let seconds = *best * times;
        *first += if later { 0.0 } else { seconds };
        *second += if later { seconds } else { 0.0 };
    }
}

/// Two different lanes, to write to both.
fn two_lanes(lanes: &mut [PerStep; LANES], first: usize, second: usize) -> (&mut PerStep, &mut PerStep) {
    let (low, high) = (first.min(second), first.max(second));
    let (left, right) = lanes.split_at_mut(high);
    if first < second { (&mut left[low], &mut right[0]) } else { (&mut right[0], &mut left[low]) }
}
