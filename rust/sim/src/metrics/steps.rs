//! The steps of a simulation as columns: one row a step, with the decisions behind it if they are wanted.

use roofline_core::table::{Column, Table};

/// How much of a simulation is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// Requests and totals.
    #[default]
    Summary,
    /// And a row for each step.
    Steps,
    /// And who was in it.
    Decisions,
}

/// Lists of numbers, one a row: `values[offsets[i]..offsets[i + 1]]` is the list of row `i`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists {
    /// Where each list begins, and where the last ends.
    pub offsets: Vec<u64>,
    /// The lists, one after another.
    pub values: Vec<u32>,
}

impl Default for Lists {
    fn default() -> Lists {
        Lists { offsets: vec![0], values: Vec::new() }
    }
}

impl Lists {
    /// Appends a list.
    pub fn push(&mut self, list: impl IntoIterator<Item = u32>) {
        self.values.extend(list);
        self.offsets.push(self.values.len() as u64);
    }

    /// The list of a row.
    pub fn row(&self, row: usize) -> &[u32] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    fn append(&mut self, other: &Lists) {
        let shift = self.values.len() as u64;
        self.values.extend_from_slice(&other.values);
        self.offsets.extend(other.offsets[1..].iter().map(|offset| offset + shift));
    }
}

/// Who was in each step; requests are rows of the trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decisions {
    /// Requests processed, in batch order.
    pub request: Lists,
    /// Tokens of each.
    pub tokens: Lists,
    /// Context of each after the step, unverified drafts included.
    pub context: Lists,
    /// Drafts of each.
    pub drafts: Lists,
    /// Requests admitted, in order.
    pub admitted: Lists,
    /// Tokens each of them found cached.
    pub admitted_cached: Lists,
    /// Requests preempted, in order.
    pub preempted: Lists,
    /// Requests whose answer ended with the step's result, in order.
    pub finished: Lists,
}

/// One row a step; a call of the scheduler that only preempted is a row without tokens.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Steps {
    /// The call of the scheduler, counted from 0; empty calls have no row.
    pub call: Vec<u64>,
    /// When it was scheduled.
    pub scheduled_s: Vec<f64>,
    /// When it began.
    pub start_s: Vec<f64>,
    /// When its result was there.
    pub end_s: Vec<f64>,
    /// Tokens processed.
    pub scheduled_tokens: Vec<u32>,
    /// Those of them that belong to prompts, or are recomputed.
    pub prefill_tokens: Vec<u32>,
    /// Sum over its sequences of their context after the step.
    pub context_tokens: Vec<u64>,
    /// Requests running after scheduling.
    pub running: Vec<u32>,
    /// Requests waiting after scheduling.
    pub waiting: Vec<u32>,
    /// Free blocks after scheduling.
    pub free_blocks: Vec<u32>,
    /// Distinct prefixes in the cache after scheduling.
    pub cached_hashes: Vec<u32>,
    /// Requests preempted by the call.
    pub preempted: Vec<u32>,
    /// The replica.
    pub replica: Vec<u32>,
    /// Who was in it, if recorded.
    pub decisions: Option<Decisions>,
}

impl Steps {
    /// Rows.
    pub fn len(&self) -> usize {
        self.call.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.call.is_empty()
    }

    /// Appends the steps of another replica.
    pub fn append(&mut self, other: &Steps) {
        self.call.extend_from_slice(&other.call);
        self.scheduled_s.extend_from_slice(&other.scheduled_s);
        self.start_s.extend_from_slice(&other.start_s);
        self.end_s.extend_from_slice(&other.end_s);
        self.scheduled_tokens.extend_from_slice(&other.scheduled_tokens);
        self.prefill_tokens.extend_from_slice(&other.prefill_tokens);
        self.context_tokens.extend_from_slice(&other.context_tokens);
        self.running.extend_from_slice(&other.running);
        self.waiting.extend_from_slice(&other.waiting);
        self.free_blocks.extend_from_slice(&other.free_blocks);
        self.cached_hashes.extend_from_slice(&other.cached_hashes);
        self.preempted.extend_from_slice(&other.preempted);
        self.replica.extend_from_slice(&other.replica);
        if let (Some(mine), Some(theirs)) = (&mut self.decisions, &other.decisions) {
            mine.request.append(&theirs.request);
            mine.tokens.append(&theirs.tokens);
            mine.context.append(&theirs.context);
            mine.drafts.append(&theirs.drafts);
            mine.admitted.append(&theirs.admitted);
            mine.admitted_cached.append(&theirs.admitted_cached);
            mine.preempted.append(&theirs.preempted);
            mine.finished.append(&theirs.finished);
        }
    }

    /// The columns; `replica` only where there are several, the lists of [`Decisions`] apart.
    pub fn to_table(&self) -> Table {
        let table = Table::new()
            .with("step", Column::U64((0..self.len() as u64).collect()))
            .with("call", Column::U64(self.call.clone()))
            .with("scheduled_s", Column::F64(self.scheduled_s.clone()))
            .with("start_s", Column::F64(self.start_s.clone()))
            .with("end_s", Column::F64(self.end_s.clone()))
            .with("scheduled_tokens", Column::U32(self.scheduled_tokens.clone()))
            .with("prefill_tokens", Column::U32(self.prefill_tokens.clone()))
            .with("context_tokens", Column::U64(self.context_tokens.clone()))
            .with("running", Column::U32(self.running.clone()))
            .with("waiting", Column::U32(self.waiting.clone()))
            .with("free_blocks", Column::U32(self.free_blocks.clone()))
            .with("cached_hashes", Column::U32(self.cached_hashes.clone()))
            .with("preempted", Column::U32(self.preempted.clone()));
        if self.replica.iter().any(|&replica| replica != 0) {
            return table.with("replica", Column::U32(self.replica.clone()));
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_two_replicas_stay_in_their_rows() {
        let mut mine = Lists::default();
        mine.push([1, 2]);
        let mut theirs = Lists::default();
        theirs.push([]);
        theirs.push([3]);
        mine.append(&theirs);
        assert_eq!((mine.row(0), mine.row(1), mine.row(2)), (&[1, 2][..], &[][..], &[3][..]));
    }
}
