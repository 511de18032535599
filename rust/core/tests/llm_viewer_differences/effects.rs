//! The effect of every line, measured on both sides.

use roofline_core::accumulate::OpTotal;
use roofline_core::analysis::Analyst;
use roofline_core::llm_viewer::{Inputs, OpRow, Version, analyze, analyze_generate_task};
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::{Point, Question};
use roofline_core::roof::Bound;

use crate::case::{A, B, C, Case, D, E, ENGINE, F, G, H, J, K, L, M, MAIN, N};
use crate::tool::row;

fn decode_seconds(analyst: &Analyst, case: &Case, tokens: u32) -> f64 {
    let point = Case { tokens, ..*case }.point(Question::Decode);
    analyst.times(&point).unwrap().step.ideal
}

/// How many decode steps, from `prompt` cached tokens on, take `seconds` together.
fn steps(seconds: f64, prompt: u32, step: impl Fn(u32) -> f64) -> f64 {
    let (mut left, mut count) = (seconds, 0);
    while left > 1e-9 * seconds {
        left -= step(prompt + count);
        count += 1;
    }
    assert!(left.abs() < 1e-9 * seconds, "no whole number of steps");
    f64::from(count)
}

/// The effect of a line: its number, what is measured, the unit, ours, and the tool's (`None` where it refuses).
pub struct Effect(pub u32, pub &'static str, pub &'static str, pub f64, pub Option<f64>);

/// All of them, in the order of the page.
pub fn all() -> Vec<Effect> {
    [first(), second(), third()].into_iter().flatten().collect()
}

/// Lines on attention and on the layout.
fn first() -> Vec<Effect> {
    use Question::{Decode, Prefill};
    let operations = |op: &OpTotal| op.work.flops + op.work.vector_flops;
    let products = ["qk_matmul", "softmax", "sv_matmul"];
    let activations: fn(&OpRow) -> f64 = |row| row.load_act + row.store_act;
    let cache: fn(&OpRow) -> f64 = |row| row.load_kv_cache + row.store_kv_cache;
    let fused = ["fused_attention", "k_proj", "v_proj"];
    let our_cache = |case: &Case, question| case.our_sum(question, &["attention"], |op| op.work.kv_bytes);
    let ours_of = |case: &Case, question, of| case.our_sum(question, &["attention"], of);
    let old = analyze(Version::Main472f71f, &C.config(), C.device.0, &C.inputs()).unwrap();
    let unfused = |case: &Case, question| {
        case.tool_sum(question, &["qk_matmul"], |row| row.load_act)
            + case.tool_sum(question, &["sv_matmul"], |row| row.store_act)
    };
    let link = D.ours(Prefill);
    vec![
        Effect(
            1,
            "attention operations",
            "OP",
            ours_of(&B, Prefill, operations),
            Some(B.tool_sum(Prefill, &["fused_attention"], |row| row.OPs)),
        ),
        Effect(
            2,
            "queries and output",
            "B",
            ours_of(&B, Prefill, |op| op.work.activation_bytes),
            Some(B.tool_sum(Prefill, &["fused_attention"], activations)),
        ),
        Effect(
            3,
            "cache read and written",
            "B",
            our_cache(&B, Prefill),
            Some(B.tool_sum(Prefill, &fused, cache)),
        ),
        Effect(
            4,
            "cache read and written",
            "B",
            our_cache(&C, Decode),
            Some(old.decode_totals.load_kv_cache + old.decode_totals.store_kv_cache),
        ),
        Effect(
            5,
            "queries and output",
            "B",
            ours_of(&G, Prefill, |op| op.work.activation_bytes),
            Some(unfused(&G, Prefill)),
        ),
        Effect(
            6,
            "cache held",
            "B",
            K.ours(Prefill).outcome.memory.kv,
            Some(K.tool().prefill_totals.memory_consumption_kv_cache),
        ),
        Effect(
            7,
            "attention operations",
            "OP",
            ours_of(&A, Decode, operations),
            Some(A.tool_sum(Decode, &products, |row| row.OPs)),
        ),
        Effect(
            8,
            "attention time",
            "s",
            ours_of(&A, Prefill, |op| op.ideal),
            Some(A.tool_sum(Prefill, &products, |row| row.inference_time)),
        ),
        Effect(9, "cache read and written", "B", our_cache(&D, Decode), {
            let totals = D.tool().decode_totals;
            Some(totals.load_kv_cache + totals.store_kv_cache)
        }),
        Effect(
            10,
            "head's weights read",
            "B",
            D.our_sum(Decode, &["lm_head"], |op| op.work.weight_bytes),
            Some(D.tool_sum(Decode, &["lm_head"], |row| row.load_weight)),
        ),
        Effect(
            11,
            "time on links",
            "s",
            link.outcome.done.bounds().iter().filter(|(b, _)| *b == Bound::Link).map(|(_, s)| s).sum(),
            Some(0.0),
        ),
        Effect(
            12,
            "decode step",
            "s",
            Case { tp: 16, ..C }.ours(Decode).outcome.times.step.ideal,
            analyze(MAIN, &C.config(), C.device.0, &Case { tp: 16, ..C }.inputs())
                .ok()
                .map(|analysis| analysis.decode_totals.inference_time),
        ),
        Effect(13, "cache read and written", "B", our_cache(&N, Decode), {
            let totals = N.tool().decode_totals;
            Some(totals.load_kv_cache + totals.store_kv_cache)
        }),
    ]
}

/// Lines on layers and on memory.
fn second() -> Vec<Effect> {
    use Question::{Decode, Prefill};
    let unfused = Case { fusion: Fusion::None, ..A };
    let norms = ["attn_norm", "mlp_norm", "attn_add", "mlp_add"];
    let elementwise = ["attn_norm", "mlp_norm", "attn_add", "mlp_add", "mlp_act"];
    let (weights, tool_weights) = F.linears(Decode, |op| op.work.weight_bytes, |row| row.load_weight);
    let (narrow, tool_narrow) = L.linears(Decode, |op| op.work.weight_bytes, |row| row.load_weight);
    vec![
        Effect(14, "weights read by the layers", "B", weights, Some(tool_weights)),
        Effect(
            15,
            "head's operations",
            "OP",
            E.our_sum(Decode, &["lm_head"], |op| op.work.flops),
            Some(E.tool_sum(Decode, &["lm_head"], |row| row.OPs)),
        ),
        Effect(
            16,
            "head's activations",
            "B",
            E.our_sum(Decode, &["lm_head"], |op| op.work.activation_bytes),
            Some(E.tool_sum(Decode, &["lm_head"], |row| row.load_act + row.store_act)),
        ),
        Effect(
            17,
            "activation's bytes",
            "B",
            unfused.our_sum(Prefill, &["act_mul"], |op| op.work.activation_bytes),
            Some(A.tool_sum(Prefill, &["mlp_act"], |row| row.memory_access)),
        ),
        Effect(
            18,
            "bytes of the layers' norms and additions",
            "B",
            unfused.our_sum(Prefill, &["add_norm"], |op| op.work.activation_bytes),
            Some(A.tool_sum(Prefill, &norms, |row| row.memory_access)),
        ),
        Effect(
            19,
            "operations of the layers' norms and additions",
            "OP",
            A.our_sum(Prefill, &["add_norm"], |op| op.work.vector_flops),
            Some(A.tool_sum(Prefill, &norms, |row| row.OPs)),
        ),
        Effect(
            20,
            "time of norms, additions, activation",
            "s",
            A.our_sum(Prefill, &["add_norm", "act_mul"], |op| op.ideal),
            Some(A.tool_sum(Prefill, &elementwise, |row| row.inference_time)),
        ),
        Effect(
            21,
            "bytes of gather, RoPE, final norm",
            "B",
            unfused.our_sum(Prefill, &["embedding", "rope", "final_norm"], |op| op.work.bytes()),
            Some(0.0),
        ),
        Effect(
            22,
            "weights held",
            "B",
            G.ours(Prefill).outcome.memory.weights,
            Some(G.tool().prefill_totals.memory_consumption_weight),
        ),
        Effect(
            23,
            "activations held",
            "B",
            A.ours(Prefill).outcome.memory.activations,
            Some(A.tool().prefill_totals.memory_consumption_tmp_act),
        ),
        Effect(24, "weights read by the layers", "B", narrow, Some(tool_narrow)),
    ]
}

/// Lines on hardware and on generation.
fn third() -> Vec<Effect> {
    use Question::{Decode, Prefill};
    let time = |case: &Case, question| case.linears(question, |op| op.ideal, |row| row.inference_time);
    let four = Case { bits: (4, 4, 4), ..B };
    let volta = Case { bits: (8, 8, 8), device: ("nvidia_V100", "v100-sxm"), ..A };
    let processor = Case { bits: (8, 8, 8), device: ("intel_13900k", "core-i9-13900k"), ..A };
    let one = Case { tokens: 1, ..G };
    let narrow = Inputs { a_bit: 1, ..A.inputs() };
    let softmax = row(&analyze(MAIN, &A.config(), A.device.0, &narrow).unwrap().prefill, "softmax");
    let chat = Point { output_len: 128, ..M.point(Question::Chat) };
    let analyst = Analyst::new(M.deployment(), &ENGINE).unwrap();
    let times = analyst.times(&chat).unwrap();
    let generation =
        analyze_generate_task(MAIN, &M.config(), M.device.0, &M.inputs(), M.tokens, 128).unwrap();
    let line = |number, what, (ours, tool): (f64, f64)| Effect(number, what, "s", ours, Some(tool));
    vec![
        line(25, "time of the layers' matrices", time(&H, Prefill)),
        Effect(26, "fastest softmax", "OP/s", fastest_softmax(&A), Some(softmax.performance)),
        line(27, "time of the layers' matrices", time(&four, Prefill)),
        line(28, "time of the layers' matrices", time(&J, Decode)),
        Effect(
            29,
            "prefill",
            "s",
            processor.ours(Prefill).outcome.times.step.ideal,
            analyze(MAIN, &processor.config(), processor.device.0, &processor.inputs())
                .ok()
                .map(|analysis| analysis.prefill_totals.inference_time),
        ),
        line(30, "time of the layers' matrices", time(&volta, Prefill)),
        Effect(
            31,
            "head's weights read",
            "B",
            L.our_sum(Decode, &["lm_head"], |op| op.work.weight_bytes),
            Some(L.tool_sum(Decode, &["lm_head"], |row| row.load_weight)),
        ),
        Effect(
            32,
            "decode steps",
            "",
            steps(times.step.ideal - times.ttft.unwrap(), M.tokens, |tokens| {
                decode_seconds(&analyst, &M, tokens)
            }),
            Some(steps(generation.inference_time - generation.prefill_time, M.tokens, |tokens| {
                Case { tokens, ..M }.tool().decode_totals.inference_time
            })),
        ),
        Effect(
            33,
            "queries and output",
            "B",
            one.our_sum(Prefill, &["attention"], |op| op.work.activation_bytes),
            Some(
                one.tool_sum(Prefill, &["qk_matmul"], |row| row.load_act)
                    + one.tool_sum(Prefill, &["sv_matmul"], |row| row.store_act),
            ),
        ),
    ]
}

/// The rate of an unfused softmax where memory is never in its way: the ceiling it is under.
pub fn fastest_softmax(case: &Case) -> f64 {
    let mut deployment = case.deployment();
    deployment.lowering.flash_attention = false;
    deployment.hardware.memory.bandwidth.value = Some(1e18);
    let analyst = Analyst::new(deployment, &ENGINE).unwrap();
    let analysis = analyst.analyze(&case.point(Question::Prefill)).unwrap();
    let softmax = analysis.ops.iter().find(|op| op.name == "softmax").unwrap();
    assert_eq!(softmax.bound, Some(Bound::Vector));
    softmax.work.vector_flops / softmax.ideal
}
