//! The tool's own hardware table, whose figures differ from datasheets (H100: 3.072 TB/s).

use super::Version;
use crate::error::{Error, Result};
use crate::names;

/// One entry of the tool's `hardware_params`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ViewerHardware {
    /// The tool's name (`nvidia_H100`).
    pub name: &'static str,
    /// Memory bandwidth, bytes/s.
    pub bandwidth: f64,
    /// Peak for 16-bit operands, OP/s.
    pub fp16: f64,
    /// Peak for 8-bit operands, OP/s, where the table has one.
    pub int8: Option<f64>,
    /// Peak for 4-bit operands, OP/s, where the table has one.
    pub int4: Option<f64>,
    /// Shared memory of all multiprocessors, bytes.
    pub onchip_buffer: f64,
}

/// Bandwidth in GB/s, peaks in TOP/s, buffer in KB.
const fn entry(
    name: &'static str,
    gb_s: f64,
    fp16: f64,
    int8: Option<f64>,
    int4: Option<f64>,
    kb: f64,
) -> ViewerHardware {
    ViewerHardware {
        name,
        bandwidth: gb_s * 1e9,
        fp16: fp16 * 1e12,
        int8: scaled(int8),
        int4: scaled(int4),
        onchip_buffer: kb * 1e3,
    }
}

const fn scaled(tera: Option<f64>) -> Option<f64> {
    match tera {
        Some(value) => Some(value * 1e12),
        None => None,
    }
}

/// The table of the newest version; [`table`] says where the others differ.
const TABLE: [ViewerHardware; 13] = [
    entry("nvidia_V100", 900.0, 112.0, Some(62.0), None, 20_480.0),
    entry("nvidia_A6000", 768.0, 154.8, Some(309.7), Some(619.4), 21_504.0),
    entry("nvidia_A6000_Ada", 960.0, 364.2, Some(728.5), Some(1457.0), 36_352.0),
    entry("nvidia_A100", 1555.0, 312.0, Some(624.0), Some(1248.0), 27_648.0),
    entry("nvidia_A100_40G", 1555.0, 312.0, Some(624.0), Some(1248.0), 27_648.0),
    entry("nvidia_A100_80G", 2039.0, 312.0, Some(624.0), Some(1248.0), 27_648.0),
    entry("nvidia_A800_80G_SXM", 2039.0, 312.0, Some(624.0), Some(1248.0), 27_648.0),
    entry("nvidia_A40", 696.0, 149.7, Some(299.3), Some(598.6), 21_504.0),
    entry("nvidia_H100", 3072.0, 989.5, Some(1979.0), None, 33_792.0),
    entry("nvidia_H100_SXM", 3072.0, 989.5, Some(1979.0), None, 33_792.0),
    entry("nvidia_H100_PCIe", 2048.0, 756.5, Some(1513.0), None, 29_184.0),
    entry("nvidia_L40", 864.0, 181.0, Some(362.0), Some(724.0), 36_352.0),
    entry("intel_13900k", 89.6, 1.3824, None, None, 36_000.0),
];

/// Other spellings of the tool's names, without vendor.
const ALIASES: [(&str, &str); 21] = [
    ("a100-40gb", "nvidia_A100_40G"),
    ("a100-sxm-40gb", "nvidia_A100_40G"),
    ("a100-sxm4-40gb", "nvidia_A100_40G"),
    ("a100-80gb", "nvidia_A100_80G"),
    ("a100-sxm", "nvidia_A100_80G"),
    ("a100-sxm-80gb", "nvidia_A100_80G"),
    ("a100-sxm4-80gb", "nvidia_A100_80G"),
    ("a800", "nvidia_A800_80G_SXM"),
    ("a800-sxm", "nvidia_A800_80G_SXM"),
    ("a800-80gb-sxm", "nvidia_A800_80G_SXM"),
    ("h100-80gb", "nvidia_H100"),
    ("h100-sxm5", "nvidia_H100_SXM"),
    ("h100-sxm-80gb", "nvidia_H100_SXM"),
    ("h100-pcie-80gb", "nvidia_H100_PCIe"),
    ("rtx-a6000", "nvidia_A6000"),
    ("a6000-48gb", "nvidia_A6000"),
    ("rtx-6000-ada", "nvidia_A6000_Ada"),
    ("v100-sxm2", "nvidia_V100"),
    ("v100-sxm", "nvidia_V100"),
    ("i9-13900k", "intel_13900k"),
    ("core-i9-13900k", "intel_13900k"),
];

/// The hardware a version knows, in the tool's order.
pub fn table(version: Version) -> Vec<ViewerHardware> {
    let adjusted = |entry: ViewerHardware| match version {
        Version::Main1893e4b => Some(ViewerHardware { int4: None, ..entry }),
        Version::Main472f71f => match entry.name {
            "nvidia_A6000_Ada" => None,
            "nvidia_A6000" => Some(ViewerHardware { fp16: 154.8385e12, int4: None, ..entry }),
            _ => Some(ViewerHardware { int4: None, ..entry }),
        },
        Version::Pr27Df2cba9 => Some(entry),
    };
    TABLE.into_iter().filter_map(adjusted).collect()
}

impl ViewerHardware {
    /// The entry of that name, in the tool's spelling or a forgiving one (`h100`, `NVIDIA H100 SXM`).
    ///
    /// # Errors
    /// [`Error::UnknownName`] with the nearest names of that version's table.
    pub fn find(version: Version, name: &str) -> Result<ViewerHardware> {
        let known = table(version);
        let wanted = bare(name);
        let alias = ALIASES.iter().find(|(alias, _)| *alias == wanted).map(|(_, tool_name)| *tool_name);
        known
            .iter()
            .find(|entry| Some(entry.name) == alias || bare(entry.name) == wanted)
            .copied()
            .ok_or_else(|| {
                let spelled: Vec<String> = known.iter().map(|entry| bare(entry.name)).collect();
                let near = names::nearest(&wanted, spelled.iter().map(String::as_str), 3);
                let nearest = near
                    .iter()
                    .filter_map(|name| known.iter().find(|entry| bare(entry.name) == *name))
                    .map(|entry| entry.name.to_string())
                    .collect();
                Error::UnknownName { kind: "LLM-Viewer hardware", name: name.to_string(), nearest }
            })
    }

    /// The one peak the tool sets against every operator, OP/s: by the widest of weights, activations and KV.
    ///
    /// # Errors
    /// [`Error::Spec`] with the tool's `KeyError` where the table lacks the peak.
    pub(super) fn peak(&self, version: Version, widest_bits: u32) -> Result<f64> {
        let missing = || {
            Error::spec(
                "hardware",
                "must have an INT8 peak where no width is above 8 bits (KeyError: 'INT8')",
                self.name,
                "widen weights, activations or KV above 8 bits; \
                 `llm-viewer@pr27-df2cba9-reconstructed` falls back to FP16",
            )
        };
        match version {
            Version::Pr27Df2cba9 => {
                let int4 = if widest_bits <= 4 { self.int4 } else { None };
                let int8 = if widest_bits <= 8 { self.int8 } else { None };
                Ok(int4.or(int8).unwrap_or(self.fp16))
            }
            _ if widest_bits <= 8 => self.int8.ok_or_else(missing),
            _ => Ok(self.fp16),
        }
    }
}

/// A name in one spelling, without its vendor.
fn bare(name: &str) -> String {
    let name = names::normalise(name);
    let stripped = name.strip_prefix("nvidia-").or_else(|| name.strip_prefix("intel-"));
    stripped.unwrap_or(&name).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_names_and_forgiving_ones_find_the_same_entry() {
        for version in Version::ALL {
            for entry in table(version) {
                assert_eq!(ViewerHardware::find(version, entry.name).unwrap(), entry);
            }
        }
        let find = |name| ViewerHardware::find(Version::Main1893e4b, name).unwrap().name;
        assert_eq!(find("h100"), "nvidia_H100");
        assert_eq!(find("NVIDIA H100 SXM"), "nvidia_H100_SXM");
        assert_eq!(find("a6000"), "nvidia_A6000");
        assert_eq!(find("a100-sxm-80gb"), "nvidia_A100_80G");
        assert_eq!(find("i9-13900K"), "intel_13900k");
    }

    #[test]
    fn every_alias_names_an_entry() {
        for (alias, name) in ALIASES {
            assert_eq!(ViewerHardware::find(Version::Main1893e4b, alias).unwrap().name, name);
        }
    }

    #[test]
    fn unknown_hardware_is_answered_with_the_nearest_of_that_version() {
        let error = ViewerHardware::find(Version::Main1893e4b, "h10").unwrap_err();
        assert_eq!(error.to_string(), "no LLM-Viewer hardware is called `h10`");
        assert!(error.hint().starts_with("nearest: nvidia_H100"), "{}", error.hint());
        let error = ViewerHardware::find(Version::Main472f71f, "nvidia_A6000_Ada").unwrap_err();
        assert!(error.hint().contains("nvidia_A6000"), "{}", error.hint());
    }

    #[test]
    fn a_missing_int8_peak_is_the_tools_key_error() {
        let intel = ViewerHardware::find(Version::Main1893e4b, "intel_13900k").unwrap();
        let error = intel.peak(Version::Main1893e4b, 8).unwrap_err();
        assert_eq!(
            error.to_string(),
            "hardware must have an INT8 peak where no width is above 8 bits (KeyError: 'INT8'): intel_13900k"
        );
        assert_eq!(intel.peak(Version::Main1893e4b, 16), Ok(1.3824e12));
        assert_eq!(intel.peak(Version::Pr27Df2cba9, 4), Ok(1.3824e12));
    }

    #[test]
    fn the_proposal_takes_the_narrowest_peak_there_is() {
        let peak = |name, bits| {
            let entry = ViewerHardware::find(Version::Pr27Df2cba9, name).unwrap();
            entry.peak(Version::Pr27Df2cba9, bits).unwrap()
        };
        assert_eq!(peak("nvidia_A40", 4), 598.6e12);
        assert_eq!(peak("nvidia_A40", 5), 299.3e12);
        assert_eq!(peak("nvidia_H100", 4), 1979e12);
        assert_eq!(peak("nvidia_H100", 9), 989.5e12);
    }
}
