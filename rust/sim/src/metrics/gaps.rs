//! Gaps between two deliveries of a request, each with how often it came: single ones, and those of runs of steps.

use super::percentiles::{Distribution, Gathered, MOST_EXACT};
use super::sketch::Sketch;
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

/// Gaps with their counts: all of them, or a sketch of more than are worth keeping. Two collections are equal if every
/// gap came as often in both, however it was noted.
#[derive(Debug, Clone)]
pub struct Gaps {
    single: Vec<(f64, u64)>,
    rising: Vec<Rising>,
    /// Gaps of the runs, one by one.
    risen: u64,
    /// Most that are kept.
    most: usize,
    /// Those that are not.
    sketch: Option<Box<Sketch>>,
}

impl Default for Gaps {
    fn default() -> Gaps {
        Gaps::within(MOST_EXACT)
    }
}

/// Gaps noted before they go to the sketch, where there is one.
const BUFFERED: usize = 1 << 14;

impl Gaps {
    /// None yet; up to `most` are kept.
    pub fn within(most: usize) -> Gaps {
        Gaps { single: Vec::new(), rising: Vec::new(), risen: 0, most, sketch: None }
    }

    /// A gap of so many seconds came `count` times.
    #[inline]
    pub fn note(&mut self, gap: f64, count: u64) {
        match self.single.last_mut() {
            Some((last, known)) if *last == gap => *known += count,
            _ => self.push(gap, count),
        }
    }

    #[inline]
    fn push(&mut self, gap: f64, count: u64) {
        if self.single.len() == self.single.capacity() {
            self.make_room();
        }
        self.single.push((gap, count));
    }

    /// Whether so many entries are more than are kept, those of runs one by one.
    fn is_too_much(&self) -> bool {
        let most = if self.sketch.is_some() { BUFFERED } else { self.most };
        self.single.len() as u64 + self.risen > most as u64
    }

    /// Before a list grows: what is too much goes to the sketch.
    #[cold]
    fn make_room(&mut self) {
        if self.is_too_much() {
            self.sketched();
        }
    }

    /// The sketch, to which all that was kept goes; lists stay as long as they were.
    fn sketched(&mut self) -> &mut Sketch {
        let mut sketch = self.sketch.take().unwrap_or_default();
        self.listed().for_each(|(gap, count)| sketch.add(gap, count));
        self.single.clear();
        self.rising.clear();
        self.risen = 0;
        self.single.shrink_to(BUFFERED);
        self.rising.shrink_to(BUFFERED);
        self.sketch.insert(sketch)
    }

    /// What is known of them.
    pub fn distribution(&self) -> Distribution {
        if self.sketch.is_some() || self.is_too_much() {
            let mut all = self.clone();
            return Distribution::Sketched(all.sketched().clone());
        }
        let mut gathered = Gathered::within(self.most);
        self.listed().for_each(|(gap, count)| gathered.add(gap, count));
        gathered.distribution()
    }

    /// `steps` gaps came `count` times each: the first of so many ticks, each `rise` longer than the one before.
    #[inline]
    pub fn note_rising(&mut self, ticks: Ticks, rise: Ticks, steps: u64, count: u64) {
        match (steps, rise) {
            (0, _) => {}
            (1, _) | (_, 0) => self.note(tick_seconds(ticks), steps * count),
            _ => {
                if self.rising.len() == self.rising.capacity() {
                    self.make_room();
                }
                self.risen += steps;
                self.rising.push(Rising { ticks, rise, steps, count });
            }
        }
    }

    /// Adds those noted elsewhere.
    pub fn append(&mut self, mut other: Gaps) {
        if self.sketch.is_some() || other.sketch.is_some() {
            self.sketched().merge(other.sketched());
            return;
        }
        self.risen += other.risen;
        if self.single.is_empty() {
            self.single = other.single;
        } else {
            self.single.append(&mut other.single);
        }
        self.rising.append(&mut other.rising);
    }

    /// Those that are kept, in seconds, and how often each came, in no particular order; a gap may come up more than once.
    fn listed(&self) -> impl Iterator<Item = (f64, u64)> {
        let of = |run: &Rising| {
            let Rising { ticks, rise, steps, count } = *run;
            (0..steps).map(move |step| (tick_seconds(ticks + rise * Ticks::from(step)), count))
        };
        self.single.iter().copied().chain(self.rising.iter().flat_map(of))
    }

    /// How often any came.
    pub fn count(&self) -> u64 {
        let rising = self.rising.iter().map(|run| run.steps * run.count);
        let listed: u64 = self.single.iter().map(|&(_, count)| count).chain(rising).sum();
        listed + self.sketch.as_ref().map_or(0, |sketch| sketch.count())
    }

    /// Each gap once, from short to long.
    fn sorted(&self) -> Vec<(f64, u64)> {
        let mut all: Vec<_> = self.listed().collect();
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
        if self.sketch.is_none() && other.sketch.is_none() {
            return self.sorted() == other.sorted();
        }
        self.clone().sketched() == other.clone().sketched()
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

    #[test]
    fn gaps_beyond_the_limit_take_no_more_memory() {
        let (mut few, mut all) = (Gaps::within(1000), Gaps::default());
        for gap in 0..200_000u32 {
            let seconds = 1e-3 + f64::from(gap.wrapping_mul(2_654_435_761) >> 8) * 1e-9;
            for gaps in [&mut few, &mut all] {
                gaps.note(seconds, 1 + u64::from(gap % 3));
                gaps.note_rising(ticks_in(seconds), ticks_in(1e-6), 3, 2);
            }
        }
        assert!(few.single.capacity() <= 2 * BUFFERED && few.rising.capacity() <= 2 * BUFFERED);
        let (sketched, exact) = (few.distribution(), all.distribution());
        assert_eq!((sketched.is_exact(), exact.is_exact()), (false, true));
        assert_eq!((sketched.count(), sketched.max()), (exact.count(), exact.max()));
        assert!((sketched.mean().unwrap() / exact.mean().unwrap() - 1.0).abs() < 1e-12);
        for percent in [1.0, 50.0, 99.0] {
            let (found, known) = (sketched.percentile(percent).unwrap(), exact.percentile(percent).unwrap());
            assert!((found / known - 1.0).abs() < 0.0011, "{percent}: {found} {known}");
        }
        let mut halves = Gaps::within(1000);
        halves.append(few.clone());
        assert_eq!(halves, few);
    }
}
