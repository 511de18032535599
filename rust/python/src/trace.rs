//! Traces: from files in any format that is known, and from columns.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use roofline_core::error::{Error, Result};
use roofline_core::names;
use roofline_core::table::{Column, Table as Rows};
use roofline_sim::assemble::{Assembled, TraceColumns, Turns};
use roofline_sim::error as trace_error;
use roofline_sim::trace::{
    self, Carried, FieldMap, Format, Labels, NOT_OBSERVED, NOT_SAID, OnError, PriorityOrder, ReadOptions,
    Reader, Report, TimeFormat, TimeUnit, Trace as Requests, TurnLengths, ZeroOutput,
};
use roofline_sim::workload::{Reshape, Spec};

use crate::columns;
use crate::enter::{Progress, enter, enter_long};
use crate::table::Table;
use crate::workload;

/// How a trace is read; what is left out trusts detection and refuses what would change the numbers.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct TraceOptions {
    options: ReadOptions,
}

#[pymethods]
impl TraceOptions {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords of a constructor, one a field")]
    #[pyo3(signature = (*, format=None, time_unit=None, on_error="stop", zero_output=None, trace_block_size=None,
        require_sorted=false, priority_order="lower-first", csv_delimiter=None, csv_decimal=".", window_s=None,
        speedup=None, limit=None, default_output_tokens=None, turn_lengths=None, strict=false, map=None,
        columns=None, time_format=None, arrivals_elsewhere=false))]
    fn new(
        py: Python<'_>,
        format: Option<&str>,
        time_unit: Option<&str>,
        on_error: &str,
        zero_output: Option<&str>,
        trace_block_size: Option<u32>,
        require_sorted: bool,
        priority_order: &str,
        csv_delimiter: Option<char>,
        csv_decimal: &str,
        window_s: Option<(f64, f64)>,
        speedup: Option<f64>,
        limit: Option<usize>,
        default_output_tokens: Option<u32>,
        turn_lengths: Option<&str>,
        strict: bool,
        map: Option<Vec<String>>,
        columns: Option<&str>,
        time_format: Option<&str>,
        arrivals_elsewhere: bool,
    ) -> PyResult<TraceOptions> {
        let options = enter(py, || {
            let map =
                map.iter().flatten().map(|text| FieldMap::parse(text)).collect::<trace_error::Result<_>>()?;
            let options = ReadOptions {
                format: format.map(format_named).transpose()?,
                time_unit: time_unit.map(|name| among("time_unit", name, &TIME_UNITS)).transpose()?,
                on_error: among("on_error", on_error, &ON_ERROR)?,
                zero_output: zero_output.map(|name| among("zero_output", name, &ZERO_OUTPUT)).transpose()?,
                trace_block_size,
                require_sorted,
                priority_order: among("priority_order", priority_order, &PRIORITY_ORDER)?,
                csv_delimiter: csv_delimiter.map(one_byte).transpose()?,
                decimal_comma: among("csv_decimal", csv_decimal, &[(".", false), (",", true)])?,
                window_s,
                speedup,
                limit,
                default_output_tokens,
                turn_lengths: turn_lengths
                    .map(|name| among("turn_lengths", name, &TURN_LENGTHS))
                    .transpose()?,
                strict,
                map,
                columns: Vec::new(),
                time_format: time_format.map(TimeFormat::parse).transpose()?,
                arrivals_elsewhere,
            };
            match columns {
                Some(text) => options.with_columns(text),
                None => Ok::<_, trace_error::Error>(options),
            }
        })?;
        Ok(TraceOptions { options })
    }
}

const TIME_UNITS: [(&str, TimeUnit); 5] = [
    ("s", TimeUnit::Seconds),
    ("ms", TimeUnit::Millis),
    ("us", TimeUnit::Micros),
    ("ns", TimeUnit::Nanos),
    ("datetime", TimeUnit::DateTime),
];
const ON_ERROR: [(&str, OnError); 2] = [("stop", OnError::Stop), ("skip", OnError::Skip)];
const ZERO_OUTPUT: [(&str, ZeroOutput); 3] =
    [("drop", ZeroOutput::Drop), ("prefill", ZeroOutput::Prefill), ("one", ZeroOutput::One)];
const PRIORITY_ORDER: [(&str, PriorityOrder); 2] =
    [("lower-first", PriorityOrder::LowerFirst), ("higher-first", PriorityOrder::HigherFirst)];

const TURN_LENGTHS: [(&str, TurnLengths); 2] = [("full", TurnLengths::Full), ("delta", TurnLengths::Delta)];

/// A workload in columns, sorted by arrival.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Trace {
    pub requests: Assembled,
    /// What reading it found, where it was read.
    report: Option<Report>,
    /// What draws all requests as they are wanted; those that are held are then the first of them.
    pub drawn: Option<Spec>,
}

#[pymethods]
impl Trace {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords of a constructor, one a column")]
    #[pyo3(signature = (arrival_s, prompt_tokens, output_tokens, *, ids=None, priority=None, block_hashes=None,
        block_size=None, segments=None, segment_lengths=None, output_segment=None, session=None, after=None,
        delay_s=None))]
    fn new(
        arrival_s: &Bound<'_, PyAny>,
        prompt_tokens: &Bound<'_, PyAny>,
        output_tokens: &Bound<'_, PyAny>,
        ids: Option<&Bound<'_, PyAny>>,
        priority: Option<&Bound<'_, PyAny>>,
        block_hashes: Option<&Bound<'_, PyAny>>,
        block_size: Option<u32>,
        segments: Option<&Bound<'_, PyAny>>,
        segment_lengths: Option<&Bound<'_, PyAny>>,
        output_segment: Option<&Bound<'_, PyAny>>,
        session: Option<&Bound<'_, PyAny>>,
        after: Option<&Bound<'_, PyAny>>,
        delay_s: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Trace> {
        let lists = |column: Option<&Bound<'_, PyAny>>, field: &str| {
            column.map(|column| columns::lists(column, field)).transpose()
        };
        let columns = TraceColumns {
            arrival_s: columns::floats(arrival_s, "arrival_s")?,
            prompt_tokens: columns::counts(prompt_tokens, "prompt_tokens")?,
            output_tokens: columns::counts(output_tokens, "output_tokens")?,
            ids: ids.map_or(Ok(Vec::new()), |ids| columns::texts(ids, "ids"))?,
            priority: priority.map_or(Ok(Vec::new()), |priority| columns::integers(priority, "priority"))?,
            block_hashes: lists(block_hashes, "block_hashes")?,
            block_size,
            segments: lists(segments, "segments")?,
            segment_lengths: lists(segment_lengths, "segment_lengths")?,
            output_segment: output_segment
                .map_or(Ok(Vec::new()), |segments| columns::counts(segments, "output_segment"))?,
            turns: Turns {
                session: session.map_or(Ok(Vec::new()), |names| columns::texts(names, "session"))?,
                after: lists(after, "after")?,
                delay_s: delay_s.map_or(Ok(Vec::new()), |delays| columns::floats(delays, "delay_s"))?,
            },
        };
        let requests = enter(arrival_s.py(), || columns.assemble())?;
        Ok(Trace { requests, report: None, drawn: None })
    }

    /// The trace that files hold: JSON Lines, JSON or CSV, plain, gzip or zstd, in any format that is known.
    ///
    /// A name is a file, a folder, a pattern, or `-` for the standard input.
    #[staticmethod]
    #[pyo3(signature = (names, options=None, progress=None))]
    fn read(
        py: Python<'_>,
        names: Vec<String>,
        options: Option<&TraceOptions>,
        progress: Option<&Progress>,
    ) -> PyResult<Trace> {
        let options = options.map_or_else(ReadOptions::default, |options| options.options.clone());
        let (requests, report) = enter_long(py, progress, |_| trace::read_files(&names, &options))?;
        Ok(Trace { requests: requests.into(), report: Some(report), drawn: None })
    }

    /// The files that a name stands for: itself, those of a folder, or those of a pattern.
    #[staticmethod]
    fn files(py: Python<'_>, name: &str) -> PyResult<Vec<PathBuf>> {
        enter(py, || trace::paths(name))
    }

    /// The trace of texts that come one after the other, each with the file it is from and its lines before the text.
    #[staticmethod]
    #[pyo3(signature = (parts, origin, options=None))]
    fn read_parts(
        py: Python<'_>,
        parts: &Bound<'_, PyAny>,
        origin: String,
        options: Option<&TraceOptions>,
    ) -> PyResult<Trace> {
        let options = options.map_or_else(ReadOptions::default, |options| options.options.clone());
        let mut reader = enter(py, || Reader::new(&options))?;
        for part in parts.try_iter()? {
            let (file, text, lines_before): (String, PyBackedBytes, u64) = part?.extract()?;
            reader = enter_long(py, None, move |_| {
                reader.part(&file, &text, lines_before)?;
                reader.stop_at_mistakes(&file)?;
                Ok::<_, trace_error::Error>(reader)
            })?;
        }
        reader.call(origin);
        let (requests, report) = enter_long(py, None, |_| reader.finish())?;
        Ok(Trace { requests: requests.into(), report: Some(report), drawn: None })
    }

    /// Traffic that words and their texts describe, like that of a trace if one is given; and what was assumed.
    #[staticmethod]
    #[pyo3(signature = (words, like=None, progress=None))]
    fn generate(
        py: Python<'_>,
        words: Vec<(String, String)>,
        like: Option<&Trace>,
        progress: Option<&Progress>,
    ) -> PyResult<(Trace, Vec<String>)> {
        let like = like.map(|trace| &trace.requests.trace);
        let (requests, notes) = workload::generate(py, &words, like, progress)?;
        Ok((Trace { requests: requests.into(), report: None, drawn: None }, notes))
    }

    /// Checks words and their texts; what they are about need not be there yet.
    #[staticmethod]
    fn check(py: Python<'_>, words: Vec<(String, String)>) -> PyResult<()> {
        workload::check(py, &words)
    }

    /// The same, of which only the first are drawn before it is served; and what was assumed.
    #[staticmethod]
    fn draw(py: Python<'_>, words: Vec<(String, String)>) -> PyResult<(Trace, Vec<String>)> {
        let (spec, first) = workload::draw(py, &words)?;
        let notes = spec.notes.clone();
        Ok((Trace { requests: first.into(), report: None, drawn: Some(spec) }, notes))
    }

    /// The same written to a file as it is drawn, never all in memory; how many requests, and what was assumed.
    #[staticmethod]
    #[pyo3(signature = (words, path, format="native", progress=None))]
    fn generate_to(
        py: Python<'_>,
        words: Vec<(String, String)>,
        path: PathBuf,
        format: &str,
        progress: Option<&Progress>,
    ) -> PyResult<(u64, Vec<String>)> {
        let format = enter(py, || format_named(format))?;
        workload::generate_to(py, &words, format, &path, progress)
    }

    /// A sample of it, then copies of that side by side, then at another rate.
    #[expect(clippy::too_many_arguments, reason = "keywords, one a setting")]
    #[pyo3(signature = (*, sample=None, upsample=None, target_rps=None, seed=0, isl_scale=None, osl_scale=None,
        prefix_scale=None, max_isl=None, max_osl=None, idle_gap_cap=None, turn_delay_cap=None))]
    fn scaled(
        &self,
        py: Python<'_>,
        sample: Option<f64>,
        upsample: Option<u32>,
        target_rps: Option<f64>,
        seed: u64,
        isl_scale: Option<f64>,
        osl_scale: Option<f64>,
        prefix_scale: Option<f64>,
        max_isl: Option<u32>,
        max_osl: Option<u32>,
        idle_gap_cap: Option<f64>,
        turn_delay_cap: Option<f64>,
    ) -> PyResult<Trace> {
        let trace = self.without_segments(py)?;
        let reshape = Reshape {
            scales: (isl_scale, osl_scale),
            prefix_scale,
            most: (max_isl, max_osl),
            idle_gap_cap_s: idle_gap_cap,
            turn_delay_cap_s: turn_delay_cap,
        };
        let scale = |_: &_| workload::scaled(trace, sample, upsample, target_rps, seed, &reshape);
        let requests = enter_long(py, None, scale)?;
        Ok(Trace { requests: requests.into(), report: self.report.clone(), drawn: None })
    }

    /// The same requests, arriving as words and their texts say.
    fn arriving(&self, py: Python<'_>, words: Vec<(String, String)>) -> PyResult<Trace> {
        let trace = self.without_segments(py)?;
        let requests = enter_long(py, None, |_| workload::arriving(trace, &words))?;
        Ok(Trace { requests: requests.into(), report: self.report.clone(), drawn: None })
    }

    /// Writes it as a file that appears whole or not at all; what the format cannot hold, in words.
    #[pyo3(signature = (path, format="native", progress=None))]
    fn write(
        &self,
        py: Python<'_>,
        path: PathBuf,
        format: &str,
        progress: Option<&Progress>,
    ) -> PyResult<Vec<&'static str>> {
        let trace = self.without_segments(py)?;
        let format = enter(py, || format_named(format))?;
        workload::write(py, trace, format, &path, progress)
    }

    fn __len__(&self) -> usize {
        let all = self.drawn.as_ref().and_then(|spec| spec.count);
        all.map_or(self.requests.trace.len(), |count| usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// The model the file names, if it names exactly one.
    #[getter]
    fn model(&self) -> Option<&str> {
        self.requests.trace.model.as_deref()
    }

    /// One row a request: `request_id, arrival_s, prompt_tokens, output_tokens`, and what else the file has.
    #[getter]
    fn requests(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, request_table(&self.requests.trace))
    }

    /// What it is like, as rows of `metric, value, unit`; what is not known is null.
    fn inspect(&self, py: Python<'_>) -> PyResult<Table> {
        let warnings = self.report.as_ref().map_or(&[][..], |report| &report.warnings);
        let measure = |_: &_| Ok::<_, Error>(trace::inspect(&self.requests.trace, warnings).table());
        let table = enter_long(py, None, measure)?;
        Table::new(py, table)
    }

    /// The same numbers by name, without a frame.
    #[getter]
    fn metrics(&self, py: Python<'_>) -> PyResult<Vec<(String, Option<f64>)>> {
        let measure = |_: &_| Ok::<_, Error>(trace::inspect(&self.requests.trace, &[]).rows());
        let rows = enter_long(py, None, measure)?;
        Ok(rows.into_iter().map(|(name, value, _)| (name, value)).collect())
    }

    /// What one line about it says, by name.
    #[getter]
    fn outline(&self) -> Vec<(String, Option<f64>)> {
        self.requests.trace.outline().into_iter().map(|(name, value, _)| (name, value)).collect()
    }

    /// How rate and burstiness change: one row a window of so many seconds; of a length of its own choice unless said.
    #[pyo3(signature = (window_s=None))]
    fn windows(&self, py: Python<'_>, window_s: Option<f64>) -> PyResult<Table> {
        let trace = &self.requests.trace;
        let (_, span) = trace.arrival_ns.first().zip(trace.arrival_ns.last()).unwrap_or((&0, &0));
        let seconds = window_s.or_else(|| trace.telling_window_s()).unwrap_or(*span as f64 / 1e9 + 1.0);
        let table = enter_long(py, None, |_| trace.window_table(seconds))?;
        Table::new(py, table)
    }

    /// The file as the user named it; `None` for a trace made of columns, as all that follows.
    #[getter]
    fn origin(&self) -> Option<&str> {
        self.report.as_ref().map(|report| report.origin.as_str())
    }

    /// What it was read as (`mooncake`).
    #[getter]
    fn format(&self) -> Option<&'static str> {
        self.report.as_ref().map(|report| report.format.name())
    }

    /// By what it was recognised.
    #[getter]
    fn why(&self) -> Option<&str> {
        self.report.as_ref().map(|report| report.why.as_str())
    }

    /// The unit its arrivals were read in (`ms`).
    #[getter]
    fn time_unit(&self) -> Option<&'static str> {
        self.report.as_ref().map(|report| report.time_unit.name())
    }

    /// Tokens of a hash id, where it has hash ids.
    #[getter]
    fn block_size(&self) -> Option<u32> {
        self.requests.trace.hashes.as_ref().map(|hashes| hashes.block_size)
    }

    /// What was repaired: text, how many rows, the first line, and what changes the reading.
    #[getter]
    fn warnings(&self) -> Vec<(String, u64, u64, String)> {
        let said = |warning: &trace::Warning| {
            (warning.text.clone(), warning.count, warning.first_line, warning.hint.clone())
        };
        self.report.iter().flat_map(|report| report.warnings.iter().map(said)).collect()
    }

    /// What was assumed.
    #[getter]
    fn information(&self) -> Vec<String> {
        self.report.as_ref().map_or_else(Vec::new, |report| report.information.clone())
    }
}

impl Trace {
    /// Its requests, unless they share tokens by segments, which neither a file nor a copy could say, or are not all there.
    fn without_segments(&self, py: Python<'_>) -> PyResult<&Requests> {
        enter(py, || match (&self.requests.segments, &self.drawn) {
            (None, None) => Ok(()),
            (_, Some(_)) => {
                let hint = "generate it with `Trace.generate`, or to a file with `Trace.generate_to`";
                Err(Error::spec("trace", "must be all in memory", "drawn as it is served", hint))
            }
            (Some(_), None) => {
                let hint = "give `block_hashes` instead: they can be written and copied";
                Err(Error::spec(
                    "segments",
                    "must be left out of a trace that is scaled or written",
                    "given",
                    hint,
                ))
            }
        })?;
        Ok(&self.requests.trace)
    }
}

fn request_table(trace: &Requests) -> Rows {
    let mut table = Rows::new()
        .with("request_id", Column::Texts(trace.request_ids()))
        .with("arrival_s", Column::F64(trace.arrival_ns.iter().map(|ns| *ns as f64 / 1e9).collect()))
        .with("prompt_tokens", Column::U32(trace.prompt_tokens.clone()))
        .with("output_tokens", Column::U32(trace.output_tokens.clone()));
    if !trace.priority.is_empty() {
        table.push("priority", Column::I64(trace.priority.iter().copied().map(i64::from).collect()));
    }
    push_carried(&mut table, &trace.carried);
    table
}

/// Adds what some formats carry besides, where the file had it.
fn push_carried(table: &mut Rows, carried: &Carried) {
    let labels = |labels: &Labels| {
        Column::OptStr((0..labels.of.len()).map(|row| labels.name(row).map(str::to_string)).collect())
    };
    if let Some(prefixes) = &carried.prefixes {
        table.push("prefix_group", labels(&prefixes.group));
        table.push("prefix_tokens", Column::U32(prefixes.tokens.clone()));
    }
    if let Some(models) = &carried.model {
        table.push("model", labels(models));
    }
    if let Some(lora) = &carried.lora {
        table.push("lora", labels(lora));
    }
    if let Some(tenant) = &carried.tenant {
        table.push("tenant", labels(tenant));
    }
    if let Some(classes) = &carried.slo_class {
        table.push("slo_class", labels(classes));
    }
    let counts = [
        ("recorded_cached_tokens", &carried.cached_tokens),
        ("images", &carried.images),
        ("image_tokens", &carried.image_tokens),
        ("audio_tokens", &carried.audio_tokens),
        ("video_tokens", &carried.video_tokens),
    ];
    for (name, column) in counts.into_iter().filter(|(_, column)| !column.is_empty()) {
        table.push(name, Column::U32(column.clone()));
    }
    let told = [
        ("turn", &carried.turn),
        ("max_output_tokens", &carried.max_output_tokens),
        ("reasoning_tokens", &carried.reasoning_tokens),
    ];
    let said = |count: &u32| (*count != NOT_SAID).then_some(u64::from(*count));
    for (name, column) in told.into_iter().filter(|(_, column)| !column.is_empty()) {
        table.push(name, Column::OptU64(column.iter().map(said).collect()));
    }
    let times = [
        ("deadline_s", &carried.deadline_ns),
        ("timeout_s", &carried.timeout_ns),
        ("observed_ttft_s", &carried.ttft_ns),
        ("observed_e2e_s", &carried.e2e_ns),
        ("observed_tpot_s", &carried.tpot_ns),
    ];
    let seconds = |ns: &u64| (*ns != NOT_OBSERVED).then(|| *ns as f64 / 1e9);
    for (name, column) in times.into_iter().filter(|(_, column)| !column.is_empty()) {
        table.push(name, Column::OptF64(column.iter().map(seconds).collect()));
    }
}

fn format_named(name: &str) -> Result<Format> {
    let known = Format::ALL.iter().map(|format| format.name());
    Format::named(name).ok_or_else(|| names::unknown("trace format", name, known))
}

fn among<T: Copy>(kind: &'static str, name: &str, known: &[(&str, T)]) -> Result<T> {
    let found = known.iter().find(|(candidate, _)| *candidate == name);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| names::unknown(kind, name, known.iter().map(|(name, _)| *name)))
}

fn one_byte(delimiter: char) -> Result<u8> {
    let hint = "use one of , ; | or a tab";
    u8::try_from(delimiter).map_err(|_| Error::spec("csv_delimiter", "must be one byte", delimiter, hint))
}
