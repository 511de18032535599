//! Effects that papers report, within the conditions they report them for.

use roofline_core::catalog;
use roofline_core::model::Part;
use roofline_core::model::parameters::layer_parameters;

use super::toy::*;

fn share_of_the_ffn(name: &str) -> f64 {
    let model = catalog::models::model(name).unwrap();
    let ffn: u64 = model
        .layers
        .iter()
        .map(|group| group.count * layer_parameters(group, model.hidden, Part::Dense))
        .sum();
    ffn as f64 / model.parameters() as f64
}

#[test]
fn ffns_hold_most_of_the_weights() {
    assert!((share_of_the_ffn("llama-2-7b") - 0.64).abs() < 0.005);
    assert!((share_of_the_ffn("llama-3.1-70b") - 0.80).abs() < 0.005);
}

#[test]
fn contextual_sparsity_of_80_percent_more_than_halves_a_decode_step() {
    // Deja Vu: OPT-175B on A100s, batch 1; here OPT-66B on four, the same 80 % of heads and neurons.
    let point = decode(1, 1024);
    let dense = known("opt-66b", "a100-80gb-sxm", "parallel:tp=4", &point);
    let sparse = known(
        "opt-66b",
        "a100-80gb-sxm",
        "parallel:tp=4 + contextual-sparsity:active=0.2,predictor=1024",
        &point,
    );
    assert!(seconds(&dense) / seconds(&sparse) > 2.0, "{}", seconds(&dense) / seconds(&sparse));
}

#[test]
fn flash_attention_saves_little_of_a_decode_step() {
    // Figure 16 of the survey, corrected: 0.05 to 1.2 % of the time, not 12 to 38 %.
    for keys in [1_000, 10_000, 100_000] {
        let fused = known("llama-2-13b", "a6000", "none", &decode(1, keys));
        let apart = known("llama-2-13b", "a6000", "flash:attention=off", &decode(1, keys));
        let saved = 100.0 * (1.0 - seconds(&fused) / seconds(&apart));
        assert!((0.04..1.25).contains(&saved), "{keys} tokens: {saved} %");
    }
}

#[test]
fn kv_outweighs_weights_beyond_31_777_tokens() {
    // Llama-2-13B in fp16: 13,015,864,320 parameters of 2 bytes, 819,200 bytes a token.
    let step = known("llama-2-13b", "a100-80gb-sxm", "none", &decode(1, 31_778));
    let memory = &step.outcome.memory;
    assert!(memory.kv > memory.weights, "{} {}", memory.kv, memory.weights);
    let step = known("llama-2-13b", "a100-80gb-sxm", "none", &decode(1, 31_776));
    assert!(step.outcome.memory.kv < step.outcome.memory.weights);
}

#[test]
fn speculation_pays_for_one_sequence_and_loses_in_a_batch_of_experts() {
    let gain = |model: &str, batch: u64| {
        let plain = tpot(&known(model, "h200-sxm", "parallel:tp=2", &decode(batch, 1000)));
        let with = "parallel:tp=2 + spec:method=eagle,gamma=4,accept=0.6";
        plain / tpot(&known(model, "h200-sxm", with, &decode(batch, 1000)))
    };
    assert!(gain("llama-3.1-70b", 1) > 1.8);
    // Five tokens touch more experts than one
    assert!(gain("mixtral-8x7b", 1) < gain("llama-3.1-70b", 1));
    assert!(gain("llama-3.1-70b", 512) < 1.0);
}

#[test]
fn speculation_brings_a_geometric_sum_of_tokens_and_takes_a_draft_each() {
    // Leviathan et al. (arXiv 2211.17192), equation 1, (1 − α^(γ+1))/(1 − α) tokens a step; and γ·draft + target(γ + 1),
    // the walltime of their theorem 3.8, of a step that verifies γ + 1 tokens.
    for (accept, gamma) in [(0.3, 1), (0.6, 4), (0.75, 5), (0.9, 8)] {
        let with = format!("spec:method=draft-model,draft=llama-3.2-1b,gamma={gamma},accept={accept}");
        let step = known("llama-3.1-70b", "h200-sxm", &format!("parallel:tp=2 + {with}"), &decode(4, 1000));
        let tokens = (1.0 - f64::powi(accept, gamma + 1)) / (1.0 - accept);
        is(seconds(&step) / tpot(&step), tokens);
        let verified = format!("parallel:tp=2 + spec:method=ngram,gamma={gamma},accept={accept}");
        let target = seconds(&known("llama-3.1-70b", "h200-sxm", &verified, &decode(4, 1000)));
        let draft = (0..gamma)
            .map(|drafted| decode(4, 1000 + drafted as u64))
            .map(|point| seconds(&known("llama-3.2-1b", "h200-sxm", "parallel:tp=2", &point)));
        let (expected, taken) = (target + draft.sum::<f64>(), seconds(&step));
        // The draft's own bookkeeping of a token or two of cache is all that is left over
        assert!((taken / expected - 1.0).abs() < 2e-3, "{taken} should be {expected}");
    }
}

#[test]
fn blocks_of_16_waste_less_than_4_percent_of_what_conversations_hold() {
    // PagedAttention (arXiv 2309.06180, §2 and figure 2): under 4 %, where reserving 2,048 tokens wastes 60 to 80 %. The
    // lengths of its ShareGPT trace: some 500 tokens on average, here spread evenly over 16 to 1,016.
    let held = |with: &str| -> f64 {
        (0..201)
            .map(|each| known("opt-13b", "a100-40gb-sxm", with, &decode(1, 16 + 5 * each)).outcome.memory.kv)
            .sum()
    };
    let used = held("paging:block=1");
    let wasted = |with: &str| 1.0 - used / held(with);
    assert!(wasted("paging:block=16") < 0.04, "{}", wasted("paging:block=16"));
    let reserved = wasted("paging:contiguous=2048");
    assert!((0.6..0.8).contains(&reserved), "{reserved}");
}

#[test]
fn a_window_frees_the_cache_of_long_contexts() {
    // Mistral's window of 4,096 at 32,768 tokens: an eighth of the cache (arXiv 2310.06825).
    let full = known("llama-3.1-8b", "h100-sxm", "none", &decode(1, 32_768)).outcome.memory.kv;
    let window = known("llama-3.1-8b", "h100-sxm", "attention:kind=window,window=4096", &decode(1, 32_768))
        .outcome
        .memory
        .kv;
    is(full / window, 8.0);
}

#[test]
fn fewer_weight_bits_turn_compute_bound_at_smaller_batches() {
    // b* = P·bits/(16·B): A6000 (154.8 TFLOP/s, 768 GB/s) 202/101/50/25/13 tokens for 16/8/4/2/1 bits. With the activations
    // of gate and up, 5120 × 27,648 of 2 bytes, b·2mn/P = (mn·bits/8 + 2b(m+n))/B: a few tokens more.
    let (m, n, peak, bandwidth) = (5120.0, 27_648.0, 154.8e12, 768e9);
    for (bits, rounded) in [(16u64, 202.0), (8, 101.0), (4, 50.0), (2, 25.0), (1, 13.0)] {
        let bits_of_weight = bits as f64;
        assert_eq!((peak * bits_of_weight / 16.0 / bandwidth).round(), rounded);
        let turns =
            m * n * bits_of_weight / 8.0 / bandwidth / (2.0 * m * n / peak - 2.0 * (m + n) / bandwidth);
        assert!(turns > rounded - 1.0 && turns < 1.06 * rounded, "{turns}");
        let with = format!("weight-quant:bits={bits},dequant=off");
        let bound = |tokens: f64| {
            let step = known("llama-2-13b", "a6000", &with, &decode(tokens as u64, 2));
            op(&step, "gate_up_proj").bound
        };
        use roofline_core::roof::Bound;
        assert_eq!((bound(turns.floor()), bound(turns.ceil())), (Some(Bound::Memory), Some(Bound::Compute)));
    }
}
