//! A block of steps of one kind: what depends on counts alone is priced once for steps that share them.

use super::form::{
    BLOCK, COLUMNS, Columns, DECODE_KEYS, DECODES, Lane, PROMPT_AREA, PROMPT_KEYS, PROMPT_PAIRS,
    PROMPT_TOKENS, PROMPTS, VISITED, columns, visited,
};
use super::program::Program;
use super::rows::{Detail, LANES, Seconds, Values, add};

/// Below this share of distinct counts, in quarters of a block, sharing them is worth the copying.
const WORTH_SHARING: usize = 3;
/// Places of the table that remembers counts; a power of two.
const PLACES: usize = 1024;

/// The steps of a block: columns of sums in, seconds out.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    pub(super) columns: Columns,
    pub(super) seconds: Seconds,
    few: Columns,
    few_seconds: Seconds,
    values: Values,
    shared: Shared,
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
        }
    }
}

/// Which steps of a block share their counts.
#[derive(Debug, Clone)]
struct Shared {
    /// For each step, its place among the distinct ones.
    index: [u16; BLOCK],
    /// For each distinct one, the first step that has it.
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
    fn find(&mut self, counts: &[u64], others: &[u64]) -> usize {
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
            if program.uses(keys) {
                for at in 0..count {
                    lanes[keys][at] = batch[at] as f64 * reach.sums(1, context[at]).1;
                }
            }
        }
    }

    /// Prices operators that depend on counts alone: of the steps with these counts, the first column of which is
    /// `batch` and the other what distinguishes steps of as many sequences.
    pub(super) fn price_counted(&mut self, program: &Program, batch: &[u64], other: &[u64], bounds: bool) {
        let count = batch.len();
        let detail = Detail { bounds, one_stage: program.one_stage };
        self.seconds.clear(count);
        let distinct = self.shared.find(batch, other);
        let columns = &mut self.columns;
        if distinct * 4 > count * WORTH_SHARING {
            visit(program, columns, count);
            add(&program.counted, columns, count, detail, &mut self.values, &mut self.seconds);
            return;
        }
        for column in [DECODES, PROMPTS, PROMPT_TOKENS] {
            let lane = &columns[column];
            let firsts = self.shared.first[..distinct].iter();
            self.few[column].iter_mut().zip(firsts).for_each(|(few, at)| *few = lane[usize::from(*at)]);
        }
        visit(program, &mut self.few, distinct);
        self.few_seconds.clear(distinct);
        add(&program.counted, &self.few, distinct, detail, &mut self.values, &mut self.few_seconds);
        let index = &self.shared.index[..count];
        let used = if bounds { LANES } else { super::rows::BY_BOUND };
        for (lane, few) in self.seconds.lanes.iter_mut().zip(&self.few_seconds.lanes).take(used) {
            spread(lane, few, index);
        }
        for column in VISITED..VISITED + program.visited.len() {
            spread(&mut columns[column], &self.few[column], index);
        }
    }

    /// Prices whole steps, the columns of which are filled.
    pub(super) fn price(&mut self, program: &Program, batch: &[u64], other: &[u64], bounds: bool) {
        self.price_counted(program, batch, other, bounds);
        let detail = Detail { bounds, one_stage: program.one_stage };
        add(&program.growing, &self.columns, batch.len(), detail, &mut self.values, &mut self.seconds);
    }
}

/// Gives each step the value of its distinct one.
fn spread(lane: &mut Lane, few: &Lane, index: &[u16]) {
    // A mask instead of a check: every index is below the block's size.
    lane.iter_mut().zip(index).for_each(|(lane, at)| *lane = few[usize::from(*at) % BLOCK]);
}

/// Fills the columns made of others.
fn visit(program: &Program, columns: &mut Columns, count: usize) {
    for (index, visit) in program.visited.iter().enumerate() {
        let mut tokens = [0.0; BLOCK];
        visit.tokens.fill(&mut tokens[..count], columns);
        visited(&mut columns[VISITED + index][..count], &tokens[..count], visit.rate);
    }
}
