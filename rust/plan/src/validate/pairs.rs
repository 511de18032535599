//! Any predictions beside any measurements, row by row, by the groups a caller names.

use roofline_core::error::{Error, Result};

use super::report::{Report, Tally};
use crate::calibrate::check::Flaw;
use crate::calibrate::errors::{Outcome, quantile};

/// Predicted over measured between which the middle of times lies that are of one unit.
const SAME_UNIT: std::ops::Range<f64> = 1.0 / 200.0..200.0;

/// Columns of equal length; NaN where there is no value.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pairs {
    /// What they are of (`step_ms`).
    pub metric: String,
    /// Predicted.
    pub predicted: Vec<f64>,
    /// Measured.
    pub measured: Vec<f64>,
    /// P10 and P90 of the prediction.
    pub band: Option<(Vec<f64>, Vec<f64>)>,
    /// The pure roofline.
    pub ideal: Option<Vec<f64>>,
    /// Names of groups (`gpu`) with each row's.
    pub groups: Vec<(String, Vec<String>)>,
}

/// The errors of every row that was predicted; the others count as refused.
///
/// # Errors
/// Columns of different length.
pub fn pairs(pairs: &Pairs) -> Result<Report> {
    let rows = pairs.predicted.len();
    let band = pairs.band.iter().flat_map(|(low, high)| [low.len(), high.len()]);
    let others = pairs.ideal.iter().map(Vec::len).chain(pairs.groups.iter().map(|(_, names)| names.len()));
    if let Some(other) = band.chain(others).chain([pairs.measured.len()]).find(|length| *length != rows) {
        return Err(Error::spec(
            "predicted",
            format!("must have {other} rows, as the other columns"),
            rows,
            "",
        ));
    }
    let mut tally = Tally::default();
    let slipped = is_slipped(&pairs.predicted, &pairs.measured);
    for row in 0..rows {
        let groups: Vec<String> =
            pairs.groups.iter().map(|(name, names)| format!("{name}={}", names[row])).collect();
        let (predicted, measured) = (pairs.predicted[row], pairs.measured[row]);
        if !(predicted.is_finite() && measured.is_finite() && measured > 0.0) {
            let why = match () {
                () if measured <= 0.0 => "the measured time must be a positive number",
                () if predicted.is_finite() => "not measured",
                () => "not predicted",
            };
            tally.refuse(&pairs.metric, &[], why, 1);
            tally.add(&pairs.metric, &groups, &[], &[], 1);
            continue;
        }
        if slipped {
            tally.refuse(&pairs.metric, &[], Flaw::UnitSlip.why(), 1);
            tally.add(&pairs.metric, &groups, &[], &[], 1);
            continue;
        }
        let known =
            pairs.band.as_ref().map(|(low, high)| (low[row], high[row])).filter(|(low, _)| low.is_finite());
        let inside = known.map(|(low, high)| (low..=high).contains(&measured));
        let ideal: Vec<Outcome> = pairs
            .ideal
            .iter()
            .map(|ideal| Outcome { ratio: ideal[row] / measured, inside: None })
            .filter(|outcome| outcome.ratio.is_finite())
            .collect();
        tally.add(&pairs.metric, &groups, &[Outcome { ratio: predicted / measured, inside }], &ideal, 0);
    }
    Ok(tally.report())
}

/// Whether measured times are of another unit than predicted ones, typically.
fn is_slipped(predicted: &[f64], measured: &[f64]) -> bool {
    let ratios = predicted.iter().zip(measured).map(|(predicted, measured)| predicted / measured);
    let mut ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite() && *ratio > 0.0).collect();
    ratios.sort_by(f64::total_cmp);
    !ratios.is_empty() && !SAME_UNIT.contains(&quantile(&ratios, 0.5))
}

/// What a line over `sequences` says of each row, fitted to the other half of the rows of its group: the least that a
/// prediction of steps should beat; below and above it what that half's own P10 and P90 make of it.
///
/// # Errors
/// Columns of different length.
pub fn line(sequences: &[f64], measured: &[f64], groups: &[String]) -> Result<[Vec<f64>; 3]> {
    let rows = sequences.len();
    if let Some(other) = [measured.len(), groups.len()].into_iter().find(|length| *length != rows) {
        return Err(Error::spec("measured", format!("must have {rows} rows, as `sequences`"), other, ""));
    }
    let mut halves: std::collections::HashMap<(&str, bool), Vec<usize>> = Default::default();
    for (row, group) in groups.iter().enumerate() {
        halves.entry((group, row % 2 == 0)).or_default().push(row);
    }
    let mut told = [vec![f64::NAN; rows], vec![f64::NAN; rows], vec![f64::NAN; rows]];
    for ((group, even), own) in &halves {
        let Some(others) = halves.get(&(*group, !even)) else { continue };
        let count = others.len() as f64;
        let mean = |values: &[f64]| others.iter().map(|row| values[*row]).sum::<f64>() / count;
        let (x, y) = (mean(sequences), mean(measured));
        let (mut over, mut square) = (0.0, 0.0);
        for row in others {
            over += (sequences[*row] - x) * (measured[*row] - y);
            square += (sequences[*row] - x) * (sequences[*row] - x);
        }
        let slope = if square > 0.0 { over / square } else { 0.0 };
        let at = |row: usize| y + slope * (sequences[row] - x);
        let mut ratios: Vec<f64> = others.iter().map(|row| measured[*row] / at(*row)).collect();
        ratios.sort_by(f64::total_cmp);
        for row in own {
            for (told, share) in told.iter_mut().zip([1.0, quantile(&ratios, 0.1), quantile(&ratios, 0.9)]) {
                told[*row] = at(*row) * share;
            }
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_from_the_other_half_of_a_group() {
        let sequences: Vec<f64> = (0..8).map(f64::from).collect();
        let measured: Vec<f64> = sequences.iter().map(|n| 3.0 + 0.5 * n).collect();
        let groups = vec!["a".to_string(); 8];
        let [told, low, high] = line(&sequences, &measured, &groups).unwrap();
        assert!(
            told.iter().zip(low.iter().zip(&high)).all(|(told, (low, high))| low <= told && told <= high)
        );
        assert!(told.iter().zip(&measured).all(|(told, real)| (told - real).abs() < 1e-12), "{told:?}");
        assert!(line(&sequences, &measured[1..], &groups).is_err());
        assert!(line(&[1.0], &[1.0], &groups[..1]).unwrap()[0][0].is_nan());
    }

    #[test]
    fn rows_are_judged_in_all_and_in_each_of_their_groups() {
        let report = pairs(&Pairs {
            metric: "step_ms".into(),
            predicted: vec![11.0, 10.0, f64::NAN],
            measured: vec![10.0, 10.0, 10.0],
            band: Some((vec![9.0, 10.5, 0.0], vec![12.0, 11.0, 0.0])),
            ideal: Some(vec![5.0, 5.0, f64::NAN]),
            groups: vec![("gpu".into(), vec!["a".into(), "b".into(), "b".into()])],
        })
        .unwrap();
        let names: Vec<&str> = report.lines.iter().map(|line| line.group.as_str()).collect();
        assert_eq!(names, ["all", "gpu=a", "gpu=b"]);
        let all = report.lines[0].errors.unwrap();
        assert_eq!((all.n, report.lines[0].refused, all.coverage), (2, 1, 50.0));
        assert!((report.lines[0].ideal.unwrap().median_ape - 50.0).abs() < 1e-9);
        assert_eq!(report.refused.get(&("step_ms".into(), "not predicted".into())), Some(&1));
    }

    #[test]
    fn times_in_another_unit_are_refused() {
        for factor in [1e3, 1e-3] {
            let measured = vec![10.0 * factor, 11.0 * factor, 12.0];
            let predicted = vec![10.0, 10.0, 10.0];
            let report = pairs(&Pairs { metric: "step_ms".into(), predicted, measured, ..Pairs::default() });
            let report = report.unwrap();
            assert_eq!((report.lines[0].errors, report.lines[0].refused), (None, 3), "{factor}");
            assert!(report.refused.keys().all(|(_, why)| why.contains("another unit")));
        }
    }

    #[test]
    fn columns_of_different_length_are_refused() {
        let wrong = Pairs { predicted: vec![1.0], ..Pairs::default() };
        assert_eq!(
            pairs(&wrong).unwrap_err().to_string(),
            "predicted must have 0 rows, as the other columns: 1"
        );
    }
}
