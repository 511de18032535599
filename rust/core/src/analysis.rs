//! The answer to a question: times, bounds, traffic, memory, and what would make it faster.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::format::Format;
use crate::hardware::Hardware;
use crate::memory::{EngineMemory, Memory, memory};
use crate::model::Task;
use crate::point::{Point, Question};
use crate::roof::{Bound, Roof};
use crate::shape::Sums;
use crate::step::{Deployment, OpCost, Pricer, Stack, StepTime};
use crate::table::{Column, Table};
use crate::work::Family;

/// Times of one point, without the operators.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Seconds of what was asked about (a step, or the whole request for chat).
    pub step: StepTime,
    /// Time to first token: the prompt's steps (prefill, chat).
    pub ttft: Option<f64>,
    /// Time per output token: a decode step, or the mean of all of them (decode, mixed, chat).
    pub tpot: Option<f64>,
    /// The whole request (chat).
    pub e2e: Option<f64>,
    /// Tokens that leave (decode, mixed, chat) or enter (prefill, encode) the deployment in that time, one rank.
    pub tokens: f64,
}

/// Totals of the busiest device, or of the whole deployment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    /// Operations on the tensor unit.
    pub flops: f64,
    /// Operations on the vector unit.
    pub vector_flops: f64,
    /// Bytes of weights read.
    pub weight_bytes: f64,
    /// Bytes of activations read and written.
    pub activation_bytes: f64,
    /// Bytes of KV cache and state read and written.
    pub kv_bytes: f64,
    /// Bytes sent over links.
    pub link_bytes: f64,
}

/// What a faster part would bring: relative change of the time for +10 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity {
    /// Memory bandwidth.
    pub bandwidth: f64,
    /// Peaks.
    pub compute: f64,
    /// Links.
    pub link: f64,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Seconds.
    pub times: Times,
    /// Every operator, all occurrences together, on the busiest device.
    pub ops: Vec<OpCost>,
    /// Sums over the busiest device.
    pub per_gpu: Totals,
    /// Sums over the deployment.
    pub deployment: Totals,
    /// Share of the time each bound takes, largest first.
    pub bounds: Vec<(Bound, f64)>,
    /// What lies in memory and how much more would fit.
    pub memory: Memory,
    /// FLOP/B at which the main multiplication format turns from memory- to compute-bound.
    pub ridge: f64,
    /// That format.
    pub ridge_format: Format,
    /// Tokens a step from which the dense multiplications of the layers are compute-bound; `None`: never.
    pub compute_bound_tokens: Option<f64>,
    /// What a faster part would bring.
    pub sensitivity: Sensitivity,
    /// Energy of the deployment for the question, J (assumed from TDP and idle power); `None` where those are unknown.
    pub energy_j: Option<f64>,
    /// USD for the question at the indicative price; `None` where unknown.
    pub usd: Option<f64>,
    /// Sentences to print with it.
    pub notes: Vec<String>,
}

impl Totals {
    /// Bytes of device memory moved.
    pub fn bytes(&self) -> f64 {
        self.weight_bytes + self.activation_bytes + self.kv_bytes
    }

    /// FLOP per byte of device memory.
    pub fn intensity(&self) -> f64 {
        if self.bytes() > 0.0 { self.flops / self.bytes() } else { 0.0 }
    }

    fn add(&mut self, op: &OpCost, times: f64) {
        self.flops += op.cost.flops * times;
        self.vector_flops += op.cost.vector_flops * times;
        self.weight_bytes += op.cost.weight_bytes * times;
        self.activation_bytes += op.cost.activation_bytes * times;
        self.kv_bytes += op.cost.kv_bytes * times;
        self.link_bytes += op.cost.link_bytes * times;
    }
}

/// Prices a point: the one function behind `analyze`, `evaluate` and `sweep`.
pub fn times(pricer: &Pricer, point: &Point) -> Times {
    let mut total = Sum::default();
    let batch = point.batch_size as f64;
    match point.question {
        Question::Prefill | Question::Encode => {
            steps(pricer, point).iter().for_each(|sums| total.add(pricer.seconds(sums)));
            let ttft = (point.question == Question::Prefill).then_some(total.step);
            let tokens = batch * point.input_len as f64;
            Times { step: total.into(), ttft, tpot: None, e2e: None, tokens }
        }
        Question::Decode | Question::Mixed => {
            steps(pricer, point).iter().for_each(|sums| total.add(pricer.seconds(sums)));
            Times { step: total.into(), ttft: None, tpot: Some(total.step), e2e: None, tokens: batch }
        }
        Question::Chat => {
            let reaches = pricer.reaches();
            for sums in point.prompt_steps(reaches, true) {
                total.add(pricer.seconds(&sums));
            }
            let ttft = total.step;
            let start = point.prefix_len + point.input_len;
            for context in start..start + point.output_len - 1 {
                total.add(pricer.seconds(&point.decode_step(reaches, context)));
            }
            let decodes = (point.output_len - 1) as f64;
            let tpot = (decodes > 0.0).then(|| (total.step - ttft) / decodes);
            let tokens = batch * point.output_len as f64;
            Times { step: total.into(), ttft: Some(ttft), tpot, e2e: Some(total.step), tokens }
        }
    }
}

/// Every step of a point, in order.
fn steps(pricer: &Pricer, point: &Point) -> Vec<Sums> {
    let reaches = pricer.reaches();
    match point.question {
        Question::Prefill => point.prompt_steps(reaches, true),
        Question::Encode => Point { chunk: 0, prefix_len: 0, ..*point }.prompt_steps(reaches, false),
        Question::Decode => vec![point.decode_step(reaches, point.prefix_len + point.input_len)],
        Question::Mixed => vec![point.mixed_step(reaches)],
        Question::Chat => {
            let mut all = point.prompt_steps(reaches, true);
            let start = point.prefix_len + point.input_len;
            all.extend((start..start + point.output_len - 1).map(|c| point.decode_step(reaches, c)));
            all
        }
    }
}

#[derive(Default, Clone, Copy)]
struct Sum {
    step: f64,
    low: Option<f64>,
    high: Option<f64>,
    ideal: f64,
    stage: f64,
    any: bool,
}

impl Sum {
    fn add(&mut self, time: StepTime) {
        let join = |sum: Option<f64>, more: Option<f64>, first: bool| match (sum, more) {
            (None, Some(more)) if first => Some(more),
            (Some(sum), Some(more)) => Some(sum + more),
            _ => None,
        };
        self.low = join(self.low, time.step.low, !self.any);
        self.high = join(self.high, time.step.high, !self.any);
        self.any = true;
        self.step += time.step.seconds;
        self.ideal += time.ideal;
        self.stage += time.stage;
    }
}

impl From<Sum> for StepTime {
    fn from(sum: Sum) -> StepTime {
        let step = crate::efficiency::Estimate { seconds: sum.step, low: sum.low, high: sum.high };
        StepTime { step, ideal: sum.ideal, stage: sum.stage }
    }
}

impl Analysis {
    /// Answers `point` for `deployment`, with memory as `engine` divides it.
    ///
    /// # Errors
    /// A layout, a size or a format that is not possible; a ceiling that is needed and not known.
    pub fn of(deployment: &Deployment, point: &Point, engine: &EngineMemory) -> Result<Analysis> {
        point.check(&deployment.model)?;
        deployment.layout.check(&deployment.model)?;
        let roof = Roof::of(&deployment.hardware)?;
        let stack = stack(deployment, point);
        let pricer = deployment.compile_on(&roof, stack)?;
        let times = times(&pricer, point);
        let steps = steps(&pricer, point);
        let ops = merged(&pricer, &steps);
        let per_gpu = sum(&ops, |_| 1.0);
        let deployment_totals = whole(&pricer, &steps, deployment);
        let (tokens, rows) = largest(&steps);
        let memory = memory(deployment, engine, point.batch_size, point.context(), tokens, rows)?;
        let (ridge_format, ridge) = ridge(&ops, &roof);
        let faster = |compute: f64, bandwidth: f64, link: f64| -> Result<f64> {
            let pricer = deployment.compile_on(&roof.faster(compute, bandwidth, link), stack)?;
            Ok(self::times(&pricer, point).step.step.seconds / times.step.step.seconds - 1.0)
        };
        let sensitivity = Sensitivity {
            bandwidth: faster(1.0, 1.1, 1.0)?,
            compute: faster(1.1, 1.0, 1.0)?,
            link: faster(1.0, 1.0, 1.1)?,
        };
        let seconds = times.step.step.seconds;
        let gpus = deployment.layout.gpus() as f64;
        Ok(Analysis {
            bounds: bounds(&ops, deployment.overlap),
            compute_bound_tokens: turning_point(&pricer, &roof),
            energy_j: energy(&deployment.hardware, gpus, seconds, &ops),
            usd: deployment.hardware.price.value.map(|price| price * gpus * seconds / 3600.0),
            notes: notes(deployment, point),
            times,
            ops,
            per_gpu,
            deployment: deployment_totals,
            memory,
            ridge,
            ridge_format,
            sensitivity,
        })
    }

    /// What bounds most of the time.
    pub fn bound(&self) -> Bound {
        self.bounds.first().map_or(Bound::Memory, |(bound, _)| *bound)
    }

    /// The operators as columns (UX's `ops`): of one device (the busiest), all occurrences together.
    pub fn ops_table(&self, source: &str) -> Table {
        let rows = &self.ops;
        let total: f64 = rows.iter().map(|op| op.predicted.seconds).sum();
        let number = |f: &dyn Fn(&OpCost) -> f64| Column::F64(rows.iter().map(f).collect());
        let maybe = |f: &dyn Fn(&OpCost) -> Option<f64>| Column::OptF64(rows.iter().map(f).collect());
        let text = |f: &dyn Fn(&OpCost) -> String| Column::Str(rows.iter().map(f).collect());
        let intensity = |op: &OpCost| {
            let bytes = op.cost.memory_bytes();
            if bytes > 0.0 { Some(op.cost.flops / bytes) } else { None }
        };
        Table::new()
            .with("op", text(&|op| op.name.clone()))
            .with("family", text(&|op| op.family.name().to_string()))
            .with("repeat", number(&|op| op.repeat))
            .with("flops", number(&|op| op.cost.flops))
            .with("vector_flops", number(&|op| op.cost.vector_flops))
            .with("bytes", number(&|op| op.cost.memory_bytes()))
            .with("weight_bytes", number(&|op| op.cost.weight_bytes))
            .with("activation_bytes", number(&|op| op.cost.activation_bytes))
            .with("kv_bytes", number(&|op| op.cost.kv_bytes))
            .with("link_bytes", number(&|op| op.cost.link_bytes))
            .with("intensity", maybe(&intensity))
            .with("ideal_s", number(&|op| op.cost.seconds))
            .with("predicted_s", number(&|op| op.predicted.seconds))
            .with("low_s", maybe(&|op| op.predicted.low))
            .with("high_s", maybe(&|op| op.predicted.high))
            .with("share", number(&|op| if total > 0.0 { op.predicted.seconds / total } else { 0.0 }))
            .with("bound", text(&|op| op.cost.bound.name().to_string()))
            .with("format", text(&|op| op.format.name().to_string()))
            .with("source", text(&|_| source.to_string()))
    }
}

fn stack(deployment: &Deployment, point: &Point) -> Stack {
    let tower = point.question == Question::Encode && deployment.model.task == Task::Decoder;
    if tower { Stack::Tower } else { Stack::Model }
}

/// The compiled deployment that answers `point`.
///
/// # Errors
/// A layout or size that is not possible; a ceiling that is needed and not known.
pub fn pricer(deployment: &Deployment, point: &Point) -> Result<Pricer> {
    point.check(&deployment.model)?;
    deployment.layout.check(&deployment.model)?;
    deployment.compile_on(&Roof::of(&deployment.hardware)?, stack(deployment, point))
}

/// Operator costs summed over steps; an operator's bound is the one that took most of its time.
fn merged(pricer: &Pricer, steps: &[Sums]) -> Vec<OpCost> {
    let mut merged: BTreeMap<usize, (OpCost, [f64; 4])> = BTreeMap::new();
    for op in steps.iter().flat_map(|sums| pricer.op_costs(sums)) {
        let place = Bound::ALL.iter().position(|known| *known == op.cost.bound).unwrap_or(0);
        let seconds = op.cost.seconds;
        let (_, by_bound) = merged
            .entry(op.index)
            .and_modify(|(known, _)| add(known, &op))
            .or_insert_with(|| (op, [0.0; 4]));
        by_bound[place] += seconds;
    }
    merged
        .into_values()
        .map(|(mut op, by_bound)| {
            let most = (0..4).max_by(|a, b| by_bound[*a].total_cmp(&by_bound[*b])).unwrap_or(0);
            op.cost.bound = Bound::ALL[most];
            op
        })
        .collect()
}

fn add(known: &mut OpCost, more: &OpCost) {
    let (sum, next) = (&mut known.cost, &more.cost);
    sum.flops += next.flops;
    sum.vector_flops += next.vector_flops;
    sum.weight_bytes += next.weight_bytes;
    sum.activation_bytes += next.activation_bytes;
    sum.kv_bytes += next.kv_bytes;
    sum.link_bytes += next.link_bytes;
    sum.seconds += next.seconds;
    known.predicted.seconds += more.predicted.seconds;
    known.predicted.low = known.predicted.low.zip(more.predicted.low).map(|(a, b)| a + b);
    known.predicted.high = known.predicted.high.zip(more.predicted.high).map(|(a, b)| a + b);
}

fn sum(ops: &[OpCost], times: impl Fn(&OpCost) -> f64) -> Totals {
    let mut totals = Totals::default();
    ops.iter().for_each(|op| totals.add(op, times(op)));
    totals
}

/// Totals of all devices: every stage, every tensor- and data-parallel rank.
fn whole(pricer: &Pricer, steps: &[Sums], deployment: &Deployment) -> Totals {
    let ranks = (deployment.layout.tp * deployment.layout.dp) as f64;
    let mut totals = Totals::default();
    for sums in steps {
        for op in pricer.whole_costs(sums) {
            totals.add(&op, ranks);
        }
    }
    totals
}

/// Most new tokens, and most sampled rows, of one step.
fn largest(steps: &[Sums]) -> (f64, f64) {
    steps.iter().map(Sums::all).fold((0.0, 0.0), |(tokens, rows), part| (part.tokens.max(tokens), part.logits.max(rows)))
}

fn bounds(ops: &[OpCost], overlap: f64) -> Vec<(Bound, f64)> {
    let of = |bound: Bound| -> f64 {
        ops.iter().filter(|op| op.cost.bound == bound).map(|op| op.predicted.seconds).sum()
    };
    let computing = of(Bound::Memory) + of(Bound::Compute) + of(Bound::Vector);
    let link = (of(Bound::Link) - overlap * computing).max(0.0);
    let total = computing + link;
    let mut shares: Vec<(Bound, f64)> = Bound::ALL
        .into_iter()
        .map(|bound| (bound, if bound == Bound::Link { link } else { of(bound) } / total))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares
}

/// FLOP/B of the ridge of the format that most tensor operations run in.
fn ridge(ops: &[OpCost], roof: &Roof) -> (Format, f64) {
    let mut by_format: Vec<(Format, f64)> = Vec::new();
    for op in ops {
        match by_format.iter_mut().find(|(format, _)| *format == op.format) {
            Some((_, flops)) => *flops += op.cost.flops,
            None => by_format.push((op.format, op.cost.flops)),
        }
    }
    let main = by_format.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).map_or(Format::Bf16, |(format, _)| format);
    (main, roof.peak(main).map_or(0.0, |peak| peak / roof.bandwidth()))
}

/// Tokens at which the layers' dense multiplications together take as long to compute as to read:
/// T·F/P = (W + T·A)/B, so T = (W/B) / (F/P − A/B).
fn turning_point(pricer: &Pricer, roof: &Roof) -> Option<f64> {
    let (mut weights, mut flops, mut activations) = (0.0, 0.0, 0.0);
    for op in pricer.ops().filter(|op| op.family == Family::Gemm && !op.needs_logits && op.work.flops.token > 0.0) {
        weights += op.repeat * op.work.weight_bytes.fixed / roof.bandwidth();
        flops += op.repeat * op.work.flops.token / roof.peak(op.format).ok()?;
        activations += op.repeat * op.work.activation_bytes.token / roof.bandwidth();
    }
    let gain = flops - activations;
    (gain > 0.0 && weights > 0.0).then(|| weights / gain)
}

/// GPUs·(idle·t + (TDP − idle)·Σ t_op·max(u_compute, u_memory)) (PHYSICS §3); a link-bound operator uses neither.
fn energy(hardware: &Hardware, gpus: f64, seconds: f64, ops: &[OpCost]) -> Option<f64> {
    let (tdp, idle) = (hardware.tdp.value?, hardware.idle.value?);
    let busy: f64 = ops
        .iter()
        .filter(|op| op.cost.bound != Bound::Link)
        .map(|op| op.cost.seconds)
        .sum();
    Some(gpus * (idle * seconds + (tdp - idle) * busy))
}

fn notes(deployment: &Deployment, point: &Point) -> Vec<String> {
    let mut notes = deployment.model.notes.clone();
    if let Some(most) = deployment.model.max_context.filter(|most| point.context() > *most) {
        notes.push(format!(
            "a context of {} tokens is longer than the {most} that {} was made for",
            point.context(),
            deployment.model.title
        ));
    }
    for op in lowered_formats(deployment) {
        notes.push(op);
    }
    notes
}

/// Says aloud where numbers are multiplied in a wider format than asked for.
fn lowered_formats(deployment: &Deployment) -> Vec<String> {
    let mut said = Vec::new();
    for group in &deployment.model.layers {
        for part in [crate::model::Part::Attention, crate::model::Part::Dense, crate::model::Part::Experts] {
            let wanted = deployment.precision.of(group, part).activation;
            let real = deployment.hardware.multiply_format(wanted);
            if let Some(real) = real.filter(|real| *real != wanted) {
                let text = format!("{} has no {wanted} unit: multiplies in {real}", deployment.hardware.title);
                if !said.contains(&text) {
                    said.push(text);
                }
            }
        }
    }
    said
}
