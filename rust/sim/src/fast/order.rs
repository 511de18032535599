//! Running requests one by one, in the order of their admission: where somebody who does not decode with the others comes
//! before some of them and may leave them no room, or where who gives way is a matter of rank.

use super::FastReplica;
use super::schedule::Draft;
use super::sequence::Place;
use crate::scheduler::config::Policy;
use crate::scheduler::vllm::pass::Pass;
use crate::step_cost::StepCost;
use crate::time::Clock;

impl<C: Clock, P: StepCost> FastReplica<'_, C, P> {
    /// Tokens that a running request takes of `room`.
    #[inline]
    pub(super) fn share(&self, sequence: u32, room: u32, pass: Pass) -> u32 {
        let state = &self.sequences[sequence as usize];
        match state.place {
            Place::Decoding | Place::Late => room.min(1),
            Place::Prefilling if !pass.deferring => pass.cap(state.tokens - state.computed).min(room),
            _ => 0,
        }
    }

    /// Blocks that a request takes beside those it has for its next `tokens` tokens.
    #[inline]
    pub(super) fn blocks_of_share(&self, sequence: u32, tokens: u32) -> u32 {
        let state = &self.sequences[sequence as usize];
        match state.place {
            Place::Decoding => u32::from(self.decode.begins_block(state.base, self.calls)),
            _ => self.cache.blocks_for(state.computed + tokens) - self.cache.blocks_for(state.computed),
        }
    }

    /// Whether all who run have the blocks that they take at most in a step of `room` tokens.
    pub(super) fn have_blocks(&self, room: u32, pass: Pass) -> bool {
        let most = |&single: &u32| self.blocks_of_share(single, self.share(single, room, pass));
        let singles: u32 = self.singles.iter().map(most).sum();
        self.decode.beginning_block(self.calls) + singles <= self.cache.free()
    }

    /// Gives a running request blocks for its next `tokens` tokens.
    #[inline]
    pub(super) fn give(&mut self, sequence: u32, tokens: u32, blocks: u32) {
        self.cache.allocate(blocks);
        let state = &self.sequences[sequence as usize];
        if state.place == Place::Prefilling {
            self.cache.register(sequence, state.computed + tokens);
        }
    }

    /// All who run continue, in order of admission, as long as there is room; who finds none is late.
    #[cold]
    pub(super) fn proceed_one_by_one(&mut self, step: &mut Draft<P::Sums>, pass: Pass) {
        step.mixes = true;
        let by_rank = self.config.scheduling_policy == Policy::Priority;
        let first = match self.singles.first() {
            // Whoever has the last rank gives way, wherever he stands.
            _ if by_rank && !self.have_blocks(step.room, pass) => 0,
            Some(&single) => self.sequences[single as usize].admission,
            None => 0,
        };
        let begin = self.stack.partition_point(|&(_, admission)| admission < first);
        let mut line = std::mem::take(&mut self.lined_up);
        line.clear();
        line.extend(self.stack[begin..].iter().filter(|&&entry| self.is_running(entry)).map(|entry| entry.0));
        self.proceed_before(first, &line, step);
        let mut late = 0;
        while late < line.len() && step.room > 0 {
            let sequence = line[late];
            late += 1;
            let tokens = self.share(sequence, step.room, pass);
            if tokens == 0 {
                continue;
            }
            let blocks = self.blocks_of_share(sequence, tokens);
            if self.make_room_by_rank(sequence, blocks, &line, step) {
                self.give(sequence, tokens, blocks);
                step.prefills |= self.place(sequence) == Place::Prefilling;
                step.room -= tokens;
                self.taken.push((sequence, tokens));
            } else if !by_rank {
                break;
            }
        }
        for &sequence in line[late..].iter() {
            if self.place(sequence) == Place::Decoding {
                self.part(sequence);
                self.sequences[sequence as usize].place = Place::Late;
                self.singles.push(sequence);
            }
        }
        self.lined_up = line;
        self.decode_together(step);
        self.compute_taken(step);
    }

    /// Whether an entry of the stack is of a request that runs.
    fn is_running(&self, (sequence, admission): (u32, u32)) -> bool {
        let state = &self.sequences[sequence as usize];
        state.place.runs() && state.admission == admission
    }

    /// Those admitted before all of the line decode.
    fn proceed_before(&mut self, first: u32, line: &[u32], step: &mut Draft<P::Sums>) {
        let behind = |&sequence: &&u32| self.place(*sequence) == Place::Decoding;
        let theirs: u32 = line.iter().filter(behind).map(|&sequence| self.blocks_of_share(sequence, 1)).sum();
        let needed = self.decode.beginning_block(self.calls) - theirs;
        if needed <= self.cache.free() {
            self.cache.allocate(needed);
        } else {
            self.make_room(needed, first, step);
        }
        let behind = line.iter().filter(|&&sequence| self.place(sequence) == Place::Decoding).count();
        step.room -= self.decode.count() - behind as u32;
    }

    /// Others give way until `blocks` blocks are free for a request; whether it still runs.
    fn make_room_by_rank(
        &mut self,
        sequence: u32,
        blocks: u32,
        line: &[u32],
        step: &mut Draft<P::Sums>,
    ) -> bool {
        while blocks > self.cache.free() {
            let victim = match self.config.scheduling_policy {
                Policy::Priority => self.last_in_rank(line),
                _ => self.last_running(),
            };
            let Some(victim) = victim else { return false };
            let given = match self.taken.iter().position(|&(taken, _)| taken == victim) {
                Some(place) => self.taken.remove(place).1,
                None => 0,
            };
            step.room += given;
            self.preempt(victim, given, step);
            if victim == sequence {
                return false;
            }
        }
        true
    }

    /// Of those in line who run, the last in rank; of equals the first.
    fn last_in_rank(&self, line: &[u32]) -> Option<u32> {
        let rank = |sequence: u32| {
            let state = &self.sequences[sequence as usize];
            (state.priority, state.moment)
        };
        let running = line.iter().copied().filter(|&sequence| self.place(sequence).runs());
        running.reduce(|worst, other| if rank(other) > rank(worst) { other } else { worst })
    }

    /// Puts those into the step who were given tokens and do not decode with the others.
    fn compute_taken(&mut self, step: &mut Draft<P::Sums>) {
        let mut taken = std::mem::take(&mut self.taken);
        for (sequence, tokens) in taken.drain(..) {
            if self.place(sequence) != Place::Decoding && self.compute(sequence, tokens, step) {
                self.singles.retain(|&single| single != sequence);
            }
        }
        self.taken = taken;
        let sequences = &self.sequences;
        self.singles.sort_unstable_by_key(|&single| sequences[single as usize].admission);
    }
}
