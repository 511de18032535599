//! Blocks of steps whose operators are priced one after another: under fitted forms, or however techniques run them.
//!
//! An operator is a loop over the steps of the block. Those that depend on counts alone are priced once for all steps
//! that share them, in this block or an earlier one.

use std::sync::Arc;

use super::kernel::{Answers, Want};
use super::kind::Kind;
use super::remembered::Remembered;
use super::tally::{self, Spot, Used};
use crate::efficiency::band::within;
use crate::per_step::{BLOCK, Part, Parts, PerStep};
use crate::roof::Costs;
use crate::step::Pricer;
use crate::technique::Generation;
use crate::work::Op;

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
pub(super) struct ByOperator {
    /// Tells what is remembered of this deployment from what is of another.
    identity: Arc<()>,
    pub(super) pricer: Pricer,
    pub(super) generation: Generation,
    pub(super) spots: Vec<Spot>,
    counted: Vec<usize>,
    pub(super) growing: Vec<usize>,
    pub(super) used: Used,
    pub(super) one_stage: bool,
    /// Whether an operator writes scores that the mask hides.
    areas: bool,
}

/// Memory that blocks are priced in; one a thread, used again for every block.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    decode: Box<Part>,
    prefill: Box<Part>,
    all: Box<Part>,
    costs: Box<Costs>,
    lanes: Vec<PerStep>,
    times: [PerStep; 3],
    /// By [`Kind`].
    pub(super) remembered: [Remembered; 3],
    gathered: [[u64; BLOCK]; 4],
}

impl Default for Desk {
    fn default() -> Desk {
        Desk {
            decode: Box::default(),
            prefill: Box::default(),
            all: Box::default(),
            costs: Box::default(),
            lanes: tally::nothing(),
            times: [[0.0; BLOCK]; 3],
            remembered: Default::default(),
            gathered: [[0; BLOCK]; 4],
        }
    }
}

impl ByOperator {
    /// Tells the operators of a compiled deployment apart.
    pub(super) fn of(pricer: &Pricer, generation: Generation) -> ByOperator {
        let grows = |place: &usize| pricer.lines[*place].grows;
        let (growing, counted) = (0..pricer.lines.len()).partition(grows);
        let spots: Vec<Spot> = pricer.lines.iter().map(Spot::of).collect();
        ByOperator {
            identity: Arc::new(()),
            used: Used::by(&spots),
            one_stage: pricer.ops().all(|op| op.repeat == op.stage_repeat),
            areas: pricer.ops().any(Op::has_areas),
            pricer: pricer.clone(),
            generation,
            spots,
            counted,
            growing,
        }
    }

    /// Adds steps to the points they belong to: their own places, or those of `points`.
    pub(super) fn add(
        &self,
        shapes: &Shapes<'_>,
        points: Option<&[usize]>,
        want: Want,
        desk: &mut Desk,
        answers: &mut Answers,
    ) {
        let count = shapes.batch.len();
        if count == 0 {
            return;
        }
        self.count(shapes, want, desk);
        let sums = self.used.sums(self.one_stage, want);
        let remembered = &desk.remembered[shapes.kind.index()];
        for (place, sum) in sums.iter().enumerate() {
            remembered.spread(place, &mut desk.lanes[*sum][..count]);
        }
        if !self.growing.is_empty() {
            self.fill(shapes, desk);
            self.tally(&self.growing, shapes.kind, count, want, desk);
        }
        self.finish(count, points, want, desk, answers);
    }

    /// Prices what depends on counts alone of the steps whose counts are not known yet.
    pub(super) fn count(&self, shapes: &Shapes<'_>, want: Want, desk: &mut Desk) {
        let sums = self.used.sums(self.one_stage, want);
        let kind = shapes.kind.index();
        if desk.remembered[kind].belong(&self.identity, want, sums.len()) {
            desk.lanes.iter_mut().for_each(|lane| lane.fill(0.0));
        }
        desk.remembered[kind].find(shapes.batch, shapes.new);
        let misses = desk.remembered[kind].misses().len();
        if misses == 0 {
            return;
        }
        let mut gathered = desk.gathered;
        let [batch, new, context, prefix] = &mut gathered;
        for (to, (at, _)) in desk.remembered[kind].misses().iter().enumerate() {
            (batch[to], new[to]) = (shapes.batch[*at], shapes.new[*at]);
            (context[to], prefix[to]) = (shapes.context[*at], shapes.prefix[*at]);
        }
        let distinct = Shapes {
            kind: shapes.kind,
            batch: &batch[..misses],
            new: &new[..misses],
            context: &context[..misses],
            prefix: &prefix[..misses],
        };
        self.fill(&distinct, desk);
        sums.iter().for_each(|sum| desk.lanes[*sum][..misses].fill(0.0));
        self.tally(&self.counted, shapes.kind, misses, want, desk);
        let Desk { remembered, lanes, .. } = desk;
        remembered[kind].learn(|miss, sum| lanes[sums[sum]][miss]);
    }

    fn fill(&self, shapes: &Shapes<'_>, desk: &mut Desk) {
        let reaches = || self.pricer.reaches().iter();
        let Shapes { batch, new, context, prefix, .. } = *shapes;
        let areas = self.areas;
        let width = [self.generation.width; BLOCK];
        let width = &width[..batch.len()];
        match shapes.kind {
            Kind::Prompt { samples } => {
                desk.prefill.fill(reaches(), batch, new, context, |_| u64::from(samples), areas);
            }
            Kind::Decode => desk.decode.fill(reaches(), batch, width, context, |new| new, areas),
            Kind::Mixed => {
                desk.decode.fill(reaches(), batch, width, context, |new| new, areas);
                desk.prefill.fill(reaches(), &[1; BLOCK][..batch.len()], new, prefix, |_| 1, areas);
                desk.all.add_up(&desk.prefill, &desk.decode, reaches().count(), batch.len());
            }
        }
    }

    fn tally(&self, places: &[usize], kind: Kind, count: usize, want: Want, desk: &mut Desk) {
        let Desk { decode, prefill, all, costs, lanes, .. } = desk;
        let (decode, prefill) = (&**decode, &**prefill);
        let (parts, samples) = match kind {
            Kind::Prompt { samples } => {
                (Parts { prefill: Some(prefill), decode: None, all: prefill }, samples)
            }
            Kind::Decode => (Parts { prefill: None, decode: Some(decode), all: decode }, true),
            Kind::Mixed => (Parts { prefill: Some(prefill), decode: Some(decode), all }, true),
        };
        for place in places {
            let line = &self.pricer.lines[*place];
            let Some(part) = line.op().sums_of_each(&parts, samples) else { continue };
            line.costs_of(&parts, part, count, want.bounds, costs);
            self.spots[*place].add_each(costs, count, self.one_stage, want, lanes);
        }
    }

    fn finish(
        &self,
        count: usize,
        points: Option<&[usize]>,
        want: Want,
        desk: &mut Desk,
        answers: &mut Answers,
    ) {
        let Desk { lanes, times, .. } = desk;
        self.used.all_times(lanes, self.one_stage, count, self.pricer.hidden(), times);
        let add = |to: &mut PerStep, from: &PerStep| match points {
            None => to[..count].iter_mut().zip(from).for_each(|(to, from)| *to += from),
            Some(points) => points.iter().zip(from).for_each(|(point, from)| to[*point] += from),
        };
        add(&mut answers.step, &times[0]);
        add(&mut answers.stage, &times[1]);
        add(&mut answers.ideal, &times[2]);
        if want.band {
            let (mut low, mut high) = ([0.0; BLOCK], [0.0; BLOCK]);
            self.used.widths(lanes, count, &mut low, &mut high);
            for at in 0..count {
                (low[at], high[at]) = within(times[0][at], times[2][at], low[at], high[at]);
            }
            add(&mut answers.low, &low);
            add(&mut answers.high, &high);
        }
        if want.bounds {
            add(&mut answers.busy, &lanes[tally::BUSY]);
            if self.used.launches() {
                let mut waits = [0.0; BLOCK];
                self.used.waits(lanes, self.one_stage, self.pricer.hidden(), &mut waits[..count]);
                add(&mut answers.launching, &waits);
            }
            for (lane, from) in self.used.beside() {
                for (bound, to) in answers.of_lane(lane).iter_mut().enumerate() {
                    add(to, &lanes[from + bound]);
                }
            }
        }
        if want.work {
            add(&mut answers.flops, &lanes[tally::FLOPS]);
            add(&mut answers.bytes, &lanes[tally::BYTES]);
        }
    }
}
