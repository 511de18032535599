//! The answer to a question: times, bounds, traffic, memory, and what would make it faster.

use crate::accumulate::{Accumulated, OpTotal, Totals};
use crate::decodes::{Decodes, Told};
use crate::efficiency::Estimate;
use crate::error::Result;
use crate::format::Format;
use crate::memory::{EngineMemory, Memory, MemoryPlan, activation_peak};
use crate::model::{Part, Task};
use crate::point::{Point, Question};
use crate::roof::{Bound, Roof};
use crate::shape::Sums;
use crate::step::{Deployment, Pricer, Stack, StepTime};
use crate::table::{Column, Table};
use crate::technique::Generation;
use crate::work::{Family, Op, Over};

/// How many times larger than anything measured an operator is that is told of: tables of kernels carry on somewhat further
/// than they end.
const EXTRAPOLATED: f64 = 4.0;

/// From how many times its roofline on, and from which share of the time on, an operator is told to be slow.
const SLOW: (f64, f64) = (4.0, 0.25);

/// Times of one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Times {
    /// Seconds of what was asked about (a step, or the whole request for chat).
    pub step: StepTime,
    /// Time to first token: the prompt's steps (prefill, chat).
    pub ttft: Option<f64>,
    /// P10 and P90 of it; `None` where no error is known.
    pub ttft_band: Option<(f64, f64)>,
    /// Time per output token: a decode step, or the mean of all of them (decode, mixed, chat).
    pub tpot: Option<f64>,
    /// P10 and P90 of it.
    pub tpot_band: Option<(f64, f64)>,
    /// The whole request (chat).
    pub e2e: Option<f64>,
    /// Tokens that leave (decode, mixed, chat) or enter (prefill, encode) one rank in that time.
    pub tokens: f64,
}

/// A deployment ready to answer questions: compiled once, asked often.
#[derive(Debug, Clone, PartialEq)]
pub struct Analyst {
    deployment: Deployment,
    model: Pricer,
    tower: Option<Pricer>,
    memory: MemoryPlan,
}

/// Times, bound, memory, energy and cost of one point, without the operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Seconds.
    pub times: Times,
    /// What the operators do, added up.
    pub done: Accumulated,
    /// What lies in memory and how much more would fit.
    pub memory: Memory,
    /// Tokens a second and device of the whole deployment, `pp` batches in flight.
    pub tokens_per_gpu_s: f64,
    /// Tokens a second that one sequence sees (decode, mixed, chat).
    pub tokens_per_user_s: Option<f64>,
    /// Energy of the deployment, J (assumed from TDP and idle power); `None` where those are unknown.
    pub energy_j: Option<f64>,
    /// USD at the indicative price; `None` where unknown.
    pub usd: Option<f64>,
}

/// What a faster part would bring: relative change of the time for +10 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sensitivity {
    /// Memory bandwidth.
    pub bandwidth: f64,
    /// Peaks of tensor and vector unit.
    pub compute: f64,
    /// Links.
    pub link: f64,
}

/// The whole answer to one question.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Times, memory, cost.
    pub outcome: Outcome,
    /// Every operator, all occurrences together, on the busiest device.
    pub ops: Vec<OpTotal>,
    /// Work of the busiest device.
    pub per_gpu: Totals,
    /// Work of the whole deployment.
    pub deployment: Totals,
    /// FLOP/B at which the main multiplication format turns from memory- to compute-bound.
    pub ridge: f64,
    /// That format.
    pub ridge_format: Format,
    /// FLOP/B of the same format over the slowest link that a technique fetches or sends over; `None` without one.
    pub link_ridge: Option<f64>,
    /// Tokens a step from which the layers' dense multiplications are compute-bound; `None`: never.
    pub compute_bound_tokens: Option<f64>,
    /// What a faster part would bring.
    pub sensitivity: Sensitivity,
    /// Sentences to print with it.
    pub notes: Vec<String>,
}

impl Analyst {
    /// Compiles a deployment.
    ///
    /// # Errors
    /// A layout the model does not allow; a peak, link or capacity that is needed and not known.
    pub fn new(deployment: Deployment, engine: &EngineMemory) -> Result<Analyst> {
        let roof = Roof::of(&deployment.hardware)?;
        Analyst::on(&roof, deployment, engine)
    }

    /// Compiles a deployment under other ceilings than its device's own: what faster parts would bring.
    ///
    /// # Errors
    /// As [`Analyst::new`].
    pub fn on(roof: &Roof, deployment: Deployment, engine: &EngineMemory) -> Result<Analyst> {
        deployment.layout.check(&deployment.model)?;
        let model = deployment.compile_on(roof, Stack::Model)?;
        let tower = match deployment.model.vision {
            Some(_) => Some(deployment.compile_on(roof, Stack::Tower)?),
            None => None,
        };
        let memory = MemoryPlan::of(&deployment, engine)?;
        Ok(Analyst { deployment, model, tower, memory })
    }

    /// What it answers for.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    /// The compiled model.
    pub fn pricer(&self) -> &Pricer {
        &self.model
    }

    /// Its compiled vision tower, if it has one.
    pub fn tower(&self) -> Option<&Pricer> {
        self.tower.as_ref()
    }

    /// How its memory is divided.
    pub fn memory(&self) -> &MemoryPlan {
        &self.memory
    }

    fn check(&self, point: &Point) -> Result<()> {
        point.check(&self.deployment.model)?;
        match point.question {
            Question::Prefill | Question::Encode => Ok(()),
            _ => self.deployment.techniques.check(point.batch_size, point.before()),
        }
    }

    /// Times of a point: the one function behind `analyze`, `evaluate` and `sweep`.
    ///
    /// # Errors
    /// Sizes or a phase that are not possible.
    pub fn times(&self, point: &Point) -> Result<Times> {
        self.check(point)?;
        Ok(times(self.stack(point.question), point, &self.generation()))
    }

    /// Everything about a point but its operators.
    ///
    /// # Errors
    /// Sizes or a phase that are not possible.
    pub fn outcome(&self, point: &Point) -> Result<Outcome> {
        self.check(point)?;
        let pricer = self.stack(point.question);
        let generation = self.generation();
        let times = times(pricer, point, &generation);
        let mut done = Accumulated::new(pricer);
        let (mut tokens, mut rows, mut scores) = (0.0f64, 0.0f64, 0.0f64);
        each_step(pricer, point, &generation, Told::Operators, |sums, steps| {
            done.add(pricer, sums, steps);
            let all = sums.all();
            (tokens, rows) = (tokens.max(all.tokens), rows.max(all.logits));
            scores = scores.max(all.reach[0].area);
        });
        let activations = activation_peak(&self.deployment, tokens, rows, scores, 1.0);
        let in_flight =
            if point.question == Question::Encode { 0 } else { point.batch_size * self.deployment.layout.pp };
        let memory = self.memory.with(
            in_flight,
            point.context() + generation.drafted(point.question.decodes()),
            activations,
        );
        let (hardware, layout) = (&self.deployment.hardware, self.deployment.layout);
        let (gpus, seconds) = (self.deployment.gpus(), times.step.step.seconds);
        let energy_j = hardware
            .tdp
            .value
            .zip(hardware.idle.value)
            .map(|(tdp, idle)| gpus * (idle * seconds + (tdp - idle) * done.busy()));
        let leaves = !matches!(point.question, Question::Prefill | Question::Encode);
        Ok(Outcome {
            tokens_per_gpu_s: times.tokens * layout.dp as f64 / times.step.stage / gpus,
            tokens_per_user_s: leaves.then(|| times.tokens / point.batch_size as f64 / seconds),
            usd: hardware.price.value.map(|price| price * gpus * seconds / 3600.0),
            energy_j,
            times,
            done,
            memory,
        })
    }

    /// The whole answer.
    ///
    /// # Errors
    /// Sizes or a phase that are not possible.
    pub fn analyze(&self, point: &Point) -> Result<Analysis> {
        let outcome = self.outcome(point)?;
        let pricer = self.stack(point.question);
        let roof = Roof::of(&self.deployment.hardware)?;
        let ops = outcome.done.ops(pricer);
        let layout = self.deployment.layout;
        let techniques = &self.deployment.techniques;
        let ranks = (layout.tp * layout.dp) as f64 * techniques.devices() / techniques.together();
        let (ridge_format, ridge) = ridge(&ops, &roof);
        let stack = if std::ptr::eq(pricer, &self.model) { Stack::Model } else { Stack::Tower };
        let generation = self.generation();
        let faster = |compute: f64, bandwidth: f64, link: f64| -> Result<f64> {
            let pricer = self.deployment.compile_on(&roof.faster(compute, bandwidth, link), stack)?;
            Ok(times(&pricer, point, &generation).step.step.seconds / outcome.times.step.step.seconds - 1.0)
        };
        let sensitivity = Sensitivity {
            bandwidth: faster(1.0, 1.1, 1.0)?,
            compute: faster(1.1, 1.0, 1.0)?,
            link: faster(1.0, 1.0, 1.1)?,
        };
        Ok(Analysis {
            per_gpu: outcome.done.device(),
            deployment: outcome.done.rank.times(ranks),
            compute_bound_tokens: turning_point(pricer, &roof, point.question),
            notes: [
                notes(&self.deployment, point),
                self.deployment.idle()?,
                self.lost(point, &outcome)?,
                self.unmeasured(pricer, point),
                slow(&ops),
            ]
            .concat(),
            ops,
            link_ridge: pricer
                .slowest_link()
                .zip(roof.peak(ridge_format).ok())
                .map(|(link, peak)| peak / link),
            ridge,
            ridge_format,
            sensitivity,
            outcome,
        })
    }

    /// A plain word where an operator is larger than anything its fit was measured on.
    fn unmeasured(&self, pricer: &Pricer, point: &Point) -> Vec<String> {
        let mut farthest: Option<(String, f64, String)> = None;
        each_step(pricer, point, &self.generation(), Told::Operators, |sums, _| {
            let known = farthest.as_ref().map_or(EXTRAPOLATED, |(_, times, _)| *times);
            if let Some((name, times, source)) = pricer.beyond(sums).filter(|(_, times, _)| *times > known) {
                farthest = Some((name.to_string(), times, source.to_string()));
            }
        });
        let said = |(name, times, source): (String, f64, String)| {
            format!(
                "`{name}` is {times:.0} times as large as anything that {source} was measured on: an extrapolation, whose \
                 band is that of smaller ones"
            )
        };
        farthest.map(said).into_iter().collect()
    }

    /// A plain word where drafting several tokens makes each of them slower.
    fn lost(&self, point: &Point, outcome: &Outcome) -> Result<Vec<String>> {
        let (Some(tpot), true) = (outcome.times.tpot, self.generation().width > 1) else {
            return Ok(Vec::new());
        };
        let techniques = self.deployment.techniques.token_by_token();
        let plain = Deployment { techniques, ..self.deployment.clone() };
        let alone = times(&plain.compile()?, point, &Generation::default()).tpot.unwrap_or(0.0);
        let loses = format!(
            "drafting makes a token slower: {:.3} ms instead of {:.3} ms without; it needs fewer sequences, or a higher \
             acceptance (`break-even` says which)",
            1e3 * tpot,
            1e3 * alone
        );
        Ok(if tpot > alone { vec![loses] } else { Vec::new() })
    }

    /// How many tokens a step brings, and how many it takes.
    pub fn generation(&self) -> Generation {
        self.deployment.techniques.generation()
    }

    /// What runs to answer such a question.
    pub(crate) fn stack(&self, question: Question) -> &Pricer {
        match &self.tower {
            Some(tower) if question == Question::Encode && self.deployment.model.task == Task::Decoder => {
                tower
            }
            _ => &self.model,
        }
    }
}

/// A plain word where kernels, not the device, make the time: those of a format that an engine never tuned, say.
fn slow(ops: &[OpTotal]) -> Vec<String> {
    let all: f64 = ops.iter().map(|op| op.predicted.seconds).sum();
    let far = |op: &&OpTotal| {
        op.bound.is_some_and(|bound| bound != Bound::Launch)
            && op.ideal > 0.0
            && op.predicted.seconds >= SLOW.0 * op.ideal
            && op.predicted.seconds >= SLOW.1 * all
    };
    let said = |op: &OpTotal| {
        format!(
            "`{}` takes {:.0} times its roofline: its kernels do, says {}, not the device; {} may serve better",
            op.name,
            op.predicted.seconds / op.ideal,
            op.source,
            if op.bound == Some(Bound::Link) {
                "fewer devices a replica"
            } else {
                "another format or engine"
            }
        )
    };
    ops.iter()
        .filter(far)
        .max_by(|a, b| a.predicted.seconds.total_cmp(&b.predicted.seconds))
        .map(said)
        .into_iter()
        .collect()
}

/// Every step of a point, in order, each with the number of steps that it stands for: 1 but for a long answer's.
fn each_step(
    pricer: &Pricer,
    point: &Point,
    generation: &Generation,
    told: Told,
    mut see: impl FnMut(&Sums, f64),
) {
    let reaches = pricer.reaches();
    let mut see_one = |sums: &Sums| see(sums, 1.0);
    match point.question {
        Question::Prefill => point.prompt_steps(reaches, true).iter().for_each(see_one),
        Question::Encode => {
            Point { chunk: 0, prefix_len: 0, ..*point }.prompt_steps(reaches, false).iter().for_each(see_one);
        }
        Question::Decode => {
            see_one(&point.verify_step(reaches, generation.width, point.prefix_len + point.input_len));
        }
        Question::Mixed => see_one(&point.mixed_step(reaches, generation.width)),
        Question::Chat => {
            point.prompt_steps(reaches, true).iter().for_each(see_one);
            Decodes { pricer, point, generation, told }.each(see);
        }
    }
}

fn times(pricer: &Pricer, point: &Point, generation: &Generation) -> Times {
    let mut prompts = 1;
    if point.question == Question::Chat && point.chunk > 0 {
        prompts = point.input_len.div_ceil(point.chunk);
    }
    // What comes behind the prompt is added up apart: seen as a difference, a short answer to a long prompt is rounding.
    let (mut first, mut behind, mut count) = (Sum::default(), Sum::default(), 0);
    each_step(pricer, point, generation, Told::Steps, |sums, steps| {
        let sum = if count < prompts { &mut first } else { &mut behind };
        sum.add(pricer.seconds(sums), steps);
        count += 1;
    });
    let total = first.and(&behind);
    let ttft = first.step;
    let batch = point.batch_size as f64;
    let step: StepTime = total.into();
    let seconds = step.step.seconds;
    let band = |sum: Sum| {
        let step = StepTime::from(sum).step;
        step.low.zip(step.high)
    };
    let each = |(low, high): (f64, f64), count: f64| (low / count, high / count);
    match point.question {
        Question::Prefill | Question::Encode => Times {
            step,
            ttft: (point.question == Question::Prefill).then_some(seconds),
            ttft_band: if point.question == Question::Prefill { band(total) } else { None },
            tpot: None,
            tpot_band: None,
            e2e: None,
            tokens: batch * point.input_len as f64,
        },
        Question::Decode | Question::Mixed => {
            let tokens = generation.tokens;
            Times {
                step,
                ttft: None,
                ttft_band: None,
                tpot: Some(seconds / tokens),
                tpot_band: band(total).map(|band| each(band, tokens)),
                e2e: None,
                tokens: batch * tokens,
            }
        }
        Question::Chat => {
            let decodes = point.output_len - 1;
            Times {
                step,
                ttft: Some(ttft),
                ttft_band: band(first),
                tpot: (decodes > 0).then(|| behind.step / decodes as f64),
                tpot_band: band(behind).filter(|_| decodes > 0).map(|band| each(band, decodes as f64)),
                e2e: Some(seconds),
                tokens: batch * point.output_len as f64,
            }
        }
    }
}

/// Step times added up; a band only where every step has one.
#[derive(Default, Clone, Copy)]
struct Sum {
    priced: u64,
    banded: u64,
    step: f64,
    low: f64,
    high: f64,
    ideal: f64,
    stage: f64,
}

impl Sum {
    fn add(&mut self, time: StepTime, steps: f64) {
        self.priced += 1;
        if let (Some(low), Some(high)) = (time.step.low, time.step.high) {
            self.banded += 1;
            self.low += low * steps;
            self.high += high * steps;
        }
        self.step += time.step.seconds * steps;
        self.ideal += time.ideal * steps;
        self.stage += time.stage * steps;
    }

    fn and(&self, more: &Sum) -> Sum {
        Sum {
            priced: self.priced + more.priced,
            banded: self.banded + more.banded,
            step: self.step + more.step,
            low: self.low + more.low,
            high: self.high + more.high,
            ideal: self.ideal + more.ideal,
            stage: self.stage + more.stage,
        }
    }
}

impl From<Sum> for StepTime {
    fn from(sum: Sum) -> StepTime {
        let banded = sum.banded > 0 && sum.banded == sum.priced;
        let step =
            Estimate { seconds: sum.step, low: banded.then_some(sum.low), high: banded.then_some(sum.high) };
        StepTime { step, ideal: sum.ideal, stage: sum.stage }
    }
}

impl Analysis {
    /// The operators as columns: of one device (the busiest), all occurrences together.
    pub fn ops_table(&self) -> Table {
        let rows = &self.ops;
        let total: f64 = rows.iter().map(|op| op.predicted.seconds).sum();
        let number = |f: &dyn Fn(&OpTotal) -> f64| Column::F64(rows.iter().map(f).collect());
        let maybe = |f: &dyn Fn(&OpTotal) -> Option<f64>| Column::OptF64(rows.iter().map(f).collect());
        let text = |f: fn(&OpTotal) -> &str| Column::Str(rows.iter().map(|op| f(op).to_string()).collect());
        Table::new()
            .with("op", text(|op| &op.name))
            .with("repeat", number(&|op| op.repeat))
            .with("flops", number(&|op| op.work.flops))
            .with("bytes", number(&|op| op.work.bytes()))
            .with("weight_bytes", number(&|op| op.work.weight_bytes))
            .with("activation_bytes", number(&|op| op.work.activation_bytes))
            .with("kv_bytes", number(&|op| op.work.kv_bytes))
            .with("link_bytes", number(&|op| op.work.link_bytes))
            .with("intensity", maybe(&|op| op.work.intensity()))
            .with("ideal_s", number(&|op| op.ideal))
            .with("predicted_s", number(&|op| op.predicted.seconds))
            .with("low_s", maybe(&|op| op.predicted.low))
            .with("high_s", maybe(&|op| op.predicted.high))
            .with("share", number(&|op| if total > 0.0 { op.predicted.seconds / total } else { 0.0 }))
            .with("bound", text(|op| op.bound.map_or("fused", Bound::name)))
            .with("source", Column::Str(rows.iter().map(|op| op.source.to_string()).collect()))
            .with("family", text(|op| op.family.name()))
            .with("format", text(|op| op.format.name()))
            .with("vector_flops", number(&|op| op.work.vector_flops))
    }

    /// Share of the busiest device's time by what bounds it, largest first.
    pub fn bounds(&self) -> Vec<(Bound, f64)> {
        let bounds = self.outcome.done.bounds();
        let total: f64 = bounds.iter().map(|(_, seconds)| seconds).sum();
        bounds.into_iter().map(|(bound, seconds)| (bound, seconds / total)).collect()
    }
}

/// FLOP/B of the ridge of the format that most tensor operations run in.
fn ridge(ops: &[OpTotal], roof: &Roof) -> (Format, f64) {
    let flops =
        |format: Format| -> f64 { ops.iter().filter(|op| op.format == format).map(|op| op.work.flops).sum() };
    let main = Format::ALL.into_iter().max_by(|a, b| flops(*a).total_cmp(&flops(*b))).unwrap_or(Format::Bf16);
    (main, roof.peak(main).map_or(0.0, |peak| peak / roof.bandwidth()))
}

/// Tokens at which the layers' dense multiplications of a step, one of decoding sequences alone or one with prompts,
/// together take as long to compute as to read: T·F/P = (W + T·A)/B, so T = (W/B) / (F/P − A/B).
fn turning_point(pricer: &Pricer, roof: &Roof, question: Question) -> Option<f64> {
    let (mut weights, mut flops, mut activations) = (0.0, 0.0, 0.0);
    let alone = matches!(question, Question::Decode | Question::Chat);
    let step = if alone { Over::DecodeAlone } else { Over::WithPrompts };
    let dense = |op: &&Op| {
        op.family == Family::Gemm && op.work.flops.token > 0.0 && [Over::All, step].contains(&op.over)
    };
    for op in pricer.ops().filter(dense) {
        weights += op.repeat * op.work.weights_of_many() / roof.bandwidth();
        flops += op.repeat * op.work.flops.token / roof.peak(op.format).ok()?;
        activations += op.repeat * op.work.activation_bytes.token / roof.bandwidth();
    }
    let gain = flops - activations;
    (gain > 0.0 && weights > 0.0).then(|| weights / gain)
}

fn notes(deployment: &Deployment, point: &Point) -> Vec<String> {
    let (model, hardware) = (&deployment.model, &deployment.hardware);
    let mut notes = model.notes.clone();
    notes.extend(deployment.techniques.notes());
    if let Some(most) = model.max_context.filter(|most| point.context() > *most) {
        notes.push(format!(
            "a context of {} tokens is longer than the {most} that {} was made for",
            point.context(),
            model.title
        ));
    }
    for group in &model.layers {
        for part in [Part::Attention, Part::State, Part::Dense, Part::Experts] {
            let wanted = deployment.precision.of(group, part).activation;
            match hardware.multiply_format(wanted) {
                Some(real) if real != wanted => {
                    notes.push(format!("{} has no {wanted} unit: multiplies in {real}", hardware.title));
                }
                _ => {}
            }
        }
    }
    let mut said = std::collections::BTreeSet::new();
    notes.retain(|note| said.insert(note.clone()));
    notes
}
