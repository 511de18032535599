//! Where simulated time went: every moment of a replica charged to one cause, in exact units, so that shares add up.

use roofline_core::cause::{Cause, Causes};

use super::journal::{Journal, Stretch};
use crate::pages::Pages;
use crate::time::{Ticks, tick_seconds};

/// Kinds of time: the causes of the cost model, then steps priced without one, then no step at all.
pub const KINDS: usize = Cause::ALL.len() + 2;

/// The place of time in steps whose price knows no cause.
pub const UNATTRIBUTED: usize = Cause::ALL.len();

/// The place of time in which no step ran.
pub const IDLE: usize = UNATTRIBUTED + 1;

/// The name of each kind, in order.
pub fn kind_names() -> [&'static str; KINDS] {
    let mut names = ["unattributed"; KINDS];
    Cause::ALL.into_iter().zip(&mut names).for_each(|(cause, name)| *name = cause.name());
    names[IDLE] = "idle";
    names
}

/// Time by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Split(pub [Ticks; KINDS]);

impl Split {
    /// All of it.
    pub fn total(&self) -> Ticks {
        self.0.iter().sum()
    }

    /// Adds another one.
    pub fn add(&mut self, other: &Split) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// Adds another one, or (`false`) takes it away.
    pub fn shift(&mut self, other: &Split, adds: bool) {
        *self = match adds {
            true => Split(std::array::from_fn(|kind| self.0[kind] + other.0[kind])),
            false => self.since(other),
        };
    }

    /// What came in addition to `before`.
    #[must_use]
    pub fn since(&self, before: &Split) -> Split {
        Split(std::array::from_fn(|kind| self.0[kind] - before.0[kind]))
    }

    /// Seconds of each kind.
    pub fn seconds(&self) -> [f64; KINDS] {
        self.0.map(tick_seconds)
    }

    /// The place of the kind that took longest; `None` if nothing did.
    pub fn largest(&self) -> Option<usize> {
        let longest = (0..KINDS).rev().max_by_key(|&kind| self.0[kind])?;
        (self.0[longest] > 0).then_some(longest)
    }

    /// `whole` divided in proportion to `weights`, which are not negative; rounding goes to the largest.
    fn divided(whole: Ticks, weights: [f64; KINDS]) -> Split {
        let (sum, all): (f64, f64) = (weights.iter().sum(), whole as f64);
        let part = |weight: f64| if weight == 0.0 { 0 } else { (all * (weight / sum)) as Ticks };
        let mut parts = weights.map(part);
        let largest = heaviest(&weights);
        parts[largest] = 0;
        parts[largest] = whole - parts.iter().sum::<Ticks>();
        Split(parts)
    }

    /// The part of it that falls into the first `run` of `length`.
    #[must_use]
    pub fn part(&self, run: Ticks, length: Ticks) -> Split {
        if run == length { *self } else { Split::divided(run, self.0.map(|part| part as f64)) }
    }

    /// A stretch's time by what its steps were spent on.
    pub fn of(stretch: &Stretch) -> Split {
        Split::by_causes(stretch.note.end - stretch.note.start, &stretch.spent)
    }

    /// `whole` in proportion to `spent`; what no cause is known of is unattributed.
    pub fn by_causes(whole: Ticks, spent: &Causes) -> Split {
        Split::divided(whole, weights(spent))
    }
}

/// What `spent` makes of time by kind; what no cause is known of is unattributed.
fn weights(spent: &Causes) -> [f64; KINDS] {
    let mut weights = [0.0; KINDS];
    spent.iter().for_each(|(cause, seconds)| weights[cause as usize] = seconds.max(0.0));
    if spent.total() <= 0.0 {
        weights[UNATTRIBUTED] = 1.0;
    }
    weights
}

/// The place of the greatest weight, the first of equals.
fn heaviest(weights: &[f64; KINDS]) -> usize {
    (0..KINDS).rev().max_by(|&a, &b| weights[a].total_cmp(&weights[b])).unwrap_or(IDLE)
}

/// What bound a stretch: the [largest](Split::largest) part of its time, which is not divided for that.
pub fn bound_of(stretch: &Stretch) -> Option<usize> {
    (stretch.note.end > stretch.note.start).then(|| heaviest(&weights(&stretch.spent)))
}

/// Stretches from one at which all time before it is known to the next.
const APART: usize = 64;

/// One replica's time as a function: what had been spent by any moment.
#[derive(Debug, Clone)]
pub struct Meter<'a> {
    origin: Ticks,
    stretches: &'a Pages<Stretch>,
    /// All time before the beginning of each 64th stretch.
    before: Vec<Split>,
}

impl<'a> Meter<'a> {
    /// Measures from `origin` on, which no step precedes.
    pub fn new(journal: &'a Journal, origin: Ticks) -> Meter<'a> {
        let (mut spent, mut now, mut before) = (Split::default(), origin, Vec::new());
        for (place, stretch) in journal.stretches.iter().enumerate() {
            spent.0[IDLE] += stretch.note.start - now;
            now = stretch.note.end;
            if place % APART == 0 {
                before.push(spent);
            }
            spent.add(&Split::of(stretch));
        }
        Meter { origin, stretches: &journal.stretches, before }
    }

    /// Reads it at one moment after the other, quickly where they are in order.
    pub fn reading(&self) -> Reading<'_> {
        Reading { meter: self, under: None }
    }

    /// Time from the origin to that moment, by kind; within a stretch its steps are taken as alike.
    pub fn at(&self, moment: Ticks) -> Split {
        self.reading().at(moment)
    }

    /// Time between two moments, by kind.
    pub fn between(&self, from: Ticks, to: Ticks) -> Split {
        let mut reading = self.reading();
        let before = reading.at(from);
        reading.at(to).since(&before)
    }
}

/// A place among stretches.
#[derive(Debug, Clone, Copy)]
struct Under {
    place: usize,
    /// All time before it, and its own.
    before: Split,
    own: Split,
}

/// A [`Meter`] that is read again and again.
#[derive(Debug, Clone)]
pub struct Reading<'a> {
    meter: &'a Meter<'a>,
    /// The last stretch that had begun at the moment read last, if one had.
    under: Option<Under>,
}

impl Reading<'_> {
    /// Time from the origin to that moment, by kind.
    pub fn at(&mut self, moment: Ticks) -> Split {
        let stretches = self.meter.stretches;
        let Some(place) = self.begun_by(moment) else {
            let mut idle = Split::default();
            idle.0[IDLE] = moment - self.meter.origin;
            return idle;
        };
        let Under { before: mut spent, own, .. } = self.go_to(place);
        let Stretch { note, .. } = &stretches[place];
        let (run, length) = (moment.min(note.end) - note.start, note.end - note.start);
        spent.add(&own.part(run, length));
        spent.0[IDLE] += (moment - note.end).max(0);
        spent
    }

    /// The last stretch that has begun by then.
    fn begun_by(&self, moment: Ticks) -> Option<usize> {
        let stretches = self.meter.stretches;
        let begun = |place: usize| stretches.get(place).is_some_and(|stretch| stretch.note.start <= moment);
        if let Some(Under { place, .. }) = self.under
            && begun(place)
            && let Some(last) = (place..place + APART).find(|&place| !begun(place + 1))
        {
            return Some(last);
        }
        stretches.partition_point(|stretch| stretch.note.start <= moment).checked_sub(1)
    }

    fn go_to(&mut self, place: usize) -> Under {
        let stretches = self.meter.stretches;
        let near = |under: &Under| (under.place..under.place + 2 * APART).contains(&place);
        let mut under = self.under.filter(near).unwrap_or_else(|| {
            let known = place / APART;
            let first = known * APART;
            Under { place: first, before: self.meter.before[known], own: Split::of(&stretches[first]) }
        });
        while under.place < place {
            let (this, next) = (&stretches[under.place], &stretches[under.place + 1]);
            under.before.add(&under.own);
            under.before.0[IDLE] += next.note.start - this.note.end;
            (under.place, under.own) = (under.place + 1, Split::of(next));
        }
        self.under = Some(under);
        under
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::journal::Note;
    use proptest::prelude::*;

    fn journal(steps: &[(u32, u32, f64, f64)]) -> Journal {
        let mut journal = Journal::new(true);
        let (mut now, mut spent) = (0, Causes::default());
        for (place, &(wait, length, weights, compute)) in steps.iter().enumerate() {
            let start = now + Ticks::from(wait);
            now = start + Ticks::from(length);
            spent.add(Cause::Weights, weights);
            spent.add(Cause::Compute, compute);
            let note = Note {
                start,
                end: now,
                steps: 1,
                sequences: place as u32,
                scheduled_tokens: 1,
                prefill_tokens: 1,
                context_tokens: 1,
                running: 1,
                waiting: 0,
                used_first: 0,
                used_last: 0,
                preempted: 0,
            };
            journal.note(note, spent);
        }
        journal
    }

    #[test]
    fn kinds_have_names_in_their_places() {
        let names = kind_names();
        assert_eq!((names[0], names[UNATTRIBUTED], names[IDLE]), ("weights", "unattributed", "idle"));
    }

    #[test]
    fn steps_priced_without_causes_are_unattributed_and_gaps_are_idle() {
        let journal = journal(&[(5, 10, 0.0, 0.0), (3, 8, 1.0, 3.0)]);
        let spent = Meter::new(&journal, 0).at(30);
        assert_eq!((spent.0[UNATTRIBUTED], spent.0[IDLE]), (10, 5 + 3 + 4));
        assert_eq!((spent.0[Cause::Weights as usize], spent.0[Cause::Compute as usize]), (2, 6));
        assert_eq!(spent.largest(), Some(IDLE));
        assert_eq!(Split::default().largest(), None);
    }

    proptest! {
        #[test]
        fn all_time_is_charged_to_somebody_at_any_moment(
            steps in prop::collection::vec((0u32..50, 0u32..u32::MAX, 0.0..1.0f64, 0.0..1.0f64), 0..400),
            moments in prop::collection::vec(0.0..1.2f64, 1..20),
        ) {
            let journal = journal(&steps);
            let meter = Meter::new(&journal, 0);
            let end = journal.stretches.last().map_or(100, |last| last.note.end);
            let mut reading = meter.reading();
            for share in moments {
                let moment = (end as f64 * share) as Ticks;
                prop_assert_eq!(meter.at(moment).total(), moment);
                prop_assert_eq!(reading.at(moment), meter.at(moment));
            }
            for stretch in &journal.stretches {
                prop_assert_eq!(bound_of(stretch), Split::of(stretch).largest());
            }
        }
    }
}
