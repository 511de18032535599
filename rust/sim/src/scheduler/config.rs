//! The settings of a serving engine, under the names vLLM gives them.

use roofline_core::error::{Error, Result};
use roofline_core::groups::Groups;
use roofline_core::names;

use super::rules::Rules;
use super::sglang;
use super::speculation::Speculation;
use super::swap::Swap;
use crate::kv::cache::CacheShape;

/// In which order requests wait, and who gives way when memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In order of arrival; the last admitted gives way.
    Fcfs,
    /// In order of (priority, arrival), lower first; the last in this order gives way.
    Priority,
    /// Those with the longest cached prefix first.
    LongestPrefix,
}

impl Policy {
    /// The policy of that name.
    ///
    /// # Errors
    /// An unknown name, with the nearest known ones.
    pub fn parse(name: &str) -> Result<Policy> {
        match names::normalise(name).as_str() {
            "fcfs" => Ok(Policy::Fcfs),
            "priority" => Ok(Policy::Priority),
            "lpm" => Ok(Policy::LongestPrefix),
            _ => Err(names::unknown("scheduling policy", name, ["fcfs", "priority", "lpm"])),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Policy::Fcfs => "fcfs",
            Policy::Priority => "priority",
            Policy::LongestPrefix => "lpm",
        }
    }
}

/// Stages of a pipeline, and replicas, beyond which a number is taken for a slip.
const MOST_DEVICES: u32 = 65_536;

/// The settings of an engine; see [`super::preset::preset`] for their defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineConfig {
    /// Whose rules its scheduler follows.
    pub rules: Rules,
    /// Share of memory the engine may use; of what, its rules say.
    pub gpu_memory_utilization: f64,
    /// Sequences that may run at once.
    pub max_num_seqs: u32,
    /// Tokens a step may process.
    pub max_num_batched_tokens: u32,
    /// Tokens of prompt and answer together; where absent, what the KV cache holds.
    pub max_model_len: Option<u32>,
    /// Tokens a KV block holds.
    pub block_size: u32,
    /// KV blocks, one of which (the null block) is never used.
    pub num_gpu_blocks: u32,
    /// Blocks a sequence takes beside one for each `block_size` tokens: those of layers that cache otherwise.
    pub groups: Groups,
    /// Whether a prompt may be computed in several steps.
    pub enable_chunked_prefill: bool,
    /// Whether prefixes are found again.
    pub enable_prefix_caching: bool,
    /// Whether a step is scheduled while the one before it runs.
    pub async_scheduling: bool,
    /// In which order requests wait.
    pub scheduling_policy: Policy,
    /// Share of the blocks left free when a request is admitted beside others.
    pub watermark: f64,
    /// Most tokens of one prompt a step takes while others run or wait; 0 for no limit.
    pub long_prefill_token_threshold: u32,
    /// Whether that limit rises to an equal share of the step's tokens.
    pub long_prefill_token_threshold_adaptive: bool,
    /// Whether a request is admitted only if its whole prompt fits the free blocks.
    pub scheduler_reserve_full_isl: bool,
    /// Prompts are computed every this many steps while others decode; 1 for every step.
    pub prefill_schedule_interval: u32,
    /// Sequences that may run at once, if fewer than `max_num_seqs`.
    pub max_num_active_seqs: Option<u32>,
    /// Tokens a step may process, if fewer than `max_num_batched_tokens`, in which drafts count, too.
    pub max_num_scheduled_tokens: Option<u32>,
    /// Requests that may wait; others are refused.
    pub max_num_queued_reqs: Option<u32>,
    /// Tokens of an answer that are sent together, after the first, which is sent at once.
    pub stream_interval: u32,
    /// Blocks of those who give way are kept with the host (vLLM V0); where absent, they are recomputed.
    pub swap: Option<Swap>,
    /// Speculative decoding.
    pub speculation: Option<Speculation>,
    /// Pipeline stages; each takes an equal part of a step's time.
    pub pipeline_parallel: u32,
    /// Replicas of the engine; requests go to them in turn.
    pub data_parallel: u32,
    /// Whether replicas step together, as engines that share experts must.
    pub data_parallel_lockstep: bool,
}

/// The settings of an engine, checked and resolved into what a scheduler uses.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Tokens a step may process; prompt tokens alone where the engine does not count those of answers.
    pub tokens: u32,
    /// Tokens no step exceeds.
    pub step_tokens: u32,
    /// Sequences that may run at once.
    pub running: u32,
    /// Tokens of prompt and answer together.
    pub model_len: u32,
    /// Blocks left free when a request is admitted beside others.
    pub watermark_blocks: u32,
    /// KV slots reserved beyond the tokens of a step.
    pub lookahead: u32,
    /// Inputs a sequence takes beyond its tokens.
    pub draft_slots: u32,
    /// Draft tokens a step.
    pub drafts: u32,
    /// Steps scheduled and not yet done, at most.
    pub batches_in_flight: u32,
}

impl EngineConfig {
    /// Tokens of prompt and answer together: as set, or what the KV cache holds.
    pub fn model_len(&self) -> u32 {
        self.max_model_len.unwrap_or_else(|| self.longest_held())
    }

    /// Tokens of the longest sequence the KV cache holds.
    pub fn longest_held(&self) -> u32 {
        let usable = self.num_gpu_blocks.saturating_sub(1);
        let most = usable.saturating_mul(self.block_size);
        if self.groups.are_plain() {
            return most;
        }
        let (mut held, mut beyond) = (0, u64::from(u32::MAX));
        while held + 1 < beyond {
            let middle = (held + beyond) / 2;
            let apart = self.groups.apart_holds(middle as u32, self.max_num_batched_tokens);
            let fits = apart && self.blocks_for(middle as u32) <= usable;
            (held, beyond) = if fits { (middle, beyond) } else { (held, middle) };
        }
        held as u32
    }

    /// Blocks that a sequence of `tokens` tokens takes at most.
    pub fn blocks_for(&self, tokens: u32) -> u32 {
        self.groups.blocks_for(tokens, self.block_size, self.max_num_batched_tokens)
    }

    /// Whether steps of prompts end at the ends of blocks, because states are kept there.
    pub fn keeps_states(&self) -> bool {
        (self.groups.states > 0 || self.groups.states_apart) && self.enable_prefix_caching
    }

    /// The KV cache these settings ask for.
    pub fn cache_shape(&self) -> CacheShape {
        CacheShape {
            block_size: self.block_size,
            blocks: self.num_gpu_blocks,
            prefix_caching: self.enable_prefix_caching,
            hash_lookahead: self.speculation.as_ref().map_or(0, Speculation::hash_lookahead),
            merges: self.rules.merges(),
            groups: self.groups,
            step_tokens: self.max_num_batched_tokens,
        }
    }

    /// Checks the settings and resolves them.
    ///
    /// # Errors
    /// All settings that no engine could start with, at once.
    pub fn limits(&self) -> Result<Limits> {
        Error::all("engine", self.mistakes())?;
        let speculation = self.speculation.as_ref();
        let row = 1 + speculation.map_or(0, |speculation| speculation.tokens + speculation.draft_slots());
        let step_tokens = match self.rules {
            Rules::Sglang(settings) => (self.max_num_batched_tokens.max(settings.max_prefill_tokens))
                .max(self.model_len())
                .saturating_add(self.max_num_seqs.saturating_mul(row)),
            _ => self.max_num_batched_tokens,
        };
        Ok(Limits {
            tokens: self.max_num_batched_tokens,
            step_tokens,
            running: self.max_num_seqs.min(self.max_num_active_seqs.unwrap_or(u32::MAX)),
            model_len: self.model_len(),
            watermark_blocks: (self.watermark * f64::from(self.num_gpu_blocks)) as u32,
            lookahead: speculation.map_or(0, Speculation::lookahead),
            draft_slots: speculation.map_or(0, Speculation::draft_slots),
            drafts: speculation.map_or(0, |speculation| speculation.tokens),
            batches_in_flight: self.pipeline_parallel + u32::from(self.async_scheduling),
        })
    }

    fn mistakes(&self) -> Vec<Error> {
        let mut mistakes = Vec::new();
        let mut at_least_one = |field: &str, value: u32| {
            if value == 0 {
                mistakes.push(Error::spec(field, "must be at least 1", value, ""));
            }
        };
        at_least_one("max_num_seqs", self.max_num_seqs);
        at_least_one("max_num_batched_tokens", self.max_num_batched_tokens);
        at_least_one("block_size", self.block_size);
        at_least_one("max_num_scheduled_tokens", self.max_num_scheduled_tokens.unwrap_or(1));
        at_least_one("max_num_queued_reqs", self.max_num_queued_reqs.unwrap_or(1));
        at_least_one("stream_interval", self.stream_interval);
        at_least_one("prefill_schedule_interval", self.prefill_schedule_interval);
        at_least_one("max_num_active_seqs", self.max_num_active_seqs.unwrap_or(1));
        at_least_one("pipeline_parallel_size", self.pipeline_parallel);
        at_least_one("data_parallel_size", self.data_parallel);
        for (field, count) in
            [("pipeline_parallel_size", self.pipeline_parallel), ("data_parallel_size", self.data_parallel)]
        {
            if count > MOST_DEVICES {
                mistakes.push(Error::spec(field, format!("must be at most {MOST_DEVICES}"), count, ""));
            }
        }
        if !(0.0..1.0).contains(&self.watermark) {
            mistakes.push(Error::spec("watermark", "must be at least 0 and below 1", self.watermark, ""));
        }
        if self.max_num_batched_tokens < self.max_num_seqs && self.rules.counts_answers() {
            let must = format!("must be at least max_num_seqs, {}", self.max_num_seqs);
            let hint = "every running sequence takes a token a step; lower max_num_seqs";
            mistakes.push(Error::spec("max_num_batched_tokens", must, self.max_num_batched_tokens, hint));
        }
        mistakes.extend(self.memory_mistake());
        mistakes.extend(self.rule_mistakes());
        mistakes.extend(self.whole_prompt_mistakes());
        if let Some(speculation) = &self.speculation {
            mistakes.extend(speculation.mistakes());
            let row = speculation.tokens.saturating_add(1 + speculation.draft_slots());
            let must = |row: u32| format!("must hold a row with its drafts, {row} tokens");
            if self.max_num_batched_tokens < row {
                let set = self.max_num_batched_tokens;
                mistakes.push(Error::spec("max_num_batched_tokens", must(row), set, ""));
            }
            let row = speculation.tokens.saturating_add(1);
            if let Some(set) = self.max_num_scheduled_tokens.filter(|&set| set < row) {
                mistakes.push(Error::spec("max_num_scheduled_tokens", must(row), set, ""));
            }
            if self.pipeline_parallel > 1 {
                let hint = "leave out one of the two: how vLLM combines them is not described here";
                let must = "must be 1 with speculation";
                mistakes.push(Error::spec("pipeline_parallel_size", must, self.pipeline_parallel, hint));
            }
        }
        mistakes
    }

    /// Whether no prompt is ever computed in several steps.
    pub fn computes_prompts_whole(&self) -> bool {
        !self.rules.cuts_prompts() && !self.enable_chunked_prefill
    }

    /// Whether without chunked prefill a step must have room for the longest request.
    pub fn takes_whole_prompts(&self) -> bool {
        matches!(self.rules, Rules::Vllm | Rules::VllmV0 | Rules::Orca | Rules::Static)
    }

    /// Steps in which the longest request would never find room at once.
    fn whole_prompt_mistakes(&self) -> Vec<Error> {
        if self.enable_chunked_prefill || !self.takes_whole_prompts() {
            return Vec::new();
        }
        let slots = self.speculation.as_ref().map_or(0, Speculation::draft_slots);
        // A request of max_model_len tokens has at most one fewer to compute.
        let beside = slots.saturating_sub(1);
        let most = self.model_len().saturating_add(beside);
        let hint = "raise it, lower max_model_len, or allow chunked prefill";
        let mistake = |field: &str, set: u32, most: u32| {
            let and = if beside > 0 { " and the slots of its drafts" } else { "" };
            let must = format!("must be at least max_model_len{and}, {most}, without chunked prefill");
            Error::spec(field, must, set, hint)
        };
        let batched = Some(self.max_num_batched_tokens).filter(|&set| set < most);
        let scheduled = self.max_num_scheduled_tokens.filter(|&set| set < self.model_len());
        (batched.map(|set| mistake("max_num_batched_tokens", set, most)).into_iter())
            .chain(scheduled.map(|set| mistake("max_num_scheduled_tokens", set, self.model_len())))
            .collect()
    }

    /// Settings that do not go with the engine's rules.
    fn rule_mistakes(&self) -> Vec<Error> {
        let mut mistakes = match &self.rules {
            Rules::Sglang(settings) => sglang::mistakes(settings, self),
            _ => Vec::new(),
        };
        let (must, known) = match self.rules {
            Rules::Vllm => ("must be fcfs or priority", self.scheduling_policy != Policy::LongestPrefix),
            Rules::Sglang(_) => ("must be fcfs or lpm", self.scheduling_policy != Policy::Priority),
            _ => ("must be fcfs with this engine", self.scheduling_policy == Policy::Fcfs),
        };
        if self.keeps_states() && self.max_num_batched_tokens < self.block_size {
            let must =
                format!("must hold a block of {} tokens, at whose end states are kept", self.block_size);
            let hint = "raise it, or switch prefix caching off";
            mistakes.push(Error::spec("max_num_batched_tokens", must, self.max_num_batched_tokens, hint));
        }
        if self.swap.is_some() && (self.pipeline_parallel > 1 || self.async_scheduling) {
            let hint = "blocks cannot leave while a step that writes to them is under way";
            let must = "must be recompute with pipeline stages";
            mistakes.push(Error::spec("preemption_mode", must, "swap", hint));
        }
        if !known {
            mistakes.push(Error::spec("scheduling_policy", must, self.scheduling_policy.name(), ""));
        }
        if self.speculation.is_some() && matches!(self.rules, Rules::Sarathi | Rules::Orca | Rules::Static) {
            let hint = "vllm, vllm-v0, sglang and trtllm draft";
            let must = "must be none with an engine that has no speculation";
            mistakes.push(Error::spec("spec_method", must, "given", hint));
        }
        mistakes
    }

    /// A request of maximal length must fit the memory that is apart, too.
    fn apart_mistake(&self) -> Option<Error> {
        if self.groups.apart_holds(self.model_len(), self.max_num_batched_tokens) {
            return None;
        }
        let must = format!(
            "must hold a window and the tokens of a step, {}, in the memory that layers with windows have",
            self.max_num_batched_tokens
        );
        let blocks = self.groups.apart.iter().map(|apart| apart.blocks.to_string()).collect::<Vec<_>>();
        let hint = "lower max_num_batched_tokens or max_model_len, or leave more memory to windows";
        Some(Error::spec("num_gpu_blocks", must, blocks.join(", "), hint))
    }

    /// vLLM's start-up check: a request of maximal length must fit beside the null block.
    fn memory_mistake(&self) -> Option<Error> {
        if self.block_size == 0 {
            return None;
        }
        if self.model_len() < 2 {
            let hint = "a prompt token and an answer token need a block beside the null block";
            return Some(Error::spec("max_model_len", "must be at least 2", self.model_len(), hint));
        }
        let needed = self.blocks_for(self.model_len()).saturating_add(1);
        if self.num_gpu_blocks >= needed {
            return self.apart_mistake();
        }
        let tokens = self.longest_held();
        let hint = format!("lower max_model_len to {tokens} or less, or leave more memory to the KV cache");
        let must =
            format!("must be at least {needed} to hold one request of max_model_len {}", self.model_len());
        Some(Error::spec("num_gpu_blocks", must, self.num_gpu_blocks, hint))
    }
}

#[cfg(test)]
mod tests {
    use super::super::preset::{DeviceClass, preset};
    use super::super::speculation::{Acceptance, DraftMethod};
    use super::*;
    use roofline_core::groups::{Apart, Window};

    fn config() -> EngineConfig {
        EngineConfig {
            num_gpu_blocks: 513,
            max_model_len: Some(8192),
            ..preset("vllm", DeviceClass::Standard).unwrap()
        }
    }

    fn message(change: impl FnOnce(&mut EngineConfig)) -> String {
        let mut config = config();
        change(&mut config);
        config.limits().unwrap_err().to_string()
    }

    #[test]
    fn a_request_of_maximal_length_must_fit() {
        assert!(config().limits().is_ok());
        assert_eq!(
            message(|config| config.num_gpu_blocks = 512),
            "num_gpu_blocks must be at least 513 to hold one request of max_model_len 8192: 512"
        );
        assert!(
            message(|config| config.max_model_len = Some(1)).contains("max_model_len must be at least 2")
        );
    }

    #[test]
    fn without_a_maximal_length_it_is_what_the_cache_holds() {
        let config = EngineConfig { max_model_len: None, num_gpu_blocks: 11, ..config() };
        assert_eq!(config.limits().unwrap().model_len, 160);
    }

    #[test]
    fn settings_no_engine_could_start_with_are_refused() {
        for (name, expected) in [
            ("max_num_seqs", message(|config| config.max_num_seqs = 0)),
            ("block_size", message(|config| config.block_size = 0)),
            ("prefill_schedule_interval", message(|config| config.prefill_schedule_interval = 0)),
            ("max_num_active_seqs", message(|config| config.max_num_active_seqs = Some(0))),
            ("pipeline_parallel_size", message(|config| config.pipeline_parallel = 0)),
            ("data_parallel_size", message(|config| config.data_parallel = 0)),
        ] {
            assert!(expected.contains(&format!("{name} must be at least 1: 0")), "{expected}");
        }
        assert!(
            message(|config| config.watermark = 1.0).contains("watermark must be at least 0 and below 1: 1")
        );
        assert_eq!(
            message(|config| config.max_num_batched_tokens = 100),
            "max_num_batched_tokens must be at least max_num_seqs, 1024: 100"
        );
        assert_eq!(
            message(|config| {
                config.enable_chunked_prefill = false;
                config.max_num_batched_tokens = 8000;
            }),
            "max_num_batched_tokens must be at least max_model_len, 8192, without chunked prefill: 8000"
        );
        let scheduled = message(|config| {
            config.enable_chunked_prefill = false;
            config.max_num_scheduled_tokens = Some(500);
        });
        assert_eq!(
            scheduled,
            "max_num_scheduled_tokens must be at least max_model_len, 8192, without chunked prefill: 500"
        );
        let block = message(|config| {
            config.enable_chunked_prefill = false;
            config.max_num_scheduled_tokens = Some(8);
            let acceptance = Acceptance::Chance { positions: vec![0.5], seed: 0 };
            config.speculation = Some(Speculation { method: DraftMethod::Dflash, tokens: 15, acceptance });
        });
        let slots =
            "must be at least max_model_len and the slots of its drafts, 8205, without chunked prefill";
        assert!(block.contains(&format!("max_num_batched_tokens {slots}: 8192")), "{block}");
        assert!(
            block.contains("max_num_scheduled_tokens must hold a row with its drafts, 16 tokens: 8"),
            "{block}"
        );
        let swap = message(|config| {
            config.rules = Rules::VllmV0;
            (config.swap, config.async_scheduling) = (Some(Swap { blocks: 9, block_s: 1.0 }), false);
            (config.enable_prefix_caching, config.pipeline_parallel) = (false, 2);
        });
        assert!(swap.contains("preemption_mode must be recompute with pipeline stages: swap"), "{swap}");
        let apart = message(|config| {
            let window = Window { groups: 1, tokens: 4, block_size: 16 };
            config.groups.apart[0] = Apart { window, blocks: 20, keeps_steps: true };
        });
        assert!(
            apart.contains("must hold a window and the tokens of a step, 8192, in the memory"),
            "{apart}"
        );
        let queue = message(|config| config.max_num_queued_reqs = Some(0));
        assert!(queue.contains("max_num_queued_reqs must be at least 1: 0"), "{queue}");
    }

    #[test]
    fn speculation_must_fit_a_step_and_no_pipeline() {
        let speculation = Speculation {
            method: DraftMethod::DraftModel,
            tokens: 3,
            acceptance: Acceptance::Chance { positions: vec![0.5], seed: 0 },
        };
        let pipeline = message(|config| {
            (config.pipeline_parallel, config.speculation) = (2, Some(speculation.clone()));
        });
        assert_eq!(pipeline, "pipeline_parallel_size must be 1 with speculation: 2");
        let narrow = message(|config| {
            (config.max_num_seqs, config.max_num_batched_tokens) = (1, 4);
            config.speculation = Some(speculation.clone());
        });
        assert_eq!(narrow, "max_num_batched_tokens must hold a row with its drafts, 5 tokens: 4");
    }

    #[test]
    fn an_unknown_policy_names_the_nearest() {
        let error = Policy::parse("fifo").unwrap_err();
        assert!(error.to_string().contains("scheduling policy") && error.hint().contains("fcfs"), "{error}");
        assert_eq!(Policy::parse("Priority").unwrap(), Policy::Priority);
    }
}
