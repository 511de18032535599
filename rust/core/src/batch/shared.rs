//! Which steps of a block share their counts.

use super::affine::BLOCK;

/// Places of the table that remembers counts; a power of two.
const PLACES: usize = 1024;

/// For each step its place among the distinct ones, and for each distinct one the first step that has its counts.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    index: [u16; BLOCK],
    first: [u16; BLOCK],
    table: Vec<u16>,
}

impl Default for Shared {
    fn default() -> Shared {
        Shared { index: [0; BLOCK], first: [0; BLOCK], table: vec![u16::MAX; PLACES] }
    }
}

impl Shared {
    /// Finds the distinct pairs among the counts and returns how many there are; pairs that fall on one place of the
    /// table may be found more than once, which costs time and nothing else.
    pub(super) fn find(&mut self, counts: &[u64], others: &[u64]) -> usize {
        self.table.fill(u16::MAX);
        let mut distinct = 0;
        let mut last = None;
        for (at, pair) in counts.iter().zip(others).enumerate() {
            if last == Some(pair) {
                self.index[at] = self.index[at - 1];
                continue;
            }
            last = Some(pair);
            let mixed =
                pair.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ pair.1.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
            let place = &mut self.table[(mixed >> 54) as usize % PLACES];
            let known = usize::from(*place);
            let same = |known: usize| {
                let first = usize::from(self.first[known]);
                (&counts[first], &others[first]) == pair
            };
            if known < distinct && same(known) {
                self.index[at] = *place;
            } else {
                self.first[distinct] = at as u16;
                self.index[at] = distinct as u16;
                *place = distinct as u16;
                distinct += 1;
            }
        }
        distinct
    }

    /// The first steps of the first `distinct` distinct ones.
    pub(super) fn firsts(&self, distinct: usize) -> impl Iterator<Item = usize> {
        self.first[..distinct].iter().map(|at| usize::from(*at))
    }

    /// Gives each step of `lane` the value of its distinct one.
    pub(super) fn spread(&self, lane: &mut [f64], few: &[f64; BLOCK]) {
        // A mask instead of a check: every index is below the block's size.
        lane.iter_mut().zip(&self.index).for_each(|(lane, at)| *lane = few[usize::from(*at) % BLOCK]);
    }
}
