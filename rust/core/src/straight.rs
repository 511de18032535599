//! What grows with context while sequences decode, as the greatest of the least of straight lines.
//!
//! A step of sequences that decode alone costs what depends on their number, and what grows with the keys they read. The
//! latter is made of straight lines (a roof's ceilings, a fitted form's terms), of which one counts at a time. Lines are
//! rounded once, to exact units; then a step's price is a sum of whole numbers, and a run of steps has a closed form.

use crate::fixed::{Ticks, nearest_ticks};

/// A straight line over the keys that all sequences read together and those of the longest; seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Straight {
    /// Seconds without any key.
    pub fixed: f64,
    /// Seconds a key.
    pub key: f64,
    /// Seconds a key of the longest sequence.
    pub longest: f64,
}

impl Straight {
    /// The same for every step.
    pub const fn fixed(seconds: f64) -> Straight {
        Straight { fixed: seconds, key: 0.0, longest: 0.0 }
    }

    /// In proportion to all keys.
    pub const fn a_key(seconds: f64) -> Straight {
        Straight { fixed: 0.0, key: seconds, longest: 0.0 }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Straight) -> Straight {
        Straight {
            fixed: self.fixed + other.fixed,
            key: self.key + other.key,
            longest: self.longest + other.longest,
        }
    }

    /// `factor` times as much.
    #[must_use]
    pub fn times(&self, factor: f64) -> Straight {
        Straight { fixed: self.fixed * factor, key: self.key * factor, longest: self.longest * factor }
    }

    #[inline]
    fn at(&self, keys: Keys) -> f64 {
        self.fixed + self.key * keys.all as f64 + self.longest * keys.longest as f64
    }

    /// Whether it is at least another wherever keys are.
    fn covers(&self, other: &Straight) -> bool {
        self.fixed >= other.fixed && self.key >= other.key && self.longest >= other.longest
    }
}

/// The greatest of some, each the least of a few straight lines.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Greatest(pub Vec<Vec<Straight>>);

impl Greatest {
    /// `base` and the least of `least` and the greatest of `greatest`, added.
    pub fn of_sum(base: f64, least: &[Straight], greatest: &[Straight]) -> Greatest {
        let base = Straight::fixed(base);
        let sum = |top: &Straight| least.iter().map(|low| base.plus(low).plus(top)).collect();
        Greatest(greatest.iter().map(sum).collect())
    }

    /// With one more, a straight line.
    #[must_use]
    pub fn or(mut self, line: Straight) -> Greatest {
        self.0.push(vec![line]);
        self
    }

    /// `factor` (not negative) times as much.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Greatest {
        self.0.iter_mut().flatten().for_each(|line| *line = line.times(factor));
        self
    }

    /// Without lines that never count, wherever keys are.
    fn pruned(mut self) -> Greatest {
        for lines in &mut self.0 {
            keep_some(lines, |line, other| line.covers(other));
        }
        // Least of one is below least of another if some line of it is below each line of the other.
        keep_some(&mut self.0, |mine, other| {
            mine.iter().any(|low| other.iter().all(|high| high.covers(low)))
        });
        self
    }
}

/// Seconds that no step takes, and no key of it: sums of what takes less cannot run over.
const MOST_S: f64 = 3e7;
const MOST_A_KEY_S: f64 = 1e-3;

/// Drops each entry that is `needless` beside another that is kept.
fn keep_some<T>(entries: &mut Vec<T>, needless: impl Fn(&T, &T) -> bool) {
    let mut place = 0;
    while place < entries.len() {
        let others = entries.iter().enumerate().filter(|(other, _)| *other != place);
        if others.into_iter().any(|(_, other)| needless(&entries[place], other)) {
            entries.remove(place);
        } else {
            place += 1;
        }
    }
}

/// Keys after a step: of all sequences together, and of the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keys {
    /// Of all.
    pub all: u64,
    /// Of the longest.
    pub longest: u64,
}

impl Keys {
    /// Those `steps` steps later, `sequences` being in each.
    #[must_use]
    pub fn after(&self, steps: u64, sequences: u64) -> Keys {
        Keys { all: self.all + steps * sequences, longest: self.longest + steps }
    }
}

/// A straight line in exact units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Exact {
    fixed: Ticks,
    key: Ticks,
    longest: Ticks,
}

impl Exact {
    fn of(line: &Straight) -> Exact {
        let Straight { fixed, key, longest } = *line;
        Exact { fixed: nearest_ticks(fixed), key: nearest_ticks(key), longest: nearest_ticks(longest) }
    }

    #[inline]
    fn at(&self, keys: Keys) -> Ticks {
        self.fixed + self.key * Ticks::from(keys.all) + self.longest * Ticks::from(keys.longest)
    }

    fn add(&mut self, other: &Exact) {
        self.fixed += other.fixed;
        self.key += other.key;
        self.longest += other.longest;
    }
}

/// Steps in a row, each a little dearer than the one before by the same amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What the first costs.
    pub ticks: Ticks,
    /// What each costs more than the one before.
    pub rise: Ticks,
    /// How many.
    pub steps: u64,
}

impl Run {
    /// What the first `steps` cost together.
    #[inline]
    pub fn sum(&self, steps: u64) -> Ticks {
        let steps = Ticks::from(steps);
        self.ticks * steps + self.rise * (steps * (steps - 1) / 2)
    }

    /// The fewest steps that take at least `span` together; `None` if all do not.
    pub fn steps_within(&self, span: Ticks) -> Option<u64> {
        if self.sum(self.steps) < span {
            return None;
        }
        if span <= 0 {
            return Some(0);
        }
        // The root of a parabola, near enough, and then the steps beside it.
        let (first, rise, span_f) = (self.ticks as f64, self.rise as f64, span as f64);
        let half = first - rise / 2.0;
        let root = 2.0 * span_f / (half + (half * half + 2.0 * rise * span_f).max(0.0).sqrt());
        let mut steps = (root as u64).min(self.steps);
        while steps > 0 && self.sum(steps - 1) >= span {
            steps -= 1;
        }
        while self.sum(steps) < span {
            steps += 1;
        }
        Some(steps)
    }
}

/// What steps cost in which the same sequences decode and nothing else happens, in exact units.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoding {
    sequences: u64,
    /// What always counts.
    base: Exact,
    /// What depends on which line counts.
    bends: Vec<Vec<Vec<Line>>>,
}

impl Decoding {
    /// `seconds` that do not grow, and what does; `None` where that is no time, or absurdly much.
    pub fn new(
        sequences: u64,
        seconds: f64,
        growing: impl IntoIterator<Item = Greatest>,
    ) -> Option<Decoding> {
        let is_time = |seconds: f64, most: f64| (0.0..most).contains(&seconds);
        if !is_time(seconds, MOST_S) {
            return None;
        }
        let base = Exact { fixed: nearest_ticks(seconds), ..Exact::default() };
        let mut decoding = Decoding { sequences, base, bends: Vec::new() };
        for greatest in growing {
            let lines = greatest.pruned().0;
            let are_times = lines.iter().flatten().all(|line| {
                is_time(line.fixed, MOST_S)
                    && is_time(line.key, MOST_A_KEY_S)
                    && is_time(line.longest, MOST_A_KEY_S)
            });
            if !are_times {
                return None;
            }
            let lines: Vec<Vec<Line>> =
                lines.iter().map(|least| least.iter().map(Line::of).collect()).collect();
            match lines.as_slice() {
                [] => {}
                [least] if least.len() == 1 => decoding.base.add(&least[0].exact),
                _ => decoding.bends.push(lines),
            }
        }
        Some(decoding)
    }

    /// At most `most` steps from the one after which there are `keys` on.
    pub fn run(&self, keys: Keys, most: u64) -> Run {
        let mut line = self.base;
        let mut steps = most.max(1);
        for bend in &self.bends {
            let chosen = choose(bend, keys);
            line.add(&bend[chosen.0][chosen.1].exact);
            while steps > 1 && !counts_up_to(bend, chosen, keys, keys.after(steps - 1, self.sequences)) {
                steps /= 2;
            }
        }
        let rise = line.key * Ticks::from(self.sequences) + line.longest;
        Run { ticks: line.at(keys), rise, steps }
    }
}

/// A straight line as it was given, to compare by, and in exact units.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    near: Straight,
    exact: Exact,
}

impl Line {
    fn of(line: &Straight) -> Line {
        Line { near: *line, exact: Exact::of(line) }
    }
}

/// Share of a time by which floating-point values must differ to be in the order of the exact ones.
const APART: f64 = 1e-9;

/// Which line counts: of the greatest the first, and of it the first of the least.
fn choose(bend: &[Vec<Line>], keys: Keys) -> (usize, usize) {
    chosen_at_sight(bend, keys).unwrap_or_else(|| {
        let mut best = (0, 0, Ticks::MIN);
        for (place, lines) in bend.iter().enumerate() {
            let mut least = (0, Ticks::MAX);
            for (index, line) in lines.iter().enumerate() {
                let ticks = line.exact.at(keys);
                if ticks < least.1 {
                    least = (index, ticks);
                }
            }
            if least.1 > best.2 {
                best = (place, least.0, least.1);
            }
        }
        (best.0, best.1)
    })
}

/// The same by floating-point numbers; `None` where they are too close to tell.
fn chosen_at_sight(bend: &[Vec<Line>], keys: Keys) -> Option<(usize, usize)> {
    // The greatest and the one after it; within it the least and the one after it.
    let (mut best, mut second, mut rival) = ((0, 0, f64::NEG_INFINITY), f64::NEG_INFINITY, f64::INFINITY);
    for (place, lines) in bend.iter().enumerate() {
        let (mut least, mut next) = ((0, f64::INFINITY), f64::INFINITY);
        for (index, line) in lines.iter().enumerate() {
            let value = line.near.at(keys);
            if value < least.1 {
                (least, next) = ((index, value), least.1);
            } else {
                next = next.min(value);
            }
        }
        if least.1 > best.2 {
            second = best.2;
            (best, rival) = ((place, least.0, least.1), next);
        } else {
            second = second.max(least.1);
        }
    }
    let apart = APART * best.2;
    (best.2 - second > apart && rival - best.2 > apart).then_some((best.0, best.1))
}

/// Whether a line that counts at `near` does up to `far`: straight lines that are in order at both ends are between them.
fn counts_up_to(bend: &[Vec<Line>], (place, index): (usize, usize), near: Keys, far: Keys) -> bool {
    let line = bend[place][index];
    let (here, there) = (line.near.at(near), line.near.at(far));
    let apart = APART * there;
    let at_sight = bend.iter().enumerate().all(|(other, lines)| {
        if other == place {
            lines.iter().enumerate().all(|(at, rival)| at == index || rival.near.at(far) - there > apart)
        } else {
            lines.iter().any(|rival| here - rival.near.at(near) > apart && there - rival.near.at(far) > apart)
        }
    });
    at_sight || {
        let (here, there) = (line.exact.at(near), line.exact.at(far));
        bend.iter().enumerate().all(|(other, lines)| {
            if other == place {
                lines.iter().all(|rival| there <= rival.exact.at(far))
            } else {
                lines.iter().any(|rival| rival.exact.at(near) <= here && rival.exact.at(far) <= there)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixed::tick_seconds;
    use proptest::prelude::*;

    fn line() -> impl Strategy<Value = Straight> {
        let part = || prop_oneof![Just(0.0), 0.0..1e-6f64];
        (0.0..1e-3f64, part(), part()).prop_map(|(fixed, key, longest)| Straight { fixed, key, longest })
    }

    fn greatest() -> impl Strategy<Value = Greatest> {
        prop::collection::vec(prop::collection::vec(line(), 1..4), 1..4).prop_map(Greatest)
    }

    fn value(greatest: &Greatest, keys: Keys) -> f64 {
        let least =
            |lines: &Vec<Straight>| lines.iter().map(|line| line.at(keys)).fold(f64::INFINITY, f64::min);
        greatest.0.iter().map(least).fold(f64::NEG_INFINITY, f64::max)
    }

    proptest! {
        #[test]
        fn a_run_costs_what_its_steps_cost_one_by_one(
            growing in prop::collection::vec(greatest(), 0..3),
            sequences in 1u64..9, all in 1u64..5000, longest in 0u64..3000, most in 1u64..3000,
        ) {
            let decoding = Decoding::new(sequences, 1e-4, growing.clone()).unwrap();
            let (mut keys, mut left) = (Keys { all, longest }, most);
            while left > 0 {
                let run = decoding.run(keys, left);
                prop_assert!((1..=left).contains(&run.steps));
                let mut sum = 0;
                for step in 0..run.steps {
                    let keys = keys.after(step, sequences);
                    let one = decoding.run(keys, 1).ticks;
                    prop_assert_eq!(one, run.ticks + run.rise * Ticks::from(step));
                    let exact = 1e-4 + growing.iter().map(|greatest| value(greatest, keys)).sum::<f64>();
                    prop_assert!((tick_seconds(one) - exact).abs() <= 1e-13 * exact);
                    prop_assert_eq!(run.steps_within(sum), Some(step));
                    prop_assert_eq!(run.steps_within(sum + 1), Some(step + 1));
                    sum += one;
                }
                prop_assert_eq!((run.sum(run.steps), run.steps_within(sum + 1)), (sum, None));
                (keys, left) = (keys.after(run.steps, sequences), left - run.steps);
            }
        }
    }

    #[test]
    fn lines_that_never_count_are_dropped() {
        let (low, high) = (Straight::a_key(1.0), Straight { fixed: 1.0, ..Straight::a_key(2.0) });
        let chain = Straight { fixed: 0.0, key: 0.0, longest: 3.0 };
        assert_eq!(Greatest(vec![vec![low], vec![high], vec![low, chain]]).pruned().0, [[high]]);
        assert_eq!(Greatest(vec![vec![high, low]]).pruned().0, [[low]]);
        assert_eq!(Greatest(vec![vec![low], vec![chain]]).pruned().0, [[low], [chain]]);
    }

    #[test]
    fn what_is_no_time_is_no_straight_line() {
        for wrong in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(Decoding::new(1, wrong, []), None);
            assert_eq!(Decoding::new(1, 1.0, [Greatest(vec![vec![Straight::a_key(wrong)]])]), None);
        }
    }

    #[test]
    fn steps_that_cost_nothing_never_fill_a_span() {
        let run = Run { ticks: 0, rise: 0, steps: 9 };
        assert_eq!((run.steps_within(0), run.steps_within(1)), (Some(0), None));
    }
}
