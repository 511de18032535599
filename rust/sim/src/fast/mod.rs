//! The fast path: the decisions and times of the step-by-step engine, without looking at every request in every step.
//!
//! Sequences that decode are kept as an aggregate ([`decode`]), so a step costs what changes in it: admissions,
//! finishes, victims. Stretches in which nothing is decided are run through in a tight loop ([`jump`]). Prefixes are
//! runs of blocks in a tree built once from the trace ([`tree`], [`cache`]). Whatever is not covered goes to the
//! step-by-step engine, the twin that random comparison holds this one to, bit for bit.

mod sequence;
mod decode;
mod tree;
mod cache;
mod replica;
mod schedule;
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
/// Not covered: engines other than vLLM, layers that cache differently, priorities, speculation, pipeline stages, prefill
/// intervals, long-prefill thresholds, records of steps, recorded caches; with prefix caching, prompts described by
/// segments, hashed blocks that are not whole numbers of the engine's, and those of a stream.
pub fn covers(config: &EngineConfig, workload: Workload<'_>, record: Record) -> bool {
    let hashed = workload.hashed_block();
    let aligned = hashed.is_none_or(|block| block.is_multiple_of(config.block_size));
    let knows_prefixes = workload.whole().is_some() || hashed.is_none();
    matches!(record, Record::Summary | Record::Stretches)
        && config.rules == Rules::Vllm
        && config.groups.are_plain()
        && config.scheduling_policy == Policy::Fcfs
        && config.speculation.is_none()
        && config.pipeline_parallel == 1
        && config.prefill_schedule_interval == 1
        && config.max_num_scheduled_tokens.is_none()
        && config.max_num_queued_reqs.is_none()
        && config.long_prefill_token_threshold == 0
        && config.block_size <= LARGEST_BLOCK
        && !workload.has_recorded_cache()
        && (!config.enable_prefix_caching || (!workload.has_segments() && aligned && knows_prefixes))
}
