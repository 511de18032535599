//! The 80 % band of what was simulated: how much shorter or longer everything may be, steps' errors being common to all.
//!
//! First order: times scale with the steps they consist of. Queues near saturation answer more strongly than that.

use roofline_core::table::{Column, Table};

use super::summary::{Summary, Value};

/// By which factors times may be shorter (P10) and longer (P90).
pub type Band = (f64, f64);

/// For each of `columns` (`ttft_s`) two more (`ttft_low_s`, `ttft_high_s`), null where no error is known.
#[must_use]
pub fn of_table(mut table: Table, columns: &[&str], band: Option<Band>) -> Table {
    for name in columns {
        let Some(Column::F64(seconds) | Column::NanF64(seconds)) = table.column(name).cloned() else {
            continue;
        };
        let stem = name.strip_suffix("_s").unwrap_or(name);
        for (end, factor) in ends(band) {
            let factor = factor.unwrap_or(f64::NAN);
            let times = seconds.iter().map(|seconds| seconds * factor).collect();
            table.push(format!("{stem}_{end}_s"), Column::NanF64(times));
        }
    }
    table
}

/// For each step of a table how long it may take, `low_s` and `high_s`; null where no error is known.
#[must_use]
pub fn of_steps(mut table: Table, band: Option<Band>) -> Table {
    let (Some(Column::F64(start)), Some(Column::F64(end))) = (table.column("start_s"), table.column("end_s"))
    else {
        return table;
    };
    let seconds: Vec<f64> = start.iter().zip(end).map(|(start, end)| end - start).collect();
    for (name, factor) in ends(band) {
        let rows = seconds.iter().map(|seconds| seconds * factor.unwrap_or(f64::NAN)).collect();
        table.push(format!("{name}_s"), Column::NanF64(rows));
    }
    table
}

/// For each latency of a summary but its deviation (`mean_ttft_ms`) two more (`mean_ttft_low_ms`, `mean_ttft_high_ms`);
/// none where no error is known.
pub fn of_summary(summary: &Summary, band: Band) -> Vec<(String, Value)> {
    let mut entries = Vec::new();
    for (name, value) in summary.entries() {
        let Some(stem) = name.strip_suffix("_ms").filter(|stem| !stem.starts_with("std_")) else { continue };
        for (end, factor) in ends(Some(band)) {
            let value = match (value, factor) {
                (Value::Number(number), Some(factor)) => Value::Number(number * factor),
                (value, _) => *value,
            };
            entries.push((format!("{stem}_{end}_ms"), value));
        }
    }
    entries
}

fn ends(band: Option<Band>) -> [(&'static str, Option<f64>); 2] {
    [("low", band.map(|band| band.0)), ("high", band.map(|band| band.1))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_stands_within_its_band() {
        let table = Table::new().with("ttft_s", Column::NanF64(vec![2.0, f64::NAN]));
        let known = of_table(table.clone(), &["ttft_s", "absent_s"], Some((0.9, 1.2)));
        let seconds = |table: &Table, name: &str| match table.column(name) {
            Some(Column::NanF64(rows)) => {
                rows.iter().map(|row| (!row.is_nan()).then_some(*row)).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(seconds(&known, "ttft_low_s"), [Some(1.8), None]);
        assert_eq!(seconds(&known, "ttft_high_s"), [Some(2.4), None]);
        let steps =
            Table::new().with("start_s", Column::F64(vec![1.0])).with("end_s", Column::F64(vec![3.0]));
        assert_eq!(seconds(&of_steps(steps, Some((0.9, 1.2))), "low_s"), [Some(1.8)]);
        let unknown = of_table(table, &["ttft_s"], None);
        assert_eq!(seconds(&unknown, "ttft_low_s"), [None, None]);
    }
}
