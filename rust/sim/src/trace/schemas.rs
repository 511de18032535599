//! The table of each format that is read: which of its fields means what.

use super::format::{Format, Parents, Schema, Slot, Turns, alias, timed};
use super::policy::{TimeUnit, ZeroOutput};
use super::unfold::{applied_compute, dynamo, llmservingsim, openai, otel, sagemaker, satf, tracelab, weka};

/// How the fields of a format are read; none for a format that carries no lengths.
pub(super) fn of(format: Format) -> Option<&'static Schema> {
    Some(match format {
        Format::Native => &NATIVE,
        Format::Mooncake => &MOONCAKE,
        Format::AzureLlm => &AZURE,
        Format::BurstGpt => &BURSTGPT,
        Format::Vidur => &VIDUR,
        Format::AgenticMooncake => &AGENTIC_MOONCAKE,
        Format::AzureLmm => &AZURE_LMM,
        Format::SplitwiseSim => &SPLITWISE,
        Format::Apex => &APEX,
        Format::Bailian => &BAILIAN,
        Format::TraceLabSession => &TRACELAB_SESSION,
        Format::Blis => &BLIS,
        Format::LiteLlm => &LITELLM,
        Format::Baseten => &BASETEN,
        Format::VidurLengths => &VIDUR_LENGTHS,
        Format::DynamoRequest => &DYNAMO,
        Format::OpenAiResponse => &OPENAI,
        Format::SageMaker => &SAGEMAKER,
        Format::OtelGenAi => &OTEL,
        Format::Satf => &SATF,
        Format::Weka => &WEKA,
        Format::TraceLab => &TRACELAB,
        Format::LlmServingSim => &LLMSERVINGSIM,
        Format::AppliedCompute => &APPLIED_COMPUTE,
        _ => return None,
    })
}

/// The names of the native fields, without what other formats call them.
pub(super) fn native() -> impl Iterator<Item = &'static str> {
    NATIVE.aliases.iter().map(|alias| alias.name).take_while(|name| *name != "timestamp")
}

/// What a native field means.
pub(super) fn slot_of(native: &str) -> Option<Slot> {
    NATIVE.aliases.iter().find(|alias| alias.name == native).map(|alias| alias.slot)
}

/// The unit of an arrival by its native name; none for any other field.
pub(super) fn unit_of_arrival(native: &str) -> Option<TimeUnit> {
    let own = NATIVE.aliases.iter().find(|alias| alias.name == native)?;
    own.unit.filter(|_| own.slot == Slot::Arrival)
}

/// What most formats are like.
const PLAIN: Schema = Schema {
    format: Format::Native,
    unit: TimeUnit::Seconds,
    dates: false,
    block_size: 0,
    whole_blocks: false,
    local_hashes: false,
    zero_output: ZeroOutput::Prefill,
    parents: Parents::Required,
    turns: Turns::AtArrival,
    cached_beside: false,
    unfold: None,
    aliases: &[],
};

static NATIVE: Schema = Schema {
    format: Format::Native,
    block_size: 16,
    turns: Turns::AfterPrevious,
    aliases: &[
        timed("arrival_s", Slot::Arrival, TimeUnit::Seconds),
        timed("arrival_ms", Slot::Arrival, TimeUnit::Millis),
        timed("arrival_us", Slot::Arrival, TimeUnit::Micros),
        timed("arrival_ns", Slot::Arrival, TimeUnit::Nanos),
        timed("arrival", Slot::Arrival, TimeUnit::DateTime),
        alias("prompt_tokens", Slot::Prompt),
        alias("input_tokens", Slot::Prompt),
        alias("output_tokens", Slot::Output),
        alias("id", Slot::Id),
        alias("session", Slot::Session),
        alias("turn", Slot::Turn),
        alias("after", Slot::After),
        timed("delay_s", Slot::Delay, TimeUnit::Seconds),
        alias("block_hashes", Slot::Hashes),
        alias("model", Slot::Model),
        alias("priority", Slot::Priority),
        alias("strict_priority", Slot::StrictPriority),
        alias("prefix_group", Slot::PrefixGroup),
        alias("prefix_tokens", Slot::PrefixTokens),
        alias("cached_tokens", Slot::Cached),
        alias("lora", Slot::Lora),
        alias("tenant", Slot::Tenant),
        alias("slo_class", Slot::Unused),
        timed("deadline_s", Slot::Deadline, TimeUnit::Seconds),
        alias("timeout_s", Slot::Unused),
        alias("max_output_tokens", Slot::Unused),
        alias("reasoning_tokens", Slot::Unused),
        alias("images", Slot::Images),
        alias("image_tokens", Slot::ImageTokens),
        alias("audio_tokens", Slot::AudioTokens),
        alias("video_tokens", Slot::VideoTokens),
        timed("observed_ttft_s", Slot::Ttft, TimeUnit::Seconds),
        timed("observed_e2e_s", Slot::E2e, TimeUnit::Seconds),
        timed("observed_tpot_s", Slot::Tpot, TimeUnit::Seconds),
        // What other formats call the same.
        alias("timestamp", Slot::Arrival),
        alias("arrived_at", Slot::Arrival),
        timed("arrival_time_us", Slot::Arrival, TimeUnit::Micros),
        timed("arrival_time_ns", Slot::Arrival, TimeUnit::Nanos),
        timed("timestamp_start_unix_ms", Slot::Arrival, TimeUnit::Millis),
        timed("StartTimeOffset", Slot::Arrival, TimeUnit::Nanos),
        alias("input_length", Slot::Prompt),
        alias("ContextTokens", Slot::Prompt),
        alias("num_prefill_tokens", Slot::Prompt),
        alias("prompt_size", Slot::Prompt),
        alias("input_toks", Slot::Prompt),
        alias("output_length", Slot::Output),
        alias("completion_tokens", Slot::Output),
        alias("GeneratedTokens", Slot::Output),
        alias("num_decode_tokens", Slot::Output),
        alias("token_size", Slot::Output),
        alias("output_toks", Slot::Output),
        alias("request_id", Slot::Id),
        alias("session_id", Slot::Session),
        alias("wait_for", Slot::After),
        timed("delay_ms", Slot::Delay, TimeUnit::Millis),
        alias("hash_ids", Slot::Hashes),
        alias("adapter", Slot::Lora),
        alias("tenant_id", Slot::Tenant),
    ],
    ..PLAIN
};

/// Mooncake's release, Dynamo's and AIPerf's extensions (Dynamo lib/data-gen/src/mooncake.rs, AIPerf MooncakeTrace).
static MOONCAKE: Schema = Schema {
    format: Format::Mooncake,
    unit: TimeUnit::Millis,
    block_size: 512,
    aliases: &[
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
        alias("text_input", Slot::Unused),
        alias("messages", Slot::Unused),
        alias("payload", Slot::Unused),
        alias("tools", Slot::Unused),
        alias("extra", Slot::Unused),
    ],
    ..PLAIN
};

static AZURE: Schema = Schema {
    format: Format::AzureLlm,
    unit: TimeUnit::DateTime,
    aliases: &[
        alias("TIMESTAMP", Slot::Arrival),
        alias("ContextTokens", Slot::Prompt),
        alias("GeneratedTokens", Slot::Output),
    ],
    ..PLAIN
};

static BURSTGPT: Schema = Schema {
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
    ..PLAIN
};

static VIDUR: Schema = Schema {
    format: Format::Vidur,
    aliases: &[
        alias("arrived_at", Slot::Arrival),
        alias("num_prefill_tokens", Slot::Prompt),
        alias("num_decode_tokens", Slot::Output),
        alias("num_total_tokens", Slot::Unused),
        alias("pd_ratio", Slot::Unused),
    ],
    ..PLAIN
};

/// Dynamo's Mooncake rows that wait for each other (Dynamo lib/data-gen/src/mooncake.rs).
static AGENTIC_MOONCAKE: Schema = Schema {
    format: Format::AgenticMooncake,
    unit: TimeUnit::Millis,
    block_size: 512,
    aliases: &[
        alias("timestamp", Slot::Arrival),
        alias("created_time", Slot::Arrival),
        alias("input_length", Slot::Prompt),
        alias("input_tokens", Slot::Prompt),
        alias("output_length", Slot::Output),
        alias("output_tokens", Slot::Output),
        alias("hash_ids", Slot::Hashes),
        alias("request_id", Slot::Id),
        alias("session_id", Slot::Session),
        alias("turn", Slot::Turn),
        alias("delay", Slot::Delay),
        timed("delay_ms", Slot::Delay, TimeUnit::Millis),
        timed("tool_wait_ms", Slot::Wait, TimeUnit::Millis),
        alias("wait_for", Slot::After),
        alias("priority", Slot::Priority),
        alias("strict_priority", Slot::StrictPriority),
        alias("model", Slot::Model),
        alias("branches", Slot::Unused),
        alias("prefix_reset", Slot::Unused),
        alias("tool_events", Slot::Unused),
        alias("request_kind", Slot::Unused),
        alias("output_token_ids", Slot::Unused),
        alias("policy_class", Slot::Unused),
        alias("routing_constraints", Slot::Unused),
    ],
    ..PLAIN
};

static AZURE_LMM: Schema = Schema {
    format: Format::AzureLmm,
    unit: TimeUnit::DateTime,
    aliases: &[
        alias("TIMESTAMP", Slot::Arrival),
        alias("ContextTokens", Slot::Prompt),
        alias("GeneratedTokens", Slot::Output),
        alias("NumImages", Slot::Images),
    ],
    ..PLAIN
};

static SPLITWISE: Schema = Schema {
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
    ..PLAIN
};

static APEX: Schema = Schema {
    format: Format::Apex,
    unit: TimeUnit::Nanos,
    aliases: &[
        alias("StartTimeOffset", Slot::Arrival),
        alias("ContextTokens", Slot::Prompt),
        alias("GeneratedTokens", Slot::Output),
        alias("RequestID", Slot::Id),
        alias("TotalTokens", Slot::Unused),
        alias("SynthesizedBody", Slot::Unused),
    ],
    ..PLAIN
};

/// Alibaba's usage traces: seconds, 16-token blocks, each request a full context that names the one before it.
static BAILIAN: Schema = Schema {
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

/// TraceLab's replay sessions: context = `prefix_len` + `input_len`, closed loop (TraceLab replay/README.md).
static TRACELAB_SESSION: Schema = Schema {
    format: Format::TraceLabSession,
    unit: TimeUnit::Millis,
    turns: Turns::SessionArrival,
    cached_beside: true,
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
    ..PLAIN
};

/// BLIS's 27 columns and their optional ones (inference-sim sim/workload/tracev2.go); a time of 0 was not measured.
static BLIS: Schema = Schema {
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
        alias("slo_class", Slot::Unused),
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
    ..PLAIN
};

/// LiteLLM's standard log and its table of spends.
static LITELLM: Schema = Schema {
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
        alias("status", Slot::Unused),
        alias("total_tokens", Slot::Unused),
        alias("model_group", Slot::Unused),
        alias("cache_hit", Slot::Unused),
    ],
    ..PLAIN
};

/// Baseten's logs (AIPerf baseten_trace.py).
static BASETEN: Schema = Schema {
    format: Format::Baseten,
    unit: TimeUnit::Millis,
    block_size: 64,
    aliases: &[
        timed("timestamp_start_unix_ms", Slot::Arrival, TimeUnit::Millis),
        alias("input_tokens", Slot::Prompt),
        alias("output_tokens", Slot::Output),
        alias("total_hashes", Slot::Hashes),
        alias("block_size", Slot::BlockSize),
        alias("provided_session_id", Slot::Session),
        timed("duration_e2e_ms", Slot::E2e, TimeUnit::Millis),
        alias("poor_man_session_id", Slot::Unused),
        alias("prompt", Slot::Unused),
        alias("request_body", Slot::Unused),
    ],
    ..PLAIN
};

static VIDUR_LENGTHS: Schema = Schema {
    format: Format::VidurLengths,
    aliases: &[
        alias("arrived_at", Slot::Arrival),
        alias("num_prefill_tokens", Slot::Prompt),
        alias("num_decode_tokens", Slot::Output),
        alias("num_total_tokens", Slot::Unused),
        alias("pd_ratio", Slot::Unused),
    ],
    ..PLAIN
};

/// Dynamo's request traces: calls with what was measured of them.
static DYNAMO: Schema = Schema {
    format: Format::DynamoRequest,
    unit: TimeUnit::Millis,
    unfold: Some(dynamo::unfold),
    aliases: &[
        timed("request.request_received_ms", Slot::Arrival, TimeUnit::Millis),
        alias("request.input_tokens", Slot::Prompt),
        alias("request.output_tokens", Slot::Output),
        alias("request.request_id", Slot::Id),
        alias("agent_context.session_id", Slot::Session),
        alias("request.model", Slot::Model),
        alias("request.cached_tokens", Slot::Cached),
        alias("request.replay.trace_block_size", Slot::BlockSize),
        alias("request.replay.input_sequence_hashes", Slot::Hashes),
        timed("request.ttft_ms", Slot::Ttft, TimeUnit::Millis),
        timed("request.total_time_ms", Slot::E2e, TimeUnit::Millis),
        timed("request.avg_itl_ms", Slot::Tpot, TimeUnit::Millis),
    ],
    ..PLAIN
};

/// Logged responses of OpenAI's two interfaces; `previous_response_id` may name one before the log began.
static OPENAI: Schema = Schema {
    format: Format::OpenAiResponse,
    parents: Parents::MayBeAbsent,
    unfold: Some(openai::unfold),
    aliases: &[
        alias("created", Slot::Arrival),
        alias("usage.prompt_tokens", Slot::Prompt),
        alias("usage.completion_tokens", Slot::Output),
        alias("id", Slot::Id),
        alias("previous_response_id", Slot::After),
        alias("model", Slot::Model),
        alias("usage.prompt_tokens_details.cached_tokens", Slot::Cached),
    ],
    ..PLAIN
};

/// What SageMaker captures: the usage lies in the answer.
static SAGEMAKER: Schema = Schema {
    format: Format::SageMaker,
    unit: TimeUnit::DateTime,
    unfold: Some(sagemaker::unfold),
    aliases: &[
        alias("eventMetadata.inferenceTime", Slot::Arrival),
        alias("usage.prompt_tokens", Slot::Prompt),
        alias("usage.completion_tokens", Slot::Output),
        alias("eventMetadata.eventId", Slot::Id),
        alias("model", Slot::Model),
        alias("usage.prompt_tokens_details.cached_tokens", Slot::Cached),
    ],
    ..PLAIN
};

/// OpenTelemetry's spans of generative models: times are dates or Unix nanoseconds.
static OTEL: Schema = Schema {
    format: Format::OtelGenAi,
    unit: TimeUnit::Nanos,
    dates: true,
    unfold: Some(otel::unfold),
    aliases: &[
        alias("start_time", Slot::Arrival),
        alias("gen_ai.usage.input_tokens", Slot::Prompt),
        alias("gen_ai.usage.output_tokens", Slot::Output),
        alias("span_id", Slot::Id),
        alias("trace_id", Slot::Session),
        alias("gen_ai.request.model", Slot::Model),
        alias("gen_ai.usage.cache_read.input_tokens", Slot::Cached),
        alias("end_time", Slot::EndAt),
    ],
    ..PLAIN
};

/// Dynamo's session interchange format 2 (Dynamo lib/data-gen/src/satf.rs).
static SATF: Schema = Schema {
    format: Format::Satf,
    unit: TimeUnit::Micros,
    unfold: Some(satf::unfold),
    aliases: &[
        alias("min_start_delay_us", Slot::Arrival),
        alias("payload.input_tokens_total", Slot::Prompt),
        alias("payload.output_tokens", Slot::Output),
        alias("id", Slot::Id),
        alias("session_id", Slot::Session),
        alias("edges", Slot::After),
        alias("delay_after_predecessor_us", Slot::Delay),
        alias("payload.kv_block_ids", Slot::Hashes),
        alias("block_size_tokens", Slot::BlockSize),
        timed("duration_us", Slot::E2e, TimeUnit::Micros),
    ],
    ..PLAIN
};

/// Weka's and cc-traces' sessions of coding agents: 64-token blocks, whole ones only, numbered within the session.
static WEKA: Schema = Schema {
    format: Format::Weka,
    block_size: 64,
    whole_blocks: true,
    local_hashes: true,
    unfold: Some(weka::unfold),
    aliases: &[
        alias("t", Slot::Arrival),
        alias("in", Slot::Prompt),
        alias("out", Slot::Output),
        alias("id", Slot::Id),
        alias("session", Slot::Session),
        alias("requests", Slot::After),
        alias("think_time", Slot::Delay),
        alias("hash_ids", Slot::Hashes),
        alias("block_size", Slot::BlockSize),
        alias("model", Slot::Model),
        timed("ttft", Slot::Ttft, TimeUnit::Seconds),
        timed("api_time", Slot::E2e, TimeUnit::Seconds),
    ],
    ..PLAIN
};

/// TraceLab's rounds: a round arrives with the last of its inputs.
static TRACELAB: Schema = Schema {
    format: Format::TraceLab,
    unit: TimeUnit::DateTime,
    unfold: Some(tracelab::unfold),
    aliases: &[
        alias("timing_events", Slot::Arrival),
        alias("input_tokens_total", Slot::Prompt),
        alias("output_tokens", Slot::Output),
        alias("session_id", Slot::Session),
        alias("round_index", Slot::Turn),
        alias("prefix_tokens", Slot::Cached),
        alias("model", Slot::Model),
    ],
    ..PLAIN
};

/// LLMServingSim's flat requests and sessions, which may stand in one file; prefixes are those of its token ids.
static LLMSERVINGSIM: Schema = Schema {
    format: Format::LlmServingSim,
    unit: TimeUnit::Nanos,
    block_size: 16,
    whole_blocks: true,
    unfold: Some(llmservingsim::unfold),
    aliases: &[
        timed("arrival_time_ns", Slot::Arrival, TimeUnit::Nanos),
        alias("input_toks", Slot::Prompt),
        alias("output_toks", Slot::Output),
        alias("session_id", Slot::Session),
        timed("tool_duration_ns", Slot::Delay, TimeUnit::Nanos),
        alias("input_tok_ids", Slot::Hashes),
    ],
    ..PLAIN
};

/// Applied Compute's agents: a record is a session whose context grows; it has no arrivals.
static APPLIED_COMPUTE: Schema = Schema {
    format: Format::AppliedCompute,
    unfold: Some(applied_compute::unfold),
    aliases: &[
        alias("arrival_s", Slot::Arrival),
        alias("input_prompt_length", Slot::Prompt),
        alias("assistant_response_length", Slot::Output),
        alias("session", Slot::Session),
        timed("tool_call_latency", Slot::Delay, TimeUnit::Seconds),
    ],
    ..PLAIN
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_the_fields_no_request_is_without() {
        for schema in Format::ALL.iter().filter_map(|format| of(*format)) {
            for slot in [Slot::Arrival, Slot::Prompt, Slot::Output] {
                assert!(schema.aliases.iter().any(|alias| alias.slot == slot), "{:?}", schema.format);
            }
            assert!(schema.aliases.len() <= 64, "{:?}: one bit an alias", schema.format);
        }
    }

    #[test]
    fn the_native_names_end_where_those_of_other_formats_begin() {
        let names: Vec<&str> = native().collect();
        assert_eq!(names.last(), Some(&"observed_tpot_s"));
        assert!(names.contains(&"arrival_s") && !names.contains(&"hash_ids"));
    }

    #[test]
    fn every_table_is_found_by_its_own_format() {
        for format in Format::ALL {
            assert!(of(*format).is_none_or(|schema| schema.format == *format));
        }
    }
}
