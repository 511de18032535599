//! Reading a trace: from the bytes of a file to columns, with a report of what was found.

use std::path::Path;

use super::columns::Columns;
use super::container::{self, Content};
use super::detect::{self, Detection, Layout};
use super::finish::{self, finish};
use super::format::{Format, Schema};
use super::mistakes::shortened;
use super::number;
use super::options::ReadOptions;
use super::policy::{BlockRule, OnError, TimeUnit, TurnLengths};
use super::records::{Record, Records, fields};
use super::report::{Report, Warning};
use super::{Trace, csv, json, schemas, unfolded};
use crate::error::{Error, Result};

/// Reads the file at `path`; see [`read`].
///
/// # Errors
/// Those of [`read`], and a file that cannot be opened.
pub fn read_file(path: impl AsRef<Path>, options: &ReadOptions) -> Result<(Trace, Report)> {
    let origin = path.as_ref().display().to_string();
    let bytes = std::fs::read(path.as_ref()).map_err(|error| unreadable(&origin, &error))?;
    read(&origin, &bytes, options)
}

/// The error of a file that the system does not let us read; its number tells users nothing.
pub(super) fn unreadable(origin: &str, error: &std::io::Error) -> Error {
    let reason = error.to_string();
    let reason = reason.split(" (os error").next().unwrap_or(&reason);
    Error::trace(origin, 0, "", "the file must be readable", reason)
}

/// Reads a trace from the bytes of a file that the user calls `origin`: JSON Lines, JSON or CSV, plain, gzip or zstd.
///
/// Whatever would change a number is refused, with every kind of mistake at once and where it is; what can be repaired
/// without changing one is, and [`Report::warnings`] says so once with its count. Times are exact: decimals and dates
/// become nanoseconds without passing through a float. The window, the speedup and the limit of `options` are applied
/// at the end, in this order.
///
/// # Errors
/// Files that are no trace or of a format that is not read yet, rows that break a rule (unless they are skipped), and
/// files without a request.
///
/// ```
/// use roofline_sim::trace::{ReadOptions, read};
///
/// let csv = b"arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.31,396,109\n";
/// let (trace, report) = read("day.csv", csv, &ReadOptions::default())?;
/// assert_eq!(trace.arrival_ns, [0, 4_310_000_000]);
/// assert_eq!(report.format.name(), "vidur");
///
/// let error = read("day.jsonl", br#"{"timestamp": 0, "input_lenght": 7, "output_length": 9}"#, &ReadOptions::default());
/// assert_eq!(error.unwrap_err().hint(), "did you mean `input_length` for `input_lenght`?");
/// # Ok::<(), roofline_sim::error::Error>(())
/// ```
pub fn read(origin: &str, bytes: &[u8], options: &ReadOptions) -> Result<(Trace, Report)> {
    let mut reader = Reader::new(options)?;
    reader.part(origin, bytes, 0)?;
    reader.finish()
}

/// Reads several files, each with the name the user knows it by, as one trace.
///
/// # Errors
/// Those of [`read`], and files of different formats.
pub(super) fn read_all(files: &[(String, Vec<u8>)], options: &ReadOptions) -> Result<(Trace, Report)> {
    let mut reader = Reader::new(options)?;
    for (origin, bytes) in files {
        reader.part(origin, bytes, 0)?;
        reader.stop_at_mistakes(origin)?;
    }
    if let (Some((first, _)), Some((last, _))) = (files.first(), files.last()) {
        reader.call(format!("{} files ({first} to {last})", files.len()));
    }
    reader.finish()
}

/// A trace that is read part by part, each the text of a file or of some of its rows.
pub struct Reader {
    options: ReadOptions,
    reading: Option<(Columns, Report)>,
}

impl Reader {
    /// Nothing read yet.
    ///
    /// # Errors
    /// Options that cannot be.
    pub fn new(options: &ReadOptions) -> Result<Reader> {
        options.check()?;
        Ok(Reader { options: options.clone(), reading: None })
    }

    /// Reads the rows of `bytes` behind those before; they stand `lines_before` lines into what the user calls `origin`.
    ///
    /// # Errors
    /// Those of [`read`] that are not about single rows, and a part of another format than those before.
    pub fn part(&mut self, origin: &str, bytes: &[u8], lines_before: u64) -> Result<()> {
        let options = &self.options;
        let (content, mut information) = container::open(origin, bytes)?;
        let text = match content {
            Content::Text(text) => text,
            Content::Parquet(bytes) => {
                let complete = bytes.len() >= 12 && bytes.ends_with(b"PAR1");
                return Err(binary_columns(origin, "Parquet", detect::parquet(&bytes).format, complete));
            }
            Content::Arrow => return Err(binary_columns(origin, "Arrow", Format::Baseten, true)),
        };
        let (detection, layout) = detect::find(origin, &text, options, &mut information)?;
        let schema = schema(origin, &detection, options)?;
        let (columns, report) = match &mut self.reading {
            None => {
                let (columns, report) = self
                    .reading
                    .insert((Columns::new(schema, options), blank_report(origin, detection, information)));
                (columns, report)
            }
            Some((columns, report)) => {
                if columns.format() != detection.format {
                    let must = format!("every file must be of one format ({})", columns.format().name());
                    return Err(Error::trace(origin, 0, "", must, detection.format.name())
                        .hinted("formats differ in units: convert one of them first"));
                }
                for told in information {
                    if !report.information.contains(&told) {
                        report.inform(told);
                    }
                }
                (columns, report)
            }
        };
        match layout {
            Layout::Json(records) => {
                let place = Place { origin, lines_before };
                rows_of_json(&place, &records, columns, report, options)
            }
            Layout::Csv(delimiter) => csv::read(origin, &text, delimiter, columns),
        }
    }

    /// Reports the mistakes so far under the name of the part they are in, where any ends the reading.
    ///
    /// # Errors
    /// Those mistakes.
    pub fn stop_at_mistakes(&mut self, origin: &str) -> Result<()> {
        match &mut self.reading {
            Some((columns, _)) if self.options.on_error == OnError::Stop && !columns.mistakes.is_empty() => {
                Err(std::mem::take(&mut columns.mistakes).into_error(origin, columns.rows, OnError::Stop))
            }
            _ => Ok(()),
        }
    }

    /// Gives what is read a name for the report.
    pub fn call(&mut self, origin: String) {
        if let Some((_, report)) = &mut self.reading {
            report.origin = origin;
        }
    }

    /// The trace of all parts, cut as the options say.
    ///
    /// # Errors
    /// Those of [`read`].
    pub fn finish(self) -> Result<(Trace, Report)> {
        done(self.reading, &self.options)
    }
}

/// The trace of all that was read, cut as the options say.
fn done(reading: Option<(Columns, Report)>, options: &ReadOptions) -> Result<(Trace, Report)> {
    let Some((columns, mut report)) = reading else {
        return Err(Error::trace("trace", 0, "", "at least one file must be named", "none"));
    };
    let mut trace = finish(columns, &mut report, options)?;
    if options.strict && !report.warnings.is_empty() {
        return Err(strictly(&report));
    }
    if let Some((start, end)) = options.window_s {
        trace = trace.window(start, end)?;
    }
    if let Some(factor) = options.speedup {
        trace = trace.speedup(factor)?;
    }
    if let Some(count) = options.limit {
        trace = trace.limit(count);
    }
    if trace.is_empty() {
        let value = format!("none of {}", report.kept);
        return Err(Error::trace(
            &report.origin,
            0,
            "",
            "`--window` and `--limit` must leave requests",
            value,
        ));
    }
    Ok((trace, report))
}

/// The error for a file that had to be repaired.
fn strictly(report: &Report) -> Error {
    let must = "nothing must need repair (`--strict`)";
    let error = |warning: &Warning| {
        Error::trace(&report.origin, warning.first_line, "", must, warning.text.as_str())
            .hinted(warning.hint.as_str())
    };
    let mut errors: Vec<Error> = report.warnings.iter().map(error).collect();
    match errors.len() {
        1 => errors.remove(0),
        _ => Error::Traces { file: report.origin.clone(), errors },
    }
}

/// How the rows of a detected format are read.
fn schema(origin: &str, detection: &Detection, options: &ReadOptions) -> Result<&'static Schema> {
    let format = detection.format;
    let needs_arrivals = matches!(format, Format::VidurLengths | Format::AppliedCompute);
    if needs_arrivals && !options.arrivals_elsewhere {
        let value = format!("no arrival times ({}, {})", format.words(), detection.why);
        return Err(Error::trace(origin, 0, "", "the file must have arrival times", value)
            .hinted(finish::NO_ARRIVALS));
    }
    schemas::of(format).ok_or_else(|| {
        let value = format!("{}, which holds none ({})", format.words(), detection.why);
        Error::trace(origin, 0, "", "the file must hold the lengths of requests", value)
            .hinted(without_lengths(format))
    })
}

/// What helps a user whose file holds no lengths.
fn without_lengths(format: Format) -> &'static str {
    match format {
        Format::BlisHeader => "this is the header: read the CSV file that lies beside it",
        Format::ServeGenClients => {
            "it tells rates, not requests: `--servegen FOLDER` draws requests from all clients of its folder"
        }
        Format::OpenAiBatch => {
            "a batch has limits, not lengths: read the log of its answers, or count its tokens first"
        }
        _ => {
            "it holds text: count its tokens with the model's tokenizer and write fields `arrival_s`, `prompt_tokens`, \
             `output_tokens`; if it is something else, name it with `--trace-format`"
        }
    }
}

fn binary_columns(origin: &str, kind: &str, format: Format, complete: bool) -> Error {
    if !complete {
        return Error::trace(origin, 0, "", "the Parquet file must be complete", "its footer is missing")
            .hinted("the download or the writer was probably interrupted; get the file again");
    }
    let value = format!("{} in {kind}, which is not read here", format.words());
    Error::trace(origin, 0, "", "what is read as text must be JSON Lines, JSON or CSV", value)
        .hinted("the Python package and the command line read it from a file, not from the standard input")
}

fn blank_report(origin: &str, detection: Detection, information: Vec<String>) -> Report {
    Report {
        origin: origin.to_string(),
        format: detection.format,
        why: detection.why,
        time_unit: TimeUnit::Seconds,
        block_size: None,
        rows: 0,
        kept: 0,
        dropped_broken: 0,
        dropped_zero_output: 0,
        origin_ns: 0,
        warnings: Vec::new(),
        information,
    }
}

/// Where a part stands.
struct Place<'a> {
    origin: &'a str,
    lines_before: u64,
}

/// Reads the rows, after the header object that a native file may begin with.
fn rows_of_json(
    place: &Place,
    records: &Records,
    columns: &mut Columns,
    report: &mut Report,
    options: &ReadOptions,
) -> Result<()> {
    let mut rows =
        records.iter().map(|record| Record { line: record.line + place.lines_before, ..record }).peekable();
    let mut repeated = None;
    if columns.format() == Format::Native {
        let head = rows.peek().and_then(|record| fields(record.text).ok());
        let head = head.filter(|head| head.iter().any(|(key, _)| key == "trace"));
        if let Some((head, record)) = head.and_then(|head| Some((head, rows.next()?))) {
            header(place.origin, &record, &head, columns, report, options)?;
            repeated = Some(record.text);
        }
    }
    // Files put one behind the other repeat their header.
    let rows = &mut rows.filter(|row| repeated != Some(row.text)).peekable();
    if columns.format() == Format::AgenticMooncake {
        let head = rows.peek().and_then(|record| fields(record.text).ok()).unwrap_or_default();
        let has = |name: &str| head.iter().any(|(key, _)| key == name);
        let schema = head.iter().any(|(key, _)| key.to_ascii_lowercase().contains("schema"));
        if schema && !has("input_length") && !has("input_tokens") {
            rows.next();
            report.inform("the first line names a schema and is no request: passed over");
        }
    }
    match columns.values.schema.unfold {
        Some(unfold) => unfolded::read(rows, unfold, columns, report),
        None => json::read(rows, columns),
    }
    Ok(())
}

/// Reads the header object of a native file.
fn header(
    origin: &str,
    record: &Record,
    head: &[(String, &str)],
    columns: &mut Columns,
    report: &mut Report,
    options: &ReadOptions,
) -> Result<()> {
    let refuse = |key: &str, must: &str, value: &str| {
        Err(Error::trace(origin, record.line, key, must, shortened(value)))
    };
    let mut unknown = Vec::new();
    for (key, value) in head {
        match (key.as_str(), value.trim_matches('"')) {
            ("trace", "roofline-fast/1") | ("hash_scope", "global") | ("models", _) => {}
            ("turn_lengths", "full") => {
                columns.turn_lengths = options.turn_lengths.or(Some(TurnLengths::Full))
            }
            ("turn_lengths", "delta") => {
                columns.turn_lengths = options.turn_lengths.or(Some(TurnLengths::Delta))
            }
            ("block_rule", "ceil") => columns.block_rule = BlockRule::Ceil,
            ("block_rule", "floor") => columns.block_rule = BlockRule::Floor,
            ("block_rule", "leading") => columns.block_rule = BlockRule::Leading,
            ("block_size", value) => match number::tokens(value.as_bytes()) {
                Ok(size) if size > 0 => {
                    columns.block_size = options.trace_block_size.unwrap_or(size);
                    columns.block_size_told = true;
                }
                _ => return refuse(key, "must be a whole number of tokens, at least 1", value),
            },
            ("time_unit", value) if TimeUnit::named(value).is_some() => {
                let unit = &mut columns.values.options.time_unit;
                *unit = unit.or(TimeUnit::named(value));
            }
            ("trace", value) => return refuse(key, "must be `roofline-fast/1`", value),
            ("hash_scope", value) => return refuse(key, "must be `global`", value),
            ("turn_lengths", value) => return refuse(key, "must be `full` or `delta`", value),
            ("block_rule", value) => return refuse(key, "must be `ceil`, `floor` or `leading`", value),
            ("time_unit", value) => return refuse(key, "must be s, ms, us, ns or datetime", value),
            (key, _) => unknown.push(key.to_string()),
        }
    }
    if !unknown.is_empty() {
        report.inform(format!("ignored fields of the header: {}", unknown.join(", ")));
    }
    Ok(())
}
