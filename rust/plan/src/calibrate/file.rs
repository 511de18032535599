//! Fits as efficiency files, alone or in place of the same fits of a file there is.

use roofline_core::efficiency::form::Parameter;

use super::devices::Known;
use super::fit::Fitting;

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
    /// The range of each dimension among the rows.
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
    for block in present.into_iter().flat_map(|text| text.split("\n[[fit]]\n").skip(1)) {
        let is = |key: &str, value: &str| block.lines().any(|line| line == format!("{key} = \"{value}\""));
        let replaced = entries.iter().any(|entry| {
            is("engine", &entry.engine) && is("family", entry.family) && is("dtype", &entry.dtype)
        });
        if !replaced {
            out += &format!("\n[[fit]]\n{}\n", block.trim_end());
        }
    }
    out
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
    let Fitting { numbers, rows, errors, ideal, quantiles, odd } = &entry.fitting;
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
    out += &format!("rows = {rows}\nheld_out = {}\n", errors.n);
    let valid: Vec<String> = entry
        .valid
        .iter()
        .map(|(name, [least, most])| format!("{name} = [{}, {}]", number(*least), number(*most)))
        .collect();
    out += &format!("valid = {{ {} }}\n", valid.join(", "));
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
