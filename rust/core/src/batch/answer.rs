//! The decode steps of a request whose operators are forms: straight lines over the context between a few bends.
//!
//! Attention is read from a cache that grows by a token a step, so each operator is piecewise a straight line; where its
//! pieces meet depends on form, device and batch. A stretch of steps is priced at both ends and at two places inside; if
//! these lie on the line between the ends so do the others, otherwise it is halved.

use super::kernel::{Answers, Want};
use super::kind::Kind;
use super::operators::{ByOperator, Desk, Shapes};
use super::tally::{self, SUMS, Sums};
use crate::efficiency::band::within;
use crate::model::Span;
use crate::shape::Phase;

/// How far, relative to the value, a step may lie beside the line between two others and be on it: rounding.
const ON_THE_LINE: f64 = 3e-14;

/// Steps that are added up side by side.
const ABREAST: usize = 32;
/// How far each of them is behind the first.
const AHEAD: [f64; ABREAST] = {
    let mut ahead = [0.0; ABREAST];
    let mut step = 0;
    while step < ABREAST {
        ahead[step] = step as f64;
        step += 1;
    }
    ahead
};

/// A request after its first token.
struct Run<'a> {
    batch: u64,
    /// Tokens in front of its first step.
    context: u64,
    want: Want,
    /// The sums that are told.
    told: &'a [usize],
    /// Those of operators that depend on counts alone, of every step.
    counted: &'a [f64],
}

/// One step.
struct At {
    context: f64,
    sums: Sums,
    times: [f64; 3],
}

/// Steps added up.
struct Total {
    sums: Sums,
    times: [f64; 3],
    low: f64,
    high: f64,
}

impl ByOperator {
    /// Adds to each point the decode steps of its request: those that bring `tokens`, the first on top of `context`.
    pub(super) fn add_runs(
        &self,
        batch: &[u64],
        context: &[u64],
        tokens: &[u64],
        want: Want,
        desk: &mut Desk,
        answers: &mut Answers,
    ) {
        let shapes = Shapes { kind: Kind::Decode, batch, new: batch, context, prefix: context };
        self.count(&shapes, want, desk);
        let told = self.used.sums(self.one_stage, want);
        for point in 0..batch.len() {
            let steps = self.generation.steps(tokens[point]);
            if steps == 0 {
                continue;
            }
            let counted = desk.remembered[Kind::Decode.index()].values(point);
            let run = Run { batch: batch[point], context: context[point], want, told: &told, counted };
            let total = self.add_up(&run, steps);
            answers.step[point] += total.times[0];
            answers.stage[point] += total.times[1];
            answers.ideal[point] += total.times[2];
            if want.band {
                answers.low[point] += total.low;
                answers.high[point] += total.high;
            }
            if want.bounds {
                answers.busy[point] += total.sums[tally::BUSY];
                for (lane, from) in self.used.beside() {
                    for (bound, to) in answers.of_lane(lane).iter_mut().enumerate() {
                        to[point] += total.sums[from + bound];
                    }
                }
            }
            if want.work {
                answers.flops[point] += total.sums[tally::FLOPS];
                answers.bytes[point] += total.sums[tally::BYTES];
            }
        }
    }

    /// All steps of a run: cut where a window fills or a chunk ends, then by halves.
    fn add_up(&self, run: &Run<'_>, steps: u64) -> Total {
        let mut total = Total { sums: [0.0; SUMS], times: [0.0; 3], low: 0.0, high: 0.0 };
        let mut from = 0;
        while from < steps {
            let context = run.context + self.generation.tokens_after(from);
            let bends = self.pricer.reaches().iter().filter_map(|reach| tokens_to_bend(reach.span, context));
            let ahead = bends.min().map_or(u64::MAX, |tokens| self.generation.steps(tokens).max(1));
            let last = from.saturating_add(ahead - 1).min(steps - 1);
            let (first, end) = (self.at(run, from), self.at(run, last));
            self.stretch(run, (from, &first), (last, &end), &mut total);
            from = last + 1;
        }
        total
    }

    fn stretch(&self, run: &Run<'_>, from: (u64, &At), to: (u64, &At), total: &mut Total) {
        let gaps = to.0 - from.0;
        if gaps < 2 {
            total.add(from.1, run);
            if gaps == 1 {
                total.add(to.1, run);
            }
            return;
        }
        let middle = from.0 + gaps / 2;
        let half = self.at(run, middle);
        let straight = half.is_between(from.1, to.1, run.told)
            && (gaps < 3 || self.at(run, from.0 + gaps / 3).is_between(from.1, to.1, run.told));
        if straight {
            return self.add_line(run, from, to, total);
        }
        self.stretch(run, from, (middle, &half), total);
        let next = self.at(run, middle + 1);
        self.stretch(run, (middle + 1, &next), to, total);
    }

    /// One step of a run.
    fn at(&self, run: &Run<'_>, step: u64) -> At {
        let context = run.context + self.generation.tokens_after(step);
        let mut sums = [0.0; SUMS];
        run.told.iter().zip(run.counted).for_each(|(sum, value)| sums[*sum] = *value);
        let mut shape = self.pricer.reaches().empty();
        let new = self.generation.width;
        self.pricer.reaches().add_item(&mut shape, Phase::Decode, run.batch as f64, new, context, new);
        let parts = shape.parts(&shape.decode);
        for place in &self.growing {
            if let Some(cost) = self.pricer.lines[*place].cost(&parts) {
                self.spots[*place].add(&cost, run.want, &mut sums);
            }
        }
        let times = tally::times_of(&sums, self.one_stage, self.pricer.hidden());
        At { context: context as f64, sums, times }
    }

    /// Adds steps that lie on the line between two of them.
    fn add_line(&self, run: &Run<'_>, (from, first): (u64, &At), (to, last): (u64, &At), total: &mut Total) {
        let steps = (to - from + 1) as f64;
        let whole = last.context - first.context;
        // How far along the line each step is: from 0 to 1.
        let along = |step: u64| {
            let context = run.context + self.generation.tokens_after(step);
            (context as f64 - first.context) / whole
        };
        let ways: f64 =
            if self.generation.tokens == 1.0 { steps / 2.0 } else { (from..=to).map(along).sum() };
        let sum = |start: f64, end: f64| steps * start + (end - start) * ways;
        for (total, (start, end)) in total.times.iter_mut().zip(first.times.iter().zip(&last.times)) {
            *total += sum(*start, *end);
        }
        for at in run.told {
            total.sums[*at] += sum(first.sums[*at], last.sums[*at]);
        }
        if !run.want.band {
            return;
        }
        let [low, high] = self.used.squares(&first.sums, &last.sums);
        let root = |[one, x, square]: [f64; 3], at: f64| (one + x * at + square * at * at).max(0.0).sqrt();
        let ([start, _, ideal], [end, _, ideal_end]) = (first.times, last.times);
        let (even, gap) = (self.generation.tokens == 1.0, 1.0 / (to - from) as f64);
        let (mut at, mut bands) = ([0.0; ABREAST], [[0.0; ABREAST]; 2]);
        let mut step = from;
        while step <= to {
            let more = (to - step + 1).min(ABREAST as u64) as usize;
            if even {
                let done = (step - from) as f64;
                at.iter_mut().zip(AHEAD).for_each(|(at, ahead)| *at = (done + ahead) * gap);
            } else {
                at[..more].iter_mut().zip(step..).for_each(|(at, step)| *at = along(step));
            }
            // All of them, asked for or not: a loop of known length without branches is vectorised.
            let [lows, highs] = &mut bands;
            for ((at, to_low), to_high) in at.iter().zip(lows).zip(highs) {
                let (seconds, ideal) = (start + (end - start) * at, ideal + (ideal_end - ideal) * at);
                (*to_low, *to_high) = within(seconds, ideal, root(low, *at), root(high, *at));
            }
            let sum = |band: &[f64; ABREAST]| band[..more].iter().sum::<f64>();
            total.low += sum(&bands[0]);
            total.high += sum(&bands[1]);
            step += more as u64;
        }
    }
}

impl At {
    /// Whether it lies on the line between two others.
    fn is_between(&self, from: &At, to: &At, told: &[usize]) -> bool {
        let along = (self.context - from.context) / (to.context - from.context);
        let on = |value: f64, start: f64, end: f64| {
            (start + (end - start) * along - value).abs() <= ON_THE_LINE * end.abs().max(start.abs())
        };
        let times = (0..3).all(|at| on(self.times[at], from.times[at], to.times[at]));
        times && told.iter().all(|at| on(self.sums[*at], from.sums[*at], to.sums[*at]))
    }
}

impl Total {
    fn add(&mut self, step: &At, run: &Run<'_>) {
        self.times.iter_mut().zip(step.times).for_each(|(total, time)| *total += time);
        run.told.iter().for_each(|at| self.sums[*at] += step.sums[*at]);
        if run.want.band {
            let (less, more) = tally::widths_of(&step.sums);
            let (low, high) = within(step.times[0], step.times[2], less, more);
            self.low += low;
            self.high += high;
        }
    }
}

/// Tokens until the keys that a token reaches leave the line they are on; `None` where they never do.
fn tokens_to_bend(span: Span, context: u64) -> Option<u64> {
    match span {
        Span::Full => None,
        Span::Window(most) | Span::TopK(most) => (context + 1 < most).then(|| most - 1 - context),
        Span::Chunk(size) => Some(size - context % size),
    }
}
