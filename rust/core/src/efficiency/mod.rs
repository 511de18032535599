//! From a bound to a prediction: how much longer an operator really takes, and where that is known from.

pub mod form;
pub mod switches;
pub mod file;
pub mod shipped;
pub mod choose;
pub mod predict;
pub mod band;

use std::sync::Arc;

use file::{Factor, Set};
use switches::Switches;

use crate::hardware::Hardware;
use crate::work::Family;

/// Where a number comes from; every result carries it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// Straight from the datasheet: an ideal roofline.
    Datasheet,
    /// Fitted to measurements on this device.
    Fitted(String),
    /// Fitted on another device, or under another engine, and carried over.
    Transferred(String),
    /// Assumed, for want of measurements.
    Assumed,
}

impl std::fmt::Display for Source {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Datasheet => out.write_str("datasheet"),
            Source::Fitted(device) => write!(out, "fitted({device})"),
            Source::Transferred(device) => write!(out, "transferred({device})"),
            Source::Assumed => out.write_str("assumed"),
        }
    }
}

/// Seconds, with an 80 % band where one is known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Expected.
    pub seconds: f64,
    /// P10; `None` without a fitted efficiency.
    pub low: Option<f64>,
    /// P90; `None` without a fitted efficiency.
    pub high: Option<f64>,
}

impl Estimate {
    /// Seconds of which no error is known.
    pub const fn bare(seconds: f64) -> Estimate {
        Estimate { seconds, low: None, high: None }
    }
}

/// What turns a roof into a prediction.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Efficiency {
    /// Nothing: the ideal roofline is the answer.
    #[default]
    Ideal,
    /// Fitted forms of the engine's kernels.
    Predicted(Arc<Prediction>),
}

/// Which fits are looked for, and how the engine is set.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// The engine whose kernels run (`vllm`, `sglang`, `trtllm`).
    pub engine: String,
    /// Fits that come before the shipped ones, best first.
    pub sets: Vec<Set>,
    /// What configuration decides and no roofline knows.
    pub switches: Switches,
}

impl Prediction {
    /// What makes every family on a device take `factor` times as long as it does so far.
    pub fn scaled(&self, hardware: &Hardware, factor: f64) -> Set {
        let so_far = choose::Chooser::new(self, hardware);
        let one = |family: Family| {
            let (known, spread) = so_far.factor(family).unwrap_or((1.0, None));
            Factor { engine: self.engine.clone(), family, factor: known * factor, spread }
        };
        let factors = Family::ALL.into_iter().map(one).collect();
        Set { device: hardware.name.clone(), factors, ..Set::default() }
    }
}

impl Efficiency {
    /// Predictions for `engine` (a preset's name) under its defaults.
    pub fn predicted(engine: &str) -> Efficiency {
        let engine = switches::kernels_of(engine);
        Efficiency::Predicted(Arc::new(Prediction {
            engine: engine.to_string(),
            sets: Vec::new(),
            switches: Switches::default(),
        }))
    }

    /// The same device with a host that launches kernels in no time.
    #[must_use]
    pub fn launched_at_once(&self) -> Efficiency {
        match self {
            Efficiency::Ideal => Efficiency::Ideal,
            Efficiency::Predicted(prediction) => {
                let mut prediction = Prediction::clone(prediction);
                prediction.switches.launch_s = Some(0.0);
                Efficiency::Predicted(Arc::new(prediction))
            }
        }
    }

    /// Whether operators are predicted and not merely bounded.
    pub fn is_predicted(&self) -> bool {
        matches!(self, Efficiency::Predicted(_))
    }
}
