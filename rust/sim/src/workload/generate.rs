//! Requests one after the other, in constant memory, and all of them as a trace.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roofline_core::error::Error as CoreError;

use super::arrivals::Gaps;
use super::mixes::LengthStreams;
use super::prefixes::{PrefixStream, Shared};
use super::rates::RateClock;
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::trace::{GroupPaths, TOKENS_MAX, Trace};

/// A request that was drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Nanoseconds since the first could arrive.
    pub arrival_ns: u64,
    /// Tokens of the whole prompt, what it shares included.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub output_tokens: u32,
    /// Which text the prompt begins with.
    pub prefix_group: u32,
    /// Tokens of that text.
    pub prefix_tokens: u32,
}

/// Draws requests, in order of arrival.
#[derive(Debug)]
pub struct Requests<'a> {
    spec: &'a Spec,
    drawn: u64,
    gaps: Gaps,
    clock: RateClock<'a>,
    lengths: LengthStreams,
    prefixes: Option<PrefixStream>,
}

impl Requests<'_> {
    /// The requests of `spec`, the first one at second 0 unless no rate is above 0 there.
    pub fn new(spec: &Spec) -> Requests<'_> {
        Requests {
            spec,
            drawn: 0,
            gaps: Gaps::new(spec.process, spec.seed),
            clock: RateClock::new(&spec.rate, spec.count.unwrap_or(0)),
            lengths: LengthStreams::new(spec.seed),
            prefixes: spec.prefixes.as_ref().map(|prefixes| prefixes.stream(spec.seed)),
        }
    }
}

/// The last second that can be counted in nanoseconds, 292 years.
const LATEST_S: f64 = (i64::MAX / 1_000_000_000) as f64;

impl Iterator for Requests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        if self.spec.count.is_some_and(|count| self.drawn >= count) {
            return None;
        }
        let gap = if self.drawn == 0 { 0.0 } else { self.gaps.draw() };
        let arrival_s = self.clock.advance(gap, self.drawn);
        if arrival_s >= self.spec.end_s || arrival_s.is_nan() || arrival_s > LATEST_S {
            return None;
        }
        self.drawn += 1;
        let (prompt, output) = self.spec.lengths.draw(&mut self.lengths);
        let shared = self.prefixes.as_mut().map_or(Shared::default(), |prefixes| prefixes.draw(prompt));
        Some(Request {
            arrival_ns: (arrival_s * 1e9).round() as u64,
            prompt_tokens: prompt.saturating_add(shared.added).clamp(1, TOKENS_MAX),
            output_tokens: output,
            prefix_group: shared.group,
            prefix_tokens: shared.tokens.min(TOKENS_MAX),
        })
    }
}

/// How often a long generation looks whether it should stop.
const LOOK: u64 = 1 << 14;

/// All requests of `spec`; `done` counts them as they are drawn, `cancel` ends it early.
///
/// # Errors
/// [`Error::Interrupted`] where `cancel` was set; traffic in which nothing arrives, or that takes more than 292 years.
pub fn generate(spec: &Spec, done: &AtomicU64, cancel: &AtomicBool) -> Result<Trace> {
    let mut trace = Trace { model: spec.model.clone(), ..Trace::default() };
    let mut paths =
        spec.prefixes.as_ref().map(|prefixes| GroupPaths::new(prefixes.block_size, prefixes.groups));
    for (row, request) in (0u64..).zip(Requests::new(spec)) {
        if row % LOOK == 0 {
            done.store(row, Ordering::Relaxed);
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
        }
        trace.arrival_ns.push(request.arrival_ns);
        trace.prompt_tokens.push(request.prompt_tokens);
        trace.output_tokens.push(request.output_tokens);
        if let Some(paths) = &mut paths {
            paths.push(request.prefix_group, request.prefix_tokens);
        }
    }
    let short = spec.end_s.is_infinite() && spec.count.is_some_and(|count| count > trace.len() as u64);
    if trace.is_empty() || short {
        let must = "must bring every request within 292 years, at least one before its end";
        return Err(CoreError::spec("request_rate", must, format!("{} requests", trace.len()), "").into());
    }
    trace.hashes = paths.map(|paths| paths.hashes);
    Ok(trace)
}
