//! The fits that come with the program, embedded; a file is read when its device is first needed.

use std::sync::OnceLock;

use super::file::Set;

/// One shipped file.
pub struct Shipped {
    /// Catalogue name of the device, or `any`.
    pub device: &'static str,
    /// Its architecture.
    pub architecture: &'static str,
    text: &'static str,
    set: OnceLock<Set>,
}

/// Names, architectures and texts of the files `data/efficiency/NAME.toml`.
macro_rules! embedded {
    ($($device:literal $architecture:literal,)*) => {
        [$(Shipped {
            device: $device,
            architecture: $architecture,
            text: include_str!(concat!("../../data/efficiency/", $device, ".toml")),
            set: OnceLock::new(),
        }),*]
    };
}

/// Every shipped file, newer architectures first; the last holds what is taken where nothing was measured.
pub static FILES: [Shipped; 11] = embedded![
    "b300-sxm" "blackwell-ultra",
    "gb300" "blackwell-ultra",
    "b200-sxm" "blackwell",
    "gb200" "blackwell",
    "rtx-pro-6000-server" "blackwell-rtx",
    "h200-sxm" "hopper",
    "h100-sxm" "hopper",
    "l40s" "ada",
    "a100-80gb-sxm" "ampere",
    "arc-pro-b60" "xe2",
    "any" "any",
];

impl Shipped {
    /// Its fits.
    pub fn set(&self) -> &Set {
        // A shipped file that cannot be read fails a test; without its fits fallbacks are used.
        self.set.get_or_init(|| Set::parse(self.device, self.text).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;

    #[test]
    fn every_shipped_file_can_be_read_and_names_a_device_of_its_architecture() {
        for file in &FILES {
            let set = Set::parse(file.device, file.text).unwrap();
            assert_eq!((set.device.as_str(), set.architecture.as_str()), (file.device, file.architecture));
            if file.device != "any" {
                let hardware = catalog::hardware::hardware(file.device).unwrap().item;
                assert_eq!(hardware.architecture, file.architecture);
            }
        }
    }

    #[test]
    fn every_shipped_fit_says_where_it_is_from() {
        for fit in FILES.iter().flat_map(|file| &file.set().fits) {
            assert!(!fit.source.is_empty() && !fit.date.is_empty(), "{fit:?}");
        }
    }
}
