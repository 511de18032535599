//! The units a datasheet may be written in, and the one each quantity is shown in.

use crate::units::{GB, GIB, MIB, MICROSECOND, TFLOPS};

/// What a number of a datasheet measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Operations a second, a multiply-add counted as two.
    Rate,
    /// Bytes.
    Capacity,
    /// Bytes a second.
    Bandwidth,
    /// Hertz.
    Frequency,
    /// Watts.
    Power,
    /// Seconds.
    Time,
    /// US dollars an hour.
    Price,
    /// A plain number of things.
    Count,
    /// A part of one.
    Share,
}

const KIB: f64 = 1024.0;

impl Quantity {
    /// The units it may be written in, each with its size in SI units.
    pub(super) const fn units(self) -> &'static [(&'static str, f64)] {
        match self {
            Quantity::Rate => &[
                ("GFLOP/s", TFLOPS / 1e3),
                ("TFLOP/s", TFLOPS),
                ("PFLOP/s", TFLOPS * 1e3),
                ("GOP/s", TFLOPS / 1e3),
                ("TOP/s", TFLOPS),
                ("POP/s", TFLOPS * 1e3),
            ],
            Quantity::Capacity => &[
                ("KiB", KIB),
                ("MiB", MIB),
                ("GiB", GIB),
                ("TiB", GIB * KIB),
                ("KB", GB / 1e6),
                ("MB", GB / 1e3),
                ("GB", GB),
                ("TB", GB * 1e3),
            ],
            Quantity::Bandwidth => {
                &[("MB/s", GB / 1e3), ("GB/s", GB), ("TB/s", GB * 1e3), ("GiB/s", GIB), ("Gbit/s", GB / 8.0)]
            }
            Quantity::Frequency => &[("MHz", 1e6), ("GHz", 1e9)],
            Quantity::Power => &[("W", 1.0), ("kW", 1e3)],
            Quantity::Time => &[("ns", MICROSECOND / 1e3), ("us", MICROSECOND), ("ms", MICROSECOND * 1e3)],
            Quantity::Price => &[("USD/h", 1.0)],
            Quantity::Count => &[("count", 1.0)],
            Quantity::Share => &[("%", 0.01)],
        }
    }

    /// The size of `unit` in SI units, if it is one of [`units`](Self::units).
    pub(super) fn size_of(self, unit: &str) -> Option<f64> {
        self.units().iter().find(|(known, _)| *known == unit).map(|(_, size)| *size)
    }

    /// A number in SI units as shown on screens, with the unit of the screen.
    pub(super) fn shown(self, value: f64) -> (f64, &'static str) {
        match self {
            Quantity::Rate => (value / TFLOPS, "TFLOP/s"),
            Quantity::Capacity if value >= GIB => (value / GIB, "GiB"),
            Quantity::Capacity if value >= MIB => (value / MIB, "MiB"),
            Quantity::Capacity => (value / KIB, "KiB"),
            Quantity::Bandwidth => (value / GB, "GB/s"),
            Quantity::Frequency => (value / 1e6, "MHz"),
            Quantity::Power => (value, "W"),
            Quantity::Time => (value / MICROSECOND, "us"),
            Quantity::Price => (value, "USD/h"),
            Quantity::Count => (value, "count"),
            Quantity::Share => (value * 100.0, "%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_and_binary_units_differ() {
        assert_eq!(Quantity::Capacity.size_of("GB"), Some(1e9));
        assert_eq!(Quantity::Capacity.size_of("GiB"), Some(1_073_741_824.0));
        assert_eq!(Quantity::Bandwidth.size_of("Gbit/s"), Some(1.25e8));
        assert_eq!(Quantity::Bandwidth.size_of("GB"), None);
    }

    #[test]
    fn a_number_is_shown_in_the_unit_people_say() {
        assert_eq!(Quantity::Capacity.shown(50.0 * MIB), (50.0, "MiB"));
        assert_eq!(Quantity::Rate.shown(989.5e12), (989.5, "TFLOP/s"));
    }
}
