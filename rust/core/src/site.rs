//! Where an operator runs, and who draws its weights, where that is not simply the device and every token.

/// What an operator's time runs beside: the device itself, or something that works at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lane {
    /// The device: its operators follow one another.
    #[default]
    Device,
    /// The link to the host.
    Host,
    /// The link to storage.
    Storage,
    /// The host's processor.
    Processor,
    /// Other devices of the deployment that do a part of every layer.
    Peer,
    /// The link to them.
    Exchange,
    /// The host's thread that launches kernels.
    Launching,
}

/// Lanes beside the device.
pub const LANES_BESIDE: usize = 6;

impl Lane {
    /// The place of the thread that launches kernels.
    pub const LAUNCHING: usize = 5;

    /// Its place among the lanes beside the device; `None` for the device.
    pub const fn beside(self) -> Option<usize> {
        match self {
            Lane::Device => None,
            Lane::Host => Some(0),
            Lane::Storage => Some(1),
            Lane::Processor => Some(2),
            Lane::Peer => Some(3),
            Lane::Exchange => Some(4),
            Lane::Launching => Some(Lane::LAUNCHING),
        }
    }
}

/// Limits an operator meets that are not simply its device's.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Limits {
    /// The device's own.
    #[default]
    Device,
    /// The device's, its tensor unit faster by this factor (structured sparsity).
    Faster(f64),
    /// Those of something else.
    Other(Rates),
    /// Those of something else where that is faster than the device.
    Either(Rates),
}

/// What a unit does a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// Multiplications, FLOP/s.
    pub flops: f64,
    /// Other operations, 1/s.
    pub vector: f64,
    /// Bytes of memory.
    pub bandwidth: f64,
}

/// Where an operator runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// What it runs beside.
    pub lane: Lane,
    /// What bounds it.
    pub limits: Limits,
    /// Share of the deployment's devices that do this; others do something else meanwhile.
    pub devices: f64,
}

impl Default for Site {
    fn default() -> Site {
        Site { lane: Lane::Device, limits: Limits::Device, devices: 1.0 }
    }
}

impl Site {
    /// Share of the devices that are busy with it: none where something else than a device of the deployment is.
    pub fn busy(&self) -> f64 {
        if matches!(self.lane, Lane::Device | Lane::Peer) { self.devices } else { 0.0 }
    }
}

/// The matrix of a dense multiplication, on this device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrix {
    /// Rows: what enters a token.
    pub inputs: f64,
    /// Columns: what leaves.
    pub outputs: f64,
}

/// What draws weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrawnBy {
    /// Every token.
    #[default]
    Token,
    /// Every sequence, all its tokens alike.
    Sequence,
}

/// Classes into which experts of unequal popularity are gathered.
pub const SKEW_CLASSES: usize = 16;

/// Experts by popularity: the share of them in a class, and the chance that a token leaves one of them alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Skew {
    /// (share of the experts, chance to be missed by one token) of each class; unused classes have share 0.
    pub classes: [(f64, f64); SKEW_CLASSES],
}
