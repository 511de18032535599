//! Formats of rows with names of their own, and of records that hold several.

use super::{Format, History, PLAIN, Parents, Schema, Slot, TimeUnit, ZeroOutput, alias, timed};
use crate::trace::unfold::{
    aiperf, applied_compute, bench, dynamo, guidellm, llmservingsim, openai, otel, sagemaker, satf, tracelab,
    weka,
};

pub(super) static APEX: Schema = Schema {
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

/// Baseten's logs (AIPerf baseten_trace.py).
pub(super) static BASETEN: Schema = Schema {
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

/// Dynamo's request traces: calls with what was measured of them.
pub(super) static DYNAMO: Schema = Schema {
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
pub(super) static OPENAI: Schema = Schema {
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
pub(super) static SAGEMAKER: Schema = Schema {
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
pub(super) static OTEL: Schema = Schema {
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
pub(super) static SATF: Schema = Schema {
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
pub(super) static WEKA: Schema = Schema {
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
pub(super) static TRACELAB: Schema = Schema {
    format: Format::TraceLab,
    unit: TimeUnit::DateTime,
    history: History::Recorded,
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
pub(super) static LLMSERVINGSIM: Schema = Schema {
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
pub(super) static APPLIED_COMPUTE: Schema = Schema {
    format: Format::AppliedCompute,
    history: History::All,
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

/// What `vllm bench serve --save-detailed` and SGLang's `bench_serving --output-details` write: a run, of which each
/// column is a list. A request that failed has no answer.
pub(super) static BENCH_RESULT: Schema = Schema {
    format: Format::BenchResult,
    zero_output: ZeroOutput::Drop,
    unfold: Some(bench::unfold),
    aliases: &[
        alias("start_times", Slot::Arrival),
        alias("input_lens", Slot::Prompt),
        alias("output_lens", Slot::Output),
        timed("ttfts", Slot::Ttft, TimeUnit::Seconds),
        timed("itls", Slot::E2e, TimeUnit::Seconds),
    ],
    ..PLAIN
};

/// AIPerf's `profile_export.jsonl`: what was measured of each request.
pub(super) static AIPERF_RECORDS: Schema = Schema {
    format: Format::AiperfRecords,
    unfold: Some(aiperf::unfold),
    aliases: &[
        timed("metadata.request_start_ns", Slot::Arrival, TimeUnit::Nanos),
        alias("metrics.input_sequence_length", Slot::Prompt),
        alias("metrics.output_sequence_length", Slot::Output),
        alias("metadata.x_request_id", Slot::Id),
        alias("metadata.x_correlation_id", Slot::Session),
        alias("metadata.turn_index", Slot::Turn),
        timed("metrics.time_to_first_token", Slot::Ttft, TimeUnit::Millis),
        timed("metrics.request_latency", Slot::E2e, TimeUnit::Millis),
        timed("metrics.inter_token_latency", Slot::Tpot, TimeUnit::Millis),
    ],
    ..PLAIN
};

/// GuideLLM's `benchmarks.json`: the requests that succeeded, of all its benchmarks.
pub(super) static GUIDELLM: Schema = Schema {
    format: Format::GuideLlm,
    unfold: Some(guidellm::unfold),
    aliases: &[
        alias("start_time", Slot::Arrival),
        alias("prompt_tokens", Slot::Prompt),
        alias("output_tokens", Slot::Output),
        alias("request_id", Slot::Id),
        alias("first_token_time", Slot::FirstAt),
        alias("end_time", Slot::EndAt),
    ],
    ..PLAIN
};
