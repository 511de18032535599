//! Latent attention (MLA) under techniques: DeepSeek-V3 has 61 layers of 128 heads, a latent of 512 and 64 rotary numbers,
//! heads of 128 + 64 keys and 128 values.

use super::toy::*;
use roofline_core::analysis::Analysis;
use roofline_core::point::Point;

const LAYERS: f64 = 61.0;
/// Bytes of a token in a layer's cache.
const KEY: f64 = 576.0 * 2.0;
/// FLOPs of a pair in the latent space, over the 16 heads of one of eight devices.
const PAIR: f64 = 2.0 * 16.0 * (576.0 + 512.0);

fn deepseek(model: &str, with: &str, point: &Point) -> Analysis {
    known(model, "h200-sxm", &format!("parallel:tp=8 + {with}"), point)
}

#[test]
fn sparse_latent_attention_is_that_of_the_model_which_has_it() {
    let sparse = "attention:kind=sparse,top-k=2048,index-heads=64,index-dim=128";
    for point in [decode(4, 9001), prefill(2, 5000), mixed(3, 4001, 512)] {
        let what_if = deepseek("deepseek-v3", sparse, &point);
        let own = deepseek("deepseek-v3.2", "none", &point);
        is(seconds(&what_if), seconds(&own));
        is(what_if.outcome.memory.kv, own.outcome.memory.kv);
        is(what_if.outcome.memory.weights, own.outcome.memory.weights);
        is(op(&what_if, "indexer").work.kv_bytes, op(&own, "indexer").work.kv_bytes);
    }
}

#[test]
fn a_window_over_latents_is_all_that_is_read_and_kept() {
    for with in ["attention:kind=window,window=1000,sinks=4", "kv-evict:window=1000,sinks=4"] {
        let step = deepseek("deepseek-v3", with, &decode(2, 8001));
        let attention = op(&step, "mla_decode[window 1004]");
        is(attention.work.kv_bytes, LAYERS * KEY * 2.0 * (1004.0 + 1.0));
        is(attention.work.flops, LAYERS * PAIR * 2.0 * 1004.0);
        is(step.outcome.memory.kv, LAYERS * KEY * 2.0 * 1004.0);
        // 1004·1005/2 pairs of the first tokens, 1004 of each of the 1996 others, 2·16·(192 + 128) FLOPs each
        let prompt = deepseek("deepseek-v3", with, &prefill(1, 3000));
        let pairs = 1004.0 * 1005.0 / 2.0 + 1996.0 * 1004.0;
        is(op(&prompt, "mla_prefill[window 1004]").work.flops, LAYERS * 2.0 * 16.0 * 320.0 * pairs);
    }
    // A chunk behind 8000 cached tokens expands those within its window: 1003 of them and its own 500
    let chunk = Point { prefix_len: 8000, ..prefill(1, 500) };
    let step = deepseek("deepseek-v3", "kv-evict:window=1000,sinks=4", &chunk);
    is(op(&step, "kv_b_proj").work.flops, LAYERS * 2.0 * 1503.0 * 512.0 * 16.0 * 256.0);
}

#[test]
fn a_window_as_long_as_the_context_over_latents_costs_what_none_does() {
    for point in [decode(4, 3001), prefill(2, 3000)] {
        let whole = deepseek("deepseek-v3", "none", &point);
        let window = deepseek("deepseek-v3", "attention:kind=window,window=3001", &point);
        is(seconds(&window), seconds(&whole));
        is(window.outcome.memory.kv, whole.outcome.memory.kv);
    }
    // All are chosen, and nothing is paid for the choice
    let chosen = deepseek("deepseek-v3", "attention:kind=sparse,top-k=3001,index-heads=0", &decode(4, 3001));
    is(seconds(&chosen), seconds(&deepseek("deepseek-v3", "none", &decode(4, 3001))));
}

#[test]
fn drafts_of_latent_attention_with_a_window_see_everything() {
    let step = deepseek(
        "deepseek-v3",
        "kv-evict:window=1000 + spec:method=mtp,gamma=1,accept=0.5",
        &decode(2, 8001),
    );
    is(op(&step, "draft.mla_decode").work.kv_bytes, KEY * 2.0 * (8001.0 + 1.0));
}

#[test]
fn what_latent_attention_has_no_form_of_is_refused() {
    let ask = |model: &str, with: &str| {
        let model = roofline_core::catalog::models::model(model).unwrap();
        ask(deployment(model, device()), with, &decode(1, 1000)).unwrap_err()
    };
    for kind in ["nsa", "linear"] {
        let error = ask("deepseek-v3", &format!("attention:kind={kind}"));
        let must = "attention:kind must be one that latent attention has a form of: deepseek-v3";
        assert_eq!((error.to_string().as_str(), error.hint().as_str()), (must, "use window or sparse"));
    }
    let error = ask("deepseek-v3.2", "attention:kind=window");
    assert_eq!(
        error.to_string(),
        "attention:kind must be used on a model with full causal attention: deepseek-v3.2"
    );
    let error = ask("llama-3.1-8b", "attention:kind=window,window=9 + kv-evict:window=5");
    assert_eq!(
        error.to_string(),
        "kv-evict:window must be used where layers see every token before them: llama-3.1-8b"
    );
    assert_eq!(
        error.hint(),
        "the model, or another technique, gives each of them a window or a choice already"
    );
}
