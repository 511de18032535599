//! Percentiles of more values than are worth sorting, within a known error and mergeable.

use sketches_ddsketch::{Config, DDSketch};

/// Largest relative error of a percentile from a sketch.
pub const RELATIVE_ERROR: f64 = 0.001;

/// Values below are counted as none: a nanosecond, were they seconds.
const SMALLEST: f64 = 1e-9;

/// Bins enough for 1e-9 to 1e9 at that error: ln(1e18)/ln(gamma) is 20,723.
const MOST_BINS: u32 = 21_000;

/// Units that sums are counted in: whole numbers add up alike in any order.
const UNITS: f64 = 18_446_744_073_709_551_616.0;

/// Counts of values by size (DDSketch, Masson et al., VLDB 2019): 0 and positive values, each with its count.
#[derive(Clone)]
pub struct Sketch {
    bins: DDSketch,
    /// Sums of the values and of their squares, in units of 2⁻⁶⁴.
    sum: i128,
    squares: i128,
}

impl Default for Sketch {
    fn default() -> Sketch {
        Sketch { bins: DDSketch::new(Config::new(RELATIVE_ERROR, MOST_BINS, SMALLEST)), sum: 0, squares: 0 }
    }
}

impl PartialEq for Sketch {
    /// Sketches are equal that no question can tell apart.
    fn eq(&self, other: &Sketch) -> bool {
        let ranks = || (0..=1000).map(|rank| f64::from(rank) / 10.0);
        (self.count(), self.sum, self.squares, self.max())
            == (other.count(), other.sum, other.squares, other.max())
            && ranks().all(|rank| self.percentile(rank) == other.percentile(rank))
    }
}

/// So many units, rounded down; up to half of one the conversion is one instruction instead of a call.
#[inline]
fn units(value: f64) -> i128 {
    let units = value * UNITS;
    if units < i64::MAX as f64 { i128::from(units as i64) } else { units as i128 }
}

impl std::fmt::Debug for Sketch {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Sketch of {} values", self.count())
    }
}

impl Sketch {
    /// Adds a value so many times.
    pub fn add(&mut self, value: f64, count: u64) {
        self.bins.add_with_count(value, count);
        let count = i128::from(count);
        self.sum = self.sum.saturating_add(units(value).saturating_mul(count));
        self.squares = self.squares.saturating_add(units(value * value).saturating_mul(count));
    }

    /// Adds all values of another sketch.
    pub fn merge(&mut self, other: &Sketch) {
        // All sketches have the same bins: merging cannot fail.
        if self.bins.merge(&other.bins).is_ok() {
            self.sum = self.sum.saturating_add(other.sum);
            self.squares = self.squares.saturating_add(other.squares);
        }
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        self.bins.count() as u64
    }

    /// The mean, exact but for rounding and the same in whatever order values came; `None` without values.
    pub fn mean(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.sum as f64 / UNITS / self.count() as f64)
    }

    /// The standard deviation, exact but for rounding; `None` without values.
    pub fn deviation(&self) -> Option<f64> {
        let mean = self.mean()?;
        let squares = self.squares as f64 / UNITS / self.count() as f64;
        Some((squares - mean * mean).max(0.0).sqrt())
    }

    /// The largest value, exact; `None` without values.
    pub fn max(&self) -> Option<f64> {
        self.bins.max()
    }

    /// A value within [`RELATIVE_ERROR`] of the one at rank ⌊percent/100 · (count − 1)⌋; `None` without values.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        self.bins.quantile((percent / 100.0).clamp(0.0, 1.0)).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_values_nothing_is_known() {
        let none = Sketch::default();
        assert_eq!((none.count(), none.mean(), none.deviation()), (0, None, None));
        assert_eq!((none.max(), none.percentile(50.0)), (None, None));
    }

    proptest! {
        #[test]
        fn percentiles_lie_within_the_stated_error(
            mut values in prop::collection::vec((-8.0..8.0f64).prop_map(|power| 10f64.powf(power)), 1..300),
            percent in 0.0..=100.0f64,
        ) {
            let mut sketch = Sketch::default();
            values.iter().for_each(|&value| sketch.add(value, 1));
            values.sort_unstable_by(f64::total_cmp);
            let exact = values[(percent / 100.0 * (values.len() - 1) as f64) as usize];
            let found = sketch.percentile(percent).unwrap();
            prop_assert!((found / exact - 1.0).abs() <= RELATIVE_ERROR * (1.0 + 1e-9), "{found} {exact}");
            prop_assert_eq!(sketch.max(), values.last().copied());
        }

        #[test]
        fn merging_is_adding(
            values in prop::collection::vec((0.0..1e4f64, 1u64..5), 2..100), cut in 0usize..100,
        ) {
            let of = |part: &[(f64, u64)]| {
                let mut sketch = Sketch::default();
                part.iter().for_each(|&(value, count)| sketch.add(value, count));
                sketch
            };
            let (left, right) = values.split_at(cut.min(values.len()));
            let (whole, mut merged) = (of(&values), of(left));
            merged.merge(&of(right));
            prop_assert_eq!((whole.count(), whole.max()), (merged.count(), merged.max()));
            for percent in [0.0, 10.0, 50.0, 99.0, 100.0] {
                prop_assert_eq!(whole.percentile(percent), merged.percentile(percent));
            }
            let (a, b) = (whole.deviation().unwrap(), merged.deviation().unwrap());
            prop_assert!((a - b).abs() <= 1e-6 * a.max(1.0));
        }
    }
}
