//! What the steps of a simulation cost, one after the other, and what they were spent on.
//!
//! Most operators cost the same wherever as many tokens, or as many rows of logits, are in a step: they are priced once
//! for each number. Where sequences decode alone, a step's price is a sum of straight lines in exact units
//! ([`crate::straight`]), and runs of such steps are priced at once. Either way it is that of [`Pricer::seconds`] to the
//! rounding of floating-point sums.

use crate::cause::{Cause, Causes};
use crate::fixed::{Period, Ticks, tick_seconds};
use crate::roof::Cost;
use crate::shape::{Parts, PhaseSums, ReachSums, Sums};
use crate::site::Lane;
use crate::step::{Exposed, Pricer};
use crate::straight::{Decoding, Greatest, Keys, Run};
use crate::work::{Counts, Op, Over};

/// Steps of more decoding sequences are priced one by one.
const MOST_SEQUENCES: usize = 4096;

/// Steps of more tokens, or rows, are priced from scratch.
const MOST_COUNTED: usize = 1 << 14;

/// Operators whose price is known, together.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Steps priced with it.
    steps: u64,
    /// Seconds of all.
    seconds: Exposed,
    /// What those are spent on.
    spent: Causes,
    /// Place and seconds of each.
    operators: Vec<(usize, f64)>,
}

impl Known {
    fn add(&mut self, place: usize, op: &Op, cost: &Cost) {
        let seconds = cost.seconds * op.repeat;
        self.seconds.add(op, seconds);
        self.operators.push((place, seconds));
        spend(&mut self.spent, op, cost, seconds);
    }
}

/// Charges an operator's seconds to what they are spent on; what runs beside the device is charged by how it sticks out.
fn spend(spent: &mut Causes, op: &Op, cost: &Cost, seconds: f64) {
    if op.site.lane.beside().is_none() {
        spent.add_cost(cost, seconds);
    }
}

/// Operators that depend on one count of a step alone, by that count.
#[derive(Debug, Clone, Default)]
struct Counted {
    places: Vec<usize>,
    known: Vec<Option<Box<Known>>>,
}

impl Counted {
    /// Prices its operators in a step of these sums, whose count is `count`, if that is not known; `false` if the count
    /// is too large to be remembered.
    fn knows(&mut self, pricer: &Pricer, parts: &Parts<'_>, count: f64) -> bool {
        let index = count as usize;
        if index >= MOST_COUNTED || index as f64 != count {
            return false;
        }
        if self.known.len() <= index {
            self.known.resize_with((index + 1).next_power_of_two(), || None);
        }
        self.known[index].get_or_insert_with(|| {
            let mut known = Box::<Known>::default();
            known.operators.reserve_exact(self.places.len());
            for &place in &self.places {
                let line = &pricer.lines[place];
                if let Some(cost) = line.cost(parts) {
                    known.add(place, line.op(), &cost);
                }
            }
            known
        });
        true
    }

    /// What is known of a count.
    fn at(&mut self, count: f64) -> Option<&mut Known> {
        self.known.get_mut(count as usize)?.as_deref_mut()
    }
}

/// Steps in which so many sequences decode, and nothing else happens.
#[derive(Debug, Clone)]
struct Alone {
    /// Operators that do not grow with context.
    known: Known,
    /// Seconds of those.
    seconds: f64,
    /// Places of the operators that do, in order.
    growing: Vec<usize>,
    /// What a step costs.
    decoding: Decoding,
}

impl Alone {
    /// `None` where prices are not made of straight lines.
    fn of(pricer: &Pricer, sequences: usize) -> Option<Alone> {
        let sums = decoding_alone(sequences, 1, Keys { all: sequences as u64, longest: 1 });
        let (mut known, mut growing) = (Known::default(), Vec::new());
        let mut lines: Option<Vec<Greatest>> = Some(Vec::new());
        pricer.each(&sums, |place, op, cost| {
            let line = &pricer.lines[place];
            if line.grows {
                growing.push(place);
                lines = lines.take().zip(line.straight(sequences as f64)).map(|(mut lines, line)| {
                    lines.push(line);
                    lines
                });
            } else {
                known.add(place, op, &cost);
            }
        });
        let seconds = known.seconds.alone(pricer.hidden())?;
        let decoding = Decoding::new(sequences as u64, seconds, lines?)?;
        Some(Alone { known, seconds, growing, decoding })
    }
}

/// Steps in a row, and no others between them, in which as many sequences decode with about as many keys.
#[derive(Debug, Clone, Copy, Default)]
struct Open {
    sequences: usize,
    /// Fewest keys, and fewest too many.
    from: u64,
    to: u64,
    steps: u64,
    /// Keys of all steps together.
    keys: u64,
    longest: u64,
    ticks: Ticks,
}

/// Prices of one [`Pricer`], remembered, and the account of what was priced.
#[derive(Debug, Clone)]
pub struct Memo {
    by_tokens: Counted,
    by_logits: Counted,
    /// Places of the operators that depend on more.
    others: Vec<usize>,
    /// By sequences; the inner is `None` where prices are not made of straight lines.
    alone: Vec<Option<Option<Box<Alone>>>>,
    /// Whether all keys are read: else nothing is a straight line over their sum.
    reads_all: bool,
    /// Steps priced last; their share of what follows is still to be added.
    open: Open,
    spent: Causes,
    /// Seconds of each operator, but for what is known together.
    operators: Vec<f64>,
    ticks: Ticks,
}

impl Memo {
    /// Nothing was priced yet; the memo must be used with this pricer only.
    pub fn new(pricer: &Pricer) -> Memo {
        let (mut by_tokens, mut by_logits, mut others) = (Counted::default(), Counted::default(), Vec::new());
        for (place, line) in pricer.lines.iter().enumerate() {
            let op = line.op();
            match op.counts() {
                _ if line.grows || op.over != Over::All || op.saved.is_some() => others.push(place),
                Counts { logits: false, sequences: false, .. } if !op.needs_logits => {
                    by_tokens.places.push(place)
                }
                Counts { tokens: false, sequences: false, .. } => by_logits.places.push(place),
                _ => others.push(place),
            }
        }
        Memo {
            by_tokens,
            by_logits,
            others,
            alone: Vec::new(),
            reads_all: pricer.reaches().are_full(),
            open: Open::default(),
            spent: Causes::default(),
            operators: vec![0.0; pricer.lines.len()],
            ticks: 0,
        }
    }

    /// What one step costs, as [`Pricer::seconds`] predicts it.
    pub fn price(&mut self, pricer: &Pricer, sums: &Sums) -> Period {
        if let Some((sequences, keys)) = self.decodes_alone(sums)
            && let Some(run) = self.run(pricer, sequences, keys, 1)
        {
            self.charge(pricer, sequences, keys, &run, 1);
            return Period::of_ticks(run.ticks);
        }
        self.settle(pricer);
        let period = Period::of_seconds(self.price_apart(pricer, sums));
        self.ticks += period.ticks;
        period
    }

    /// What steps cost in which `sequences` decode alone, one token each, from the one after which there are `keys` on:
    /// one step at least, `most` at most. `None` where that is no straight line.
    #[inline]
    pub fn run(&mut self, pricer: &Pricer, sequences: usize, keys: Keys, most: u64) -> Option<Run> {
        self.alone(pricer, sequences).map(|alone| alone.decoding.run(keys, most))
    }

    /// The first `steps` of such a run took place.
    pub fn charge(&mut self, pricer: &Pricer, sequences: usize, mut keys: Keys, run: &Run, steps: u64) {
        self.ticks += run.sum(steps);
        let (mut run, mut left, each) = (*run, steps, sequences as u64);
        while left > 0 {
            if self.open.sequences != sequences || !(self.open.from..self.open.to).contains(&keys.all) {
                self.settle(pricer);
                // An eighth more keys change the shares of causes too little to matter.
                let width = 1 << keys.all.max(8).ilog2().saturating_sub(3);
                let from = keys.all / width * width;
                self.open = Open { sequences, from, to: from + width, ..Open::default() };
            }
            let open = &mut self.open;
            let part = if keys.all + each * (left - 1) < open.to {
                left
            } else {
                (open.to - keys.all).div_ceil(each)
            };
            let rises = part * (part - 1) / 2;
            open.steps += part;
            open.keys += part * keys.all + each * rises;
            open.longest += part * keys.longest + rises;
            open.ticks += run.sum(part);
            run.ticks += run.rise * Ticks::from(part);
            (keys, left) = (keys.after(part, each), left - part);
        }
    }

    /// What all steps so far were spent on.
    pub fn spent(&self, pricer: &Pricer) -> Causes {
        let mut spent = self.spent;
        self.spend_open(pricer, &mut spent, &mut |_, _| {});
        spent
    }

    /// Seconds of each operator in all steps so far.
    pub fn operators(&self, pricer: &Pricer) -> Vec<f64> {
        let mut operators = self.operators.clone();
        let counted =
            self.by_tokens.known.iter().chain(&self.by_logits.known).flatten().map(|known| (&**known, 0));
        let alone = self.alone.iter().enumerate().filter_map(|(sequences, alone)| {
            let under_way = if sequences == self.open.sequences { self.open.steps } else { 0 };
            alone.as_ref()?.as_ref().map(|alone| (&alone.known, under_way))
        });
        for (known, more) in counted.chain(alone) {
            for &(place, seconds) in &known.operators {
                operators[place] += seconds * (known.steps + more) as f64;
            }
        }
        self.spend_open(pricer, &mut Causes::default(), &mut |place, seconds| operators[place] += seconds);
        operators
    }

    /// Seconds of all steps so far.
    pub fn seconds(&self) -> f64 {
        tick_seconds(self.ticks)
    }

    /// Takes over the account of another memo of the same pricer.
    pub fn append(&mut self, pricer: &Pricer, other: &Memo) {
        self.settle(pricer);
        self.spent.append(&other.spent(pricer));
        self.operators.iter_mut().zip(other.operators(pricer)).for_each(|(sum, seconds)| *sum += seconds);
        self.ticks += other.ticks;
    }

    /// How many sequences decode, each one token, and the keys they read, if nothing else happens.
    #[inline]
    fn decodes_alone(&self, sums: &Sums) -> Option<(usize, Keys)> {
        let decode = &sums.decode;
        let alone = sums.prefill.sequences == 0.0
            && decode.tokens == decode.sequences
            && decode.logits == decode.sequences;
        let keys = Keys { all: decode.reach[0].keys as u64, longest: decode.longest as u64 };
        alone.then_some((decode.sequences as usize, keys))
    }

    #[inline]
    fn alone(&mut self, pricer: &Pricer, sequences: usize) -> Option<&Alone> {
        if !self.reads_all || !(1..=MOST_SEQUENCES).contains(&sequences) {
            return None;
        }
        if self.alone.len() <= sequences {
            self.alone.resize_with((sequences + 1).next_power_of_two(), || None);
        }
        self.alone[sequences].get_or_insert_with(|| Alone::of(pricer, sequences).map(Box::new)).as_deref()
    }

    /// Seconds of a step that is priced by itself.
    fn price_apart(&mut self, pricer: &Pricer, sums: &Sums) -> f64 {
        let all = sums.all();
        let parts = sums.parts(&all);
        let Memo { by_tokens, by_logits, others, spent, operators, .. } = self;
        let (mut seconds, mut launching) = (Exposed::default(), None);
        let mut price_each = |places: &[usize], spent: &mut Causes| {
            for &place in places {
                let line = &pricer.lines[place];
                let Some(cost) = line.cost(&parts) else { continue };
                let of_all = cost.seconds * line.op().repeat;
                seconds.add(line.op(), of_all);
                if line.op().site.lane == Lane::Launching {
                    launching = Some(place);
                    continue;
                }
                operators[place] += of_all;
                spend(spent, line.op(), &cost, of_all);
            }
        };
        price_each(others, spent);
        for (counted, count) in [(&mut *by_tokens, all.tokens), (by_logits, all.logits)] {
            if !counted.knows(pricer, &parts, count) {
                price_each(&counted.places, spent);
            }
        }
        for known in by_tokens.at(all.tokens).into_iter().chain(by_logits.at(all.logits)) {
            known.steps += 1;
            seconds = seconds.plus(&known.seconds);
            spent.append(&known.spent);
        }
        let hidden = pricer.hidden();
        let (lane, waits) = seconds.waits(hidden);
        // Launching costs nothing but what the device waits for it.
        match launching.filter(|_| lane == Lane::LAUNCHING) {
            Some(place) => {
                operators[place] += waits;
                spent.add(Cause::Launch, waits);
            }
            None => spent.add(Cause::Link, waits),
        }
        spent.add(Cause::Link, -seconds.hidden(hidden));
        seconds.exposed(hidden)
    }

    /// Adds the share of the steps priced last.
    fn settle(&mut self, pricer: &Pricer) {
        if self.open.steps == 0 {
            return;
        }
        let (mut spent, mut operators) = (self.spent, std::mem::take(&mut self.operators));
        self.spend_open(pricer, &mut spent, &mut |place, seconds| operators[place] += seconds);
        (self.spent, self.operators) = (spent, operators);
        let Open { sequences, steps, .. } = std::mem::take(&mut self.open);
        if let Some(Some(alone)) = self.alone.get_mut(sequences).and_then(Option::as_mut).map(Option::as_mut)
        {
            alone.known.steps += steps;
        }
    }

    /// What the steps priced last are spent on; `see` is told the seconds of each operator that grows. What grows is
    /// divided as it is in a step with as many keys as those steps have on average.
    fn spend_open(&self, pricer: &Pricer, spent: &mut Causes, see: &mut dyn FnMut(usize, f64)) {
        let Open { sequences, steps, keys, longest, ticks, .. } = self.open;
        let Some(Some(Some(alone))) = self.alone.get(sequences).filter(|_| steps > 0) else { return };
        let count = steps as f64;
        spent.append(&alone.known.spent.times(count));
        let sums = decoding_alone(sequences, steps, Keys { all: keys, longest });
        let parts = sums.parts(&sums.decode);
        let cost = |place: usize| {
            let line = &pricer.lines[place];
            let cost = line.cost_of(&parts, parts.over(line.op().over));
            (line.op(), cost, cost.seconds * line.op().repeat)
        };
        let grown = (tick_seconds(ticks) - alone.seconds * count).max(0.0);
        if let [place] = *alone.growing {
            let (op, cost, _) = cost(place);
            spend(spent, op, &cost, grown);
            return see(place, grown);
        }
        let sum: f64 = alone.growing.iter().map(|place| cost(*place).2).sum();
        let scale = if sum > 0.0 { grown / sum } else { 0.0 };
        for &place in &alone.growing {
            let (op, cost, seconds) = cost(place);
            spend(spent, op, &cost, seconds * scale);
            see(place, seconds * scale);
        }
    }
}

/// The mean of so many steps in which `sequences` decode alone with `keys` all together.
fn decoding_alone(sequences: usize, steps: u64, keys: Keys) -> Sums {
    let (sequences, keys, longest) =
        (sequences as f64, keys.all as f64 / steps as f64, keys.longest as f64 / steps as f64);
    let reach = ReachSums { pairs: keys, keys, area: keys };
    let decode = PhaseSums {
        tokens: sequences,
        sequences,
        logits: sequences,
        longest,
        reach: [reach; crate::shape::MAX_REACHES],
    };
    Sums { decode, ..Sums::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use crate::efficiency::Efficiency;
    use crate::layout::Layout;
    use crate::lower::Lowering;
    use crate::precision::{Precision, Request};
    use crate::shape::Phase;
    use crate::step::Deployment;
    use proptest::prelude::*;

    fn pricer(model: &str, tp: u64, efficiency: Efficiency) -> Pricer {
        let model = catalog::models::model(model).unwrap();
        let deployment = Deployment {
            precision: Precision::resolve(&model, &Request::default()).unwrap(),
            model,
            hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
            layout: Layout { tp, ..Layout::default() },
            lowering: Lowering::default(),
            overlap: 0.3,
            efficiency,
            techniques: Default::default(),
        };
        deployment.compile().unwrap()
    }

    /// Sequences that decode, the context of the shortest, a prompt that comes along where it is one of three.
    fn sums(pricer: &Pricer, (sequences, context, prompt): (u64, u64, u64)) -> Sums {
        let mut sums = Sums::default();
        for sequence in 0..sequences {
            pricer.reaches().add_item(&mut sums, Phase::Decode, 1.0, 1, context + 97 * sequence, 1);
        }
        if prompt % 3 == 1 {
            pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, prompt, context, prompt % 2);
        }
        sums
    }

    fn pricers() -> Vec<Pricer> {
        let models = [("llama-3.1-8b", 1), ("mixtral-8x7b", 2), ("gemma-3-27b", 2), ("deepseek-v3", 8)];
        let modes = [Efficiency::Ideal, Efficiency::predicted("vllm")];
        models.into_iter().flat_map(|(model, tp)| modes.clone().map(|mode| pricer(model, tp, mode))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_remembered_price_is_the_price(
            steps in prop::collection::vec((1u64..6, 0u64..9000, 0u64..700), 1..20),
        ) {
            for pricer in pricers() {
                let mut memo = Memo::new(&pricer);
                let mut every = vec![0.0; pricer.ops().count()];
                let mut sum = 0.0;
                for sums in steps.iter().map(|step| sums(&pricer, *step)) {
                    let (seconds, exact) = (memo.price(&pricer, &sums).seconds, pricer.seconds(&sums).step.seconds);
                    prop_assert!((seconds - exact).abs() <= 1e-13 * exact, "{seconds} {exact}");
                    sum += exact;
                    let (mut step, mut launching) = (Exposed::default(), None);
                    pricer.each(&sums, |place, op, cost| {
                        step.add(op, cost.seconds * op.repeat);
                        match op.site.lane {
                            Lane::Launching => launching = Some(place),
                            _ => every[place] += cost.seconds * op.repeat,
                        }
                    });
                    // Launching is what the device waits for it.
                    if let (Some(place), (_, waits)) = (launching, step.waits(pricer.hidden())) {
                        every[place] += waits;
                    }
                    prop_assert!((memo.spent(&pricer).total() - sum).abs() <= 1e-12 * sum);
                }
                prop_assert!((memo.seconds() - sum).abs() <= 1e-12 * sum);
                for (found, expected) in memo.operators(&pricer).iter().zip(&every) {
                    prop_assert!((found - expected).abs() <= 1e-12 * sum, "{found} {expected}");
                }
            }
        }

        #[test]
        fn a_single_step_is_spent_on_what_its_operators_are(step in (1u64..6, 0u64..9000, 0u64..700)) {
            for pricer in pricers() {
                let (mut memo, sums) = (Memo::new(&pricer), sums(&pricer, step));
                let seconds = memo.price(&pricer, &sums).seconds;
                let (mut expected, mut step) = (Causes::default(), Exposed::default());
                pricer.each(&sums, |_, op, cost| {
                    step.add(op, cost.seconds * op.repeat);
                    if op.site.lane == Lane::Device {
                        expected.add_cost(&cost, cost.seconds * op.repeat);
                    }
                });
                expected.add(Cause::Launch, step.waits(pricer.hidden()).1);
                expected.add(Cause::Link, -f64::min(step.link, pricer.overlap() * step.compute));
                for ((cause, found), (_, expected)) in memo.spent(&pricer).iter().zip(expected.iter()) {
                    prop_assert!((found - expected).abs() <= 1e-12 * seconds, "{cause:?}: {found} {expected}");
                }
            }
        }

        #[test]
        fn steps_charged_together_are_accounted_for_as_one_by_one(
            sequences in 1usize..40, context in 1u64..3000, steps in 1u64..600, cuts in prop::collection::vec(1u64..200, 1..9),
        ) {
            for pricer in pricers() {
                let (mut single, mut together) = (Memo::new(&pricer), Memo::new(&pricer));
                let mut keys = Keys { all: context * sequences as u64 + 7, longest: context + 9 };
                let Some(_) = single.run(&pricer, sequences, keys, 1) else { continue };
                let mut left = steps;
                for cut in cuts.iter().cycle() {
                    if left == 0 {
                        break;
                    }
                    let run = together.run(&pricer, sequences, keys, left.min(*cut)).unwrap();
                    together.charge(&pricer, sequences, keys, &run, run.steps);
                    for step in 0..run.steps {
                        let keys = keys.after(step, sequences as u64);
                        let one = single.run(&pricer, sequences, keys, 1).unwrap();
                        single.charge(&pricer, sequences, keys, &one, 1);
                    }
                    (keys, left) = (keys.after(run.steps, sequences as u64), left - run.steps);
                    prop_assert_eq!(single.spent(&pricer), together.spent(&pricer));
                }
                prop_assert_eq!(single.operators(&pricer), together.operators(&pricer));
                prop_assert_eq!(single.seconds(), together.seconds());
            }
        }
    }

    #[test]
    fn full_attention_and_latent_attention_are_straight_lines_and_windows_are_not() {
        let keys = Keys { all: 300, longest: 200 };
        let overlapping = |model: &str, tp: u64| {
            let mut memo = Memo::new(&pricer(model, tp, Efficiency::predicted("vllm")));
            memo.run(&pricer(model, tp, Efficiency::predicted("vllm")), 3, keys, 9).is_some()
        };
        assert!(overlapping("llama-3.1-8b", 1) && overlapping("deepseek-v3", 1));
        assert!(!overlapping("gemma-3-27b", 2));
        // Some of the communication is hidden by what grows.
        assert!(!overlapping("llama-3.1-8b", 2));
    }
}
