//! Mooncake and what grew from it.

use super::{Format, PLAIN, Parents, Schema, Slot, TimeUnit, alias, timed};

/// The fields that both have, and those of one.
macro_rules! mooncake_fields {
    ($($extra:expr),* $(,)?) => {
        &[
            alias("timestamp", Slot::Arrival),
            alias("created_time", Slot::Arrival),
            alias("input_length", Slot::Prompt),
            alias("input_tokens", Slot::Prompt),
            alias("prompt_tokens", Slot::Prompt),
            alias("output_length", Slot::Output),
            alias("output_tokens", Slot::Output),
            alias("completion_tokens", Slot::Output),
            alias("hash_ids", Slot::Hashes),
            alias("request_id", Slot::Id),
            alias("session_id", Slot::Session),
            alias("turn", Slot::Turn),
            alias("delay", Slot::Delay),
            timed("delay_ms", Slot::Delay, TimeUnit::Millis),
            alias("priority", Slot::Priority),
            alias("strict_priority", Slot::StrictPriority),
            alias("model", Slot::Model),
            alias("output_token_ids", Slot::Unused),
            alias("policy_class", Slot::Unused),
            alias("routing_constraints", Slot::Unused),
            $($extra),*
        ]
    };
}

/// Mooncake's release, Dynamo's and AIPerf's extensions (Dynamo lib/data-gen/src/mooncake.rs, AIPerf MooncakeTrace).
pub(super) static MOONCAKE: Schema = Schema {
    format: Format::Mooncake,
    unit: TimeUnit::Millis,
    block_size: 512,
    aliases: mooncake_fields![
        alias("text_input", Slot::Unused),
        alias("messages", Slot::Unused),
        alias("payload", Slot::Unused),
        alias("tools", Slot::Unused),
        alias("extra", Slot::Unused),
    ],
    ..PLAIN
};

/// Dynamo's Mooncake rows that wait for each other (Dynamo lib/data-gen/src/mooncake.rs).
pub(super) static AGENTIC_MOONCAKE: Schema = Schema {
    format: Format::AgenticMooncake,
    unit: TimeUnit::Millis,
    block_size: 512,
    aliases: mooncake_fields![
        timed("tool_wait_ms", Slot::Wait, TimeUnit::Millis),
        alias("wait_for", Slot::After),
        alias("branches", Slot::Unused),
        alias("prefix_reset", Slot::Unused),
        alias("tool_events", Slot::Unused),
        alias("request_kind", Slot::Unused),
    ],
    ..PLAIN
};

/// Alibaba's usage traces: seconds, 16-token blocks, each request a full context that names the one before it.
pub(super) static BAILIAN: Schema = Schema {
    format: Format::Bailian,
    block_size: 16,
    parents: Parents::MayBeAbsent,
    aliases: &[
        alias("timestamp", Slot::Arrival),
        alias("input_length", Slot::Prompt),
        alias("output_length", Slot::Output),
        alias("chat_id", Slot::Id),
        alias("parent_chat_id", Slot::After),
        alias("turn", Slot::Turn),
        alias("hash_ids", Slot::Hashes),
        alias("type", Slot::Unused),
    ],
    ..PLAIN
};
