//! How one call of vLLM's scheduler limits the tokens of prompts, and what it keeps from call to call for that.

use crate::scheduler::config::EngineConfig;

/// Tokens of prompts as one call limits them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pass {
    /// Most tokens of one prompt; 0 for no limit.
    threshold: u32,
    /// Whether prompts have to wait for the next interval.
    pub(crate) deferring: bool,
}

impl Pass {
    /// At most `tokens` tokens of one prompt.
    #[inline]
    pub(crate) fn cap(self, tokens: u32) -> u32 {
        if self.threshold > 0 { tokens.min(self.threshold) } else { tokens }
    }
}

/// What is kept of the calls so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passes {
    executed_steps: i64,
    last_prefill_step: i64,
    /// Whether the last admission left requests waiting.
    capacity_bound: bool,
}

impl Passes {
    /// Whether an engine's calls ever limit the tokens of prompts.
    pub(crate) fn matter(config: &EngineConfig) -> bool {
        config.prefill_schedule_interval > 1 || config.long_prefill_token_threshold > 0
    }

    /// Before the first call.
    pub(crate) fn new(config: &EngineConfig) -> Passes {
        let last_prefill_step = -i64::from(config.prefill_schedule_interval);
        Passes { executed_steps: 0, last_prefill_step, capacity_bound: false }
    }

    /// The next call: `requests` run or wait, and `decodes` says whether one of those who run has its prompt computed.
    pub(crate) fn open(&self, config: &EngineConfig, requests: u32, decodes: bool) -> Pass {
        let interval = i64::from(config.prefill_schedule_interval);
        let deferring = interval > 1
            && !self.capacity_bound
            && self.executed_steps + 1 - self.last_prefill_step < interval
            && decodes;
        let threshold = match config.long_prefill_token_threshold {
            threshold if threshold > 0 && requests > 1 => {
                let share = config.max_num_batched_tokens / requests;
                if config.long_prefill_token_threshold_adaptive { threshold.max(share) } else { threshold }
            }
            _ => 0,
        };
        Pass { threshold, deferring }
    }

    /// Requests were admitted, and so many are left waiting.
    pub(crate) fn admitted(&mut self, pass: Pass, waiting: usize) {
        if !pass.deferring {
            self.capacity_bound = waiting > 0;
        }
    }

    /// The call is over: whether its step processes something, and whether it has computed prompts.
    pub(crate) fn close(&mut self, is_empty: bool, prefills: bool) {
        self.executed_steps += i64::from(!is_empty);
        if prefills {
            self.last_prefill_step = self.executed_steps;
        }
    }

    /// So many calls in which everybody decoded, and `waiting` requests could not be admitted.
    pub(crate) fn skip(&mut self, calls: u64, waiting: u32) {
        self.executed_steps += calls as i64;
        self.capacity_bound = waiting > 0;
    }
}
