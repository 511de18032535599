//! One small file of every known format: each is recognised, and read or refused by name.

mod common;

use std::collections::BTreeSet;

use roofline_sim::trace::{NOT_OBSERVED, ReadOptions, Sessions, Trace, detect, read};
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
    &[("../otel/simple_chain.json", "its spans hold text and no token counts: lengths are asked for")];

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
            refused("the file must have output lengths");
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
    assert_eq!(Some(trace.len() as u64), sample["requests"].as_u64(), "{name}");
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
    // The same hashes, but not the same adapter: nothing of the first prompt serves the second.
    assert_eq!(trace.hashes.unwrap().path(1), [4, 5, 6, 7, 8, 9]);
    assert_eq!(report.block_size, Some(16));
}

/// A sample of the collection, read; none where it is absent.
fn sample(name: &str) -> Option<Trace> {
    let bytes = std::fs::read(common::traces("formats")?.join(name)).ok()?;
    let options = ReadOptions { arrivals_elsewhere: true, ..ReadOptions::default() };
    Some(read(name, &bytes, &options).unwrap_or_else(|error| panic!("{name}: {error}")).0)
}

#[test]
fn measured_times_and_recorded_hits_are_kept() {
    let Some(folder) = common::traces("dynamo") else { return };
    let bytes = std::fs::read(folder.join("pi_request_trace.jsonl.gz")).unwrap();
    let (trace, report) = read("dynamo", &bytes, &ReadOptions::default()).unwrap();
    assert_eq!((trace.len(), report.block_size), (17, Some(16)));
    assert!(trace.carried.ttft_ns.contains(&1_328_418_365));
    assert!(trace.carried.tpot_ns.contains(&26_736_414) && trace.carried.e2e_ns.contains(&1_381_891_193));
    assert_eq!(trace.carried.cached_tokens.len(), 17);
    assert!(report.information.iter().any(|told| told.contains("no answered requests are passed over")));
    // A log is written as requests end, not as they arrive.
    let told: Vec<&str> = report.warnings.iter().map(|warning| warning.text.as_str()).collect();
    assert!(
        matches!(told.as_slice(), [order] if order.starts_with("arrivals were not in time order")),
        "{told:?}"
    );
    for name in ["litellm_standard_logging.jsonl", "litellm_spend_logs.csv"] {
        let trace = sample(name).unwrap();
        let (ttft, e2e) = if name.ends_with("csv") { (400, 1_800) } else { (450, 1_800) };
        assert_eq!(trace.carried.ttft_ns, [ttft * 1_000_000]);
        assert_eq!(trace.carried.e2e_ns, [e2e * 1_000_000]);
    }
    let weka = sample("weka.json").unwrap();
    assert_eq!(weka.carried.ttft_ns, [1_100_000_000, NOT_OBSERVED, NOT_OBSERVED]);
    assert_eq!(sample("openai_responses_log.jsonl").unwrap().carried.cached_tokens, [128]);
}

#[test]
fn joins_chains_and_tools_become_waits_with_delays() {
    let Some(agentic) = sample("agentic_mooncake.jsonl") else { return };
    assert_eq!(waits(&agentic.sessions.unwrap()), [vec![], vec![(0, 1_000_000)], vec![(1, 2_510_000_000)]]);
    assert_eq!(agentic.arrival_ns, [0, 1_000_000, 2_511_000_000]);
    let satf = sample("satf.json").unwrap();
    assert_eq!(waits(&satf.sessions.unwrap()), [vec![], vec![(0, 500_100_000)]]);
    let session = sample("session_runner.csv").unwrap();
    assert_eq!(session.prompt_tokens, [512, 704, 400]);
    assert_eq!(waits(&session.sessions.unwrap()), [vec![], vec![(0, 100_000_000)], vec![]]);
    let simulator = sample("lss_agentic.jsonl").unwrap();
    assert_eq!(waits(&simulator.sessions.unwrap()), [vec![], vec![(0, 127_348_767)]]);
    let applied = sample("applied_compute_agentic.jsonl").unwrap();
    assert_eq!(applied.prompt_tokens, [64, 68, 72]);
    assert_eq!(waits(&applied.sessions.unwrap()), [vec![], vec![(0, 1_000_000)], vec![(1, 1_000_000)]]);
    let weka = sample("weka.json").unwrap();
    assert_eq!(weka.arrival_ns, [0, 9_000_000_000, 13_000_000_000]);
    assert_eq!(waits(&weka.sessions.unwrap())[2], [(0, 900_000_000), (1, 900_000_000)]);
}

#[test]
fn a_chat_is_the_session_of_all_that_follow_it() {
    let Some(bailian) = sample("bailian.jsonl") else { return };
    let sessions = bailian.sessions.unwrap();
    assert_eq!((sessions.count, sessions.session.as_slice()), (1, &[0, 0][..]));
    assert_eq!(waits(&sessions), [vec![], vec![(0, 0)]]);
    assert_eq!(bailian.hashes.unwrap().block_size, 16);
}

#[test]
fn groups_images_and_sessions_of_flat_formats_are_kept() {
    let Some(blis) = sample("blis_tracev2.csv") else { return };
    let prefixes = blis.carried.prefixes.unwrap();
    assert_eq!((prefixes.group.name(0), prefixes.tokens), (Some("shared"), vec![512, 512]));
    assert_eq!(sample("azure2025_mm.csv").unwrap().carried.images, [0, 1, 1]);
    let burst = sample("burstgpt_v3.csv").unwrap();
    assert_eq!(burst.sessions.unwrap().session, [0, Sessions::NONE]);
    assert_eq!(sample("native_full.jsonl").unwrap().carried.image_tokens, [0, 576]);
}

#[test]
fn real_workloads_of_other_simulators_are_read_whole() {
    for (folder, file) in [
        ("apex", "llama_creation_05.lengths_only.jsonl.zst"),
        ("llmservingsim", "workload_me2_01_mixed.jsonl.zst"),
        ("llmservingsim", "sharegpt-llama-3.1-8b-300-sps10.jsonl.zst"),
        ("tracelab", "multi_session_large.csv"),
    ] {
        let Some(folder) = common::traces(folder) else { return };
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let (trace, report) = read(file, &bytes, &ReadOptions::default()).unwrap();
        assert!(trace.len() > 3 && report.warnings.is_empty(), "{file}: {:?}", report.warnings);
    }
}
