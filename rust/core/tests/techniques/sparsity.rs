//! Pruning, low rank, adapters, early exit, contextual sparsity, experts: worked out by hand on the toy.

use super::toy::*;

#[test]
fn zeros_are_not_stored_but_their_neighbours_are_indexed() {
    let step = run("sparsity:zeros=0.5,index=16", &decode(1, 1000));
    // 32 M weights, half of them, 16 + 16 bits each: as much as before
    is(op(&step, "gate_up_proj").work.weight_bytes, 64e6);
    let step = run("sparsity:zeros=0.8,index=8", &decode(1, 1000));
    // 32 M · 0.2 · 24/8
    is(op(&step, "gate_up_proj").work.weight_bytes, 19.2e6);
}

#[test]
fn a_bitmap_costs_a_bit_a_weight() {
    let step = run("sparsity:zeros=0.5,format=bitmap", &decode(1, 1000));
    // 32 M · (0.5·16 + 1)/8
    is(op(&step, "gate_up_proj").work.weight_bytes, 36e6);
}

#[test]
fn unstructured_zeros_are_multiplied_all_the_same() {
    let step = run("sparsity:zeros=0.9,index=8", &prefill(1, 2000));
    is(op(&step, "gate_up_proj").ideal, 1280e-6);
}

#[test]
fn two_of_four_keep_nine_sixteenths() {
    let step = run("n-m:n=2,m=4", &decode(1, 1000));
    // 32 M · 1/2 · (16 + 2)/8
    is(op(&step, "gate_up_proj").work.weight_bytes, 36e6);
    let step = run("n-m:n=2,m=4", &prefill(1, 2000));
    // 4 · 2 · 2000 · 8e6 at the sparse 200 T/s
    is(op(&step, "gate_up_proj").ideal, 640e-6);
}

#[test]
fn a_place_among_five_takes_three_bits() {
    // 2 of 5 numbers of 16 bits with ⌈log₂ 5⌉ = 3 bits each: 2/5 · 19/16
    is(op(&run("n-m:n=2,m=5", &decode(1, 1000)), "gate_up_proj").work.weight_bytes, 64e6 * 0.4 * 19.0 / 16.0);
}

#[test]
fn other_patterns_gain_in_memory_alone() {
    let step = run("n-m:n=1,m=8", &prefill(1, 2000));
    // 32 M · 1/8 · (16 + 3)/8
    is(op(&step, "gate_up_proj").work.weight_bytes, 9.5e6);
    is(op(&step, "gate_up_proj").ideal, 1280e-6);
}

#[test]
fn quantized_two_of_four_gain_a_quarter() {
    let step = run("weight-quant:bits=4 + n-m:n=2,m=4", &decode(1, 1000));
    // 32 M · 1/2 · (4 + 2)/8 instead of 16 MB
    is(op(&step, "gate_up_proj").work.weight_bytes, 12e6);
}

#[test]
fn a_student_is_asked_in_the_cache_format_that_was_asked_for() {
    use roofline_core::precision::{Precision, Request};
    let (teacher, student) = ("llama-3.1-8b", "llama-3.2-1b");
    let ask = |model: &str, with: &str| {
        let model = roofline_core::catalog::models::model(model).unwrap();
        let request = Request { kv_cache_dtype: Some("fp8".to_string()), ..Request::default() };
        let precision = Precision::resolve(&model, &request).unwrap();
        let hardware = roofline_core::catalog::hardware::hardware("h100-sxm").unwrap().item;
        let asked = roofline_core::step::Deployment { precision, ..deployment(model, hardware) };
        super::toy::ask(asked, with, &decode(4, 1000)).unwrap().outcome.memory.kv
    };
    is(ask(teacher, &format!("distill:student={student}")), ask(student, "none"));
}

#[test]
fn pruned_channels_and_heads_are_gone() {
    let step = run("prune:ffn=0.5,heads=0.5", &decode(1, 1000));
    // I = 2000: 4 · 1000 · 4000 · 2 bytes
    is(op(&step, "gate_up_proj").work.weight_bytes, 32e6);
    // 5 + 2 heads of 100 out of 1000: 4 · 1000 · 700 · 2
    is(op(&step, "qkv_proj").work.weight_bytes, 5.6e6);
    // One KV head: 4 · 200 · 2 bytes a token
    is(step.outcome.memory.kv, 1000.0 * 1600.0);
}

#[test]
fn pruned_layers_are_gone() {
    let step = run("prune:layers=0.75", &decode(1, 1000));
    is(op(&step, "gate_up_proj").repeat, 3.0);
    is(step.outcome.memory.kv, 1000.0 * 2400.0);
}

#[test]
fn a_student_answers_for_its_teacher() {
    let point = decode(4, 1000);
    let student = known("llama-3.1-8b", "h100-sxm", "distill:student=llama-3.2-1b", &point);
    is(seconds(&student), seconds(&known("llama-3.2-1b", "h100-sxm", "none", &point)));
}

#[test]
fn a_low_rank_makes_two_thin_matrices() {
    let step = run("low-rank:rank=100,parts=ffn", &decode(10, 1000));
    // Down: 4000 × 100 and 100 × 1000, 4 layers, 2 bytes
    is(op(&step, "down_proj[a]").work.weight_bytes, 3.2e6);
    is(op(&step, "down_proj[b]").work.weight_bytes, 0.8e6);
    // 2 · 10 · 100 · (4000 + 1000) · 4 FLOPs together
    is(op(&step, "down_proj[a]").work.flops + op(&step, "down_proj[b]").work.flops, 40e6);
    // Attention stays: 4 · 1.4 M · 2
    is(op(&step, "qkv_proj").work.weight_bytes, 11.2e6);
}

#[test]
fn what_passes_between_the_factors_is_moved_unless_it_is_fused() {
    let step = run("fusion:level=none + low-rank:rank=100,parts=ffn", &decode(10, 1000));
    // 10 tokens: 4000 read and 100 written; 100 read and 1000 written; 4 layers, 2 bytes
    is(op(&step, "down_proj[a]").work.activation_bytes, 10.0 * 4100.0 * 8.0);
    is(op(&step, "down_proj[b]").work.activation_bytes, 10.0 * 1100.0 * 8.0);
}

#[test]
fn an_adapter_is_a_thin_pair_beside_its_weight() {
    let step = run("lora:rank=10", &decode(1, 1000));
    let adapter = op(&step, "lora[gate_up_proj]");
    // A pair each for gate and up, 10 · (1000 + 4000) numbers: 2 FLOPs and 2 bytes each, 4 layers
    is(adapter.work.flops, 800e3);
    is(adapter.work.weight_bytes, 800e3);
    // q, k and v: 10 · (3 · 1000 + 1400); o and down are one module each
    is(op(&step, "lora[qkv_proj]").work.weight_bytes, 44e3 * 8.0);
    is(op(&step, "lora[o_proj]").work.weight_bytes, 20e3 * 8.0);
    is(op(&step, "lora[down_proj]").work.weight_bytes, 50e3 * 8.0);
}

#[test]
fn adapters_have_as_many_parameters_as_peft_gives_them() {
    // PEFT prints "trainable params: 41,943,040" for rank 16 on all linear layers of Llama-3.1-8B: a layer has
    // q 16·(4096+4096), k and v 16·(4096+1024), o 16·(4096+4096), gate, up and down 16·(4096+14,336)
    let memory =
        |model: &str, with: &str| known(model, "h100-sxm", with, &decode(1, 1000)).outcome.memory.weights;
    let added = |model: &str, with: &str| memory(model, with) - memory(model, "none");
    is(added("llama-3.1-8b", "lora:rank=16"), 41_943_040.0 * 2.0);
    // Llama-2-7B with q, k, v and o alone: 32 layers · 4 · 8 · 8192
    is(added("llama-2-7b", "lora:rank=8,parts=attention"), 32.0 * 4.0 * 8.0 * 8192.0 * 2.0);
    // MLA's compressions of queries and of keys are two modules: 61 layers · 16 · (2·7168 + 1536 + 576) and the others,
    // 1536 + 128·192 and 128·128 + 7168
    let latent = 16.0 * (2.0 * 7168.0 + 2112.0 + 1536.0 + 24_576.0 + 16_384.0 + 7168.0);
    is(added("deepseek-v3", "lora:rank=16,parts=attention"), 61.0 * latent * 2.0);
}

#[test]
fn each_device_keeps_the_whole_first_factor_of_what_it_cuts_by_columns() {
    let step = run("parallel:tp=2 + lora:rank=10", &decode(1, 1000));
    // 10 · (3 · 1000 + 700), and of a matrix cut by rows 10 · (500 + 1000)
    is(op(&step, "lora[qkv_proj]").work.weight_bytes, 37e3 * 8.0);
    is(op(&step, "lora[o_proj]").work.weight_bytes, 15e3 * 8.0);
    // A rank may be larger than what is left of a side on a device: 10 heads of 100 over 2
    is(
        op(&run("parallel:tp=2 + lora:rank=600", &decode(1, 1000)), "lora[o_proj]").work.weight_bytes,
        900e3 * 8.0,
    );
}

#[test]
fn an_adapter_stands_beside_a_factored_matrix_not_beside_its_factors() {
    let step = run("low-rank:rank=100 + lora:rank=10", &decode(1, 1000));
    is(op(&step, "lora[qkv_proj]").work.weight_bytes, 44e3 * 8.0);
    assert!(step.ops.iter().all(|op| !op.name.starts_with("lora[qkv_proj[")));
}

#[test]
fn distinct_adapters_of_a_batch_are_each_read() {
    let step = run("lora:rank=10,adapters=4", &decode(2, 1000));
    // Two sequences choose among 4: 4·(1 − (3/4)²) = 1.75 adapters on average
    is(op(&step, "lora[gate_up_proj]").work.weight_bytes, 800e3 * 1.75);
    // A prompt of any length chooses once
    let step = run("lora:rank=10,adapters=4", &prefill(1, 500));
    is(op(&step, "lora[gate_up_proj]").work.weight_bytes, 800e3);
}

#[test]
fn adapters_lie_in_memory() {
    let memory = |with: &str| run(with, &decode(1, 1000)).outcome.memory.weights;
    // A layer: 10 · (4400 + 2000 + 10,000 + 5000) = 214,000 numbers; 4 layers, 2 bytes, 20 adapters
    is(memory("lora:rank=10,adapters=20") - memory("none"), 214e3 * 8.0 * 20.0);
    is(memory("lora:rank=10,adapters=20,resident=5") - memory("none"), 214e3 * 8.0 * 5.0);
}

#[test]
fn half_of_the_tokens_leave_at_half_of_the_depth() {
    let step = run("early-exit:at=0.5,share=0.5,kv=skip", &decode(2, 1000));
    // Two layers as they were: 2 · 16 MB; behind, 2 · 16 MB are read unless both have left: 1 − 0.5²
    is(op(&step, "gate_up_proj").work.weight_bytes, 32e6);
    is(op(&step, "gate_up_proj[50% of tokens]").work.weight_bytes, 24e6);
    // 2 tokens: 2 · 2 · 2 · 8e6, behind half as many
    is(op(&step, "gate_up_proj").work.flops, 64e6);
    is(op(&step, "gate_up_proj[50% of tokens]").work.flops, 32e6);
}

#[test]
fn skipped_layers_get_keys_and_values() {
    let step = run("early-exit:at=0.5,share=0.5,kv=fill", &decode(2, 1000));
    // One of two tokens: 2 layers · 2 · 1000 · 400
    is(op(&step, "kv_fill").work.flops, 1.6e6);
    // Their weights (2 layers · 800 kB) are read apart only where both have left: 1/4
    is(op(&step, "kv_fill").work.weight_bytes, 400e3);
    // 1000 numbers enter and 400 leave, 2 bytes each
    is(op(&step, "kv_fill").work.activation_bytes, 2.0 * 1400.0 * 2.0);
    // A quarter that leaves is everybody of two in one step of sixteen
    let fewer = run("early-exit:at=0.5,share=0.25,kv=fill", &decode(2, 1000));
    is(op(&fewer, "kv_fill").work.weight_bytes, 100e3);
    // Keys are read for one of two sequences, written for both: 2 layers · (1000 + 2) · 800
    is(op(&step, "attention[50% of tokens]").work.kv_bytes, 2.0 * 1002.0 * 800.0);
}

#[test]
fn experts_behind_an_exit_are_visited_by_those_who_stayed() {
    // A token stays with 1/2 and visits an expert with 2/8: two tokens leave one alone with (7/8)²
    let step = run_moe("early-exit:at=0.5,share=0.5", &decode(2, 1000));
    let behind = op(&step, "experts_gate_up[50% of tokens]");
    is(behind.work.weight_bytes, 2.0 * 8.0 * (1.0 - 0.875f64.powi(2)) * 16e6);
}

#[test]
fn prompts_need_the_layers_that_tokens_have_left() {
    // 100 tokens of a prompt beside 2 that decode, of which 1 has left
    let step = run("early-exit:at=0.5,share=0.5,kv=skip", &mixed(2, 1000, 100));
    let behind = op(&step, "gate_up_proj[50% of tokens]");
    is(behind.work.weight_bytes, 32e6);
    is(behind.work.flops, 2.0 * 2.0 * 8e6 * 101.0);
    // 9000 numbers of 2 bytes go in and out for each of 101 tokens
    is(behind.work.activation_bytes, 2.0 * 9000.0 * 2.0 * 101.0);
    // A layer writes and reads 100 keys of the prompt, reads 1000 of one sequence and writes its token: 800 bytes each
    is(op(&step, "attention[50% of tokens]").work.kv_bytes, 2.0 * 800.0 * (200.0 + 1001.0));
    // With keys and values filled in: 1000 × 400 of the projection for the one that left, and its token written
    let step = run("early-exit:at=0.5,share=0.5,kv=fill", &mixed(2, 1000, 100));
    is(op(&step, "qkv_proj[50% of tokens]").work.flops, 2.0 * (2.0 * 1.4e6 * 101.0 + 2.0 * 4e5));
    is(op(&step, "attention[50% of tokens]").work.kv_bytes, 2.0 * 800.0 * (200.0 + 1002.0));
    assert!(step.ops.iter().all(|op| op.name != "kv_fill"));
}

#[test]
fn filling_in_a_factored_projection_takes_its_factors() {
    // Rank 100: 1000 × 100, then 100 × 1400, of which 400 are keys and values
    let step = run("early-exit:at=0.5,share=0.5 + low-rank:rank=100", &decode(2, 1000));
    let fills: f64 = step.ops.iter().filter(|op| op.name == "kv_fill").map(|op| op.work.flops).sum();
    is(fills, 2.0 * 2.0 * (100e3 + 40e3));
}

#[test]
fn an_exit_may_need_the_head() {
    let step = run("early-exit:at=0.5,share=0.5,head=lm", &decode(2, 1000));
    is(op(&step, "exit_head[0.5]").work.weight_bytes, 20e6);
}

#[test]
fn a_token_reads_its_active_neurons_and_a_batch_their_union() {
    let step = run("contextual-sparsity:active=0.2", &decode(1, 1000));
    is(op(&step, "gate_up_proj").work.weight_bytes, 0.2 * 64e6);
    is(op(&step, "gate_up_proj").work.flops, 0.2 * 64e6);
    let step = run("contextual-sparsity:active=0.2", &decode(3, 1000));
    // 1 − 0.8³ = 0.488
    is(op(&step, "gate_up_proj").work.weight_bytes, 0.488 * 64e6);
}

#[test]
fn a_predictor_costs_its_rank() {
    let step = run("contextual-sparsity:active=0.2,parts=ffn,predictor=100", &decode(1, 1000));
    // 4 layers · 100 · (1000 + 4000) numbers of 2 bytes: gate and up have the same 4000 neurons
    is(op(&step, "predictor[gate_up_proj]").work.weight_bytes, 4e6);
    is(op(&step, "predictor[gate_up_proj]").work.flops, 4.0 * 2.0 * 5e5);
    // Llama-2-7B: 32 layers · 1024 · (4096 + 11,008)
    let llama =
        known("llama-2-7b", "a100", "contextual-sparsity:active=0.2,predictor=1024", &decode(1, 1000));
    is(op(&llama, "predictor[gate_up_proj]").work.weight_bytes, 32.0 * 1024.0 * 15_104.0 * 2.0);
    // Without a gate, OPT-6.7B: 32 layers · 1024 · (4096 + 16,384)
    let opt = known("opt-6.7b", "a100", "contextual-sparsity:active=0.2,predictor=1024", &decode(1, 1000));
    is(op(&opt, "predictor[up_proj]").work.weight_bytes, 32.0 * 1024.0 * 20_480.0 * 2.0);
}

#[test]
fn heads_are_predicted_one_by_one() {
    let step = run("contextual-sparsity:active=0.2,parts=attention,predictor=100", &decode(1, 1000));
    // 4 layers · 100 · (1000 + 10 heads) numbers of 2 bytes, not 1400 columns
    is(op(&step, "predictor[qkv_proj]").work.weight_bytes, 4.0 * 100.0 * 1010.0 * 2.0);
    is(op(&step, "predictor[qkv_proj]").work.flops, 4.0 * 2.0 * 100.0 * 1010.0);
    // OPT-66B (Deja Vu's own example of the kind): 64 layers · 1024 · (9216 + 72)
    let opt = known("opt-66b", "a100", "contextual-sparsity:active=0.2,predictor=1024", &decode(1, 1000));
    is(op(&opt, "predictor[qkv_proj]").work.weight_bytes, 64.0 * 1024.0 * 9288.0 * 2.0);
    // Under tensor parallelism a device has half of the heads, and reads the first factor whole
    let half =
        run("parallel:tp=2 + contextual-sparsity:active=0.2,parts=attention,predictor=100", &decode(1, 1000));
    is(op(&half, "predictor[qkv_proj]").work.weight_bytes, 4.0 * 100.0 * 1005.0 * 2.0);
}

#[test]
fn keys_of_heads_that_nobody_asks_are_not_read() {
    // Every head has keys of its own: 32 heads of 128, of which a fifth is asked; 1000 keys read and one written
    let (dense, step) = (
        known("llama-2-7b", "a100", "none", &decode(4, 1000)),
        known("llama-2-7b", "a100", "contextual-sparsity:active=0.2", &decode(4, 1000)),
    );
    is(op(&step, "attention").work.kv_bytes, 0.2 * op(&dense, "attention").work.kv_bytes);
    is(op(&step, "attention").work.flops, 0.2 * op(&dense, "attention").work.flops);
    is(op(&step, "attention").work.activation_bytes, 0.2 * op(&dense, "attention").work.activation_bytes);
    // The toy's 5 query heads share a KV head, which is read unless none of them is asked: 1 − 0.8⁵ = 0.67232
    let step = run("contextual-sparsity:active=0.2,parts=attention", &decode(10, 1000));
    is(op(&step, "attention").work.kv_bytes, 0.67232 * 4.0 * 800.0 * 10_010.0);
    is(op(&step, "attention").work.flops, 0.2 * 4.0 * 4000.0 * 10_000.0);
    // Projected: 1000 columns of queries, 400 of keys and values
    let one = run("contextual-sparsity:active=0.2,parts=attention", &decode(1, 1000));
    is(op(&one, "qkv_proj").work.weight_bytes, 4.0 * 2000.0 * (0.2 * 1000.0 + 0.67232 * 400.0));
    is(op(&one, "o_proj").work.weight_bytes, 0.2 * 8e6);
    // The cache keeps every token, and an FFN's neurons have no keys
    is(one.outcome.memory.kv, run("none", &decode(1, 1000)).outcome.memory.kv);
    let neurons = run("contextual-sparsity:active=0.2,parts=ffn", &decode(10, 1000));
    is(op(&neurons, "attention").work.kv_bytes, 4.0 * 800.0 * 10_010.0);
}

#[test]
fn drafts_ask_for_heads_of_their_own() {
    // Three tokens of a sequence and 5 query heads a KV head: nobody of 15 asks with 0.8^15; 1000 + 3 keys, 3 written
    let step = run("contextual-sparsity:active=0.2 + spec:method=ngram,gamma=2,accept=0.5", &decode(2, 1001));
    let asked = 1.0 - 0.8f64.powi(15);
    is(op(&step, "attention").work.kv_bytes, asked * 4.0 * 800.0 * 2.0 * (1003.0 + 3.0));
}

#[test]
fn heads_over_a_common_latent_share_its_bytes() {
    let ask =
        |with: &str| known("deepseek-v3", "h200-sxm", &format!("parallel:tp=8{with}"), &decode(2, 1000));
    let (dense, step) = (ask(""), ask(" + contextual-sparsity:active=0.25,parts=attention"));
    // 128 heads read one latent: nobody reads it with 0.75^128, one in 10^16
    is(op(&step, "mla_decode").work.kv_bytes, op(&dense, "mla_decode").work.kv_bytes);
    is(op(&step, "mla_decode").work.flops, 0.25 * op(&dense, "mla_decode").work.flops);
    // The compressions serve all heads; what is a head's own is read by two tokens with 1 − 0.75² = 0.4375
    is(op(&step, "qkv_a_proj").work.weight_bytes, op(&dense, "qkv_a_proj").work.weight_bytes);
    for name in ["q_b_proj", "mla_absorb", "o_proj"] {
        is(op(&step, name).work.weight_bytes, 0.4375 * op(&dense, name).work.weight_bytes);
    }
}

#[test]
fn prompts_run_dense() {
    let step = run("contextual-sparsity:active=0.2", &prefill(1, 100));
    is(op(&step, "gate_up_proj").work.weight_bytes, 64e6);
    is(op(&step, "gate_up_proj").work.flops, 100.0 * 64e6);
}

#[test]
fn beside_a_prompt_all_neurons_are_read_and_few_of_a_decoding_token_computed() {
    let step = run("contextual-sparsity:active=0.2,predictor=100", &mixed(5, 1000, 100));
    let gate_up = op(&step, "gate_up_proj");
    is(gate_up.work.weight_bytes, 64e6);
    // 100 tokens of the prompt dense, 5 with a fifth
    is(gate_up.work.flops, 4.0 * 2.0 * 8e6 * 101.0);
    is(gate_up.work.activation_bytes, 4.0 * 9000.0 * 2.0 * 105.0);
    // The predictor asks for the 5 that decode: 100 · 5000 numbers
    is(op(&step, "predictor[gate_up_proj]").work.flops, 4.0 * 2.0 * 5e5 * 5.0);
}

#[test]
fn cold_neurons_serve_prompts_too() {
    let with = "contextual-sparsity:active=0.2,parts=ffn,hot=0.4,hits=0.8,processor=xeon-8592";
    let step = run(with, &mixed(5, 1000, 100));
    // 60 % of the neurons: dense for the prompt, 0.04/0.6 of them for each that decodes
    is(op(&step, "cold[gate_up_proj]").work.weight_bytes, 0.6 * 64e6);
    is(op(&step, "cold[gate_up_proj]").work.flops, 64e6 * (0.6 * 100.0 + 0.04 * 5.0));
}

#[test]
fn cold_neurons_are_computed_by_the_host() {
    let with = "contextual-sparsity:active=0.2,parts=ffn,hot=0.4,hits=0.8,processor=xeon-8592";
    let step = run(with, &decode(1, 1000));
    // The device reads 0.2·0.8 of all (all of it among its 40 %), the host 0.2·0.2
    is(op(&step, "gate_up_proj").work.weight_bytes, 0.16 * 64e6);
    is(op(&step, "cold[gate_up_proj]").work.weight_bytes, 0.04 * 64e6);
    // FFNs are 12 M of a layer's weights: 60 % of them leave the device
    let dense = run("none", &decode(1, 1000)).outcome.memory.weights;
    is(dense - step.outcome.memory.weights, 0.6 * 4.0 * 12e6 * 2.0);
}

#[test]
fn experts_touched_are_read() {
    // 8·(1 − (1 − 2/8)²) = 3.5 experts of 8 M gate and up weights
    let step = run_moe("none", &decode(2, 1000));
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 3.5 * 16e6);
    // With top-1: 8·(1 − (7/8)²) = 1.875
    let step = run_moe("experts:top-k=1", &decode(2, 1000));
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 1.875 * 16e6);
}

#[test]
fn skewed_routing_touches_fewer_experts() {
    let step = run_moe("experts:loads=4/2/2/2/2/2/1/1", &decode(1, 1000));
    // One token visits two experts whatever the skew
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 2.0 * 16e6);
    let step = run_moe("experts:loads=4/2/2/2/2/2/1/1", &decode(2, 1000));
    // Chances 2·load/16: 1/2, 5 · 1/4, 2 · 1/8. Two tokens: 3/4 + 5 · 7/16 + 2 · 15/64 = 3.40625
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 3.406_25 * 16e6);
}

#[test]
fn no_expert_is_visited_twice_by_a_token() {
    // 2 visits among loads of which one has 13 of 20: it is visited by every token, the second visit is spread over 7 others
    let step = run_moe("experts:loads=13/1/1/1/1/1/1/1", &decode(2, 1000));
    let others = 7.0 * (1.0 - (6.0f64 / 7.0).powi(2));
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * (1.0 + others) * 16e6);
}

#[test]
fn experts_that_nobody_was_seen_to_visit_share_what_is_left_evenly() {
    // Every token visits the first; its second visit is spread over seven: two experts a token, 1 + 7·(1/7)
    let step = run_moe("experts:loads=5/0/0/0/0/0/0/0", &decode(1, 1000));
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 2.0 * 16e6);
}

#[test]
fn a_power_law_is_a_skew() {
    let step = run_moe("experts:alpha=1", &decode(1000, 1000));
    // The hottest expert is visited by 2·1/H(8) = 0.7358 of the tokens; every expert is touched by a thousand.
    let all = 4.0 * 8.0 * 16e6;
    assert!((op(&step, "experts_gate_up").work.weight_bytes / all - 1.0).abs() < 1e-9);
}

#[test]
fn the_busiest_rank_decides() {
    let with = "parallel:tp=2,ep=2 + experts:loads=7/1/1/1/1/1/2/2,placement=contiguous";
    let step = run_moe(with, &decode(8, 1000));
    // Chances 2·load/16: 7/8, 1/4, 1/4, 1/8 … ; the hottest four together 7/8 + 2/8 + 2/8 + 1/8 = 1.5 of 2 visits.
    // 8 tokens · 1.5 visits · 2 · 8e6 FLOPs · 4 layers
    is(op(&step, "experts_gate_up").work.flops, 8.0 * 1.5 * 16e6 * 4.0);
}

#[test]
fn the_busiest_rank_receives_the_most() {
    let of = |with: &str| run_moe(&format!("parallel:dp=2,ep=2 + {with}"), &decode(8, 1000));
    let (even, skewed) = (of("experts:alpha=0"), of("experts:loads=7/1/1/1/1/1/2/2,placement=contiguous"));
    // One and a half of two visits reach the busiest of two ranks, where one is the mean
    for name in ["dispatch", "combine"] {
        is(op(&skewed, name).ideal, 1.5 * op(&even, name).ideal);
    }
}

#[test]
fn replicas_of_hot_experts_level_the_load() {
    let with = "parallel:tp=2,ep=2 + experts:loads=7/1/1/1/1/1/2/2,placement=contiguous,replicas=1";
    let step = run_moe(with, &decode(8, 1000));
    // The hottest is shared: 7/16; of the seven others the first four: 2/8 + 2/8 + 1/8 + 1/8 = 3/4. Together 1.1875
    is(op(&step, "experts_gate_up").work.flops, 8.0 * 1.1875 * 16e6 * 4.0);
    // Five experts instead of four lie on it, two matrices and one: 12 M weights of 2 bytes each
    let even = run_moe("parallel:tp=2,ep=2", &decode(8, 1000)).outcome.memory.weights;
    is(step.outcome.memory.weights - even, 4.0 * 12e6 * 2.0);
}

#[test]
fn what_each_token_leaves_out_turns_compute_bound_later_though_all_weights_are_read() {
    // Attention has 2.4 M weights a layer, the FFN 12 M, of which a token uses a quarter: 10.8 MFLOP a token at 100 TFLOP/s;
    // many tokens read 28.8 MB at 1 TB/s, and move (2400 + 2000 + 9000 + 5000)·2 bytes each
    let sparse = run("contextual-sparsity:active=0.25,parts=ffn", &decode(1, 1000));
    is(sparse.compute_bound_tokens.unwrap(), 28.8e-6 / (0.108e-6 - 0.0368e-6));
    // A prompt runs dense: 28.8 MFLOP a token
    let prompt = run("contextual-sparsity:active=0.25,parts=ffn", &prefill(1, 1000));
    is(prompt.compute_bound_tokens.unwrap(), 28.8e-6 / (0.288e-6 - 0.0368e-6));
    is(run("none", &decode(1, 1000)).compute_bound_tokens.unwrap(), 28.8e-6 / (0.288e-6 - 0.0368e-6));
}
