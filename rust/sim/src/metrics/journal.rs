//! What a replica writes down beside its requests: who gave way and for how long and, if asked for, its steps in stretches.

use roofline_core::cause::Causes;
use rustc_hash::FxHashMap;

use super::requests::Outcome;
use crate::pages::Pages;
use crate::request::Rows;
use crate::scheduler::sequence::Status;
use crate::time::{Clock, Ticks};

/// A request that had to give way, and was recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interruption {
    /// The request.
    pub request: u32,
    /// When the first step without it began.
    pub preempted: Ticks,
    /// When the step began that took it in again.
    pub readmitted: Option<Ticks>,
    /// When it was given its next token; none if it gave way again before.
    pub resumed: Option<Ticks>,
}

/// A step, or several that decode alike, as an engine reports them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Note {
    /// When the first began.
    pub start: Ticks,
    /// When the result of the last was there.
    pub end: Ticks,
    /// How many; 0 for a call of the scheduler that only preempted.
    pub steps: u64,
    /// Sequences in each.
    pub sequences: u32,
    /// Tokens of all.
    pub scheduled_tokens: u64,
    /// Those of them that belong to prompts, or are recomputed.
    pub prefill_tokens: u64,
    /// Sum over steps and sequences of their context after the step.
    pub context_tokens: u64,
    /// Requests running after the last call.
    pub running: u32,
    /// Requests waiting after the last call.
    pub waiting: u32,
    /// KV blocks in use after the first call.
    pub used_first: u32,
    /// KV blocks in use after the last call.
    pub used_last: u32,
    /// Requests preempted.
    pub preempted: u32,
}

impl Note {
    /// Tokens that continue answers.
    pub fn decode_tokens(&self) -> u64 {
        self.scheduled_tokens - self.prefill_tokens
    }

    /// Whether `next`, which follows, belongs to the same stretch.
    fn goes_on(&self, next: &Note) -> bool {
        self.end == next.start
            && self.preempted == 0
            && next.preempted == 0
            && self.prefill_tokens == 0
            && next.prefill_tokens == 0
            && self.sequences == next.sequences
            && self.running == next.running
            && self.scheduled_tokens * next.steps == next.scheduled_tokens * self.steps
    }
}

/// Steps in a row that hold the same requests and decode only, or any single step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// What was noted of them together; the first began at its start, the device being free.
    pub note: Note,
    /// What its steps were spent on, in seconds as priced.
    pub spent: Causes,
}

/// Instants of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moments {
    /// Whether it was sent at all.
    pub sent: bool,
    /// It arrived.
    pub arrival: Ticks,
    /// The first step it was in began.
    pub scheduled: Option<Ticks>,
    /// Its first token was there.
    pub first_token: Option<Ticks>,
    /// Its last token was there.
    pub finish: Option<Ticks>,
    /// Whether it waits at the end.
    pub waits: bool,
}

impl Moments {
    /// Those of a request that arrived then and came to that.
    pub fn of<C: Clock>(arrival: C::Instant, outcome: &Outcome<C::Instant>) -> Moments {
        Moments {
            sent: outcome.status != Status::Expected,
            arrival: C::ticks(arrival),
            scheduled: outcome.first_scheduled.map(C::ticks),
            first_token: outcome.first_token.map(C::ticks),
            finish: outcome.finish.map(C::ticks),
            waits: outcome.status == Status::Waiting,
        }
    }
}

/// Where the interruptions of each request stand, and which places are free.
type Kept = (FxHashMap<u32, Vec<usize>>, Vec<usize>);

/// What one replica has written down.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Journal {
    /// Who gave way, in the order of the preemptions.
    pub interruptions: Vec<Interruption>,
    /// Stretches in order; none unless asked for.
    pub stretches: Pages<Stretch>,
    /// Instants of the requests that were sent, in the order of the replica's; none unless asked for.
    pub moments: Vec<Moments>,
    /// The rows of the trace of those requests; none unless asked for.
    pub rows: Vec<u32>,
    /// KV blocks that can be used.
    pub usable_blocks: u32,
    writes: bool,
    /// For each request that gave way and has no token yet its last interruption, and the one before if its token may
    /// still be under way.
    open: FxHashMap<u32, (usize, Option<usize>)>,
    /// There where interruptions are taken out when their requests have ended.
    of: Option<Kept>,
    /// What all steps were spent on, and all before the last stretch.
    spent: Causes,
    spent_before: Causes,
    last_end: Ticks,
}

impl Journal {
    /// An empty one; `writes` for one that keeps stretches.
    pub fn new(writes: bool) -> Journal {
        Journal { writes, ..Journal::default() }
    }

    /// An empty one that keeps neither stretches nor, once they were [taken](Journal::take), interruptions.
    pub fn forgetting() -> Journal {
        Journal { of: Some(Default::default()), ..Journal::default() }
    }

    /// An empty one that keeps stretches, and instants of so many requests.
    pub fn keeping(requests: usize) -> Journal {
        Journal { moments: vec![Moments::default(); requests], ..Journal::new(true) }
    }

    /// Whether stretches and instants are kept.
    pub fn writes(&self) -> bool {
        self.writes
    }

    /// A request gave way to a step that begins at `at`, or later if the device is busy.
    pub fn preempted(&mut self, request: u32, at: Ticks) {
        let interruption = Interruption { request, preempted: at, readmitted: None, resumed: None };
        let place = match self.of.as_mut().and_then(|(_, free)| free.pop()) {
            Some(place) => {
                self.interruptions[place] = interruption;
                place
            }
            None => {
                self.interruptions.push(interruption);
                self.interruptions.len() - 1
            }
        };
        if let Some((of, _)) = &mut self.of {
            of.entry(request).or_default().push(place);
        }
        let before = self.open.get(&request).map(|open| open.0);
        self.open.insert(request, (place, before));
    }

    /// The interruptions of a request that has ended, in order; they are kept no more.
    pub fn take(&mut self, request: u32) -> Vec<Interruption> {
        self.open.remove(&request);
        let Some((of, free)) = &mut self.of else { return Vec::new() };
        let places = of.remove(&request).unwrap_or_default();
        let taken = places.iter().map(|&place| self.interruptions[place]).collect();
        free.extend(places);
        taken
    }

    /// A request that gave way runs again from a step on that begins at `at`.
    pub fn readmitted(&mut self, request: u32, at: Ticks) {
        if let Some(&(place, _)) = self.open.get(&request) {
            let open = &mut self.interruptions[place];
            open.readmitted = Some(at.max(open.preempted));
        }
    }

    /// A request that gave way was given a token at `at`, if it runs again.
    #[inline]
    pub fn resumed(&mut self, request: u32, at: Ticks) {
        if !self.open.is_empty() {
            self.close_open(request, at);
        }
    }

    fn close_open(&mut self, request: u32, at: Ticks) {
        let Some((last, before)) = self.open.get_mut(&request) else { return };
        if let Some(readmitted) = self.interruptions[*last].readmitted {
            self.interruptions[*last].resumed = Some(at.max(readmitted));
            self.open.remove(&request);
        } else if let Some(before) = before.take()
            && let Some(readmitted) = self.interruptions[before].readmitted
        {
            // It gave way again while the token was under way.
            self.interruptions[before].resumed = Some(at.max(readmitted));
        }
    }

    /// Steps were decided; `spent` is what all steps so far were spent on.
    ///
    /// Time is charged to the step whose result comes next: steps that overlap in a pipeline begin when the one before
    /// has ended.
    pub fn note(&mut self, mut note: Note, spent: Causes) {
        if !self.writes {
            return;
        }
        note.start = note.start.max(self.last_end);
        note.end = note.end.max(note.start);
        let before = std::mem::replace(&mut self.spent, spent);
        self.last_end = note.end;
        if let Some(last) = self.stretches.last_mut()
            && last.note.goes_on(&note)
        {
            let known = &mut last.note;
            known.end = note.end;
            known.steps += note.steps;
            known.scheduled_tokens += note.scheduled_tokens;
            known.context_tokens += note.context_tokens;
            (known.waiting, known.used_last) = (note.waiting, note.used_last);
            last.spent = spent.since(&self.spent_before);
            return;
        }
        self.spent_before = before;
        self.stretches.push(Stretch { note, spent: spent.since(&before) });
    }

    /// Instants of a request of the trace, if they are kept and it was sent.
    pub fn moments_of(&self, row: u32) -> Option<&Moments> {
        // Requests are numbered in the order of the trace.
        self.moments.get(self.rows.binary_search(&row).ok()?)
    }

    /// Nothing is open any more: what the replica's requests are called in the trace is filled in.
    pub fn close(&mut self, rows: Rows<'_>) {
        self.open = FxHashMap::default();
        for interruption in &mut self.interruptions {
            interruption.request = rows.row(interruption.request).unwrap_or(interruption.request);
        }
        if self.writes {
            let sent =
                (0..).map_while(|number| rows.row(number)).zip(&self.moments).filter(|(_, of)| of.sent);
            self.rows = sent.map(|(row, _)| row).collect();
            self.moments.retain(|of| of.sent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use roofline_core::cause::Cause;

    fn note(start: Ticks, end: Ticks) -> Note {
        Note {
            start,
            end,
            steps: 1,
            sequences: 2,
            scheduled_tokens: 2,
            prefill_tokens: 0,
            context_tokens: 10,
            running: 2,
            waiting: 0,
            used_first: 4,
            used_last: 4,
            preempted: 0,
        }
    }

    fn after(seconds: f64) -> Causes {
        let mut causes = Causes::default();
        causes.add(Cause::Weights, seconds);
        causes
    }

    #[test]
    fn steps_that_decode_alike_are_one_stretch_and_others_are_not() {
        let mut journal = Journal::new(true);
        journal.note(Note { prefill_tokens: 1, ..note(0, 5) }, after(1.0));
        journal.note(note(5, 10), after(3.0));
        journal.note(Note { used_last: 6, waiting: 1, ..note(10, 20) }, after(4.0));
        journal.note(note(21, 30), after(5.0));
        journal.note(Note { preempted: 1, ..note(30, 31) }, after(6.0));
        journal.note(note(31, 40), after(7.0));
        let spans: Vec<_> =
            journal.stretches.iter().map(|row| (row.note.start, row.note.end, row.note.steps)).collect();
        assert_eq!(spans, [(0, 5, 1), (5, 20, 2), (21, 30, 1), (30, 31, 1), (31, 40, 1)]);
        let merged = journal.stretches[1];
        assert_eq!(
            (merged.note.scheduled_tokens, merged.note.context_tokens, merged.note.waiting),
            (4, 20, 1)
        );
        assert_eq!((merged.note.used_first, merged.note.used_last, merged.spent.total()), (4, 6, 3.0));
    }

    #[test]
    fn steps_reported_at_once_are_the_same_as_one_after_another() {
        let (mut single, mut together) = (Journal::new(true), Journal::new(true));
        for (place, seconds) in [1.0, 2.0, 3.0].into_iter().enumerate() {
            let start = 10 * place as Ticks;
            single.note(note(start, start + 10), after(seconds));
        }
        let all = Note { steps: 3, scheduled_tokens: 6, context_tokens: 30, ..note(0, 30) };
        together.note(all, after(3.0));
        assert_eq!(single, together);
    }

    #[test]
    fn overlapping_steps_are_charged_one_after_another() {
        let mut journal = Journal::new(true);
        journal.note(note(0, 10), after(1.0));
        journal.note(Note { sequences: 3, ..note(5, 15) }, after(2.0));
        let last = journal.stretches[1];
        assert_eq!((last.note.start, last.note.end), (10, 15));
    }

    #[test]
    fn an_interruption_ends_with_the_next_token_of_a_request_that_runs_again() {
        let mut journal = Journal::new(false);
        journal.preempted(0, 5);
        journal.resumed(0, 6);
        journal.readmitted(0, 7);
        journal.resumed(0, 9);
        journal.resumed(0, 10);
        journal.note(note(0, 5), after(1.0));
        journal.close(Rows::Listed(&[4]));
        let whole = Interruption { request: 4, preempted: 5, readmitted: Some(7), resumed: Some(9) };
        assert_eq!((journal.interruptions, journal.stretches.len()), (vec![whole], 0));
    }

    #[test]
    fn interruptions_that_were_taken_make_room_for_others() {
        let mut journal = Journal::forgetting();
        for request in 0..100 {
            journal.preempted(request, 5);
            journal.readmitted(request, 7);
            journal.resumed(request, 9);
            journal.preempted(request, 11);
            let taken: Vec<_> =
                journal.take(request).iter().map(|one| (one.preempted, one.resumed)).collect();
            assert_eq!(taken, [(5, Some(9)), (11, None)]);
        }
        assert_eq!((journal.interruptions.len(), journal.take(3).len(), journal.open.len()), (2, 0, 0));
    }

    #[test]
    fn a_token_under_way_ends_the_interruption_before() {
        let mut journal = Journal::new(false);
        journal.preempted(0, 5);
        journal.readmitted(0, 7);
        journal.preempted(0, 8);
        journal.resumed(0, 8);
        journal.resumed(0, 9);
        let resumed: Vec<_> = journal.interruptions.iter().map(|open| open.resumed).collect();
        assert_eq!(resumed, [Some(8), None]);
    }
}
