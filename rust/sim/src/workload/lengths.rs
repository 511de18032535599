//! How long prompts and answers are: a number, a range, or a distribution by name.

use std::f64::consts::PI;

use roofline_core::error::Error;
use roofline_core::names;

use super::draws::{Draws, zipf};
use super::empirical;
use super::text::{Arguments, Call, whole, within};
use crate::error::Result;
use crate::trace::TOKENS_MAX;

/// A distribution of lengths, tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Length {
    shape: Shape,
    /// What is drawn below becomes this.
    min: u32,
    /// What is drawn above becomes this.
    max: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Fixed(f64),
    /// Whole numbers from one to the other, both included.
    Uniform(u32, u32),
    Normal {
        mean: f64,
        std: f64,
    },
    /// Azzalini's skew-normal with this mean and standard deviation; `slant` is its δ = α/√(1 + α²).
    SkewNormal {
        mean: f64,
        std: f64,
        slant: f64,
    },
    /// Mean and standard deviation of the logarithm.
    LogNormal {
        mu: f64,
        sigma: f64,
    },
    Exponential {
        mean: f64,
    },
    /// `first` + rank − 1, the rank drawn by 1/rankᶿ.
    Zipf {
        first: u32,
        cumulative: Vec<f64>,
    },
    /// A log-normal body; with probability `share` a Pareto tail from `start` on instead.
    ParetoLogNormal {
        mu: f64,
        sigma: f64,
        share: f64,
        start: f64,
        alpha: f64,
    },
    /// Lengths as they were, each as likely.
    Empirical(Vec<u32>),
}

const KNOWN: [&str; 9] = [
    "fixed",
    "uniform",
    "normal",
    "skew-normal",
    "lognormal",
    "exponential",
    "zipf",
    "pareto-lognormal",
    "empirical",
];

/// Beyond, a table of Zipf's weights would take more than 32 MiB.
const ZIPF_MOST: u32 = 1 << 22;

/// What `random_range_ratio` means: two tools give it opposite senses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeStyle {
    /// L(1 − r) to L(1 + r), as `vllm bench serve`.
    Vllm,
    /// rL to L, as SGLang's `bench_serving`.
    Sglang,
}

impl Length {
    /// Always the same.
    pub fn fixed(tokens: u32) -> Length {
        Length { shape: Shape::Fixed(f64::from(tokens)), min: 0, max: TOKENS_MAX }
    }

    /// Reads `512`, `100:200`, `4+-2` (a mean and a standard deviation), `lognormal(mean=300,std=200,min=1,max=4096)`, `empirical(lengths.csv)`, …
    ///
    /// `field` is what the text is the value of (`input_len`), for messages, and for the column of a file.
    ///
    /// ```
    /// use roofline_sim::workload::Length;
    /// assert!(Length::parse("input_len", "lognormal(mean=300, std=200, max=4096)").is_ok());
    /// let error = Length::parse("input_len", "lognormal(300, -1)").unwrap_err();
    /// assert_eq!(error.to_string(), "input_len: lognormal: std must be above 0: -1");
    /// ```
    ///
    /// # Errors
    /// A distribution that is not known, arguments that are missing, unknown or out of bounds, a file of no lengths.
    pub fn parse(field: &str, text: &str) -> Result<Length> {
        let text = text.trim();
        let (least, most) = (u64::from(field == "input_len"), u64::from(TOKENS_MAX));
        if let Some((mean, std)) = text.split_once("+-").or_else(|| text.split_once('±')) {
            return Length::parse(field, &format!("normal(mean={mean},std={std})"));
        }
        if let Some((low, high)) = text.split_once(':').filter(|_| !text.contains('(')) {
            let (low, high) = (whole(field, low, least, most)?, whole(field, high, least, most)?);
            return uniform(field, text, low as u32, high as u32);
        }
        if text.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '+' | '.')) {
            return Ok(Length::fixed(whole(field, text, least, most)? as u32));
        }
        named(field, &Call::parse(field, text)?)
    }

    /// The same number in a range around it, as `random_range_ratio` says.
    ///
    /// # Errors
    /// A ratio out of bounds, or a length that is no fixed number.
    pub(super) fn ranged(self, field: &str, ratio: f64, style: RangeStyle) -> Result<Length> {
        let Shape::Fixed(tokens) = self.shape else {
            let must = format!("must be a number where random_range_ratio is {ratio}");
            let hint = "a range such as `100:200` says both ends itself";
            return Err(Error::spec(field, must, "a distribution", hint).into());
        };
        let (low, high) = match style {
            RangeStyle::Vllm => ((tokens * (1.0 - ratio)).floor(), (tokens * (1.0 + ratio)).ceil()),
            RangeStyle::Sglang => ((tokens * ratio).floor(), tokens),
        };
        Ok(Length { shape: Shape::Uniform(low as u32, high as u32), min: self.min, max: self.max })
    }

    /// The same number as the mean of a normal distribution (`--isl-stddev`).
    ///
    /// # Errors
    /// A length that is no fixed number.
    pub(super) fn deviating(self, field: &str, std: f64) -> Result<Length> {
        let Shape::Fixed(mean) = self.shape else {
            let hint = "`normal(mean,std)` says both itself";
            return Err(Error::spec(field, "must be given with a number", "a distribution", hint).into());
        };
        Ok(Length::normal(mean, std))
    }

    /// A normal distribution, or a fixed length where `std` is 0: `256|10` in a mix.
    pub(super) fn normal(mean: f64, std: f64) -> Length {
        let shape = if std > 0.0 { Shape::Normal { mean, std } } else { Shape::Fixed(mean) };
        Length { shape, min: 0, max: TOKENS_MAX }
    }

    /// Draws a length.
    pub(super) fn draw(&self, stream: &mut Draws) -> u32 {
        let drawn = match &self.shape {
            Shape::Fixed(tokens) => *tokens,
            Shape::Uniform(low, high) => f64::from(*low) + stream.below(u64::from(high - low) + 1) as f64,
            Shape::Normal { mean, std } => mean + std * stream.normal(),
            Shape::SkewNormal { mean, std, slant } => mean + std * skewed(*slant, stream),
            Shape::LogNormal { mu, sigma } => libm::exp(mu + sigma * stream.normal()),
            Shape::Exponential { mean } => mean * stream.exponential(),
            Shape::Zipf { first, cumulative } => f64::from(*first) + stream.weighted(cumulative) as f64,
            Shape::ParetoLogNormal { mu, sigma, share, start, alpha } => {
                if stream.uniform() < *share {
                    start * libm::exp(stream.exponential() / alpha)
                } else {
                    libm::exp(mu + sigma * stream.normal())
                }
            }
            Shape::Empirical(lengths) => f64::from(lengths[stream.below(lengths.len() as u64) as usize]),
        };
        drawn.round().clamp(f64::from(self.min), f64::from(self.max)) as u32
    }
}

/// A skew-normal with mean 0 and standard deviation 1, drawn as δ|a| + √(1 − δ²)·b (Azzalini, 1985).
fn skewed(slant: f64, stream: &mut Draws) -> f64 {
    let raw = slant * stream.normal().abs() + (1.0 - slant * slant).sqrt() * stream.normal();
    let mean = slant * (2.0 / PI).sqrt();
    (raw - mean) / (1.0 - mean * mean).sqrt()
}

/// Mean and standard deviation of the logarithm, from those of the length.
fn of_logarithm(mean: f64, std: f64) -> (f64, f64) {
    let variance = libm::log1p((std / mean).powi(2));
    (libm::log(mean) - variance / 2.0, variance.sqrt())
}

fn uniform(field: &str, text: &str, low: u32, high: u32) -> Result<Length> {
    if low > high {
        let hint = format!("for example `{high}:{low}`");
        return Err(Error::spec(field, "must be a range from the smaller to the larger", text, hint).into());
    }
    Ok(Length { shape: Shape::Uniform(low, high), min: 0, max: TOKENS_MAX })
}

/// The distribution of that name; `D`, `N` and `U` are genai-bench's words.
fn named(field: &str, call: &Call) -> Result<Length> {
    let most = f64::from(TOKENS_MAX);
    let (above, any) = (f64::MIN_POSITIVE, f64::INFINITY);
    let with = |shape: Shape, arguments: &Arguments| bounded(shape, arguments);
    match call.name.as_str() {
        "fixed" | "constant" | "d" => {
            let arguments = call.arguments(&["tokens"])?;
            with(Shape::Fixed(arguments.required("tokens", 0.0, most)?), &arguments)
        }
        "uniform" | "range" | "u" => {
            let arguments = call.arguments(&["min", "max"])?;
            let (low, high) = (arguments.required("min", 0.0, most)?, arguments.required("max", 0.0, most)?);
            uniform(field, &format!("{low}:{high}"), low as u32, high as u32)
        }
        "normal" | "gaussian" | "n" => {
            let arguments = call.arguments(&["mean", "std", "min", "max"])?;
            let (mean, std) = (arguments.required("mean", 0.0, most)?, arguments.required("std", 0.0, most)?);
            with(Shape::Normal { mean, std }, &arguments)
        }
        "skew-normal" | "skewnormal" => {
            let arguments = call.arguments(&["mean", "std", "skew", "min", "max"])?;
            let (mean, std) = (arguments.required("mean", 0.0, most)?, arguments.required("std", 0.0, most)?);
            let alpha = arguments.required("skew", -1e6, 1e6)?;
            with(Shape::SkewNormal { mean, std, slant: alpha / (1.0 + alpha * alpha).sqrt() }, &arguments)
        }
        "lognormal" | "log-normal" => {
            let arguments = call.arguments(&["mean", "std", "min", "max"])?;
            let mean = arguments.required("mean", above, most)?;
            let (mu, sigma) = of_logarithm(mean, arguments.required("std", above, any)?);
            with(Shape::LogNormal { mu, sigma }, &arguments)
        }
        "exponential" => {
            let arguments = call.arguments(&["mean", "min", "max"])?;
            with(Shape::Exponential { mean: arguments.required("mean", above, most)? }, &arguments)
        }
        "zipf" => {
            let arguments = call.arguments(&["theta", "min", "max"])?;
            let theta = arguments.required("theta", 0.0, 100.0)?;
            let (first, last) =
                (arguments.required("min", 0.0, most)?, arguments.required("max", 0.0, most)?);
            if last < first || last - first >= f64::from(ZIPF_MOST) {
                return Err(arguments.broken("must have min <= max, at most 4,194,303 apart").into());
            }
            let cumulative = zipf((last - first) as usize + 1, theta);
            Ok(Length { shape: Shape::Zipf { first: first as u32, cumulative }, min: 0, max: TOKENS_MAX })
        }
        "pareto-lognormal" => {
            let arguments = call.arguments(&["mean", "std", "share", "start", "alpha", "min", "max"])?;
            let mean = arguments.required("mean", above, most)?;
            let (mu, sigma) = of_logarithm(mean, arguments.required("std", above, any)?);
            let share = arguments.required("share", 0.0, 1.0)?;
            let start = arguments.required("start", above, most)?;
            let alpha = arguments.required("alpha", above, 100.0)?;
            with(Shape::ParetoLogNormal { mu, sigma, share, start, alpha }, &arguments)
        }
        "empirical" => {
            let arguments = call.arguments(&["file", "column", "min", "max"])?;
            let lengths =
                empirical::column(field, arguments.required_text("file")?, arguments.text("column"))?;
            with(Shape::Empirical(lengths), &arguments)
        }
        _ => Err(names::unknown("distribution", &call.name, KNOWN).into()),
    }
}

/// The distribution between the `min` and `max` of its arguments.
fn bounded(shape: Shape, arguments: &Arguments) -> Result<Length> {
    let most = f64::from(TOKENS_MAX);
    let (min, max) = (arguments.or("min", 0.0, 0.0, most)?, arguments.or("max", most, 0.0, most)?);
    if min > max {
        return Err(arguments.broken("must have min <= max").into());
    }
    Ok(Length { shape, min: min.ceil() as u32, max: max.floor() as u32 })
}

/// Two lengths with a standard deviation each: `512|20`.
///
/// # Errors
/// No number before or after the bar.
pub(super) fn with_deviation(field: &str, text: &str) -> Result<Length> {
    match text.split_once('|') {
        None => Length::parse(field, text),
        Some((mean, std)) => {
            let most = f64::from(TOKENS_MAX);
            Ok(Length::normal(within(field, mean, 0.0, most)?, within(field, std, 0.0, most)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::draws::Purpose;

    fn drawn(text: &str) -> Vec<f64> {
        let length = Length::parse("input_len", text).unwrap();
        let mut stream = Draws::new(11, Purpose::Prompts);
        (0..20_000).map(|_| f64::from(length.draw(&mut stream))).collect()
    }

    fn refused(text: &str) -> String {
        Length::parse("input_len", text).unwrap_err().to_string()
    }

    #[test]
    fn a_distribution_has_the_mean_and_deviation_it_was_asked_for() {
        let cases = [
            ("512", 512.0, 0.0),
            ("fixed(512)", 512.0, 0.0),
            ("100:300", 200.0, 58.0),
            ("normal(1000, 100)", 1000.0, 100.0),
            ("skew-normal(mean=1000, std=100, skew=5)", 1000.0, 100.0),
            ("lognormal(mean=1000, std=500)", 1000.0, 500.0),
            ("exponential(1000)", 1000.0, 1000.0),
        ];
        for (text, mean, std) in cases {
            let values = drawn(text);
            let n = values.len() as f64;
            let found = values.iter().sum::<f64>() / n;
            let spread = (values.iter().map(|x| (x - found).powi(2)).sum::<f64>() / n).sqrt();
            assert!((found - mean).abs() <= 4.0 * std / n.sqrt(), "{text}: mean {found}");
            assert!((spread - std).abs() <= 0.05 * std, "{text}: std {spread}");
        }
    }

    #[test]
    fn a_skew_has_its_sign() {
        let third = |text: &str| drawn(text).iter().map(|x| ((x - 1000.0) / 100.0).powi(3)).sum::<f64>();
        assert!(third("skew-normal(1000,100,5)") > 0.0);
        assert!(third("skew-normal(1000,100,-5)") < 0.0);
    }

    #[test]
    fn zipf_draws_the_first_value_most() {
        let values = drawn("zipf(theta=1,min=10,max=12)");
        let share = |value: f64| values.iter().filter(|x| **x == value).count() as f64 / values.len() as f64;
        for (value, expected) in [(10.0, 6.0 / 11.0), (11.0, 3.0 / 11.0), (12.0, 2.0 / 11.0)] {
            assert!((share(value) - expected).abs() < 0.015, "{value}: {}", share(value));
        }
    }

    #[test]
    fn a_pareto_tail_is_heavier_than_its_body() {
        let beyond = |text: &str| drawn(text).iter().filter(|x| **x >= 10_000.0).count();
        assert_eq!(beyond("pareto-lognormal(500,100,share=0,start=5000,alpha=1)"), 0);
        let tail = beyond("pareto-lognormal(500,100,share=0.1,start=5000,alpha=1)") as f64;
        assert!((tail - 1000.0).abs() < 130.0, "half of the tail lies beyond twice its start: {tail}");
    }

    #[test]
    fn a_range_ratio_has_the_sense_of_its_tool() {
        let ends = |style| {
            let length = Length::fixed(1000).ranged("input_len", 0.25, style).unwrap();
            let mut stream = Draws::new(1, Purpose::Prompts);
            let values: Vec<u32> = (0..20_000).map(|_| length.draw(&mut stream)).collect();
            (values.iter().min().copied(), values.iter().max().copied())
        };
        assert_eq!(ends(RangeStyle::Vllm), (Some(750), Some(1250)));
        assert_eq!(ends(RangeStyle::Sglang), (Some(250), Some(1000)));
        let range = Length::parse("input_len", "1:2").unwrap();
        assert_eq!(
            range.ranged("input_len", 0.25, RangeStyle::Vllm).unwrap_err().to_string(),
            "input_len must be a number where random_range_ratio is 0.25: a distribution"
        );
    }

    #[test]
    fn every_mistake_says_what_must_hold() {
        let must = |text: &str, message: &str| assert_eq!(refused(text), message, "{text}");
        must("lognormall(1,2)", "no distribution is called `lognormall`");
        must("normal(300,std=-1)", "input_len: normal: std must be between 0 and 2147483647: -1");
        must("lognormal(300,0)", "input_len: lognormal: std must be above 0: 0");
        must("normal(1,1,min=9,max=3)", "input_len: normal must have min <= max: normal(1,1,min=9,max=3)");
        must("200:100", "input_len must be a range from the smaller to the larger: 200:100");
        must("zipf(1,5,4)", "input_len: zipf must have min <= max, at most 4,194,303 apart: zipf(1,5,4)");
        must("-5", "input_len must be a whole number: -5");
        must("1.5", "input_len must be a whole number: 1.5");
        must("3000000000", "input_len must be between 1 and 2147483647: 3000000000");
        let error = Length::parse("input_len", "lognormall(1,2)").unwrap_err();
        assert!(error.hint().starts_with("nearest: lognormal"), "{}", error.hint());
    }
}
