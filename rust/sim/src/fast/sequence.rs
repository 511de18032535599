//! What the fast path keeps of a request.

use crate::images::Images;
use crate::metrics::requests::Seconds;
use crate::request::Workload;
use crate::scheduler::sequence::Status;

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It waits.
    Waiting,
    /// It runs, its prompt partly computed.
    Prefilling,
    /// It runs and continues its answer in every step.
    Decoding,
    /// It runs, but the last step had no room for its next token.
    Late,
    /// It runs until the result of its last step is processed.
    Leaving,
    /// Its answer is complete.
    Finished,
}

impl Place {
    /// Whether it runs.
    #[inline]
    pub(super) fn runs(self) -> bool {
        self.status() == Status::Running
    }

    /// As the step-by-step engine calls it.
    #[inline]
    pub(super) fn status(self) -> Status {
        match self {
            Place::Waiting => Status::Waiting,
            Place::Prefilling | Place::Decoding | Place::Late | Place::Leaving => Status::Running,
            Place::Finished => Status::Finished,
        }
    }
}

/// What the scheduler keeps of a request from its arrival to its end; `tokens` and `computed` rest while it decodes,
/// `base` tells them then.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    /// Its number among the requests of the replica.
    pub(super) number: u32,
    /// Tokens of its prompt.
    pub(super) prompt: u32,
    /// Tokens it asks for.
    pub(super) asked: u32,
    /// Tokens at which it ends.
    pub(super) end: u32,
    /// Tokens known, those among them whose step is under way.
    pub(super) tokens: u32,
    /// Tokens in KV, or on the way there.
    pub(super) computed: u32,
    /// Tokens when all that were known were last computed by a step of their own, not with those who decode together.
    pub(super) prefilled: u32,
    /// Computed tokens less the calls of the scheduler so far.
    pub(super) base: i64,
    /// The number of its last admission; 0 before the first.
    pub(super) admission: u32,
    pub(super) preemptions: u32,
    /// Tokens found cached at the first admission.
    pub(super) cached: u32,
    /// Tokens that count as cached because they were when it was recorded.
    pub(super) recorded: u32,
    pub(super) place: Place,
    /// Where priorities rule: its own, and the number of the instant at which it arrived.
    pub(super) priority: i32,
    pub(super) moment: u32,
    /// How long after its arrival its answer must be there.
    pub(super) deadline_s: Seconds,
    pub(super) images: Images,
}

impl Sequence {
    /// A request that waits, row `row` of the workload.
    pub(super) fn waiting(workload: &Workload<'_>, number: u32, row: usize, model_len: u32) -> Sequence {
        let (prompt, asked) = (workload.prompt_tokens(row), workload.output_tokens(row));
        let (deadline_s, images) = workload.deadline_and_images(row);
        let limit = prompt.saturating_add(asked.max(1));
        Sequence {
            number,
            prompt,
            asked,
            end: limit.min(model_len),
            tokens: prompt,
            computed: 0,
            prefilled: 0,
            base: 0,
            admission: 0,
            preemptions: 0,
            cached: 0,
            recorded: workload.recorded_cache(row),
            place: Place::Waiting,
            priority: 0,
            moment: 0,
            deadline_s: deadline_s.into(),
            images,
        }
    }

    /// Where it stands among those who wait; it lies in `slot`.
    #[inline]
    pub(super) fn rank(&self, slot: u32) -> (i32, u64, (u32, u32)) {
        (self.priority, u64::from(self.moment), (self.number, slot))
    }

    /// Whether it is given its first token next.
    pub(super) fn has_no_token(&self) -> bool {
        self.tokens == self.prompt
    }
}

/// Instants of one request; `last_token` rests while it decodes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timeline<T> {
    pub(super) arrival: T,
    /// Since when it was ready to be sent.
    pub(super) ready: T,
    pub(super) first_scheduled: T,
    pub(super) first_token: T,
    pub(super) last_token: T,
}
