//! One deployment, compiled: prices a step from its sums, in seconds alone or operator by operator.

use crate::efficiency::{Efficiency, Estimate};
use crate::error::{Error, Result};
use crate::hardware::Hardware;
use crate::layout::Layout;
use crate::lower::{Lowering, lower, tower_ops};
use crate::technique::{Cache, Context, Program, Target, Technique, Techniques};
use crate::model::Model;
use crate::precision::Precision;
use crate::roof::{Bound, Cost, Priced, Roof};
use crate::shape::{Reaches, Sums};
use crate::site::{LANES_BESIDE, Lane};
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
    pub(crate) ops: Vec<Priced>,
    reaches: Reaches,
    hidden: Hidden,
    efficiency: Efficiency,
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
        let mut program = Program { ops, reaches, beside: [0.0; LANES_BESIDE] };
        self.techniques.operators(&mut program, &self.context())?;
        Ok(program)
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
        let program = match (stack, &self.model.vision) {
            (Stack::Tower, Some(tower)) => {
                let reaches = Reaches::of(&self.model)?;
                let ops = tower_ops(tower, &self.precision, self.lowering, &reaches);
                Program { ops, reaches, beside: [0.0; LANES_BESIDE] }
            }
            _ => self.program()?,
        };
        let ops = program.ops.into_iter().map(|op| roof.price(op)).collect::<Result<Vec<_>>>()?;
        let hidden = Hidden { links: self.overlap, beside: program.beside };
        Ok(Pricer { ops, reaches: program.reaches, hidden, efficiency: self.efficiency.clone() })
    }
}

impl Pricer {
    /// What the model's attention reaches: needed to fill [`Sums`].
    pub fn reaches(&self) -> &Reaches {
        &self.reaches
    }

    /// Shares of the computing time that hide what runs beside it.
    pub fn hidden(&self) -> &Hidden {
        &self.hidden
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
                total.add(&cost, priced.op(), priced.op().repeat);
                stage.add(&cost, priced.op(), priced.op().stage_repeat);
            }
        }
        let ideal = total.exposed(&self.hidden);
        StepTime { step: self.efficiency.predict(ideal), ideal, stage: stage.exposed(&self.hidden) }
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

/// Seconds of computing, of communicating, and of what runs beside.
#[derive(Default)]
pub(crate) struct Exposed {
    compute: f64,
    link: f64,
    beside: [f64; LANES_BESIDE],
}

impl Exposed {
    fn add(&mut self, cost: &Cost, op: &Op, repeat: f64) {
        self.add_seconds(cost.seconds * repeat, cost.bound, op.site.lane);
    }

    pub(crate) fn add_seconds(&mut self, seconds: f64, bound: Bound, lane: Lane) {
        if let Some(place) = lane.beside() {
            self.beside[place] += seconds;
        } else if bound == Bound::Link {
            self.link += seconds;
        } else {
            self.compute += seconds;
        }
    }

    /// Communication shows only where computing does not hide it (PHYSICS §4); of the lanes beside, which run at the
    /// same time, the one that sticks out most.
    pub(crate) fn exposed(&self, hidden: &Hidden) -> f64 {
        let busy = self.compute + (self.link - hidden.links * self.compute).max(0.0);
        busy + self.beside_of(busy, hidden).1
    }

    /// The lane that sticks out most from `busy` seconds of the device, and by how much.
    fn beside_of(&self, busy: f64, hidden: &Hidden) -> (usize, f64) {
        let lanes = self.beside.iter().zip(hidden.beside).enumerate();
        lanes.map(|(lane, (seconds, share))| (lane, seconds - share * busy)).fold(
            (0, 0.0),
            |most, lane| if lane.1 > most.1 { lane } else { most },
        )
    }
}

/// How far the lanes beside the device stick out from `busy` seconds of it: which most, and by how much.
pub(crate) fn sticks_out(beside: [f64; LANES_BESIDE], busy: f64, hidden: &Hidden) -> (usize, f64) {
    Exposed { beside, ..Exposed::default() }.beside_of(busy, hidden)
}
