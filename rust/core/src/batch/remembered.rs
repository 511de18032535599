//! What steps cost by their counts, remembered from block to block.

use std::sync::Arc;

use super::kernel::Want;
use crate::per_step::BLOCK;

/// Places of the table; a power of two, several times a block, so that a block always finds room.
const PLACES: usize = 2048;

/// For each step of a block its place among the counts that are known, and sums of each of these.
#[derive(Debug, Clone, Default)]
pub(super) struct Remembered {
    /// Whose sums these are.
    owner: Option<(Arc<()>, Want)>,
    keys: Vec<(u64, u64)>,
    /// The last block that used a place; 0 where it is empty.
    stamps: Vec<u32>,
    block: u32,
    /// Numbers a place.
    width: usize,
    values: Vec<f64>,
    index: Vec<u16>,
    /// The first steps whose counts are not known yet, and their places.
    misses: Vec<(usize, usize)>,
    uniform: bool,
}

impl Remembered {
    /// Forgets what it knows of another kernel or another question; says whether it did.
    pub(super) fn belong(&mut self, owner: &Arc<()>, want: Want, width: usize) -> bool {
        let same = |(known, wanted): &(Arc<()>, Want)| Arc::ptr_eq(known, owner) && *wanted == want;
        if self.owner.as_ref().is_some_and(same) {
            return false;
        }
        self.owner = Some((Arc::clone(owner), want));
        self.keys.resize(PLACES, (0, 0));
        self.stamps.clear();
        self.stamps.resize(PLACES, 0);
        self.index.resize(BLOCK, 0);
        self.width = width;
        self.values.resize(PLACES * width, 0.0);
        self.block = 0;
        true
    }

    /// Finds the places of a block's steps, told apart by two counts.
    pub(super) fn find(&mut self, counts: &[u64], others: &[u64]) {
        self.misses.clear();
        self.block += 1;
        let differ = |column: &[u64]| column.iter().fold(0, |bits, count| bits | (count ^ column[0]));
        self.uniform = differ(counts) | differ(others) == 0;
        if self.uniform {
            let place = self.place((counts[0], others[0]), 0);
            self.index[0] = place as u16;
            return;
        }
        let mut last = (None, 0);
        for (at, pair) in counts.iter().copied().zip(others.iter().copied()).enumerate() {
            if last.0 != Some(pair) {
                last = (Some(pair), self.place(pair, at));
            }
            self.index[at] = last.1 as u16;
        }
    }

    fn place(&mut self, key: (u64, u64), at: usize) -> usize {
        let mixed = key.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ key.1.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
        let mut place = (mixed >> 32) as usize % PLACES;
        loop {
            let (stamp, same) = (self.stamps[place], self.keys[place] == key);
            if stamp > 0 && same {
                self.stamps[place] = self.block;
                return place;
            }
            if stamp != self.block {
                (self.keys[place], self.stamps[place]) = (key, self.block);
                self.misses.push((at, place));
                return place;
            }
            place = (place + 1) % PLACES;
        }
    }

    /// The first steps whose counts are not known yet, and the places of their sums.
    pub(super) fn misses(&self) -> &[(usize, usize)] {
        &self.misses
    }

    /// Writes the sums of each miss: what `sum` says of its number and the sum's.
    pub(super) fn learn(&mut self, sum: impl Fn(usize, usize) -> f64) {
        for (miss, (_, place)) in self.misses.iter().enumerate() {
            let values = &mut self.values[place * self.width..(place + 1) * self.width];
            values.iter_mut().enumerate().for_each(|(at, value)| *value = sum(miss, at));
        }
    }

    /// The sums of a step.
    pub(super) fn values(&self, step: usize) -> &[f64] {
        let place = usize::from(self.index[if self.uniform { 0 } else { step }]);
        &self.values[place * self.width..(place + 1) * self.width]
    }

    /// Writes one of the sums of each step.
    pub(super) fn spread(&self, sum: usize, lane: &mut [f64]) {
        if self.uniform {
            return lane.fill(self.values(0)[sum]);
        }
        for (lane, place) in lane.iter_mut().zip(&self.index) {
            *lane = self.values[usize::from(*place) * self.width + sum];
        }
    }
}
