//! One deployment, ready for any number of points under any question.

use std::cell::Cell;
use std::sync::OnceLock;

use roofline_core::analysis::Analyst;
use roofline_core::batch::{Answers, BLOCK, Kernel, Scratch, Sizes, Want};
use roofline_core::memory::ActivationPeak;
use roofline_core::per_step::PerStep;
use roofline_core::point::{Point, Question};
use roofline_core::step::Hidden;
use roofline_core::technique::Generation;

use crate::results::{Block, Measure, Wanted};

/// A compiled deployment, and its kernels as questions come up.
#[derive(Debug)]
pub struct Deployed {
    analyst: Analyst,
    activations: ActivationPeak,
    kernels: [OnceLock<Kernel>; Question::ALL.len()],
    generation: Generation,
}

/// Memory that pricing works in; one a thread.
#[derive(Debug, Default)]
pub struct Desk {
    scratch: Scratch,
    answers: Answers,
}

/// Lends this thread's desk and block to `work`: to lay them out anew takes as long as pricing thousands of points.
pub fn at_desk<T>(work: impl FnOnce(&mut Desk, &mut Block) -> T) -> T {
    thread_local! {
        static KEPT: Cell<Option<Box<(Desk, Block)>>> = const { Cell::new(None) };
    }
    let mut kept = KEPT.take().unwrap_or_default();
    let (desk, block) = &mut *kept;
    let done = work(desk, block);
    KEPT.set(Some(kept));
    done
}

const MEMORY: [Measure; 6] = [
    Measure::Weights,
    Measure::Kv,
    Measure::Memory,
    Measure::EngineMemory,
    Measure::Fits,
    Measure::MaxConcurrency,
];

impl Deployed {
    /// Gets ready.
    pub fn new(analyst: Analyst) -> Deployed {
        let activations = ActivationPeak::of(analyst.deployment(), 1.0);
        let generation = analyst.generation();
        Deployed { analyst, activations, kernels: Default::default(), generation }
    }

    /// What answers for one point.
    pub fn analyst(&self) -> &Analyst {
        &self.analyst
    }

    /// Measures that are unknown whatever the sizes.
    pub fn unknown(&self, question: Question) -> Wanted {
        let hardware = &self.analyst.deployment().hardware;
        let prompts = matches!(question, Question::Prefill | Question::Chat);
        let energy = hardware.tdp.value.is_some() && hardware.idle.value.is_some();
        let known = [
            (Measure::Low, self.analyst.pricer().is_predicted()),
            (Measure::High, self.analyst.pricer().is_predicted()),
            (Measure::Ttft, prompts),
            (Measure::Tpot, question.decodes()),
            (Measure::E2e, question == Question::Chat),
            (Measure::TokensPerUser, question.decodes()),
            (Measure::Energy, energy),
            (Measure::Usd, hardware.price.value.is_some()),
        ];
        let unknown = known.iter().filter(|(_, known)| !known);
        unknown.fold(Wanted::default(), |all, (measure, _)| all.and(*measure))
    }

    /// Why a measure is among the [unknown](Deployed::unknown), in words.
    pub fn why_unknown(&self, measure: Measure, question: Question) -> String {
        let hardware = &self.analyst.deployment().hardware.name;
        let asked = match measure {
            Measure::Ttft => "prefill and chat have one",
            Measure::Tpot | Measure::TokensPerUser => "decode, mixed and chat have one",
            Measure::E2e => "chat has one",
            Measure::Low | Measure::High => return "mode = ideal has no band".to_string(),
            Measure::Energy => return format!("no power is known of `{hardware}`"),
            _ => return format!("no price is known of `{hardware}`"),
        };
        format!("phase = {} has none; {asked}", question.name())
    }

    /// The wanted measures of a block of points, each one that `Point::check` accepts, but those that are
    /// [unknown](Deployed::unknown) anyway; all of them unknown where a technique does not suit a point.
    pub fn price(
        &self,
        question: Question,
        sizes: &Sizes<'_>,
        wanted: Wanted,
        desk: &mut Desk,
        block: &mut Block,
    ) {
        let kernel = self.kernels[question as usize].get_or_init(|| Kernel::of(&self.analyst, question));
        let want = Want {
            work: wanted.has(Measure::Intensity),
            bounds: wanted.any(&[Measure::Bound, Measure::Energy]),
            band: wanted.any(&[Measure::Low, Measure::High]),
        };
        let Desk { scratch, answers } = desk;
        kernel.price(sizes, want, scratch, answers);
        self.times(question, sizes, wanted, answers, block);
        if want.bounds {
            self.bounds(question, sizes, wanted, kernel.hidden(), answers, block);
        }
        if want.work {
            let works = answers.flops.iter().zip(&answers.bytes);
            for (intensity, (flops, bytes)) in block.lane_mut(Measure::Intensity).iter_mut().zip(works) {
                *intensity = if *bytes > 0.0 { flops / bytes } else { f64::NAN };
            }
        }
        if wanted.any(&MEMORY) {
            self.memory(question, sizes, block);
        }
        self.refuse(question, sizes, block);
    }

    /// Leaves nothing known of points that a technique does not suit.
    fn refuse(&self, question: Question, sizes: &Sizes<'_>, block: &mut Block) {
        let techniques = &self.analyst.deployment().techniques;
        if techniques.list().is_empty() || !question.decodes() {
            return;
        }
        for at in 0..sizes.batch_size.len() {
            let point = point(question, sizes, at);
            if techniques.check(point.batch_size, point.before()).is_err() {
                Measure::ALL.into_iter().for_each(|measure| block.lane_mut(measure)[at] = f64::NAN);
            }
        }
    }

    fn times(
        &self,
        question: Question,
        sizes: &Sizes<'_>,
        wanted: Wanted,
        answers: &Answers,
        block: &mut Block,
    ) {
        let count = sizes.batch_size.len();
        let deployment = self.analyst.deployment();
        let (gpus, dp) = (deployment.gpus(), deployment.layout.dp as f64);
        let chat = question == Question::Chat;
        let each_step = self.generation.tokens;
        let wanted = wanted.without(self.unknown(question));
        for (measure, lane) in [
            (Measure::Step, &answers.step),
            (Measure::Ideal, &answers.ideal),
            (Measure::Low, &answers.low),
            (Measure::High, &answers.high),
            (Measure::Ttft, &answers.ttft),
            (Measure::E2e, &answers.step),
        ] {
            if wanted.has(measure) {
                block.lane_mut(measure)[..count].copy_from_slice(&lane[..count]);
            }
        }
        if wanted.has(Measure::Tpot) {
            fill(block, Measure::Tpot, count, |point| {
                let steps = (sizes.output_len[point] - 1) as f64;
                match chat {
                    true if steps > 0.0 => answers.decoding[point] / steps,
                    true => f64::NAN,
                    false => answers.step[point] / each_step,
                }
            });
        }
        if wanted.any(&[Measure::TokensPerGpu, Measure::TokensPerUser, Measure::Usd]) {
            let tokens = self.tokens(question, sizes);
            let price = deployment.hardware.price.value.unwrap_or(f64::NAN);
            let (share, cost) = (dp / gpus, price * gpus / 3600.0 / dp * 1e6);
            if wanted.has(Measure::TokensPerGpu) {
                fill(block, Measure::TokensPerGpu, count, |at| tokens[at] * share / answers.stage[at]);
            }
            if wanted.has(Measure::TokensPerUser) {
                let own = |at: usize| tokens[at] / sizes.batch_size[at] as f64 / answers.step[at];
                fill(block, Measure::TokensPerUser, count, own);
            }
            if wanted.has(Measure::Usd) {
                fill(block, Measure::Usd, count, |at| cost * answers.step[at] / tokens[at]);
            }
        }
    }

    fn bounds(
        &self,
        question: Question,
        sizes: &Sizes<'_>,
        wanted: Wanted,
        hidden: &Hidden,
        answers: &Answers,
        block: &mut Block,
    ) {
        let deployment = self.analyst.deployment();
        let count = sizes.batch_size.len();
        if wanted.has(Measure::Bound) {
            answers.bounds(hidden, &mut block.lane_mut(Measure::Bound)[..count]);
        }
        if wanted.has(Measure::Energy) {
            let tokens = self.tokens(question, sizes);
            let idle = deployment.hardware.idle.value.unwrap_or(f64::NAN);
            let more = deployment.hardware.tdp.value.unwrap_or(f64::NAN) - idle;
            let devices = deployment.gpus() / deployment.layout.dp as f64;
            fill(block, Measure::Energy, count, |at| {
                devices * (idle * answers.step[at] + more * answers.busy[at]) / tokens[at]
            });
        }
    }

    fn memory(&self, question: Question, sizes: &Sizes<'_>, block: &mut Block) {
        let plan = self.analyst.memory();
        let stages = self.analyst.deployment().layout.pp;
        let drafted = self.generation.drafted(question.decodes());
        for at in 0..sizes.batch_size.len() {
            let point = point(question, sizes, at);
            let in_flight = if question == Question::Encode { 0 } else { point.batch_size * stages };
            let memory = plan.with(in_flight, point.context() + drafted, self.activations(&point));
            block.lane_mut(Measure::Weights)[at] = memory.weights;
            block.lane_mut(Measure::Kv)[at] = memory.kv;
            block.lane_mut(Measure::Memory)[at] = memory.ideal_bytes();
            block.lane_mut(Measure::EngineMemory)[at] = memory.engine_bytes();
            block.lane_mut(Measure::Fits)[at] = f64::from(u8::from(memory.fits()));
            block.lane_mut(Measure::MaxConcurrency)[at] = memory.concurrency().unwrap_or(f64::NAN);
        }
    }

    /// Bytes of activations alive at once in the largest of a point's steps.
    fn activations(&self, point: &Point) -> f64 {
        let batch = point.batch_size as f64;
        // Tokens of a step in which every sequence goes on with its answer.
        let new = batch * self.generation.width as f64;
        let mut peak: (f64, f64, f64) = (0.0, 0.0, 0.0);
        let mut step = |tokens: f64, rows: f64, scores: f64| {
            peak = (peak.0.max(tokens), peak.1.max(rows), peak.2.max(scores));
        };
        let start = if point.question == Question::Encode { 0 } else { point.prefix_len };
        let area = |new: u64, after: u64| new as f64 * (start + after) as f64;
        // Tokens and scores of a prompt's steps.
        let prompts = || {
            let most = match (point.question, point.chunk) {
                (Question::Encode, _) | (_, 0) => point.input_len,
                (_, chunk) => chunk.min(point.input_len),
            };
            // The last chunk has the longest context, the one before it may have more tokens.
            let last = point.input_len - (point.input_len - 1) / most * most;
            let scores = area(last, point.input_len).max(area(most, point.input_len - last));
            (batch * most as f64, batch * scores)
        };
        match point.question {
            Question::Encode | Question::Prefill => {
                let (tokens, scores) = prompts();
                step(tokens, if point.question == Question::Encode { 0.0 } else { batch }, scores);
            }
            Question::Decode => {
                step(new, new, new * (point.prefix_len + point.input_len + self.generation.width) as f64);
            }
            Question::Mixed => step(
                new + point.chunk as f64,
                new + 1.0,
                new * (point.input_len + self.generation.width) as f64 + area(point.chunk, point.chunk),
            ),
            Question::Chat => {
                let (tokens, scores) = prompts();
                step(tokens, batch, scores);
                let steps = self.generation.steps(point.output_len - 1);
                if steps > 0 {
                    let answered = self.generation.tokens_after(steps - 1) + self.generation.width;
                    step(new, new, new * (point.prefix_len + point.input_len + answered) as f64);
                }
            }
        }
        self.activations.bytes(peak.0, peak.1, peak.2)
    }

    /// Tokens that leave (or enter) one rank.
    fn tokens(&self, question: Question, sizes: &Sizes<'_>) -> PerStep {
        let mut tokens = [0.0; BLOCK];
        let Sizes { batch_size, input_len, output_len, .. } = *sizes;
        let mut product = |other: &[u64]| {
            let each = tokens.iter_mut().zip(batch_size).zip(other);
            each.for_each(|((tokens, batch), other)| *tokens = *batch as f64 * *other as f64);
        };
        match question {
            Question::Prefill | Question::Encode => product(input_len),
            Question::Chat => product(output_len),
            Question::Decode | Question::Mixed => {
                let each = tokens.iter_mut().zip(batch_size);
                each.for_each(|(tokens, batch)| *tokens = *batch as f64 * self.generation.tokens);
            }
        }
        tokens
    }
}

/// Sets a measure of the first `count` points.
fn fill(block: &mut Block, measure: Measure, count: usize, value: impl Fn(usize) -> f64) {
    assert!(count <= BLOCK, "a block holds at most {BLOCK} points");
    let lane = block.lane_mut(measure)[..count].iter_mut();
    lane.enumerate().for_each(|(point, place)| *place = value(point));
}

fn point(question: Question, sizes: &Sizes<'_>, at: usize) -> Point {
    Point {
        question,
        batch_size: sizes.batch_size[at],
        input_len: sizes.input_len[at],
        output_len: sizes.output_len[at],
        prefix_len: sizes.prefix_len[at],
        chunk: sizes.chunk[at],
    }
}
