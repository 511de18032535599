//! One deployment, compiled: prices a step from its sums, in seconds alone or operator by operator.

use crate::efficiency::band::{Band, Spread};
use crate::efficiency::predict::{Launched, Predicted, Predictor};
use crate::efficiency::{Efficiency, Estimate, Source};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::hardware::Hardware;
use crate::layout::Layout;
use crate::lower::{Lowering, beside_the_model, launching, lower, tower_ops};
use crate::model::Model;
use crate::per_step::{Part, Parts as BlockParts};
use crate::precision::Precision;
use crate::roof::{Bound, Cost, Costs, Priced, Roof};
use crate::shape::{Parts, Phase, PhaseSums, Reaches, Sums};
use crate::site::{LANES_BESIDE, Lane};
use crate::straight::Greatest;
use crate::technique::{Cache, Context, Program, Store, Target, Technique, Techniques, of_no_use};
use crate::work::{Family, Op};

/// What is deployed: the four things a price depends on, and how the operators are run.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    /// The model.
    pub model: Model,
    /// The device.
    pub hardware: Hardware,
    /// How the model is spread.
    pub layout: Layout,
    /// In which formats it runs.
    pub precision: Precision,
    /// Fusion and kernels.
    pub lowering: Lowering,
    /// Share of the computing time that hides communication, 0 to 1; 0 exposes all of it.
    pub overlap: f64,
    /// What turns the roofline into a prediction.
    pub efficiency: Efficiency,
    /// What has been applied to the five above, and what is still to be applied to the operators.
    pub techniques: Techniques,
}

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// The model itself.
    Model,
    /// Its vision tower, a "token" being a patch.
    Tower,
}

/// A compiled deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct Pricer {
    pub(crate) lines: Vec<Line>,
    reaches: Reaches,
    hidden: Hidden,
    predicted: bool,
}

/// An operator with its ceilings and, where one is asked for, its prediction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) priced: Priced,
    predicted: Option<Predicted>,
    /// What was predicted, where a technique has changed the operator since.
    was: Option<Priced>,
    /// Whether its price depends on how long contexts are, and not on counts alone.
    pub(crate) grows: bool,
}

/// Shares of the computing time that hide what runs beside it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Hidden {
    /// Communication among the devices.
    pub links: f64,
    /// Each lane beside the device.
    pub beside: [f64; LANES_BESIDE],
}

/// Seconds of one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepTime {
    /// From the first stage's start to the last stage's end.
    pub step: Estimate,
    /// The same by the datasheet alone.
    pub ideal: f64,
    /// What the busiest pipeline stage takes: how often a step can start. Equals `step` without pipeline.
    pub stage: f64,
}

impl Deployment {
    /// The same with `techniques` applied: model, device, layout, formats and lowering at once, operators when they are
    /// made. The order in which they are given does not count.
    ///
    /// # Errors
    /// Two that contradict, or one that does not suit the deployment.
    pub fn with(mut self, techniques: &[Technique]) -> Result<Deployment> {
        let mut target = Target {
            model: &mut self.model,
            hardware: &mut self.hardware,
            layout: &mut self.layout,
            precision: &mut self.precision,
            lowering: &mut self.lowering,
            overlap: &mut self.overlap,
        };
        self.techniques = self.techniques.and(techniques, &mut target)?;
        Ok(self)
    }

    /// Devices of the whole deployment.
    pub fn gpus(&self) -> f64 {
        self.layout.gpus() as f64 * self.techniques.devices()
    }

    /// What the techniques read of the deployment.
    fn context(&self) -> Context<'_> {
        Context {
            model: &self.model,
            hardware: &self.hardware,
            layout: self.layout,
            precision: &self.precision,
            lowering: self.lowering,
            width: self.techniques.generation().width,
        }
    }

    /// The operators of the model on one device, techniques applied.
    ///
    /// # Errors
    /// A technique that does not suit the operators.
    pub fn program(&self) -> Result<Program> {
        let mut reaches = Reaches::of(&self.model)?;
        self.techniques.reaches(&mut reaches)?;
        let ops = lower(&self.model, self.layout, &self.precision, self.lowering, &reaches);
        let mut program = Program { ops, reaches, beside: [0.0; LANES_BESIDE], block: 0 };
        if !self.techniques.list().is_empty() {
            let before = program.ops.clone();
            self.techniques.operators(&mut program, &self.context())?;
            program.remember(&before);
        }
        Ok(program)
    }

    /// What is said of techniques that change nothing.
    ///
    /// # Errors
    /// A technique that does not suit the operators.
    pub fn idle(&self) -> Result<Vec<String>> {
        let mut reaches = Reaches::of(&self.model)?;
        self.techniques.reaches(&mut reaches)?;
        let ops = lower(&self.model, self.layout, &self.precision, self.lowering, &reaches);
        let program = Program { ops, reaches, beside: [0.0; LANES_BESIDE], block: 0 };
        Ok(self.techniques.idle(program, &self.context())?.into_iter().map(of_no_use).collect())
    }

    /// Memory beside the device's own that techniques use.
    ///
    /// # Errors
    /// A capacity that is not known.
    pub fn store(&self) -> Result<Option<Store>> {
        self.techniques.store(&self.context())
    }

    /// What the techniques do to the cache of a sequence.
    ///
    /// # Errors
    /// A technique that does not suit the model.
    pub fn cache(&self) -> Result<Cache> {
        self.techniques.cache(&self.context())
    }

    /// Checks the layout and looks up every ceiling.
    ///
    /// # Errors
    /// A layout the model does not allow, a peak or link that is needed and not known.
    pub fn compile(&self) -> Result<Pricer> {
        self.layout.check(&self.model)?;
        self.compile_on(&Roof::of(&self.hardware)?, Stack::Model)
    }

    /// The same on given ceilings, or for the vision tower.
    ///
    /// # Errors
    /// A peak or link that is needed and not known.
    pub fn compile_on(&self, roof: &Roof, stack: Stack) -> Result<Pricer> {
        if !(0.0..=1.0).contains(&self.overlap) {
            return Err(Error::spec("overlap", "must be from 0 to 1", self.overlap, ""));
        }
        let predictor = match &self.efficiency {
            Efficiency::Ideal => None,
            Efficiency::Predicted(prediction) => Some(Predictor::new(prediction, &self.hardware, roof)),
        };
        let mut program = match (stack, &self.model.vision) {
            (Stack::Tower, Some(tower)) => {
                let reaches = Reaches::of(&self.model)?;
                let ops = tower_ops(tower, &self.precision, self.lowering, &reaches);
                Program { ops, reaches, beside: [0.0; LANES_BESIDE], block: 0 }
            }
            _ => self.program()?,
        };
        if predictor.is_some() {
            program.ops.extend(beside_the_model(&self.model, self.precision.activation));
        }
        let line = |op: Op| -> Result<Line> {
            let was = op.was.as_ref().map(|was| roof.price((**was).clone())).transpose()?;
            let priced = roof.price(op)?;
            let measured = was.as_ref().unwrap_or(&priced);
            let predicted = predictor.as_ref().and_then(|predictor| predictor.predict(measured));
            let grows =
                [Some(&priced), was.as_ref()].into_iter().flatten().any(|it| it.op().grows_with_context());
            Ok(Line { priced, predicted, was, grows })
        };
        let lines = program.ops.into_iter().map(line).collect::<Result<Vec<_>>>()?;
        let hidden = Hidden { links: self.overlap, beside: program.beside };
        let mut pricer = Pricer { lines, reaches: program.reaches, hidden, predicted: predictor.is_some() };
        if let (Some(predictor), Stack::Model) = (&predictor, stack) {
            pricer.launch(predictor, roof, self.precision.activation)?;
        }
        Ok(pricer)
    }
}

impl Pricer {
    /// Puts beside the device the host's thread that launches, one by one, the kernels of a step with prompts.
    fn launch(&mut self, predictor: &Predictor<'_>, roof: &Roof, activation: Format) -> Result<()> {
        let mut sums = self.reaches.empty();
        self.reaches.add_item(&mut sums, Phase::Prefill, 1.0, 1024, 0, 1);
        let (mut launches, mut of_stage) = (0.0, 0.0);
        self.each(&sums, |_, op, cost| {
            if cost.seconds > 0.0 && op.site.lane == Lane::Device {
                launches += op.kernel.launches() * op.repeat;
                of_stage += op.kernel.launches() * op.stage_repeat;
            }
        });
        if let Some(predicted) = predictor.launching(launches) {
            let op = launching(activation, of_stage / launches);
            let priced = roof.price(op)?;
            self.lines.push(Line { priced, predicted: Some(predicted), was: None, grows: false });
            self.hidden.beside[Lane::LAUNCHING] = 1.0;
        }
        Ok(())
    }

    /// What the model's attention reaches: needed to fill [`Sums`].
    pub fn reaches(&self) -> &Reaches {
        &self.reaches
    }

    /// The same for what runs as a part of a step, which the host prepares but once.
    #[must_use]
    pub fn within_a_step(mut self) -> Pricer {
        self.lines.retain(|line| line.priced.op().family != Family::Host);
        self
    }

    /// Whether each operator takes the greatest of a few multiples of its work, and the prediction is their sum.
    pub(crate) fn is_linear(&self) -> bool {
        !self.predicted && self.lines.iter().all(|line| line.priced.is_linear())
    }

    /// Bytes a second of the slowest link that operators pass over by themselves, not as one of a group.
    pub(crate) fn slowest_link(&self) -> Option<f64> {
        self.lines.iter().filter_map(|line| line.priced.own_link()).min_by(f64::total_cmp)
    }

    /// Share of the computing time that hides communication.
    pub fn overlap(&self) -> f64 {
        self.hidden.links
    }

    /// Shares of the computing time that hide what runs beside it.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
    }

    /// The operators, in order.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.lines.iter().map(|line| line.priced.op())
    }

    /// Where the prediction of each operator is from, in order.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        self.lines.iter().map(Line::source)
    }

    /// Where predictions come from: that of the operators' first dense multiplication stands for all.
    pub fn source(&self) -> Source {
        let gemm = self.lines.iter().find(|line| line.priced.op().family == Family::Gemm);
        gemm.or(self.lines.first()).map_or(Source::Datasheet, Line::source)
    }

    /// Whether operators are predicted and not merely bounded.
    pub fn is_predicted(&self) -> bool {
        self.predicted
    }

    /// What the host needs to launch the kernels of a step with prompts; nothing where operators are merely bounded.
    pub fn launched(&self) -> Launched {
        self.lines.iter().find_map(|line| line.predicted.as_ref()?.launched()).unwrap_or_default()
    }

    /// Seconds of one step of these sums, with their band: a few multiplications an operator, nothing allocated.
    pub fn seconds(&self, sums: &Sums) -> StepTime {
        let (mut ideal, mut stage) = (Exposed::default(), Exposed::default());
        // Apart, so that a memo may add the growing ones to what it knows of the others, and come to the same bits.
        let (mut counted, mut growing) = (Exposed::default(), Exposed::default());
        let mut band = Band::default();
        let all = sums.all();
        let parts = sums.parts(&all);
        for line in &self.lines {
            if let Some(cost) = line.cost(&parts) {
                let op = line.priced.op();
                let seconds = cost.seconds * op.repeat;
                if line.grows { &mut growing } else { &mut counted }.add(op, seconds);
                stage.add(op, cost.seconds * op.stage_repeat);
                if self.predicted {
                    ideal.add(op, cost.ideal * op.repeat);
                    band.add(op.family, seconds, line.spread());
                }
            }
        }
        let seconds = counted.plus(&growing).exposed(&self.hidden);
        let stage = stage.exposed(&self.hidden);
        if !self.predicted {
            return StepTime { step: Estimate::bare(seconds), ideal: seconds, stage };
        }
        let ideal = ideal.exposed(&self.hidden);
        StepTime { step: band.around(seconds, ideal), ideal, stage }
    }

    /// Hands every operator that runs in a step of these sums to `see`, with its place and one occurrence's cost.
    pub fn each(&self, sums: &Sums, mut see: impl FnMut(usize, &Op, Cost)) {
        let all = sums.all();
        let parts = sums.parts(&all);
        for (index, line) in self.lines.iter().enumerate() {
            if let Some(cost) = line.cost(&parts) {
                see(index, line.priced.op(), cost);
            }
        }
    }

    /// The operator that is larger, in a step of these sums, than any its fit was measured on, by the most: its name, how many
    /// times, and whose fit it is.
    pub fn beyond(&self, sums: &Sums) -> Option<(&str, f64, &Source)> {
        let all = sums.all();
        let parts = sums.parts(&all);
        let larger = |line: &'_ Line| {
            let (predicted, op) = (line.predicted.as_ref()?, line.op());
            let times = predicted.beyond(op, &parts.seen(op.over), op.sums(&parts)?);
            (times > 1.0).then_some(times)
        };
        let lines = self.lines.iter().filter_map(|line| Some((line, larger(line)?)));
        let (line, times) = lines.max_by(|one, other| one.1.total_cmp(&other.1))?;
        Some((&line.op().name, times, &line.predicted.as_ref()?.source))
    }

    /// `seconds` of the operator at `index` with their band; never below `ideal`.
    pub fn estimate(&self, index: usize, seconds: f64, ideal: f64) -> Estimate {
        if !self.predicted {
            return Estimate::bare(seconds);
        }
        let mut band = Band::default();
        if let Some(line) = self.lines.get(index) {
            band.add(line.priced.op().family, seconds, line.spread());
        }
        band.around(seconds, ideal)
    }

    /// The band of a time that consists of so many seconds of each operator; never below `ideal`.
    pub fn estimate_of(&self, seconds: f64, of_each: &[f64], ideal: f64) -> Estimate {
        if !self.predicted {
            return Estimate::bare(seconds);
        }
        let mut band = Band::default();
        for (line, seconds) in self.lines.iter().zip(of_each) {
            band.add(line.priced.op().family, *seconds, line.spread());
        }
        band.around(seconds, ideal)
    }
}

impl Line {
    /// The operator.
    pub(crate) fn op(&self) -> &Op {
        self.priced.op()
    }

    /// What one occurrence costs in a step of these sums; `None` if it does not run in it.
    #[inline]
    pub(crate) fn cost(&self, parts: &Parts<'_>) -> Option<Cost> {
        let part = self.op().sums(parts)?;
        Some(self.cost_of(parts, part))
    }

    /// The same for an operator that runs over `part`.
    #[inline]
    pub(crate) fn cost_of(&self, parts: &Parts<'_>, part: &PhaseSums) -> Cost {
        let mut cost = self.priced.cost_of(parts, part);
        if let Some(predicted) = &self.predicted {
            let seen = parts.seen(self.op().over);
            cost.seconds = match &self.was {
                None => predicted.seconds(self.op(), &seen, part, &cost),
                Some(was) => as_far_as(was, predicted, &seen, part, cost.ideal),
            };
            if predicted.is_launching(cost.seconds) {
                cost.bound = Bound::Launch;
            } else if cost.ideal == 0.0 {
                // No roofline counts what passes through memory here.
                cost.bound = Bound::Memory;
            }
        }
        cost
    }

    /// Its seconds in a step in which so many sequences decode alone and read all their keys; `None` where they are not
    /// made of straight lines, or hidden by something else.
    pub(crate) fn straight(&self, sequences: f64) -> Option<Greatest> {
        let op = self.op();
        if matches!(op.family, Family::Link | Family::Host) || self.was.is_some() {
            return None;
        }
        let ideal = self.priced.straight(sequences)?;
        let greatest = match &self.predicted {
            None => Greatest(ideal.iter().map(|line| vec![*line]).collect()),
            Some(predicted) => predicted.straight(sequences, &ideal)?,
        };
        Some(greatest.times(op.repeat))
    }

    /// What one occurrence costs in each of the first `count` steps of a block, over `part` of them, as [`Line::cost_of`]
    /// says of one.
    pub(crate) fn costs_of(
        &self,
        parts: &BlockParts<'_>,
        part: &Part,
        count: usize,
        bounds: bool,
        costs: &mut Costs,
    ) {
        let Some(predicted) = &self.predicted else {
            return self.priced.costs_of(parts, part, count, bounds, costs);
        };
        let seen = parts.seen(self.op().over);
        match &self.was {
            None => {
                self.priced.costs_of(parts, part, count, bounds, costs);
                predicted.seconds_of_each(self.op(), &seen, part, count, costs);
            }
            Some(was) => {
                was.costs_of(&seen, part, count, false, costs);
                predicted.seconds_of_each(was.op(), &seen, part, count, costs);
                let (before, measured) = (costs.ideal, costs.seconds);
                self.priced.costs_of(parts, part, count, bounds, costs);
                for at in 0..count {
                    let slower = if before[at] > 0.0 { (measured[at] / before[at]).max(1.0) } else { 1.0 };
                    costs.seconds[at] = costs.ideal[at] * slower;
                }
            }
        }
        if bounds {
            let (below, only) = predicted.launching();
            for at in 0..count {
                if only || below > costs.seconds[at] {
                    costs.bound[at] = Bound::Launch as usize as f64;
                } else if costs.ideal[at] == 0.0 {
                    costs.bound[at] = Bound::Memory as usize as f64;
                }
            }
        }
    }

    pub(crate) fn spread(&self) -> Spread {
        self.predicted.as_ref().map_or(Spread::NONE, |predicted| predicted.spread)
    }

    fn source(&self) -> Source {
        self.predicted.as_ref().map_or(Source::Datasheet, |predicted| predicted.source.clone())
    }
}

/// Seconds of an operator that a technique has changed: as many times its roofline as the operator takes that it was made
/// of, which was measured.
fn as_far_as(was: &Priced, predicted: &Predicted, parts: &Parts<'_>, part: &PhaseSums, ideal: f64) -> f64 {
    let before = was.cost_of(parts, part);
    let seconds = predicted.seconds(was.op(), parts, part, &before);
    if before.ideal > 0.0 { ideal * (seconds / before.ideal).max(1.0) } else { ideal }
}

/// Computing and communicating seconds, those of the host, and those of what runs beside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Exposed {
    pub(crate) compute: f64,
    pub(crate) link: f64,
    pub(crate) host: f64,
    pub(crate) beside: [f64; LANES_BESIDE],
}

impl Exposed {
    pub(crate) fn add(&mut self, op: &Op, seconds: f64) {
        match (op.site.lane.beside(), op.family) {
            (Some(lane), _) => self.beside[lane] += seconds,
            (None, Family::Link) => self.link += seconds,
            (None, Family::Host) => self.host += seconds,
            _ => self.compute += seconds,
        }
    }

    /// Both together.
    pub(crate) fn plus(&self, other: &Exposed) -> Exposed {
        Exposed {
            compute: self.compute + other.compute,
            link: self.link + other.link,
            host: self.host + other.host,
            beside: std::array::from_fn(|lane| self.beside[lane] + other.beside[lane]),
        }
    }

    /// Seconds of the step, if `hidden` is nothing and the more it computes the longer it takes.
    pub(crate) fn alone(&self, hidden: &Hidden) -> Option<f64> {
        let alone = self.beside == [0.0; LANES_BESIDE] && (hidden.links == 0.0 || self.link == 0.0);
        alone.then_some(self.compute + self.link + self.host)
    }

    /// Communicating seconds that computing hides.
    pub(crate) fn hidden(&self, hidden: &Hidden) -> f64 {
        self.link.min(hidden.links * self.compute)
    }

    /// Communication shows only where computing does not hide it; of the lanes beside, which run at the
    /// same time, the one that sticks out most.
    pub(crate) fn exposed(&self, hidden: &Hidden) -> f64 {
        let busy = self.busy(hidden);
        busy + sticks_out(&self.beside, busy, hidden).1 + self.host
    }

    /// For which of the lanes beside it the device waits, and how many seconds.
    pub(crate) fn waits(&self, hidden: &Hidden) -> (usize, f64) {
        sticks_out(&self.beside, self.busy(hidden), hidden)
    }

    fn busy(&self, hidden: &Hidden) -> f64 {
        self.compute + (self.link - hidden.links * self.compute).max(0.0)
    }
}

/// How far the lanes beside the device stick out from `busy` seconds of it: which most, and by how much.
pub(crate) fn sticks_out(beside: &[f64; LANES_BESIDE], busy: f64, hidden: &Hidden) -> (usize, f64) {
    if *beside == [0.0; LANES_BESIDE] {
        return (0, 0.0);
    }
    let lanes = beside.iter().zip(hidden.beside).enumerate();
    let out = lanes.map(|(lane, (seconds, share))| (lane, seconds - share * busy));
    out.fold((0, 0.0), |most, lane| if lane.1 > most.1 { lane } else { most })
}
