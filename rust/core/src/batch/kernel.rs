//! Questions about many points of one deployment, answered a block at a time.

use super::form::{BLOCK, DECODE_KEYS, DECODES, Form, Lane, VISITED};
use super::program::{Kind, Program};
use super::rows::{COMPUTING, LINKING, STAGE_COMPUTING, STAGE_LINKING, place};
use super::run::{add_up, stretches};
use super::steps::Steps;
use crate::analysis::Analyst;
use crate::point::Question;
use crate::roof::Bound;

/// Sizes of the points of a block, as [`Point`](crate::point::Point) has them; columns of equal length, at most
/// [`BLOCK`]. Every point must be one that `Point::check` accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes<'a> {
    /// Sequences.
    pub batch_size: &'a [u64],
    /// New prompt tokens of a sequence; for decode the tokens already in its cache.
    pub input_len: &'a [u64],
    /// Tokens generated a sequence.
    pub output_len: &'a [u64],
    /// Tokens cached in front of the input.
    pub prefix_len: &'a [u64],
    /// Largest prompt chunk.
    pub chunk: &'a [u64],
}

/// What is known of the points of a block; seconds, FLOPs, bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// Seconds of what was asked about.
    pub step: Lane,
    /// What the busiest pipeline stage takes of them.
    pub stage: Lane,
    /// The prompt's steps among them.
    pub ttft: Lane,
    /// Operations on the tensor unit of the busiest device; only where `work` was asked for.
    pub flops: Lane,
    /// Bytes its memory moves; only where `work` was asked for.
    pub bytes: Lane,
    /// Seconds of the busiest device by what bounds them, by [`Bound`]; only where `bounds` was asked for.
    pub by_bound: [Lane; 4],
}

impl Default for Answers {
    fn default() -> Answers {
        let lane = [0.0; BLOCK];
        Answers { step: lane, stage: lane, ttft: lane, flops: lane, bytes: lane, by_bound: [lane; 4] }
    }
}

/// Memory that pricing works in; one a thread, used again for every block.
#[derive(Debug, Clone)]
pub struct Scratch {
    steps: Steps,
    pieces: Pieces,
    context: [u64; BLOCK],
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch { steps: Steps::default(), pieces: Pieces::default(), context: [0; BLOCK] }
    }
}

/// One deployment under one question, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    question: Question,
    overlap: f64,
    /// The step that answers the question; for prompts their last one.
    first: Program,
    /// Prompt chunks that are not the last.
    earlier: Option<Program>,
    /// Decode steps after a prompt.
    decode: Option<Program>,
}

impl Kernel {
    /// Compiles; `None` where only [`Analyst::outcome`] can answer: what is neither linear in a step's sums nor the
    /// greatest of such forms.
    pub fn of(analyst: &Analyst, question: Question) -> Option<Kernel> {
        let pricer = analyst.stack(question);
        if !pricer.is_linear() || !analyst.deployment().techniques.are_settled() {
            return None;
        }
        let of = |kind: Kind| Program::of(pricer, kind);
        let prompt = Kind::Prompt { samples: true };
        let silent = Kind::Prompt { samples: false };
        let (first, earlier, decode) = match question {
            Question::Prefill => (of(prompt)?, Some(of(silent)?), None),
            Question::Encode => (of(silent)?, None, None),
            Question::Decode => (of(Kind::Decode)?, None, None),
            Question::Mixed => (of(Kind::Mixed)?, None, None),
            Question::Chat if pricer.overlap() == 0.0 => {
                (of(prompt)?, Some(of(silent)?), Some(of(Kind::Decode)?))
            }
            Question::Chat => return None,
        };
        Some(Kernel { question, overlap: pricer.overlap(), first, earlier, decode })
    }

    /// Prices a block of points.
    ///
    /// # Panics
    /// If the columns differ in length or are longer than [`BLOCK`].
    pub fn price(
        &self,
        sizes: &Sizes<'_>,
        work: bool,
        bounds: bool,
        scratch: &mut Scratch,
        answers: &mut Answers,
    ) {
        let count = sizes.batch_size.len();
        assert!(count <= BLOCK, "a block holds at most {BLOCK} points");
        for column in [sizes.input_len, sizes.output_len, sizes.prefix_len, sizes.chunk] {
            assert_eq!(column.len(), count, "columns must have equal length");
        }
        answers.clear(count);
        let Scratch { steps, context, .. } = scratch;
        match self.question {
            Question::Decode => {
                for ((sum, prefix), input) in context.iter_mut().zip(sizes.prefix_len).zip(sizes.input_len) {
                    *sum = prefix + input;
                }
                steps.fill_decodes(&self.first, sizes.batch_size, &context[..count]);
                steps.price(&self.first, sizes.batch_size, sizes.batch_size, bounds);
                self.take(&self.first, steps, count, work, bounds, answers);
            }
            Question::Mixed => {
                context[..count].fill(1);
                steps.fill_prompts(&self.first, &context[..count], sizes.chunk, sizes.prefix_len);
                steps.fill_decodes(&self.first, sizes.batch_size, sizes.input_len);
                steps.price(&self.first, sizes.batch_size, sizes.chunk, bounds);
                self.take(&self.first, steps, count, work, bounds, answers);
            }
            Question::Encode => {
                context[..count].fill(0);
                steps.fill_prompts(&self.first, sizes.batch_size, sizes.input_len, &context[..count]);
                steps.price(&self.first, sizes.batch_size, sizes.input_len, bounds);
                self.take(&self.first, steps, count, work, bounds, answers);
            }
            Question::Prefill | Question::Chat => {
                self.prompts(sizes, work, bounds, scratch, answers);
                answers.ttft = answers.step;
                if let Some(decode) = &self.decode {
                    self.answer_run(decode, sizes, work, bounds, scratch, answers);
                }
            }
        }
    }

    /// The prompt's steps of every point: all chunks but the last, in blocks of their own, then the last ones.
    fn prompts(
        &self,
        sizes: &Sizes<'_>,
        work: bool,
        bounds: bool,
        scratch: &mut Scratch,
        answers: &mut Answers,
    ) {
        let count = sizes.batch_size.len();
        let Scratch { steps, pieces, .. } = scratch;
        let mut last = Pieces::default();
        for point in 0..count {
            let (batch, input, chunk) = (sizes.batch_size[point], sizes.input_len[point], sizes.chunk[point]);
            let most = if chunk == 0 { input } else { chunk };
            let mut done = 0;
            while input - done > most {
                pieces.push(point, batch, most, sizes.prefix_len[point] + done);
                done += most;
                if pieces.count == BLOCK {
                    self.earlier_chunks(steps, pieces, work, bounds, answers);
                }
            }
            last.push(point, batch, input - done, sizes.prefix_len[point] + done);
        }
        self.earlier_chunks(steps, pieces, work, bounds, answers);
        steps.fill_prompts(&self.first, &last.batch[..count], &last.new[..count], &last.context[..count]);
        steps.price(&self.first, &last.batch[..count], &last.new[..count], bounds);
        self.take(&self.first, steps, count, work, bounds, answers);
    }

    fn earlier_chunks(
        &self,
        steps: &mut Steps,
        pieces: &mut Pieces,
        work: bool,
        bounds: bool,
        answers: &mut Answers,
    ) {
        let (count, Some(program)) = (pieces.count, &self.earlier) else { return };
        if count == 0 {
            return;
        }
        steps.fill_prompts(program, &pieces.batch[..count], &pieces.new[..count], &pieces.context[..count]);
        steps.price(program, &pieces.batch[..count], &pieces.new[..count], bounds);
        let mut chunks = Answers::default();
        self.take(program, steps, count, work, bounds, &mut chunks);
        for (from, to) in pieces.point[..count].iter().enumerate() {
            answers.add_point(*to, &chunks, from);
        }
        pieces.count = 0;
    }

    /// The decode steps of every request, in closed form.
    fn answer_run(
        &self,
        program: &Program,
        sizes: &Sizes<'_>,
        work: bool,
        bounds: bool,
        scratch: &mut Scratch,
        answers: &mut Answers,
    ) {
        let (count, steps) = (sizes.batch_size.len(), &mut scratch.steps);
        let batch = sizes.batch_size;
        steps.columns[DECODES].iter_mut().zip(batch).for_each(|(lane, batch)| *lane = *batch as f64);
        steps.price_counted(program, batch, batch, bounds);
        for point in 0..count {
            let later = sizes.output_len[point] - 1;
            let context = sizes.prefix_len[point] + sizes.input_len[point];
            let times = later as f64;
            steps.seconds.lanes.iter_mut().for_each(|lane| lane[point] *= times);
            let (columns, seconds) = (&steps.columns, &mut steps.seconds);
            let run = (batch[point] as f64, context, later);
            for row in &program.growing {
                add_up(
                    row,
                    &program.reaches,
                    run,
                    |column| columns[column][point],
                    |bound, each| {
                        let link = bound == Bound::Link;
                        let whole = if link { LINKING } else { COMPUTING };
                        let stage = if link { STAGE_LINKING } else { STAGE_COMPUTING };
                        seconds.lanes[whole][point] += each * row.repeat;
                        if !program.one_stage {
                            seconds.lanes[stage][point] += each * row.stage_repeat;
                        }
                        if bounds && !link {
                            seconds.lanes[place(bound)][point] += each * row.stage_repeat;
                        }
                    },
                );
            }
            if work {
                // The sums of all steps: forms are linear, so their constants count once a step.
                for (index, reach) in program.reaches.iter().enumerate() {
                    if program.uses(DECODE_KEYS + index) {
                        let mut keys = 0.0;
                        stretches(*reach, context, later, |stretch| keys += stretch.sum());
                        steps.columns[DECODE_KEYS + index][point] = run.0 * keys;
                    }
                }
                for column in (VISITED..VISITED + program.visited.len()).chain([DECODES]) {
                    steps.columns[column][point] *= times;
                }
                let total =
                    |form: &Form| form.fixed * (times - 1.0) + form.at(|column| steps.columns[column][point]);
                answers.flops[point] += total(&program.flops);
                answers.bytes[point] += total(&program.bytes);
            }
        }
        self.take(program, steps, count, false, bounds, answers);
    }

    /// Adds what a block of steps takes to its points, communication only as far as computing does not hide it.
    fn take(
        &self,
        program: &Program,
        steps: &Steps,
        count: usize,
        work: bool,
        bounds: bool,
        answers: &mut Answers,
    ) {
        let lanes = &steps.seconds.lanes;
        let stage = if program.one_stage { (COMPUTING, LINKING) } else { (STAGE_COMPUTING, STAGE_LINKING) };
        expose(&mut answers.step[..count], &lanes[COMPUTING], &lanes[LINKING], self.overlap);
        expose(&mut answers.stage[..count], &lanes[stage.0], &lanes[stage.1], self.overlap);
        if bounds {
            for bound in Bound::ALL {
                let from = if bound == Bound::Link { stage.1 } else { place(bound) };
                let sum = &mut answers.by_bound[bound as usize][..count];
                sum.iter_mut().zip(&lanes[from]).for_each(|(sum, seconds)| *sum += seconds);
            }
        }
        if work {
            let mut value = [0.0; BLOCK];
            for (sum, form) in [(&mut answers.flops, &program.flops), (&mut answers.bytes, &program.bytes)] {
                form.fill(&mut value[..count], &steps.columns);
                sum[..count].iter_mut().zip(&value).for_each(|(sum, value)| *sum += value);
            }
        }
    }
}

impl Answers {
    fn lanes(&mut self) -> impl Iterator<Item = &mut Lane> {
        let few = [&mut self.step, &mut self.stage, &mut self.ttft, &mut self.flops, &mut self.bytes];
        few.into_iter().chain(&mut self.by_bound)
    }

    fn clear(&mut self, count: usize) {
        self.lanes().for_each(|lane| lane[..count].fill(0.0));
    }

    fn add_point(&mut self, to: usize, other: &Answers, from: usize) {
        self.step[to] += other.step[from];
        self.stage[to] += other.stage[from];
        self.flops[to] += other.flops[from];
        self.bytes[to] += other.bytes[from];
        for (mine, theirs) in self.by_bound.iter_mut().zip(&other.by_bound) {
            mine[to] += theirs[from];
        }
    }

    /// Seconds by what bounds them, communication only as far as computing does not hide it, as
    /// [`Accumulated::bounds`](crate::accumulate::Accumulated::bounds) tells them: by [`Bound`].
    pub fn exposed(&self, point: usize, overlap: f64) -> [f64; 4] {
        let mut seconds = self.by_bound.each_ref().map(|lane| lane[point]);
        let link = Bound::Link as usize;
        let computing: f64 = seconds.iter().sum::<f64>() - seconds[link];
        seconds[link] = (seconds[link] - overlap * computing).max(0.0);
        seconds
    }
}

fn expose(sum: &mut [f64], computing: &Lane, linking: &Lane, overlap: f64) {
    for ((sum, computing), linking) in sum.iter_mut().zip(computing).zip(linking) {
        let shown = linking - overlap * computing;
        *sum += computing + if shown > 0.0 { shown } else { 0.0 };
    }
}

/// Prompt chunks, and the points they belong to.
#[derive(Debug, Clone)]
struct Pieces {
    count: usize,
    point: [usize; BLOCK],
    batch: [u64; BLOCK],
    new: [u64; BLOCK],
    context: [u64; BLOCK],
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces { count: 0, point: [0; BLOCK], batch: [0; BLOCK], new: [0; BLOCK], context: [0; BLOCK] }
    }
}

impl Pieces {
    fn push(&mut self, point: usize, batch: u64, new: u64, context: u64) {
        let at = self.count;
        self.point[at] = point;
        self.batch[at] = batch;
        self.new[at] = new;
        self.context[at] = context;
        self.count += 1;
    }
}
