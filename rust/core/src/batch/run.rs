//! A run of decode steps in closed form: each operator is the greatest of a few straight lines over the steps.

use super::affine::{Affine, DECODE_KEYS, grows};
use super::program::{Row, decode_reach};
use crate::model::Span;
use crate::roof::Bound;
use crate::shape::Reach;

/// Steps over which the keys that a token reaches are a straight line.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stretch {
    /// How many.
    pub(super) steps: f64,
    /// Keys in its first step.
    pub(super) keys: f64,
    /// Keys more with each step: 1, or 0 where a window is full.
    pub(super) growth: f64,
    /// Keys of the whole context in its first step.
    pub(super) all: f64,
}

impl Stretch {
    /// Keys of all its steps together.
    pub(super) fn sum(&self) -> f64 {
        self.steps * (self.keys + self.growth * (self.steps - 1.0) / 2.0)
    }
}

/// Cuts `steps` decode steps, the first on top of `context` tokens, where `reach` changes its slope.
pub(super) fn stretches(reach: Reach, context: u64, steps: u64, mut see: impl FnMut(Stretch)) {
    let mut done = 0;
    while done < steps {
        let all = context + done + 1;
        let (left, keys, growth) = match reach.span {
            Span::Full => (steps, all, 1.0),
            Span::Window(most) | Span::TopK(most) if all < most => (most - all, all, 1.0),
            Span::Window(most) | Span::TopK(most) => (steps, most, 0.0),
            Span::Chunk(size) => {
                let inside = (all - 1) % size;
                (size - inside, inside + 1, 1.0)
            }
        };
        let steps_here = left.min(steps - done);
        see(Stretch { steps: steps_here as f64, keys: keys as f64, growth, all: all as f64 });
        done += steps_here;
    }
}

/// Seconds of one occurrence of a growing row over a run of decode steps of `batch` sequences, told apart by bound.
///
/// `counted` gives the columns that are the same in every step.
pub(super) fn add_up(
    row: &Row,
    reaches: &[Reach],
    (batch, context, steps): (f64, u64, u64),
    counted: impl Fn(usize) -> f64,
    mut see: impl FnMut(Bound, f64),
) {
    let index = decode_reach(row);
    let own = DECODE_KEYS + index;
    stretches(reaches[index], context, steps, |stretch| {
        let line = |form: &Affine| {
            let (mut start, mut slope) = (form.fixed, 0.0);
            for &(column, coefficient) in &form.terms {
                if column == own {
                    start += coefficient * batch * stretch.keys;
                    slope += coefficient * batch * stretch.growth;
                } else if grows(column) {
                    start += coefficient * batch * stretch.all;
                    slope += coefficient * batch;
                } else {
                    start += coefficient * counted(column);
                }
            }
            (start, slope)
        };
        let mut lines = [(0.0, 0.0); MOST_LINES];
        let count = row.forms.len().min(MOST_LINES);
        lines.iter_mut().zip(&row.forms).for_each(|(place, (_, form))| *place = line(form));
        sum_of_greatest(&lines[..count], stretch.steps, |index, seconds| see(row.forms[index].0, seconds));
    });
}

/// Ceilings of an operator.
const MOST_LINES: usize = 4;
/// Crossings of so many lines, and both ends.
const MOST_CUTS: usize = MOST_LINES * (MOST_LINES - 1) / 2 + 2;

/// Σ over t = 0, 1, … `steps` − 1 of the greatest of `start + slope·t`, cut where lines cross: between two cuts one line
/// is the greatest, and its sum is its value in the middle, times the steps.
fn sum_of_greatest(lines: &[(f64, f64)], steps: f64, mut see: impl FnMut(usize, f64)) {
    let value = |index: usize, t: f64| lines[index].0 + lines[index].1 * t;
    let mut cuts = [steps; MOST_CUTS];
    cuts[0] = 0.0;
    let mut count = 1;
    for (index, a) in lines.iter().enumerate() {
        for b in &lines[index + 1..] {
            let crossing = ((a.0 - b.0) / (b.1 - a.1)).ceil();
            if crossing > 0.0 && crossing < steps {
                cuts[count] = crossing;
                count += 1;
            }
        }
    }
    cuts[..count].sort_unstable_by(f64::total_cmp);
    for cut in 0..count {
        let (from, to) = (cuts[cut], cuts[cut + 1]);
        let middle = (from + to - 1.0) / 2.0;
        let mut best = 0;
        for index in 1..lines.len() {
            if value(index, middle) > value(best, middle) {
                best = index;
            }
        }
        if to > from {
            see(best, (to - from) * value(best, middle));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sum_of_greatest_lines_is_the_sum_of_every_step(
            lines in prop::collection::vec((0.0f64..100.0, 0.0f64..3.0), 1..4), steps in 1u64..200,
        ) {
            let mut sum = 0.0;
            sum_of_greatest(&lines, steps as f64, |_, seconds| sum += seconds);
            let at = |t: u64| lines.iter().map(|(start, slope)| start + slope * t as f64).fold(0.0, f64::max);
            let expected: f64 = (0..steps).map(at).sum();
            prop_assert!((sum - expected).abs() <= 1e-12 * expected);
        }

        #[test]
        fn stretches_count_every_key(context in 0u64..300, steps in 1u64..300, size in 1u64..90) {
            for span in [Span::Full, Span::Window(size), Span::TopK(size), Span::Chunk(size)] {
                let reach = Reach { span, causal: true };
                let (mut keys, mut seen) = (0.0, 0.0);
                stretches(reach, context, steps, |stretch| {
                    keys += stretch.sum();
                    seen += stretch.steps;
                });
                let expected: f64 = (0..steps).map(|step| reach.sums(1, context + step).1).sum();
                prop_assert_eq!((keys, seen), (expected, steps as f64));
            }
        }
    }
}
