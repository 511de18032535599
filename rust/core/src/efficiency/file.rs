//! Efficiency files: one device a file, one fit a table; every mistake of a file is told at once.

use toml::{Table, Value};

use super::band::Spread;
use super::form::{self, Form, Parameter};
use crate::error::{Error, Result};
use crate::work::Family;

/// Fits of one device's kernels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Set {
    /// Catalogue name of the device; `any` for what holds where nothing was measured.
    pub device: String,
    /// Its architecture.
    pub architecture: String,
    /// The fits, in the order of the file.
    pub fits: Vec<Fit>,
    /// What every operator of a family takes, of what its fit says.
    pub factors: Vec<Factor>,
    /// Seconds that clients wait outside the engine for a first token; `None` where they were not measured.
    pub api_latency_s: Option<f64>,
    /// The file a user gave; none for what is shipped.
    pub origin: Option<String>,
    /// Whether its fits stand for those of any device.
    pub stands_in: bool,
}

/// What whole steps or served requests say of a family of operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    /// The engine.
    pub engine: String,
    /// The family, by [`Family::name`].
    pub family: Family,
    /// Measured over what fits of kernels say.
    pub factor: f64,
    /// P10 and P90 of measured over predicted, on steps or requests that were not fitted.
    pub spread: Option<Spread>,
}

/// The numbers of one family of kernels.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// Whose kernels: `vllm`, `sglang`, `trtllm`, `nccl`, or `any`.
    pub engine: String,
    /// The family ([`Form::FAMILY`]).
    pub family: String,
    /// The format or kind within the family.
    pub dtype: String,
    /// The form's numbers, in the order of [`Form::PARAMETERS`].
    pub values: Vec<f64>,
    /// How much faster a benchmark loop reads what stays in the last-level cache; serving does not.
    pub l2_hot: f64,
    /// P10 and P90 of measured over predicted, on rows that were not fitted; `None` where none were kept.
    pub spread: Option<Spread>,
    /// The same on rows of odd shapes (narrow weights, unusual heads, experts over several devices).
    pub odd: Option<Spread>,
    /// The range of each dimension among the rows, and of their size (`size`).
    pub valid: Vec<(String, [f64; 2])>,
    /// How much wider bands are for larger problems than any of the rows; `None` where that was not measured.
    pub beyond: Option<f64>,
    /// Where the measurements are from.
    pub source: String,
    /// When it was fitted.
    pub date: String,
}

/// Keys of a fit beside its numbers.
const NOTES: [&str; 22] = [
    "engine",
    "version",
    "family",
    "dtype",
    "l2_hot",
    "error_q",
    "odd_q",
    "median_ape",
    "mape",
    "p90_ape",
    "bias",
    "rows",
    "held_out",
    "odd_median_ape",
    "odd_p90_ape",
    "odd_held_out",
    "valid",
    "beyond",
    "source",
    "date",
    "remark",
    "roofline_median_ape",
];

/// Every family of kernels a file may hold, and its numbers.
pub fn families() -> Vec<(&'static str, &'static [Parameter])> {
    fn of<F: Form>() -> (&'static str, &'static [Parameter]) {
        (F::FAMILY, F::PARAMETERS)
    }
    vec![
        of::<form::gemm::Gemm>(),
        of::<form::prefill::Prefill>(),
        of::<form::decode::Decode>(),
        of::<form::mla::MlaPrefill>(),
        of::<form::mla::MlaDecode>(),
        of::<form::moe::Moe>(),
        of::<form::elementwise::Elementwise>(),
        of::<form::elementwise::ComputeScale>(),
        of::<form::elementwise::ScaleMatrix>(),
        of::<form::elementwise::State>(),
        of::<form::collective::Nccl>(),
        of::<form::collective::CustomAllReduce>(),
        of::<form::host::Host>(),
    ]
}

impl Set {
    /// Reads a file's text; `origin` is how the file is called in errors.
    ///
    /// # Errors
    /// Text that is no TOML; a table, key or family that is not known; a number that is missing, no number or out of
    /// its range; quantiles that do not rise: all of them at once.
    pub fn parse(origin: &str, text: &str) -> Result<Set> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            let hint = "an efficiency file as `roofline-fast calibrate` writes it";
            Error::spec(origin, "must be TOML", error.message(), hint)
        })?;
        let mut reader = Reader { origin, errors: Vec::new() };
        let known = ["schema", "device", "architecture", "datasheet", "fit", "factor", "serving"];
        reader.only("", &table, &known);
        if table.get("schema").and_then(Value::as_integer) != Some(1) {
            reader.wrong("schema", "must be 1", table.get("schema"));
        }
        let device = reader.text("", &table, "device");
        let architecture = reader.text("", &table, "architecture");
        let fits = match table.get("fit") {
            Some(Value::Array(rows)) if !rows.is_empty() => {
                rows.iter().enumerate().filter_map(|(place, row)| reader.fit(place, row)).collect()
            }
            None if table.contains_key("factor") => Vec::new(),
            other => {
                reader.wrong("fit", "must be a list of fits, `[[fit]]`", other);
                Vec::new()
            }
        };
        let factors = reader.factors(&table);
        let api_latency_s = reader.serving(&table);
        Error::all(origin, reader.errors)?;
        Ok(Set { device, architecture, fits, factors, api_latency_s, origin: None, stands_in: false })
    }

    /// The factor of a family under an engine.
    pub fn factor(&self, engine: &str, family: Family) -> Option<&Factor> {
        self.factors.iter().find(|one| one.family == family && (one.engine == engine || one.engine == "any"))
    }
}

/// A number, whole or not.
fn float(value: &Value) -> Option<f64> {
    value.as_float().or(value.as_integer().map(|whole| whole as f64))
}

struct Reader<'a> {
    origin: &'a str,
    errors: Vec<Error>,
}

impl Reader<'_> {
    fn wrong(&mut self, field: &str, must: &str, value: Option<&Value>) {
        let value = value.map_or("absent".to_string(), |value| value.to_string().trim().to_string());
        self.errors.push(Error::spec(format!("{}: {field}", self.origin), must, value, ""));
    }

    fn only(&mut self, path: &str, table: &Table, known: &[&str]) {
        for (key, value) in table {
            if !known.contains(&key.as_str()) {
                let must = format!("must be one of {}", known.join(", "));
                self.wrong(&format!("{path}{key}"), &must, Some(value));
            }
        }
    }

    fn text(&mut self, path: &str, table: &Table, key: &str) -> String {
        match table.get(key) {
            Some(Value::String(text)) if !text.is_empty() => text.clone(),
            other => {
                self.wrong(&format!("{path}{key}"), "must be a name", other);
                String::new()
            }
        }
    }

    fn fit(&mut self, place: usize, row: &Value) -> Option<Fit> {
        let path = format!("fit[{place}].");
        let Some(table) = row.as_table() else {
            self.wrong(path.trim_end_matches('.'), "must be a table", Some(row));
            return None;
        };
        let engine = self.text(&path, table, "engine");
        let dtype = self.text(&path, table, "dtype");
        let family = self.text(&path, table, "family");
        let all = families();
        let Some((_, parameters)) = all.iter().find(|(known, _)| *known == family) else {
            let names: Vec<&str> = all.iter().map(|(known, _)| *known).collect();
            let must = format!("must be one of {}", names.join(", "));
            self.wrong(&format!("{path}family"), &must, table.get("family"));
            return None;
        };
        let mut known: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
        known.extend(NOTES);
        self.only(&path, table, &known);
        let values = parameters.iter().map(|parameter| self.number(&path, table, parameter)).collect();
        let note = |key: &str| table.get(key).and_then(Value::as_str).unwrap_or_default().to_string();
        let (source, date) = (note("source"), note("date"));
        let l2_hot = table.get("l2_hot").map_or(1.0, |_| {
            self.number(&path, table, &Parameter { name: "l2_hot", least: 1.0, most: 10.0 })
        });
        let [spread, odd] = ["error_q", "odd_q"].map(|key| self.spread(&path, table, key));
        let valid = self.valid(&path, table);
        let beyond = table
            .get("beyond")
            .map(|_| self.number(&path, table, &Parameter { name: "beyond", least: 1.0, most: 10.0 }));
        Some(Fit { engine, dtype, values, l2_hot, spread, odd, valid, beyond, source, date, family })
    }

    fn factors(&mut self, table: &Table) -> Vec<Factor> {
        let rows = match table.get("factor") {
            None => return Vec::new(),
            Some(Value::Array(rows)) => rows,
            other => {
                self.wrong("factor", "must be a list of factors, `[[factor]]`", other);
                return Vec::new();
            }
        };
        rows.iter().enumerate().filter_map(|(place, row)| self.factor(place, row)).collect()
    }

    fn factor(&mut self, place: usize, row: &Value) -> Option<Factor> {
        let path = format!("factor[{place}].");
        let Some(table) = row.as_table() else {
            self.wrong(path.trim_end_matches('.'), "must be a table", Some(row));
            return None;
        };
        let mut known = vec!["factor"];
        known.extend(NOTES);
        self.only(&path, table, &known);
        let engine = self.text(&path, table, "engine");
        let family = self.text(&path, table, "family");
        let Some(family) = Family::ALL.into_iter().find(|known| known.name() == family) else {
            let names: Vec<&str> = Family::ALL.iter().map(|known| known.name()).collect();
            let must = format!("must be one of {}", names.join(", "));
            self.wrong(&format!("{path}family"), &must, table.get("family"));
            return None;
        };
        let factor = self.number(&path, table, &Parameter { name: "factor", least: 0.1, most: 10.0 });
        let spread = self.spread(&path, table, "error_q");
        Some(Factor { engine, family, factor, spread })
    }

    fn serving(&mut self, table: &Table) -> Option<f64> {
        let value = table.get("serving")?;
        let Some(serving) = value.as_table() else {
            self.wrong("serving", "must be a table", Some(value));
            return None;
        };
        let parameter = Parameter { name: "api_latency_s", least: 0.0, most: 10.0 };
        self.only("serving.", serving, &[parameter.name, "source", "date", "rows", "remark"]);
        Some(self.number("serving.", serving, &parameter))
    }

    fn number(&mut self, path: &str, table: &Table, parameter: &Parameter) -> f64 {
        let Parameter { name, least, most } = *parameter;
        let value = table.get(name);
        match value.and_then(float) {
            Some(number) if (least..=most).contains(&number) => number,
            _ => {
                self.wrong(&format!("{path}{name}"), &format!("must be from {least} to {most}"), value);
                f64::NAN
            }
        }
    }

    fn valid(&mut self, path: &str, table: &Table) -> Vec<(String, [f64; 2])> {
        let Some(value) = table.get("valid") else { return Vec::new() };
        let range = |value: &Value| {
            let ends: Vec<f64> = value.as_array()?.iter().filter_map(float).collect();
            let [least, most] = ends[..] else { return None };
            (least <= most).then_some([least, most])
        };
        let ranges =
            value.as_table().map(|table| table.iter().map(|(name, ends)| Some((name.clone(), range(ends)?))));
        let ranges: Option<Vec<_>> = ranges.and_then(Iterator::collect);
        ranges.unwrap_or_else(|| {
            self.wrong(
                &format!("{path}valid"),
                "must be a table of ranges, `{ m = [1.0, 4096.0] }`",
                Some(value),
            );
            Vec::new()
        })
    }

    fn spread(&mut self, path: &str, table: &Table, key: &str) -> Option<Spread> {
        let value = table.get(key)?;
        let numbers: Vec<f64> = value.as_array().into_iter().flatten().filter_map(float).collect();
        match numbers[..] {
            [p05, low, middle, high, p95]
                if p05 > 0.0 && p95.is_finite() && numbers.is_sorted() && middle > 0.0 =>
            {
                Some(Spread { low, high })
            }
            _ => {
                let must = "must be five rising ratios measured/predicted, at P05, P10, P50, P90, P95";
                self.wrong(&format!("{path}{key}"), must, Some(value));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"
        schema = 1
        device = "h100-sxm"
        architecture = "hopper"
        [[fit]]
        engine = "vllm"
        family = "elementwise"
        dtype = "bf16"
        t0_s = 2e-6
        passes = 1.25
        clocks = 0.0
        error_q = [0.8, 0.9, 1.0, 1.1, 1.2]
        odd_q = [0.5, 0.6, 1.0, 1.5, 2.0]
        valid = { bytes = [1.0, 4096.0] }
    "#;

    #[test]
    fn a_fit_is_its_numbers_and_its_spread() {
        let set = Set::parse("mine.toml", SOUND).unwrap();
        assert_eq!((set.device.as_str(), set.fits.len()), ("h100-sxm", 1));
        assert_eq!(set.fits[0].values, [2e-6, 1.25, 0.0]);
        assert_eq!(set.fits[0].spread, Some(Spread { low: 0.9, high: 1.1 }));
        assert_eq!(set.fits[0].odd, Some(Spread { low: 0.6, high: 1.5 }));
        assert_eq!(set.fits[0].valid, [("bytes".to_string(), [1.0, 4096.0])]);
    }

    #[test]
    fn whole_numbers_are_numbers_and_a_fit_may_say_how_wide_bands_are_beyond_it() {
        let whole =
            SOUND.replace("1.0, 1.1", "1, 1.1").replace("[1.0, 4096.0]", "[1, 4096]") + "beyond = 2\n";
        let (set, plain) =
            (Set::parse("mine.toml", &whole).unwrap(), Set::parse("mine.toml", SOUND).unwrap());
        assert_eq!((&set.fits[0].spread, &set.fits[0].valid), (&plain.fits[0].spread, &plain.fits[0].valid));
        assert_eq!((set.fits[0].beyond, plain.fits[0].beyond), (Some(2.0), None));
        let narrower = whole.replace("beyond = 2", "beyond = 0.5");
        let error = Set::parse("mine.toml", &narrower).unwrap_err().to_string();
        assert_eq!(error, "mine.toml: fit[0].beyond must be from 1 to 10: 0.5");
    }

    #[test]
    fn factors_and_what_clients_wait_stand_beside_fits() {
        let more = "[[factor]]\nengine = \"vllm\"\nfamily = \"gemm\"\nfactor = 1.1\n[serving]\napi_latency_s = 0.003\n";
        let set = Set::parse("mine.toml", &format!("{SOUND}\n{more}")).unwrap();
        assert_eq!(set.factor("vllm", Family::Gemm).map(|one| one.factor), Some(1.1));
        assert_eq!((set.factor("sglang", Family::Gemm), set.factor("vllm", Family::Link)), (None, None));
        assert_eq!(set.api_latency_s, Some(0.003));
        let alone = "schema = 1\ndevice = 'a'\narchitecture = 'b'\n";
        assert_eq!(Set::parse("mine.toml", &format!("{alone}{more}")).unwrap().factors.len(), 1);
    }

    #[test]
    fn mistakes_of_factors_are_told() {
        let of = |more: &str| Set::parse("mine.toml", &format!("{SOUND}\n{more}")).unwrap_err().to_string();
        let error = of("[[factor]]\nengine = 'vllm'\nfamily = 'gem'\nfactor = 1.0");
        assert!(error.contains("factor[0].family must be one of gemm, moe, attention"), "{error}");
        let error = of("[[factor]]\nengine = 'vllm'\nfamily = 'gemm'\nfactor = 40.0");
        assert!(error.contains("factor[0].factor must be from 0.1 to 10: 40"), "{error}");
        let error = of("[serving]\napi_latency_s = -1.0\nwait = 3");
        assert!(error.contains("serving.api_latency_s must be from 0 to 10: -1"), "{error}");
        assert!(error.contains("serving.wait must be one of api_latency_s"), "{error}");
        assert!(of("factor = 3").contains("factor"), "{}", of("factor = 3"));
    }

    #[test]
    fn every_mistake_of_a_file_is_told_at_once() {
        let text = SOUND
            .replace("schema = 1", "schema = 2")
            .replace("passes = 1.25", "pases = 1.25")
            .replace("t0_s = 2e-6", "t0_s = 2.0")
            .replace("[0.8, 0.9,", "[0.9, 0.8,")
            .replace("[0.5, 0.6,", "[0.6, 0.5,")
            .replace("[1.0, 4096.0]", "[4096.0, 1.0]");
        let error = Set::parse("mine.toml", &text).unwrap_err().to_string();
        for part in [
            "mine.toml has 7 mistakes",
            "mine.toml: schema must be 1: 2",
            "mine.toml: fit[0].pases must be one of t0_s, passes, clocks, engine",
            "mine.toml: fit[0].t0_s must be from 0 to 0.001: 2.0",
            "mine.toml: fit[0].passes must be from 0 to 40: absent",
            "mine.toml: fit[0].error_q must be five rising ratios",
            "mine.toml: fit[0].odd_q must be five rising ratios",
            "mine.toml: fit[0].valid must be a table of ranges",
        ] {
            assert!(error.contains(part), "{part}\n{error}");
        }
    }

    #[test]
    fn what_is_no_efficiency_file_is_refused_with_what_one_is() {
        let refused = |text: &str| Set::parse("mine.toml", text).unwrap_err();
        assert!(refused("= 3").to_string().starts_with("mine.toml must be TOML"));
        assert!(refused("= 3").hint().contains("calibrate"));
        let error = refused(&SOUND.replace("\"elementwise\"", "\"warp\"")).to_string();
        assert!(
            error.contains("fit[0].family must be one of gemm, prefill") && error.contains("warp"),
            "{error}"
        );
        let error = refused("schema = 1\ndevice = 3\nfit = []").to_string();
        assert!(
            error.contains("device must be a name: 3") && error.contains("fit must be a list"),
            "{error}"
        );
        assert!(error.contains("architecture must be a name: absent"), "{error}");
        let error = refused("schema = 1\ndevice = 'a'\narchitecture = 'b'\nfit = [3]").to_string();
        assert!(error.contains("fit[0] must be a table: 3"), "{error}");
    }
}
