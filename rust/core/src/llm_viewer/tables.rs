//! Results of the tool as columns, under its field names.

use super::{OpRow, Totals, ViewerAnalysis, ViewerGeneration};
use crate::table::{Column, Table};

/// A numeric field of a row of type `T` with the tool's name.
type Field<T> = (&'static str, fn(&T) -> f64);

const BEFORE_BOUND: [Field<OpRow>; 4] = [
    ("OPs", |row| row.OPs),
    ("memory_access", |row| row.memory_access),
    ("arithmetic_intensity", |row| row.arithmetic_intensity),
    ("performance", |row| row.performance),
];

const AFTER_BOUND: [Field<OpRow>; 6] = [
    ("load_weight", |row| row.load_weight),
    ("load_act", |row| row.load_act),
    ("store_act", |row| row.store_act),
    ("load_kv_cache", |row| row.load_kv_cache),
    ("store_kv_cache", |row| row.store_kv_cache),
    ("inference_time", |row| row.inference_time),
];

const TOTALS: [Field<Totals>; 12] = [
    ("OPs", |totals| totals.OPs),
    ("memory_access", |totals| totals.memory_access),
    ("load_weight", |totals| totals.load_weight),
    ("load_act", |totals| totals.load_act),
    ("store_act", |totals| totals.store_act),
    ("load_kv_cache", |totals| totals.load_kv_cache),
    ("store_kv_cache", |totals| totals.store_kv_cache),
    ("inference_time", |totals| totals.inference_time),
    ("memory_consumption", |totals| totals.memory_consumption),
    ("memory_consumption_tmp_act", |totals| totals.memory_consumption_tmp_act),
    ("memory_consumption_weight", |totals| totals.memory_consumption_weight),
    ("memory_consumption_kv_cache", |totals| totals.memory_consumption_kv_cache),
];

impl ViewerAnalysis {
    /// One row an operator: `phase`, `op`, then the tool's fields.
    pub fn ops_table(&self) -> Table {
        let rows: Vec<(&str, &OpRow)> = self
            .decode
            .iter()
            .map(|row| ("decode", row))
            .chain(self.prefill.iter().map(|row| ("prefill", row)))
            .collect();
        let text = |of: fn(&(&str, &OpRow)) -> String| Column::Str(rows.iter().map(of).collect());
        let number = |of: fn(&OpRow) -> f64| Column::F64(rows.iter().map(|(_, row)| of(row)).collect());
        let mut table = Table::new();
        table.push("phase", text(|(phase, _)| (*phase).to_string()));
        table.push("op", text(|(_, row)| row.op.to_string()));
        for (name, of) in BEFORE_BOUND {
            table.push(name, number(of));
        }
        table.push("bound", text(|(_, row)| row.bound.to_string()));
        for (name, of) in AFTER_BOUND {
            table.push(name, number(of));
        }
        table
    }

    /// One row a phase: `phase`, then the tool's `total_results`.
    pub fn totals_table(&self) -> Table {
        let totals = [&self.decode_totals, &self.prefill_totals];
        let mut table = Table::new();
        table.push("phase", Column::Str(vec!["decode".to_string(), "prefill".to_string()]));
        for (name, of) in TOTALS {
            table.push(name, Column::F64(totals.iter().map(|totals| of(totals)).collect()));
        }
        table
    }
}

impl ViewerGeneration {
    /// One row: `inference_time` and `prefill_time`, seconds.
    pub fn totals_table(&self) -> Table {
        Table::new()
            .with("inference_time", Column::F64(vec![self.inference_time]))
            .with("prefill_time", Column::F64(vec![self.prefill_time]))
    }
}
