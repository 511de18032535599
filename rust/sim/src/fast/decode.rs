//! The sequences that decode, as an aggregate: a step through all of them is a step of one counter.
//!
//! Every call of the scheduler gives each of them one token. What is kept of a sequence is its *base*, the tokens it
//! has computed less the calls so far, which does not change while it decodes; sums over all follow from sums of bases.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::sequence::{Place, Sequence};
use crate::step_cost::Decodes;

/// A sequence's last step: the call it is in, the admission it belongs to, the sequence.
type Last = Reverse<(i64, u32, u32)>;

/// The call, counted from 0, in which a sequence that decodes computes its last token but one.
fn last_call(state: &Sequence) -> i64 {
    i64::from(state.end) - 2 - state.base
}

/// All sequences that decode.
#[derive(Debug, Clone)]
pub(super) struct DecodeSet {
    count: u32,
    base_sum: i64,
    /// Whether the greatest base is known.
    ranks_bases: bool,
    /// Bases with admission and sequence, the greatest on top; those of who left stay until they are on top.
    greatest: BinaryHeap<(i64, u32, u32)>,
    block_size: i64,
    /// How many have each base, modulo the block size.
    residues: Vec<u32>,
    /// Last steps; those of the preempted, and of who came back late, stay until they are met.
    last: BinaryHeap<Last>,
    /// Each base, where the price of a step depends on them; empty otherwise.
    bases: Vec<i64>,
    /// Whose they are.
    owners: Vec<u32>,
    lists_bases: bool,
    /// For each sequence where its base stands.
    places: Vec<u32>,
}

impl DecodeSet {
    /// Nobody decodes yet; each base is kept if `lists_bases`, and the greatest known if `ranks_bases`.
    pub(super) fn new(block_size: u32, lists_bases: bool, ranks_bases: bool) -> DecodeSet {
        DecodeSet {
            count: 0,
            base_sum: 0,
            ranks_bases,
            greatest: BinaryHeap::new(),
            block_size: i64::from(block_size),
            residues: vec![0; block_size as usize],
            last: BinaryHeap::new(),
            bases: Vec::new(),
            owners: Vec::new(),
            lists_bases,
            places: Vec::new(),
        }
    }

    /// Sequences.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// A sequence begins to decode with the call after `calls` ones.
    pub(super) fn join(&mut self, sequence: u32, state: &mut Sequence, calls: i64) {
        state.place = Place::Decoding;
        state.base = i64::from(state.computed) - calls;
        self.count += 1;
        self.base_sum += state.base;
        if self.ranks_bases {
            self.greatest.push((state.base, state.admission, sequence));
        }
        let residue = self.residue(state.base);
        self.residues[residue] += 1;
        self.last.push(Reverse((last_call(state), state.admission, sequence)));
        if self.lists_bases {
            if self.places.len() <= sequence as usize {
                self.places.resize(sequence as usize + 1, 0);
            }
            self.places[sequence as usize] = self.bases.len() as u32;
            self.bases.push(state.base);
            self.owners.push(sequence);
        }
    }

    /// A sequence decodes no more.
    pub(super) fn leave(&mut self, sequence: u32, sequences: &[Sequence]) {
        let state = &sequences[sequence as usize];
        self.count -= 1;
        self.base_sum -= state.base;
        while let Some(&(base, admission, top)) = self.greatest.peek() {
            let still = &sequences[top as usize];
            let decodes = still.admission == admission && still.place == Place::Decoding;
            if top != sequence && decodes && still.base == base {
                break;
            }
            self.greatest.pop();
        }
        let residue = self.residue(state.base);
        self.residues[residue] -= 1;
        if self.lists_bases {
            let place = self.places[sequence as usize] as usize;
            self.bases.swap_remove(place);
            self.owners.swap_remove(place);
            if let Some(&moved) = self.owners.get(place) {
                self.places[moved as usize] = place as u32;
            }
        }
    }

    /// Tokens modulo the block size; blocks are powers of two almost always.
    #[inline]
    fn residue(&self, tokens: i64) -> usize {
        if self.block_size & (self.block_size - 1) == 0 {
            (tokens & (self.block_size - 1)) as usize
        } else {
            tokens.rem_euclid(self.block_size) as usize
        }
    }

    /// Whether a sequence of this base begins a block in the call after `calls` ones.
    pub(super) fn begins_block(&self, base: i64, calls: i64) -> bool {
        self.residue(base + calls) == 0
    }

    /// How many begin a block in the call after `calls` ones.
    pub(super) fn beginning_block(&self, calls: i64) -> u32 {
        self.residues[self.residue(-calls)]
    }

    /// The residue of those who begin a block in the call after `calls` ones.
    pub(super) fn beginning_residue(&self, calls: i64) -> usize {
        self.residue(-calls)
    }

    /// How many have a residue; it moves on to that of the next call.
    #[inline]
    pub(super) fn beginning_next(&self, residue: &mut usize) -> u32 {
        let beginning = self.residues[*residue];
        *residue = residue.checked_sub(1).unwrap_or(self.residues.len() - 1);
        beginning
    }

    /// How many of the next `most` calls, after `calls` ones, find enough of `free` blocks; and the blocks those take.
    pub(super) fn calls_within(&self, calls: i64, most: u64, free: u32) -> (u64, u32) {
        let (free, count) = (u64::from(free), u64::from(self.count));
        // In as many calls as a block has tokens everybody begins one.
        let rounds = (most / self.block_size as u64).min(free / count.max(1));
        let (mut done, mut taken) = (rounds * self.block_size as u64, rounds * count);
        let mut residue = self.beginning_residue(calls);
        while done < most {
            let needed = u64::from(self.beginning_next(&mut residue));
            if taken + needed > free {
                break;
            }
            (done, taken) = (done + 1, taken + needed);
        }
        (done, taken as u32)
    }

    /// The call that is the last of some sequence, counted from 0, and that sequence: the next to leave.
    pub(super) fn next_leaving(&mut self, sequences: &[Sequence]) -> Option<(i64, u32)> {
        while let Some(&Reverse((call, admission, sequence))) = self.last.peek() {
            let state = &sequences[sequence as usize];
            if state.admission == admission && state.place == Place::Decoding && call == last_call(state) {
                return Some((call, sequence));
            }
            self.last.pop();
        }
        None
    }

    /// As the price of the call after `calls` ones sees them.
    pub(super) fn as_priced(&self, calls: i64) -> Decodes<'_> {
        Decodes {
            count: u64::from(self.count),
            context: (self.base_sum + calls * i64::from(self.count)) as u64,
            longest: self.greatest.peek().map_or(0, |(base, ..)| (base + calls) as u64),
            bases: &self.bases,
            shift: calls,
        }
    }
}
