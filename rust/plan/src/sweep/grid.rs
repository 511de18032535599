//! Points as numbers: the digits of a number in mixed radix, the last axis changing fastest.

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

    /// Which value of an axis each of some points has, appended in order; points that ascend are quick.
    pub fn digits(&self, points: &[u64], axis: usize, mut see: impl FnMut(usize)) {
        let stride = self.strides[axis];
        let (mut from, mut to, mut digit) = (0, 0, 0);
        for &point in points {
            if point < from || point >= to {
                digit = self.digit(point, axis);
                from = point / stride * stride;
                to = from + stride;
            }
            see(digit);
        }
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
        fn digits_of_many_points_are_those_of_each(points in prop::collection::vec(0u64..60, 0..40)) {
            let grid = Grid::new(vec![3, 4, 5]).unwrap();
            for axis in 0..3 {
                let mut seen = Vec::new();
                grid.digits(&points, axis, |digit| seen.push(digit));
                let expected: Vec<usize> = points.iter().map(|point| grid.digit(*point, axis)).collect();
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
