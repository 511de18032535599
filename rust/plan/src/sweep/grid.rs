//! Points as numbers: the digits of a number in mixed radix, the last axis changing fastest.

use std::ops::Range;

/// A grid of points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    lengths: Vec<u64>,
    /// Points between two values of an axis.
    strides: Vec<u64>,
    points: u64,
}

impl Grid {
    /// The grid of axes of these lengths; `None` if it has 2^63 points or more.
    pub fn new(lengths: Vec<u64>) -> Option<Grid> {
        let mut strides = vec![1; lengths.len()];
        let mut points: u64 = 1;
        for (stride, length) in strides.iter_mut().zip(&lengths).rev() {
            *stride = points;
            points = points.checked_mul(*length).filter(|points| *points < 1 << 63)?;
        }
        Some(Grid { lengths, strides, points })
    }

    /// How many points there are.
    pub fn points(&self) -> u64 {
        self.points
    }

    /// Points between two values of an axis.
    pub fn stride(&self, axis: usize) -> u64 {
        self.strides[axis]
    }

    /// Which value of an axis a point has.
    pub fn digit(&self, point: u64, axis: usize) -> usize {
        (point / self.strides[axis] % self.lengths[axis]) as usize
    }

    /// Which values of an axis a run of neighbours has: each stretch of points that share one, or, on the axis that changes
    /// fastest, each stretch of values that follow one another.
    pub fn stretches(&self, run: &Range<u64>, axis: usize, mut see: impl FnMut(Stretch)) {
        let (stride, length) = (self.strides[axis], self.lengths[axis]);
        let mut point = run.start;
        while point < run.end {
            let digit = point / stride % length;
            let whole = if stride == 1 { length - digit } else { stride - point % stride };
            let rows = if length == 1 { run.end - point } else { whole.min(run.end - point) };
            let ascending = stride == 1 && length > 1;
            see(Stretch { digit: digit as usize, rows: rows as usize, ascending });
            point += rows;
        }
    }
}

/// Neighbours with one value of an axis, or with values that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The value of the first, by place.
    pub digit: usize,
    /// How many there are.
    pub rows: usize,
    /// Whether each has the value behind that of the one before.
    pub ascending: bool,
}

/// The parts of `from..to`, cut at multiples of `each`.
pub(super) struct Ranges {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) each: u64,
}

impl Iterator for Ranges {
    type Item = (u64, u64);
    fn next(&mut self) -> Option<(u64, u64)> {
        let start = self.from;
        self.from = (start / self.each + 1).saturating_mul(self.each).min(self.to);
        (start < self.to).then_some((start, self.from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn digits_count_like_an_odometer(lengths in prop::collection::vec(1u64..6, 1..6)) {
            let grid = Grid::new(lengths.clone()).unwrap();
            let mut odometer = vec![0; lengths.len()];
            for point in 0..grid.points() {
                let digits: Vec<u64> = (0..lengths.len()).map(|axis| grid.digit(point, axis) as u64).collect();
                prop_assert_eq!(&digits, &odometer);
                for (digit, length) in odometer.iter_mut().zip(&lengths).rev() {
                    *digit = (*digit + 1) % length;
                    if *digit > 0 {
                        break;
                    }
                }
            }
            prop_assert!(odometer.iter().all(|digit| *digit == 0));
        }

        #[test]
        fn stretches_of_a_run_are_the_digits_of_its_points(
            lengths in prop::collection::vec(1u64..5, 3), from in 0u64..125, more in 0u64..125,
        ) {
            let grid = Grid::new(lengths).unwrap();
            let to = (from + more).min(grid.points());
            let run = from.min(to)..to;
            for axis in 0..3 {
                let mut seen = Vec::new();
                grid.stretches(&run, axis, |Stretch { digit, rows, ascending }| {
                    seen.extend((0..rows).map(|row| digit + if ascending { row } else { 0 }));
                });
                let expected: Vec<usize> = run.clone().map(|point| grid.digit(point, axis)).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn a_grid_too_large_to_number_is_none() {
        assert_eq!(Grid::new(vec![1 << 40, 1 << 23]), None);
        assert_eq!(Grid::new(vec![1 << 40, 1 << 22]).map(|grid| grid.points()), Some(1 << 62));
    }
}
