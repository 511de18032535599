//! The figures of the survey (arXiv 2402.16363 v6) that can be recomputed, against the reproduction of its tool.
//!
//! The recorded figures lie beside the repository (`shared/data/survey/cases.json`). Every figure is computed from the
//! public functions of [`roofline_core::llm_viewer`]; what it is computed from stands above its test.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may stop, and a skipped test says why")]

use std::path::Path;

use roofline_core::llm_viewer::{Inputs, OpRow, Totals, Version, ViewerAnalysis, analyze, table};
use serde_json::{Value, json};

const MAIN: Version = Version::Main1893e4b;
const A6000: &str = "nvidia_A6000";
/// Layers of Llama-2-13b.
const LAYERS: f64 = 40.0;
/// Exact figures of the file are the tool's own, to the last digits of a double.
const EXACT: f64 = 1e-9;

/// What the tool's figures of one kind are recorded under.
const FIGURES: [&str; 8] = [
    "survey_fig7_quant_memory_llama2_13b_A6000",
    "survey_fig8_fig9_quant_time_llama2_13b_A6000",
    "survey_fig11_kv_quant_memory_llama2_13b_decode_b1",
    "survey_fig16_flashattention_reduction_percent_llama2_13b_A6000",
    "survey_fig18_offloading_ridges",
    "survey_fig19_parallel_serving_llama2_13b_A6000_w8a8kv8",
    "survey_fig20_bandwidth_llama2_13b_decode_b1_s1024_200TFLOPS",
    "turning_points_OPs_per_byte",
];

/// The recorded figures; `None`, with the reason on stderr, where they are not laid beside the repository.
fn recorded() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/survey/cases.json");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// The cases of one figure, by name; fails where there are none.
fn figure(name: &str) -> Option<Vec<(String, Value)>> {
    let file = recorded()?;
    let cases = file["survey_and_notebook_figures"][name].as_object().unwrap_or_else(|| panic!("no {name}"));
    assert!(!cases.is_empty(), "{name} has no cases");
    Some(cases.iter().map(|(case, value)| (case.clone(), value.clone())).collect())
}

fn llama_2_13b() -> Value {
    json!({
        "model_type": "llama", "hidden_size": 5120, "num_attention_heads": 40, "num_key_value_heads": 40,
        "num_hidden_layers": 40, "intermediate_size": 13824, "vocab_size": 32000,
    })
}

/// Llama-2-13b on the survey's device, with (weight, activation, KV) bits.
fn on_a6000(
    version: Version,
    batchsize: u32,
    seqlen: u32,
    bits: (u32, u32, u32),
    flash: bool,
) -> ViewerAnalysis {
    let (w_bit, a_bit, kv_bit) = bits;
    let inputs =
        Inputs { batchsize, seqlen, w_bit, a_bit, kv_bit, use_flashattention: flash, ..Inputs::default() };
    analyze(version, &llama_2_13b(), A6000, &inputs).unwrap()
}

fn phase<'a>(analysis: &'a ViewerAnalysis, name: &str) -> &'a Totals {
    match name {
        "decode" => &analysis.decode_totals,
        "prefill" => &analysis.prefill_totals,
        _ => panic!("no phase {name}"),
    }
}

/// The number behind `prefix` in a part of a case's name (`b16` → 16).
fn number(part: &str, prefix: char) -> u32 {
    part.strip_prefix(prefix).unwrap_or_else(|| panic!("{part} has no {prefix}")).parse().unwrap()
}

/// `b16s1000` → (16, 1000).
fn batch_and_tokens(case: &str) -> (u32, u32) {
    let (batch, tokens) = case.split_once('s').unwrap();
    (number(batch, 'b'), tokens.parse().unwrap())
}

fn exact(place: &str, ours: f64, recorded: &Value) {
    let recorded = recorded.as_f64().unwrap_or_else(|| panic!("{place} is no number"));
    assert!((ours - recorded).abs() <= EXACT * recorded.abs(), "{place}: {ours} for {recorded}");
}

/// Whether `ours` prints as `recorded` with `decimals` decimals.
fn printed(ours: f64, recorded: &Value, decimals: i32) -> bool {
    (ours - recorded.as_f64().unwrap()).abs() <= 0.5 * 10f64.powi(-decimals) + 1e-9
}

#[test]
fn every_recorded_figure_has_a_test() {
    let Some(file) = recorded() else { return };
    let recorded = file["survey_and_notebook_figures"].as_object().unwrap();
    let mut names: Vec<&str> = recorded.keys().map(String::as_str).collect();
    let mut tested = FIGURES.to_vec();
    names.sort_unstable();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

/// As Table 1 prints a quantity: no decimals, with the largest SI prefix below it.
fn with_prefix(value: f64) -> String {
    let (scale, prefix) = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K")]
        .into_iter()
        .find(|(scale, _)| value >= *scale)
        .unwrap_or((1.0, ""));
    format!("{:.0}{prefix}", value / scale)
}

/// As Table 1 prints an intensity: two decimals, none from 100 on.
fn intensity(value: f64) -> f64 {
    if value >= 100.0 { value.round() } else { (100.0 * value).round() / 100.0 }
}

/// Table 1: one layer of Llama-2-7b on the A6000 of the tool's table (154.8 TFLOP/s, 768 GB/s), 2,048 tokens, one
/// sequence, 16 bits, attention unfused and without a mask. The table says `o_proj`, `norm` and `add` for the tool's
/// `out_proj`, `attn_norm` and `attn_add` (`mlp_norm` and `mlp_add` cost the same).
#[test]
fn table_1_is_reproduced_as_printed() {
    let Some(file) = recorded() else { return };
    let config = json!({
        "model_type": "llama", "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 32,
        "num_hidden_layers": 32, "intermediate_size": 11008, "vocab_size": 32000,
    });
    let inputs = Inputs { seqlen: 2048, ..Inputs::default() };
    let analysis = analyze(MAIN, &config, A6000, &inputs).unwrap();
    let mut rows_checked = 0;
    for (phase, rows) in file["survey_table1"]["as_printed"].as_object().unwrap() {
        let ours = if phase == "decode" { &analysis.decode } else { &analysis.prefill };
        for (name, expected) in rows.as_object().unwrap() {
            let op = match name.as_str() {
                "o_proj" => "out_proj",
                "norm" => "attn_norm",
                "add" => "attn_add",
                other => other,
            };
            let row = ours.iter().find(|row| row.op == op).unwrap();
            let place = format!("{phase} {name}");
            assert_eq!(with_prefix(row.OPs), expected[0].as_str().unwrap(), "{place}");
            assert_eq!(with_prefix(row.memory_access), expected[1].as_str().unwrap(), "{place}");
            assert_eq!(intensity(row.arithmetic_intensity), expected[2].as_f64().unwrap(), "{place}");
            assert_eq!(with_prefix(row.performance), expected[3].as_str().unwrap(), "{place}");
            assert_eq!(row.bound, expected[4].as_str().unwrap(), "{place}");
            rows_checked += 1;
        }
    }
    assert_eq!(rows_checked, 24, "rows of Table 1");
}

/// Table 1 exactly: the tool's own run of the case that the file names, row by row.
#[test]
fn table_1_is_reproduced_exactly() {
    let Some(file) = recorded() else { return };
    let id = file["survey_table1"]["case_id"].as_str().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/llm_viewer/golden.json");
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let case = golden["cases"].as_array().unwrap().iter().find(|case| case["id"] == id).unwrap();
    let config = &golden["models"][case["model"].as_str().unwrap()];
    let inputs = Inputs { seqlen: 2048, ..Inputs::default() };
    let analysis = analyze(MAIN, config, A6000, &inputs).unwrap();
    for (name, rows) in [("decode", &analysis.decode), ("prefill", &analysis.prefill)] {
        for row in rows {
            let exactly = &case["result"][name][row.op];
            let place = format!("{name} {}", row.op);
            exact(&place, row.OPs, &exactly["OPs"]);
            exact(&place, row.memory_access, &exactly["memory_access"]);
            exact(&place, row.arithmetic_intensity, &exactly["arithmetic_intensity"]);
            exact(&place, row.performance, &exactly["performance"]);
            assert_eq!(row.bound, exactly["bound"], "{place}");
        }
    }
}

/// The bits of figures 7 and 11 (`W4KV4`); `W4A4` quantizes the cache with the activations.
fn bits_of(scheme: &str) -> (u32, u32, u32) {
    match scheme {
        "FP16" => (16, 16, 16),
        "W4" => (4, 16, 16),
        "KV4" => (16, 16, 4),
        "KV2" => (16, 16, 2),
        "W4KV4" => (4, 16, 4),
        "W4A4" => (4, 4, 4),
        _ => panic!("no scheme {scheme}"),
    }
}

/// Weights, cache and activations of a phase against the recorded ones: bytes exactly, shares of `whole` as recorded.
fn memory(place: &str, totals: &Totals, whole: f64, recorded: &Value, share_decimals: Option<i32>) {
    let parts = [
        ("weight", totals.memory_consumption_weight),
        ("kv", totals.memory_consumption_kv_cache),
        ("act", totals.memory_consumption_tmp_act),
    ];
    for (index, (name, bytes)) in parts.into_iter().enumerate() {
        exact(&format!("{place} {name}"), bytes, &recorded[name]);
        let share = &recorded["rel"][index];
        match share_decimals {
            None => exact(&format!("{place} share of {name}"), bytes / whole, share),
            Some(decimals) => {
                assert!(
                    printed(bytes / whole, share, decimals),
                    "{place} share of {name}: {}",
                    bytes / whole
                );
            }
        }
    }
}

/// Figure 7: `memory_consumption_*` of Llama-2-13b with quantized weights, cache and activations; shares of what FP16
/// takes in the same phase, batch and length. Device-independent.
#[test]
fn figure_7_is_what_quantization_leaves_in_memory() {
    let Some(cases) = figure("survey_fig7_quant_memory_llama2_13b_A6000") else { return };
    for (case, recorded) in cases {
        let parts: Vec<&str> = case.split('|').collect();
        let [name, batch, tokens, scheme] = parts[..] else { panic!("{case} has not four parts") };
        let run = |scheme| on_a6000(MAIN, number(batch, 'b'), number(tokens, 's'), bits_of(scheme), false);
        let whole = phase(&run("FP16"), name).memory_consumption;
        memory(&case, phase(&run(scheme), name), whole, &recorded, None);
    }
}

/// Figures 8 and 9: `inference_time` of Llama-2-13b with weights of fewer bits, activations and cache in 16 (so the
/// FP16 peak holds): decode over the batch at 1,024 tokens, prefill over the length of one prompt.
#[test]
fn figures_8_and_9_are_the_times_of_weight_only_quantization() {
    let Some(cases) = figure("survey_fig8_fig9_quant_time_llama2_13b_A6000") else { return };
    for (weights, curves) in cases {
        let bits = (number(&weights, 'W'), 16, 16);
        for (size, seconds) in curves["decode_vs_batch(s=1024)"].as_object().unwrap() {
            let ours = on_a6000(MAIN, size.parse().unwrap(), 1024, bits, false).decode_totals;
            exact(&format!("{weights} decode b{size}"), ours.inference_time, seconds);
        }
        for (size, seconds) in curves["prefill_vs_seqlen(b=1)"].as_object().unwrap() {
            let ours = on_a6000(MAIN, 1, size.parse().unwrap(), bits, false).prefill_totals;
            exact(&format!("{weights} prefill s{size}"), ours.inference_time, seconds);
        }
    }
}

/// Figure 11: as figure 7, decode of one sequence, shares of FP16 rounded to four decimals. The FP16 activations are
/// kept in every scheme.
#[test]
fn figure_11_is_what_a_quantized_cache_leaves_in_memory() {
    let Some(cases) = figure("survey_fig11_kv_quant_memory_llama2_13b_decode_b1") else { return };
    for (case, recorded) in cases {
        let (tokens, scheme) = case.split_once('|').unwrap();
        let run = |scheme| on_a6000(MAIN, 1, number(tokens, 's'), bits_of(scheme), false).decode_totals;
        memory(&case, &run(scheme), run("FP16").memory_consumption, &recorded, Some(4));
    }
}

/// Seconds of a phase under the tool's roofline, from its rows: layers and the head.
fn seconds(rows: &[OpRow], peak: f64, bandwidth: f64) -> f64 {
    let row = |row: &OpRow| {
        let times = if row.op == "lm_head" { 1.0 } else { LAYERS };
        times * (row.OPs / peak).max(row.memory_access / bandwidth)
    };
    rows.iter().map(row).sum()
}

/// Bytes of a phase, from its rows: layers and the head.
fn bytes(rows: &[OpRow]) -> f64 {
    rows.iter().map(|row| row.memory_access * if row.op == "lm_head" { 1.0 } else { LAYERS }).sum()
}

/// What flash attention saves in percent of (bytes, seconds), when it loads `share` of the keys and values that the
/// version says it loads.
fn saved(version: Version, batch: u32, tokens: u32, phase: &str, share: f64) -> (f64, f64) {
    let rows = |flash| {
        let analysis = on_a6000(version, batch, tokens, (16, 16, 16), flash);
        if phase == "decode" { analysis.decode } else { analysis.prefill }
    };
    let (plain, mut fused) = (rows(false), rows(true));
    for row in fused.iter_mut().filter(|row| row.op == "fused_attention") {
        row.memory_access -= (1.0 - share) * row.load_kv_cache;
    }
    let entry = table(version).into_iter().find(|entry| entry.name == A6000).unwrap();
    let percent = |now: f64, before: f64| 100.0 * (1.0 - now / before);
    (
        percent(bytes(&fused), bytes(&plain)),
        percent(seconds(&fused, entry.fp16, entry.bandwidth), seconds(&plain, entry.fp16, entry.bandwidth)),
    )
}

/// How many of a block's figures `version` prints, and how many there are.
fn figure_16(block: &str, version: Version, share: f64) -> Option<(usize, usize)> {
    let cases = figure("survey_fig16_flashattention_reduction_percent_llama2_13b_A6000")?;
    let (_, block) = cases.into_iter().find(|(name, _)| name == block).unwrap();
    let (mut equal, mut all) = (0, 0);
    for (case, phases) in block.as_object().unwrap() {
        let (batch, tokens) = batch_and_tokens(case);
        for (phase, expected) in phases.as_object().unwrap() {
            let (access, time) = saved(version, batch, tokens, phase, share);
            for (ours, expected) in [(access, &expected[0]), (time, &expected[1])] {
                all += 1;
                equal += usize::from(printed(ours, expected, 2));
            }
        }
    }
    assert_eq!(all, 20, "figures of the block");
    Some((equal, all))
}

/// Figure 16: what flash attention saves of the bytes and of the time, Llama-2-13b, 16 bits; `1 − flash/unfused`.
#[test]
fn figure_16_as_the_current_code_computes_it_is_reproduced() {
    let Some((equal, all)) = figure_16("1893e4b(current main)", MAIN, 1.0) else { return };
    assert_eq!(equal, all);
}

#[test]
fn figure_16_as_the_open_proposal_computes_it_is_reproduced() {
    let Some((equal, all)) = figure_16("pr27 formulas", Version::Pr27Df2cba9, 1.0) else { return };
    assert_eq!(equal, all);
}

/// The published figure comes from code before `472f71f`, which loaded the keys *or* the values (`load_kv_cache`
/// without its factor of two). Halving that one column of `472f71f`'s rows gives every published percentage; loading
/// both gives none of them. A decode step that seems to gain 12 to 38 % from flash attention (10,000 and 100,000
/// tokens) really gains 0.4 to 1.2 % (the proposal's formulas).
#[test]
fn figure_16_as_published_loads_keys_or_values_and_is_not_reproduced_by_loading_both() {
    let block = "published(pre-472f71f)";
    let Some((halved, all)) = figure_16(block, Version::Main472f71f, 0.5) else { return };
    assert_eq!(halved, all, "with half of the cache");
    for version in Version::ALL {
        assert_eq!(figure_16(block, version, 1.0).unwrap().0, 0, "{version} with all of the cache");
    }
}

/// Figure 18: ridges `peak/bandwidth` of the tool's table: the A6000's own memory, its compute behind a host's DDR5
/// (the 89.6 GB/s of the table's 13900k), and that processor on its own memory. The figure leaves out PCIe, which is
/// slower than the DDR behind it.
#[test]
fn figure_18_are_the_ridges_of_a_device_and_its_host() {
    let Some(cases) = figure("survey_fig18_offloading_ridges") else { return };
    let entry = |name: &str| table(MAIN).into_iter().find(|entry| entry.name == name).unwrap();
    let (gpu, host) = (entry(A6000), entry("intel_13900k"));
    assert_eq!(cases.len(), 3);
    for (case, recorded) in cases {
        let ridge = match case.as_str() {
            "GPU HBM ridge" => gpu.fp16 / gpu.bandwidth,
            "DDR(89.6GB/s)+GPU compute ridge" => gpu.fp16 / host.bandwidth,
            "DDR + CPU 13900k ridge" => host.fp16 / host.bandwidth,
            other => panic!("no ridge {other}"),
        };
        exact(&case, ridge, &recorded);
    }
}

/// Figure 19: a decode step of Llama-2-13b with everything in 8 bits (INT8 peak): latency, sequences over latency,
/// `memory_consumption`.
#[test]
fn figure_19_is_latency_throughput_and_memory_of_a_batch() {
    let Some(cases) = figure("survey_fig19_parallel_serving_llama2_13b_A6000_w8a8kv8") else { return };
    for (case, recorded) in cases {
        let (tokens, batch) = case.split_once('|').unwrap();
        let batch = number(batch, 'b');
        let ours = on_a6000(MAIN, batch, number(tokens, 's'), (8, 8, 8), false).decode_totals;
        exact(&format!("{case} latency"), ours.inference_time, &recorded["latency"]);
        let throughput = f64::from(batch) / ours.inference_time;
        exact(&format!("{case} throughput"), throughput, &recorded["throughput"]);
        exact(&format!("{case} memory"), ours.memory_consumption / 1e9, &recorded["memory_GB"]);
    }
}

/// Figure 20: a decode step of one sequence at 1,024 tokens, 16 bits, on a device of 200 TFLOP/s that no table has:
/// the rows' operations and bytes under the tool's roofline with the bandwidths of the figure (GB/s).
#[test]
fn figure_20_is_a_decode_step_over_the_bandwidth() {
    let Some(cases) = figure("survey_fig20_bandwidth_llama2_13b_decode_b1_s1024_200TFLOPS") else { return };
    let rows = on_a6000(MAIN, 1, 1024, (16, 16, 16), false).decode;
    for (bandwidth, recorded) in cases {
        let gb_s: f64 = bandwidth.parse().unwrap();
        exact(&format!("{bandwidth} GB/s"), seconds(&rows, 200e12, gb_s * 1e9), &recorded);
    }
}

/// Turning points (figures 5 and 6 follow from them): `peak/bandwidth` of every device of the tool's table. The file
/// also has a device `x` of 50 OP/B: no table of the tool has it, so its turning point cannot be derived from anything.
#[test]
fn turning_points_are_the_ridges_of_the_tools_table() {
    let Some(cases) = figure("turning_points_OPs_per_byte") else { return };
    let devices = table(MAIN);
    let known = cases.iter().filter(|(name, _)| name != "x").count();
    assert_eq!(known, devices.len(), "devices");
    for (name, peaks) in cases.iter().filter(|(name, _)| name != "x") {
        let device = devices.iter().find(|entry| entry.name == name).unwrap();
        exact(name, device.fp16 / device.bandwidth, &peaks["FP16"]);
        match device.int8 {
            Some(peak) => exact(name, peak / device.bandwidth, &peaks["INT8"]),
            None => assert!(peaks.get("INT8").is_none(), "{name} has an INT8 peak"),
        }
    }
}
