//! Laws of the cost model, on random models, devices, layouts and points.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use proptest::prelude::*;
use roofline_core::analysis::Analyst;
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::model::Model;
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::Point;
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;

mod random;

use random::*;

fn deployment(model: Model, hardware: Hardware, layout: Layout, quantization: &str) -> Deployment {
    let request = Request { quantization: Some(quantization.into()), ..Request::default() };
    Deployment { precision: Precision::resolve(&model, &request).unwrap(), ..plain(model, hardware, layout) }
}

fn seconds(deployment: &Deployment, point: &Point) -> f64 {
    Analyst::new(deployment.clone(), &ENGINE).unwrap().times(point).unwrap().step.step.seconds
}

/// Not slower, up to rounding.
fn at_most(fast: f64, slow: f64) -> Result<(), TestCaseError> {
    prop_assert!(fast <= slow * (1.0 + 1e-12), "{fast} > {slow}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_faster_part_never_makes_a_step_slower(
        model in models(), place in 0..DEVICES.len(), layout in layouts(), point in points(), factor in 1.0f64..8.0,
    ) {
        prop_assume!(possible(&model, layout));
        let base = deployment(model, device(place), layout, "bf16");
        let slow = seconds(&base, &point);
        let mut wider = base.clone();
        let bandwidth = &mut wider.hardware.memory.bandwidth.value;
        *bandwidth = bandwidth.map(|b| b * factor);
        at_most(seconds(&wider, &point), slow)?;
        let mut stronger = base.clone();
        for (_, fact) in &mut stronger.hardware.tensor_dense {
            fact.value = fact.value.map(|peak| peak * factor);
        }
        at_most(seconds(&stronger, &point), slow)?;
        let mut linked = base.clone();
        for link in [&mut linked.hardware.scale_up, &mut linked.hardware.scale_out, &mut linked.hardware.host_link] {
            link.bandwidth.value = link.bandwidth.value.map(|b| b * factor);
        }
        at_most(seconds(&linked, &point), slow)?;
    }

    #[test]
    fn a_prediction_is_never_faster_than_its_roofline(
        model in models(), place in 0..DEVICES.len(), layout in layouts(), point in points(),
    ) {
        prop_assume!(possible(&model, layout));
        let analyst = Analyst::new(deployment(model, device(place), layout, "bf16"), &ENGINE).unwrap();
        let analysis = analyst.analyze(&point).unwrap();
        prop_assert!(analysis.outcome.times.step.step.seconds >= analysis.outcome.times.step.ideal);
        for op in &analysis.ops {
            prop_assert!(op.predicted.seconds >= op.ideal);
        }
    }

    #[test]
    fn fewer_bits_are_never_slower_where_they_multiply_natively(
        model in models(), layout in layouts(), point in points(),
    ) {
        prop_assume!(possible(&model, layout));
        let b200 = || device(3);
        let of = |quantization| seconds(&deployment(model.clone(), b200(), layout, quantization), &point);
        at_most(of("fp8"), of("bf16"))?;
        at_most(of("nvfp4"), of("fp8"))?;
    }

    #[test]
    fn a_cache_of_fewer_bits_is_never_slower(model in models(), point in points()) {
        let of = |kv: &str| {
            let request = Request { kv_cache_dtype: Some(kv.into()), ..Request::default() };
            let mut d = deployment(model.clone(), device(0), Layout::default(), "bf16");
            d.precision = Precision::resolve(&model, &request).unwrap();
            seconds(&d, &point)
        };
        at_most(of("fp8"), of("bf16"))?;
        at_most(of("int4"), of("fp8"))?;
    }

    #[test]
    fn fusing_more_is_never_slower(model in models(), place in 0..DEVICES.len(), point in points()) {
        let of = |fusion| {
            let mut d = deployment(model.clone(), device(place), Layout::default(), "bf16");
            d.lowering.fusion = fusion;
            seconds(&d, &point)
        };
        at_most(of(Fusion::Full), of(Fusion::Engine))?;
        at_most(of(Fusion::Engine), of(Fusion::None))?;
    }

    #[test]
    fn flash_attention_is_never_slower(model in models(), place in 0..DEVICES.len(), point in points()) {
        let mut apart = deployment(model, device(place), Layout::default(), "bf16");
        let fused = seconds(&apart, &point);
        apart.lowering.flash_attention = false;
        at_most(fused, seconds(&apart, &point))?;
    }

    #[test]
    fn more_work_never_takes_less_time(
        model in models(), place in 0..DEVICES.len(), layout in layouts(), point in points(), more in 1u64..200,
    ) {
        prop_assume!(possible(&model, layout));
        let d = deployment(model, device(place), layout, "bf16");
        let base = seconds(&d, &point);
        at_most(base, seconds(&d, &Point { batch_size: point.batch_size + more, ..point }))?;
        at_most(base, seconds(&d, &Point { prefix_len: point.prefix_len + more, ..point }))?;
    }

    #[test]
    fn the_parts_of_an_analysis_add_up(
        model in models(), place in 0..DEVICES.len(), tp in 0u32..4, point in points(),
    ) {
        let layout = Layout { tp: 1 << tp, ..Layout::default() };
        prop_assume!(possible(&model, layout));
        let analyst = Analyst::new(deployment(model, device(place), layout, "bf16"), &ENGINE).unwrap();
        let analysis = analyst.analyze(&point).unwrap();
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b.abs();
        let ops: f64 = analysis.ops.iter().map(|op| op.predicted.seconds).sum();
        prop_assert!(close(ops, analysis.outcome.times.step.step.seconds));
        prop_assert!(close(analysis.bounds().iter().map(|(_, share)| share).sum(), 1.0));
        let bytes: f64 = analysis.ops.iter().map(|op| op.work.bytes()).sum();
        prop_assert!(close(bytes, analysis.per_gpu.bytes()));
        prop_assert!(close(analysis.per_gpu.flops * f64::from(1u32 << tp), analysis.deployment.flops));
    }

    #[test]
    fn a_faster_part_gains_at_most_its_own_factor(model in models(), place in 0..DEVICES.len(), point in points()) {
        let d = deployment(model, device(place), Layout::default(), "bf16");
        let analysis = Analyst::new(d, &ENGINE).unwrap().analyze(&point).unwrap();
        let s = analysis.sensitivity;
        for change in [s.bandwidth, s.compute, s.link] {
            prop_assert!((1.0 / 1.1 - 1.0 - 1e-9..=1e-12).contains(&change), "{change}");
        }
    }

    #[test]
    fn sharding_never_adds_weights_to_a_device(model in models(), place in 0..DEVICES.len(), tp in 1u32..4) {
        let layout = Layout { tp: 1 << tp, ..Layout::default() };
        prop_assume!(possible(&model, layout));
        let bytes = |layout| {
            let d = deployment(model.clone(), device(place), layout, "bf16");
            roofline_core::memory::weight_bytes(&d).unwrap()
        };
        let (one, each) = (bytes(Layout::default()), bytes(layout));
        prop_assert!(each <= one);
        prop_assert!(each * layout.tp as f64 >= one * (1.0 - 1e-12), "the shards hold everything");
    }
}
