//! Running requests of a vLLM scheduler: each continues, in order of admission, and some give way to others.

use super::pass::Pass;
use crate::scheduler::config::Policy;
use crate::scheduler::room::Room;
use crate::step::Step;

/// Continues running requests in order of admission; whether one with an unfinished prompt was among them.
pub(super) fn proceed(room: &mut Room<'_>, step: &mut Step, pass: Pass) -> bool {
    let mut chunk_scheduled = false;
    let mut index = 0;
    while index < room.running.len() && step.room() > 0 {
        let sequence = room.running[index];
        let chunk = room.sequences[sequence as usize].chunk;
        let tokens = match pass.deferring && chunk {
            true => 0,
            false => pass.cap(room.wanted(sequence)).min(step.room()),
        };
        let computed = room.sequences[sequence as usize].computed;
        let tokens = room.to_the_end_of_a_block(sequence, computed, tokens);
        if tokens == 0 {
            index += 1;
            continue;
        }
        let after = computed + tokens;
        if !room.make_room(sequence, after, &mut index, step) {
            // It gave way itself: nobody behind it is tried, unless priority rules.
            match room.config.scheduling_policy {
                Policy::Fcfs | Policy::LongestPrefix => break,
                Policy::Priority => continue,
            }
        }
        room.proceed(sequence, tokens, step);
        chunk_scheduled |= chunk;
        index += 1;
    }
    chunk_scheduled
}
