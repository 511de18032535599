//! The steps of a simulation as columns: one row a step, with the decisions behind it if they are wanted.

use roofline_core::table::{Column, Lists, Table};

/// How much of a simulation is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Record {
    /// Requests and totals.
    #[default]
    Summary,
    /// And stretches of steps that decode alike, one row each: as quick as without.
    Stretches,
    /// And a row for each step.
    Steps,
    /// And who was in it.
    Decisions,
}

/// Who was in each step; requests are rows of the trace.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decisions {
    /// Requests processed, in batch order.
    pub request: Lists<u32>,
    /// Tokens of each.
    pub tokens: Lists<u32>,
    /// Context of each after the step, unverified drafts included.
    pub context: Lists<u32>,
    /// Drafts of each.
    pub drafts: Lists<u32>,
    /// Requests admitted, in order.
    pub admitted: Lists<u32>,
    /// Tokens each of them found cached.
    pub admitted_cached: Lists<u32>,
    /// Requests preempted, in order.
    pub preempted: Lists<u32>,
    /// Requests whose answer ended with the step's result, in order.
    pub finished: Lists<u32>,
}

impl Decisions {
    /// Its columns but [`Decisions::preempted`], by name.
    fn columns(&self) -> [(&'static str, &Lists<u32>); 7] {
        [
            ("request", &self.request),
            ("tokens", &self.tokens),
            ("context", &self.context),
            ("drafts", &self.drafts),
            ("admitted", &self.admitted),
            ("admitted_cached", &self.admitted_cached),
            ("finished", &self.finished),
        ]
    }
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

    /// The columns; `replica` only where there are several. With decisions `preempted` lists the requests instead of
    /// counting them, and the lists of [`Decisions`] follow.
    pub fn to_table(&self) -> Table {
        let preempted = match &self.decisions {
            Some(decisions) => Column::ListU32(decisions.preempted.clone()),
            None => Column::U32(self.preempted.clone()),
        };
        let mut table = Table::new()
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
            .with("preempted", preempted);
        if let Some(decisions) = &self.decisions {
            for (name, lists) in decisions.columns() {
                table.push(name, Column::ListU32(lists.clone()));
            }
        }
        if self.replica.iter().any(|&replica| replica != 0) {
            table.push("replica", Column::U32(self.replica.clone()));
        }
        table
    }
}
