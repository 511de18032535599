//! One deployment, compiled: prices a step from its sums, in seconds alone or operator by operator.

use crate::efficiency::band::{Band, Spread};
use crate::efficiency::predict::{Predicted, Predictor};
use crate::efficiency::{Efficiency, Estimate, Source};
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::layout::Layout;
use crate::lower::{Lowering, beside_the_model, lower, tower_ops};
use crate::model::Model;
use crate::precision::Precision;
use crate::roof::{Bound, Cost, Priced, Roof};
use crate::shape::{Parts, PhaseSums, Reaches, Sums};
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
    overlap: f64,
    predicted: bool,
}

/// An operator with its ceilings and, where one is asked for, its prediction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line {
    pub(crate) priced: Priced,
    predicted: Option<Predicted>,
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
        let reaches = Reaches::of(&self.model)?;
        let predictor = match &self.efficiency {
            Efficiency::Ideal => None,
            Efficiency::Predicted(prediction) => Some(Predictor::new(prediction, &self.hardware, roof)),
        };
        let mut ops = match (stack, &self.model.vision) {
            (Stack::Tower, Some(tower)) => tower_ops(tower, &self.precision, self.lowering, &reaches),
            _ => lower(&self.model, self.layout, &self.precision, self.lowering, &reaches),
        };
        if predictor.is_some() {
            ops.extend(beside_the_model(&self.model, self.precision.activation));
        }
        let line = |op: Op| -> Result<Line> {
            let priced = roof.price(op)?;
            let predicted = predictor.as_ref().and_then(|predictor| predictor.predict(&priced));
            Ok(Line { priced, predicted })
        };
        let lines = ops.into_iter().map(line).collect::<Result<Vec<_>>>()?;
        Ok(Pricer { lines, reaches, overlap: self.overlap, predicted: predictor.is_some() })
    }
}

impl Pricer {
    /// What the model's attention reaches: needed to fill [`Sums`].
    pub fn reaches(&self) -> &Reaches {
        &self.reaches
    }

    /// Whether each operator takes the greatest of a few multiples of its work, and the prediction is their sum.
    pub(crate) fn is_linear(&self) -> bool {
        !self.predicted && self.lines.iter().all(|line| line.priced.is_linear())
    }

    /// Share of the computing time that hides communication.
    pub fn overlap(&self) -> f64 {
        self.overlap
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

    /// Seconds of one step of these sums, with their band: a few multiplications an operator, nothing allocated.
    pub fn seconds(&self, sums: &Sums) -> StepTime {
        let (mut ideal, mut total, mut stage) = (Exposed::default(), Exposed::default(), Exposed::default());
        let mut band = Band::default();
        let all = sums.all();
        let parts = sums.parts(&all);
        for line in &self.lines {
            if let Some(cost) = line.cost(&parts) {
                let op = line.priced.op();
                let seconds = cost.seconds * op.repeat;
                total.add(op, cost.seconds * op.repeat);
                stage.add(op, cost.seconds * op.stage_repeat);
                if self.predicted {
                    ideal.add(op, cost.ideal * op.repeat);
                    band.add(op.family, seconds, line.spread());
                }
            }
        }
        let (seconds, stage) = (total.exposed(self.overlap), stage.exposed(self.overlap));
        if !self.predicted {
            return StepTime { step: Estimate::bare(seconds), ideal: seconds, stage };
        }
        let ideal = ideal.exposed(self.overlap);
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
        let mut cost = self.priced.cost_of(part);
        if let Some(predicted) = &self.predicted {
            cost.seconds = predicted.seconds(self.op(), parts, part, &cost);
            if predicted.is_launching(cost.seconds) {
                cost.bound = Bound::Launch;
            }
        }
        cost
    }

    fn spread(&self) -> Spread {
        self.predicted.as_ref().map_or(Spread::NONE, |predicted| predicted.spread)
    }

    fn source(&self) -> Source {
        self.predicted.as_ref().map_or(Source::Datasheet, |predicted| predicted.source.clone())
    }
}

/// Computing and communicating seconds, and those of the host.
#[derive(Default)]
pub(crate) struct Exposed {
    compute: f64,
    link: f64,
    host: f64,
}

impl Exposed {
    pub(crate) fn add(&mut self, op: &Op, seconds: f64) {
        match op.family {
            Family::Link => self.link += seconds,
            Family::Host => self.host += seconds,
            _ => self.compute += seconds,
        }
    }

    /// Communicating seconds that computing hides.
    pub(crate) fn hidden(&self, overlap: f64) -> f64 {
        self.link.min(overlap * self.compute)
    }

    /// Communication shows only where computing does not hide it (PHYSICS §4).
    pub(crate) fn exposed(&self, overlap: f64) -> f64 {
        self.compute + (self.link - overlap * self.compute).max(0.0) + self.host
    }
}
