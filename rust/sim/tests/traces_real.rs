//! Published traces give the counts, sums and statistics that were measured on them elsewhere.

mod common;

use roofline_sim::trace::{Inspection, ReadOptions, inspect, read, read_file};

/// Reads and measures a file of the shared traces; none where it is absent.
fn inspected(folder: &str, file: &str) -> Option<Inspection> {
    let path = common::traces(folder)?.join(file);
    let (trace, report) = read_file(&path, &ReadOptions::default()).expect("the file is a good trace");
    Some(inspect(&trace, &report.warnings))
}

fn close(is: f64, expected: f64, within: f64) {
    assert!((is - expected).abs() <= within, "expected {expected}, was {is}");
}

/// Mean, p50, p95, p99 and max as the collection's README gives them, rounded to whole tokens.
fn lengths(is: &roofline_sim::trace::Lengths, expected: [f64; 5]) {
    let values = [is.mean, is.p50, is.p95, is.p99, f64::from(is.max)];
    for (value, expected) in values.into_iter().zip(expected) {
        close(value, expected, 0.51);
    }
}

#[test]
fn the_mooncake_conversation_trace_has_the_published_statistics() {
    let Some(trace) = inspected("mooncake", "conversation_trace.jsonl.zst") else { return };
    assert_eq!(trace.requests, 12_031);
    close(trace.span_s, 3_537.0, 0.5);
    close(trace.rate.unwrap(), 3.40, 0.005);
    lengths(&trace.prompt_tokens, [12_035.0, 6_909.0, 39_551.0, 85_400.0, 126_195.0]);
    lengths(&trace.output_tokens, [343.0, 350.0, 698.0, 1_119.0, 2_000.0]);
    close(trace.gap_cv.unwrap(), 3.03, 0.005);
    close(trace.peak_to_mean_60s.unwrap(), 1.21, 0.01);
    close(trace.prefix_hit.unwrap(), 0.374, 0.0005);
    assert!(trace.warnings.is_empty(), "{:?}", trace.warnings);
}

#[test]
fn the_mooncake_synthetic_trace_has_the_published_statistics() {
    let Some(trace) = inspected("mooncake", "synthetic_trace.jsonl.zst") else { return };
    assert_eq!(trace.requests, 3_993);
    close(trace.span_s, 1_022.0, 0.5);
    lengths(&trace.prompt_tokens, [15_325.0, 11_587.0, 48_905.0, 66_456.0, 191_378.0]);
    lengths(&trace.output_tokens, [149.0, 69.0, 519.0, 768.0, 893.0]);
    close(trace.gap_cv.unwrap(), 1.01, 0.005);
    close(trace.prefix_hit.unwrap(), 0.651, 0.0005);
}

#[test]
fn the_first_thousand_of_the_arxiv_trace_have_the_published_statistics() {
    let Some(trace) = inspected("mooncake", "arxiv_mooncake_trace_first1000.jsonl.zst") else { return };
    assert_eq!(trace.requests, 1_000);
    close(trace.span_s, 177.0, 0.5);
    lengths(&trace.prompt_tokens, [9_792.0, 6_558.0, 27_307.0, 77_828.0, 121_290.0]);
    close(trace.prefix_hit.unwrap(), 0.391, 0.0005);
}

#[test]
fn the_azure_traces_have_the_published_statistics() {
    let Some(code) = inspected("azure", "AzureLLMInferenceTrace_code.csv.gz") else { return };
    assert_eq!(code.requests, 8_819);
    close(code.span_s, 3_436.0, 0.5);
    lengths(&code.prompt_tokens, [2_048.0, 1_469.0, 7_303.0, 7_436.0, 7_437.0]);
    close(code.output_tokens.mean, 27.9, 0.05);
    close(code.gap_cv.unwrap(), 13.15, 0.005);
    close(code.peak_to_mean_60s.unwrap(), 4.16, 0.05);
    let Some(conversation) = inspected("azure", "AzureLLMInferenceTrace_conv.csv.gz") else { return };
    assert_eq!(conversation.requests, 19_366);
    close(conversation.span_s, 3_502.0, 0.5);
    lengths(&conversation.prompt_tokens, [1_155.0, 1_020.0, 4_083.0, 4_142.0, 14_050.0]);
    lengths(&conversation.output_tokens, [211.0, 129.0, 451.0, 601.0, 1_000.0]);
    close(conversation.gap_cv.unwrap(), 1.09, 0.005);
}

#[test]
fn azure_and_vidur_tell_the_same_requests() {
    let (Some(azure), Some(vidur)) = (common::traces("azure"), common::traces("vidur")) else { return };
    for kind in ["code", "conv"] {
        let azure = azure.join(format!("AzureLLMInferenceTrace_{kind}.csv.gz"));
        let vidur = vidur.join(format!("splitwise_{kind}.csv.gz"));
        let (azure, _) = read_file(azure, &ReadOptions::default()).unwrap();
        let (vidur, _) = read_file(vidur, &ReadOptions::default()).unwrap();
        assert_eq!(azure.prompt_tokens, vidur.prompt_tokens);
        assert_eq!(azure.output_tokens, vidur.output_tokens);
        let apart = azure.arrival_ns.iter().zip(&vidur.arrival_ns).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(apart < Some(1_000), "{apart:?} ns apart");
    }
}

#[test]
fn a_trace_of_lengths_alone_is_refused_with_a_remedy() {
    let Some(folder) = common::traces("vidur") else { return };
    let path = folder.join("arxiv_summarization_stats_llama2_tokenizer_filtered_v2.csv.gz");
    let error = read_file(path, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no arrival times (a Vidur trace of lengths"), "{error}");
    assert!(error.hint().contains("--request-rate"));
}

#[test]
fn failed_calls_of_burstgpt_are_left_out_and_counted() {
    let Some(folder) = common::traces("burstgpt") else { return };
    let (trace, report) =
        read_file(folder.join("burstgpt_SYNTHETIC_50k.csv.gz"), &ReadOptions::default()).unwrap();
    assert_eq!(report.rows, 50_000);
    close(report.dropped_zero_output as f64 / 50_000.0, 0.0188, 0.002);
    assert_eq!(trace.len() as u64 + report.dropped_zero_output, 50_000);
    let (head, _) = read_file(folder.join("BurstGPT_1.head.csv"), &ReadOptions::default()).unwrap();
    assert_eq!(head.arrival_ns, [0, 40_000_000_000, 113_000_000_000]);
    assert_eq!(head.prompt_tokens, [472, 1_087, 417]);
}

#[test]
fn reblocking_to_16_tokens_agrees_with_the_512_token_path() {
    let Some(folder) = common::traces("mooncake") else { return };
    let path = folder.join("arxiv_mooncake_trace_first1000.jsonl.zst");
    let (trace, _) = read_file(path, &ReadOptions::default()).unwrap();
    let hashes = trace.hashes.unwrap();
    for request in 0..trace.prompt_tokens.len() {
        assert_eq!(hashes.path(request).len() as u32, trace.prompt_tokens[request].div_ceil(512));
        for k in 0..trace.prompt_tokens[request] / 16 {
            let expected = (hashes.path(request)[k as usize * 16 / 512], k * 16 % 512 + 16);
            assert_eq!(hashes.engine_block(request, k, 16), Some(expected));
        }
    }
}

#[test]
fn a_file_that_does_not_exist_is_named() {
    let error = read_file("no/such/trace.jsonl", &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("no/such/trace.jsonl: the file must be readable: "), "{error}");
}

#[test]
fn an_inspection_is_a_table_of_metrics() {
    let csv = b"arrived_at,num_prefill_tokens,num_decode_tokens\n0,10,2\n1,20,2\n";
    let (trace, report) = read("t.csv", csv, &ReadOptions::default()).unwrap();
    let table = inspect(&trace, &report.warnings).table();
    assert_eq!(
        table.columns().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["metric", "value", "unit"]
    );
    let roofline_core::table::Column::OptF64(values) = table.column("value").unwrap() else { panic!() };
    assert_eq!(values[..3], [Some(2.0), Some(1.0), Some(1.0)]);
}
