//! What whole steps and served requests say beyond kernels: the host's share, what clients wait outside the engine, and a
//! factor for each family of operators.
//!
//! A few numbers, each drawn to what is known of it, by damped Gauss–Newton on log ratios with soft-L1 loss. Derivatives are
//! taken over a third of a number's doubt: schedules of a simulation jump where times change a little, and steps as wide
//! as what is looked for see past that.

use roofline_core::efficiency::band::Spread;
use roofline_core::efficiency::file::Factor;
use roofline_core::shape::Phase;
use roofline_core::site::Lane;
use roofline_core::step::Pricer;
use roofline_core::work::Family;

use super::errors::{Errors, Outcome, quantile};

/// A log ratio beyond which an error counts by its size and no longer by its square; also what one observation is trusted
/// to, beside a prior trusted to its doubt.
const SOFT: f64 = 0.1;
/// Step of the numeric derivative, in doubts.
const STEP: f64 = 0.3;
/// The farthest a number goes from its prior, in doubts.
const FARTHEST: f64 = 6.0;
const ROUNDS: usize = 12;
/// Rounds of a part left out, which begin where everything ended.
const ROUNDS_OF_A_PART: usize = 3;
/// How far what kernels say of a family may be off within a step, as a log ratio.
const KERNEL_DOUBT: f64 = 0.15;
/// The same of exchanges: measured alone they begin together, in a step they wait for the last to come.
const LINK_DOUBT: f64 = 0.35;
/// Share of the time that a family needs for a factor of its own.
const TELLING: f64 = 0.05;
/// Parts that are left out in turn.
const FOLDS: usize = 5;

/// A number that is looked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sought {
    /// What it is.
    pub what: What,
    /// What is known of it.
    pub prior: f64,
    /// How far off that may be: a time, or a log ratio of a factor.
    pub doubt: f64,
}

/// What numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Seconds of the host a step.
    HostStep,
    /// Seconds of the host for each sequence of a step.
    HostSequence,
    /// Seconds that clients wait outside the engine.
    Api,
    /// What a family's operators take, of what kernels say.
    Family(Family),
}

/// Numbers found, with their errors on observations that were not fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The numbers, in the order they were asked for.
    pub values: Vec<f64>,
    /// Errors of each group of observations, every one predicted by numbers found without it.
    pub errors: Vec<Errors>,
    /// Errors of the same observations before anything was fitted.
    pub before: Vec<Errors>,
    /// Measured over predicted at P05, P10, P50, P90, P95, of the first group.
    pub quantiles: [f64; 5],
}

impl Sought {
    /// What the host and clients usually add, and families as kernels say, for a device and engine whose host is known to
    /// take `host` (a step and a sequence).
    pub fn usual(host: (f64, f64), api_s: Option<f64>, families: &[Family]) -> Vec<Sought> {
        let mut sought = vec![
            Sought { what: What::HostStep, prior: host.0, doubt: 0.7e-3 },
            Sought { what: What::HostSequence, prior: host.1, doubt: 8e-6 },
        ];
        sought.extend(api_s.map(|prior| Sought { what: What::Api, prior, doubt: 5e-3 }));
        let factor = |family: &Family| {
            let doubt = if *family == Family::Link { LINK_DOUBT } else { KERNEL_DOUBT };
            Sought { what: What::Family(*family), prior: 1.0, doubt }
        };
        sought.extend(families.iter().map(factor));
        sought
    }

    /// The number so many doubts from its prior; a time is never below nothing.
    fn at(&self, doubts: f64) -> f64 {
        match self.what {
            What::Family(_) => self.prior * (self.doubt * doubts).exp(),
            _ => (self.prior + self.doubt * doubts).max(0.0),
        }
    }

    /// How far down it can go, in doubts.
    fn least(&self) -> f64 {
        match self.what {
            What::Family(_) => -FARTHEST,
            _ => -self.prior / self.doubt,
        }
    }
}

/// Shares of the host's and each family's time in a step of `sequences` answers with `context` tokens each and a prompt
/// chunk: those above one twentieth of it deserve a factor.
pub fn shares(pricer: &Pricer, sequences: u64, context: u64) -> Vec<(Family, f64)> {
    let mut sums = pricer.reaches().empty();
    pricer.reaches().add_item(&mut sums, Phase::Decode, sequences.max(1) as f64, 1, context, 1);
    pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, context.clamp(1, 512), 0, 1);
    let mut seconds = [0.0; Family::ALL.len()];
    pricer.each(&sums, |_, op, cost| {
        if op.site.lane != Lane::Launching {
            seconds[op.family as usize] += cost.seconds * op.repeat;
        }
    });
    let total: f64 = seconds.iter().sum();
    Family::ALL.iter().map(|family| (*family, seconds[*family as usize] / total)).collect()
}

/// Families that deserve a factor of their own.
pub fn telling(shares: &[(Family, f64)]) -> Vec<Family> {
    let tells = |(family, share): &&(Family, f64)| *share > TELLING && *family != Family::Host;
    shares.iter().filter(tells).map(|(family, _)| *family).collect()
}

/// The number of that meaning among numbers found.
pub fn value_of(sought: &[Sought], values: &[f64], what: What) -> Option<f64> {
    sought.iter().zip(values).find(|(one, _)| one.what == what).map(|(_, value)| *value)
}

/// The factors among numbers found, for an engine.
pub fn factors(sought: &[Sought], values: &[f64], engine: &str) -> Vec<Factor> {
    let one = |(sought, value): (&Sought, &f64)| match sought.what {
        What::Family(family) => {
            Some(Factor { engine: engine.to_string(), family, factor: *value, spread: None })
        }
        _ => None,
    };
    sought.iter().zip(values).filter_map(one).collect()
}

/// Finds numbers: `predicted` gives what each observation is predicted for given numbers, group by group, in the order of
/// `measured`; NaN on either side leaves an observation out. No more than `independent` of them count: requests of one run
/// went through the same steps, and many of them say little more against what is known than some.
///
/// # Errors
/// Those of `predicted`.
pub fn find<E>(
    sought: &[Sought],
    measured: &[Vec<f64>],
    independent: f64,
    mut predicted: impl FnMut(&[f64]) -> Result<Vec<Vec<f64>>, E>,
) -> Result<Found, E> {
    let logs = |told: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let group = |(told, real): (&Vec<f64>, &Vec<f64>)| {
            told.iter().zip(real).map(|(told, real)| (told / real).ln()).collect()
        };
        told.iter().zip(measured).map(group).collect()
    };
    let mut residuals = |doubts: &[f64]| -> Result<Vec<Vec<f64>>, E> {
        let values: Vec<f64> = sought.iter().zip(doubts).map(|(one, at)| one.at(*at)).collect();
        Ok(logs(&predicted(&values)?))
    };
    let start = vec![0.0; sought.len()];
    let before = residuals(&start)?;
    let count = before.iter().flatten().filter(|log| log.is_finite()).count();
    let counts_as = (independent / count.max(1) as f64).min(1.0);
    let mut search = Search { sought, counts_as, residuals: &mut residuals };
    let (best, after) = search.run(&start, &before, ROUNDS, &|_| true)?;
    let mut held = after.clone();
    for fold in 0..FOLDS {
        let (_, told) = search.run(&best, &after, ROUNDS_OF_A_PART, &|place| place % FOLDS != fold)?;
        for (held, told) in held.iter_mut().zip(&told) {
            for (place, (held, told)) in held.iter_mut().zip(told).enumerate() {
                if place % FOLDS == fold {
                    *held = *told;
                }
            }
        }
    }
    let values = sought.iter().zip(&best).map(|(one, at)| one.at(*at)).collect();
    let quantiles = quantiles(held.first().map_or(&[][..], Vec::as_slice));
    let spread = Spread { low: quantiles[1], high: quantiles[3] };
    Ok(Found { values, errors: errors(&held, Some(spread)), before: errors(&before, None), quantiles })
}

/// How many times off what was known before observations are of another unit.
const SLIP: f64 = 30.0;

/// How many times longer observations are than what was known before says, where that is more than anything but another
/// unit explains (below one: shorter).
pub fn unit_slip(found: &Found) -> Option<f64> {
    let times = |errors: &Errors| 1.0 / (1.0 + errors.bias / 100.0);
    found.before.iter().map(times).find(|times| !(1.0 / SLIP..SLIP).contains(times))
}

/// What is said of observations in another unit.
pub fn slipped(times: f64) -> String {
    let (times, as_what) = if times > 1.0 { (times, "long") } else { (1.0 / times, "short") };
    format!("times are typically {times:.0} times as {as_what} as predicted: another unit?")
}

/// Errors of each group that has any observation.
fn errors(logs: &[Vec<f64>], spread: Option<Spread>) -> Vec<Errors> {
    let outcome = |log: &f64| {
        let ratio = log.exp();
        let inside = spread.map(|spread| (spread.low..=spread.high).contains(&(1.0 / ratio)));
        log.is_finite().then_some(Outcome { ratio, inside })
    };
    let group = |logs: &Vec<f64>| Errors::of(&logs.iter().filter_map(outcome).collect::<Vec<_>>());
    logs.iter().filter_map(group).collect()
}

/// Measured over predicted at P05, P10, P50, P90, P95; all one where nothing was observed.
fn quantiles(logs: &[f64]) -> [f64; 5] {
    let mut ratios: Vec<f64> = logs.iter().filter(|log| log.is_finite()).map(|log| (-log).exp()).collect();
    ratios.sort_by(f64::total_cmp);
    let of = |share: f64| if ratios.is_empty() { 1.0 } else { quantile(&ratios, share) };
    [0.05, 0.1, 0.5, 0.9, 0.95].map(of)
}

struct Search<'a, R> {
    sought: &'a [Sought],
    /// What an observation counts beside a number's doubt.
    counts_as: f64,
    residuals: &'a mut R,
}

impl<E, R: FnMut(&[f64]) -> Result<Vec<Vec<f64>>, E>> Search<'_, R> {
    /// From `start`, whose residuals are known, over the observations whose place `counts`.
    fn run(
        &mut self,
        start: &[f64],
        known: &[Vec<f64>],
        rounds: usize,
        counts: &dyn Fn(usize) -> bool,
    ) -> Result<(Vec<f64>, Vec<Vec<f64>>), E> {
        let (mut at, mut here) = (start.to_vec(), known.to_vec());
        let mut loss = self.loss(&here, &at, counts);
        for _ in 0..rounds {
            let mut slopes = Vec::with_capacity(at.len());
            for place in 0..at.len() {
                let mut moved = at.clone();
                moved[place] += STEP;
                let there = (self.residuals)(&moved)?;
                slopes.push(slope(&here, &there));
            }
            let mut damping = 1e-3;
            let mut better = false;
            while damping < 1e3 {
                let tried = self.step(&at, &here, &slopes, damping, counts);
                let there = (self.residuals)(&tried)?;
                let new = self.loss(&there, &tried, counts);
                if new < loss {
                    better = loss - new > 1e-4 * loss;
                    (at, here, loss) = (tried, there, new);
                    break;
                }
                damping *= 10.0;
            }
            if !better {
                break;
            }
        }
        Ok((at, here))
    }

    /// What is left of observations, and how far numbers are from what is known of them.
    fn loss(&self, logs: &[Vec<f64>], at: &[f64], counts: &dyn Fn(usize) -> bool) -> f64 {
        let soft = |log: f64| 2.0 * ((1.0 + (log / SOFT) * (log / SOFT)).sqrt() - 1.0);
        let rows = logs.iter().flat_map(|group| group.iter().enumerate());
        let counted = rows.filter(|(place, log)| log.is_finite() && counts(*place));
        let rows: f64 = counted.map(|(_, log)| soft(*log)).sum();
        self.counts_as * rows + at.iter().map(|at| at * at).sum::<f64>()
    }

    /// Where the linearised problem has its least loss, within bounds.
    fn step(
        &self,
        at: &[f64],
        here: &[Vec<f64>],
        slopes: &[Vec<f64>],
        damping: f64,
        counts: &dyn Fn(usize) -> bool,
    ) -> Vec<f64> {
        let flat: Vec<(usize, f64)> =
            here.iter().flat_map(|group| group.iter().copied().enumerate()).collect();
        let size = at.len();
        let mut matrix = vec![vec![0.0; size + 1]; size];
        for (row, (place, log)) in flat.iter().enumerate() {
            if !log.is_finite() || !counts(*place) {
                continue;
            }
            let weight = self.counts_as * weight(*log);
            for one in 0..size {
                let slope = slopes[one][row];
                if !slope.is_finite() {
                    continue;
                }
                for other in 0..size {
                    let product = slope * slopes[other][row];
                    matrix[one][other] += if product.is_finite() { weight * product } else { 0.0 };
                }
                matrix[one][size] -= weight * slope * log;
            }
        }
        for (place, row) in matrix.iter_mut().enumerate() {
            row[place] += 1.0;
            row[size] -= at[place];
            row[place] *= 1.0 + damping;
        }
        // A number that would leave its range is held at its end, and the others are solved without it.
        let mut held: Vec<Option<f64>> = vec![None; size];
        loop {
            let moves = solve(&matrix, &held);
            let out = (0..size).filter(|place| held[*place].is_none()).find_map(|place| {
                let (least, to) = (self.sought[place].least().max(-FARTHEST), at[place] + moves[place]);
                let end = to.clamp(least, FARTHEST);
                (end != to).then_some((place, end - at[place]))
            });
            match out {
                Some((place, end)) => held[place] = Some(end),
                None => return at.iter().zip(&moves).map(|(at, by)| at + by).collect(),
            }
        }
    }
}

fn slope(here: &[Vec<f64>], there: &[Vec<f64>]) -> Vec<f64> {
    let pairs = here.iter().flatten().zip(there.iter().flatten());
    pairs.map(|(here, there)| (there - here) / STEP).collect()
}

/// What an observation of that log ratio counts, in units of what one is trusted to.
fn weight(log: f64) -> f64 {
    1.0 / (SOFT * SOFT * (1.0 + (log / SOFT) * (log / SOFT)).sqrt())
}

/// Solves a symmetric system by elimination, with some of its unknowns held.
fn solve(matrix: &[Vec<f64>], held: &[Option<f64>]) -> Vec<f64> {
    let size = held.len();
    let free: Vec<usize> = (0..size).filter(|place| held[*place].is_none()).collect();
    let known = |row: usize| -> f64 {
        held.iter().enumerate().filter_map(|(place, end)| end.map(|end| matrix[row][place] * end)).sum()
    };
    let mut rows: Vec<Vec<f64>> = free
        .iter()
        .map(|row| {
            let mut line: Vec<f64> = free.iter().map(|place| matrix[*row][*place]).collect();
            line.push(matrix[*row][size] - known(*row));
            line
        })
        .collect();
    let count = rows.len();
    for pivot in 0..count {
        let head = rows[pivot].clone();
        for row in rows.iter_mut().skip(pivot + 1) {
            let share = row[pivot] / head[pivot];
            for (cell, above) in row.iter_mut().zip(&head) {
                *cell -= share * above;
            }
        }
    }
    let mut found = vec![0.0; count];
    for row in (0..count).rev() {
        let rest: f64 = (row + 1..count).map(|place| rows[row][place] * found[place]).sum();
        found[row] = (rows[row][count] - rest) / rows[row][row];
    }
    let mut all: Vec<f64> = held.iter().map(|end| end.unwrap_or(0.0)).collect();
    for (place, value) in free.into_iter().zip(found) {
        all[place] = if value.is_finite() { value } else { 0.0 };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sought() -> Vec<Sought> {
        Sought::usual((0.66e-3, 0.0), None, &[Family::Gemm, Family::Attention])
    }

    /// Steps of so many sequences: the host, multiplications that grow slowly, attention that grows with them.
    fn steps(values: &[f64]) -> Vec<f64> {
        let one = |n: f64| values[0] + values[1] * n + values[2] * (6e-3 + 1e-5 * n) + values[3] * 4e-5 * n;
        (1..60).map(|n| one(f64::from(n))).collect()
    }

    fn found(truth: &[f64]) -> Found {
        let measured = vec![steps(truth)];
        find(&sought(), &measured, f64::INFINITY, |values| Ok::<_, ()>(vec![steps(values)])).unwrap()
    }

    #[test]
    fn what_is_measured_is_predicted_after_a_fit() {
        let found = found(&[1.5e-3, 12e-6, 1.1, 0.9]);
        assert!(found.errors[0].median_ape < 1.0, "{found:?}");
        assert!(found.before[0].median_ape > 5.0, "{found:?}");
    }

    #[test]
    fn observations_in_another_unit_are_told() {
        let truth = steps(&[0.66e-3, 0.0, 1.0, 1.0]);
        for (factor, says) in [(1000.0, "times as long"), (1e-3, "times as short")] {
            let measured = vec![truth.iter().map(|seconds| seconds * factor).collect()];
            let found = find(&sought(), &measured, f64::INFINITY, |values| Ok::<_, ()>(vec![steps(values)]));
            let times = unit_slip(&found.unwrap()).unwrap();
            assert!((times / factor - 1.0).abs() < 1e-6, "{times}");
            assert!(slipped(times).contains(says) && slipped(times).contains("1000"), "{}", slipped(times));
        }
        assert_eq!(unit_slip(&found(&[1.5e-3, 12e-6, 1.4, 0.9])), None);
    }

    #[test]
    fn nothing_moves_where_the_prior_is_right() {
        let found = found(&[0.66e-3, 0.0, 1.0, 1.0]);
        for (value, right) in found.values.iter().zip([0.66e-3, 0.0, 1.0, 1.0]) {
            assert!((value - right).abs() <= 1e-3 * right.max(1e-6), "{found:?}");
        }
    }

    #[test]
    fn times_are_never_negative() {
        let found = found(&[0.0, 0.0, 0.8, 0.8]);
        assert!(found.values.iter().all(|value| *value >= 0.0), "{found:?}");
        assert!(found.errors[0].median_ape < 3.0, "{found:?}");
    }

    #[test]
    fn an_outlier_and_a_gap_do_not_carry_a_fit_away() {
        let mut measured = steps(&[1.0e-3, 5e-6, 1.05, 1.0]);
        measured[7] *= 40.0;
        measured[11] = f64::NAN;
        let found =
            find(&sought(), &[measured], f64::INFINITY, |values| Ok::<_, ()>(vec![steps(values)])).unwrap();
        assert!(found.errors[0].median_ape < 1.0 && found.errors[0].n == 58, "{found:?}");
    }

    #[test]
    fn the_band_holds_most_of_what_was_not_fitted() {
        let noisy = |place: usize| 1.0 + 0.03 * (((place * 7919) % 13) as f64 / 6.0 - 1.0);
        let measured: Vec<f64> =
            steps(&[1e-3, 5e-6, 1.0, 1.0]).iter().enumerate().map(|(at, t)| t * noisy(at)).collect();
        let found =
            find(&sought(), &[measured], f64::INFINITY, |values| Ok::<_, ()>(vec![steps(values)])).unwrap();
        assert!((70.0..=95.0).contains(&found.errors[0].coverage), "{found:?}");
    }
}
