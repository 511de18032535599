//! How far predictions are off: the figures every table of errors shows.

/// Predicted over measured, with whether the band held the measurement; one a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Predicted over measured.
    pub ratio: f64,
    /// Whether the measurement lies between low and high; `None` where there is no band.
    pub inside: Option<bool>,
}

/// Errors over some rows, percent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    /// Rows.
    pub n: u64,
    /// Median of |predicted / measured − 1|.
    pub median_ape: f64,
    /// Mean of it.
    pub mape: f64,
    /// Its 90th percentile.
    pub p90_ape: f64,
    /// Median of predicted / measured − 1.
    pub bias: f64,
    /// Share of rows whose measurement lies in the 80 % band; NaN where no row has one.
    pub coverage: f64,
}

impl Errors {
    /// Of these rows; `None` where there are none.
    pub fn of(rows: &[Outcome]) -> Option<Errors> {
        if rows.is_empty() {
            return None;
        }
        let mut signed: Vec<f64> = rows.iter().map(|row| 100.0 * (row.ratio - 1.0)).collect();
        let mut absolute: Vec<f64> = signed.iter().map(|error| error.abs()).collect();
        let mape = absolute.iter().sum::<f64>() / rows.len() as f64;
        signed.sort_by(f64::total_cmp);
        absolute.sort_by(f64::total_cmp);
        let banded = rows.iter().filter(|row| row.inside.is_some()).count();
        let inside = rows.iter().filter(|row| row.inside == Some(true)).count();
        Some(Errors {
            n: rows.len() as u64,
            median_ape: quantile(&absolute, 0.5),
            mape,
            p90_ape: quantile(&absolute, 0.9),
            bias: quantile(&signed, 0.5),
            coverage: if banded == 0 { f64::NAN } else { 100.0 * inside as f64 / banded as f64 },
        })
    }
}

/// The quantile of a sorted list, between neighbours by their distance; NaN of an empty one.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len().saturating_sub(1)) as f64;
    let below = place.floor() as usize;
    match (sorted.get(below), sorted.get(below + 1)) {
        (Some(low), Some(high)) => low + (place - below as f64) * (high - low),
        (Some(last), None) => *last,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_percentages_of_the_measured_time() {
        let outcome = |ratio, inside| Outcome { ratio, inside: Some(inside) };
        let rows = [outcome(0.9, true), outcome(1.0, true), outcome(1.3, false)];
        let errors = Errors::of(&rows).unwrap();
        assert!((errors.median_ape - 10.0).abs() < 1e-9 && (errors.bias - 0.0).abs() < 1e-9);
        assert!((errors.mape - 40.0 / 3.0).abs() < 1e-9 && (errors.p90_ape - 26.0).abs() < 1e-9);
        assert!((errors.coverage - 200.0 / 3.0).abs() < 1e-9);
        assert_eq!(Errors::of(&[]), None);
        assert!(Errors::of(&[Outcome { ratio: 1.0, inside: None }]).unwrap().coverage.is_nan());
    }

    #[test]
    fn quantiles_lie_between_neighbours() {
        assert_eq!((quantile(&[1.0, 2.0, 3.0], 0.25), quantile(&[4.0], 0.9)), (1.5, 4.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
