//! The table of each format that is read: which of its fields means what.

mod native;
mod mooncake;
mod tables;
mod records;

use mooncake::{AGENTIC_MOONCAKE, BAILIAN, MOONCAKE};
use native::NATIVE;
use records::{
    AIPERF_RECORDS, APEX, APPLIED_COMPUTE, BASETEN, BENCH_RESULT, DYNAMO, GUIDELLM, LLMSERVINGSIM, OPENAI,
    OTEL, SAGEMAKER, SATF, TRACELAB, WEKA,
};
use tables::{AZURE, AZURE_LMM, BLIS, BURSTGPT, LITELLM, SPLITWISE, TRACELAB_SESSION, VIDUR, VIDUR_LENGTHS};

use super::format::{Format, History, Parents, Schema, Slot, Turns, alias, timed};
use super::policy::{TimeUnit, ZeroOutput};

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
        Format::BenchResult => &BENCH_RESULT,
        Format::AiperfRecords => &AIPERF_RECORDS,
        Format::GuideLlm => &GUIDELLM,
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
    table: false,
    whole_blocks: false,
    local_hashes: false,
    zero_output: ZeroOutput::Prefill,
    parents: Parents::Required,
    turns: Turns::AtArrival,
    cached_beside: false,
    history: History::Untold,
    unfold: None,
    aliases: &[],
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
