//! The trace formats people have: their names, and which field of each means what.

use super::policy::{TimeUnit, ZeroOutput};

macro_rules! formats {
    ($($(#[$doc:meta])* $variant:ident $name:literal $words:literal),* $(,)?) => {
        /// A trace format.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Format { $($(#[$doc])* $variant),* }

        impl Format {
            /// Every format that is recognised, whether it is read or not.
            pub const ALL: &'static [Format] = &[$(Format::$variant),*];

            /// The name of `--trace-format`.
            pub fn name(self) -> &'static str {
                match self { $(Format::$variant => $name),* }
            }

            /// What it is, in words: `an Azure LLM trace`.
            pub fn words(self) -> &'static str {
                match self { $(Format::$variant => $words),* }
            }
        }
    };
}

formats! {
    /// This project's own schema, `roofline-fast/1`.
    Native "native" "a native trace",
    /// `timestamp`, `input_length`, `output_length`, `hash_ids`: the common tongue of load generators.
    Mooncake "mooncake" "a Mooncake trace",
    /// Azure's public traces of 2023 and 2024.
    AzureLlm "azure_llm" "an Azure LLM trace",
    /// BurstGPT, versions 1 to 3.
    BurstGpt "burstgpt" "a BurstGPT trace",
    /// Vidur's processed traces.
    Vidur "vidur" "a Vidur trace",
    /// Vidur's traces that have lengths alone.
    VidurLengths "vidur_lengths" "a Vidur trace of lengths",
    /// Mooncake with dependencies between requests.
    AgenticMooncake "agentic_mooncake" "an agentic Mooncake trace",
    /// Turns of agents without arrivals.
    AppliedCompute "applied_compute_agentic" "an Applied Compute agentic trace",
    /// What Dynamo's request tracing writes.
    DynamoRequest "dynamo_request_trace" "a Dynamo request trace",
    /// Alibaba's Bailian usage traces.
    Bailian "bailian" "a Bailian trace",
    /// Sessions of coding agents with 64-token hashes.
    Weka "weka" "a Weka session trace",
    /// TraceLab's rounds.
    TraceLab "tracelab" "a TraceLab round trace",
    /// TraceLab's sessions for replay.
    TraceLabSession "tracelab_session_csv" "a TraceLab session CSV",
    /// LLMServingSim's workloads.
    LlmServingSim "llmservingsim" "an LLMServingSim workload",
    /// SplitwiseSim's traces.
    SplitwiseSim "splitwise_sim" "a SplitwiseSim trace",
    /// Azure's multimodal trace of 2025.
    AzureLmm "azure_lmm" "an Azure multimodal trace",
    /// APEX's traces.
    Apex "apex" "an APEX trace",
    /// AIPerf's single prompts.
    AiperfSingleTurn "aiperf_single_turn" "an AIPerf single-turn file",
    /// AIPerf's conversations.
    AiperfMultiTurn "aiperf_multi_turn" "an AIPerf multi-turn file",
    /// AIPerf's conversations that fork.
    AiperfDag "aiperf_dag" "an AIPerf DAG file",
    /// What Amazon SageMaker captures.
    SageMaker "sagemaker_data_capture" "a SageMaker data capture",
    /// Logged responses of an OpenAI-compatible server.
    OpenAiResponse "openai_response" "a log of OpenAI responses",
    /// Requests of an OpenAI batch.
    OpenAiBatch "openai_batch" "an OpenAI batch file",
    /// What LiteLLM logs.
    LiteLlm "litellm" "a LiteLLM log",
    /// Conversations as text.
    ShareGpt "sharegpt" "a ShareGPT file of conversations",
    /// Prompts as text.
    VllmCustom "vllm_custom" "a file of prompts",
    /// OpenTelemetry spans of generative models.
    OtelGenAi "otel_genai" "an OpenTelemetry GenAI trace",
    /// Dynamo's session interchange format.
    Satf "satf" "a SATF session trace",
    /// The header file of BLIS.
    BlisHeader "blis_tracev2_header" "a BLIS header file",
    /// BLIS's richest schema.
    Blis "blis_tracev2" "a BLIS trace",
    /// Clients of ServeGen, of which requests are drawn.
    ServeGenClients "servegen_clients" "one ServeGen client file",
    /// Baseten's logs.
    Baseten "baseten" "a Baseten trace",
}

impl Format {
    /// The format of that name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.name() == name)
    }

    /// How its fields are read; none for a format that is recognised but not read yet.
    pub(super) fn schema(self) -> Option<&'static Schema> {
        match self {
            Format::Native => Some(&NATIVE),
            Format::Mooncake => Some(&MOONCAKE),
            Format::AzureLlm => Some(&AZURE),
            Format::BurstGpt => Some(&BURSTGPT),
            Format::Vidur => Some(&VIDUR),
            _ => None,
        }
    }
}

/// What a field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Arrival,
    Prompt,
    Output,
    Id,
    Session,
    Turn,
    Delay,
    After,
    Hashes,
    Priority,
    /// Dynamo's priority, of which higher goes first.
    StrictPriority,
    Model,
    /// Known, and without effect on what is read.
    Unused,
}

/// How many slots hold a value of a row; [`Slot::Unused`] holds none.
pub(super) const SLOTS: usize = Slot::Unused as usize;

/// One name of a field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alias {
    pub name: &'static str,
    pub slot: Slot,
    /// The unit, where the name tells it.
    pub unit: Option<TimeUnit>,
}

const fn alias(name: &'static str, slot: Slot) -> Alias {
    Alias { name, slot, unit: None }
}

const fn timed(name: &'static str, slot: Slot, unit: TimeUnit) -> Alias {
    Alias { name, slot, unit: Some(unit) }
}

/// How the rows of a format are read.
#[derive(Debug)]
pub(super) struct Schema {
    pub format: Format,
    /// The unit of times whose name tells none.
    pub unit: TimeUnit,
    /// Tokens of a hash id.
    pub block_size: u32,
    pub zero_output: ZeroOutput,
    /// Names of its fields; the first of a slot is the one a user is told.
    pub aliases: &'static [Alias],
}

static NATIVE: Schema = Schema {
    format: Format::Native,
    unit: TimeUnit::Seconds,
    block_size: 16,
    zero_output: ZeroOutput::Prefill,
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
        alias("prefix_group", Slot::Unused),
        alias("prefix_tokens", Slot::Unused),
        alias("cached_tokens", Slot::Unused),
        alias("lora", Slot::Unused),
        alias("tenant", Slot::Unused),
        alias("slo_class", Slot::Unused),
        alias("deadline_s", Slot::Unused),
        alias("timeout_s", Slot::Unused),
        alias("max_output_tokens", Slot::Unused),
        alias("reasoning_tokens", Slot::Unused),
        alias("images", Slot::Unused),
        alias("image_tokens", Slot::Unused),
        alias("audio_tokens", Slot::Unused),
        alias("video_tokens", Slot::Unused),
        alias("observed_ttft_s", Slot::Unused),
        alias("observed_e2e_s", Slot::Unused),
        alias("observed_tpot_s", Slot::Unused),
    ],
};

/// Mooncake's release, Dynamo's and AIPerf's extensions (Dynamo lib/data-gen/src/mooncake.rs, AIPerf MooncakeTrace).
static MOONCAKE: Schema = Schema {
    format: Format::Mooncake,
    unit: TimeUnit::Millis,
    block_size: 512,
    zero_output: ZeroOutput::Prefill,
    aliases: &[
        alias("timestamp", Slot::Arrival),
        alias("created_time", Slot::Arrival),
        alias("input_length", Slot::Prompt),
        alias("input_tokens", Slot::Prompt),
        alias("prompt_tokens", Slot::Prompt),
        alias("output_length", Slot::Output),
        alias("output_tokens", Slot::Output),
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
};

static AZURE: Schema = Schema {
    format: Format::AzureLlm,
    unit: TimeUnit::DateTime,
    block_size: 0,
    zero_output: ZeroOutput::Prefill,
    aliases: &[
        alias("TIMESTAMP", Slot::Arrival),
        alias("ContextTokens", Slot::Prompt),
        alias("GeneratedTokens", Slot::Output),
    ],
};

static BURSTGPT: Schema = Schema {
    format: Format::BurstGpt,
    unit: TimeUnit::Seconds,
    block_size: 0,
    zero_output: ZeroOutput::Drop,
    aliases: &[
        alias("Timestamp", Slot::Arrival),
        alias("Request tokens", Slot::Prompt),
        alias("Response tokens", Slot::Output),
        alias("Model", Slot::Model),
        alias("Session ID", Slot::Unused),
        alias("Elapsed time", Slot::Unused),
        alias("Total tokens", Slot::Unused),
        alias("Log Type", Slot::Unused),
    ],
};

static VIDUR: Schema = Schema {
    format: Format::Vidur,
    unit: TimeUnit::Seconds,
    block_size: 0,
    zero_output: ZeroOutput::Prefill,
    aliases: &[
        alias("arrived_at", Slot::Arrival),
        alias("num_prefill_tokens", Slot::Prompt),
        alias("num_decode_tokens", Slot::Output),
        alias("num_total_tokens", Slot::Unused),
        alias("pd_ratio", Slot::Unused),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_found_by_its_name() {
        for format in Format::ALL {
            assert_eq!(Format::named(format.name()), Some(*format));
        }
        assert_eq!(Format::named("moon"), None);
    }

    #[test]
    fn every_schema_has_the_fields_no_request_is_without() {
        for schema in Format::ALL.iter().filter_map(|format| format.schema()) {
            for slot in [Slot::Arrival, Slot::Prompt, Slot::Output] {
                assert!(schema.aliases.iter().any(|alias| alias.slot == slot), "{:?}", schema.format);
            }
        }
    }
}
