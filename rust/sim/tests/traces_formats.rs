//! One small file of every known format: each is recognised, and read or refused by name.

mod common;

use std::collections::BTreeSet;

use roofline_sim::trace::{ReadOptions, Sessions, detect, read};
use serde_json::Value;

/// Formats that hold text or distributions, not the lengths of requests.
const WITHOUT_LENGTHS: &[&str] = &[
    "aiperf_dag",
    "aiperf_multi_turn",
    "aiperf_single_turn",
    "blis_tracev2_header",
    "openai_batch",
    "servegen_clients",
    "sharegpt",
    "vllm_custom",
];

/// Formats without arrivals: read where those come from elsewhere, refused with a remedy where they do not.
const WITHOUT_ARRIVALS: &[&str] = &["applied_compute_agentic", "vidur_lengths"];

/// Samples that end otherwise than the collection expects, and why.
const DIFFERENT: &[(&str, &str)] =
    &[("../otel/simple_chain.json", "its spans hold text and no token counts: prompt lengths are asked for")];

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
        seen.insert(expected);
        let refused = |must: &str| {
            let error = read(name, &bytes, &ReadOptions::default()).unwrap_err();
            assert!(error.to_string().contains(must), "{name}: {error}");
            assert!(!error.hint().is_empty(), "{name}");
            error
        };
        if WITHOUT_LENGTHS.contains(&expected) {
            let error = refused("the file must hold the lengths of requests");
            assert!(error.to_string().contains(detection.format.words()), "{error}");
        } else if name.ends_with(".parquet") {
            refused("in Parquet, which is not read here");
        } else if DIFFERENT.iter().any(|(file, _)| *file == name) {
            refused("the file must have prompt lengths");
        } else {
            let without = WITHOUT_ARRIVALS.contains(&expected);
            if without {
                assert!(refused("the file must have arrival times").hint().contains("--request-rate"));
            }
            as_expected(name, &bytes, sample, without);
        }
    }
    let unseen: Vec<_> = WITHOUT_LENGTHS.iter().filter(|format| !seen.contains(**format)).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
}

/// A sample has the requests, the unit and the block size that the collection says.
fn as_expected(name: &str, bytes: &[u8], sample: &Value, arrivals_elsewhere: bool) {
    let options = ReadOptions { arrivals_elsewhere, ..ReadOptions::default() };
    let (trace, report) = read(name, bytes, &options).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(trace.len() as u64, sample["requests"].as_u64().unwrap(), "{name}");
    if let Some(unit) = sample["time_unit"].as_str() {
        assert!(unit.contains(report.time_unit.name()), "{name}: {unit}, was {:?}", report.time_unit);
    }
    if let (Some(expected), Some(block_size)) = (sample["block_size"].as_u64(), report.block_size) {
        assert_eq!(u64::from(block_size), expected, "{name}");
    }
}

/// What each request waits for.
fn waits(sessions: &Sessions) -> Vec<Vec<(u32, u64)>> {
    (0..sessions.session.len()).map(|row| sessions.waits_for(row).collect()).collect()
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
    assert_eq!(waits(&sessions), [vec![], vec![], vec![(0, 50_000_000)], vec![]]);
}

#[test]
fn a_native_trace_keeps_ids_priorities_and_dependencies() {
    let Some(folder) = common::traces("formats") else { return };
    let bytes = std::fs::read(folder.join("native_full.jsonl")).unwrap();
    let (trace, report) = read("native", &bytes, &ReadOptions::default()).unwrap();
    assert_eq!(trace.ids, ["r0", "r1"]);
    assert_eq!(trace.priority, [0, 0]);
    assert_eq!(trace.model.as_deref(), Some("llama-3.1-8b"));
    assert_eq!(waits(&trace.sessions.unwrap()), [vec![], vec![(0, 2_500_000_000)]]);
    assert_eq!(trace.hashes.unwrap().path(1), [0, 1, 2, 3, 4, 5]);
    assert_eq!(report.block_size, Some(16));
}
