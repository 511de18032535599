//! Points as runs of neighbours: of millions that are kept, few stand alone.

use std::ops::Range;

/// Ascending points, neighbours together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Runs {
    runs: Vec<Range<u64>>,
    points: usize,
}

impl Runs {
    /// Appends points behind all others.
    pub fn push(&mut self, run: Range<u64>) {
        if run.is_empty() {
            return;
        }
        self.points += (run.end - run.start) as usize;
        match self.runs.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => self.runs.push(run),
        }
    }

    /// Appends those of another, which come behind.
    pub fn append(&mut self, other: Runs) {
        other.runs.into_iter().for_each(|run| self.push(run));
    }

    /// How many points there are.
    pub fn len(&self) -> usize {
        self.points
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.points == 0
    }

    /// The runs, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.runs.iter()
    }

    /// Every point, in order.
    pub fn points(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().flat_map(Clone::clone)
    }
}

impl FromIterator<u64> for Runs {
    fn from_iter<I: IntoIterator<Item = u64>>(points: I) -> Runs {
        let mut runs = Runs::default();
        points.into_iter().for_each(|point| runs.push(point..point + 1));
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_hold_their_points(points in prop::collection::btree_set(0u64..99, 0..60), cut in 0usize..60) {
            let points: Vec<u64> = points.into_iter().collect();
            let cut = cut.min(points.len());
            let mut runs: Runs = points[..cut].iter().copied().collect();
            runs.append(points[cut..].iter().copied().collect());
            prop_assert_eq!(runs.points().collect::<Vec<_>>(), points.clone());
            prop_assert_eq!((runs.len(), runs.is_empty()), (points.len(), points.is_empty()));
            let neighbours = points.windows(2).filter(|pair| pair[0] + 1 == pair[1]).count();
            prop_assert_eq!(runs.iter().count(), points.len() - neighbours);
        }
    }
}
