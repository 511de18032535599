//! Questions about many points of one deployment, answered a block at a time.

use super::affine::{BLOCK, PerStep};
use super::kind::Kind;
use super::linear::Linear;
use super::operators::{ByOperator, Desk, Shapes};
use super::steps::Steps;
use crate::analysis::Analyst;
use crate::point::Question;
use crate::roof::{BOUNDS, Bound};
use crate::site::LANES_BESIDE;
use crate::step::{Hidden, sticks_out};
use crate::technique::Generation;

/// What is computed besides times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Want {
    /// FLOPs and bytes.
    pub work: bool,
    /// Seconds by what bounds them, and those of a roof in use.
    pub bounds: bool,
    /// The 80 % band, where one is known.
    pub band: bool,
}

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
    pub step: PerStep,
    /// The same by the datasheet alone.
    pub ideal: PerStep,
    /// P10; only where a `band` was asked for, NaN where none is known.
    pub low: PerStep,
    /// P90; as `low`.
    pub high: PerStep,
    /// What the busiest pipeline stage takes of them.
    pub stage: PerStep,
    /// The prompt's steps among them.
    pub ttft: PerStep,
    /// The steps behind them; only of requests.
    pub decoding: PerStep,
    /// Operations on the tensor unit of the busiest device; only where `work` was asked for.
    pub flops: PerStep,
    /// Bytes its memory moves; only where `work` was asked for.
    pub bytes: PerStep,
    /// Seconds of the busiest device by what bounds them, by [`Bound`]; only where `bounds` was asked for.
    pub by_bound: [PerStep; BOUNDS],
    /// Seconds for which the busiest device waits for kernels to be launched; only where `bounds` was asked for.
    pub launching: PerStep,
    /// The same of each other lane beside the device; empty where nothing runs there.
    pub beside: Vec<[PerStep; BOUNDS]>,
    /// Seconds in which a roof of the busiest device itself would be wholly in use; only where `bounds` was asked for.
    pub busy: PerStep,
}

impl Default for Answers {
    fn default() -> Answers {
        let lane = [0.0; BLOCK];
        Answers {
            step: lane,
            ideal: lane,
            low: lane,
            high: lane,
            stage: lane,
            ttft: lane,
            decoding: lane,
            flops: lane,
            bytes: lane,
            by_bound: [lane; BOUNDS],
            launching: [0.0; BLOCK],
            beside: Vec::new(),
            busy: lane,
        }
    }
}

/// Memory that pricing works in; one a thread, used again for every block.
#[derive(Debug, Clone)]
pub struct Scratch {
    pub(super) steps: Steps,
    pub(super) pieces: Pieces,
    pub(super) context: [u64; BLOCK],
    later: [u64; BLOCK],
    desk: Desk,
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch {
            steps: Steps::default(),
            pieces: Pieces::default(),
            context: [0; BLOCK],
            later: [0; BLOCK],
            desk: Desk::default(),
        }
    }
}

/// One deployment under one question, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    question: Question,
    way: Way,
    hidden: Hidden,
    /// Whether times are predictions, and have bands.
    predicted: bool,
}

/// How its steps are priced.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    /// As the greatest of multiples of sums: the ideal roofline.
    Linear(Box<Linear>),
    /// Operator by operator.
    ByOperator(Box<ByOperator>),
}

impl Kernel {
    /// Compiles.
    pub fn of(analyst: &Analyst, question: Question) -> Kernel {
        let (pricer, generation) = (analyst.stack(question), analyst.generation());
        let one_by_one = generation == Generation::default();
        let linear = if one_by_one { Linear::of(pricer, question) } else { None };
        let way = match linear {
            Some(linear) => Way::Linear(Box::new(linear)),
            None => Way::ByOperator(Box::new(ByOperator::of(pricer, generation))),
        };
        Kernel { question, way, hidden: *pricer.hidden(), predicted: pricer.is_predicted() }
    }

    /// Shares of the computing time that hide what runs beside it: for [`Answers::exposed`].
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// Prices a block of points.
    ///
    /// # Panics
    /// If the columns differ in length or are longer than [`BLOCK`].
    pub fn price(&self, sizes: &Sizes<'_>, want: Want, scratch: &mut Scratch, answers: &mut Answers) {
        let count = sizes.batch_size.len();
        assert!(count <= BLOCK, "a block holds at most {BLOCK} points");
        for column in [sizes.input_len, sizes.output_len, sizes.prefix_len, sizes.chunk] {
            assert_eq!(column.len(), count, "columns must have equal length");
        }
        answers.clear(count, want);
        if want.band && !self.predicted {
            (answers.low, answers.high) = ([f64::NAN; BLOCK], [f64::NAN; BLOCK]);
        }
        let want = Want { band: want.band && self.predicted, ..want };
        match &self.way {
            Way::Linear(linear) => {
                linear.price(sizes, want, scratch, answers);
                answers.ideal[..count].copy_from_slice(&answers.step[..count]);
            }
            Way::ByOperator(forms) => self.price_by_operator(forms, sizes, want, scratch, answers),
        }
    }

    fn price_by_operator(
        &self,
        forms: &ByOperator,
        sizes: &Sizes<'_>,
        want: Want,
        scratch: &mut Scratch,
        answers: &mut Answers,
    ) {
        let count = sizes.batch_size.len();
        let Scratch { pieces, context, later, desk, .. } = scratch;
        let Sizes { batch_size: batch, input_len, prefix_len: prefix, .. } = *sizes;
        for ((sum, prefix), input) in context.iter_mut().zip(prefix).zip(input_len) {
            *sum = prefix + input;
        }
        let context = &mut context[..count];
        let step = |kind: Kind, new, context| Shapes { kind, batch, new, context, prefix };
        match self.question {
            Question::Decode => forms.add(&step(Kind::Decode, batch, context), None, want, desk, answers),
            Question::Mixed => {
                forms.add(&step(Kind::Mixed, sizes.chunk, input_len), None, want, desk, answers);
            }
            Question::Encode => {
                context.fill(0);
                let kind = Kind::Prompt { samples: false };
                forms.add(&step(kind, input_len, context), None, want, desk, answers);
            }
            Question::Prefill | Question::Chat => {
                let mut last = Pieces::default();
                let prompts = |pieces: &Pieces, samples: bool, desk: &mut Desk, answers: &mut Answers| {
                    let shapes = pieces.shapes(Kind::Prompt { samples });
                    forms.add(&shapes, Some(&pieces.point[..pieces.count]), want, desk, answers);
                };
                cut(sizes, pieces, &mut last, |pieces| prompts(pieces, false, desk, answers));
                prompts(&last, true, desk, answers);
                answers.ttft = answers.step;
                if self.question == Question::Chat {
                    later.iter_mut().zip(sizes.output_len).for_each(|(later, output)| *later = output - 1);
                    let runs = |answers: &mut Answers| {
                        forms.add_runs(batch, context, &later[..count], want, desk, answers);
                    };
                    answers.behind_prompt(count, runs);
                }
            }
        }
    }
}

/// Cuts prompts into chunks: hands all but the last ones to `earlier`, a block of them at a time, and collects those.
pub(super) fn cut(
    sizes: &Sizes<'_>,
    pieces: &mut Pieces,
    last: &mut Pieces,
    mut earlier: impl FnMut(&Pieces),
) {
    for point in 0..sizes.batch_size.len() {
        let (batch, input, chunk) = (sizes.batch_size[point], sizes.input_len[point], sizes.chunk[point]);
        let most = if chunk == 0 { input } else { chunk };
        let mut done = 0;
        while input - done > most {
            pieces.push(point, batch, most, sizes.prefix_len[point] + done);
            done += most;
            if pieces.count == BLOCK {
                earlier(pieces);
                pieces.count = 0;
            }
        }
        last.push(point, batch, input - done, sizes.prefix_len[point] + done);
    }
    if pieces.count > 0 {
        earlier(pieces);
        pieces.count = 0;
    }
}

impl Answers {
    /// Forgets the first `count` points, as far as they will be told.
    fn clear(&mut self, count: usize, want: Want) {
        let forget = |lane: &mut PerStep| lane[..count].fill(0.0);
        [&mut self.step, &mut self.ideal, &mut self.stage].into_iter().for_each(forget);
        if want.band {
            [&mut self.low, &mut self.high].into_iter().for_each(forget);
        }
        if want.bounds {
            self.by_bound.iter_mut().chain([&mut self.busy, &mut self.launching]).for_each(forget);
            self.beside.iter_mut().flatten().for_each(forget);
        }
        if want.work {
            [&mut self.flops, &mut self.bytes].into_iter().for_each(forget);
        }
    }

    /// Adds the steps behind the prompt of the first `count` points, and tells their seconds apart: seen as a difference, a
    /// short answer to a long prompt is rounding.
    pub(super) fn behind_prompt(&mut self, count: usize, decode: impl FnOnce(&mut Answers)) {
        let (step, stage) = (self.step, self.stage);
        [&mut self.step, &mut self.stage].into_iter().for_each(|lane| lane[..count].fill(0.0));
        decode(self);
        self.decoding = self.step;
        for (sum, before) in [(&mut self.step, step), (&mut self.stage, stage)] {
            sum[..count].iter_mut().zip(&before).for_each(|(sum, before)| *sum += before);
        }
    }

    pub(super) fn add_point(&mut self, to: usize, other: &Answers, from: usize) {
        self.step[to] += other.step[from];
        self.stage[to] += other.stage[from];
        self.flops[to] += other.flops[from];
        self.bytes[to] += other.bytes[from];
        self.busy[to] += other.busy[from];
        self.launching[to] += other.launching[from];
        for (mine, theirs) in self.by_bound.iter_mut().zip(&other.by_bound) {
            mine[to] += theirs[from];
        }
    }

    /// The seconds by bound of the device, or of a lane beside it.
    pub(super) fn of_lane(&mut self, lane: Option<usize>) -> &mut [PerStep; BOUNDS] {
        let Some(lane) = lane else { return &mut self.by_bound };
        if self.beside.is_empty() {
            self.beside = vec![[[0.0; BLOCK]; BOUNDS]; LANES_BESIDE];
        }
        &mut self.beside[lane]
    }

    /// What bounds most of the time of each of the first `bounds.len()` points, as its place in [`Bound`].
    pub fn bounds(&self, hidden: &Hidden, bounds: &mut [f64]) {
        if !self.beside.is_empty() {
            for (point, bound) in bounds.iter_mut().enumerate() {
                let seconds = self.exposed(point, hidden);
                let greater =
                    |most: Bound, bound: Bound| match seconds[bound as usize] > seconds[most as usize] {
                        true => bound,
                        false => most,
                    };
                *bound = Bound::ALL.into_iter().fold(Bound::Memory, greater) as usize as f64;
            }
            return;
        }
        let lane = |bound: Bound| &self.by_bound[bound as usize];
        let lanes = lane(Bound::Memory).iter().zip(lane(Bound::Compute)).zip(lane(Bound::Vector));
        let lanes = lanes.zip(lane(Bound::Link).iter().zip(lane(Bound::Launch))).zip(&self.launching);
        for (most, ((((memory, compute), vector), (link, launch)), launching)) in bounds.iter_mut().zip(lanes)
        {
            let shown = link - hidden.links * (memory + compute + vector + launch);
            let (mut best, mut which) = (*memory, Bound::Memory as usize as f64);
            for (seconds, bound) in [
                (*compute, Bound::Compute),
                (*vector, Bound::Vector),
                (shown, Bound::Link),
                (launch + launching, Bound::Launch),
            ] {
                which = if seconds > best { bound as usize as f64 } else { which };
                best = if seconds > best { seconds } else { best };
            }
            *most = which;
        }
    }

    /// Seconds by what bounds them, communication and what runs beside only as far as computing does not hide it, as
    /// [`Accumulated::bounds`](crate::accumulate::Accumulated::bounds) tells them: by [`Bound`].
    pub fn exposed(&self, point: usize, hidden: &Hidden) -> [f64; BOUNDS] {
        let mut seconds = self.by_bound.each_ref().map(|lane| lane[point]);
        let link = Bound::Link as usize;
        let computing: f64 = seconds.iter().sum::<f64>() - seconds[link];
        seconds[link] = (seconds[link] - hidden.links * computing).max(0.0);
        if !self.beside.is_empty() {
            let mut lanes = [0.0; LANES_BESIDE];
            let all = |bounds: &[PerStep; BOUNDS]| bounds.iter().map(|lane| lane[point]).sum();
            lanes.iter_mut().zip(&self.beside).for_each(|(sum, bounds)| *sum = all(bounds));
            let (lane, more) = sticks_out(&lanes, seconds.iter().sum(), hidden);
            if more > 0.0 {
                for (sum, part) in seconds.iter_mut().zip(&self.beside[lane]) {
                    *sum += part[point] / lanes[lane] * more;
                }
            }
        }
        seconds[Bound::Launch as usize] += self.launching[point];
        seconds
    }
}

/// Prompt chunks, and the points they belong to.
#[derive(Debug, Clone)]
pub(super) struct Pieces {
    pub(super) count: usize,
    pub(super) point: [usize; BLOCK],
    pub(super) batch: [u64; BLOCK],
    pub(super) new: [u64; BLOCK],
    pub(super) context: [u64; BLOCK],
}

impl Default for Pieces {
    fn default() -> Pieces {
        Pieces { count: 0, point: [0; BLOCK], batch: [0; BLOCK], new: [0; BLOCK], context: [0; BLOCK] }
    }
}

impl Pieces {
    fn shapes(&self, kind: Kind) -> Shapes<'_> {
        let context = &self.context[..self.count];
        Shapes {
            kind,
            batch: &self.batch[..self.count],
            new: &self.new[..self.count],
            context,
            prefix: context,
        }
    }

    fn push(&mut self, point: usize, batch: u64, new: u64, context: u64) {
        let at = self.count;
        self.point[at] = point;
        self.batch[at] = batch;
        self.new[at] = new;
        self.context[at] = context;
        self.count += 1;
    }
}
