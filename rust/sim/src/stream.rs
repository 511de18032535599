//! Requests that come part by part, and are forgotten when they are done: any number of them, in memory that depends on
//! how many are under way.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use roofline_core::error::Error as CoreError;

use crate::error::{Error, Result};
use crate::trace::{OverContext, Trace};

/// Traffic that can be had again and again, part by part, each in order of arrival after the one before.
pub trait Source: Sync {
    /// The parts from the beginning, none empty; the same whenever asked.
    ///
    /// # Errors
    /// Traffic that cannot be had in parts.
    fn parts(&self) -> Result<Box<dyn Iterator<Item = Result<Trace>> + '_>>;
}

/// Traffic whose requests are taken as an engine takes them whose context is limited.
pub struct Cut<'a> {
    /// The traffic.
    pub source: &'a dyn Source,
    /// Tokens of the engine's context.
    pub longest: u32,
    /// What becomes of requests that are longer.
    pub over_context: OverContext,
    /// How many were, once somebody has seen all of them.
    pub counted: CountedCuts,
}

/// Requests that are longer than an engine's context, as they are counted from several threads.
#[derive(Debug, Default)]
pub struct CountedCuts {
    prompts: AtomicU64,
    answers: AtomicU64,
}

impl CountedCuts {
    /// Sentences about them, for an engine whose context has `longest` tokens.
    pub fn notes(&self, longest: u32) -> Vec<String> {
        let count = |cuts: &AtomicU64| cuts.load(Ordering::Relaxed);
        cut_notes(longest, count(&self.prompts), count(&self.answers))
    }
}

/// Sentences about prompts that were cut, and answers that end early, because a context has `longest` tokens.
pub fn cut_notes(longest: u32, prompts: u64, answers: u64) -> Vec<String> {
    let mut notes = Vec::new();
    if answers > 0 {
        notes.push(format!(
            "answers that end early, longer with their prompts than max-model-len {longest}: {answers}"
        ));
    }
    if prompts > 0 {
        notes.push(format!("{prompts} prompts are cut so that they fit max-model-len {longest}"));
    }
    notes
}

impl Source for Cut<'_> {
    fn parts(&self) -> Result<Box<dyn Iterator<Item = Result<Trace>> + '_>> {
        let (mut prompts, mut answers) = (0, 0);
        let mut cut = move |part: Trace| {
            let changed = part.within_context(self.longest, self.over_context)?;
            let (part, count) = changed.unwrap_or((part, 0));
            (prompts, answers) = (prompts + count as u64, answers + part.answers_cut(self.longest) as u64);
            // Every replica draws all of them.
            self.counted.prompts.fetch_max(prompts, Ordering::Relaxed);
            self.counted.answers.fetch_max(answers, Ordering::Relaxed);
            Ok(part)
        };
        Ok(Box::new(self.source.parts()?.map(move |part| part.and_then(&mut cut))))
    }
}

/// Most requests of a stream: a row is a number of 32 bits.
pub const MOST_ROWS: u64 = u32::MAX as u64 - 1;

/// The requests of a stream between the first that is under way and the last that was looked at.
pub struct Stream<'a> {
    state: RefCell<State<'a>>,
    /// Tokens of a block that is hashed, where the parts have hashes.
    block_size: Option<u32>,
    budget: u64,
}

struct State<'a> {
    source: &'a mut dyn Iterator<Item = Result<Trace>>,
    /// Parts, each with its first row.
    parts: VecDeque<(usize, Trace)>,
    /// Rows that were drawn, and whether those were all.
    drawn: usize,
    is_over: bool,
    /// When the last of them arrives.
    latest_ns: u64,
    /// Why no more came.
    failure: Option<Error>,
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        write!(out, "Stream of {} requests so far, {} parts held", state.drawn, state.parts.len())
    }
}

impl<'a> Stream<'a> {
    /// The parts of a [`Source`], of which at most `budget` requests are to be held at once.
    ///
    /// # Errors
    /// Those of the first part, or a rule it breaks.
    pub fn new(source: &'a mut dyn Iterator<Item = Result<Trace>>, budget: u64) -> Result<Stream<'a>> {
        let state =
            State { source, parts: VecDeque::new(), drawn: 0, is_over: false, latest_ns: 0, failure: None };
        let mut stream = Stream { state: RefCell::new(state), block_size: None, budget };
        let state = stream.state.get_mut();
        state.draw(budget);
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let first = state.parts.front().and_then(|(_, part)| part.hashes.as_ref());
        stream.block_size = first.map(|hashes| hashes.block_size);
        Ok(stream)
    }

    /// Tokens of a block that is hashed, where prompts are.
    pub fn block_size(&self) -> Option<u32> {
        self.block_size
    }

    /// Requests that were drawn so far.
    pub fn drawn(&self) -> usize {
        self.state.borrow().drawn
    }

    /// Whether there is such a row; draws as far as need be.
    #[inline]
    pub fn has(&self, row: usize) -> bool {
        let mut state = self.state.borrow_mut();
        while row >= state.drawn && !state.is_over {
            state.draw(self.budget);
        }
        row < state.drawn
    }

    /// What `of` tells of a row that is held: the part it stands in, and its place there.
    ///
    /// # Panics
    /// For a row that was forgotten, or not drawn: a mistake of an engine, never of an input.
    #[inline]
    pub fn at<T>(&self, row: usize, of: impl FnOnce(&Trace, usize) -> T) -> T {
        let state = self.state.borrow();
        let after = state.parts.iter().take_while(|(first, _)| *first <= row).count();
        let (first, part) = &state.parts[after - 1];
        of(part, row - first)
    }

    /// Whether there may be something to forget.
    #[inline]
    pub fn holds_several_parts(&self) -> bool {
        self.state.borrow().parts.len() > 1
    }

    /// No row before this one will be asked for again.
    pub fn forget_before(&self, row: usize) {
        let mut state = self.state.borrow_mut();
        while state.parts.len() > 1 && state.parts[1].0 <= row {
            state.parts.pop_front();
        }
    }

    /// So many requests were sent and are not answered: more than the budget end the stream.
    #[inline]
    pub fn limit(&self, under_way: u64) {
        if under_way > self.budget {
            let mut state = self.state.borrow_mut();
            state.failure = Some(state.too_many(under_way, self.budget));
            state.is_over = true;
        }
    }

    /// Why no more requests came, if that is not that there were none.
    pub fn failure(&self) -> Option<Error> {
        self.state.borrow_mut().failure.take()
    }
}

impl State<'_> {
    /// Draws another part, or notes why there is none.
    fn draw(&mut self, budget: u64) {
        match self.source.next().map(|part| part.and_then(|part| self.checked(part, budget))) {
            Some(Ok(part)) => {
                let first = self.drawn;
                self.drawn += part.len();
                self.latest_ns = part.arrival_ns.last().copied().unwrap_or(self.latest_ns);
                self.parts.push_back((first, part));
            }
            Some(Err(failure)) => {
                self.failure = Some(failure);
                self.is_over = true;
            }
            None => self.is_over = true,
        }
    }

    fn checked(&self, part: Trace, budget: u64) -> Result<Trace> {
        part.check_columns(self.drawn)?;
        if let Some(&first) = part.arrival_ns.first().filter(|&&first| first < self.latest_ns) {
            let field = format!("trace.arrival_ns[{}]", self.drawn);
            return Err(CoreError::spec(field, "must not decrease", first, "").into());
        }
        let all = (self.drawn + part.len()) as u64;
        check_rows(all)?;
        let held = all - self.parts.front().map_or(self.drawn, |(first, _)| *first) as u64;
        if held > budget { Err(self.too_many(held, budget)) } else { Ok(part) }
    }

    fn too_many(&self, held: u64, budget: u64) -> Error {
        let second = self.latest_ns / 1_000_000_000;
        let hint = "requests come faster than they are answered: lower the rate (request_rate), cap what is in flight \
                    (max_concurrency), send fewer (num_prompts), or keep all (stream=False)";
        let must = format!("must leave at most {budget} requests under way, which memory holds, of a stream");
        let value = format!("{held} when second {second} has come");
        CoreError::spec("num_prompts", must, value, hint).into()
    }
}

/// Refuses more requests than a stream can number.
///
/// # Errors
/// That.
fn check_rows(requests: u64) -> Result<()> {
    if requests <= MOST_ROWS {
        return Ok(());
    }
    let hint = "simulate them in several runs, with another seed each";
    let must = format!("must be at most {MOST_ROWS} requests in one run");
    Err(CoreError::spec("num_prompts", must, requests, hint).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parts of so many requests each, a second apart.
    struct Each(Vec<usize>);

    impl Source for Each {
        fn parts(&self) -> Result<Box<dyn Iterator<Item = Result<Trace>> + '_>> {
            let mut now = 0;
            Ok(Box::new(self.0.iter().map(move |&count| {
                let arrival_ns = (0..count as u64).map(|place| (now + place) * 1_000_000_000).collect();
                now += count as u64;
                Ok(Trace {
                    arrival_ns,
                    prompt_tokens: vec![1; count],
                    output_tokens: vec![1; count],
                    ..Trace::default()
                })
            })))
        }
    }

    fn arrival_s(stream: &Stream<'_>, row: usize) -> u64 {
        stream.at(row, |part, place| part.arrival_ns[place] / 1_000_000_000)
    }

    #[test]
    fn rows_are_drawn_when_they_are_looked_at_and_forgotten_when_they_are_done() {
        let source = Each(vec![3, 1, 4]);
        let mut parts = source.parts().unwrap();
        let stream = Stream::new(&mut *parts, 100).unwrap();
        assert_eq!((stream.drawn(), stream.has(2), stream.drawn()), (3, true, 3));
        assert_eq!(
            (stream.has(4), stream.drawn(), arrival_s(&stream, 1), arrival_s(&stream, 7)),
            (true, 8, 1, 7)
        );
        stream.forget_before(3);
        assert_eq!(stream.state.borrow().parts.len(), 2);
        assert_eq!((arrival_s(&stream, 3), stream.has(8), stream.failure().is_none()), (3, false, true));
        stream.forget_before(8);
        assert_eq!(arrival_s(&stream, 7), 7);
    }

    #[test]
    fn more_requests_under_way_than_memory_holds_end_a_stream_with_a_hint() {
        let source = Each(vec![3, 3, 3]);
        let mut parts = source.parts().unwrap();
        let stream = Stream::new(&mut *parts, 6).unwrap();
        assert!(stream.has(3) && !stream.has(6));
        let failure = stream.failure().unwrap();
        let must = "num_prompts must leave at most 6 requests under way, which memory holds, of a stream";
        assert_eq!(failure.to_string(), format!("{must}: 9 when second 5 has come"));
        assert!(failure.hint().contains("max_concurrency"));
        let mut parts = source.parts().unwrap();
        let patient = Stream::new(&mut *parts, 6).unwrap();
        assert!(patient.has(3));
        patient.forget_before(3);
        assert!(patient.has(8) && patient.failure().is_none());
    }

    #[test]
    fn parts_keep_the_rules_of_a_trace() {
        struct Late;
        impl Source for Late {
            fn parts(&self) -> Result<Box<dyn Iterator<Item = Result<Trace>> + '_>> {
                let part = |arrival_ns: u64, prompt: u32| {
                    let trace = Trace {
                        arrival_ns: vec![arrival_ns],
                        prompt_tokens: vec![prompt],
                        output_tokens: vec![1],
                        ..Trace::default()
                    };
                    Ok(trace)
                };
                Ok(Box::new([part(5, 1), part(4, 1)].into_iter()))
            }
        }
        let mut parts = Late.parts().unwrap();
        let stream = Stream::new(&mut *parts, 6).unwrap();
        assert!(!stream.has(1));
        assert_eq!(stream.failure().unwrap().to_string(), "trace.arrival_ns[1] must not decrease: 4");
    }
}
