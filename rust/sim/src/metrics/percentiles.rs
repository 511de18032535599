//! Means and percentiles of values that come many times each: exact up to a number of values, sketched beyond.

use super::sketch::Sketch;

/// Most different entries that percentiles are exact for.
pub const MOST_EXACT: usize = 4_000_000;

/// Values, each with its count.
#[derive(Debug, Clone)]
pub enum Distribution {
    /// All of them.
    Exact(Sorted),
    /// Too many to be kept: percentiles within [`super::sketch::RELATIVE_ERROR`].
    Sketched(Sketch),
}

/// Values in order, each with its count.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sorted {
    /// Values from small to large, with the number of values up to and including them.
    cumulative: Vec<(f64, u64)>,
    mean: f64,
    deviation: f64,
}

impl Default for Distribution {
    fn default() -> Distribution {
        Distribution::Exact(Sorted::default())
    }
}

/// Values as they come, kept as long as they are few: what becomes of them does not depend on their order.
#[derive(Debug, Clone)]
pub struct Gathered {
    most: usize,
    kept: Vec<(f64, u64)>,
    sketch: Option<Box<Sketch>>,
}

impl Default for Gathered {
    fn default() -> Gathered {
        Gathered::within(MOST_EXACT)
    }
}

impl PartialEq for Gathered {
    fn eq(&self, other: &Gathered) -> bool {
        match (self.distribution(), other.distribution()) {
            (Distribution::Exact(mine), Distribution::Exact(theirs)) => mine == theirs,
            (Distribution::Sketched(mine), Distribution::Sketched(theirs)) => mine == theirs,
            _ => false,
        }
    }
}

impl Gathered {
    /// No values yet; up to `most` entries are kept.
    pub fn within(most: usize) -> Gathered {
        Gathered { most, kept: Vec::new(), sketch: None }
    }

    /// A value came so many times.
    #[inline]
    pub fn add(&mut self, value: f64, count: u64) {
        if count == 0 {
            return;
        }
        match &mut self.sketch {
            Some(sketch) => sketch.add(value, count),
            None if self.kept.len() < self.most => self.kept.push((value, count)),
            None => self.sketched().add(value, count),
        }
    }

    /// Adds what was gathered elsewhere.
    pub fn append(&mut self, other: Gathered) {
        match other.sketch {
            Some(theirs) => self.sketched().merge(&theirs),
            None if self.sketch.is_none() && self.kept.len() + other.kept.len() <= self.most => {
                self.kept.extend(other.kept);
            }
            None => {
                let sketch = self.sketched();
                other.kept.into_iter().for_each(|(value, count)| sketch.add(value, count));
            }
        }
    }

    /// The sketch, to which all that was kept goes.
    fn sketched(&mut self) -> &mut Sketch {
        let kept = std::mem::take(&mut self.kept);
        let sketch = self.sketch.get_or_insert_default();
        kept.into_iter().for_each(|(value, count)| sketch.add(value, count));
        sketch
    }

    /// What is known of them.
    pub fn distribution(&self) -> Distribution {
        match &self.sketch {
            Some(sketch) => Distribution::Sketched(Sketch::clone(sketch)),
            None => Distribution::Exact(Sorted::of(self.kept.clone())),
        }
    }
}

impl Distribution {
    /// The distribution of values with counts; values must be numbers, not NaN.
    pub fn of(values: impl IntoIterator<Item = (f64, u64)>) -> Distribution {
        Distribution::within(MOST_EXACT, values)
    }

    /// The same, exact up to `most` entries.
    pub fn within(most: usize, values: impl IntoIterator<Item = (f64, u64)>) -> Distribution {
        let mut gathered = Gathered::within(most);
        values.into_iter().for_each(|(value, count)| gathered.add(value, count));
        gathered.distribution()
    }

    /// Whether its percentiles are exact.
    pub fn is_exact(&self) -> bool {
        matches!(self, Distribution::Exact(_))
    }

    /// How many values.
    pub fn count(&self) -> u64 {
        match self {
            Distribution::Exact(sorted) => sorted.count(),
            Distribution::Sketched(sketch) => sketch.count(),
        }
    }

    /// The mean, `None` without values.
    pub fn mean(&self) -> Option<f64> {
        match self {
            Distribution::Exact(sorted) => (sorted.count() > 0).then_some(sorted.mean),
            Distribution::Sketched(sketch) => sketch.mean(),
        }
    }

    /// The standard deviation of the values themselves (numpy's default), `None` without values.
    pub fn deviation(&self) -> Option<f64> {
        match self {
            Distribution::Exact(sorted) => (sorted.count() > 0).then_some(sorted.deviation),
            Distribution::Sketched(sketch) => sketch.deviation(),
        }
    }

    /// The largest value, `None` without values.
    pub fn max(&self) -> Option<f64> {
        match self {
            Distribution::Exact(sorted) => sorted.cumulative.last().map(|&(value, _)| value),
            Distribution::Sketched(sketch) => sketch.max(),
        }
    }

    /// The value below which `percent` of the values lie, interpolated linearly between neighbours as numpy does;
    /// `None` without values.
    ///
    /// ```
    /// use roofline_sim::metrics::percentiles::Distribution;
    /// let gaps = Distribution::of([(20.0, 1), (10.0, 3)]);
    /// assert_eq!(gaps.percentile(50.0), Some(10.0));
    /// assert_eq!(gaps.percentile(90.0), Some(17.0));
    /// ```
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        match self {
            Distribution::Exact(sorted) => sorted.percentile(percent),
            Distribution::Sketched(sketch) => sketch.percentile(percent),
        }
    }
}

impl Sorted {
    fn of(mut cumulative: Vec<(f64, u64)>) -> Sorted {
        cumulative.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        // Each value once: the same values are the same sums to the bit, whichever were noted together.
        cumulative.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 += if same { next.1 } else { 0 };
            same
        });
        let count: u64 = cumulative.iter().map(|&(_, count)| count).sum();
        let over = |f: &dyn Fn(f64) -> f64| {
            let sum: f64 = cumulative.iter().map(|&(value, count)| f(value) * count as f64).sum();
            sum / count.max(1) as f64
        };
        let mean = over(&|value| value);
        let deviation = over(&|value| (value - mean).powi(2)).sqrt();
        let mut below = 0;
        for (_, count) in &mut cumulative {
            below += *count;
            *count = below;
        }
        Sorted { cumulative, mean, deviation }
    }

    fn count(&self) -> u64 {
        self.cumulative.last().map_or(0, |&(_, count)| count)
    }

    fn percentile(&self, percent: f64) -> Option<f64> {
        let last = self.count().checked_sub(1)?;
        let rank = last as f64 * (percent / 100.0).clamp(0.0, 1.0);
        let below = rank.floor();
        let share = rank - below;
        let (low, high) = (self.at(below as u64), self.at((below as u64 + 1).min(last)));
        let step = high - low;
        Some(if share >= 0.5 { high - step * (1.0 - share) } else { low + step * share })
    }

    /// The value at a place in the sorted list, counted from 0.
    fn at(&self, place: u64) -> f64 {
        let index = self.cumulative.partition_point(|&(_, count)| count <= place);
        self.cumulative[index].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_those_of_numpy() {
        // numpy.percentile([3, 1, 2, 10], [0, 25, 50, 90, 99, 100])
        let values = Distribution::of([3.0, 1.0, 2.0, 10.0].map(|value| (value, 1)));
        for (percent, expected) in
            [(0.0, 1.0), (25.0, 1.75), (50.0, 2.5), (90.0, 7.9), (99.0, 9.79), (100.0, 10.0)]
        {
            let found = values.percentile(percent).unwrap();
            assert!((found - expected).abs() < 1e-12, "{percent}: {found}");
        }
        // numpy.std([3, 1, 2, 10])
        assert!((values.deviation().unwrap() - 3.5355339059327378).abs() < 1e-12);
        assert_eq!((values.mean(), values.max()), (Some(4.0), Some(10.0)));
    }

    #[test]
    fn without_values_nothing_is_known() {
        let none = Distribution::of([(1.0, 0)]);
        assert_eq!((none.count(), none.mean(), none.deviation()), (0, None, None));
        assert_eq!((none.max(), none.percentile(50.0)), (None, None));
    }

    #[test]
    fn beyond_the_limit_percentiles_are_sketched_within_their_error() {
        let values = (1..=1000).map(|value| (f64::from(value), 1));
        let (exact, sketched) =
            (Distribution::within(1000, values.clone()), Distribution::within(999, values));
        assert!(exact.is_exact() && !sketched.is_exact());
        assert_eq!((exact.count(), exact.max()), (sketched.count(), sketched.max()));
        assert!((exact.mean().unwrap() - sketched.mean().unwrap()).abs() < 1e-9);
        assert!((exact.deviation().unwrap() - sketched.deviation().unwrap()).abs() < 1e-6);
        for percent in [1.0, 50.0, 99.0] {
            let (known, found) = (exact.percentile(percent).unwrap(), sketched.percentile(percent).unwrap());
            // And up to one place in the order, as the sketch does not interpolate.
            assert!((found - known).abs() <= 0.001 * known + 1.0, "{percent}: {found} {known}");
        }
    }

    proptest! {
        #[test]
        fn a_count_is_worth_as_many_single_values(
            values in prop::collection::vec((0u8..20, 1u64..5), 1..20), unit in 0.01..1.0f64,
            percent in 0.0..100.0f64,
        ) {
            let values: Vec<(f64, u64)> = values.iter().map(|&(value, count)| (f64::from(value) * unit, count)).collect();
            let single = values.iter().flat_map(|&(value, count)| (0..count).map(move |_| (value, 1)));
            let (single, together) = (Distribution::of(single), Distribution::of(values));
            prop_assert_eq!(single.percentile(percent), together.percentile(percent));
            prop_assert_eq!((single.mean(), single.deviation()), (together.mean(), together.deviation()));
        }
    }
}
