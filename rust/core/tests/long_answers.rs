//! A long answer, of whose steps a few stand for many: what each of them takes, added up.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

use std::collections::BTreeMap;

use roofline_core::accumulate::OpTotal;
use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::cause::Causes;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Technique;

const ENGINE: EngineMemory = EngineMemory { max_num_seqs: 256, ..EngineMemory::VLLM };

/// Model, devices that work together, techniques.
const CASES: [(&str, u64, &str); 10] = [
    ("llama-3.1-8b", 1, ""),
    ("llama-3.1-70b", 8, ""),
    ("gemma-3-270m", 1, ""),
    ("gpt-oss-20b", 1, ""),
    ("deepseek-v2-lite", 1, ""),
    ("qwen3-next-80b-a3b", 4, ""),
    ("mamba-2.8b", 1, ""),
    ("llama-3.1-8b", 1, "spec:method=eagle,gamma=3,accept=0.7"),
    ("llama-3.1-8b", 1, "kv-evict:budget=512/2048"),
    ("llama-3.1-8b", 1, "paging:block=64"),
];

fn deployment(model: &str, tp: u64, with: &str, efficiency: Efficiency) -> Deployment {
    let model = catalog::models::model(model).unwrap();
    let techniques = Technique::parse_all(&with.split_whitespace().collect::<Vec<_>>()).unwrap();
    let deployment = Deployment {
        precision: Precision::resolve(&model, &Request::default()).unwrap(),
        model,
        hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
        layout: Layout { tp, ..Layout::default() },
        lowering: Lowering::default(),
        overlap: 0.0,
        efficiency,
        techniques: Default::default(),
    };
    deployment.with(&techniques).unwrap()
}

fn point(question: Question, batch_size: u64, input_len: u64, output_len: u64) -> Point {
    Point { question, batch_size, input_len, output_len, prefix_len: 0, chunk: 0 }
}

fn close(told: &str, value: f64, expected: f64) {
    assert!((value - expected).abs() <= 1e-11 * expected.abs(), "{told}: {value}, not {expected}");
}

#[test]
fn a_long_answer_is_the_sum_of_its_steps() {
    for (model, tp, with) in CASES {
        for efficiency in [Efficiency::Ideal, Efficiency::predicted("vllm")] {
            let predicted = efficiency != Efficiency::Ideal;
            let analyst = Analyst::new(deployment(model, tp, with, efficiency), &ENGINE).unwrap();
            for (batch, input, output) in [(1, 3, 1500), (7, 900, 500), (64, 20, 2500)] {
                let told = format!("{model} {with} {predicted} {batch} {input} {output}");
                let chat = analyst.outcome(&point(Question::Chat, batch, input, output)).unwrap();
                let prompt = analyst.outcome(&point(Question::Prefill, batch, input, 0)).unwrap();
                let generation = analyst.generation();
                let step = |step: u64| {
                    let context = input + generation.tokens_after(step);
                    analyst.outcome(&point(Question::Decode, batch, context, 0)).unwrap()
                };
                let steps: Vec<_> = (0..generation.steps(output - 1)).map(step).collect();
                let all = || std::iter::once(&prompt).chain(&steps);
                let time = chat.times.step;
                close(&told, time.step.seconds, all().map(|one| one.times.step.step.seconds).sum());
                close(&told, time.ideal, all().map(|one| one.times.step.ideal).sum());
                close(&told, time.stage, all().map(|one| one.times.step.stage).sum());
                if predicted {
                    let low = all().map(|one| one.times.step.step.low.unwrap()).sum();
                    close(&told, time.step.low.unwrap(), low);
                    let high = all().map(|one| one.times.step.step.high.unwrap()).sum();
                    close(&told, time.step.high.unwrap(), high);
                }
                close(&told, chat.done.rank.flops, all().map(|one| one.done.rank.flops).sum());
                close(&told, chat.done.device().kv_bytes, all().map(|one| one.done.device().kv_bytes).sum());
                close(&told, chat.done.busy(), all().map(|one| one.done.busy()).sum());
                let expected = by_name(all().flat_map(|one| one.done.ops(analyst.pricer())));
                for (name, spent) in by_name(chat.done.ops(analyst.pricer()).into_iter()) {
                    for (cause, seconds) in spent.iter() {
                        close(&format!("{told} {name} {}", cause.name()), seconds, expected[&name].of(cause));
                    }
                }
            }
        }
    }
}

/// What operators of each name take together, by what it is spent on.
fn by_name(ops: impl Iterator<Item = OpTotal>) -> BTreeMap<String, Causes> {
    let mut named: BTreeMap<String, Causes> = BTreeMap::new();
    ops.for_each(|op| named.entry(op.name).or_default().append(&op.spent));
    named
}

#[test]
fn a_billion_tokens_are_answered_for_in_no_time() {
    let analyst = Analyst::new(deployment("llama-3.1-8b", 1, "", Efficiency::predicted("vllm")), &ENGINE);
    let analyst = analyst.unwrap();
    // A billion steps priced one by one would take an hour.
    let long = analyst.analyze(&point(Question::Chat, 1, 1000, 1_000_000_000)).unwrap();
    let longer = analyst.analyze(&point(Question::Chat, 1, 1000, 2_000_000_000)).unwrap();
    let ratio = longer.outcome.times.e2e.unwrap() / long.outcome.times.e2e.unwrap();
    assert!((3.9..4.0).contains(&ratio), "{ratio}");
}
