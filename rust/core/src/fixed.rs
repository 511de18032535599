//! Seconds as whole numbers of a very small unit: they add without rounding, in any order and any number at once.

/// Time in units of 2⁻⁸⁸ s.
///
/// Moments and prices known as floating-point numbers are rounded down to 2⁻⁶⁴ s. The 24 bits below are for what a
/// token of context adds to a step, which is multiplied by millions of them; and 128 bits last for 17,000 years.
pub type Ticks = i128;

/// 2⁶⁴: units of a second to which floating-point seconds are rounded down.
const UNITS: f64 = 18_446_744_073_709_551_616.0;
/// Seconds of such a unit; multiplying by it is exact, as dividing by a power of two is.
const UNIT: f64 = 1.0 / UNITS;
/// Bits of [`Ticks`] below that unit.
const FINER: u32 = 24;

/// Ticks in so many seconds (finite, not negative), rounded down to 2⁻⁶⁴ s.
#[inline]
pub fn ticks_in(seconds: f64) -> Ticks {
    let units = seconds * UNITS;
    // Up to half a second the conversion is one instruction instead of a call.
    if units < i64::MAX as f64 {
        i128::from(units as i64) << FINER
    } else {
        (units as i128).saturating_mul(1 << FINER)
    }
}

/// The nearest number of ticks to so many seconds (finite): a coefficient that is multiplied.
pub fn nearest_ticks(seconds: f64) -> Ticks {
    (seconds * (UNITS * f64::from(1u32 << FINER))).round() as i128
}

/// Seconds of a span of so many ticks.
#[inline]
pub fn tick_seconds(ticks: Ticks) -> f64 {
    let units = ticks >> FINER;
    match i64::try_from(units) {
        Ok(short) => short as f64 * UNIT,
        // Seconds and their fraction: rounding both keeps the order of instants, and is many times faster than
        // rounding 128 bits at once.
        Err(_) => (units >> 64) as i64 as f64 + units as u64 as f64 * UNIT,
    }
}

/// The ticks at so many nanoseconds, rounded down to 2⁻⁶⁴ s.
#[inline]
pub fn nanos_in_ticks(nanos: u64) -> Ticks {
    const SECOND: u64 = 1_000_000_000;
    // The quotient of nanos·2⁶⁴ and a second, digit by digit: dividing 128 bits is many times slower.
    let (seconds, rest) = (nanos / SECOND, nanos % SECOND);
    let high = (rest << 32) / SECOND;
    let low = (((rest << 32) % SECOND) << 32) / SECOND;
    ((i128::from(seconds) << 64) + i128::from((high << 32) + low)) << FINER
}

/// Whole nanoseconds of a span of so many ticks, rounded down.
pub fn whole_nanos(ticks: Ticks) -> i128 {
    const BITS: u32 = 64 + FINER;
    let (seconds, rest) = (ticks >> BITS, ticks & ((1 << BITS) - 1));
    seconds * 1_000_000_000 + ((rest * 1_000_000_000) >> BITS)
}

/// How long something takes: exactly, and as a floating-point number.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Period {
    /// In exact units.
    pub ticks: Ticks,
    /// In seconds.
    pub seconds: f64,
}

impl Period {
    /// So many seconds, which are what counts where times are added as floating-point numbers.
    #[inline]
    pub fn of_seconds(seconds: f64) -> Period {
        Period { ticks: ticks_in(seconds), seconds }
    }

    /// So many ticks.
    #[inline]
    pub fn of_ticks(ticks: Ticks) -> Period {
        Period { ticks, seconds: tick_seconds(ticks) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_rounded_down_to_units() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 123_456_789_123_456_789, i64::MAX as u64] {
            assert_eq!(nanos_in_ticks(nanos), ((i128::from(nanos) << 64) / 1_000_000_000) << FINER);
        }
    }

    #[test]
    fn whole_nanoseconds_come_back_from_ticks() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 123_456_789_123_456_789, i64::MAX as u64] {
            // Rounding down twice loses at most one.
            let found = whole_nanos(nanos_in_ticks(nanos));
            assert!((i128::from(nanos) - 1..=i128::from(nanos)).contains(&found), "{nanos}: {found}");
        }
        assert_eq!(whole_nanos(ticks_in(0.5)), 500_000_000);
    }

    #[test]
    fn short_and_long_spans_are_converted_alike() {
        for seconds in [0.0, 1e-9, 0.0071, 0.1, 0.4999999999999999, 0.5, 0.5000000000000001, 7.3, 1e9] {
            let units = (seconds * UNITS) as i128;
            assert_eq!(ticks_in(seconds), units << FINER);
            let (found, exact) = (tick_seconds(units << FINER), units as f64 / UNITS);
            assert!((found - exact).abs() <= exact * f64::EPSILON, "{seconds}: {found}");
        }
    }

    #[test]
    fn a_coefficient_times_millions_keeps_its_digits() {
        for seconds in [3.9e-8, 1.7e-12, 0.004, 0.0] {
            let (found, exact) = (tick_seconds(nearest_ticks(seconds) * 10_000_000), seconds * 1e7);
            assert!((found - exact).abs() <= 1e-14 * exact, "{seconds}: {found}");
        }
    }

    #[test]
    fn a_period_of_centuries_saturates_instead_of_running_over() {
        assert_eq!(ticks_in(1e30), i128::MAX);
        assert!(nanos_in_ticks(u64::MAX) > 0);
    }
}
