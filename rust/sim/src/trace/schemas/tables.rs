//! Formats that are tables, in whatever container: the names of their columns are found in any case.

use super::{Format, History, PLAIN, Schema, Slot, TimeUnit, Turns, ZeroOutput, alias, timed};
use crate::trace::format::Alias;

/// A row of such a table.
const TABLE: Schema = Schema { table: true, ..PLAIN };

pub(super) static AZURE: Schema = Schema {
    format: Format::AzureLlm,
    unit: TimeUnit::DateTime,
    aliases: &[
        alias("TIMESTAMP", Slot::Arrival),
        alias("ContextTokens", Slot::Prompt),
        alias("GeneratedTokens", Slot::Output),
    ],
    ..TABLE
};

pub(super) static BURSTGPT: Schema = Schema {
    format: Format::BurstGpt,
    zero_output: ZeroOutput::Drop,
    aliases: &[
        alias("Timestamp", Slot::Arrival),
        alias("Request tokens", Slot::Prompt),
        alias("Response tokens", Slot::Output),
        alias("Model", Slot::Model),
        alias("Session ID", Slot::Session),
        timed("Elapsed time", Slot::E2e, TimeUnit::Seconds),
        alias("Total tokens", Slot::Unused),
        alias("Log Type", Slot::Unused),
    ],
    ..TABLE
};

const VIDUR_FIELDS: &[Alias] = &[
    alias("arrived_at", Slot::Arrival),
    alias("num_prefill_tokens", Slot::Prompt),
    alias("num_decode_tokens", Slot::Output),
    alias("num_total_tokens", Slot::Unused),
    alias("pd_ratio", Slot::Unused),
];

pub(super) static VIDUR: Schema = Schema { format: Format::Vidur, aliases: VIDUR_FIELDS, ..TABLE };

pub(super) static VIDUR_LENGTHS: Schema =
    Schema { format: Format::VidurLengths, aliases: VIDUR_FIELDS, ..TABLE };

pub(super) static AZURE_LMM: Schema = Schema {
    format: Format::AzureLmm,
    unit: TimeUnit::DateTime,
    aliases: &[
        alias("TIMESTAMP", Slot::Arrival),
        alias("ContextTokens", Slot::Prompt),
        alias("GeneratedTokens", Slot::Output),
        alias("NumImages", Slot::Images),
    ],
    ..TABLE
};

pub(super) static SPLITWISE: Schema = Schema {
    format: Format::SplitwiseSim,
    aliases: &[
        alias("arrival_timestamp", Slot::Arrival),
        alias("prompt_size", Slot::Prompt),
        alias("token_size", Slot::Output),
        alias("request_id", Slot::Id),
        alias("request_type", Slot::Unused),
        alias("application_id", Slot::Unused),
        alias("batch_size", Slot::Unused),
    ],
    ..TABLE
};

/// TraceLab's replay sessions: context = `prefix_len` + `input_len`, closed loop (TraceLab replay/README.md).
pub(super) static TRACELAB_SESSION: Schema = Schema {
    format: Format::TraceLabSession,
    unit: TimeUnit::Millis,
    turns: Turns::SessionArrival,
    cached_beside: true,
    history: History::Recorded,
    aliases: &[
        alias("arrival_time", Slot::Arrival),
        alias("input_len", Slot::Prompt),
        alias("output_len", Slot::Output),
        alias("session_id", Slot::Session),
        alias("id", Slot::Session),
        alias("round_idx", Slot::Turn),
        alias("prefix_len", Slot::Cached),
        timed("tool_wait_after_ms", Slot::WaitAfter, TimeUnit::Millis),
    ],
    ..TABLE
};

/// BLIS's 27 columns and their optional ones (inference-sim sim/workload/tracev2.go); a time of 0 was not measured.
pub(super) static BLIS: Schema = Schema {
    format: Format::Blis,
    unit: TimeUnit::Micros,
    aliases: &[
        timed("arrival_time_us", Slot::Arrival, TimeUnit::Micros),
        alias("input_tokens", Slot::Prompt),
        alias("output_tokens", Slot::Output),
        alias("request_id", Slot::Id),
        alias("session_id", Slot::Session),
        alias("round_index", Slot::Turn),
        alias("prefix_group", Slot::PrefixGroup),
        alias("prefix_length", Slot::PrefixTokens),
        alias("adapter", Slot::Lora),
        alias("model", Slot::Model),
        alias("vllm_priority", Slot::Priority),
        alias("image_tokens", Slot::ImageTokens),
        timed("first_chunk_time_us", Slot::FirstAt, TimeUnit::Micros),
        timed("last_chunk_time_us", Slot::EndAt, TimeUnit::Micros),
        timed("think_time_us", Slot::Delay, TimeUnit::Micros),
        alias("client_id", Slot::Unused),
        alias("tenant_id", Slot::Tenant),
        alias("slo_class", Slot::SloClass),
        alias("streaming", Slot::Unused),
        alias("text_tokens", Slot::Unused),
        alias("audio_tokens", Slot::AudioTokens),
        alias("video_tokens", Slot::VideoTokens),
        alias("reason_ratio", Slot::Unused),
        timed("deadline_us", Slot::DeadlineAt, TimeUnit::Micros),
        alias("server_input_tokens", Slot::Unused),
        alias("send_time_us", Slot::Unused),
        alias("num_chunks", Slot::Unused),
        alias("status", Slot::Unused),
        alias("error_message", Slot::Unused),
        alias("finish_reason", Slot::Unused),
        alias("slo_target_us", Slot::Unused),
        alias("x_request_id", Slot::Unused),
    ],
    ..TABLE
};

/// LiteLLM's standard log and its table of spends.
pub(super) static LITELLM: Schema = Schema {
    format: Format::LiteLlm,
    dates: true,
    aliases: &[
        alias("startTime", Slot::Arrival),
        alias("prompt_tokens", Slot::Prompt),
        alias("completion_tokens", Slot::Output),
        alias("id", Slot::Id),
        alias("request_id", Slot::Id),
        alias("trace_id", Slot::Session),
        alias("session_id", Slot::Session),
        alias("model", Slot::Model),
        alias("completionStartTime", Slot::FirstAt),
        alias("endTime", Slot::EndAt),
        alias("call_type", Slot::Unused),
        alias("status", Slot::Status),
        alias("total_tokens", Slot::Unused),
        alias("model_group", Slot::Unused),
        alias("cache_hit", Slot::Unused),
    ],
    ..TABLE
};
