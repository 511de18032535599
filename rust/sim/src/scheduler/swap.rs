//! Blocks that lie with the host while their requests wait, as vLLM V0 preempts if it is told to.
//!
//! A request that must give way keeps what it has computed: its blocks are copied to the host's memory, and back when
//! there is room for them. Both take the link's time, before the step that they come with is computed.

use std::collections::VecDeque;

/// How a request gives way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Swap {
    /// Blocks the host has room for.
    pub blocks: u32,
    /// Seconds a block takes over the link, in either direction.
    pub block_s: f64,
}

/// Requests whose blocks lie with the host, in the order in which they return.
#[derive(Debug, Clone, Default)]
pub(super) struct Swapped {
    queue: VecDeque<(u32, u32)>,
    used: u32,
}

impl Swapped {
    /// Requests that wait there.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nobody does.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Blocks of the host that are taken.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Takes in a request with its blocks.
    pub(super) fn push(&mut self, sequence: u32, blocks: u32) {
        self.queue.push_back((sequence, blocks));
        self.used += blocks;
    }

    /// Who returns next, and its blocks.
    pub(super) fn front(&self) -> Option<(u32, u32)> {
        self.queue.front().copied()
    }

    /// Gives that request back.
    pub(super) fn pop(&mut self) {
        if let Some((_, blocks)) = self.queue.pop_front() {
            self.used -= blocks;
        }
    }
}
