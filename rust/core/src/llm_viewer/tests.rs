//! Laws of the reproduction, and the refusals that reach a caller.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::table::Column;

const MODELS: [&str; 5] = ["llama", "opt", "chatglm", "gptj", "dit"];

/// A small model of a family: `heads` heads of 16 elements.
fn config(family: &str, heads: u32, layers: u32) -> Value {
    let hidden = heads * 16;
    match family {
        "llama" => json!({
            "model_type": "llama", "hidden_size": hidden, "num_attention_heads": heads,
            "num_key_value_heads": 1, "num_hidden_layers": layers, "intermediate_size": 3 * hidden,
            "vocab_size": 1000,
        }),
        "opt" => json!({
            "model_type": "opt", "hidden_size": hidden, "num_attention_heads": heads,
            "num_hidden_layers": layers, "ffn_dim": 4 * hidden, "vocab_size": 1000,
        }),
        "chatglm" => json!({
            "model_type": "chatglm", "hidden_size": hidden, "num_attention_heads": heads,
            "multi_query_group_num": 1, "num_layers": layers, "ffn_hidden_size": 3 * hidden,
            "padded_vocab_size": 1000,
        }),
        "gptj" => json!({
            "model_type": "gptj", "n_embd": hidden, "n_head": heads, "n_layer": layers, "vocab_size": 1000,
        }),
        _ => json!({"depth": layers, "hidden_size": hidden, "num_heads": heads, "mlp_ratio": 4.0}),
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-12 * a.abs().max(b.abs())
}

proptest! {
    #[test]
    fn totals_are_the_rows_times_the_layers_plus_the_head(
        family in prop::sample::select(&MODELS[..]),
        version in prop::sample::select(&Version::ALL[..]),
        heads in 1u32..64,
        layers in 1u32..100,
        batchsize in 1u32..300,
        seqlen in 1u32..9000,
        bits in prop::sample::select(&[4u32, 8, 16][..]),
        use_flashattention: bool,
    ) {
        let inputs = Inputs {
            batchsize, seqlen, w_bit: bits, a_bit: 16, kv_bit: bits, use_flashattention, tp_size: 1,
        };
        let analysis = analyze(version, &config(family, heads, layers), "h100", &inputs).unwrap();
        for (rows, totals) in
            [(&analysis.decode, &analysis.decode_totals), (&analysis.prefill, &analysis.prefill_totals)]
        {
            let times = |row: &OpRow| if row.op == "lm_head" { 1.0 } else { f64::from(layers) };
            let sum = |of: fn(&OpRow) -> f64| rows.iter().map(|row| of(row) * times(row)).sum::<f64>();
            prop_assert!(close(sum(|row| row.OPs), totals.OPs));
            prop_assert!(close(sum(|row| row.memory_access), totals.memory_access));
            prop_assert!(close(sum(|row| row.inference_time), totals.inference_time));
            let parts = totals.load_weight + totals.load_act + totals.store_act
                + totals.load_kv_cache + totals.store_kv_cache;
            prop_assert!(close(parts, totals.memory_access));
            let held = totals.memory_consumption_weight + totals.memory_consumption_kv_cache
                + totals.memory_consumption_tmp_act;
            prop_assert!(close(held, totals.memory_consumption));
        }
    }

    #[test]
    fn a_generation_is_its_prefill_and_every_decode_step(prompt in 1u32..50, steps in 0u32..20) {
        let config = config("llama", 4, 3);
        let at = |seqlen| {
            let inputs = Inputs { seqlen, ..Inputs::default() };
            analyze(Version::Main1893e4b, &config, "a40", &inputs).unwrap()
        };
        let prefill = at(prompt).prefill_totals.inference_time;
        let decode: f64 =
            (prompt..prompt + steps).map(|seqlen| at(seqlen).decode_totals.inference_time).sum();
        let inputs = Inputs::default();
        let generation =
            analyze_generate_task(Version::Main1893e4b, &config, "a40", &inputs, prompt, steps).unwrap();
        prop_assert_eq!(generation.prefill_time, prefill);
        prop_assert!(close(generation.inference_time, prefill + decode));
    }

    #[test]
    fn no_input_panics(
        family in prop::sample::select(&MODELS[..]),
        version in prop::sample::select(&Version::ALL[..]),
        numbers in prop::array::uniform6(prop_oneof![0u32..4, any::<u32>()]),
        hidden: u64,
        use_flashattention: bool,
    ) {
        let [batchsize, seqlen, w_bit, a_bit, kv_bit, tp_size] = numbers;
        let inputs = Inputs { batchsize, seqlen, w_bit, a_bit, kv_bit, use_flashattention, tp_size };
        let mut config = config(family, 4, 2);
        config["hidden_size"] = hidden.into();
        let _ = analyze(version, &config, "nvidia_V100", &inputs);
    }
}

#[test]
fn a_family_has_the_rows_of_its_module() {
    let rows = |family| {
        let analysis =
            analyze(Version::Main1893e4b, &config(family, 4, 2), "l40", &Inputs::default()).unwrap();
        analysis.prefill.iter().map(|row| row.op).collect::<Vec<_>>()
    };
    assert!(rows("opt").contains(&"gate_proj") && rows("chatglm").contains(&"gate_proj"));
    assert!(!rows("gptj").contains(&"gate_proj") && !rows("gptj").contains(&"mlp_norm"));
    assert!(!rows("dit").contains(&"gate_proj") && !rows("dit").contains(&"lm_head"));
}

#[test]
fn a_length_of_zero_is_the_tools_assertion() {
    let refusal =
        |inputs| analyze(Version::Main1893e4b, &config("opt", 4, 2), "a40", &inputs).unwrap_err().to_string();
    assert_eq!(
        refusal(Inputs { seqlen: 0, ..Inputs::default() }),
        "seqlen must be at least 1 (AssertionError: seqlen > 0): 0"
    );
    assert_eq!(
        refusal(Inputs { batchsize: 0, ..Inputs::default() }),
        "batchsize must be at least 1 (AssertionError: batchsize > 0): 0"
    );
}

#[test]
fn kv_of_zero_bits_is_the_tools_zero_division() {
    let inputs = Inputs { kv_bit: 0, use_flashattention: true, ..Inputs::default() };
    let error = analyze(Version::Main1893e4b, &config("opt", 4, 2), "a40", &inputs).unwrap_err();
    assert_eq!(
        error.to_string(),
        "kv_bit must give a head's row of KV at least one byte (ZeroDivisionError: float division by zero): 0"
    );
}

#[test]
fn a_refusal_of_the_hardware_reaches_the_caller() {
    let inputs = Inputs { w_bit: 8, a_bit: 8, kv_bit: 8, ..Inputs::default() };
    let refused =
        |name| analyze(Version::Main1893e4b, &config("opt", 4, 2), name, &inputs).unwrap_err().to_string();
    assert!(refused("intel_13900k").contains("KeyError: 'INT8'"));
    assert_eq!(refused("nvidia_B200"), "no LLM-Viewer hardware is called `nvidia_B200`");
}

#[test]
fn flash_attention_reads_the_cache_once_a_query_head_before_the_fix() {
    let inputs = Inputs { seqlen: 100, use_flashattention: true, ..Inputs::default() };
    let kv_read = |version| {
        let analysis = analyze(version, &config("llama", 4, 2), "a40", &inputs).unwrap();
        analysis.decode.iter().map(|row| row.load_kv_cache).sum::<f64>()
    };
    assert_eq!(kv_read(Version::Main472f71f), 4.0 * kv_read(Version::Main1893e4b));
}

#[test]
fn tables_have_the_tools_names_and_one_row_an_operator() {
    let analysis = analyze(Version::Main1893e4b, &config("llama", 4, 2), "a40", &Inputs::default()).unwrap();
    let ops = analysis.ops_table();
    let names: Vec<&str> = ops.columns().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "phase",
            "op",
            "OPs",
            "memory_access",
            "arithmetic_intensity",
            "performance",
            "bound",
            "load_weight",
            "load_act",
            "store_act",
            "load_kv_cache",
            "store_kv_cache",
            "inference_time",
        ]
    );
    assert_eq!(ops.len(), analysis.decode.len() + analysis.prefill.len());
    let totals = analysis.totals_table();
    assert_eq!((totals.len(), totals.columns().len()), (2, 13));
    let generation = ViewerGeneration { inference_time: 2.0, prefill_time: 1.0 };
    assert_eq!(generation.totals_table().column("prefill_time"), Some(&Column::F64(vec![1.0])));
}
