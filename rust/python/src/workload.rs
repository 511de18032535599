//! Traffic that is generated, scaled and written: what the trace class hands on to.

use std::path::Path;
use std::sync::atomic::Ordering;

use pyo3::prelude::*;
use roofline_sim::error::Result;
use roofline_sim::stream::Source;
use roofline_sim::trace::{self, Format, Trace};
use roofline_sim::workload::{self, Generated, Parts, Reshape, Spec};

use crate::enter::{Progress, enter, enter_long};
use crate::files;

/// The requests that words and their texts describe, and what was assumed.
///
/// # Errors
/// What [`Spec::parse`] and [`workload::generate`] report.
pub fn generate(
    py: Python<'_>,
    words: &[(String, String)],
    like: Option<&Trace>,
    progress: Option<&Progress>,
) -> PyResult<(Trace, Vec<String>)> {
    let words: Vec<(&str, &str)> = words.iter().map(|(word, text)| (word.as_str(), text.as_str())).collect();
    enter_long(py, progress, |shared| {
        let spec = Spec::parse(&words, like)?;
        shared.total.store(spec.count.unwrap_or(0), Ordering::Relaxed);
        let requests = workload::generate(&spec, &shared.monitor.done, &shared.monitor.cancel)?;
        Ok::<_, roofline_sim::error::Error>((requests, spec.notes))
    })
}

/// Checks words and their texts.
///
/// # Errors
/// What [`Spec::parse`] reports.
pub fn check(py: Python<'_>, words: &[(String, String)]) -> PyResult<()> {
    let words: Vec<(&str, &str)> = words.iter().map(|(word, text)| (word.as_str(), text.as_str())).collect();
    enter(py, || Spec::parse(&words, None).map(drop))
}

/// What words and their texts describe, to be drawn as it is wanted, and the first part of it.
///
/// # Errors
/// What [`Spec::parse`] and [`Parts`] report.
pub fn draw(py: Python<'_>, words: &[(String, String)]) -> PyResult<(Spec, Trace)> {
    let words: Vec<(&str, &str)> = words.iter().map(|(word, text)| (word.as_str(), text.as_str())).collect();
    enter_long(py, None, |shared| {
        let spec = Spec::parse(&words, None)?;
        let source = Generated::new(&spec, &shared.monitor.cancel);
        let first = source.parts()?.next().transpose()?.unwrap_or_default();
        Ok::<_, roofline_sim::error::Error>((spec, first))
    })
}

/// Writes the requests that words and their texts describe to a file, in memory that does not grow with their number:
/// how many they were, and what was assumed.
///
/// # Errors
/// What [`Spec::parse`] and [`Parts`] report, a format that cannot be written, and `OSError` with the file's name.
pub fn generate_to(
    py: Python<'_>,
    words: &[(String, String)],
    format: Format,
    path: &Path,
    progress: Option<&Progress>,
) -> PyResult<(u64, Vec<String>)> {
    let words: Vec<(&str, &str)> = words.iter().map(|(word, text)| (word.as_str(), text.as_str())).collect();
    let (written, notes) = enter_long(py, progress, |shared| {
        let spec = Spec::parse(&words, None)?;
        shared.total.store(spec.count.unwrap_or(0), Ordering::Relaxed);
        trace::left_out(&Trace::default(), format)?;
        let parts = Parts::new(&spec, &shared.monitor.done, &shared.monitor.cancel)?;
        Ok::<_, roofline_sim::error::Error>((trace::write_parts(parts, format, path)?, spec.notes.clone()))
    })?;
    Ok((written.map_err(|error| files::failure(path, &error))?, notes))
}

/// A sample of the requests, reshaped, then copies of it, then at another rate.
///
/// # Errors
/// A share, a scale, a number of copies or a rate that is out of bounds.
pub fn scaled(
    requests: &Trace,
    sample: Option<f64>,
    upsample: Option<u32>,
    target_rps: Option<f64>,
    seed: u64,
    reshape: &Reshape,
) -> Result<Trace> {
    let mut scaled = match sample {
        Some(share) => requests.sample(share, seed)?.reshaped(reshape)?,
        None => requests.reshaped(reshape)?,
    };
    if let Some(copies) = upsample {
        scaled = scaled.upsample(copies, seed)?;
    }
    match target_rps {
        Some(rate) => scaled.at_rate(rate),
        None => Ok(scaled),
    }
}

/// The same requests, arriving as words and their texts say.
///
/// # Errors
/// What [`Trace::arriving`] reports.
pub fn arriving(requests: &Trace, words: &[(String, String)]) -> Result<Trace> {
    let words: Vec<(&str, &str)> = words.iter().map(|(word, text)| (word.as_str(), text.as_str())).collect();
    requests.clone().arriving(&words)
}

/// Writes requests as a file, which appears whole or not at all; what the format cannot hold, in words.
///
/// # Errors
/// A format that cannot be written, and `OSError` carrying the file's name.
pub fn write(
    py: Python<'_>,
    requests: &Trace,
    format: Format,
    path: &Path,
    progress: Option<&Progress>,
) -> PyResult<Vec<&'static str>> {
    let (left_out, written) = enter_long(py, progress, |_| {
        let left_out = trace::left_out(requests, format)?;
        Ok::<_, roofline_sim::error::Error>((left_out, trace::write_file(requests, format, path)))
    })?;
    written.map_err(|error| files::failure(path, &error))?;
    Ok(left_out)
}
