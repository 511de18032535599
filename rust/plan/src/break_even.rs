//! Where a technique begins or ceases to pay: solved on the exact cost, in closed form or by halving.

use roofline_core::analysis::Analyst;
use roofline_core::error::Result;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::roof::Roof;
use roofline_core::step::Deployment;
use roofline_core::table::{Column, Table};
use roofline_core::technique::{Slot, Technique, expected_tokens};
use roofline_core::work::Family;

/// Batches and contexts beyond which nothing is looked for.
const MOST: u64 = 1 << 24;

/// An answer: what it is, the number, its unit, and what it means; `None` where that never happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its name (`speculation_pays_from`).
    pub name: &'static str,
    /// The number.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// What it says, in a sentence.
    pub about: &'static str,
}

/// The largest number up to `most` for which `holds`, which holds up to some number and not beyond; `None` if it does not
/// hold for 1.
fn largest(most: u64, mut holds: impl FnMut(u64) -> Result<bool>) -> Result<Option<u64>> {
    if !holds(1)? {
        return Ok(None);
    }
    let (mut yes, mut no) = (1, 2);
    while no < most && holds(no)? {
        (yes, no) = (no, 2 * no);
    }
    if no >= most && holds(most)? {
        return Ok(Some(most));
    }
    while no - yes > 1 {
        let middle = yes + (no - yes) / 2;
        if holds(middle)? { yes = middle } else { no = middle }
    }
    Ok(Some(yes))
}

/// Where the deployment's techniques begin and cease to pay for decode steps such as `point` asks about.
///
/// Drafts and quantized weights are each compared with the same deployment without them, all its other techniques kept;
/// other techniques together with `base`, the same with none and in the formats of the checkpoint.
///
/// # Errors
/// A deployment that cannot be priced.
pub fn answers(
    deployment: &Deployment,
    base: &Deployment,
    point: &Point,
    engine: &EngineMemory,
) -> Result<Vec<Answer>> {
    let point = Point { question: Question::Decode, ..*point };
    let plain = unquantized(deployment, base)?;
    let quantized = plain != *deployment;
    let with = Analyst::new(deployment.clone(), engine)?;
    let without = Analyst::new(if quantized { plain } else { base.clone() }, engine)?;
    let mut all = turning(&with, &without)?;
    let drafts = deployment.techniques.generation().width > 1;
    if drafts {
        all.push(acceptance(deployment, &point, engine)?);
    }
    if quantized {
        let about = "largest batch at which the step is quicker than with weights as they were, all else the same; \
                     none: always, 0: never";
        all.push(batch(&with, &without, &point, about)?);
    } else if !drafts && with.pricer() != without.pricer() {
        let about = "largest batch at which the step is quicker with the techniques; none: always, 0: never";
        all.push(batch(&with, &without, &point, about)?);
    }
    all.extend(cache(&with, &point)?);
    Ok(all)
}

/// The deployment with weights and multiplications in the formats of `base`, and every technique that does not decide how
/// weights are stored.
fn unquantized(deployment: &Deployment, base: &Deployment) -> Result<Deployment> {
    let others = |technique: &&Technique| {
        !technique.kind().slots.contains(&Slot::Weights) && !base.techniques.list().contains(technique)
    };
    let others: Vec<Technique> = deployment.techniques.list().iter().filter(others).cloned().collect();
    let mut plain = base.clone();
    plain.precision.kv = deployment.precision.kv;
    plain.with(&others)
}

/// Tokens from which the layers' dense multiplications are compute-bound: exactly, and by the rule of thumb that leaves
/// activations out, b* = P·bits/(16·B).
fn turning(with: &Analyst, without: &Analyst) -> Result<Vec<Answer>> {
    let rule = |analyst: &Analyst| -> Result<Option<f64>> {
        let roof = Roof::of(&analyst.deployment().hardware)?;
        let dense = |op: &&roofline_core::work::Op| op.family == Family::Gemm && op.matrix.is_some();
        let (mut bytes, mut seconds) = (0.0, 0.0);
        for op in analyst.pricer().ops().filter(dense) {
            bytes += op.repeat * op.work.weight_bytes.fixed;
            seconds += op.repeat * op.work.flops.token / roof.peak(op.format)?;
        }
        Ok((seconds > 0.0 && bytes > 0.0).then(|| bytes / roof.bandwidth() / seconds))
    };
    let answer = |name, value, about| Answer { name, value, unit: "tokens a step", about };
    let mut all = vec![answer(
        "compute_bound_from",
        rule(with)?,
        "linear layers turn compute-bound: b* = P·bits/(16·B), activations left out",
    )];
    if with.pricer() != without.pricer() {
        let about = "the same without the techniques: P/B for 16-bit weights";
        all.push(answer("compute_bound_from_without", rule(without)?, about));
    }
    Ok(all)
}

/// The largest batch at which a step is quicker `with` than `without`.
fn batch(with: &Analyst, without: &Analyst, point: &Point, about: &'static str) -> Result<Answer> {
    let gains = |batch_size: u64| -> Result<bool> {
        let point = Point { batch_size, ..*point };
        let (new, old) = (with.times(&point)?.step.step.seconds, without.times(&point)?.step.step.seconds);
        Ok(new < old * (1.0 - 1e-9))
    };
    let value = largest(MOST, gains)?;
    Ok(Answer {
        name: "gain_gone_beyond",
        value: match value {
            Some(MOST) => None,
            Some(batch) => Some(batch as f64),
            None => Some(0.0),
        },
        unit: "sequences",
        about,
    })
}

/// The least chance of a draft's acceptance at which a token comes as quickly as without drafts, all else the same: with the steps' exact
/// times, (1 − α^(γ+1))/(1 − α) = T_with/T_without, solved by halving.
fn acceptance(deployment: &Deployment, point: &Point, engine: &EngineMemory) -> Result<Answer> {
    let undrafted = Deployment { techniques: deployment.techniques.token_by_token(), ..deployment.clone() };
    let step = |deployment: &Deployment| -> Result<f64> {
        Ok(Analyst::new(deployment.clone(), engine)?.times(point)?.step.step.seconds)
    };
    let ratio = step(deployment)? / step(&undrafted)?;
    let drafts = deployment.techniques.drafting().map_or(0, |drafting| drafting.tokens as usize);
    let tokens = |chance: f64| expected_tokens(&vec![chance; drafts]);
    let value = if ratio > tokens(1.0) {
        None
    } else if ratio <= 1.0 {
        Some(0.0)
    } else {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..60 {
            let middle: f64 = f64::midpoint(low, high);
            if tokens(middle) < ratio { low = middle } else { high = middle }
        }
        Some(high)
    };
    Ok(Answer {
        name: "speculation_pays_from",
        value,
        unit: "chance of acceptance",
        about: "least chance, the same at every position, at which a token comes as quickly as without; none: never",
    })
}

/// Contexts up to which the cache is no larger than the weights: in what a step reads, in what memory holds, and, as the
/// survey counts, against the matrices of the layers alone.
fn cache(with: &Analyst, point: &Point) -> Result<Vec<Answer>> {
    let (batch, plan) = (point.batch_size as f64, with.memory());
    if plan.kv().bytes(MOST) == plan.kv().bytes(1) {
        return Ok(Vec::new());
    }
    let outcome = with.outcome(point)?;
    let resident: f64 = with.pricer().ops().map(|op| op.stage_repeat * op.work.resident.bytes).sum();
    let vectors = outcome.memory.weights - resident;
    let read = outcome.done.device().weight_bytes + vectors;
    let ends = ["embedding", "lm_head"];
    let matrices = with.pricer().ops().filter(|op| !ends.contains(&op.name.as_str()));
    let layers: f64 = matrices.map(|op| op.stage_repeat * op.work.resident.bytes).sum();
    let of = |bytes: f64| -> Result<Option<f64>> {
        let held = largest(MOST, |context| Ok(plan.kv().bytes(context) * batch <= bytes))?;
        Ok(held.filter(|context| *context < MOST).map(|context| context as f64))
    };
    let answer = |name, value, about| Answer { name, value, unit: "tokens", about };
    Ok(vec![
        answer(
            "kv_read_outweighs_beyond",
            of(read)?,
            "context beyond which a step reads more cache than weights",
        ),
        answer(
            "kv_held_outweighs_beyond",
            of(outcome.memory.weights)?,
            "context beyond which memory holds more cache than weights",
        ),
        answer(
            "kv_outweighs_layers_beyond",
            of(layers)?,
            "the same against the matrices of the layers alone, as the survey counts",
        ),
    ])
}

/// The answers as columns.
pub fn table(answers: &[Answer]) -> Table {
    let text =
        |of: fn(&Answer) -> &str| Column::Str(answers.iter().map(|answer| of(answer).to_string()).collect());
    Table::new()
        .with("name", text(|answer| answer.name))
        .with("value", Column::OptF64(answers.iter().map(|answer| answer.value).collect()))
        .with("unit", text(|answer| answer.unit))
        .with("about", text(|answer| answer.about))
}

/// What bounds a decode step, for every batch and context: `batch_size, context, bound, step_s, kv_share` of the bytes.
///
/// # Errors
/// Sizes that are not possible.
pub fn bound_map(analyst: &Analyst, batches: &[u64], contexts: &[u64]) -> Result<Table> {
    let mut rows = Vec::new();
    for &batch_size in batches {
        for &input_len in contexts {
            let point = Point {
                question: Question::Decode,
                batch_size,
                input_len,
                output_len: 1,
                prefix_len: 0,
                chunk: 0,
            };
            rows.push((point, analyst.outcome(&point)?));
        }
    }
    let share = |outcome: &roofline_core::analysis::Outcome| {
        let device = outcome.done.device();
        device.kv_bytes / device.bytes()
    };
    Ok(Table::new()
        .with("batch_size", Column::U64(rows.iter().map(|(point, _)| point.batch_size).collect()))
        .with("context", Column::U64(rows.iter().map(|(point, _)| point.input_len).collect()))
        .with(
            "bound",
            Column::Str(rows.iter().map(|(_, outcome)| outcome.done.bound().name().to_string()).collect()),
        )
        .with(
            "step_s",
            Column::F64(rows.iter().map(|(_, outcome)| outcome.times.step.step.seconds).collect()),
        )
        .with("kv_share", Column::F64(rows.iter().map(|(_, outcome)| share(outcome)).collect())))
}
