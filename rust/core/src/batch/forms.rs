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
struct Tally {
    /// All stages.
    seconds: Exposed,
    /// The busiest stage.
    stage: Exposed,
    /// All stages, by the datasheet.
    ideal: Exposed,
    /// The busiest stage by the datasheet, links apart.
    busy: f64,
    flops: f64,
    bytes: f64,
    by_bound: [f64; BOUNDS],
    band: Band,
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
        shared: &mut Shared,
        answers: &mut Answers,
    ) {
        let distinct = shared.find(shapes.batch, shapes.new);
        let mut known = [Tally::default(); BLOCK];
        for (tally, at) in known.iter_mut().zip(shared.firsts(distinct)) {
            self.tally(&self.counted, &self.sums(shapes, at), shapes.kind, want, tally);
        }
        for at in 0..shapes.batch.len() {
            let mut tally = known[shared.index(at)];
            self.tally(&self.growing, &self.sums(shapes, at), shapes.kind, want, &mut tally);
            self.finish(&tally, want, points.map_or(at, |points| points[at]), answers);
        }
    }

    /// Adds to each point the decode steps of its request: `steps` of them, the first on top of `context` tokens.
    pub(super) fn add_runs(
        &self,
        batch: &[u64],
        context: &[u64],
        steps: &[u64],
        want: Want,
        shared: &mut Shared,
        answers: &mut Answers,
    ) {
        let shapes = Shapes { kind: Kind::Decode, batch, new: batch, context, prefix: context };
        let distinct = shared.find(batch, batch);
        let mut known = [Tally::default(); BLOCK];
        for (tally, at) in known.iter_mut().zip(shared.firsts(distinct)) {
            self.tally(&self.counted, &self.sums(&shapes, at), Kind::Decode, want, tally);
        }
        for point in 0..batch.len() {
            let reaches = self.pricer.reaches();
            for done in 0..steps[point] {
                let mut tally = known[shared.index(point)];
                let mut sums = reaches.empty();
                reaches.add_item(&mut sums, Phase::Decode, batch[point] as f64, 1, context[point] + done, 1);
                self.tally(&self.growing, &sums, Kind::Decode, want, &mut tally);
                self.finish(&tally, want, point, answers);
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

    fn tally(&self, places: &[usize], sums: &Sums, kind: Kind, want: Want, tally: &mut Tally) {
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
                tally.add(line, &cost, want);
            }
        }
    }

    fn finish(&self, tally: &Tally, want: Want, point: usize, answers: &mut Answers) {
        let hidden = self.pricer.hidden();
        let (seconds, ideal) = (tally.seconds.exposed(hidden), tally.ideal.exposed(hidden));
        answers.step[point] += seconds;
        answers.stage[point] += tally.stage.exposed(hidden);
        answers.ideal[point] += ideal;
        if want.band {
            let estimate = tally.band.around(seconds, ideal);
            answers.low[point] += estimate.low.unwrap_or(f64::NAN);
            answers.high[point] += estimate.high.unwrap_or(f64::NAN);
        }
        if want.bounds {
            answers.busy[point] += tally.busy;
            for (lane, seconds) in answers.by_bound.iter_mut().zip(tally.by_bound) {
                lane[point] += seconds;
            }
        }
        if want.work {
            answers.flops[point] += tally.flops;
            answers.bytes[point] += tally.bytes;
        }
    }
}

impl Tally {
    fn add(&mut self, line: &Line, cost: &Cost, want: Want) {
        let op = line.op();
        let seconds = cost.seconds * op.repeat;
        self.seconds.add(op, seconds);
        self.stage.add(op, cost.seconds * op.stage_repeat);
        self.ideal.add(op, cost.ideal * op.repeat);
        if want.band {
            self.band.add(op.family, seconds, line.spread());
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
