//! The scheduler of Orca (OSDI '22, algorithm 1): who runs is decided anew at every iteration, prompts are never cut.

use super::decode::{self, Reserve, Terms};
use super::room::Room;
use crate::step::Step;

/// Fills a step with all who run and the whole prompts of those whose longest answer can be given room at once.
pub(super) fn fill(room: &mut Room<'_>, step: &mut Step) {
    decode::proceed(room, step);
    decode::admit(room, step, Terms { chunks: false, reserves: Reserve::Answer, watermark: 0 });
}
