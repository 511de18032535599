//! Blocks of predicted steps: operators under fitted forms, each evaluated as for one step, but those that depend on
//! counts alone only once for all steps of the block that share them.

use super::form::BLOCK;
use super::kernel::{Answers, Want};
use super::shared::Shared;
use crate::efficiency::band::{Band, FAMILIES};
use crate::roof::{BOUNDS, Cost};
use crate::shape::{Phase, Sums};
use crate::step::{Exposed, Line, Pricer};
use crate::work::Family;

/// What steps consist of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Prompt chunks; the last ones of their prompts sample.
    Prompt {
        /// Whether logits are needed.
        samples: bool,
    },
    /// One token for each sequence.
    Decode,
    /// One token for each sequence, and one prompt chunk.
    Mixed,
}

/// Steps of one kind; columns of equal length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shapes<'a> {
    /// What they consist of.
    pub(super) kind: Kind,
    /// Sequences.
    pub(super) batch: &'a [u64],
    /// New tokens of a prompt's sequence.
    pub(super) new: &'a [u64],
    /// Tokens in the caches of decoding sequences, or in front of the prompts where nobody decodes.
    pub(super) context: &'a [u64],
    /// Tokens in front of the prompt chunk of a mixed step.
    pub(super) prefix: &'a [u64],
}

/// A deployment's operators, told apart by whether they grow with contexts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Forms {
    pricer: Pricer,
    counted: Vec<usize>,
    growing: Vec<usize>,
}

/// What a step's operators take so far.
#[derive(Debug, Clone, Copy, Default)]
struct Times {
    /// All stages.
    seconds: Exposed,
    /// The busiest stage.
    stage: Exposed,
    /// All stages, by the datasheet.
    ideal: Exposed,
}

/// What they do, and what it is spent on; only where asked for.
#[derive(Debug, Clone, Copy, Default)]
struct Detail {
    /// The busiest stage by the datasheet, links apart.
    busy: f64,
    flops: f64,
    bytes: f64,
    by_bound: [f64; BOUNDS],
    band: Band,
}

/// What is known of the distinct counts of a block; one a thread, used again for every block.
#[derive(Debug, Clone)]
pub(super) struct Known {
    shared: Shared,
    times: Vec<Times>,
    detail: Vec<Detail>,
}

impl Default for Known {
    fn default() -> Known {
        Known {
            shared: Shared::default(),
            times: vec![Times::default(); BLOCK],
            detail: vec![Detail::default(); BLOCK],
        }
    }
}

impl Forms {
    /// Tells the operators of a compiled deployment apart.
    pub(super) fn of(pricer: &Pricer) -> Forms {
        let grows = |place: &usize| pricer.lines[*place].op().grows_with_context();
        let (growing, counted) = (0..pricer.lines.len()).partition(grows);
        Forms { pricer: pricer.clone(), counted, growing }
    }

    /// Adds steps to the points they belong to: their own places, or those of `points`.
    pub(super) fn add(
        &self,
        shapes: &Shapes<'_>,
        points: Option<&[usize]>,
        want: Want,
        known: &mut Known,
        answers: &mut Answers,
    ) {
        self.count(shapes, want, known);
        for at in 0..shapes.batch.len() {
            let point = points.map_or(at, |points| points[at]);
            self.step(
                known,
                known.shared.index(at),
                &self.sums(shapes, at),
                shapes.kind,
                want,
                point,
                answers,
            );
        }
    }

    /// Prices what depends on counts alone, once for all steps that share them.
    fn count(&self, shapes: &Shapes<'_>, want: Want, known: &mut Known) {
        let distinct = known.shared.find(shapes.batch, shapes.new);
        let Known { shared, times, detail } = known;
        for ((times, detail), at) in times.iter_mut().zip(detail).zip(shared.firsts(distinct)) {
            (*times, *detail) = (Times::default(), Detail::default());
            self.tally(&self.counted, &self.sums(shapes, at), shapes.kind, want, times, detail);
        }
    }

    /// Adds a step to a point: what its counts cost, and what grows with its contexts.
    #[expect(
        clippy::too_many_arguments,
        reason = "a step is what is known of it, its sums and where it goes"
    )]
    fn step(
        &self,
        known: &Known,
        index: usize,
        sums: &Sums,
        kind: Kind,
        want: Want,
        point: usize,
        answers: &mut Answers,
    ) {
        let mut times = known.times[index];
        let mut detail = if want.any() { known.detail[index] } else { Detail::default() };
        self.tally(&self.growing, sums, kind, want, &mut times, &mut detail);
        self.finish(&times, &detail, want, point, answers);
    }

    /// Adds to each point the decode steps of its request: `steps` of them, the first on top of `context` tokens.
    pub(super) fn add_runs(
        &self,
        batch: &[u64],
        context: &[u64],
        steps: &[u64],
        want: Want,
        known: &mut Known,
        answers: &mut Answers,
    ) {
        let shapes = Shapes { kind: Kind::Decode, batch, new: batch, context, prefix: context };
        self.count(&shapes, want, known);
        for point in 0..batch.len() {
            let reaches = self.pricer.reaches();
            for done in 0..steps[point] {
                let mut sums = reaches.empty();
                reaches.add_item(&mut sums, Phase::Decode, batch[point] as f64, 1, context[point] + done, 1);
                self.step(known, known.shared.index(point), &sums, Kind::Decode, want, point, answers);
            }
        }
    }

    fn sums(&self, shapes: &Shapes<'_>, at: usize) -> Sums {
        let reaches = self.pricer.reaches();
        let mut sums = reaches.empty();
        let sequences = shapes.batch[at] as f64;
        match shapes.kind {
            Kind::Prompt { samples } => {
                let (new, context) = (shapes.new[at], shapes.context[at]);
                reaches.add_item(&mut sums, Phase::Prefill, sequences, new, context, u64::from(samples));
            }
            Kind::Decode => reaches.add_item(&mut sums, Phase::Decode, sequences, 1, shapes.context[at], 1),
            Kind::Mixed => {
                reaches.add_item(&mut sums, Phase::Decode, sequences, 1, shapes.context[at], 1);
                reaches.add_item(&mut sums, Phase::Prefill, 1.0, shapes.new[at], shapes.prefix[at], 1);
            }
        }
        sums
    }

    fn tally(
        &self,
        places: &[usize],
        sums: &Sums,
        kind: Kind,
        want: Want,
        times: &mut Times,
        detail: &mut Detail,
    ) {
        // Where nobody else is in the step, those who are there are all.
        let both = if kind == Kind::Mixed { sums.all() } else { Default::default() };
        let parts = sums.parts(match kind {
            Kind::Prompt { .. } => &sums.prefill,
            Kind::Decode => &sums.decode,
            Kind::Mixed => &both,
        });
        for place in places {
            let line = &self.pricer.lines[*place];
            if let Some(cost) = line.cost(&parts) {
                times.add(line, &cost);
                if want.any() {
                    detail.add(line, &cost, want);
                }
            }
        }
    }

    fn finish(&self, times: &Times, detail: &Detail, want: Want, point: usize, answers: &mut Answers) {
        let hidden = self.pricer.hidden();
        let (seconds, ideal) = (times.seconds.exposed(hidden), times.ideal.exposed(hidden));
        answers.step[point] += seconds;
        answers.stage[point] += times.stage.exposed(hidden);
        answers.ideal[point] += ideal;
        if want.band {
            let estimate = detail.band.around(seconds, ideal);
            answers.low[point] += estimate.low.unwrap_or(f64::NAN);
            answers.high[point] += estimate.high.unwrap_or(f64::NAN);
        }
        if want.bounds {
            answers.busy[point] += detail.busy;
            for (lane, seconds) in answers.by_bound.iter_mut().zip(detail.by_bound) {
                lane[point] += seconds;
            }
        }
        if want.work {
            answers.flops[point] += detail.flops;
            answers.bytes[point] += detail.bytes;
        }
    }
}

impl Times {
    fn add(&mut self, line: &Line, cost: &Cost) {
        let op = line.op();
        self.seconds.add(op, cost.seconds * op.repeat);
        self.stage.add(op, cost.seconds * op.stage_repeat);
        self.ideal.add(op, cost.ideal * op.repeat);
    }
}

impl Detail {
    fn add(&mut self, line: &Line, cost: &Cost, want: Want) {
        let op = line.op();
        if want.band {
            self.band.add(op.family, cost.seconds * op.repeat, line.spread());
        }
        if want.bounds {
            self.by_bound[cost.bound as usize] += cost.seconds * op.stage_repeat;
            if op.family != Family::Link {
                self.busy += cost.ideal * op.stage_repeat;
            }
        }
        if want.work {
            self.flops += cost.flops * op.stage_repeat;
            self.bytes += cost.memory_bytes() * op.stage_repeat;
        }
    }
}

const _: () = assert!(FAMILIES > Family::Host as usize, "every family has a place in a band");
