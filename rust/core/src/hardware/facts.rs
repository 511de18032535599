//! A device as a table, one row a field, for reading.

use super::quantity::Quantity;
use super::{Fact, Hardware, Link};
use crate::table::{Column, Table};

/// Every field of a device as rows of `field, value, unit, source`; an unknown value is null, and its source says
/// where it was looked for (empty where the file is silent). Then what follows from them: the ridge points of each
/// format, dense peak over bandwidth, of the device's memory and of what lies behind the host's link.
pub fn facts(hardware: &Hardware) -> Table {
    let mut rows = Rows::default();
    rows.text("name", &hardware.name);
    rows.text("title", &hardware.title);
    rows.text("vendor", &hardware.vendor);
    rows.text("kind", hardware.kind.name());
    rows.text("architecture", &hardware.architecture);
    rows.text("aliases", &hardware.aliases.join(", "));
    let units = [
        ("tensor.dense", &hardware.tensor_dense),
        ("tensor.sparse", &hardware.tensor_sparse),
        ("vector", &hardware.vector),
    ];
    for (unit, peaks) in units {
        for (format, fact) in peaks {
            let shown = fact.value.map(|value| Quantity::Rate.shown(value));
            // Integers have operations, not floating-point ones; the size of the unit is the same.
            let unit_of = shown.map(|(_, unit)| if format.is_integer() { "TOP/s" } else { unit });
            let value = shown.map(|(value, _)| six_digits(value));
            rows.push(format!("{unit}.{format}"), value, unit_of, &fact.source);
        }
    }
    rows.fact("compute.cores", &hardware.cores, Quantity::Count);
    rows.fact("compute.clock", &hardware.clock, Quantity::Frequency);
    rows.fact("compute.exponentials", &hardware.exponentials, Quantity::Count);
    rows.fact("compute.accumulation", &hardware.accumulation, Quantity::Share);
    let memories = [
        ("device", &hardware.memory),
        ("l2", &hardware.l2),
        ("on_chip", &hardware.on_chip),
        ("host", &hardware.host),
    ];
    for (level, memory) in memories {
        rows.fact(format!("memory.{level}.capacity"), &memory.capacity, Quantity::Capacity);
        rows.fact(format!("memory.{level}.bandwidth"), &memory.bandwidth, Quantity::Bandwidth);
    }
    rows.fact("memory.device.ecc", &hardware.ecc, Quantity::Share);
    rows.link("host", &hardware.host_link);
    rows.link("scale_up", &hardware.scale_up);
    rows.link("scale_out", &hardware.scale_out);
    rows.fact("power.tdp", &hardware.tdp, Quantity::Power);
    rows.fact("power.idle", &hardware.idle, Quantity::Power);
    rows.fact("price.rent", &hardware.price, Quantity::Price);
    let reached = [
        ("memory.device.bandwidth", &hardware.memory.bandwidth),
        ("memory.host.bandwidth", &hardware.host.bandwidth),
        ("link.host.bandwidth", &hardware.host_link.bandwidth),
    ];
    // What has no tensor unit multiplies on its vector unit.
    let dense = hardware.tensor_dense.iter().any(|(_, peak)| peak.value.is_some());
    let (unit, peaks) =
        if dense { ("tensor.dense", &hardware.tensor_dense) } else { ("vector", &hardware.vector) };
    for (field, bandwidth) in reached {
        for (format, peak) in peaks {
            rows.ridge(field, bandwidth, &format!("{unit}.{format}"), peak);
        }
    }
    rows.table()
}

#[derive(Default)]
struct Rows {
    field: Vec<String>,
    value: Vec<Option<String>>,
    unit: Vec<Option<String>>,
    source: Vec<String>,
}

impl Rows {
    fn push(&mut self, field: impl Into<String>, value: Option<String>, unit: Option<&str>, source: &str) {
        self.field.push(field.into());
        self.value.push(value);
        self.unit.push(unit.map(str::to_string));
        self.source.push(source.to_string());
    }

    fn text(&mut self, field: impl Into<String>, value: &str) {
        self.push(field, Some(value.to_string()).filter(|value| !value.is_empty()), None, "");
    }

    fn fact(&mut self, field: impl Into<String>, fact: &Fact, quantity: Quantity) {
        let shown = fact.value.map(|value| quantity.shown(value));
        let value = shown.map(|(value, _)| six_digits(value));
        self.push(field, value, shown.map(|(_, unit)| unit), &fact.source);
    }

    /// FLOP a byte from which `rate` bounds an operator, not what `field` delivers; no row where one is unknown.
    fn ridge(&mut self, field: &str, bandwidth: &Fact, rate: &str, peak: &Fact) {
        let (Some(bytes_per_s), Some(flops_per_s)) = (bandwidth.value, peak.value) else { return };
        let level = field.trim_end_matches(".bandwidth").trim_start_matches("memory.");
        let format = rate.rsplit('.').next().unwrap_or(rate);
        let value = six_digits(flops_per_s / bytes_per_s);
        let source = format!("{rate} / {field}");
        self.push(format!("ridge.{level}.{format}"), Some(value), Some("FLOP/B"), &source);
    }

    fn link(&mut self, level: &str, link: &Link) {
        let field = |name: &str| format!("link.{level}.{name}");
        self.text(field("name"), &link.name);
        self.fact(field("bandwidth"), &link.bandwidth, Quantity::Bandwidth);
        self.fact(field("latency"), &link.latency, Quantity::Time);
        if link.domain != u32::MAX {
            self.push(field("domain"), Some(link.domain.to_string()), Some("count"), "");
        }
        self.text(field("topology"), link.topology.name());
        self.text(field("in_network"), if link.in_network { "yes" } else { "no" });
        if link.through_host {
            self.text(field("through_host"), "yes");
        }
    }

    fn table(self) -> Table {
        Table::new()
            .with("field", Column::Str(self.field))
            .with("value", Column::OptStr(self.value))
            .with("unit", Column::OptStr(self.unit))
            .with("source", Column::Str(self.source))
    }
}

/// A number to six significant digits, without trailing zeros.
fn six_digits(value: f64) -> String {
    let decimals = 5 - value.abs().log10().floor() as i32;
    let scale = 10f64.powi(decimals);
    format!("{}", (value * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::hardware_from_toml;

    #[test]
    fn every_field_is_a_row_with_its_unit_and_source() {
        let text = r#"
            name = "test"
            aliases = ["other"]
            [tensor.dense]
            bf16 = { value = 1.5, unit = "PFLOP/s", source = "a sheet" }
            int8 = { value = 3, unit = "POP/s", source = "a sheet" }
            [memory.device]
            capacity = { value = 81_559, unit = "MiB", source = "a driver" }
            bandwidth = { value = 3.35, unit = "TB/s", source = "a sheet" }
            [link.scale_up]
            name = "Wire"
            bandwidth = { value = 450, unit = "GB/s", source = "a sheet" }
            domain = 8
            [power]
            tdp = { unknown = true, source = "looked in the sheet" }
        "#;
        let table = facts(&hardware_from_toml("test.toml", text).unwrap());
        let texts = |name: &str| match table.column(name) {
            Some(Column::Str(rows)) => rows.iter().map(|row| Some(row.clone())).collect::<Vec<_>>(),
            Some(Column::OptStr(rows)) => rows.clone(),
            other => panic!("{name}: {other:?}"),
        };
        let columns = ["field", "value", "unit", "source"].map(texts);
        let row = |field: &str| {
            let row = columns[0].iter().position(|known| known.as_deref() == Some(field)).unwrap();
            columns.each_ref().map(|column| column[row].clone().unwrap_or("null".into())).join(" | ")
        };
        assert_eq!(row("aliases"), "aliases | other | null | ");
        assert_eq!(row("tensor.dense.bf16"), "tensor.dense.bf16 | 1500 | TFLOP/s | a sheet");
        assert_eq!(row("tensor.dense.int8"), "tensor.dense.int8 | 3000 | TOP/s | a sheet");
        assert_eq!(row("memory.device.capacity"), "memory.device.capacity | 79.6475 | GiB | a driver");
        assert_eq!(row("link.scale_up.domain"), "link.scale_up.domain | 8 | count | ");
        assert_eq!(row("link.scale_up.topology"), "link.scale_up.topology | switch | null | ");
        assert_eq!(row("power.tdp"), "power.tdp | null | null | looked in the sheet");
        assert_eq!(row("power.idle"), "power.idle | null | null | ");
        let from = "tensor.dense.bf16 / memory.device.bandwidth";
        assert_eq!(row("ridge.device.bf16"), format!("ridge.device.bf16 | 447.761 | FLOP/B | {from}"));
        let ridges = columns[0].iter().filter(|field| field.as_ref().unwrap().starts_with("ridge.")).count();
        assert_eq!(ridges, 2, "a ridge whose bandwidth is not known is left out");
    }

    #[test]
    fn numbers_are_shown_to_six_digits() {
        assert_eq!(six_digits(989.5), "989.5");
        assert_eq!(six_digits(79.647_460_9), "79.6475");
        assert_eq!(six_digits(40_960.0), "40960");
        assert_eq!(six_digits(0.000_123_456_78), "0.000123457");
    }
}
