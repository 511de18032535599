//! Fits as efficiency files, alone or in place of the same fits of a file there is.

use roofline_core::efficiency::form::Form;
use roofline_core::efficiency::form::Parameter;
use roofline_core::efficiency::form::host::Host;
use roofline_core::work::Family;

use super::devices::Known;
use super::fit::Fitting;
use super::whole::{Found, Sought, What, value_of};

/// One fit on its way to a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The engine.
    pub engine: String,
    /// Its version, as measurements name it.
    pub version: String,
    /// The family.
    pub family: &'static str,
    /// Which kernels of it.
    pub dtype: String,
    /// Names and numbers of the form.
    pub parameters: &'static [Parameter],
    /// The fit.
    pub fitting: Fitting,
    /// The range of each dimension and of the size among the rows.
    pub valid: Vec<(&'static str, [f64; 2])>,
    /// Where the measurements come from.
    pub source: String,
    /// When it was fitted.
    pub date: String,
    /// `blind`, or what was chosen after seeing the rows it is judged on.
    pub remark: String,
}

/// The file of one device: `entries` in place of the same fits of `present`, whose other fits stay as they are.
pub fn text(known: &Known, entries: &[Entry], present: Option<&str>) -> String {
    let mut out = head(known);
    for entry in entries {
        out += &fit(entry);
    }
    let (blocks, rest) = present.map_or((Vec::new(), ""), fits_and_rest);
    for block in blocks {
        let is = |key: &str, value: &str| block.lines().any(|line| line == format!("{key} = \"{value}\""));
        let replaced = entries.iter().any(|entry| {
            is("engine", &entry.engine) && is("family", entry.family) && is("dtype", &entry.dtype)
        });
        if !replaced {
            out += &format!("\n[[fit]]\n{}\n", block.trim_end());
        }
    }
    out + rest
}

/// What whole steps or requests said of one device under one engine, on its way to a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole<'a> {
    /// The engine.
    pub engine: &'a str,
    /// What was looked for.
    pub sought: &'a [Sought],
    /// What was found.
    pub found: &'a Found,
    /// Observations it was fitted to.
    pub rows: usize,
    /// Mean share of each family in what was observed.
    pub shares: &'a [(Family, f64)],
    /// Where the measurements come from.
    pub source: &'a str,
    /// When it was fitted.
    pub date: &'a str,
    /// What was chosen after seeing them.
    pub remark: &'a str,
}

/// The file of one device: its host, factors and what clients wait, before the fits of kernels of `present`.
pub fn whole_text(known: &Known, whole: &Whole<'_>, present: Option<&str>) -> String {
    let Whole { sought, found, engine, .. } = whole;
    let mut out = head(known);
    let number_of = |what: What| value_of(sought, &found.values, what);
    let errors = found.errors.first();
    let notes = {
        let quoted = [whole.source, whole.date, whole.remark].map(quoted);
        let figures = errors.map_or(String::new(), |errors| {
            format!(
                "median_ape = {:.1}\nmape = {:.1}\np90_ape = {:.1}\nbias = {:.1}\nrows = {}\nheld_out = {}\n",
                errors.median_ape, errors.mape, errors.p90_ape, errors.bias, whole.rows, errors.n
            )
        });
        format!("{figures}source = {}\ndate = {}\nremark = {}\n", quoted[0], quoted[1], quoted[2])
    };
    if let Some(h0) = number_of(What::HostStep) {
        let values = [h0, number_of(What::HostSequence).unwrap_or(0.0)];
        out += &format!("\n[[fit]]\nengine = \"{engine}\"\nversion = \"\"\nfamily = \"{}\"\n", Host::FAMILY);
        out += "dtype = \"bf16\"\n";
        for (parameter, value) in Host::PARAMETERS.iter().zip(values) {
            out +=
                &format!("{} = {}\n", parameter.name, number(value.clamp(parameter.least, parameter.most)));
        }
        // Factors carry what error is left.
        out += &format!("error_q = [1.0, 1.0, 1.0, 1.0, 1.0]\n{notes}");
    }
    let is_host = |block: &str| {
        block.contains(&format!("family = \"{}\"", Host::FAMILY))
            && block.contains(&format!("engine = \"{engine}\""))
    };
    for block in present.into_iter().flat_map(|text| fits_and_rest(text).0).filter(|block| !is_host(block)) {
        out += &format!("\n[[fit]]\n{}\n", block.trim_end());
    }
    // Families are taken to be independent where they are added up: each carries so much that the step has the error found.
    let squares: f64 = whole.shares.iter().map(|(_, share)| share * share).sum();
    let wider = 1.0 / squares.max(0.1).sqrt();
    let rising = found.quantiles.map(|quantile| format!("{:.3}", quantile.powf(wider))).join(", ");
    for (one, value) in sought.iter().zip(&found.values) {
        if let What::Family(family) = one.what {
            out += &format!("\n[[factor]]\nengine = \"{engine}\"\nfamily = \"{}\"\n", family.name());
            out += &format!("factor = {}\nerror_q = [{rising}]\n{notes}", number(*value));
        }
    }
    if let Some(api) = number_of(What::Api) {
        let [source, date] = [whole.source, whole.date].map(quoted);
        out += &format!("\n[serving]\napi_latency_s = {}\nrows = {}\n", number(api), whole.rows);
        out += &format!("source = {source}\ndate = {date}\n");
    }
    out
}

/// The fits of a file, and what follows them.
fn fits_and_rest(text: &str) -> (Vec<&str>, &str) {
    let ends = ["\n[[factor]]\n", "\n[serving]\n"].into_iter().filter_map(|mark| text.find(mark));
    let (fits, rest) = text.split_at(ends.min().unwrap_or(text.len()));
    (fits.split("\n[[fit]]\n").skip(1).collect(), rest)
}

fn head(known: &Known) -> String {
    let device = &known.device;
    let facts = [
        ("peak16", device.peak16),
        ("bandwidth", device.bandwidth),
        ("sm", device.sm),
        ("l2", device.l2),
        ("link", known.link.unwrap_or(0.0)),
    ];
    let mut out = format!(
        "schema = 1\ndevice = \"{}\"\narchitecture = \"{}\"\n\n[datasheet]\n",
        known.hardware.name, known.hardware.architecture
    );
    for (name, value) in facts.into_iter().filter(|(_, value)| *value > 0.0) {
        out += &format!("{name} = {}\n", number(value));
    }
    out
}

fn fit(entry: &Entry) -> String {
    let Fitting { numbers, rows, errors, ideal, quantiles, odd, odd_errors, beyond } = &entry.fitting;
    let mut out = format!(
        "\n[[fit]]\nengine = \"{}\"\nversion = \"{}\"\nfamily = \"{}\"\ndtype = \"{}\"\n",
        entry.engine, entry.version, entry.family, entry.dtype
    );
    for (parameter, value) in entry.parameters.iter().zip(&numbers.values) {
        out += &format!("{} = {}\n", parameter.name, number(value.clamp(parameter.least, parameter.most)));
    }
    out += &format!("l2_hot = {}\n", number(numbers.l2_hot));
    for (name, quantiles) in [("error_q", Some(quantiles)), ("odd_q", odd.as_ref())] {
        let Some(quantiles) = quantiles else { continue };
        let quantiles: Vec<String> = quantiles.iter().map(|quantile| format!("{quantile:.3}")).collect();
        out += &format!("{name} = [{}]\n", quantiles.join(", "));
    }
    out += &format!("median_ape = {:.1}\nmape = {:.1}\n", errors.median_ape, errors.mape);
    out += &format!("p90_ape = {:.1}\nbias = {:.1}\n", errors.p90_ape, errors.bias);
    out += &format!("roofline_median_ape = {:.1}\n", ideal.median_ape);
    if let Some(odd) = odd_errors {
        out += &format!("odd_median_ape = {:.1}\nodd_p90_ape = {:.1}\n", odd.median_ape, odd.p90_ape);
        out += &format!("odd_held_out = {}\n", odd.n);
    }
    out += &format!("rows = {rows}\nheld_out = {}\n", errors.n);
    let valid: Vec<String> = entry
        .valid
        .iter()
        .map(|(name, [least, most])| format!("{name} = [{}, {}]", number(*least), number(*most)))
        .collect();
    out += &format!("valid = {{ {} }}\n", valid.join(", "));
    if let Some(beyond) = beyond {
        out += &format!("beyond = {beyond:.2}\n");
    }
    let [source, date, remark] = [&entry.source, &entry.date, &entry.remark].map(|text| quoted(text));
    out + &format!("source = {source}\ndate = {date}\nremark = {remark}\n")
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " "))
}

/// A number with five significant digits, as TOML writes floats.
fn number(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0.0".into();
    }
    let (text, exponent) = if value.abs() >= 1e-3 && value.abs() < 1e7 {
        let digits = (4 - value.abs().log10().floor() as i64).clamp(1, 9) as usize;
        (format!("{value:.digits$}"), String::new())
    } else {
        let text = format!("{value:.4e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        (mantissa.to_string(), format!("e{exponent}"))
    };
    let short = text.trim_end_matches('0');
    let point = if short.ends_with('.') { "0" } else { "" };
    format!("{short}{point}{exponent}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_five_digits() {
        let written = [1.0, 0.123456789, 3.35e12, 2.5e-6, 0.0, 52428800.0].map(number);
        assert_eq!(written, ["1.0", "0.12346", "3.35e12", "2.5e-6", "0.0", "5.2429e7"]);
    }

    #[test]
    fn texts_are_quoted() {
        assert_eq!(quoted("a \"b\"\\c\nd"), r#""a \"b\"\\c d""#);
    }
}
