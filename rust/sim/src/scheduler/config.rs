//! The settings of a serving engine, under the names vLLM gives them.

use roofline_core::error::{Error, Result};
use roofline_core::names;

use super::rules::Rules;
use super::speculation::Speculation;
use crate::kv::cache::CacheShape;

/// In which order requests wait, and who gives way when memory is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// In order of arrival; the last admitted gives way.
    Fcfs,
    /// In order of (priority, arrival), lower first; the last in this order gives way.
    Priority,
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
            _ => Err(names::unknown("scheduling policy", name, ["fcfs", "priority"])),
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
    /// Tokens a step may process.
    pub tokens: u32,
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
        self.max_model_len
            .unwrap_or_else(|| self.num_gpu_blocks.saturating_sub(1).saturating_mul(self.block_size))
    }

    /// The KV cache these settings ask for.
    pub fn cache_shape(&self) -> CacheShape {
        CacheShape {
            block_size: self.block_size,
            blocks: self.num_gpu_blocks,
            prefix_caching: self.enable_prefix_caching,
            hash_lookahead: self.speculation.as_ref().map_or(0, Speculation::hash_lookahead),
        }
    }

    /// Checks the settings and resolves them.
    ///
    /// # Errors
    /// All settings that no engine could start with, at once.
    pub fn limits(&self) -> Result<Limits> {
        Error::all("engine", self.mistakes())?;
        let speculation = self.speculation.as_ref();
        Ok(Limits {
            tokens: self.max_num_batched_tokens,
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
        if self.max_num_batched_tokens < self.max_num_seqs {
            let must = format!("must be at least max_num_seqs, {}", self.max_num_seqs);
            let hint = "every running sequence takes a token a step; lower max_num_seqs";
            mistakes.push(Error::spec("max_num_batched_tokens", must, self.max_num_batched_tokens, hint));
        }
        mistakes.extend(self.memory_mistake());
        if !self.enable_chunked_prefill && self.max_num_batched_tokens < self.model_len() {
            let must =
                format!("must be at least max_model_len, {}, without chunked prefill", self.model_len());
            let hint = "raise it, lower max_model_len, or allow chunked prefill";
            mistakes.push(Error::spec("max_num_batched_tokens", must, self.max_num_batched_tokens, hint));
        }
        if let Some(speculation) = &self.speculation {
            mistakes.extend(speculation.mistakes());
            let row = speculation.tokens.saturating_add(1 + speculation.draft_slots());
            if self.max_num_batched_tokens < row {
                let must = format!("must hold a row with its drafts, {row} tokens");
                mistakes.push(Error::spec("max_num_batched_tokens", must, self.max_num_batched_tokens, ""));
            }
            if self.pipeline_parallel > 1 {
                let hint = "leave out one of the two: how vLLM combines them is not described here";
                let must = "must be 1 with speculation";
                mistakes.push(Error::spec("pipeline_parallel_size", must, self.pipeline_parallel, hint));
            }
        }
        if self.data_parallel_lockstep && self.data_parallel > 1 {
            let hint = "simulate the replicas stepping apart, or one replica with its share of the traffic";
            mistakes.push(Error::spec(
                "data_parallel_size",
                "must be 1 where replicas share experts and step together",
                self.data_parallel,
                hint,
            ));
        }
        mistakes
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
        let needed = self.model_len().div_ceil(self.block_size) + 1;
        if self.num_gpu_blocks >= needed {
            return None;
        }
        let tokens = self.num_gpu_blocks.saturating_sub(1).saturating_mul(self.block_size);
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
        let lockstep = message(|config| (config.data_parallel, config.data_parallel_lockstep) = (2, true));
        assert!(
            lockstep.contains("must be 1 where replicas share experts and step together: 2"),
            "{lockstep}"
        );
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
