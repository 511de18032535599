//! Conversations: requests of one user after the other, each prompt all that was said before and something new.

use super::draws::{Draws, Purpose};
use super::lengths::Length;
use super::request::Request;
use crate::trace::{GroupPaths, Sessions, TOKENS_MAX, Trace};

/// How conversations go.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversations {
    /// How many there are, if not as many as requests allow.
    pub count: Option<u64>,
    /// Turns of each.
    pub turns: Length,
    /// Milliseconds from an answer to the next turn.
    pub delay_ms: Length,
    /// Tokens of a block hash.
    pub block_size: u32,
}

const NANOS_PER_MS: u64 = 1_000_000;

/// Collects the turns of conversations that begin as `requests` arrive; `most` requests in all.
pub(super) struct Turns<'a> {
    conversations: &'a Conversations,
    turns: Draws,
    delays: Draws,
    most: u64,
    trace: Trace,
    sessions: Sessions,
    paths: GroupPaths,
}

impl<'a> Turns<'a> {
    pub fn new(conversations: &'a Conversations, groups: u32, seed: u64, most: Option<u64>) -> Turns<'a> {
        Turns {
            conversations,
            turns: Draws::new(seed, Purpose::Turns),
            delays: Draws::new(seed, Purpose::Delays),
            most: most.unwrap_or(u64::MAX),
            trace: Trace::default(),
            sessions: Sessions { offsets: vec![0], ..Sessions::default() },
            paths: GroupPaths::new(conversations.block_size, groups),
        }
    }

    /// Requests so far.
    pub fn len(&self) -> u64 {
        self.trace.len() as u64
    }

    /// Whether another conversation can begin.
    pub fn goes_on(&self) -> bool {
        let more = self.conversations.count.is_none_or(|count| u64::from(self.sessions.count) < count);
        more && self.len() < self.most
    }

    /// A conversation that begins with `first`; the lengths of further turns are drawn by `more`.
    pub fn push(&mut self, first: &Request, mut more: impl FnMut() -> (u32, u32)) {
        let turns = self.conversations.turns.draw(&mut self.turns).max(1);
        let mut said = Vec::new();
        let mut context = 0u32;
        let mut arrival_ns = first.arrival_ns;
        for turn in 0..turns {
            if self.len() >= self.most {
                break;
            }
            let (new, output) = match turn {
                0 => (first.prompt_tokens, first.output_tokens),
                _ => more(),
            };
            let prompt = context.saturating_add(new).clamp(1, TOKENS_MAX);
            let row = self.trace.len() as u32;
            if turn > 0 {
                let delay_ns = u64::from(self.conversations.delay_ms.draw(&mut self.delays)) * NANOS_PER_MS;
                arrival_ns += delay_ns;
                self.sessions.after.push(row - 1);
                self.sessions.delay_ns.push(delay_ns);
            }
            first.label(&mut self.trace);
            self.trace.arrival_ns.push(arrival_ns);
            self.trace.prompt_tokens.push(prompt);
            self.trace.output_tokens.push(output);
            self.sessions.session.push(self.sessions.count);
            self.sessions.offsets.push(self.sessions.after.len() as u64);
            self.paths.push_said(first.prefix_group, first.prefix_tokens, &mut said, prompt);
            context = prompt.saturating_add(output).min(TOKENS_MAX);
        }
        self.sessions.count += 1;
    }

    /// All of them, in order of arrival.
    pub fn finish(mut self) -> Trace {
        self.trace.sessions = Some(self.sessions);
        self.trace.hashes = Some(self.paths.hashes);
        let mut order: Vec<u32> = (0..self.trace.len() as u32).collect();
        order.sort_by_key(|&row| self.trace.arrival_ns[row as usize]);
        self.trace.select(&order)
    }
}
