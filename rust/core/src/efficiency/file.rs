//! Fitted numbers on disk: one TOML file a device, one table a fit, read whole and refused with every mistake named.

use toml::{Table, Value};

use super::form::collective::{CustomAllReduce, Nccl};
use super::form::decode::Decode;
use super::form::elementwise::{ComputeScale, Elementwise, ScaleMatrix, State};
use super::form::gemm::Gemm;
use super::form::host::Host;
use super::form::mla::{MlaDecode, MlaPrefill};
use super::form::moe::Moe;
use super::form::prefill::Prefill;
use super::form::{Form, Parameter};
use crate::error::{Error, Result};
use crate::names;

/// The version of the format that is written, and the only one read.
pub const SCHEMA: i64 = 1;

/// The fitted numbers of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct EfficiencyFile {
    /// Catalogue name of the device they were fitted on.
    pub device: String,
    /// Its architecture: numbers carry over within one.
    pub architecture: String,
    /// The datasheet facts they go with, SI units, by name (`peak16`, `bandwidth`, `sm`, `l2`).
    pub datasheet: Vec<(String, f64)>,
    /// One for each engine, family and dtype.
    pub fits: Vec<Fit>,
}

/// One set of numbers, and what is known about it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fit {
    /// The engine whose kernels were measured (`vllm`), `nccl` for the library, `any` for what all share.
    pub engine: String,
    /// Its version; empty where unknown.
    pub version: String,
    /// The family ([`Form::FAMILY`]).
    pub family: String,
    /// Which kernels of the family: a number format, with a suffix for windows and caches (see `data/efficiency/README.md`).
    pub dtype: String,
    /// The numbers of the form, in the order of [`Form::PARAMETERS`].
    pub values: Vec<f64>,
    /// How much faster a benchmark loop reads what stays in the last-level cache; not used for serving.
    pub l2_hot: f64,
    /// Measured over predicted at P05, P10, P50, P90, P95 of rows that were not fitted.
    pub error_q: Option<[f64; 5]>,
    /// Median, mean and P90 of the absolute error, and the median of predicted / measured − 1, percent, on those rows.
    pub errors: Option<[f64; 4]>,
    /// Rows fitted and rows judged on.
    pub rows: [u64; 2],
    /// The range of each dimension among the rows fitted.
    pub valid: Vec<(String, [f64; 2])>,
    /// Where the measurements come from.
    pub source: String,
    /// When it was fitted, `2026-11-23`.
    pub date: String,
    /// `blind`, or what was chosen after seeing the rows it is judged on.
    pub remark: String,
}

/// Names of [`Fit::errors`], in order.
pub const ERRORS: [&str; 4] = ["median_ape", "mape", "p90_ape", "bias"];

/// The numbers of a family, `None` if there is no such family.
pub fn parameters(family: &str) -> Option<&'static [Parameter]> {
    FAMILIES.iter().find(|(known, _)| *known == family).map(|(_, parameters)| *parameters)
}

const fn entry<F: Form>() -> (&'static str, &'static [Parameter]) {
    (F::FAMILY, F::PARAMETERS)
}

/// Every family and its numbers.
pub const FAMILIES: [(&str, &[Parameter]); 13] = [
    entry::<Gemm>(),
    entry::<Decode>(),
    entry::<Prefill>(),
    entry::<MlaDecode>(),
    entry::<MlaPrefill>(),
    entry::<Moe>(),
    entry::<Elementwise>(),
    entry::<ComputeScale>(),
    entry::<ScaleMatrix>(),
    entry::<State>(),
    entry::<Nccl>(),
    entry::<CustomAllReduce>(),
    entry::<Host>(),
];

const ABOUT: [&str; 15] = [
    "engine",
    "version",
    "family",
    "dtype",
    "l2_hot",
    "error_q",
    "median_ape",
    "mape",
    "p90_ape",
    "bias",
    "rows",
    "held_out",
    "valid",
    "source",
    "date",
];

impl Fit {
    /// Its numbers as the form `F`; `None` if it is of another family.
    pub fn form<F: Form>(&self) -> Option<F> {
        (self.family == F::FAMILY).then(|| F::of(&self.values))
    }
}

impl EfficiencyFile {
    /// The file `origin` with this text.
    ///
    /// # Errors
    /// Every mistake with its place: text that is not TOML, another schema, unknown families and names, missing numbers
    /// and numbers outside the range that means something.
    pub fn parse(origin: &str, text: &str) -> Result<EfficiencyFile> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(before).filter(|byte| *byte == b'\n').count();
            Error::spec(format!("{origin}: line {line}"), "must be TOML", error.message(), "")
        })?;
        let mut reader = Reader { origin, errors: Vec::new() };
        let file = reader.file(&table);
        Error::all(origin, reader.errors)?;
        Ok(file)
    }

    /// The file as text; [`EfficiencyFile::parse`] reads it back.
    pub fn to_toml(&self) -> String {
        let mut out = format!(
            "schema = {SCHEMA}\ndevice = {:?}\narchitecture = {:?}\n\n[datasheet]\n",
            self.device, self.architecture
        );
        for (name, value) in &self.datasheet {
            out += &format!("{name} = {}\n", number(*value));
        }
        for fit in &self.fits {
            out += &fit.to_toml();
        }
        out
    }
}

impl Fit {
    fn to_toml(&self) -> String {
        let mut out = format!(
            "\n[[fit]]\nengine = {:?}\nversion = {:?}\nfamily = {:?}\ndtype = {:?}\n",
            self.engine, self.version, self.family, self.dtype
        );
        let names = parameters(&self.family).unwrap_or_default();
        for (parameter, value) in names.iter().zip(&self.values) {
            out += &format!("{} = {}\n", parameter.name, number(*value));
        }
        out += &format!("l2_hot = {}\n", number(self.l2_hot));
        if let Some(quantiles) = self.error_q {
            let quantiles: Vec<String> = quantiles.iter().map(|q| format!("{q:.3}")).collect();
            out += &format!("error_q = [{}]\n", quantiles.join(", "));
        }
        if let Some(errors) = self.errors {
            for (name, error) in ERRORS.iter().zip(errors) {
                out += &format!("{name} = {error:.1}\n");
            }
        }
        out += &format!("rows = {}\nheld_out = {}\n", self.rows[0], self.rows[1]);
        if !self.valid.is_empty() {
            let ranges: Vec<String> = self
                .valid
                .iter()
                .map(|(name, [least, most])| format!("{name} = [{}, {}]", number(*least), number(*most)))
                .collect();
            out += &format!("valid = {{ {} }}\n", ranges.join(", "));
        }
        out + &format!("source = {:?}\ndate = {:?}\nremark = {:?}\n", self.source, self.date, self.remark)
    }
}

/// A number with five significant digits, as TOML writes floats.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0.0".into();
    }
    if value.abs() >= 1e-3 && value.abs() < 1e7 {
        let digits = (4 - value.abs().log10().floor() as i64).clamp(1, 9) as usize;
        let text = format!("{value:.digits$}");
        let short = text.trim_end_matches('0');
        return if short.ends_with('.') { format!("{short}0") } else { short.into() };
    }
    let text = format!("{value:.4e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let mantissa = mantissa.trim_end_matches('0');
            let mantissa = if mantissa.ends_with('.') { format!("{mantissa}0") } else { mantissa.into() };
            format!("{mantissa}e{exponent}")
        }
        None => text,
    }
}

/// Reads tables and keeps what is wrong with them.
struct Reader<'a> {
    origin: &'a str,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn fail(&mut self, path: &str, must: impl Into<String>, value: impl ToString, hint: &str) {
        self.errors.push(Error::spec(format!("{}: {path}", self.origin), must, value.to_string(), hint));
    }

    fn file(&mut self, root: &Table) -> EfficiencyFile {
        const KEYS: [&str; 5] = ["schema", "device", "architecture", "datasheet", "fit"];
        for key in root.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.fail(key, format!("must be one of {}", KEYS.join(", ")), key, "");
        }
        if root.get("schema").and_then(Value::as_integer) != Some(SCHEMA) {
            let was = root.get("schema").map_or("missing".into(), Value::to_string);
            self.fail(
                "schema",
                format!("must be {SCHEMA}"),
                was,
                "write the file with `roofline-fast calibrate`",
            );
        }
        let datasheet = match root.get("datasheet") {
            None => Vec::new(),
            Some(Value::Table(facts)) => {
                facts.iter().filter_map(|(name, value)| Some((name.clone(), float(value)?))).collect()
            }
            Some(other) => {
                self.fail("datasheet", "must be a table", other, "");
                Vec::new()
            }
        };
        let fits = match root.get("fit") {
            Some(Value::Array(fits)) => fits
                .iter()
                .enumerate()
                .filter_map(|(index, fit)| match fit {
                    Value::Table(fit) => self.fit(&format!("fit[{index}]"), fit),
                    other => {
                        self.fail(&format!("fit[{index}]"), "must be a table", other, "");
                        None
                    }
                })
                .collect(),
            _ => {
                self.fail("fit", "must be one or more [[fit]] tables", "missing", "");
                Vec::new()
            }
        };
        EfficiencyFile {
            device: names::normalise(&self.text("", root, "device")),
            architecture: self.text("", root, "architecture"),
            datasheet,
            fits,
        }
    }

    fn text(&mut self, path: &str, table: &Table, key: &str) -> String {
        match table.get(key) {
            Some(Value::String(text)) => text.clone(),
            None => {
                self.fail(&format!("{path}{key}"), "must be given", "missing", "");
                String::new()
            }
            Some(other) => {
                self.fail(&format!("{path}{key}"), "must be a text", other, "");
                String::new()
            }
        }
    }

    fn fit(&mut self, path: &str, table: &Table) -> Option<Fit> {
        let at = format!("{path}.");
        let family = self.text(&at, table, "family");
        let Some(parameters) = parameters(&family) else {
            let known: Vec<&str> = FAMILIES.iter().map(|(name, _)| *name).collect();
            self.fail(&format!("{at}family"), format!("must be one of {}", known.join(", ")), family, "");
            return None;
        };
        let is_known = |key: &str| {
            ABOUT.contains(&key) || key == "remark" || parameters.iter().any(|known| known.name == key)
        };
        for key in table.keys().filter(|key| !is_known(key)) {
            let numbers: Vec<&str> = parameters.iter().map(|known| known.name).collect();
            let must =
                format!("must be a number of `{family}` ({}) or say what is known of it", numbers.join(", "));
            self.fail(&format!("{at}{key}"), must, key, "");
        }
        let values = parameters.iter().map(|known| self.parameter(&at, table, known)).collect();
        let errors = self.quadruple(table);
        Some(Fit {
            engine: self.text(&at, table, "engine"),
            version: optional(table, "version"),
            dtype: self.text(&at, table, "dtype"),
            values,
            l2_hot: table.get("l2_hot").and_then(float).unwrap_or(1.0),
            error_q: self.quantiles(&at, table),
            errors,
            rows: ["rows", "held_out"]
                .map(|key| table.get(key).and_then(Value::as_integer).unwrap_or(0) as u64),
            valid: ranges(table),
            source: optional(table, "source"),
            date: optional(table, "date"),
            remark: optional(table, "remark"),
            family,
        })
    }

    fn parameter(&mut self, at: &str, table: &Table, known: &Parameter) -> f64 {
        let path = format!("{at}{}", known.name);
        let must = format!("must be a number from {} to {}", known.least, known.most);
        match table.get(known.name) {
            None => {
                self.fail(&path, must, "missing", "");
                known.least
            }
            Some(value) => match float(value).filter(|value| (known.least..=known.most).contains(value)) {
                Some(value) => value,
                None => {
                    self.fail(&path, must, value, "");
                    known.least
                }
            },
        }
    }

    fn quantiles(&mut self, at: &str, table: &Table) -> Option<[f64; 5]> {
        let value = table.get("error_q")?;
        let numbers: Option<Vec<f64>> = value.as_array().and_then(|row| row.iter().map(float).collect());
        let quantiles = numbers.and_then(|row| <[f64; 5]>::try_from(row).ok());
        let rising = quantiles.filter(|row| row[0] > 0.0 && row.windows(2).all(|pair| pair[0] <= pair[1]));
        if rising.is_none() {
            let must = "must be five rising positive numbers (P05, P10, P50, P90, P95)";
            self.fail(&format!("{at}error_q"), must, value, "");
        }
        rising
    }

    fn quadruple(&mut self, table: &Table) -> Option<[f64; 4]> {
        let found = ERRORS.map(|name| table.get(name).and_then(float));
        found.iter().all(Option::is_some).then(|| found.map(|error| error.unwrap_or(0.0)))
    }
}

fn float(value: &Value) -> Option<f64> {
    value
        .as_float()
        .or_else(|| value.as_integer().map(|whole| whole as f64))
        .filter(|value| value.is_finite())
}

fn optional(table: &Table, key: &str) -> String {
    table.get(key).and_then(Value::as_str).unwrap_or_default().to_string()
}

fn ranges(table: &Table) -> Vec<(String, [f64; 2])> {
    let Some(Value::Table(valid)) = table.get("valid") else { return Vec::new() };
    let range = |value: &Value| {
        let pair = value.as_array()?;
        Some([float(pair.first()?)?, float(pair.get(1)?)?])
    };
    valid.iter().filter_map(|(name, value)| Some((name.clone(), range(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> EfficiencyFile {
        EfficiencyFile {
            device: "h100-sxm".into(),
            architecture: "hopper".into(),
            datasheet: vec![("bandwidth".into(), 3.35e12)],
            fits: vec![Fit {
                engine: "vllm".into(),
                version: "0.24.0".into(),
                family: "gemm".into(),
                dtype: "bf16".into(),
                values: vec![3.1234e-6, 0.8, 0.9, 150.0, 0.12, 0.0],
                l2_hot: 1.4,
                error_q: Some([0.8, 0.9, 1.0, 1.1, 1.2]),
                errors: Some([5.0, 7.0, 15.0, -0.5]),
                rows: [100, 200],
                valid: vec![("m".into(), [1.0, 32768.0])],
                source: "a \"quoted\" source".into(),
                date: "2026-11-23".into(),
                remark: "blind".into(),
            }],
        }
    }

    #[test]
    fn a_file_is_read_back_as_it_was_written() {
        let file = file();
        assert_eq!(EfficiencyFile::parse("x.toml", &file.to_toml()).unwrap(), file);
    }

    #[test]
    fn every_mistake_of_a_file_is_named_with_its_place() {
        let text = file().to_toml();
        let wrong = text
            .replace("schema = 1", "schema = 7")
            .replace("ec = 0.8", "ec = 9.0")
            .replace("k0 = 150.0", "k00 = 150.0")
            .replace("[0.800, 0.900,", "[0.950, 0.900,");
        let error = EfficiencyFile::parse("x.toml", &wrong).unwrap_err().to_string();
        for place in [
            "x.toml: schema",
            "fit[0].ec must be a number from 0.02 to 1.5",
            "fit[0].k00",
            "fit[0].k0 must",
            "error_q",
        ] {
            assert!(error.contains(place), "{place} not in {error}");
        }
        let unknown = text.replace("family = \"gemm\"", "family = \"gem\"");
        assert!(
            EfficiencyFile::parse("x.toml", &unknown)
                .unwrap_err()
                .to_string()
                .contains("must be one of gemm")
        );
        assert!(
            EfficiencyFile::parse("x.toml", "a = [")
                .unwrap_err()
                .to_string()
                .contains("x.toml: line 1 must be TOML")
        );
    }

    #[test]
    fn numbers_are_written_with_five_digits() {
        assert_eq!(
            [1.0, 0.123456789, 3.35e12, 2.5e-6, 0.0].map(number),
            ["1.0", "0.12346", "3.35e12", "2.5e-6", "0.0"]
        );
    }
}
