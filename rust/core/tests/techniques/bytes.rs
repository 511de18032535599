//! Capacity and bytes move together, sums are sums, and fewer bits are never slower, on random deployments.

use proptest::prelude::*;
use roofline_core::accumulate::Totals;
use roofline_core::analysis::{Analysis, Analyst};
use roofline_core::efficiency::Efficiency;
use roofline_core::format::Format;
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::model::{Mixer, Span};
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::Point;
use roofline_core::step::Deployment;
use roofline_core::work::Family;

use super::random::{self, Made, close};
use super::toy::{decode, techniques};

/// A random deployment with a random set of techniques that suit it, by the roofline alone or predicted.
fn deployed() -> impl Strategy<Value = (Made, String)> {
    (random::deployments(), random::sets(4)).prop_map(|(base, with)| {
        let suits = base
            .0
            .clone()
            .with(&techniques(&with))
            .is_ok_and(|made| Analyst::new(made, &random::ENGINE).is_ok());
        let first = with.split(" + ").next().unwrap_or("none").to_string();
        let alone = || {
            base.0
                .clone()
                .with(&techniques(&first))
                .is_ok_and(|made| Analyst::new(made, &random::ENGINE).is_ok())
        };
        let with = if suits {
            with
        } else if alone() {
            first
        } else {
            "none".to_string()
        };
        (base, with)
    })
}

fn figures(work: &Totals) -> [f64; 6] {
    let Totals { flops, vector_flops, weight_bytes, activation_bytes, kv_bytes, link_bytes } = *work;
    [flops, vector_flops, weight_bytes, activation_bytes, kv_bytes, link_bytes]
}

/// Seconds by the roofline of `base` with other techniques; `None` where they do not suit it.
fn ideal(base: &Deployment, with: &str, point: &Point) -> Option<f64> {
    let base = Deployment { efficiency: Efficiency::Ideal, ..base.clone() };
    random::ask(&base, with, point).ok().map(|step| step.outcome.times.step.ideal)
}

/// Whether the device multiplies each of these formats itself.
fn multiplies(hardware: &Hardware, formats: &[Format]) -> bool {
    formats.iter().all(|format| hardware.multiply_format(*format) == Some(*format))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn totals_of_any_techniques_are_the_sum_of_their_operators((base, with) in deployed(), point in random::points()) {
        let Ok(step) = random::ask(&base, &with, &point) else { return Ok(()) };
        let sums = step.ops.iter().fold([0.0; 6], |mut sums, op| {
            sums.iter_mut().zip(figures(&op.work)).for_each(|(sum, more)| *sum += more);
            sums
        });
        prop_assert!(sums.iter().zip(figures(&step.per_gpu)).all(|(sum, total)| close(*sum, total)), "{sums:?} {:?}", step.per_gpu);
        for op in &step.ops {
            let spent = op.spent.total();
            prop_assert!(close(spent, op.predicted.seconds), "{}: {spent} {}", op.name, op.predicted.seconds);
            prop_assert!(op.ideal >= 0.0 && op.predicted.seconds >= op.ideal * (1.0 - 1e-12), "{}", op.name);
            let least = figures(&op.work).into_iter().fold(0.0, f64::min);
            prop_assert!(least >= -1e-9 * op.work.bytes().abs().max(op.work.flops), "{}: {:?}", op.name, op.work);
        }
        // What runs beside the device hides behind it, and so does communication: never more than all of them together.
        let time = step.outcome.times.step;
        let all: f64 = step.ops.iter().map(|op| op.predicted.seconds).sum();
        prop_assert!(time.stage <= all * (1.0 + 1e-9), "{} {all}", time.stage);
        prop_assert!(time.step.seconds >= time.stage * (1.0 - 1e-12), "{time:?}");
    }

    #[test]
    fn a_crowd_reads_the_weights_that_lie_in_memory((base, with) in deployed()) {
        // What passes through memory in another format is read twice, by several micro-batches several times; what lies
        // with the host is read there.
        prop_assume!(!["dequant=kernel", "offload", "hybrid", "afd", "hot="].iter().any(|left_out| with.contains(left_out)));
        let Ok(program) = base.0.clone().with(&techniques(&with)).and_then(|made| made.program()) else { return Ok(()) };
        for op in program.ops.iter().filter(|op| op.name != "embedding" && op.family != Family::Elementwise) {
            let lies = op.work.resident.bytes + op.work.elsewhere.bytes;
            let touched = op.work.touched.map_or(0.0, |touched| touched.local * touched.bytes_per_expert);
            // What lies there once may be read by another operator beside prompts.
            let read = op.work.weight_bytes.fixed + touched;
            prop_assert!(lies == 0.0 || close(read, lies), "{with}: {} reads {read} of {lies}", op.name);
        }
    }

    #[test]
    fn the_cache_read_grows_as_the_cache_held(
        base in random::deployments(), batch in 1u64..60, keys in 8u64..100,
        quant in random::of_kind("kv-quant"), paging in random::of_kind("paging"), keep in 1u32..=100, ranks in 1u64..5,
        chosen in proptest::sample::subsequence(vec![0usize, 1, 2, 3], 0..4),
    ) {
        // An indexer's keys and states beside are read as they lie, chosen ones are not.
        let grows = |mixer: &Option<Mixer>| match mixer {
            Some(Mixer::Attention(attention)) => {
                attention.causal && !attention.shares_kv && attention.span == Span::Full
            }
            Some(Mixer::Mla(latent)) => latent.indexer.is_none(),
            _ => true,
        };
        prop_assume!(base.0.model.layers.iter().all(|group| grows(&group.mixer)));
        let all = [quant, paging, format!("kv-evict:ratio={}", f64::from(keep) / 100.0), format!("context-parallel:ranks={ranks}")];
        let texts: Vec<String> = chosen.iter().map(|place| all[*place].clone()).collect();
        let with = if texts.is_empty() { "none".to_string() } else { texts.join(" + ") };
        prop_assume!(!with.contains("contiguous"));
        // Scores and values apart look up every block twice.
        let lowering = Lowering { flash_attention: true, ..base.0.lowering };
        let made = Deployment { layout: Layout { pp: 1, ..base.0.layout }, lowering, ..base.0.clone() };
        let block = with.split("block=").nth(1).and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).unwrap_or(1);
        let of = |keys: u64| random::ask(&made, &with, &decode(batch, keys * block));
        let (Ok(one), Ok(more)) = (of(keys), of(keys + 1)) else { return Ok(()) };
        let held = more.outcome.memory.kv - one.outcome.memory.kv;
        let read = more.per_gpu.kv_bytes - one.per_gpu.kv_bytes;
        prop_assert!((held - read).abs() <= 1e-9 * more.outcome.memory.kv.max(more.per_gpu.kv_bytes), "{with}: {held} {read}");
    }

    #[test]
    fn pages_hold_the_context_in_whole_blocks(base in random::deployments(), block in 1u64..300, tokens in 1u64..5000, batch in 1u64..40) {
        let of = |with: &str, tokens: u64| {
            Analyst::new(base.0.clone().with(&techniques(with)).unwrap(), &random::ENGINE).unwrap().memory().kv().bytes_of(batch, tokens)
        };
        let whole = tokens.div_ceil(block) * block;
        let with = format!("paging:block={block}");
        let (paged, next, plain) = (of(&with, tokens), of(&with, whole), of("none", whole));
        prop_assert_eq!(paged, next);
        // The table of blocks: 4 bytes a block and layer at most.
        let layers: u64 = base.0.model.layers.iter().map(|group| group.count).sum();
        let table = if block > 1 { 4.0 * (whole / block * batch * layers) as f64 } else { 0.0 };
        prop_assert!(paged >= plain && paged <= (plain + table) * (1.0 + 1e-12), "{paged} {plain} {table}");
        let reserved = of(&format!("paging:contiguous={}", tokens + block), tokens);
        prop_assert_eq!(reserved, of("none", tokens + block));
        prop_assert_eq!(of(&format!("paging:contiguous={block}"), tokens + block), of("none", tokens + block));
    }

    #[test]
    fn devices_of_a_tensor_parallel_group_hold_and_read_a_share(base in random::deployments(), power in 1u32..4, point in random::points()) {
        let tp = 1u64 << power;
        let one = Deployment { layout: Default::default(), ..base.0.clone() };
        let with = format!("parallel:tp={tp}");
        let (Ok(whole), Ok(share)) = (random::ask(&one, "none", &point), random::ask(&one, &with, &point)) else { return Ok(()) };
        let (held, read) = (
            share.outcome.memory.weights / whole.outcome.memory.weights,
            share.per_gpu.weight_bytes / whole.per_gpu.weight_bytes,
        );
        let least = 1.0 / tp as f64 - 1e-12;
        prop_assert!((least..=1.0).contains(&held) && (least..=1.0 + 1e-12).contains(&read), "{held} {read}");
        let cached = share.outcome.memory.kv / whole.outcome.memory.kv;
        let moved = share.per_gpu.kv_bytes / whole.per_gpu.kv_bytes;
        prop_assert!(whole.outcome.memory.kv == 0.0 || (least..=1.0 + 1e-12).contains(&cached), "{cached}");
        prop_assert!(whole.per_gpu.kv_bytes == 0.0 || (least..=1.0 + 1e-12).contains(&moved), "{moved}");
    }

    #[test]
    fn fewer_bits_are_never_slower_where_nothing_converts(base in random::deployments(), point in random::points(), parts in 0usize..4) {
        let parts = ["", ",parts=attention", ",parts=ffn", ",parts=experts"][parts];
        let stored = base.0.model.quantization.is_some();
        for pair in ["16", "8", "6", "4", "3", "2", "1"].windows(2) {
            let weights = |bits: &str| ideal(&base, &format!("weight-quant:bits={bits},dequant=off{parts}"), &point).unwrap();
            prop_assert!(stored || weights(pair[1]) <= weights(pair[0]) * (1.0 + 1e-12), "weights of {pair:?}");
            let cache = |bits: &str| ideal(&base, &format!("kv-quant:bits={bits}"), &point).unwrap();
            prop_assert!(cache(pair[1]) <= cache(pair[0]) * (1.0 + 1e-12), "cache of {pair:?}");
        }
    }

    #[test]
    fn both_operands_of_fewer_bits_are_never_slower_where_the_device_multiplies_them(base in random::deployments(), point in random::points()) {
        // Activations are narrowed within their neighbours: nothing converts.
        let mut base = base.0;
        base.lowering.fusion = Fusion::Full;
        let both = |format: &str| format!("weight-quant:format={format},dequant=off + activation-quant:format={format}");
        let plain = ideal(&base, "none", &point).unwrap();
        let mut before = plain;
        for (name, format) in [("fp8", Format::Fp8), ("fp4", Format::Fp4)] {
            if base.model.quantization.is_none() && multiplies(&base.hardware, &[format]) {
                let now = ideal(&base, &both(name), &point).unwrap();
                prop_assert!(now <= before * (1.0 + 1e-12), "{name}: {now} {before}");
                before = now;
            }
        }
        if base.model.quantization.is_none() && multiplies(&base.hardware, &[Format::Int8]) {
            prop_assert!(ideal(&base, &both("int8"), &point).unwrap() <= plain * (1.0 + 1e-12));
        }
    }

    #[test]
    fn narrower_activations_change_the_peak_and_no_weights(base in random::deployments(), point in random::points()) {
        let base = Deployment { efficiency: Efficiency::Ideal, ..base.0 };
        prop_assume!(base.model.quantization.is_none());
        let of = |with: &str| random::ask(&base, with, &point).unwrap();
        let plain = of("none");
        for (weights, activations, format) in [
            ("fp8", "fp8", Format::Fp8),
            ("int8", "int8", Format::Int8),
            ("int4", "int8", Format::Int8),
            ("fp8", "fp4", Format::Fp8),
        ] {
            let alone = of(&format!("weight-quant:format={weights},dequant=off"));
            let both = of(&format!("weight-quant:format={weights},dequant=off + activation-quant:format={activations}"));
            prop_assert!(close(both.per_gpu.weight_bytes, alone.per_gpu.weight_bytes));
            prop_assert!(close(both.per_gpu.flops, plain.per_gpu.flops), "{} {}", both.per_gpu.flops, plain.per_gpu.flops);
            prop_assert!(close(both.outcome.memory.weights, alone.outcome.memory.weights));
            let peak = base.hardware.tensor_peak(format, false).unwrap();
            for op in both.ops.iter().filter(|op| op.name.ends_with("_proj") && !op.name.starts_with("indexer")) {
                prop_assert_eq!(op.format, format, "{} {}", weights, op.name);
                // The peak of the smallest format that the device multiplies and that holds both operands.
                prop_assert!(op.ideal >= op.work.flops / peak * (1.0 - 1e-9), "{}", op.name);
                prop_assert!(both.ops.iter().any(|other| other.name.starts_with("quantize")));
            }
        }
        // Activations alone gain nothing: their weights are wider.
        let idle = of("activation-quant:format=fp8");
        prop_assert!(idle.ops == plain.ops && idle.outcome == plain.outcome);
    }
}

/// What the decode step at hand reads of matrices whose weights are in `bits`.
fn weights_of(analysis: &Analysis) -> f64 {
    analysis.ops.iter().filter(|op| op.name.ends_with("_proj")).map(|op| op.work.weight_bytes).sum()
}

#[test]
fn weights_read_and_held_shrink_by_the_same_bytes_in_every_layout() {
    let model = roofline_core::catalog::models::model("llama-3.1-8b").unwrap();
    for (tp, pp) in [(1, 1), (2, 1), (8, 1), (1, 2), (2, 4)] {
        let layout = Layout { tp, pp, ..Default::default() };
        let base = random::plain(model.clone(), random::device(0), layout);
        let of = |with: &str| random::ask(&base, with, &decode(1, 1000)).unwrap();
        let (plain, fewer) = (of("none"), of("weight-quant:bits=4,group=128,scale=16,zero=4"));
        let read = weights_of(&plain) - weights_of(&fewer);
        let held = plain.outcome.memory.weights - fewer.outcome.memory.weights;
        // 16 − 4 − 20/128 of 16 bits go, of 32 layers' 218,103,808 numbers over all devices
        let expected = 32.0 * 218_103_808.0 * (12.0 - 20.0 / 128.0) / 8.0 / (tp * pp) as f64;
        assert!(close(held, expected) && close(read, expected), "{tp} {pp}: {held} {read} {expected}");
    }
}
