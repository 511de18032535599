//! The links of a deployment: how fast a group of devices can exchange bytes.

use crate::error::{Error, Result};
use crate::hardware::{Fact, Hardware, Topology};

/// Devices of one host where they have no scale-up link of their own and talk over PCIe.
pub const PCIE_DOMAIN: u64 = 8;

/// One level of links, as a group of devices sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// Bytes/s per direction per device.
    pub bandwidth: f64,
    /// Seconds per hop; 0 where unknown (the ideal roofline counts none).
    pub latency: f64,
    /// Devices it joins.
    pub domain: u64,
    /// How they are wired.
    pub topology: Topology,
}

/// The links inside a machine (or rack), and between machines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Network {
    inner: Option<Level>,
    outer: Option<Level>,
}

impl Level {
    /// Bytes/s per direction per device that a group of `ranks` can use: a mesh gives each pair one link of
    /// `domain − 1`, so small groups leave links idle.
    pub fn usable(&self, ranks: u64) -> f64 {
        match self.topology {
            Topology::Mesh if self.domain > 1 => {
                self.bandwidth * (ranks.min(self.domain) - 1) as f64 / (self.domain - 1) as f64
            }
            _ => self.bandwidth,
        }
    }
}

impl Network {
    /// The links of a machine. Devices without a scale-up link talk over the host's PCIe, [`PCIE_DOMAIN`] to a host.
    pub fn of(hardware: &Hardware) -> Network {
        let seconds = |fact: &Fact| fact.value.unwrap_or(0.0);
        let up = &hardware.scale_up;
        let inner = match (up.bandwidth.value, hardware.host_link.bandwidth.value) {
            (Some(bandwidth), _) if up.domain > 1 => Some(Level {
                bandwidth,
                latency: seconds(&up.latency),
                domain: u64::from(up.domain),
                topology: up.topology,
            }),
            (_, Some(bandwidth)) => Some(Level {
                bandwidth,
                latency: seconds(&hardware.host_link.latency),
                domain: PCIE_DOMAIN,
                topology: Topology::Pcie,
            }),
            _ => None,
        };
        let out = &hardware.scale_out;
        let outer = out.bandwidth.value.map(|bandwidth| Level {
            bandwidth,
            latency: seconds(&out.latency),
            domain: u64::MAX,
            topology: Topology::Switch,
        });
        Network { inner, outer }
    }

    /// Both bandwidths times `factor`: what a faster link would bring.
    #[must_use]
    pub fn faster(mut self, factor: f64) -> Network {
        for level in [&mut self.inner, &mut self.outer].into_iter().flatten() {
            level.bandwidth *= factor;
        }
        self
    }

    /// The level inside a machine.
    ///
    /// # Errors
    /// A device of which no link is known.
    pub fn inner(&self, hardware: &str) -> Result<Level> {
        self.inner.ok_or_else(|| {
            Error::spec(
                "hardware.link.scale_up.bandwidth",
                format!("must be known to use several `{hardware}`"),
                "unknown",
                "give link.scale_up (or link.host) in a hardware file of your own, or use tp = pp = dp = 1",
            )
        })
    }

    /// The level between machines.
    ///
    /// # Errors
    /// A device of which no such link is known.
    pub fn outer(&self, hardware: &str) -> Result<Level> {
        self.outer.ok_or_else(|| {
            Error::spec(
                "hardware.link.scale_out.bandwidth",
                format!("must be known to spread over several machines of `{hardware}`"),
                "unknown",
                "give link.scale_out in a hardware file of your own, or use fewer devices",
            )
        })
    }
}
