//! A simulation as a Chrome trace (Trace Event Format), for Perfetto: requests as tracks, the engine's steps, counters.

use std::io::{self, Write};

use super::account::{bound_of, kind_names};
use super::journal::{Journal, Stretch};
use super::requests::Requests;
use super::times::setbacks;
use crate::time::{Ticks, whole_nanos};

/// The process that holds the requests' tracks; replica `i` is process `i + 2`.
const REQUESTS: u32 = 1;

/// Writes everything that happened until `end`, in the order of requests, then of replicas. Needs journals with stretches.
///
/// Times are whole nanoseconds, so that spans nest exactly.
///
/// # Errors
/// Those of the writer.
pub fn write(out: &mut impl Write, requests: &Requests, journals: &[Journal], end: Ticks) -> io::Result<()> {
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    process(out, REQUESTS, "requests")?;
    for (replica, journal) in journals.iter().enumerate() {
        let pid = replica as u32 + 2;
        write!(out, ",")?;
        process(out, pid, &format!("engine, replica {replica}"))?;
        write_requests(out, requests, journal, end)?;
        for stretch in &journal.stretches {
            write_steps(out, journal, stretch, pid)?;
        }
    }
    writeln!(out, "\n]}}")
}

fn process(out: &mut impl Write, pid: u32, name: &str) -> io::Result<()> {
    write!(
        out,
        "\n{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{pid},\"tid\":0,\"args\":{{\"name\":\"{name}\"}}}}"
    )
}

fn write_requests(
    out: &mut impl Write,
    requests: &Requests,
    journal: &Journal,
    end: Ticks,
) -> io::Result<()> {
    let setbacks = setbacks(journal, |row| journal.moments_of(row).map(|of| of.finish.unwrap_or(end)));
    let ids = requests.ids();
    for (&row, moments) in journal.rows.iter().zip(&journal.moments) {
        let place = row as usize;
        let name = serde_json::to_string(ids.row(place))?;
        write!(
            out,
            ",\n{{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":{REQUESTS},\"tid\":{row},\"args\":{{\"name\":{name}}}}}"
        )?;
        if moments.scheduled.is_none() && !moments.waits {
            continue;
        }
        let finish = moments.finish.unwrap_or(end);
        let scheduled = moments.scheduled.unwrap_or(finish);
        let first = moments.first_token.unwrap_or(finish);
        let args = format!(
            "\"prompt_tokens\":{},\"output_tokens\":{},\"cached_tokens\":{},\"preemptions\":{}",
            requests.prompt_tokens[place],
            requests.output_tokens[place],
            requests.cached_tokens[place],
            requests.preemptions[place]
        );
        let mut span = |name: &str, from: Ticks, to: Ticks, args: &str| {
            write_span(out, name, "request", (REQUESTS, row), (from, to), args)
        };
        span("request", moments.arrival, finish, &args)?;
        span("queue", moments.arrival, scheduled, "")?;
        if scheduled < finish {
            span("prefill", scheduled, first, "")?;
        }
        if first < finish {
            span("decode", first, finish, "")?;
        }
        for setback in setbacks.get(&row).map_or(&[][..], Vec::as_slice) {
            // One that straddles the first token belongs to the phase in which it began.
            let to = if setback.from < first { setback.to.min(first) } else { setback.to };
            span("preempted", setback.from, to, "")?;
        }
    }
    Ok(())
}

fn write_steps(out: &mut impl Write, journal: &Journal, stretch: &Stretch, pid: u32) -> io::Result<()> {
    let name = match (stretch.note.prefill_tokens, stretch.note.decode_tokens()) {
        (0, 0) => "preempt",
        (0, _) => "decode",
        (_, 0) => "prefill",
        _ => "mixed",
    };
    let bound = bound_of(stretch).map_or("none", |kind| kind_names()[kind]);
    let args = format!(
        "\"steps\":{},\"sequences\":{},\"prefill_tokens\":{},\"decode_tokens\":{},\"preempted\":{},\"bound\":\"{bound}\"",
        stretch.note.steps,
        stretch.note.sequences,
        stretch.note.prefill_tokens,
        stretch.note.decode_tokens(),
        stretch.note.preempted
    );
    write_span(out, name, "steps", (pid, 0), (stretch.note.start, stretch.note.end), &args)?;
    let at = Micros(whole_nanos(stretch.note.start));
    for (name, value) in [("running", stretch.note.running), ("waiting", stretch.note.waiting)] {
        write!(
            out,
            ",\n{{\"ph\":\"C\",\"name\":\"{name}\",\"pid\":{pid},\"tid\":0,\"ts\":{at},\"args\":{{\"requests\":{value}}}}}"
        )?;
    }
    let usage = f64::from(stretch.note.used_last) / f64::from(journal.usable_blocks.max(1));
    write!(
        out,
        ",\n{{\"ph\":\"C\",\"name\":\"kv_usage\",\"pid\":{pid},\"tid\":0,\"ts\":{at},\"args\":{{\"share\":{usage:.6}}}}}"
    )
}

fn write_span(
    out: &mut impl Write,
    name: &str,
    category: &str,
    (pid, tid): (u32, u32),
    (from, to): (Ticks, Ticks),
    args: &str,
) -> io::Result<()> {
    let (from, to) = (whole_nanos(from), whole_nanos(to));
    write!(
        out,
        ",\n{{\"ph\":\"X\",\"name\":\"{name}\",\"cat\":\"{category}\",\"pid\":{pid},\"tid\":{tid},\"ts\":{},\"dur\":{},\"args\":{{{args}}}}}",
        Micros(from),
        Micros(to - from)
    )
}

/// Nanoseconds, written as the format's microseconds.
struct Micros(i128);

impl std::fmt::Display for Micros {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
