//! Simulated time: an exact fixed-point clock, with a floating-point twin for comparison with recorded schedules.
//!
//! Instants are compared for equality all the time (has this request arrived when that step ends?), so time must add
//! without rounding: two ways to the same instant have to meet. [`FixedClock`] counts units of 2⁻⁸⁸ s in 128 bits;
//! [`F64Clock`] adds `f64` seconds in the order of the steps, as the schedules recorded from real engines do.

use std::fmt::Debug;

use roofline_core::fixed::nanos_in_ticks;
pub use roofline_core::fixed::{Period, Ticks, tick_seconds, ticks_in, whole_nanos};

/// How instants are represented and added.
pub trait Clock: 'static {
    /// A point in simulated time.
    type Instant: Copy + PartialEq + PartialOrd + Default + Debug + Send + Sync;

    /// The instant that many nanoseconds after the beginning.
    fn at_nanos(nanos: u64) -> Self::Instant;

    /// The instant that many seconds (finite, not negative) after the beginning.
    fn at_seconds(seconds: f64) -> Self::Instant {
        Self::after(Self::Instant::default(), Period::of_seconds(seconds))
    }

    /// The instant a period after `from`.
    fn after(from: Self::Instant, period: Period) -> Self::Instant;

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

    /// The instant of so many exact units; `None` where instants are not exact, and times do not simply add.
    fn exactly(ticks: Ticks) -> Option<Self::Instant>;

    /// The later of two instants.
    fn later(a: Self::Instant, b: Self::Instant) -> Self::Instant {
        if a < b { b } else { a }
    }
}

/// Exact time in units of 2⁻⁸⁸ s; the default.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock;

impl Clock for FixedClock {
    type Instant = Ticks;

    fn at_nanos(nanos: u64) -> Ticks {
        nanos_in_ticks(nanos)
    }

    #[inline]
    fn after(from: Ticks, period: Period) -> Ticks {
        from.saturating_add(period.ticks)
    }

    fn after_nanos(from: Ticks, nanos: u64) -> Ticks {
        from.saturating_add(nanos_in_ticks(nanos))
    }

    #[inline]
    fn seconds_between(from: Ticks, to: Ticks) -> f64 {
        tick_seconds(to - from)
    }

    fn ticks(instant: Ticks) -> Ticks {
        instant
    }

    fn exactly(ticks: Ticks) -> Option<Ticks> {
        Some(ticks)
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

    fn after(from: f64, period: Period) -> f64 {
        from + period.seconds
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

    fn exactly(_: Ticks) -> Option<f64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_time_adds_without_rounding() {
        let step = Period::of_seconds(0.1 + 1e-9);
        let start = FixedClock::at_nanos(123_456_789);
        let stepped = (0..1000).fold(start, |now, _| FixedClock::after(now, step));
        let once = FixedClock::after(start, step) - start;
        assert_eq!(stepped - start, 1000 * once);
    }

    #[test]
    fn both_clocks_agree_to_a_nanosecond_over_a_week() {
        let (week, quarter) = (7 * 24 * 3600 * 1_000_000_000, Period::of_seconds(0.25));
        let fixed = FixedClock::seconds(FixedClock::after(FixedClock::at_nanos(week), quarter));
        let float = F64Clock::seconds(F64Clock::after(F64Clock::at_nanos(week), quarter));
        assert!((fixed - float).abs() < 1e-9);
    }

    #[test]
    fn a_decimal_arrival_is_the_nearest_float() {
        assert_eq!(F64Clock::at_nanos(536_515_000), 0.536515);
    }
}
