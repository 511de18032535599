//! Requests one after the other, in constant memory, and all of them as a trace.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use roofline_core::error::Error as CoreError;

use super::arrivals::Gaps;
use super::conversations::{Conversations, Turns};
use super::draws::Purpose;
use super::labels::NameDraws;
use super::mixes::LengthStreams;
use super::prefixes::{PrefixDraws, Shared};
use super::rates::RateClock;
use super::request::Request;
use super::servegen::{Sending, Sent};
use super::spec::Spec;
use crate::error::{Error, Result};
use crate::stream::Source;
use crate::trace::{Adapters, GroupPaths, TOKENS_MAX, Trace};

/// Draws requests, in order of arrival.
#[derive(Debug)]
pub struct Requests<'a> {
    spec: &'a Spec,
    drawn: u64,
    /// Most that are drawn, if not as many as time has room for.
    limit: Option<u64>,
    gaps: Gaps,
    clock: RateClock<'a>,
    clients: Option<Sending<'a>>,
    lengths: LengthStreams,
    prefixes: Option<PrefixDraws>,
    loras: Option<NameDraws>,
    tenants: Option<NameDraws>,
}

impl Requests<'_> {
    /// The requests of `spec`, the first one at second 0 unless no rate is above 0 there.
    pub fn new(spec: &Spec) -> Requests<'_> {
        Requests {
            spec,
            drawn: 0,
            limit: spec.conversations.as_ref().map_or(spec.count, |conversations| conversations.count),
            gaps: Gaps::new(spec.process, spec.seed),
            clock: RateClock::new(&spec.rate, spec.count.unwrap_or(0)),
            clients: spec.clients.as_ref().map(|clients| clients.stream(spec.seed)),
            lengths: LengthStreams::new(spec.seed),
            prefixes: spec.prefixes.as_ref().map(|prefixes| prefixes.stream(spec.seed)),
            loras: spec.loras.as_ref().map(|names| names.stream(spec.seed, Purpose::Loras)),
            tenants: spec.tenants.as_ref().map(|names| names.stream(spec.seed, Purpose::Tenants)),
        }
    }

    /// When the next request arrives, how long it is, and what else is known where a client was recorded.
    fn sent(&mut self) -> Option<(f64, Sent)> {
        let spec = self.spec;
        if let Some(clients) = &mut self.clients {
            let sent = clients.next()?;
            return Some((f64::from_bits(sent.arrival_s_bits), sent));
        }
        let gap = if self.drawn == 0 { 0.0 } else { self.gaps.draw() };
        let arrival_s = self.clock.advance(gap, self.drawn);
        if arrival_s >= spec.end_s || arrival_s.is_nan() {
            return None;
        }
        let (prompt, output) = spec.lengths.draw(&mut self.lengths);
        Some((arrival_s, Sent { prompt, output, ..Sent::default() }))
    }
}

/// The last second that can be counted in nanoseconds, 292 years.
const LATEST_S: f64 = (i64::MAX / 1_000_000_000) as f64;

impl Iterator for Requests<'_> {
    type Item = Request;

    fn next(&mut self) -> Option<Request> {
        if self.limit.is_some_and(|limit| self.drawn >= limit) {
            return None;
        }
        let (arrival_s, sent) = self.sent()?;
        if arrival_s >= self.spec.end_s || arrival_s > LATEST_S {
            return None;
        }
        self.drawn += 1;
        let prompt = sent.prompt;
        let shared = self.prefixes.as_mut().map_or(Shared::default(), |prefixes| prefixes.draw(prompt));
        let recorded = self.spec.clients.as_ref();
        let media = [sent.images, sent.image_tokens, sent.audio_tokens, sent.video_tokens];
        Some(Request {
            arrival_ns: (arrival_s * 1e9).round() as u64,
            prompt_tokens: prompt.saturating_add(shared.added).clamp(1, TOKENS_MAX),
            output_tokens: sent.output,
            prefix_group: shared.group,
            prefix_tokens: shared.tokens.min(TOKENS_MAX),
            lora: self.loras.as_mut().map(NameDraws::draw),
            tenant: recorded.map(|_| sent.client).or_else(|| self.tenants.as_mut().map(NameDraws::draw)),
            media: recorded.filter(|clients| clients.has_media()).map(|_| media),
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
    let look = |row: u64| {
        if row.is_multiple_of(LOOK) {
            done.store(row, Ordering::Relaxed);
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    };
    let mut trace = match &spec.conversations {
        Some(conversations) => converse(spec, conversations, look)?,
        None => collect(spec, look)?,
    };
    trace.model.clone_from(&spec.model);
    name(&mut trace, spec);
    part(&mut trace, &mut Adapters::default());
    check_drawn(spec, trace.len() as u64)?;
    Ok(trace)
}

/// Checks that all requests came that were asked for, and any at all.
fn check_drawn(spec: &Spec, drawn: u64) -> Result<()> {
    let short = spec.end_s.is_infinite() && spec.count.is_some_and(|count| count > drawn);
    if drawn > 0 && !(short && spec.conversations.is_none()) {
        return Ok(());
    }
    let must = "must bring every request within 292 years, at least one before its end";
    Err(CoreError::spec("request_rate", must, format!("{drawn} requests"), "").into())
}

/// Traffic that is drawn again whenever it is wanted, part by part.
#[derive(Debug)]
pub struct Generated<'a> {
    spec: &'a Spec,
    drawn: AtomicU64,
    cancel: &'a AtomicBool,
}

impl<'a> Generated<'a> {
    /// The traffic of `spec`; `cancel` ends it early.
    pub fn new(spec: &'a Spec, cancel: &'a AtomicBool) -> Generated<'a> {
        Generated { spec, drawn: AtomicU64::new(0), cancel }
    }
}

impl Source for Generated<'_> {
    fn parts(&self) -> Result<Box<dyn Iterator<Item = Result<Trace>> + '_>> {
        Ok(Box::new(Parts::new(self.spec, &self.drawn, self.cancel)?))
    }
}

/// The same requests some at a time, in memory that does not grow with their number: prefixes alone are remembered.
#[derive(Debug)]
pub struct Parts<'a> {
    spec: &'a Spec,
    requests: Requests<'a>,
    paths: Option<GroupPaths>,
    adapters: Adapters,
    drawn: u64,
    is_over: bool,
    done: &'a AtomicU64,
    cancel: &'a AtomicBool,
}

/// Requests of a part.
const PART: usize = 1 << 16;

impl<'a> Parts<'a> {
    /// The parts of `spec`; `done` counts requests as they are drawn, `cancel` ends it early.
    ///
    /// # Errors
    /// Conversations, whose turns are sorted by arrival when all are known.
    pub fn new(spec: &'a Spec, done: &'a AtomicU64, cancel: &'a AtomicBool) -> Result<Parts<'a>> {
        if spec.conversations.is_some() {
            let hint = "leave out turns, or ask for as many as memory holds";
            return Err(
                CoreError::spec("turns", "must be left out of traffic in parts", "given", hint).into()
            );
        }
        let paths =
            spec.prefixes.as_ref().map(|prefixes| GroupPaths::new(prefixes.block_size, prefixes.groups));
        let (adapters, requests) = (Adapters::default(), Requests::new(spec));
        Ok(Parts { spec, requests, paths, adapters, drawn: 0, is_over: false, done, cancel })
    }
}

impl Iterator for Parts<'_> {
    type Item = Result<Trace>;

    fn next(&mut self) -> Option<Result<Trace>> {
        if self.cancel.load(Ordering::Relaxed) {
            return Some(Err(Error::Interrupted));
        }
        let mut part = Trace::default();
        for request in self.requests.by_ref().take(PART) {
            request.push(&mut part);
            if let Some(paths) = &mut self.paths {
                paths.push(request.prefix_group, request.prefix_tokens);
            }
        }
        if part.is_empty() {
            let over = std::mem::replace(&mut self.is_over, true);
            return check_drawn(self.spec, self.drawn).err().filter(|_| !over).map(Err);
        }
        self.drawn += part.len() as u64;
        self.done.fetch_add(part.len() as u64, Ordering::Relaxed);
        part.hashes = self.paths.as_mut().map(GroupPaths::take);
        part.model.clone_from(&self.spec.model);
        name(&mut part, self.spec);
        self::part(&mut part, &mut self.adapters);
        Some(Ok(part))
    }
}

fn collect(spec: &Spec, look: impl Fn(u64) -> Result<()>) -> Result<Trace> {
    let mut trace = Trace::default();
    let mut paths =
        spec.prefixes.as_ref().map(|prefixes| GroupPaths::new(prefixes.block_size, prefixes.groups));
    for (row, request) in (0u64..).zip(Requests::new(spec)) {
        look(row)?;
        request.push(&mut trace);
        if let Some(paths) = &mut paths {
            paths.push(request.prefix_group, request.prefix_tokens);
        }
    }
    trace.hashes = paths.map(|paths| paths.hashes);
    Ok(trace)
}

fn converse(spec: &Spec, conversations: &Conversations, look: impl Fn(u64) -> Result<()>) -> Result<Trace> {
    let groups = spec.prefixes.as_ref().map_or(0, |prefixes| prefixes.groups);
    let mut turns = Turns::new(conversations, groups, spec.seed, spec.count);
    let mut requests = Requests::new(spec);
    while turns.goes_on() {
        look(turns.len())?;
        let Some(first) = requests.next() else { break };
        turns.push(&first, || spec.lengths.draw(&mut requests.lengths));
    }
    Ok(turns.finish())
}

/// Gives adapters and tenants their names.
fn name(trace: &mut Trace, spec: &Spec) {
    let numbered = |what: &str, count: u32| (1..=count).map(|number| format!("{what}-{number}")).collect();
    if let (Some(labels), Some(names)) = (&mut trace.carried.lora, &spec.loras) {
        labels.names = numbered("adapter", names.count);
    }
    if let Some(labels) = &mut trace.carried.tenant {
        labels.names = match (&spec.clients, &spec.tenants) {
            (Some(clients), _) => clients.names(),
            (None, names) => numbered("tenant", names.as_ref().map_or(0, |names| names.count)),
        };
    }
}

/// Keeps the prompts of adapters apart.
fn part(trace: &mut Trace, adapters: &mut Adapters) {
    if let (Some(hashes), Some(lora)) = (&mut trace.hashes, &trace.carried.lora) {
        adapters.part(hashes, lora);
    }
}
