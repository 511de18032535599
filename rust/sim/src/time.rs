//! Simulated time: an exact fixed-point clock, with a floating-point twin for comparison with recorded schedules.
//!
//! Instants are compared for equality all the time (has this request arrived when that step ends?), so time must add
//! without rounding: two ways to the same instant have to meet. [`FixedClock`] counts units of 2⁻⁶⁴ s in 128 bits;
//! [`F64Clock`] adds `f64` seconds in the order of the steps, as the schedules recorded from real engines do.

use std::fmt::Debug;

/// A point in simulated time, exact: units of 2⁻⁶⁴ s since the beginning.
pub type Ticks = i128;

/// Seconds of a span of that many units.
pub fn tick_seconds(ticks: Ticks) -> f64 {
    FixedClock::seconds_between(0, ticks)
}

/// Units in that many seconds (finite, not negative).
pub fn ticks_in(seconds: f64) -> Ticks {
    FixedClock::after(0, seconds)
}

/// How instants are represented and added.
pub trait Clock: 'static {
    /// A point in simulated time.
    type Instant: Copy + PartialEq + PartialOrd + Default + Debug + Send + Sync;

    /// The instant that many nanoseconds after the beginning.
    fn at_nanos(nanos: u64) -> Self::Instant;

    /// The instant that many seconds (finite, not negative) after the beginning.
    fn at_seconds(seconds: f64) -> Self::Instant {
        Self::after(Self::Instant::default(), seconds)
    }

    /// The instant `seconds` (finite, not negative) after `from`.
    fn after(from: Self::Instant, seconds: f64) -> Self::Instant;

    /// The instant that many nanoseconds after `from`.
    fn after_nanos(from: Self::Instant, nanos: u64) -> Self::Instant;

    /// Seconds from one instant to a later one.
    fn seconds_between(from: Self::Instant, to: Self::Instant) -> f64;

    /// Seconds since the beginning.
    fn seconds(instant: Self::Instant) -> f64 {
        Self::seconds_between(Self::Instant::default(), instant)
    }

    /// The instant in exact units.
    fn ticks(instant: Self::Instant) -> Ticks;

    /// The later of two instants.
    fn later(a: Self::Instant, b: Self::Instant) -> Self::Instant {
        if a < b { b } else { a }
    }
}

/// Exact time in units of 2⁻⁶⁴ s; the default.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock;

/// 2⁶⁴, the units of a second.
const UNITS: f64 = 18_446_744_073_709_551_616.0;

impl Clock for FixedClock {
    type Instant = i128;

    fn at_nanos(nanos: u64) -> i128 {
        const SECOND: u64 = 1_000_000_000;
        // The quotient of nanos·2⁶⁴ and a second, digit by digit: dividing 128 bits is many times slower.
        let (seconds, rest) = (nanos / SECOND, nanos % SECOND);
        let high = (rest << 32) / SECOND;
        let low = (((rest << 32) % SECOND) << 32) / SECOND;
        (i128::from(seconds) << 64) + i128::from((high << 32) + low)
    }

    fn after(from: i128, seconds: f64) -> i128 {
        let units = seconds * UNITS;
        // Up to half a second the conversion is one instruction instead of a call.
        let units = if units < i64::MAX as f64 { i128::from(units as i64) } else { units as i128 };
        from.saturating_add(units)
    }

    fn after_nanos(from: i128, nanos: u64) -> i128 {
        from.saturating_add(Self::at_nanos(nanos))
    }

    fn seconds_between(from: i128, to: i128) -> f64 {
        let units = to - from;
        let units = i64::try_from(units).map_or_else(|_| units as f64, |short| short as f64);
        units / UNITS
    }

    fn ticks(instant: i128) -> Ticks {
        instant
    }
}

/// Seconds as `f64`, rounded at each addition.
#[derive(Debug, Clone, Copy)]
pub struct F64Clock;

impl Clock for F64Clock {
    type Instant = f64;

    fn at_nanos(nanos: u64) -> f64 {
        nanos as f64 / 1e9
    }

    fn after(from: f64, seconds: f64) -> f64 {
        from + seconds
    }

    fn after_nanos(from: f64, nanos: u64) -> f64 {
        from + Self::at_nanos(nanos)
    }

    fn seconds_between(from: f64, to: f64) -> f64 {
        to - from
    }

    fn ticks(instant: f64) -> Ticks {
        ticks_in(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_time_adds_without_rounding() {
        let step = 0.1 + 1e-9;
        let start = FixedClock::at_nanos(123_456_789);
        let stepped = (0..1000).fold(start, |now, _| FixedClock::after(now, step));
        let once = FixedClock::after(start, step) - start;
        assert_eq!(stepped - start, 1000 * once);
    }

    #[test]
    fn nanoseconds_are_rounded_down_to_units() {
        for nanos in [0, 1, 999_999_999, 1_000_000_000, 123_456_789_123_456_789, i64::MAX as u64] {
            assert_eq!(FixedClock::at_nanos(nanos), (i128::from(nanos) << 64) / 1_000_000_000);
        }
    }

    #[test]
    fn short_and_long_spans_are_converted_alike() {
        for seconds in [0.0, 1e-9, 0.0071, 0.1, 0.4999999999999999, 0.5, 0.5000000000000001, 7.3, 1e9] {
            let units = (seconds * UNITS) as i128;
            assert_eq!(FixedClock::after(5, seconds), 5 + units);
            assert_eq!(FixedClock::seconds_between(5, 5 + units), units as f64 / UNITS);
        }
    }

    #[test]
    fn both_clocks_agree_to_a_nanosecond_over_a_week() {
        let week = 7 * 24 * 3600 * 1_000_000_000;
        let fixed = FixedClock::seconds(FixedClock::after(FixedClock::at_nanos(week), 0.25));
        let float = F64Clock::seconds(F64Clock::after(F64Clock::at_nanos(week), 0.25));
        assert!((fixed - float).abs() < 1e-9);
    }

    #[test]
    fn a_decimal_arrival_is_the_nearest_float() {
        assert_eq!(F64Clock::at_nanos(536_515_000), 0.536515);
    }
}
