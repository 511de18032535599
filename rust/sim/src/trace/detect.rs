//! Which format a file has, told from the names of its fields, and why.

use roofline_core::names;

use super::container::{self, Content};
use super::diagnose::{broken, is_comment};
use super::format::{Format, Slot};
use super::mistakes::shortened;
use super::options::ReadOptions;
use super::records::{Lines, Records, fields};
use super::schemas;
use super::values::is_date;
use crate::error::{Error, Result};

/// How many records are looked at.
const RECORDS: usize = 64;

/// What a file was recognised as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// The format.
    pub format: Format,
    /// By what it was recognised.
    pub why: String,
}

/// How a text is laid out.
pub(super) enum Layout<'a> {
    /// JSON values.
    Json(Records<'a>),
    /// Rows of columns with this character between them.
    Csv(u8),
}

/// Recognises a file without reading it as a whole.
///
/// # Errors
/// Files that are no trace, and fields that belong to no known format (with the nearest names).
pub fn detect(origin: &str, bytes: &[u8], options: &ReadOptions) -> Result<Detection> {
    match container::open(origin, bytes)?.0 {
        Content::Text(text) => Ok(find(origin, &text, options, &mut Vec::new())?.0),
        Content::Parquet(bytes) => Ok(parquet(&bytes)),
        Content::Arrow => Ok(Detection { format: Format::Baseten, why: "it is an Arrow file".to_string() }),
    }
}

/// A Parquet file by the column names in its footer, where they stand as plain text.
pub(super) fn parquet(bytes: &[u8]) -> Detection {
    let footer = bytes[bytes.len().saturating_sub(1 << 20)..].to_ascii_lowercase();
    // A name stands behind its length.
    let holds = |name: &&&str| {
        let mut text = vec![name.len() as u8];
        text.extend_from_slice(name.to_ascii_lowercase().as_bytes());
        memchr::memmem::find(&footer, &text).is_some()
    };
    let named = |names: &&[&'static str]| names.iter().find(holds).copied();
    let names = |rule: &Rule| rule.groups.iter().map(named).collect::<Option<Vec<_>>>();
    let found = rules(false).find_map(|(rule, _)| Some((rule.format, names(rule)?)));
    let own = || (Format::Native, Vec::new());
    let (format, names): (Format, Vec<&str>) = found.unwrap_or_else(own);
    let why = if names.is_empty() { "Parquet columns".to_string() } else { explained(names.into_iter()) };
    Detection { format, why }
}

/// A rule: of each group of names at least one must be there. The first rule that holds for any record decides.
struct Rule {
    format: Format,
    groups: &'static [&'static [&'static str]],
    /// A text that the value of the first group's field must hold, or empty.
    within: &'static str,
}

const fn rule(format: Format, groups: &'static [&'static [&'static str]]) -> Rule {
    Rule { format, groups, within: "" }
}

/// Arrivals whose name tells the unit: wherever they stand beside a length, the file is a native one.
const ARRIVALS: &[&str] = &["arrival_s", "arrival_ms", "arrival_us", "arrival_ns"];

/// What formats call the tokens of a prompt.
const PROMPTS: &[&str] = &[
    "prompt_tokens",
    "input_tokens",
    "input_length",
    "ContextTokens",
    "contexttokens",
    "num_prefill_tokens",
    "prompt_size",
    "input_toks",
];

/// Rows that name the unit of their arrivals are native ones.
const OWN: &[Rule] =
    &[rule(Format::Native, &[ARRIVALS, PROMPTS]), rule(Format::Native, &[&["arrival"], PROMPTS])];

/// Records of JSON.
const RECORD_RULES: &[Rule] = &[
    rule(Format::Native, &[&["trace"]]),
    rule(Format::DynamoRequest, &[&["schema", "event"], &["event_type", "event"]]),
    rule(Format::SageMaker, &[&["captureData"], &["eventMetadata"]]),
    rule(Format::TraceLab, &[&["prefix_tokens"], &["newly_append_tokens"], &["timing_events"]]),
    rule(Format::Bailian, &[&["chat_id"], &["parent_chat_id"]]),
    rule(Format::LlmServingSim, &[&["sub_requests", "arrival_time_ns"], &["sub_requests", "input_toks"]]),
    rule(Format::AppliedCompute, &[&["num_turns"], &["input_prompt_length"]]),
    rule(Format::Weka, &[&["requests"], &["block_size"], &["id"]]),
    Rule { format: Format::Satf, groups: &[&["format"], &["sessions"]], within: "satf" },
    rule(Format::OtelGenAi, &[&["spans"]]),
    rule(Format::OtelGenAi, &[&["span_id"], &["attributes"]]),
    rule(Format::BenchResult, &[&["input_lens"], &["output_lens"]]),
    Rule {
        format: Format::AiperfRecords,
        groups: &[&["metadata"], &["metrics"]],
        within: "request_start_ns",
    },
    Rule { format: Format::GuideLlm, groups: &[&["benchmarks"]], within: "\"requests\"" },
    Rule { format: Format::GenAiPerf, groups: &[&["experiments"]], within: "\"response_timestamps\"" },
    rule(
        Format::AgenticMooncake,
        &[
            &["wait_for", "branches", "tool_wait_ms", "tool_events", "prefix_reset"],
            &["input_length", "input_tokens"],
        ],
    ),
    rule(Format::Apex, &[&["StartTimeOffset"], &["ContextTokens"]]),
    rule(Format::OpenAiResponse, &[&["usage"], &["created", "created_at"]]),
    rule(Format::OpenAiBatch, &[&["custom_id"], &["body"]]),
];

/// Tables, whether their container is CSV, Parquet or JSON; names of columns are compared in lower case.
const TABLE_RULES: &[Rule] = &[
    rule(Format::Baseten, &[&["timestamp_start_unix_ms"]]),
    rule(Format::AzureLmm, &[&["contexttokens"], &["generatedtokens"], &["numimages"]]),
    rule(Format::AzureLlm, &[&["contexttokens"], &["generatedtokens"]]),
    rule(Format::BurstGpt, &[&["request tokens"], &["response tokens"]]),
    rule(Format::Vidur, &[&["num_prefill_tokens"], &["arrived_at"]]),
    rule(Format::VidurLengths, &[&["num_prefill_tokens"], &["num_decode_tokens"]]),
    rule(Format::SplitwiseSim, &[&["prompt_size"], &["token_size"]]),
    rule(Format::TraceLabSession, &[&["prefix_len"], &["input_len"]]),
    rule(Format::Blis, &[&["arrival_time_us"], &["slo_class"]]),
    rule(Format::LiteLlm, &[&["starttime"], &["prompt_tokens"]]),
];

/// The common tongue of load generators.
const TONGUE: &[Rule] = &[rule(
    Format::Mooncake,
    &[&["timestamp", "created_time"], &["input_length", "input_tokens", "prompt_tokens"]],
)];

/// Records of JSON that hold text.
const TEXT_RULES: &[Rule] = &[
    Rule { format: Format::AiperfDag, groups: &[&["turns"]], within: "\"spawns\"" },
    Rule { format: Format::AiperfDag, groups: &[&["turns"]], within: "\"forks\"" },
    rule(Format::AiperfMultiTurn, &[&["turns"]]),
    rule(Format::ShareGpt, &[&["conversations"]]),
    rule(Format::AiperfSingleTurn, &[&["text", "texts", "text_input"]]),
    rule(Format::VllmCustom, &[&["prompt", "messages", "payload"]]),
];

/// Rows that say how long requests are, and not in which format.
const LENGTH_RULES: &[Rule] = &[
    rule(Format::Native, &[&["prompt_tokens"], &["output_tokens"]]),
    rule(Format::Mooncake, &[&["input_length", "input_tokens"], &["output_length", "output_tokens"]]),
];

/// The fields of a record, and the same with names in lower case.
struct Named<'t> {
    own: Vec<(String, &'t str)>,
    folded: Vec<(String, &'t str)>,
}

impl<'t> Named<'t> {
    fn of(own: Vec<(String, &'t str)>) -> Named<'t> {
        let folded = own.iter().map(|(name, text)| (name.to_ascii_lowercase(), *text)).collect();
        Named { own, folded }
    }

    /// The names by which a rule of the table holds.
    fn held(&self, rule: &Rule, folds: bool) -> Option<Vec<&str>> {
        let fields = if folds { &self.folded } else { &self.own };
        let found = rule.holds(fields)?;
        Some(found.into_iter().map(|place| self.own[place].0.as_str()).collect())
    }
}

/// Every rule for rows of JSON, and those for rows of CSV, in the order in which they are asked; whether each compares
/// names in lower case.
fn rules(json: bool) -> impl Iterator<Item = (&'static Rule, bool)> {
    let (records, texts) = if json { (RECORD_RULES, TEXT_RULES) } else { (&[][..], &[][..]) };
    let own = records.iter().take(1).chain(OWN).chain(records.iter().skip(1));
    let own = own.map(move |rule| (rule, !json));
    let own = own.chain(TONGUE.iter().map(move |rule| (rule, !json)));
    let tables = TABLE_RULES.iter().map(|rule| (rule, true));
    own.chain(tables).chain(texts.iter().chain(LENGTH_RULES).map(move |rule| (rule, !json)))
}

impl Rule {
    /// The places of the fields by which the rule holds, or none.
    fn holds(&self, fields: &[(String, &str)]) -> Option<Vec<usize>> {
        let find = |names: &&[&str]| fields.iter().position(|(name, _)| names.contains(&name.as_str()));
        let found = self.groups.iter().map(find).collect::<Option<Vec<_>>>()?;
        fields[*found.first()?].1.contains(self.within).then_some(found)
    }
}

/// The format of one JSON record.
pub(super) fn of_record(fields: Vec<(String, &str)>) -> Option<Format> {
    let named = Named::of(fields);
    rules(true).find(|(rule, folds)| named.held(rule, *folds).is_some()).map(|(rule, _)| rule.format)
}

/// Finds format and layout of a text.
///
/// # Errors
/// Fields that belong to no known format.
pub(super) fn find<'a>(
    origin: &str,
    text: &'a [u8],
    options: &ReadOptions,
    information: &mut Vec<String>,
) -> Result<(Detection, Layout<'a>)> {
    let Some(first) = Lines::new(text).find(|record| !is_comment(record)) else {
        let lines = text.split(|byte| *byte == b'\n').count() - usize::from(text.ends_with(b"\n"));
        return Err(Error::trace(
            origin,
            0,
            "",
            "the file must hold requests",
            format!("{lines} blank lines"),
        ));
    };
    let (found, layout) = match first.text.first() {
        Some(b'{' | b'[') => json(origin, text, options, information)?,
        _ => csv(origin, text, options)?,
    };
    let chosen =
        options.format.map(|format| Detection { format, why: "chosen with `--trace-format`".to_string() });
    let native =
        || Detection { format: Format::Native, why: "its fields are named with `--map`".to_string() };
    // A nested record has no fields to name: whoever names some means those of flat rows.
    let nested = |found: &Detection| schemas::of(found.format).is_none_or(|schema| schema.unfold.is_some());
    let mapped = (!options.map.is_empty() && found.as_ref().is_none_or(nested)).then(native);
    match chosen.or(mapped).or(found) {
        Some(detection) => Ok((detection, layout)),
        None => Err(unknown(origin, text, &layout, &options.columns)),
    }
}

type Found<'a> = (Option<Detection>, Layout<'a>);

fn json<'a>(
    origin: &str,
    text: &'a [u8],
    options: &ReadOptions,
    information: &mut Vec<String>,
) -> Result<Found<'a>> {
    let records = Records::cut(origin, text, information)?;
    if !options.columns.is_empty() {
        let must = "`--columns` must read WHAT=FIELD for rows that name their fields";
        return Err(Error::trace(origin, 0, "", must, options.columns.join(","))
            .hinted("for example `--columns arrival=ts:s,input=n_in,output=n_out`"));
    }
    if let Some(detection) = by_rules(&records) {
        return Ok((Some(detection), Layout::Json(records)));
    }
    if let Some((key, inside)) = records.unwrapped(text) {
        let detection = by_rules(&inside);
        if detection.is_some() || options.format.is_some() {
            information.push(format!("requests found under key `{key}`"));
            return Ok((detection, Layout::Json(inside)));
        }
    }
    Ok((None, Layout::Json(records)))
}

fn by_rules(records: &Records) -> Option<Detection> {
    let head = records.iter().take(RECORDS).filter_map(|record| fields(record.text).ok());
    let head: Vec<Named> = head.map(Named::of).collect();
    rules(true).find_map(|(rule, folds)| {
        let found = head.iter().find_map(|named| named.held(rule, folds))?;
        Some(Detection { format: rule.format, why: explained(found.into_iter()) })
    })
}

fn explained<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut quoted: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    quoted.dedup();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("it has {} and {last}", rest.join(", ")),
        _ => format!("it has {}", quoted.join("")),
    }
}

fn csv<'a>(origin: &str, text: &'a [u8], options: &ReadOptions) -> Result<Found<'a>> {
    let mut rows =
        text.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|row| !row.trim_ascii().is_empty());
    let first = rows.next().unwrap_or_default();
    let second = if options.columns.is_empty() { rows.next().unwrap_or_default() } else { first };
    if first.starts_with(b"trace_version:") {
        let why = "it begins with `trace_version:`".to_string();
        return Ok((Some(Detection { format: Format::BlisHeader, why }), Layout::Csv(b',')));
    }
    let delimiter = options.csv_delimiter.unwrap_or_else(|| delimiter_of(first));
    let told = options.csv_delimiter.is_some() || options.decimal_comma;
    if delimiter == b';' && second.contains(&b',') && !told {
        let value = "columns separated by `;`, with commas in the numbers";
        return Err(Error::trace(origin, 1, "", "what separates columns and decimals must be clear", value)
            .hinted("`--csv-delimiter \";\" --csv-decimal \",\"` reads it so"));
    }
    let mut cells = header_cells(first, delimiter);
    if !options.columns.is_empty() {
        check_named(origin, &parted(first, delimiter), options)?;
        cells.clone_from(&options.columns);
    }
    let named = Named::of(cells.iter().map(|cell| (cell.clone(), cell.as_str())).collect());
    let found = rules(false).find_map(|(rule, folds)| {
        let found = named.held(rule, folds)?;
        Some(Detection { format: rule.format, why: explained(found.into_iter()) })
    });
    let found = found.or_else(|| {
        let clients = cells.len() == 6 && matches!(cells[3].as_str(), "Gamma" | "Weibull");
        let why = "its rows are start, rate, cv and a named distribution".to_string();
        clients.then_some(Detection { format: Format::ServeGenClients, why })
    });
    Ok((found, Layout::Csv(delimiter)))
}

/// The cells of a line, quoted ones as they are read.
fn parted(line: &[u8], delimiter: u8) -> Vec<String> {
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).has_headers(false).flexible(true).from_reader(line);
    let record = reader.byte_records().next().and_then(|record| record.ok()).unwrap_or_default();
    record.iter().map(|cell| String::from_utf8_lossy(cell.trim_ascii()).into_owned()).collect()
}

/// Checks that a file whose columns the user names has as many, and no names of its own.
fn check_named(origin: &str, first: &[String], options: &ReadOptions) -> Result<()> {
    let names = &options.columns;
    let is_value =
        |cell: &String| cell.parse::<f64>().is_ok() || is_date(cell) || options.time_format.is_some();
    if !first.iter().any(is_value) {
        let must = "the first line must be a request where `--columns` names the columns";
        let hint = "the file names its columns itself: `--columns arrival=COLUMN:s,input=COLUMN,output=COLUMN` says which \
                    is which";
        return Err(Error::trace(origin, 1, "", must, shortened(&first.join(","))).hinted(hint));
    }
    if first.len() != names.len() {
        let must = format!("`--columns` must name every column ({} in the first line)", first.len());
        return Err(Error::trace(origin, 1, "", must, format!("{} names", names.len())));
    }
    Ok(())
}

/// The character of `,`, `;` and tab that is most frequent; a comma where there is none.
fn delimiter_of(header: &[u8]) -> u8 {
    let count = |delimiter: u8| header.iter().filter(|byte| **byte == delimiter).count();
    [b'\t', b';', b','].into_iter().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

/// The names of a header, without quotes and outer blanks.
pub(super) fn header_cells(header: &[u8], delimiter: u8) -> Vec<String> {
    let text = String::from_utf8_lossy(header);
    let cell = |cell: &str| cell.trim().trim_matches('"').trim().to_string();
    text.split(char::from(delimiter)).map(cell).collect()
}

/// The error for a file no rule holds for: what was found, and what may be meant.
fn unknown(origin: &str, text: &[u8], layout: &Layout, named: &[String]) -> Error {
    let must = "the fields must be those of a known format";
    let (line, found) = match layout {
        Layout::Json(records) => {
            let first = records.iter().find_map(|record| Some((record.line, fields(record.text).ok()?)));
            let Some((line, first)) = first else {
                return match records.iter().next() {
                    Some(record) => {
                        let mistake = broken(&record);
                        Error::trace(origin, record.line, mistake.field, mistake.must, mistake.value)
                            .hinted(mistake.hint)
                    }
                    None => Error::trace(origin, 0, "", "the file must hold requests", "nothing"),
                };
            };
            (line, first.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        }
        Layout::Csv(_) if !named.is_empty() => (1, named.to_vec()),
        Layout::Csv(delimiter) => {
            let header = Lines::new(text).next().map_or(&[][..], |record| record.text);
            let cells = header_cells(header, *delimiter);
            if cells.iter().all(|cell| cell.parse::<f64>().is_ok() || is_date(cell)) {
                return Error::trace(origin, 1, "", "the first line must name the columns", cells.join(","))
                    .hinted(
                        "name them in their order: `--columns arrived_at,num_prefill_tokens,num_decode_tokens`",
                    );
            }
            (1, cells)
        }
    };
    Error::trace(origin, line, "", must, shortened(&found.join(", "))).hinted(remedy(&found))
}

/// The known name that a name among `found` is a misspelling of, as a question.
pub(super) fn misspelt(found: &[String]) -> Option<String> {
    let known =
        || Format::ALL.iter().filter_map(|format| schemas::of(*format)).flat_map(|schema| schema.aliases);
    found.iter().find_map(|name| {
        let distance = |other: &str| names::edit_distance(&name.to_lowercase(), &other.to_lowercase());
        let exact = known().any(|alias| alias.name.eq_ignore_ascii_case(name));
        let near = known().filter(|alias| alias.name.len() > 4).min_by_key(|alias| distance(alias.name))?;
        (!exact && distance(near.name) <= slip(near.name))
            .then(|| format!("did you mean `{}` for `{name}`?", near.name))
    })
}

/// How many letters of a name may be wrong for it to be meant: one of a short name, two of a longer one.
pub(super) fn slip(name: &str) -> usize {
    (name.len() / 4).clamp(1, 2)
}

/// The format of flat rows that has most of what a request needs under names among `found`, and what it lacks.
fn nearest(found: &[String]) -> Option<String> {
    let has = |name: &str| found.iter().any(|known| known.eq_ignore_ascii_case(name));
    let lacks = |format: &Format| {
        let schema = schemas::of(*format).filter(|schema| schema.unfold.is_none())?;
        let names =
            |slot| schema.aliases.iter().filter(move |alias| alias.slot == slot).map(|alias| alias.name);
        let needed = [Slot::Arrival, Slot::Prompt, Slot::Output].into_iter();
        let lacking: Vec<&str> =
            needed.filter(|slot| !names(*slot).any(has)).filter_map(|slot| names(slot).next()).collect();
        (lacking.len() < 3).then_some((lacking, format.name()))
    };
    let (lacking, name) = Format::ALL.iter().filter_map(lacks).min_by_key(|(lacking, _)| lacking.len())?;
    let lacking: Vec<String> = lacking.into_iter().map(|name| format!("`{name}`")).collect();
    Some(format!("the nearest format is {name}, which has also {}", lacking.join(" and ")))
        .filter(|_| !lacking.is_empty())
}

/// The known name that a name among `found` is but for its case, where all that a format is known by is there so.
fn other_case(found: &[String]) -> Option<String> {
    let meant = |names: &&[&'static str]| {
        let own = |name: &'static str| Some((found.iter().find(|own| own.eq_ignore_ascii_case(name))?, name));
        names.iter().find_map(|name| own(name))
    };
    let held = |rule: &Rule| rule.groups.iter().map(meant).collect::<Option<Vec<_>>>();
    let (own, name) =
        rules(true).find_map(|(rule, _)| held(rule))?.into_iter().find(|(own, name)| own != name)?;
    Some(format!("did you mean `{name}` for `{own}`? JSON tells small letters from capitals"))
}

/// What may have been meant by the fields `found`: misspelt names first, else the known formats.
fn remedy(found: &[String]) -> String {
    let has = |fields: &[&str]| fields.iter().all(|field| found.iter().any(|known| known == field));
    // ServeGen names windows of six hours by their first second.
    if found.len() > 1
        && found.iter().all(|field| field.parse::<u32>().is_ok_and(|start| start % 21_600 == 0))
    {
        return "lengths of a ServeGen client? `--servegen FOLDER` draws requests from all clients of its folder"
            .to_string();
    }
    if has(&["input_sequence_length", "output_sequence_length"]) {
        return "a kind of traffic, not requests: `--workload FILE.json` generates what it describes"
            .to_string();
    }
    if has(&["request_throughput", "total_input_tokens"]) {
        return "a summary, not requests: `vllm bench serve --save-detailed` writes each of them".to_string();
    }
    if has(&["start_s"]) && found.iter().any(|field| field.starts_with("rate")) {
        return "rates, not requests: `--rate-series FILE.csv` generates arrivals at them".to_string();
    }
    other_case(found).or_else(|| misspelt(found)).unwrap_or_else(|| {
        let read = Format::ALL.iter().filter(|format| schemas::of(**format).is_some()).map(|format| format.name());
        let near = nearest(found).map_or_else(String::new, |near| format!("{near}; "));
        format!(
            "{near}name its fields: `--map arrival=FIELD:s --map input=FIELD --map output=FIELD`; or name one of {} with \
             `--trace-format`",
            read.collect::<Vec<_>>().join(", ")
        )
    })
}
