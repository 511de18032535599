//! A device and the machine around it: peaks, memories, links, power, price, each with its source.

use crate::format::Format;

mod quantity;
mod document;
mod file;
mod peaks;
mod facts;

pub use facts::facts;
pub use file::hardware_from_toml;

/// A number from a datasheet: in SI units, or null where nobody published it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fact {
    /// The value in SI units (bytes, bytes/s, FLOP/s, Hz, W, s, USD/h); `None` where unknown.
    pub value: Option<f64>,
    /// Where it comes from, as written in the file.
    pub source: String,
}

/// What kind of machine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A graphics processor.
    Gpu,
    /// A tensor processor or another accelerator with memory of its own.
    Accelerator,
    /// A chip whose processor and accelerator share memory (laptops, Jetson).
    Soc,
    /// A server processor.
    Cpu,
    /// Memory that computes.
    Pim,
}

/// One level of memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// Bytes, as the driver reports them (not marketing GB).
    pub capacity: Fact,
    /// Bytes/s.
    pub bandwidth: Fact,
}

/// How the devices of one scale-up domain are wired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Topology {
    /// Every pair at full bandwidth (NVSwitch).
    #[default]
    Switch,
    /// Direct links between all pairs (MI300X Infinity Fabric): a pair gets 1/(n−1) of the bandwidth.
    Mesh,
    /// A ring or pairwise bridge.
    Ring,
    /// A torus (TPU, Trainium).
    Torus,
    /// Through the host's PCIe.
    Pcie,
}

/// A link between devices.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Link {
    /// Its name (`NVLink 4`, `PCIe 5.0 x16`).
    pub name: String,
    /// Bytes/s per direction per device.
    pub bandwidth: Fact,
    /// Seconds per hop.
    pub latency: Fact,
    /// Devices in one domain; 1 where there is no such link, `u32::MAX` where it reaches as many as there are.
    pub domain: u32,
    /// How they are wired.
    pub topology: Topology,
    /// Whether the switch can reduce (NVLS/SHARP).
    pub in_network: bool,
    /// Whether bytes pass through the host's memory, because devices do not reach each other's.
    pub through_host: bool,
}

/// Exponentials that a multiprocessor computes in one clock, from Volta to Blackwell (CUDA programming guide, arithmetic
/// instructions).
pub const EXPONENTIALS: f64 = 16.0;

/// A device of the catalogue or of a user's own file.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// Its name (`h100-sxm`).
    pub name: String,
    /// As printed on screens (`H100-SXM`).
    pub title: String,
    /// Who makes it (`nvidia`).
    pub vendor: String,
    /// What it is.
    pub kind: Kind,
    /// Its architecture (`hopper`): efficiency carries over within one.
    pub architecture: String,
    /// Other names it answers to.
    pub aliases: Vec<String>,
    /// Dense peak per number format on the tensor unit, FLOP/s (a multiply-add is two).
    pub tensor_dense: Vec<(Format, Fact)>,
    /// Peak per format with structured (2:4) sparsity, FLOP/s.
    pub tensor_sparse: Vec<(Format, Fact)>,
    /// Peak per format of the vector unit (CUDA cores), FLOP/s.
    pub vector: Vec<(Format, Fact)>,
    /// Streaming multiprocessors, compute units, tensor cores or processor cores.
    pub cores: Fact,
    /// Boost clock, Hz.
    pub clock: Fact,
    /// Exponentials that a core computes in one clock; [`EXPONENTIALS`] where unknown.
    pub exponentials: Fact,
    /// Share of the tensor unit's full rate that products summed in 32 bits reach; all of it where unknown. Consumer cards
    /// halve it, and peaks of the catalogue are those of such products.
    pub accumulation: Fact,
    /// Share of memory and its traffic that error correction in line with the data takes; none where unknown. Datasheets
    /// print the bandwidth without it.
    pub ecc: Fact,
    /// Its own memory (HBM, GDDR, LPDDR, DDR, or SRAM for machines that have nothing else).
    pub memory: Memory,
    /// Last-level cache.
    pub l2: Memory,
    /// Scratch memory of one core (shared memory + L1 of an SM), capacity in bytes a core.
    pub on_chip: Memory,
    /// The host's memory, as usually built around it.
    pub host: Memory,
    /// To the host.
    pub host_link: Link,
    /// To its neighbours in one machine or rack.
    pub scale_up: Link,
    /// To other machines.
    pub scale_out: Link,
    /// Board power at full load, W.
    pub tdp: Fact,
    /// Power when idle, W.
    pub idle: Fact,
    /// Indicative rent, USD an hour a device.
    pub price: Fact,
}
