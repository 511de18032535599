//! The trace formats people have: their names, and which field of each means what.

use super::policy::{TimeUnit, ZeroOutput};
use super::unfold::Unfold;

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
    /// What `vllm bench serve` and SGLang's `bench_serving` measured, request by request.
    BenchResult "bench_result" "a result of vLLM's or SGLang's benchmark",
    /// What AIPerf measured, request by request.
    AiperfRecords "aiperf_records" "an export of AIPerf",
    /// What GuideLLM measured.
    GuideLlm "guidellm_benchmarks" "a GuideLLM report",
    /// What GenAI-Perf sent and received, as text.
    GenAiPerf "genai_perf_export" "a GenAI-Perf export",
}

impl Format {
    /// The format of that name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.name() == name)
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
    /// Time that passes besides the delay: that of tools.
    Wait,
    /// Time between the completion of this turn and the start of the next one of its session.
    WaitAfter,
    /// Tokens of a hash id, the same on every line.
    BlockSize,
    /// Prompt tokens found in a cache when this was recorded.
    Cached,
    PrefixGroup,
    PrefixTokens,
    Lora,
    Tenant,
    Images,
    /// Tokens of images: a count, or a list of them.
    ImageTokens,
    /// Tokens of sound: a count, or a list of them.
    AudioTokens,
    /// Tokens of moving pictures: a count, or a list of them.
    VideoTokens,
    /// Time from the arrival within which the answer must be there.
    Deadline,
    /// Until when the answer must be there, on the clock of the arrivals.
    DeadlineAt,
    /// The class of service it is promised, by name.
    SloClass,
    /// Time from the arrival after which its sender gives up.
    Timeout,
    /// Tokens that its answer was allowed.
    MaxOutput,
    /// Tokens of its answer that were thoughts.
    Reasoning,
    Ttft,
    E2e,
    Tpot,
    /// When the first token came, on the clock of the arrivals.
    FirstAt,
    /// When the last token came, on the clock of the arrivals.
    EndAt,
    /// How the request ended; one that failed has no lengths.
    Status,
    /// Known, and without effect on what is read.
    Unused,
}

impl Slot {
    /// Whether what it holds changes nothing that is simulated or measured: it is carried, or known and no more.
    pub(super) fn is_idle(self) -> bool {
        let carried = matches!(
            self,
            Slot::Tenant
                | Slot::AudioTokens
                | Slot::VideoTokens
                | Slot::SloClass
                | Slot::Timeout
                | Slot::MaxOutput
                | Slot::Reasoning
        );
        carried || self == Slot::Unused
    }
}

/// How many slots most formats have; those from [`Slot::Wait`] on are rare, and [`Slot::Unused`] holds no value.
pub(super) const SLOTS: usize = Slot::Wait as usize;

/// One name of a field.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alias {
    pub name: &'static str,
    pub slot: Slot,
    /// The unit, where the name tells it.
    pub unit: Option<TimeUnit>,
}

pub(super) const fn alias(name: &'static str, slot: Slot) -> Alias {
    Alias { name, slot, unit: None }
}

pub(super) const fn timed(name: &'static str, slot: Slot, unit: TimeUnit) -> Alias {
    Alias { name, slot, unit: Some(unit) }
}

/// What happens to a request that names one that the trace does not have, or waits for itself over others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parents {
    /// It is refused.
    Required,
    /// It waits for none: the window of the trace cut off what was before.
    MayBeAbsent,
}

/// When the turns of a session start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turns {
    /// At their own arrival; one without waits for the turn before.
    AtArrival,
    /// At their own arrival, and not before the turn before is complete.
    AfterPrevious,
    /// The first at its arrival, which the others repeat; they wait for the turn before.
    SessionArrival,
}

/// What a format tells of how the prompts of a session's later turns begin, besides hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// Nothing: the user may say it.
    Untold,
    /// With as many tokens of what was said before as were found in a cache.
    Recorded,
    /// With all that was said before.
    All,
}

/// How the rows of a format are read.
#[derive(Debug)]
pub(super) struct Schema {
    pub format: Format,
    /// The unit of times whose name tells none.
    pub unit: TimeUnit,
    /// Arrivals may be dates instead of numbers; which, the first decides.
    pub dates: bool,
    /// Tokens of a hash id.
    pub block_size: u32,
    /// Rows are those of a table, in whatever container: names of columns are found in any case.
    pub table: bool,
    /// Hash ids stand for whole blocks only, the rest of a prompt has none.
    pub whole_blocks: bool,
    /// Hash ids mean the same within a record only.
    pub local_hashes: bool,
    pub zero_output: ZeroOutput,
    pub parents: Parents,
    pub turns: Turns,
    /// The prompt's field counts what was not cached; the whole prompt is both.
    pub cached_beside: bool,
    pub history: History,
    /// How a nested record becomes rows; none where it is a row.
    pub unfold: Option<Unfold>,
    /// Names of its fields; the first of a slot is the one a user is told.
    pub aliases: &'static [Alias],
}

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
}
