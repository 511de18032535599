//! Which engine's rules a scheduler follows, with the settings that only this engine has.

use roofline_core::error::Result;
use roofline_core::names;

/// The rules by which steps are filled and results taken in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rules {
    /// vLLM 0.33.0, V1.
    Vllm,
    /// vLLM 0.6, V0.
    VllmV0,
    /// Sarathi-Serve.
    Sarathi,
    /// Orca.
    Orca,
    /// Batches that begin and end together.
    Static,
    /// SGLang 0.5.
    Sglang(Sglang),
    /// TensorRT-LLM 1.0.
    Trtllm(Capacity),
}

/// What only SGLang lets one set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sglang {
    /// Most prompt tokens of a step over all its requests.
    pub max_prefill_tokens: u32,
    /// How much of the answers still to come is set aside at admission: more is safer, less fills the memory.
    pub schedule_conservativeness: f64,
    /// Whether running requests continue in a step that computes prompts.
    pub enable_mixed_chunk: bool,
}

/// How TensorRT-LLM decides whom its memory can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// A request starts when prompt and longest answer fit beside those of all who run.
    GuaranteedNoEvict,
    /// A request starts when its prompt fits; the last to start is paused when memory is short.
    MaxUtilization,
}

impl Capacity {
    const ALL: [Capacity; 2] = [Capacity::GuaranteedNoEvict, Capacity::MaxUtilization];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Capacity::GuaranteedNoEvict => "guaranteed-no-evict",
            Capacity::MaxUtilization => "max-utilization",
        }
    }

    /// The policy of that name, as TensorRT-LLM writes it or with hyphens.
    ///
    /// # Errors
    /// An unknown name, with the nearest known ones.
    pub fn parse(name: &str) -> Result<Capacity> {
        let plain = names::normalise(name);
        let known = Capacity::ALL.into_iter().find(|policy| policy.name() == plain);
        known.ok_or_else(|| {
            names::unknown("capacity scheduler policy", name, Capacity::ALL.map(Capacity::name))
        })
    }
}

/// From when on the prefixes of a request are found by others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// As soon as a step is to compute them.
    Scheduled,
    /// When they are computed.
    Computed,
    /// The prompt when it is computed, the answer when it is complete.
    Complete,
}

impl Rules {
    /// From when on others find a request's prefixes.
    pub(super) fn found(self) -> Found {
        match self {
            Rules::Vllm => Found::Scheduled,
            Rules::Sglang(_) | Rules::Trtllm(_) => Found::Complete,
            Rules::VllmV0 | Rules::Sarathi | Rules::Orca | Rules::Static => Found::Computed,
        }
    }

    /// Whether blocks of equal content are merged when they are entered for others to find.
    pub(super) fn merges(self) -> bool {
        matches!(self, Rules::Sglang(_))
    }

    /// Whether an asynchronous engine computes one more row of a request whose last token is under way.
    pub(super) fn overruns(self) -> bool {
        matches!(self, Rules::Sglang(_))
    }

    /// Whether a token under way is lost when its request must give way.
    pub(super) fn loses_tokens_under_way(self) -> bool {
        matches!(self, Rules::Sglang(_))
    }

    /// Whether running requests count towards the tokens of a step; where not, only prompts do.
    pub fn counts_answers(self) -> bool {
        !matches!(self, Rules::Sglang(_))
    }

    /// Whether a prompt may ever be computed in several steps under the engine's defaults for long contexts.
    pub fn cuts_prompts(self) -> bool {
        !matches!(self, Rules::VllmV0 | Rules::Orca | Rules::Static)
    }

    /// What the engine lets one set beside sizes, under the names of this library.
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Rules::Vllm => &[
                "enable_chunked_prefill",
                "enable_prefix_caching",
                "async_scheduling",
                "scheduling_policy",
                "watermark",
                "long_prefill_token_threshold",
                "long_prefill_token_threshold_adaptive",
                "scheduler_reserve_full_isl",
                "prefill_schedule_interval",
                "max_num_active_seqs",
                "usage_context",
                "performance_mode",
                "kv_cache_memory_bytes",
                "max_num_scheduled_tokens",
                "max_num_queued_reqs",
                "stream_interval",
                "spec_method",
            ],
            Rules::VllmV0 => &[
                "enable_chunked_prefill",
                "enable_prefix_caching",
                "watermark",
                "preemption_mode",
                "swap_space",
                "spec_method",
            ],
            Rules::Sarathi => &["watermark"],
            Rules::Orca | Rules::Static => &[],
            Rules::Sglang(_) => &[
                "enable_chunked_prefill",
                "enable_prefix_caching",
                "async_scheduling",
                "scheduling_policy",
                "max_prefill_tokens",
                "schedule_conservativeness",
                "enable_mixed_chunk",
                "stream_interval",
                "swa_full_tokens_ratio",
                "mamba_full_memory_ratio",
                "spec_method",
            ],
            Rules::Trtllm(_) => &[
                "enable_chunked_prefill",
                "enable_prefix_caching",
                "async_scheduling",
                "capacity_scheduler_policy",
                "spec_method",
            ],
        }
    }

    /// Whether prompts longer than a step are refused where they may not be cut, rather than the settings.
    pub(super) fn refuses_long_prompts(self) -> bool {
        matches!(self, Rules::Trtllm(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_capacity_policy_names_the_nearest() {
        assert_eq!(Capacity::parse("GUARANTEED_NO_EVICT").unwrap(), Capacity::GuaranteedNoEvict);
        let error = Capacity::parse("max-util").unwrap_err();
        assert!(error.to_string().contains("capacity scheduler policy"), "{error}");
        assert!(error.hint().contains("max-utilization"), "{}", error.hint());
    }
}
