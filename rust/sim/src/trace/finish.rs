//! The last stage of reading: what can only be judged over the whole file, then time order and the origin of time.

use roofline_core::names;
use rustc_hash::FxHashMap;

use super::columns::{Columns, Idle};
use super::detect;
use super::format::{Alias, Format, Parents, Slot};
use super::history::Repeats;
use super::links::Resolved;
use super::mistakes::shortened;
use super::options::ReadOptions;
use super::policy::{BlockRule, OnError, TimeUnit, TurnLengths, ZeroOutput};
use super::report::Report;
use super::sessions::Noticed;
use super::values::{MISSING, Tallies, Tally};
use super::{Sessions, Trace, datetime, prefix_groups};
use crate::error::{Error, Result};

/// Turns the columns of a file into a trace, and tells the report what was repaired on the way.
///
/// # Errors
/// The mistakes of the rows (unless they are skipped), a field that no row has, and files without a request.
pub(super) fn finish(mut columns: Columns, report: &mut Report, options: &ReadOptions) -> Result<Trace> {
    report.rows = columns.rows;
    report.time_unit = columns.values.arrival_unit();
    named_in_vain(&columns, &report.origin)?;
    columns_everywhere_missing(&columns, &report.origin)?;
    let (resolved, kept) = resolve(&mut columns, report);
    let mistakes = std::mem::take(&mut columns.mistakes);
    report.dropped_broken = mistakes.rows;
    for (text, count, line) in mistakes.told() {
        report.warn(text, count, line, "");
    }
    let broken = !mistakes.is_empty();
    if broken
        && (options.on_error == OnError::Stop || kept.as_ref().map_or(columns.arrival.len(), Vec::len) == 0)
    {
        return Err(mistakes.into_error(&report.origin, columns.rows, options.on_error));
    }
    if broken {
        let (kept, rows) = (kept.as_ref().map_or(columns.arrival.len(), Vec::len), columns.rows);
        report.inform(format!("{kept} of {rows} rows kept, {} left out", report.dropped_broken));
    }
    if columns.arrival.is_empty() {
        return Err(without_requests(&columns, report));
    }
    told(&mut columns, report, options)?;
    assemble(columns, resolved, kept, report)
}

/// Works out what waits for what; the rows that can start, if some can not.
fn resolve(columns: &mut Columns, report: &mut Report) -> (Resolved, Option<Vec<u32>>) {
    let parents = columns.values.schema.parents;
    let Some(sessions) = &mut columns.sessions else { return (Resolved::default(), None) };
    let mut links = sessions.take_links();
    let named = columns.values.schema.aliases.iter().find(|alias| alias.slot == Slot::After);
    links.field = named.map_or("", |alias| alias.name);
    let mut resolved = links.resolve(&mut columns.arrival, &columns.ids, parents);
    if resolved.orphans > 0 {
        let text = "a request follows one that the trace does not have: read as the first of its session";
        report.warn(text, resolved.orphans, resolved.first_line, "");
    }
    if resolved.cycles > 0 {
        let text =
            "requests follow each other in a circle: the first of them is read as the first of its session";
        report.warn(text, resolved.cycles, resolved.first_line, "");
    }
    if resolved.refused.is_empty() {
        return (resolved, None);
    }
    let mut starts = vec![true; columns.arrival.len()];
    for (row, line, mistake) in std::mem::take(&mut resolved.refused) {
        starts[row as usize] = false;
        columns.mistakes.add(line, mistake);
    }
    let kept: Vec<u32> = (0..starts.len() as u32).filter(|row| starts[*row as usize]).collect();
    columns.arrival_of_kept(&kept);
    (resolved, Some(kept))
}

/// The names of the fields that any row has.
fn found(columns: &Columns) -> Vec<String> {
    let known = (0..columns.aliases().len()).filter(|place| columns.seen >> place & 1 == 1);
    known.map(|place| columns.called(place as u8)).chain(columns.unknown.iter().cloned()).collect()
}

/// The error for a field that the user named and that has no effect.
fn named_in_vain(columns: &Columns, origin: &str) -> Result<()> {
    let Some((map, idle)) = columns.idle_map().filter(|_| columns.rows > 0) else { return Ok(()) };
    let (field, format) = (map.field.as_str(), columns.format().name());
    let given = format!("{} ({format} has no such thing)", map.native);
    if idle == Idle::Meaningless {
        return Err(Error::trace(origin, 0, "", "`--map` must name what the format holds", given)
            .hinted("`--trace-format native` takes every field by the names it is given"));
    }
    let found = found(columns);
    let near = names::nearest(field, found.iter().map(String::as_str), 1).into_iter().next();
    let near = near.filter(|name| names::edit_distance(name, field) <= detect::slip(name));
    let hint = near.map_or_else(String::new, |name| format!("did you mean `{name}`?"));
    let value = format!("{field} (found {})", shortened(&found.join(", ")));
    Err(Error::trace(origin, 0, "", "`--map` must name a field of the file", value).hinted(hint))
}

/// The error for a file in which no row at all has a field that no request is without.
fn columns_everywhere_missing(columns: &Columns, origin: &str) -> Result<()> {
    let aliases = columns.values.schema.aliases;
    let options = &columns.values.options;
    let dropped = match options.zero_output.unwrap_or(columns.values.schema.zero_output) {
        ZeroOutput::Drop => columns.values.tallies.zero_output.count,
        _ => 0,
    };
    for (slot, what) in
        [(Slot::Arrival, "arrival times"), (Slot::Prompt, "prompt lengths"), (Slot::Output, "output lengths")]
    {
        let names: Vec<&str> =
            aliases.iter().filter(|alias| alias.slot == slot).map(|alias| alias.name).collect();
        let (Some(first), false) = (names.first(), columns.rows == 0) else { continue };
        let missing = columns.mistakes.count(first, MISSING);
        if missing == 0 || missing + dropped < columns.rows {
            continue;
        }
        let found = found(columns);
        let more = if names.len() > LOOKED_FOR { ", …" } else { "" };
        let looked = names[..names.len().min(LOOKED_FOR)].join(", ");
        let value = format!("no {what} (looked for {looked}{more}; found {})", found.join(", "));
        let hint = detect::misspelt(&found).unwrap_or_else(|| match slot {
            Slot::Arrival => NO_ARRIVALS.to_string(),
            Slot::Output => {
                "name the field: `--map output=FIELD`, or set `--default-output-tokens`".to_string()
            }
            _ => "name the field: `--map input=FIELD`".to_string(),
        });
        return Err(Error::trace(origin, 0, "", format!("the file must have {what}"), value).hinted(hint));
    }
    Ok(())
}

/// How many names of a field are told.
const LOOKED_FOR: usize = 5;

/// What helps a file that says how long requests are, not when they come.
pub(super) const NO_ARRIVALS: &str =
    "say what load to put in their place: `--request-rate 4` (with `--arrivals`), or `--concurrency 8`";

fn without_requests(columns: &Columns, report: &Report) -> Error {
    let name = report.format.name();
    let value = match columns.rows {
        0 => format!("a header ({name}) but no rows"),
        rows => format!("{rows} rows, all without output"),
    };
    let hint = if columns.rows > 0 { "`--zero-output prefill` keeps them" } else { "" };
    Error::trace(&report.origin, 0, "", "the file must hold requests", value).hinted(hint)
}

/// Tells what the rows had, and refuses what the options refuse.
fn told(columns: &mut Columns, report: &mut Report, options: &ReadOptions) -> Result<()> {
    let Tallies {
        repeated_key,
        quoted,
        zero_output,
        hash_mismatch,
        back_in_time,
        default_output,
        failed,
        largest_step_ns,
        zoned,
        unzoned,
        fractional,
    } = std::mem::take(&mut columns.values.tallies);
    if failed.count > 0 {
        report.inform(format!("{} of {} requests failed: passed over", failed.count, columns.rows));
    }
    let mut warn = |tally: &Tally, text: String, hint: &str| {
        if tally.count > 0 {
            report.warn(text, tally.count, tally.first_line, hint);
        }
    };
    let rows = columns.rows;
    let key = &repeated_key.detail;
    warn(&repeated_key, format!("a key appears twice in a line (first: {key}): its last value is used"), "");
    warn(&quoted, format!("{} numbers were in quotes", quoted.count), "");
    let policy = options.zero_output.unwrap_or(columns.values.schema.zero_output);
    let reading = match policy {
        ZeroOutput::Drop => "left out as failed calls",
        ZeroOutput::Prefill => "kept as prompts that generate nothing",
        ZeroOutput::One => "read as 1 token",
    };
    let share = format!("{} of {rows} requests have 0 output tokens: {reading}", zero_output.count);
    warn(&zero_output, share, "`--zero-output drop|prefill|one`");
    let text = format!(
        "hash ids do not match the prompt at {} tokens an id on {} of {rows} lines ({})",
        columns.block_size, hash_mismatch.count, hash_mismatch.detail
    );
    let fits = (hash_mismatch.count > 0).then(|| fitting_block(columns)).flatten();
    let hint = fits.map_or("set `--trace-block-size`".to_string(), |size| {
        format!("`--trace-block-size {size}` fits every line")
    });
    warn(&hash_mismatch, text, &hint);
    if zoned.count > 0 {
        warn(&unzoned, format!("{} times have no zone: read as UTC", unzoned.count), "");
    }
    let text = format!(
        "arrivals were not in time order ({} of {rows} lines go back in time, by at most {} ms): sorted, ties kept",
        back_in_time.count,
        largest_step_ns.unsigned_abs() as f64 / 1e6
    );
    if back_in_time.count > 0 && options.require_sorted {
        let must = "arrivals must not go back in time (`--require-sorted`)";
        let value = format!("{} lines do, first line {}", back_in_time.count, back_in_time.first_line);
        return Err(Error::trace(&report.origin, back_in_time.first_line, "", must, value));
    }
    warn(&back_in_time, text, "`--require-sorted` refuses this");
    if policy == ZeroOutput::Drop {
        report.dropped_zero_output = zero_output.count;
    }
    if options.time_unit.is_some_and(|unit| unit != report.time_unit) {
        let unit = report.time_unit.name();
        report.inform(format!("`--time-unit` has no effect: the name of the arrival field says {unit}"));
    }
    if default_output.count > 0 {
        let (count, tokens) = (default_output.count, options.default_output_tokens.unwrap_or_default());
        report.inform(format!(
            "{count} requests do not say their output: {tokens} tokens (`--default-output-tokens`)"
        ));
    }
    if columns.turn_lengths == Some(TurnLengths::Delta) {
        report.inform("prompt lengths count what is new: the turns before are added (`--turn-lengths full` takes them as whole)");
    }
    if options.arrivals_elsewhere && columns.seen_slot(Slot::Arrival) == 0 {
        report.inform("the file has no arrivals: every session and every single request is at 0");
    }
    doubtful_unit(columns, fractional, report, options);
    told_of_fields(columns, report);
    Ok(())
}

/// Warns where milliseconds are assumed and seconds are likelier.
fn doubtful_unit(columns: &Columns, fractional: bool, report: &mut Report, options: &ReadOptions) {
    let assumed = columns.format() == Format::Mooncake
        && options.time_unit.is_none()
        && report.time_unit == TimeUnit::Millis
        && columns.hashes.is_none();
    let (Some(first), Some(last)) = (columns.arrival.iter().min(), columns.arrival.iter().max()) else {
        return;
    };
    if !assumed || first == last {
        return;
    }
    let gaps = (columns.arrival.len() - 1) as f64;
    let as_millis = gaps / ((*last as f64 - *first as f64) / 1e9);
    let as_seconds = as_millis / 1e3;
    let fast = as_millis >= 1e3 && gaps >= 2.0;
    if (0.01..=1e3).contains(&as_seconds) && (fast || fractional && as_millis >= 100.0) {
        let text = format!(
            "read as ms (Mooncake), which gives {as_millis:.0} req/s; looks like seconds ({as_seconds:.2} req/s)"
        );
        report.warn(text, 0, 0, "`--time-unit s`, or `--time-unit ms` to confirm");
    }
}

/// How many models are named.
const MODELS: usize = 16;

/// Tells of fields that had no effect, and of models.
fn told_of_fields(columns: &Columns, report: &mut Report) {
    if !columns.unknown.is_empty() {
        let fields: Vec<String> = columns.unknown.iter().map(|name| with_guess(name, columns)).collect();
        report.inform(format!("ignored fields: {}", fields.join(", ")));
    }
    let unused = columns
        .values
        .schema
        .aliases
        .iter()
        .enumerate()
        .filter(|(index, alias)| alias.slot.is_idle() && columns.seen >> index & 1 == 1);
    let unused: Vec<&str> = unused.map(|(_, alias)| alias.name).collect();
    if !unused.is_empty() {
        report.inform(format!("known fields that have no effect yet: {}", unused.join(", ")));
    }
    let models = columns.carried.models();
    if models.len() > 1 {
        let more = if models.len() > MODELS {
            format!(" and {} more", models.len() - MODELS)
        } else {
            String::new()
        };
        let models: Vec<String> =
            models.iter().take(MODELS).map(|(model, count)| format!("{model} ({count})")).collect();
        report.inform(format!("several models, read as one workload: {}{more}", models.join(", ")));
    }
}

/// A field without effect, with the one of the format that may have been meant: `sesion (did you mean `session`?)`.
fn with_guess(name: &str, columns: &Columns) -> String {
    let distance = |alias: &Alias| names::edit_distance(&name.to_lowercase(), &alias.name.to_lowercase());
    let unseen = |(place, alias): &(usize, &Alias)| {
        columns.seen >> place & 1 == 0 && alias.slot != Slot::Unused && alias.name.len() > 4
    };
    let near = columns.aliases().iter().enumerate().filter(unseen).min_by_key(|(_, alias)| distance(alias));
    match near.filter(|(_, alias)| distance(alias) <= detect::slip(alias.name)) {
        Some((_, alias)) => format!("{name} (did you mean `{}`?)", alias.name),
        None => name.to_string(),
    }
}

/// The trace of the rows `kept` (all, if none are named) in time order, beginning at 0.
fn assemble(
    mut columns: Columns,
    mut resolved: Resolved,
    kept: Option<Vec<u32>>,
    report: &mut Report,
) -> Result<Trace> {
    let first = columns.arrival.iter().copied().min().unwrap_or(0);
    told_of_origin(first, &columns, kept.as_ref().map_or(columns.arrival.len(), Vec::len), report);
    let order = time_order(&columns.arrival, kept);
    let (requests, by_parents) =
        (columns.arrival.len(), columns.values.schema.parents == Parents::MayBeAbsent);
    let delta = columns.turn_lengths == Some(TurnLengths::Delta);
    let assumed = columns.format() == Format::Native && !columns.block_size_told;
    if let (Some(_), true) = (&columns.hashes, assumed) {
        report.inform(format!(
            "hash ids stand for {} tokens each (default of native files; `block_size` in the header, or \
             `--trace-block-size`, says otherwise)",
            columns.block_size
        ));
    }
    let repeats = std::mem::take(&mut columns.repeats);
    let untold = columns.hashes.is_none() && !repeats.any() && columns.turn_lengths.is_none();
    let prefix_block = columns.values.options.trace_block_size.unwrap_or(PREFIX_BLOCK);
    let since = |arrival: i64| (i128::from(arrival) - i128::from(first)) as u64;
    let mut trace = Trace {
        arrival_ns: columns.arrival.into_iter().map(since).collect(),
        prompt_tokens: columns.prompt,
        output_tokens: columns.output,
        ids: columns.ids,
        priority: columns.priority,
        hashes: columns.hashes.map(|hashes| hashes.into_hashes(columns.block_size)),
        sessions: None,
        model: match columns.carried.models().as_slice() {
            [(model, _)] => Some((*model).to_string()),
            _ => None,
        },
        carried: columns.carried.finish(requests),
    };
    if let Some(sessions) = columns.sessions {
        let named = sessions.named();
        let (sessions, mut noticed) = sessions.finish(&mut resolved, by_parents);
        if untold {
            told_of_untold_turns(&sessions, named, report);
        }
        noticed.shrinking *= u64::from(!delta);
        told_of_sessions(&sessions, noticed, report);
        trace.sessions = Some(sessions);
    }
    shared_prefixes(&mut trace, &repeats, prefix_block, report);
    unique_ids(&mut trace.ids, report);
    report.block_size = trace.hashes.as_ref().map(|hashes| hashes.block_size);
    let trace = match order {
        Some(order) => trace.select(&order),
        None => trace,
    };
    report.kept = trace.len() as u64;
    Ok(trace)
}

/// Tokens of a block into which the prefixes of groups are cut: vLLM's own KV block.
pub(super) const PREFIX_BLOCK: u32 = 16;

/// Makes paths of prefix groups where the file has no hashes, and keeps those of different adapters apart.
fn shared_prefixes(trace: &mut Trace, repeats: &Repeats, block_size: u32, report: &mut Report) {
    if trace.hashes.is_none() && repeats.any() {
        let prefixes = trace.carried.prefixes.as_ref();
        trace.hashes = Some(repeats.paths(&trace.prompt_tokens, prefixes, block_size));
        report.inform(format!(
            "turns repeat what their conversation said before, in whole blocks of {block_size} tokens; answers are \
             computed again"
        ));
        if repeats.unknown > 0 {
            report.inform(format!(
                "{} prompts begin with recorded tokens that no turn of their session said before: these hit nothing \
                 (`--use-recorded-cache` counts what was recorded)",
                repeats.unknown
            ));
        }
    }
    if let (None, Some(prefixes)) = (&trace.hashes, &trace.carried.prefixes) {
        trace.hashes = Some(prefix_groups::paths(prefixes, block_size));
        let groups = prefixes.group.names.len();
        report.inform(format!(
            "prompts of {groups} prefix groups share what the file says, in whole blocks of {block_size} tokens"
        ));
    }
    if let (Some(hashes), Some(lora)) = (&mut trace.hashes, &trace.carried.lora) {
        prefix_groups::Adapters::default().part(hashes, lora);
    }
}

/// The rows in order of arrival, ties as they are; none if that is all of them as they are.
fn time_order(arrival: &[i64], kept: Option<Vec<u32>>) -> Option<Vec<u32>> {
    if arrival.is_sorted() && kept.is_none() {
        return None;
    }
    let mut order = kept.unwrap_or_else(|| (0..arrival.len() as u32).collect());
    order.sort_by_key(|row| arrival[*row as usize]);
    Some(order)
}

fn told_of_origin(first: i64, columns: &Columns, kept: usize, report: &mut Report) {
    report.origin_ns = first;
    let last = columns.arrival.iter().copied().max().unwrap_or(first);
    // Unix times of the years 1990 to 2100 are taken for dates; no trace is that far from its own beginning.
    let is_date = (631_152_000_000_000_000..4_102_444_800_000_000_000).contains(&first);
    if first < 0 && report.time_unit != TimeUnit::DateTime {
        let text =
            format!("the first arrival is at {} ms: all are shifted so that it is at 0", first as f64 / 1e6);
        report.warn(text, 0, 0, "");
    } else if is_date {
        report.inform(format!("absolute times, shifted to 0 at {}", datetime::format(first)));
    } else if first != 0 {
        report.inform(format!("the first arrival is at {} s, shifted to 0", first as f64 / 1e9));
    }
    if first == last && kept > 1 {
        report.inform(format!("all {kept} requests arrive at once: a burst, its rate is infinite"));
    }
}

/// Says what is not known of turns that have neither hashes nor lengths that tell.
fn told_of_untold_turns(sessions: &Sessions, named: bool, report: &mut Report) {
    let turns = sessions.session.iter().filter(|session| **session != Sessions::NONE).count();
    if turns > sessions.count as usize {
        let remedy = if named {
            "; `--turn-lengths full` if each prompt repeats all that was said before"
        } else {
            ""
        };
        report.inform(format!(
            "the file does not tell what turns of a conversation share: they find nothing in a prefix cache{remedy}"
        ));
    }
}

/// The tokens of a hash id by which every prompt has as many as it needs, if there is such a size.
fn fitting_block(columns: &Columns) -> Option<u32> {
    let hashes = columns.hashes.as_ref()?;
    let mut sizes = (4..=12).map(|power| 1u32 << power);
    let prompts = || hashes.lengths().zip(columns.prompt.iter().copied());
    sizes.find(|size| BlockRule::of(*size, prompts()) != BlockRule::Leading)
}

fn told_of_sessions(sessions: &Sessions, noticed: Noticed, report: &mut Report) {
    let line = noticed.first_line;
    if noticed.out_of_order > 0 {
        report.warn(
            "turns of a session are not in order: ordered by arrival",
            noticed.out_of_order,
            line,
            "",
        );
    }
    if noticed.repeated > 0 {
        report.warn("a session has the same turn twice: both are kept", noticed.repeated, line, "");
    }
    if noticed.shrinking > 0 {
        let text =
            "a prompt is shorter than the one before it in its session: lengths are read as full prompts";
        report.warn(text, noticed.shrinking, line, "if they count new tokens only: `--turn-lengths delta`");
    }
    let waiting = sessions.waiting();
    if waiting > 0 {
        report.inform(format!("{waiting} requests start only after another completes"));
    }
}

/// Makes the ids unique: the second `a` becomes `a#2`.
fn unique_ids(ids: &mut [String], report: &mut Report) {
    let mut seen: FxHashMap<String, u32> = FxHashMap::default();
    let (mut repeated, mut first) = (0, (0, String::new()));
    for (row, id) in ids.iter_mut().enumerate() {
        let times = seen.entry(id.clone()).or_insert(0);
        *times += 1;
        if *times > 1 {
            repeated += 1;
            if repeated == 1 {
                first = (row as u64 + 1, id.clone());
            }
            let mut number = *times;
            while seen.contains_key(&format!("{id}#{number}")) {
                number += 1;
            }
            *id = format!("{id}#{number}");
            seen.insert(id.clone(), 1);
        }
    }
    if repeated > 0 {
        let (row, id) = first;
        let text = format!(
            "an id is used twice (first: \"{id}\", request {row}): all are kept, with ids made unique"
        );
        report.warn(text, repeated, 0, "");
    }
}
