//! Robust least squares of bounded numbers: Levenberg–Marquardt on log ratios, ridge to a prior, several starts.
//!
//! A number between `least` and `most` is searched as its logit, which is close to its logarithm near a lower bound of zero
//! and keeps every step inside. Everything is sequential over rows, so that the same rows give the same numbers.

/// A log ratio beyond which an error no longer counts by its square.
const SOFT: f64 = 0.1;
/// Step of the numeric derivative, in logits.
const STEP: f64 = 1e-4;
/// How far logits may go: bounds are approached to a millionth.
const FARTHEST: f64 = 14.0;
const ROUNDS: usize = 60;

/// A range a number must stay in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Least.
    pub least: f64,
    /// Most.
    pub most: f64,
}

impl Bounds {
    /// Where a value lies in its range, as a logit.
    pub fn logit(&self, value: f64) -> f64 {
        let share = ((value - self.least) / (self.most - self.least)).clamp(1e-6, 1.0 - 1e-6);
        (share / (1.0 - share)).ln()
    }

    /// The value of a logit.
    pub fn value(&self, logit: f64) -> f64 {
        self.least + (self.most - self.least) / (1.0 + (-logit).exp())
    }
}

/// What a number is drawn to, and how strongly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pull {
    /// The number's place.
    pub place: usize,
    /// Where it is drawn to.
    pub centre: f64,
    /// How many measurements that is worth.
    pub weight: f64,
}

/// What an error counts.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Loss {
    /// Its size, where it is large (soft-L1): finds the way from anywhere.
    Size,
    /// Its logarithm, where it is large (Cauchy): of kernels that take either of two times, by how they were tuned, the
    /// more frequent one is found, and not what lies between them.
    Logarithm,
}

impl Loss {
    /// The loss of a log ratio.
    fn of(self, residual: f64) -> f64 {
        let square = (residual / SOFT) * (residual / SOFT);
        SOFT * SOFT
            * match self {
                Loss::Size => 2.0 * ((1.0 + square).sqrt() - 1.0),
                Loss::Logarithm => square.ln_1p(),
            }
    }

    /// Its weight in the linearised problem.
    fn weight(self, residual: f64) -> f64 {
        let square = (residual / SOFT) * (residual / SOFT);
        match self {
            Loss::Size => 1.0 / (1.0 + square).sqrt(),
            Loss::Logarithm => 1.0 / (1.0 + square),
        }
    }
}

/// Numbers found.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// The numbers, each in its bounds.
    pub values: Vec<f64>,
    /// What is left of the loss.
    pub loss: f64,
}

/// A search: `residuals` writes log(predicted / measured) of every row for given numbers.
pub struct Search<'a, R: Fn(&[f64], &mut [f64])> {
    /// Rows.
    pub rows: usize,
    /// Weight of each row.
    pub weights: &'a [f64],
    /// Range of each number; one of no width stays as it is.
    pub bounds: &'a [Bounds],
    /// Log ratios of given numbers.
    pub residuals: R,
    /// What numbers are drawn to.
    pub pulls: Vec<Pull>,
}

impl<R: Fn(&[f64], &mut [f64])> Search<'_, R> {
    /// The best of the local solutions found from `starts`, by the size of errors and from there by their logarithm.
    pub fn best(&self, starts: &[Vec<f64>]) -> Option<Solution> {
        let solutions = starts.iter().map(|start| self.from(start, Loss::Size));
        let near = solutions.filter(|one| one.loss.is_finite()).min_by(|a, b| a.loss.total_cmp(&b.loss))?;
        Some(self.from(&near.values, Loss::Logarithm)).filter(|one| one.loss.is_finite())
    }

    fn values(&self, logits: &[f64]) -> Vec<f64> {
        self.bounds
            .iter()
            .zip(logits)
            .map(
                |(bounds, logit)| {
                    if bounds.most > bounds.least { bounds.value(*logit) } else { bounds.least }
                },
            )
            .collect()
    }

    fn loss(&self, loss: Loss, logits: &[f64], out: &mut [f64]) -> f64 {
        (self.residuals)(&self.values(logits), out);
        let rows: f64 = out.iter().zip(self.weights).map(|(r, weight)| weight * loss.of(*r)).sum();
        rows + self.pull(logits).map(|(_, distance, strength)| strength * distance * distance).sum::<f64>()
    }

    /// For each pull: its place, the distance in logits and the strength.
    fn pull(&self, logits: &[f64]) -> impl Iterator<Item = (usize, f64, f64)> {
        self.pulls.iter().filter(|pull| self.bounds[pull.place].most > self.bounds[pull.place].least).map(
            |pull| {
                let centre = self.bounds[pull.place].logit(pull.centre);
                (pull.place, logits[pull.place] - centre, pull.weight * SOFT * SOFT)
            },
        )
    }

    fn from(&self, start: &[f64], kind: Loss) -> Solution {
        let count = self.bounds.len();
        let mut logits: Vec<f64> = self
            .bounds
            .iter()
            .zip(start)
            .map(|(b, v)| if b.most > b.least { b.logit(*v) } else { 0.0 })
            .collect();
        let mut residuals = vec![0.0; self.rows];
        let mut moved = vec![0.0; self.rows];
        let mut slopes = vec![vec![0.0; self.rows]; count];
        let mut loss = self.loss(kind, &logits, &mut residuals);
        let mut damping = 1e-2;
        for _ in 0..ROUNDS {
            for (place, slope) in slopes.iter_mut().enumerate() {
                let mut nearby = logits.clone();
                nearby[place] += STEP;
                (self.residuals)(&self.values(&nearby), slope);
                slope.iter_mut().zip(&residuals).for_each(|(s, r)| *s = (*s - r) / STEP);
            }
            let equations = self.normal_equations(kind, &slopes, &residuals, &logits);
            let lower = |logits: &[f64], moved: &mut [f64]| {
                let lower = self.loss(kind, logits, moved);
                (lower < loss).then_some(lower)
            };
            let Some((next, lower)) = self.step(&logits, &equations, lower, &mut damping, &mut moved) else {
                break;
            };
            let gain = loss - lower;
            (logits, loss) = (next, lower);
            std::mem::swap(&mut residuals, &mut moved);
            if gain < 1e-6 * loss {
                break;
            }
        }
        Solution { values: self.values(&logits), loss }
    }

    /// A step that lowers the loss, damped until one does.
    fn step(
        &self,
        logits: &[f64],
        (matrix, gradient): &(Vec<Vec<f64>>, Vec<f64>),
        lower: impl Fn(&[f64], &mut [f64]) -> Option<f64>,
        damping: &mut f64,
        moved: &mut [f64],
    ) -> Option<(Vec<f64>, f64)> {
        for _ in 0..8 {
            let mut damped = matrix.clone();
            for (place, row) in damped.iter_mut().enumerate() {
                row[place] += *damping * row[place] + 1e-9 * self.rows as f64;
            }
            let step = solve(damped, gradient.clone())?;
            let next: Vec<f64> = logits
                .iter()
                .zip(&step)
                .map(|(logit, step)| (logit - step.clamp(-3.0, 3.0)).clamp(-FARTHEST, FARTHEST))
                .collect();
            if let Some(lower) = lower(&next, moved) {
                *damping = f64::max(*damping / 5.0, 1e-7);
                return Some((next, lower));
            }
            *damping *= 4.0;
        }
        None
    }

    fn normal_equations(
        &self,
        loss: Loss,
        slopes: &[Vec<f64>],
        residuals: &[f64],
        logits: &[f64],
    ) -> (Vec<Vec<f64>>, Vec<f64>) {
        let count = slopes.len();
        let weights: Vec<f64> =
            residuals.iter().zip(self.weights).map(|(r, w)| w * loss.weight(*r)).collect();
        let mut matrix = vec![vec![0.0; count]; count];
        let mut gradient = vec![0.0; count];
        for a in 0..count {
            for b in a..count {
                let sum: f64 =
                    weights.iter().zip(&slopes[a]).zip(&slopes[b]).map(|((w, x), y)| w * x * y).sum();
                matrix[a][b] = sum;
                matrix[b][a] = sum;
            }
            gradient[a] = weights.iter().zip(&slopes[a]).zip(residuals).map(|((w, x), r)| w * x * r).sum();
        }
        for (place, distance, strength) in self.pull(logits) {
            matrix[place][place] += strength;
            gradient[place] += strength * distance;
        }
        (matrix, gradient)
    }
}

/// The solution of a small linear system; `None` where there is none.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let count = right.len();
    for column in 0..count {
        let pivot =
            (column..count).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        if !(matrix[pivot][column].abs() > 0.0 && matrix[pivot][column].is_finite()) {
            return None;
        }
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        for row in column + 1..count {
            let factor = matrix[row][column] / matrix[column][column];
            let (above, below) = matrix.split_at_mut(row);
            for (value, known) in below[0][column..].iter_mut().zip(&above[column][column..]) {
                *value -= factor * known;
            }
            right[row] -= factor * right[column];
        }
    }
    for row in (0..count).rev() {
        let known: f64 = (row + 1..count).map(|place| matrix[row][place] * right[place]).sum();
        right[row] = (right[row] - known) / matrix[row][row];
    }
    Some(right)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of `a + b·x` with one outlier, fitted as log ratios.
    fn line(pulls: Vec<Pull>, rows: usize) -> Vec<f64> {
        let xs: Vec<f64> = (0..rows).map(|x| 1.0 + x as f64).collect();
        let ys: Vec<f64> = xs.iter().map(|x| if *x == 7.0 { 900.0 } else { 3.0 + 0.5 * x }).collect();
        let residuals = |values: &[f64], out: &mut [f64]| {
            for ((out, x), y) in out.iter_mut().zip(&xs).zip(&ys) {
                *out = ((values[0] + values[1] * x) / y).ln();
            }
        };
        let bounds = [Bounds { least: 0.0, most: 100.0 }, Bounds { least: 0.0, most: 10.0 }];
        let weights = vec![1.0; rows];
        let search = Search { rows, weights: &weights, bounds: &bounds, residuals, pulls };
        search.best(&[vec![1.0, 1.0], vec![50.0, 5.0]]).unwrap().values
    }

    #[test]
    fn a_line_is_found_in_spite_of_an_outlier() {
        let found = line(Vec::new(), 60);
        assert!((found[0] - 3.0).abs() < 0.1 && (found[1] - 0.5).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn of_two_times_the_more_frequent_one_is_found() {
        let seconds: Vec<f64> = (0..50).map(|row| if row % 5 < 3 { 1.0 } else { 1.8 }).collect();
        let residuals = |values: &[f64], out: &mut [f64]| {
            out.iter_mut().zip(&seconds).for_each(|(out, seconds)| *out = (values[0] / seconds).ln());
        };
        let bounds = [Bounds { least: 0.0, most: 10.0 }];
        let weights = vec![1.0; seconds.len()];
        let search =
            Search { rows: seconds.len(), weights: &weights, bounds: &bounds, residuals, pulls: Vec::new() };
        let found = search.best(&[vec![1.4]]).unwrap().values[0];
        assert!((found - 1.0).abs() < 0.02, "{found}");
    }

    #[test]
    fn a_strong_prior_wins_over_few_rows_and_a_weak_one_does_not() {
        let ridge =
            |weight| vec![Pull { place: 0, centre: 30.0, weight }, Pull { place: 1, centre: 5.0, weight }];
        assert!(line(ridge(1e6), 3)[0] > 25.0);
        assert!((line(ridge(1e-3), 60)[0] - 3.0).abs() < 0.2);
    }

    #[test]
    fn logits_come_back() {
        let bounds = Bounds { least: 0.5, most: 4.0 };
        for value in [0.6, 1.0, 3.9] {
            assert!((bounds.value(bounds.logit(value)) - value).abs() < 1e-12);
        }
    }
}
