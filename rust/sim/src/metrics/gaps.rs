//! Gaps between two deliveries of a request, each with how often it came: single ones, and those of runs of steps.

use crate::time::{Ticks, tick_seconds};

/// Gaps that rise from step to step by the same amount.
#[derive(Debug, Clone, Copy)]
struct Rising {
    /// The first.
    ticks: Ticks,
    rise: Ticks,
    steps: u64,
    /// How often each came.
    count: u64,
}

/// Gaps with their counts. Two collections are equal if every gap came as often in both, however it was noted.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    single: Vec<(f64, u64)>,
    rising: Vec<Rising>,
}

impl Gaps {
    /// A gap of so many seconds came `count` times.
    #[inline]
    pub fn note(&mut self, gap: f64, count: u64) {
        match self.single.last_mut() {
            Some((last, known)) if *last == gap => *known += count,
            _ => self.single.push((gap, count)),
        }
    }

    /// `steps` gaps came `count` times each: the first of so many ticks, each `rise` longer than the one before.
    #[inline]
    pub fn note_rising(&mut self, ticks: Ticks, rise: Ticks, steps: u64, count: u64) {
        match (steps, rise) {
            (0, _) => {}
            (1, _) | (_, 0) => self.note(tick_seconds(ticks), steps * count),
            _ => self.rising.push(Rising { ticks, rise, steps, count }),
        }
    }

    /// Adds those noted elsewhere.
    pub fn append(&mut self, other: Gaps) {
        if self.single.is_empty() {
            self.single = other.single;
        } else {
            self.single.extend(other.single);
        }
        self.rising.extend(other.rising);
    }

    /// Gaps in seconds and how often each came, in no particular order; a gap may come up more than once.
    pub fn iter(&self) -> impl Iterator<Item = (f64, u64)> {
        let of = |run: &Rising| {
            let Rising { ticks, rise, steps, count } = *run;
            (0..steps).map(move |step| (tick_seconds(ticks + rise * Ticks::from(step)), count))
        };
        self.single.iter().copied().chain(self.rising.iter().flat_map(of))
    }

    /// How often any came.
    pub fn count(&self) -> u64 {
        let rising = self.rising.iter().map(|run| run.steps * run.count);
        self.single.iter().map(|&(_, count)| count).chain(rising).sum()
    }

    /// Each gap once, from short to long.
    fn sorted(&self) -> Vec<(f64, u64)> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        all.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        all
    }
}

impl PartialEq for Gaps {
    fn eq(&self, other: &Gaps) -> bool {
        self.sorted() == other.sorted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::ticks_in;

    #[test]
    fn a_run_of_gaps_is_its_gaps_one_by_one() {
        let (mut run, mut single) = (Gaps::default(), Gaps::default());
        let (first, rise) = (ticks_in(0.004), ticks_in(1e-7));
        run.note_rising(first, rise, 5, 3);
        run.note_rising(first, 0, 4, 2);
        (0..5).for_each(|step| single.note(tick_seconds(first + rise * step), 3));
        single.note(0.004, 8);
        assert_eq!(run, single);
        assert_eq!((run.count(), single.count()), (23, 23));
        single.note(0.004, 1);
        assert_ne!(run, single);
        run.append(single.clone());
        assert_eq!(run.count(), 47);
    }
}
