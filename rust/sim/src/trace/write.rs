//! Writing a trace in the formats that other tools read, and in the native one, which keeps everything.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::carried::{NOT_OBSERVED, NOT_SAID};
use super::native_row::{self, Native};
use super::policy::BlockRule;
use super::sessions::numbered_name;
use super::{BlockHashes, Format, Sessions, Trace, datetime};
use crate::error::Result;
use roofline_core::error::Error;

/// A trace as the bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The file.
    pub bytes: Vec<u8>,
    /// What the trace has and the format cannot hold, in words; empty if nothing is lost.
    pub left_out: Vec<&'static str>,
}

/// Writes a trace as `native`, `mooncake`, `vidur` or `azure_llm`; times to the nanosecond.
///
/// Azure's dates begin on 1970-01-01: a trace does not say on which day it began. A Mooncake file whose hash ids do not
/// stand for 512 tokens must be read with `--trace-block-size`.
///
/// ```
/// use roofline_sim::assemble::TraceColumns;
/// use roofline_sim::trace::{Format, ReadOptions, read, write};
/// let columns = TraceColumns {
///     arrival_s: vec![0.0, 0.25],
///     prompt_tokens: vec![100, 200],
///     output_tokens: vec![10, 20],
///     ..TraceColumns::default()
/// };
/// let trace = columns.assemble()?.trace;
/// let written = write(&trace, Format::Vidur)?;
/// assert_eq!(written.bytes, b"arrived_at,num_prefill_tokens,num_decode_tokens\n0,100,10\n0.25,200,20\n");
/// assert_eq!(read("t.csv", &written.bytes, &ReadOptions::default())?.0, trace);
/// # Ok::<(), roofline_sim::error::Error>(())
/// ```
///
/// # Errors
/// Formats that are only read, and a Mooncake file of requests that wait for others, which it cannot say.
pub fn write(trace: &Trace, format: Format) -> Result<Written> {
    let left_out = left_out(trace, format)?;
    let mut bytes = Vec::new();
    each_part(trace, format, &mut |part| {
        bytes.extend_from_slice(part.as_bytes());
        Ok(())
    })
    .map_err(|error: std::io::Error| Error::spec("to", "must be writable to memory", error, ""))?;
    Ok(Written { bytes, left_out })
}

/// Writes a trace to `path`, compressed where the name ends in `.gz` or `.zst`; the file appears whole or not at all.
///
/// # Errors
/// What the system reports of the file. Whether the format can hold the trace is for [`left_out`] to say.
pub fn write_file(trace: &Trace, format: Format, path: &Path) -> io::Result<()> {
    whole(path, |take| each_part(trace, format, take))
}

/// The same for requests that come some at a time, each part in order of arrival after the one before; how many there
/// were. Memory holds one part.
///
/// # Errors
/// Parts that could not be made, and within the result what the system reports of the file.
pub fn write_parts(
    parts: impl Iterator<Item = Result<Trace>>,
    format: Format,
    path: &Path,
) -> Result<io::Result<u64>> {
    let (mut rows, mut failed, mut first) = (0, None, true);
    let written = whole(path, |take| {
        for part in parts {
            let part = match part {
                Ok(part) => part,
                Err(why) => {
                    failed = Some(why);
                    return Err(io::Error::other("no more parts"));
                }
            };
            if std::mem::take(&mut first) {
                // What later parts hold is not known: any beginning of a prompt may be hashed.
                take(&header(&part, format, part.hashes.as_ref(), Some(BlockRule::Leading)))?;
            }
            rows += part.len() as u64;
            each_row(&part, format, part.hashes.as_ref(), take)?;
        }
        Ok(())
    });
    match failed {
        Some(why) => Err(why),
        None => Ok(written.map(|()| rows)),
    }
}

/// Hands on text.
type Take<'a> = &'a mut dyn FnMut(&str) -> io::Result<()>;

/// Writes a file that appears whole or not at all.
fn whole(path: &Path, text: impl FnOnce(Take<'_>) -> io::Result<()>) -> io::Result<()> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let written = File::create(&aside)
        .and_then(|file| packed(text, &name, file))
        .and_then(|()| std::fs::rename(&aside, path));
    if written.is_err() {
        // What is left aside is of no use; that it cannot be removed changes nothing for the user.
        let _ = std::fs::remove_file(&aside);
    }
    written
}

/// Writes text to a file, packed as its name says.
fn packed(text: impl FnOnce(Take<'_>) -> io::Result<()>, name: &str, mut file: File) -> io::Result<()> {
    if name.ends_with(".gz") {
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        text(&mut |part| packed.write_all(part.as_bytes()))?;
        packed.finish()?;
    } else if name.ends_with(".zst") {
        let mut packed = zstd::stream::write::Encoder::new(file, 0)?;
        text(&mut |part| packed.write_all(part.as_bytes()))?;
        packed.finish()?;
    } else {
        text(&mut |part| file.write_all(part.as_bytes()))?;
    }
    Ok(())
}

/// How much text is handed on at once.
const PART: usize = 1 << 18;

/// The text of a file, part by part: the first lines first.
fn each_part(trace: &Trace, format: Format, take: Take<'_>) -> io::Result<()> {
    // Where the names of prefix groups say the same, a reader makes the paths anew.
    let known = format == Format::Native && native_row::are_of_groups(trace);
    let hashes = trace.hashes.as_ref().filter(|_| !known);
    take(&header(trace, format, hashes, None))?;
    each_row(trace, format, hashes, take)
}

fn each_row(trace: &Trace, format: Format, hashes: Option<&BlockHashes>, take: Take<'_>) -> io::Result<()> {
    let mut text = String::new();
    let native = (format == Format::Native).then(|| Native::of(trace, hashes));
    for row in 0..trace.len() {
        match format {
            Format::Mooncake => mooncake_row(trace, row, &mut text),
            Format::Vidur => table_row(trace, row, decimal(trace.arrival_ns[row], 9), &mut text),
            Format::AzureLlm => table_row(trace, row, date(trace.arrival_ns[row]), &mut text),
            _ => native.iter().for_each(|native| native.row(row, &mut text)),
        }
        if text.len() >= PART {
            take(&text)?;
            text.clear();
        }
    }
    take(&text)
}

/// The first line of a file, if it has one that is no request; `rule` says how prompts are hashed, if that is known.
fn header(trace: &Trace, format: Format, hashes: Option<&BlockHashes>, rule: Option<BlockRule>) -> String {
    let mut text = String::new();
    match format {
        Format::Mooncake => {}
        Format::Vidur => text.push_str("arrived_at,num_prefill_tokens,num_decode_tokens\n"),
        Format::AzureLlm => text.push_str("TIMESTAMP,ContextTokens,GeneratedTokens\n"),
        _ => {
            let mut line = Line::of(&mut text);
            line.words("trace", "roofline-fast/1");
            if let Some(hashes) = hashes {
                let prompts = hashes.offsets.windows(2).zip(&trace.prompt_tokens);
                let prompts = prompts.map(|(pair, prompt)| (pair[1] - pair[0], *prompt));
                line.field("block_size", hashes.block_size);
                let rule = rule.unwrap_or_else(|| BlockRule::of(hashes.block_size, prompts));
                line.words("block_rule", rule.name());
            }
            line.end();
        }
    }
    text
}

/// What of a trace a format cannot hold, in words; empty if nothing is lost.
///
/// # Errors
/// Those of [`write`].
pub fn left_out(trace: &Trace, format: Format) -> Result<Vec<&'static str>> {
    check(trace, format)?;
    let carried = &trace.carried;
    let measured = !(carried.ttft_ns.is_empty() && carried.e2e_ns.is_empty() && carried.tpot_ns.is_empty());
    let waits = trace.sessions.as_ref().is_some_and(|sessions| sessions.waiting() > 0);
    let (mooncake, native) = (format == Format::Mooncake, format == Format::Native);
    let has = [
        ("hash ids", trace.hashes.is_some(), mooncake),
        ("ids", !trace.ids.is_empty(), mooncake),
        ("sessions", trace.sessions.is_some(), mooncake),
        ("what waits for what", waits, false),
        ("priorities", !trace.priority.is_empty(), mooncake),
        ("the model", trace.model.is_some(), mooncake),
        ("models", carried.model.is_some(), mooncake),
        ("prefix groups", carried.prefixes.is_some(), false),
        ("recorded cache hits", !carried.cached_tokens.is_empty(), false),
        ("adapters", carried.lora.is_some(), false),
        ("tenants", carried.tenant.is_some(), false),
        ("turn numbers", !carried.turn.is_empty(), false),
        ("classes of service", carried.slo_class.is_some(), false),
        ("timeouts", !carried.timeout_ns.is_empty(), false),
        ("tokens allowed", !carried.max_output_tokens.is_empty(), false),
        ("tokens of reasoning", !carried.reasoning_tokens.is_empty(), false),
        ("images", !(carried.images.is_empty() && carried.image_tokens.is_empty()), false),
        ("audio and video", !(carried.audio_tokens.is_empty() && carried.video_tokens.is_empty()), false),
        ("deadlines", !carried.deadline_ns.is_empty(), false),
        ("measured times", measured, false),
    ];
    Ok(has.into_iter().filter(|(_, has, held)| *has && !*held && !native).map(|(what, _, _)| what).collect())
}

/// Whether the format can be written, and can say when these requests start.
fn check(trace: &Trace, format: Format) -> Result<()> {
    let waits = trace.sessions.as_ref().is_some_and(|sessions| sessions.waiting() > 0);
    match format {
        Format::Mooncake if waits => {
            let must = "must not be mooncake for requests that wait for others, which it cannot say";
            Err(Error::spec("to", must, "mooncake", "native keeps them").into())
        }
        Format::Native | Format::Mooncake | Format::Vidur | Format::AzureLlm => Ok(()),
        other => {
            let hint = "use native, mooncake, vidur or azure_llm";
            Err(Error::spec("to", "must be a format that is written", other.name(), hint).into())
        }
    }
}

/// A row of a CSV file of arrivals and lengths.
fn table_row(trace: &Trace, row: usize, arrival: String, text: &mut String) {
    let (prompt, output) = (trace.prompt_tokens[row], trace.output_tokens[row]);
    text.push_str(&format!("{arrival},{prompt},{output}\n"));
}

/// A date with a time of day: seven digits of a second as Azure has them, nine where they are needed.
fn date(nanos: u64) -> String {
    let text = datetime::format(i64::try_from(nanos).unwrap_or(i64::MAX));
    let seconds = text[..19].replace('T', " ");
    let fraction = format!("{:09}", nanos % 1_000_000_000);
    let digits = if nanos.is_multiple_of(100) { 7 } else { 9 };
    format!("{seconds}.{}", &fraction[..digits])
}

/// `nanos / 10^digits` as a decimal, exact and as short as can be.
pub(super) fn decimal(nanos: u64, digits: usize) -> String {
    let unit = 10u64.pow(digits as u32);
    let (whole, fraction) = (nanos / unit, nanos % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// One line of JSON, field by field.
pub(super) struct Line<'t> {
    text: &'t mut String,
    fields: u32,
}

impl<'t> Line<'t> {
    /// A line behind those that `text` has.
    pub fn of(text: &'t mut String) -> Line<'t> {
        text.push('{');
        Line { text, fields: 0 }
    }

    pub fn field(&mut self, name: &str, json: impl std::fmt::Display) {
        let comma = if self.fields > 0 { ", " } else { "" };
        self.fields += 1;
        // A text in memory takes whatever is written.
        let _ = write!(self.text, "{comma}\"{name}\": {json}");
    }

    pub fn words(&mut self, name: &str, words: &str) {
        self.field(name, serde_json::Value::from(words));
    }

    pub fn count(&mut self, name: &str, column: &[u32], row: usize) {
        if let Some(count) = column.get(row).filter(|count| **count != NOT_SAID) {
            self.field(name, count);
        }
    }

    pub fn seconds(&mut self, name: &str, column: &[u64], row: usize) {
        if let Some(nanos) = column.get(row).filter(|nanos| **nanos != NOT_OBSERVED) {
            self.field(name, decimal(*nanos, 9));
        }
    }

    pub fn end(self) {
        self.text.push_str("}\n");
    }
}

/// The session of a request as a name.
pub(super) fn session_of(trace: &Trace, row: usize) -> Option<String> {
    let sessions = trace.sessions.as_ref()?;
    let session = Some(sessions.session[row]).filter(|session| *session != Sessions::NONE)? as usize;
    Some(sessions.names.get(session).cloned().unwrap_or_else(|| numbered_name(session)))
}

fn mooncake_row(trace: &Trace, row: usize, text: &mut String) {
    let mut line = Line::of(text);
    line.field("timestamp", decimal(trace.arrival_ns[row], 6));
    line.field("input_length", trace.prompt_tokens[row]);
    line.field("output_length", trace.output_tokens[row]);
    if let Some(hashes) = &trace.hashes {
        line.field("hash_ids", format_args!("{:?}", hashes.path(row)));
    }
    if let Some(id) = trace.ids.get(row) {
        line.words("request_id", id);
    }
    if let Some(session) = session_of(trace, row) {
        line.words("session_id", &session);
    }
    if let Some(priority) = trace.priority.get(row) {
        line.field("priority", priority);
    }
    let own = || trace.carried.model.as_ref()?.name(row);
    if let Some(model) = trace.model.as_deref().or_else(own) {
        line.words("model", model);
    }
    line.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_short() {
        assert_eq!(decimal(1_500_000_000, 9), "1.5");
        assert_eq!(decimal(1, 9), "0.000000001");
        assert_eq!(decimal(2_000_000, 6), "2");
    }

    #[test]
    fn dates_have_ticks_or_nanoseconds() {
        assert_eq!(date(100), "1970-01-01 00:00:00.0000001");
        assert_eq!(date(86_400_000_000_001), "1970-01-02 00:00:00.000000001");
    }

    #[test]
    fn what_is_lost_is_said_and_what_cannot_be_said_refused() {
        let mut trace = Trace {
            arrival_ns: vec![0, 1],
            prompt_tokens: vec![1, 1],
            output_tokens: vec![1, 1],
            sessions: Some(Sessions {
                count: 1,
                names: vec![],
                session: vec![0, 0],
                offsets: vec![0, 0, 0],
                after: vec![],
                delay_ns: vec![],
            }),
            ..Trace::default()
        };
        assert_eq!(write(&trace, Format::Vidur).unwrap().left_out, ["sessions"]);
        assert!(write(&trace, Format::Mooncake).unwrap().left_out.is_empty());
        trace.sessions = Some(Sessions {
            offsets: vec![0, 0, 1],
            after: vec![0],
            delay_ns: vec![5],
            ..trace.sessions.unwrap()
        });
        let refused = write(&trace, Format::Mooncake).unwrap_err();
        assert!(
            refused.to_string().starts_with("to must not be mooncake for requests that wait"),
            "{refused}"
        );
        let other = write(&trace, Format::Bailian).unwrap_err();
        assert_eq!(other.to_string(), "to must be a format that is written: bailian");
    }
}
