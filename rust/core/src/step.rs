//! One deployment, compiled: prices a step from its sums, in seconds alone or operator by operator.

use crate::efficiency::{Efficiency, Estimate};
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::layout::Layout;
use crate::lower::{Lowering, lower, tower_ops};
use crate::model::Model;
use crate::precision::Precision;
use crate::roof::{Bound, Cost, Priced, Roof};
use crate::shape::{Reaches, Sums};
use crate::work::Op;

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
    pub(crate) ops: Vec<Priced>,
    reaches: Reaches,
    overlap: f64,
    efficiency: Efficiency,
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
        let ops = match (stack, &self.model.vision) {
            (Stack::Tower, Some(tower)) => tower_ops(tower, &self.precision, self.lowering, &reaches),
            _ => lower(&self.model, self.layout, &self.precision, self.lowering, &reaches),
        };
        let ops = ops.into_iter().map(|op| roof.price(op)).collect::<Result<Vec<_>>>()?;
        Ok(Pricer { ops, reaches, overlap: self.overlap, efficiency: self.efficiency.clone() })
    }
}

impl Pricer {
    /// What the model's attention reaches: needed to fill [`Sums`].
    pub fn reaches(&self) -> &Reaches {
        &self.reaches
    }

    /// Whether each operator takes the greatest of a few multiples of its work, and the prediction is their sum.
    pub(crate) fn is_linear(&self) -> bool {
        self.efficiency == Efficiency::Ideal && self.ops.iter().all(Priced::is_linear)
    }

    /// Share of the computing time that hides communication.
    pub fn overlap(&self) -> f64 {
        self.overlap
    }

    /// The operators, in order.
    pub fn ops(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().map(Priced::op)
    }

    /// Seconds of one step of these sums: a few multiplications an operator, nothing allocated.
    pub fn seconds(&self, sums: &Sums) -> StepTime {
        let mut total = Exposed::default();
        let mut stage = Exposed::default();
        let parts = sums.parts();
        for priced in &self.ops {
            if let Some(cost) = priced.cost(&parts) {
                total.add(&cost, priced.op().repeat);
                stage.add(&cost, priced.op().stage_repeat);
            }
        }
        let ideal = total.exposed(self.overlap);
        StepTime { step: self.efficiency.predict(ideal), ideal, stage: stage.exposed(self.overlap) }
    }

    /// Hands every operator that runs in a step of these sums to `see`, with its place and one occurrence's cost.
    pub fn each(&self, sums: &Sums, mut see: impl FnMut(usize, &Op, Cost)) {
        let parts = sums.parts();
        for (index, priced) in self.ops.iter().enumerate() {
            if let Some(cost) = priced.cost(&parts) {
                see(index, priced.op(), cost);
            }
        }
    }

    /// The prediction for an operator of so many ideal seconds.
    pub fn predict(&self, ideal: f64) -> Estimate {
        self.efficiency.predict(ideal)
    }
}

/// Computing and communicating seconds.
#[derive(Default)]
pub(crate) struct Exposed {
    compute: f64,
    link: f64,
}

impl Exposed {
    fn add(&mut self, cost: &Cost, repeat: f64) {
        self.add_seconds(cost.seconds * repeat, cost.bound);
    }

    pub(crate) fn add_seconds(&mut self, seconds: f64, bound: Bound) {
        if bound == Bound::Link {
            self.link += seconds;
        } else {
            self.compute += seconds;
        }
    }

    /// Communicating seconds that computing hides.
    pub(crate) fn hidden(&self, overlap: f64) -> f64 {
        self.link.min(overlap * self.compute)
    }

    /// Communication shows only where computing does not hide it (PHYSICS §4).
    pub(crate) fn exposed(&self, overlap: f64) -> f64 {
        self.compute + (self.link - overlap * self.compute).max(0.0)
    }
}
