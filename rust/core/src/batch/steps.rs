//! A block of steps of one kind: what depends on counts alone is priced once for steps that share them.

use super::affine::{
    BLOCK, COLUMNS, Columns, DECODE_KEYS, DECODES, PROMPT_AREA, PROMPT_KEYS, PROMPT_PAIRS, PROMPT_TOKENS,
    PROMPTS, VISITED, columns, visited,
};
use super::program::Program;
use super::rows::{BY_BOUND, Detail, LANES, STAGE_COMPUTING, Seconds, Values, add, add_over_one};
use super::shared::Shared;
use crate::model::Span;

/// Below this share of distinct counts, in quarters of a block, sharing them is worth the copying.
const WORTH_SHARING: usize = 3;

/// The steps of a block: columns of sums in, seconds out.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    pub(super) columns: Columns,
    pub(super) seconds: Seconds,
    few: Columns,
    few_seconds: Seconds,
    values: Values,
    shared: Shared,
    /// Whether all steps of the block have the same counts.
    uniform: bool,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps {
            columns: columns(COLUMNS),
            seconds: Seconds::default(),
            few: columns(COLUMNS),
            few_seconds: Seconds::default(),
            values: Values::default(),
            shared: Shared::default(),
            uniform: false,
        }
    }
}

impl Steps {
    /// Fills the columns of prompt chunks: `new` tokens of `batch` sequences on top of `context`.
    pub(super) fn fill_prompts(&mut self, program: &Program, batch: &[u64], new: &[u64], context: &[u64]) {
        let count = batch.len();
        let lanes = &mut self.columns;
        for at in 0..count {
            let sequences = batch[at] as f64;
            lanes[PROMPTS][at] = sequences;
            lanes[PROMPT_TOKENS][at] = sequences * new[at] as f64;
        }
        for (index, reach) in program.reaches.iter().enumerate() {
            let (pairs, keys) = (PROMPT_PAIRS + index, PROMPT_KEYS + index);
            if !program.uses(pairs) && !program.uses(keys) {
                continue;
            }
            for at in 0..count {
                let (own_pairs, own_keys) = reach.sums(new[at], context[at]);
                lanes[pairs][at] = batch[at] as f64 * own_pairs;
                lanes[keys][at] = batch[at] as f64 * own_keys;
            }
        }
        if program.uses(PROMPT_AREA) {
            for at in 0..count {
                lanes[PROMPT_AREA][at] = batch[at] as f64 * new[at] as f64 * (context[at] + new[at]) as f64;
            }
        }
    }

    /// Fills the columns of `batch` decoding sequences with `context` tokens each.
    pub(super) fn fill_decodes(&mut self, program: &Program, batch: &[u64], context: &[u64]) {
        let count = batch.len();
        let lanes = &mut self.columns;
        lanes[DECODES].iter_mut().zip(batch).for_each(|(lane, batch)| *lane = *batch as f64);
        for (index, reach) in program.reaches.iter().enumerate() {
            let keys = DECODE_KEYS + index;
            if !program.uses(keys) {
                continue;
            }
            let (sequences, rest) = lanes.split_at_mut(DECODES + 1);
            let keys = &mut rest[keys - DECODES - 1];
            let each = keys[..count].iter_mut().zip(&sequences[DECODES]).zip(context);
            // Told apart outside the loop, so that the common reach is a loop without branches.
            match reach.span {
                Span::Full => each.for_each(|((keys, batch), context)| *keys = batch * (context + 1) as f64),
                _ => each.for_each(|((keys, batch), context)| *keys = batch * reach.sums(1, *context).1),
            }
        }
    }

    /// Prices operators that depend on counts alone: of the steps with these counts, the first column of which is
    /// `batch` and the other what distinguishes steps of as many sequences.
    pub(super) fn price_counted(&mut self, program: &Program, batch: &[u64], other: &[u64], bounds: bool) {
        let count = batch.len();
        let detail = Detail { bounds, one_stage: program.one_stage };
        let used = match (bounds, program.one_stage) {
            (true, _) => LANES,
            (false, true) => STAGE_COMPUTING,
            (false, false) => BY_BOUND,
        };
        let made = VISITED..VISITED + program.visited.len();
        let differ = |column: &[u64]| column.iter().fold(0, |bits, count| bits | (count ^ column[0]));
        self.uniform = differ(batch) | differ(other) == 0;
        let columns = &mut self.columns;
        if self.uniform {
            // One step stands for all.
            visit(program, columns, 1);
            self.seconds.clear(1);
            add(&program.counted, columns, 1, detail, &mut self.values, &mut self.seconds);
            let lanes = self.seconds.lanes.iter_mut().take(used).chain(&mut columns[made]);
            lanes.for_each(|lane| {
                let one = lane[0];
                lane[..count].fill(one);
            });
            return;
        }
        self.seconds.clear(count);
        let distinct = self.shared.find(batch, other);
        if distinct * 4 > count * WORTH_SHARING {
            visit(program, columns, count);
            add(&program.counted, columns, count, detail, &mut self.values, &mut self.seconds);
            return;
        }
        for column in [DECODES, PROMPTS, PROMPT_TOKENS] {
            let lane = &columns[column];
            let firsts = self.shared.firsts(distinct);
            self.few[column].iter_mut().zip(firsts).for_each(|(few, at)| *few = lane[at]);
        }
        visit(program, &mut self.few, distinct);
        self.few_seconds.clear(distinct);
        add(&program.counted, &self.few, distinct, detail, &mut self.values, &mut self.few_seconds);
        for (lane, few) in self.seconds.lanes.iter_mut().zip(&self.few_seconds.lanes).take(used) {
            self.shared.spread(&mut lane[..count], few);
        }
        for (lane, few) in columns[made.clone()].iter_mut().zip(&self.few[made]) {
            self.shared.spread(&mut lane[..count], few);
        }
    }

    /// Prices whole steps, the columns of which are filled.
    pub(super) fn price(&mut self, program: &Program, batch: &[u64], other: &[u64], bounds: bool) {
        self.price_counted(program, batch, other, bounds);
        let detail = Detail { bounds, one_stage: program.one_stage };
        if self.uniform && !bounds {
            for row in &program.growing {
                add_over_one(row, &self.columns, batch.len(), detail, &mut self.values, &mut self.seconds);
            }
            return;
        }
        add(&program.growing, &self.columns, batch.len(), detail, &mut self.values, &mut self.seconds);
    }
}

/// Fills the columns made of others.
fn visit(program: &Program, columns: &mut Columns, count: usize) {
    for (index, visit) in program.visited.iter().enumerate() {
        let mut tokens = [0.0; BLOCK];
        visit.tokens.fill(&mut tokens[..count], columns);
        visited(&mut columns[VISITED + index][..count], &tokens[..count], visit.rate);
    }
}
