//! How long the cost model takes: one whole analysis, compiling a deployment, pricing one step.

use criterion::{Criterion, criterion_group, criterion_main};
use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::shape::Phase;
use roofline_core::step::Deployment;

const ENGINE: EngineMemory = EngineMemory::VLLM;

fn deployment(model: &str, tp: u64, efficiency: Efficiency) -> Option<Deployment> {
    let model = catalog::models::model(model).ok()?;
    Some(Deployment {
        precision: Precision::resolve(&model, &Request::default()).ok()?,
        model,
        hardware: catalog::hardware::hardware("h200").ok()?.item,
        layout: Layout { tp, ..Layout::default() },
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    })
}

fn pricing(criterion: &mut Criterion) {
    let point = Point {
        question: Question::Decode,
        batch_size: 64,
        input_len: 4096,
        output_len: 1,
        prefix_len: 0,
        chunk: 0,
    };
    let models = [("llama-3.1-8b", 1), ("llama-3.1-70b", 8), ("deepseek-v3", 8)];
    let modes = [("ideal", Efficiency::Ideal), ("predicted", Efficiency::predicted("vllm"))];
    for ((name, tp), (mode, efficiency)) in
        models.into_iter().flat_map(|m| modes.clone().map(|mode| (m, mode)))
    {
        let Some(deployment) = deployment(name, tp, efficiency) else { continue };
        let Ok(analyst) = Analyst::new(deployment.clone(), &ENGINE) else { continue };
        let pricer = analyst.pricer();
        let mut sums = pricer.reaches().empty();
        pricer.reaches().add_item(&mut sums, Phase::Decode, 64.0, 1, 4096, 1);
        pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, 512, 1024, 1);
        criterion.bench_function(&format!("step price/{name} tp{tp} {mode}"), |b| {
            b.iter(|| pricer.seconds(&sums))
        });
        criterion
            .bench_function(&format!("analyze/{name} tp{tp} {mode}"), |b| b.iter(|| analyst.analyze(&point)));
        criterion.bench_function(&format!("compile/{name} tp{tp} {mode}"), |b| {
            b.iter(|| Analyst::new(deployment.clone(), &ENGINE));
        });
    }
}

criterion_group! { name = benches; config = Criterion::default().sample_size(50); targets = pricing }
criterion_main!(benches);
