//! Deployments made ready to serve: how each engine divides memory and cuts its cache, and what drafting costs.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

mod defaults;
mod memory;
mod techniques;

use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Technique;
use roofline_sim::knobs::Knobs;
use roofline_sim::scheduler::speculation::{Acceptance, DraftMethod, Speculation};
use roofline_sim::serve::Server;
use roofline_sim::step_cost::{Phase, StepCost, StepItem};
use roofline_sim::trace::Trace;

fn deployment(model: &str, tp: u64) -> Deployment {
    let model = catalog::models::model(model).unwrap();
    Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
        layout: Layout { tp, ..Layout::default() },
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency: Efficiency::Ideal,
        techniques: Default::default(),
    }
}

fn trace(prompt: u32) -> Trace {
    Trace { arrival_ns: vec![0], prompt_tokens: vec![prompt], output_tokens: vec![10], ..Trace::default() }
}

fn server(model: &str, engine: &str, knobs: &Knobs) -> Server {
    Server::new(deployment(model, 1), engine, knobs, &trace(1000)).unwrap()
}

fn drafting(method: DraftMethod, tokens: u32) -> Speculation {
    Speculation { method, tokens, acceptance: Acceptance::Chance { positions: vec![0.7], seed: 0 } }
}

fn seconds<P: StepCost>(cost: &P, rows: u32) -> f64 {
    let mut sums = P::Sums::default();
    for _ in 0..rows {
        cost.add(&mut sums, StepItem { new_tokens: 4, context: 1000, phase: Phase::Decode, sampled_rows: 4 });
    }
    cost.seconds(&sums)
}

fn techniques(model: &str, with: &str) -> Deployment {
    deployment(model, 1).with(&Technique::parse_all(&[with]).unwrap()).unwrap()
}

fn with(model: &str, with: &str) -> Server {
    Server::new(techniques(model, with), "vllm", &Knobs::default(), &trace(1000)).unwrap()
}

fn refused(with: &str, knobs: &Knobs) -> String {
    Server::new(techniques("llama-3.1-8b", with), "vllm", knobs, &trace(1000)).unwrap_err().to_string()
}
