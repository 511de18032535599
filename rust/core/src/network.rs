//! The links of a deployment: how fast a group of devices can exchange bytes.

use crate::error::{Error, Result};
use crate::hardware::{Hardware, Link, Topology};

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

/// The links of a deployment, fastest first: scale-up, the host's PCIe where scale-up joins fewer devices than a host
/// holds (bridges), and scale-out.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Network {
    up: Option<Level>,
    host: Option<Level>,
    out: Option<Level>,
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
        let level = |link: &Link, domain: u64| {
            link.bandwidth.value.map(|bandwidth| Level {
                bandwidth,
                latency: link.latency.value.unwrap_or(0.0),
                domain,
                topology: link.topology,
            })
        };
        let up = &hardware.scale_up;
        let host = &hardware.host_link;
        Network {
            up: if up.domain > 1 { level(up, u64::from(up.domain)) } else { None },
            host: if host.topology == Topology::Pcie { level(host, PCIE_DOMAIN) } else { None },
            out: level(&hardware.scale_out, u64::MAX),
        }
    }

    /// Every bandwidth times `factor`: what faster links would bring.
    #[must_use]
    pub fn faster(mut self, factor: f64) -> Network {
        for level in [&mut self.up, &mut self.host, &mut self.out].into_iter().flatten() {
            level.bandwidth *= factor;
        }
        self
    }

    /// The links that a group standing `reach` devices apart uses: among neighbours, and beyond them.
    ///
    /// # Errors
    /// A device of which no link that reaches so far is known.
    pub fn levels(&self, reach: u64, hardware: &str) -> Result<(Level, Level)> {
        let near = self.up.or(self.host).or(self.out).ok_or_else(|| {
            Error::spec(
                "hardware.link.scale_up.bandwidth",
                format!("must be known to use several `{hardware}`"),
                "unknown",
                "give link.scale_up (or link.scale_out) in a hardware file of your own, or use tp = pp = dp = 1",
            )
        })?;
        if reach <= near.domain {
            return Ok((near, near));
        }
        let host = self.host.filter(|host| reach <= host.domain && near.domain < host.domain);
        let far = host.or(self.out).ok_or_else(|| {
            Error::spec(
                "hardware.link.scale_out.bandwidth",
                format!("must be known to spread over several machines of `{hardware}`"),
                "unknown",
                "give link.scale_out in a hardware file of your own, or use fewer devices",
            )
        })?;
        Ok((near, far))
    }
}
