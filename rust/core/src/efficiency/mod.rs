//! From a bound to a prediction: how much longer an operator really takes, and where that is known from.

pub mod form;

/// Where a number comes from; every result carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Straight from the datasheet: an ideal roofline.
    Datasheet,
    /// Fitted to measurements on this device.
    Fitted(String),
    /// Fitted on another device and carried over.
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

/// What turns a roof into a prediction.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub enum Efficiency {
    /// Nothing: the ideal roofline is the answer.
    #[default]
    Ideal,
}

impl Efficiency {
    /// The prediction for an operator whose roofline takes `ideal` seconds; never below it.
    pub fn predict(&self, ideal: f64) -> Estimate {
        match self {
            Efficiency::Ideal => Estimate { seconds: ideal, low: None, high: None },
        }
    }

    /// Where its numbers come from.
    pub fn source(&self) -> Source {
        match self {
            Efficiency::Ideal => Source::Datasheet,
        }
    }
}
