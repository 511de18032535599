//! The fast path: the decisions and times of the step-by-step engine, without looking at every request in every step.
//!
//! Sequences that decode are kept as an aggregate ([`decode`]), so a step costs what changes in it: admissions,
//! finishes, victims. Stretches in which nothing is decided are run through in a tight loop ([`jump`]). Prefixes are
//! runs of blocks in a tree built once from the trace, or as requests come ([`tree`], [`cache`]). Whatever is not covered goes to the
//! step-by-step engine, the twin that random comparison holds this one to, bit for bit.

mod sequence;
mod decode;
mod tree;
mod cache;
mod replica;
mod schedule;
mod order;
mod admission;
mod jump;

pub use self::replica::FastReplica;
use crate::metrics::steps::Record;
use crate::request::Workload;
use crate::scheduler::config::{EngineConfig, Policy};
use crate::scheduler::rules::Rules;

/// Blocks larger than this are left to the step-by-step engine.
const LARGEST_BLOCK: u32 = 1 << 16;

/// Whether the fast path decides exactly as the step-by-step engine under these settings.
///
/// Not covered: engines other than vLLM, layers that cache differently, speculation, pipeline stages, tokens that are sent
/// several together, steps that may hold fewer tokens than sequences, records of steps; with prefix caching, what
/// [`Cache`](cache::Cache) cannot keep apart (`caches_by_runs`).
pub fn covers(config: &EngineConfig, workload: Workload<'_>, record: Record) -> bool {
    matches!(record, Record::Summary | Record::Stretches)
        && config.rules == Rules::Vllm
        && config.groups.are_plain()
        && config.speculation.is_none()
        && config.stream_interval == 1
        && config.pipeline_parallel == 1
        && config.max_num_scheduled_tokens.is_none_or(|tokens| tokens >= config.max_num_seqs)
        && config.block_size <= LARGEST_BLOCK
        && (!config.enable_prefix_caching || caches_by_runs(config, workload))
}

/// Whether the blocks of a prefix always stand together, as runs of them are kept.
///
/// Not so with segments, or hashed blocks that are not whole numbers of the engine's; where hashed prompts are under way
/// several at once, each with a part of the same prefix (long-prefill thresholds); and where somebody gives way in the
/// step that would have filled its block, which then is cached before it is computed (priorities, unless that block is
/// found one step later only).
fn caches_by_runs(config: &EngineConfig, workload: Workload<'_>) -> bool {
    let plain = config.long_prefill_token_threshold == 0;
    let together = config.async_scheduling && plain && config.prefill_schedule_interval == 1;
    let kept = |block: u32| plain && block.is_multiple_of(config.block_size);
    !workload.has_segments()
        && workload.hashed_block().is_none_or(kept)
        && (config.scheduling_policy == Policy::Fcfs || together)
}
