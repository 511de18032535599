//! What a scheduler keeps of a request.

use crate::request::Workload;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It has not arrived.
    Expected,
    /// It waits, for the first time or after a preemption.
    Waiting,
    /// It runs.
    Running,
    /// Its answer is complete.
    Finished,
    /// It was refused: no engine of this length could ever answer it.
    Rejected,
}

impl Status {
    /// All of them, in their order.
    pub const ALL: [Status; 5] =
        [Status::Expected, Status::Waiting, Status::Running, Status::Finished, Status::Rejected];

    /// As written in results.
    pub fn name(self) -> &'static str {
        match self {
            Status::Expected => "expected",
            Status::Waiting => "waiting",
            Status::Running => "running",
            Status::Finished => "finished",
            Status::Rejected => "rejected",
        }
    }
}

/// What the scheduler keeps of a request.
#[derive(Debug, Clone)]
pub struct Sequence {
    /// Tokens of its prompt.
    pub(super) prompt: u32,
    /// Tokens of prompt and longest answer.
    pub(super) limit: u32,
    /// Tokens at which it ends: the limit, or the model's.
    pub(super) end: u32,
    /// Tokens known: the prompt, and what was delivered.
    pub(super) tokens: u32,
    /// Tokens in KV, or on the way there.
    pub(super) computed: u32,
    /// Tokens sampled but not yet delivered (asynchronous scheduling).
    pub(super) placeholders: u32,
    /// Draft tokens attached for the next step.
    pub(super) drafts: u32,
    /// Tokens scheduled whose result was not yet processed.
    pub(super) in_flight: u32,
    /// Those of them that a preemption made worthless.
    pub(super) stale: u32,
    /// Verifications of drafts so far.
    pub(super) verifications: u32,
    /// The first call of the scheduler that may schedule it again (pipeline stages, asynchronous).
    pub(super) next_call: u64,
    pub(super) preemptions: u32,
    /// Tokens found cached at the first admission.
    pub(super) cached: Option<u32>,
    /// Tokens that count as cached because they were when it was recorded.
    pub(super) recorded: u32,
    /// The number of the instant at which it arrived.
    pub(super) moment: u64,
    pub(super) priority: i32,
    pub(super) status: Status,
    /// Whether the last chunk scheduled left known tokens to compute.
    pub(super) chunk: bool,
    /// Whether it was passed over because results of it are still under way.
    pub(super) set_aside: bool,
}

impl Sequence {
    /// A request that has not arrived, row `row` of the workload.
    pub(super) fn expected(workload: &Workload<'_>, row: usize, model_len: u32) -> Sequence {
        let prompt = workload.prompt_tokens(row);
        let limit = prompt.saturating_add(workload.output_tokens(row).max(1));
        Sequence {
            prompt,
            limit,
            end: limit.min(model_len),
            tokens: prompt,
            computed: 0,
            placeholders: 0,
            drafts: 0,
            in_flight: 0,
            stale: 0,
            verifications: 0,
            next_call: 0,
            preemptions: 0,
            cached: None,
            recorded: workload.recorded_cache(row),
            moment: 0,
            priority: workload.priority(row),
            status: Status::Expected,
            chunk: false,
            set_aside: false,
        }
    }

    /// Whether nothing of it will be asked again: it has ended, and no result of it is under way.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.status, Status::Finished | Status::Rejected) && self.in_flight == 0
    }

    /// Everything it holds is taken from it; its answer so far is kept and will be recomputed.
    pub(super) fn preempt(&mut self) {
        (self.computed, self.drafts, self.placeholders) = (0, 0, 0);
        self.stale = self.in_flight;
        self.status = Status::Waiting;
        self.preemptions += 1;
    }

    /// It gives way, but keeps what it has computed.
    pub(super) fn pause(&mut self) {
        self.drafts = 0;
        self.status = Status::Waiting;
        self.preemptions += 1;
    }

    /// Whether a sample under way already completes its answer.
    pub(super) fn awaits_its_last_token(&self) -> bool {
        self.placeholders > 0 && self.computed + 2 >= self.limit.saturating_add(self.placeholders)
    }

    /// Known tokens not yet computed, samples and drafts under way among them.
    pub(super) fn to_compute(&self) -> u32 {
        (self.tokens + self.drafts + self.placeholders).saturating_sub(self.computed)
    }
}
