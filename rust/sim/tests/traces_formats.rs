//! One small file of every known format: each is recognised, and read or refused by name.

mod common;

use std::collections::BTreeSet;

use roofline_sim::trace::{ReadOptions, detect, read};
use serde_json::Value;

/// Formats that are recognised but not read yet.
const NOT_READ: &[&str] = &[
    "agentic_mooncake",
    "aiperf_dag",
    "aiperf_multi_turn",
    "aiperf_single_turn",
    "apex",
    "applied_compute_agentic",
    "azure_lmm",
    "bailian",
    "baseten",
    "blis_tracev2",
    "blis_tracev2_header",
    "dynamo_request_trace",
    "litellm",
    "llmservingsim",
    "openai_batch",
    "openai_response",
    "otel_genai",
    "sagemaker_data_capture",
    "satf",
    "servegen_clients",
    "sharegpt",
    "splitwise_sim",
    "tracelab",
    "tracelab_session_csv",
    "vllm_custom",
    "weka",
];

#[test]
fn every_sample_is_recognised_and_read_or_refused_by_name() {
    let Some(folder) = common::traces("formats") else { return };
    let text = std::fs::read_to_string(folder.join("MANIFEST.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let samples = manifest.as_array().unwrap();
    assert!(samples.len() >= 44, "only {} samples", samples.len());
    let mut seen = BTreeSet::new();
    for sample in samples {
        let name = sample["file"].as_str().unwrap();
        let Ok(bytes) = std::fs::read(folder.join(name)) else {
            common::skip(name);
            continue;
        };
        let expected = sample["detect_as"].as_str().unwrap();
        let detection = detect(name, &bytes, &ReadOptions::default()).unwrap();
        assert_eq!(detection.format.name(), expected, "{name}");
        assert!(!detection.why.is_empty());
        let result = read(name, &bytes, &ReadOptions::default());
        seen.insert(expected);
        if NOT_READ.contains(&expected) || name.ends_with(".parquet") {
            let message = result.unwrap_err().to_string();
            assert!(
                message.contains(detection.format.words()) && message.contains("not read yet"),
                "{message}"
            );
            continue;
        }
        if expected == "vidur_lengths" {
            let error = result.unwrap_err();
            assert!(error.to_string().contains("no arrival times"), "{error}");
            assert!(error.hint().contains("--request-rate"), "{}", error.hint());
            continue;
        }
        let (trace, report) = result.unwrap();
        assert_eq!(trace.len() as u64, sample["requests"].as_u64().unwrap(), "{name}");
        let unit = sample["time_unit"].as_str().unwrap();
        assert!(unit.contains(report.time_unit.name()), "{name}: {unit}, was {:?}", report.time_unit);
        if let (Some(expected), Some(block_size)) = (sample["block_size"].as_u64(), report.block_size) {
            assert_eq!(u64::from(block_size), expected, "{name}");
        }
    }
    let unseen: Vec<_> =
        NOT_READ.iter().filter(|format| !seen.contains(**format) && **format != "tracelab").collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

#[test]
fn sessions_tell_what_waits_for_what() {
    let Some(folder) = common::traces("formats") else { return };
    let bytes = std::fs::read(folder.join("mooncake_sessions.jsonl")).unwrap();
    let (trace, _) = read("sessions", &bytes, &ReadOptions::default()).unwrap();
    let sessions = trace.sessions.unwrap();
    assert_eq!(sessions.count, 2);
    assert_eq!(trace.arrival_ns, [0, 10_000_000, 50_000_000, 60_000_000]);
    assert_eq!(sessions.session, [0, 1, 0, 1]);
    assert_eq!(sessions.after, [u32::MAX, u32::MAX, 0, u32::MAX]);
    assert_eq!(sessions.delay_ns, [0, 0, 50_000_000, 0]);
}

#[test]
fn a_native_trace_keeps_ids_priorities_and_dependencies() {
    let Some(folder) = common::traces("formats") else { return };
    let bytes = std::fs::read(folder.join("native_full.jsonl")).unwrap();
    let (trace, report) = read("native", &bytes, &ReadOptions::default()).unwrap();
    assert_eq!(trace.ids, ["r0", "r1"]);
    assert_eq!(trace.priority, [0, 0]);
    assert_eq!(trace.model.as_deref(), Some("llama-3.1-8b"));
    assert_eq!(trace.sessions.unwrap().after, [u32::MAX, 0]);
    assert_eq!(trace.hashes.unwrap().path(1), [0, 1, 2, 3, 4, 5]);
    assert_eq!(report.block_size, Some(16));
}
