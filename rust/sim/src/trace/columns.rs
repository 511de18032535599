//! From fields to columns: every rule a request must keep, and what is repaired with a warning.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::Sessions;
use super::datetime;
use super::format::{Alias, Format, SLOTS, Schema, Slot};
use super::hashes::HashColumn;
use super::mistakes::{Mistake, Mistakes, shortened};
use super::number::{self, Broken};
use super::options::{OnError, PriorityOrder, ReadOptions, TimeUnit, ZeroOutput};
use super::sessions::{SessionColumns, Turn};

/// What is said of a field that a row lacks.
pub(super) const MISSING: &str = "must be given";

/// The fields of one row, as texts.
pub(super) struct Row<'a> {
    pub line: u64,
    values: [Option<(u8, &'a str)>; SLOTS],
    /// A field that stands twice; its last value counts.
    repeated: Option<u8>,
    /// Two names for one thing with different values.
    conflict: Option<(u8, u8)>,
    /// A value nested deeper than any trace needs.
    pub too_deep: bool,
}

impl<'a> Row<'a> {
    pub fn new(line: u64) -> Row<'a> {
        Row { line, values: [None; SLOTS], repeated: None, conflict: None, too_deep: false }
    }

    /// Sets the field with the name `aliases[alias]`.
    pub fn set(&mut self, aliases: &[Alias], alias: u8, text: &'a str) {
        let slot = aliases[usize::from(alias)].slot;
        if slot == Slot::Unused {
            return;
        }
        let value = &mut self.values[slot as usize];
        match value {
            Some((same, _)) if *same == alias => self.repeated = Some(alias),
            Some((other, before)) if *before != text => self.conflict = Some((*other, alias)),
            _ => {}
        }
        *value = Some((alias, text));
    }

    /// Whether it has what no request is without: both lengths, and when it starts or what it waits for.
    pub fn is_complete(&self) -> bool {
        let has = |slot: &Slot| self.values[*slot as usize].is_some();
        [Slot::Prompt, Slot::Output].iter().all(has)
            && [Slot::Arrival, Slot::Session, Slot::After].iter().any(has)
    }

    /// A value that is there and not null.
    fn given(&self, slot: Slot) -> Option<(u8, &'a str)> {
        self.values[slot as usize].filter(|(_, text)| !matches!(*text, "null" | ""))
    }
}

/// How often something was repaired, and where first.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub count: u64,
    pub first_line: u64,
    pub detail: String,
}

impl Tally {
    fn note(&mut self, line: u64, detail: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first_line = line;
            self.detail = detail();
        }
        self.count += 1;
    }
}

/// What was repaired or noticed in the rows, one tally a kind.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    pub repeated_key: Tally,
    pub quoted: Tally,
    pub zero_output: Tally,
    pub hash_mismatch: Tally,
    pub back_in_time: Tally,
    pub largest_step_ns: i64,
    pub zoned: Tally,
    pub unzoned: Tally,
    pub fractional: bool,
}

/// The columns of the rows read so far, in the order of the file.
pub(super) struct Columns {
    pub schema: &'static Schema,
    options: ReadOptions,
    pub block_size: u32,
    /// Hash ids stand for whole blocks only, the rest of a prompt has none.
    pub whole_blocks: bool,
    pub arrival: Vec<i64>,
    pub prompt: Vec<u32>,
    pub output: Vec<u32>,
    pub ids: Vec<String>,
    by_id: Option<FxHashMap<String, u32>>,
    pub priority: Vec<i32>,
    pub hashes: Option<HashColumn>,
    pub sessions: Option<SessionColumns>,
    pub models: Vec<(String, u64)>,
    arrival_alias: Option<u8>,
    /// The last arrival that stood in the file.
    last_given: Option<i64>,
    /// Field names that belong to no known field, in order.
    pub unknown: Vec<String>,
    /// Which of the aliases were seen.
    pub seen: u64,
    pub rows: u64,
    pub mistakes: Mistakes,
    pub tallies: Tallies,
}

impl Columns {
    pub fn new(schema: &'static Schema, options: &ReadOptions) -> Columns {
        Columns {
            schema,
            block_size: options.trace_block_size.unwrap_or(schema.block_size).max(1),
            options: options.clone(),
            whole_blocks: false,
            arrival: Vec::new(),
            prompt: Vec::new(),
            output: Vec::new(),
            ids: Vec::new(),
            by_id: None,
            priority: Vec::new(),
            hashes: None,
            sessions: None,
            models: Vec::new(),
            arrival_alias: None,
            last_given: None,
            unknown: Vec::new(),
            seen: 0,
            rows: 0,
            mistakes: Mistakes::default(),
            tallies: Tallies::default(),
        }
    }

    pub fn format(&self) -> Format {
        self.schema.format
    }

    /// Whether the user chose the format.
    pub fn forced(&self) -> bool {
        self.options.format.is_some()
    }

    pub fn aliases(&self) -> &'static [Alias] {
        self.schema.aliases
    }

    /// Which alias a field name is; an unknown one is remembered.
    pub fn alias_of(&mut self, name: &str, guess: Option<u8>) -> Option<u8> {
        let aliases = self.schema.aliases;
        let is = |alias: &u8| aliases.get(usize::from(*alias)).is_some_and(|alias| alias.name == name);
        if let Some(alias) = guess.filter(is) {
            return Some(alias);
        }
        if let Some(alias) = aliases.iter().position(|alias| alias.name == name) {
            self.seen |= 1 << alias;
            return Some(alias as u8);
        }
        if self.unknown.len() < 64 && !self.unknown.iter().any(|known| known == name) {
            self.unknown.push(shortened(name));
        }
        None
    }

    /// The unit of a field's times.
    pub fn unit(&self, alias: u8) -> TimeUnit {
        let own = self.schema.aliases[usize::from(alias)].unit;
        own.or(self.options.time_unit).unwrap_or(self.schema.unit)
    }

    /// The unit of the arrivals.
    pub fn arrival_unit(&self) -> TimeUnit {
        self.arrival_alias
            .map_or(self.options.time_unit.unwrap_or(self.schema.unit), |alias| self.unit(alias))
    }

    /// Notes a row that cannot be read; false if reading should stop.
    pub fn refuse(&mut self, line: u64, mistake: Mistake) -> bool {
        self.rows += 1;
        self.mistakes.add(line, mistake) || self.options.on_error == OnError::Skip
    }

    /// Appends a row, or notes why not; false if reading should stop.
    pub fn push(&mut self, row: &Row) -> bool {
        match self.take(row) {
            Ok(()) => {
                self.rows += 1;
                true
            }
            Err(mistake) => self.refuse(row.line, mistake),
        }
    }

    fn name(&self, alias: u8) -> &'static str {
        self.schema.aliases[usize::from(alias)].name
    }

    /// The mistake of a row that lacks `slot`.
    fn missing(&self, slot: Slot, row: &Row) -> Mistake {
        let alias = self.schema.aliases.iter().find(|alias| alias.slot == slot);
        let name = row.values[slot as usize]
            .map_or(alias.map_or("", |alias| alias.name), |(alias, _)| self.name(alias));
        match row.values[slot as usize] {
            Some((_, "null")) => Mistake::new(name, "must be given, not null", "null"),
            Some(_) => Mistake::new(name, "must be given, not an empty cell", "nothing"),
            None => Mistake::new(name, MISSING, "missing"),
        }
    }

    fn take(&mut self, row: &Row) -> Result<(), Mistake> {
        self.check_fields(row)?;
        let output = self.count(row, Slot::Output)?;
        let output = match (output, self.options.zero_output.unwrap_or(self.schema.zero_output)) {
            (0, policy) => {
                self.tallies.zero_output.note(row.line, String::new);
                match policy {
                    ZeroOutput::Drop => return Ok(()),
                    ZeroOutput::Prefill => 0,
                    ZeroOutput::One => 1,
                }
            }
            (output, _) => output,
        };
        let prompt = self.count(row, Slot::Prompt)?;
        if prompt == 0 {
            let name = row.given(Slot::Prompt).map_or("", |(alias, _)| self.name(alias));
            return Err(Mistake::new(name, "must be at least 1 token", "0"));
        }
        let own_arrival = self.own_arrival(row)?;
        let turn = self.turn(row, own_arrival.is_none(), prompt)?;
        let arrival = match (own_arrival, &turn) {
            (Some(arrival), _) => arrival,
            (None, Some(turn)) if turn.after != Sessions::NONE => {
                let delay = i64::try_from(turn.delay_ns).unwrap_or(i64::MAX);
                self.arrival[turn.after as usize].saturating_add(delay)
            }
            _ => return Err(self.missing(Slot::Arrival, row)),
        };
        let priority = self.priority(row)?;
        let hashed = self.hash_path(row, prompt)?;
        self.keep(row, (arrival, prompt, output), turn, priority, hashed);
        if let Some(arrival) = own_arrival {
            self.follow_time(row.line, arrival);
        }
        Ok(())
    }

    /// What must hold of a row's fields before any is read.
    fn check_fields(&mut self, row: &Row) -> Result<(), Mistake> {
        if row.too_deep {
            return Err(Mistake::new("", "a value must not be nested more than 128 deep", "deeper"));
        }
        if let Some((one, other)) = row.conflict {
            let must = format!("must equal {}, which means the same", self.name(one));
            return Err(Mistake::new(self.name(other), must, "two different values"));
        }
        if let Some(alias) = row.repeated {
            let name = self.name(alias);
            self.tallies.repeated_key.note(row.line, || name.to_string());
        }
        Ok(())
    }

    /// A value without the quotes JSON puts around texts; a number in quotes is accepted, and noted.
    fn unquoted<'a>(&mut self, row: &Row, text: &'a str) -> &'a str {
        match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inside) => {
                let inside = inside.trim();
                if inside.starts_with(|first: char| first.is_ascii_digit() || first == '-') {
                    self.tallies.quoted.note(row.line, String::new);
                }
                inside
            }
            None => text,
        }
    }

    /// A decimal with a point, also where the file has a comma.
    fn pointed<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.options.decimal_comma { Cow::Owned(text.replace(',', ".")) } else { Cow::Borrowed(text) }
    }

    fn count(&mut self, row: &Row, slot: Slot) -> Result<u32, Mistake> {
        let Some((alias, raw)) = row.given(slot) else { return Err(self.missing(slot, row)) };
        if let Ok(count) = number::tokens(raw.as_bytes()) {
            return Ok(count);
        }
        let text = self.unquoted(row, raw);
        let text = self.pointed(text);
        number::tokens(text.as_bytes()).map_err(|broken| {
            let must = match broken {
                Broken::Negative => "must be at least 0".to_string(),
                Broken::TooLarge => format!("must be at most {} tokens", number::TOKENS_MAX),
                Broken::Fractional => "must be a whole number of tokens".to_string(),
                Broken::NotANumber => format!("must be a number, not {}", number::describe(&text)),
            };
            Mistake::new(self.name(alias), must, shortened(raw))
        })
    }

    /// The arrival the row gives, nanoseconds of the file's clock.
    fn own_arrival(&mut self, row: &Row) -> Result<Option<i64>, Mistake> {
        let Some((alias, raw)) = row.given(Slot::Arrival) else {
            let null = row.values[Slot::Arrival as usize].is_some();
            return if null { Err(self.missing(Slot::Arrival, row)) } else { Ok(None) };
        };
        let first = *self.arrival_alias.get_or_insert(alias);
        if first != alias {
            let must =
                format!("every line must give its arrival in the same field and unit ({})", self.name(first));
            return Err(Mistake::new("", must, self.name(alias)));
        }
        let arrival = match self.unit(alias) {
            TimeUnit::DateTime => self.moment(row, alias, raw)?,
            unit => {
                if !self.tallies.fractional && raw.contains(['.', 'e', 'E']) {
                    self.tallies.fractional = number::is_fractional(raw.as_bytes());
                }
                self.time(row, alias, raw, unit)?
            }
        };
        Ok(Some(arrival))
    }

    /// A date with a time of day.
    fn moment(&mut self, row: &Row, alias: u8, raw: &str) -> Result<i64, Mistake> {
        let text = raw.trim_matches('"');
        match datetime::parse(text.as_bytes()) {
            Ok(instant) => {
                let tally = if instant.zoned { &mut self.tallies.zoned } else { &mut self.tallies.unzoned };
                tally.note(row.line, String::new);
                Ok(instant.nanos)
            }
            Err(datetime::Broken::NoSuchTime) => {
                Err(Mistake::new(self.name(alias), "must be a date and time that exist", shortened(text)))
            }
            Err(datetime::Broken::Shape) => {
                let must = "must be a date and time as YYYY-MM-DD HH:MM:SS[.fraction][zone]";
                Err(Mistake::new(self.name(alias), must, shortened(text)))
            }
        }
    }

    /// A number of `unit`s, as nanoseconds.
    fn time(&mut self, row: &Row, alias: u8, raw: &str, unit: TimeUnit) -> Result<i64, Mistake> {
        let text = self.unquoted(row, raw);
        let text = self.pointed(text);
        number::nanos(text.as_bytes(), unit.nanos_exponent()).map_err(|broken| {
            let must = match broken {
                Broken::TooLarge => format!("must lie within 292 years (read in {})", unit.name()),
                _ => format!("must be a number of {}, not {}", unit.name(), number::describe(&text)),
            };
            Mistake::new(self.name(alias), must, shortened(raw))
        })
    }

    /// What the row says about its session; none if nothing.
    fn turn<'a>(&mut self, row: &Row<'a>, waits: bool, prompt: u32) -> Result<Option<Turn<'a>>, Mistake> {
        let session = row.given(Slot::Session).map(|(_, text)| text);
        let (delay, after) = (row.given(Slot::Delay), row.given(Slot::After));
        if session.is_none() && delay.is_none() && after.is_none() {
            return Ok(None);
        }
        let delay_ns = match delay {
            None => 0,
            Some((alias, raw)) => {
                let delay = self.time(row, alias, raw, self.unit(alias))?;
                u64::try_from(delay)
                    .map_err(|_| Mistake::new(self.name(alias), "must be at least 0", shortened(raw)))?
            }
        };
        let turn = match row.given(Slot::Turn) {
            None => None,
            Some(_) => Some(self.count(row, Slot::Turn)?),
        };
        let requests = self.arrival.len();
        let sessions = self.sessions.get_or_insert_with(|| SessionColumns::after(requests));
        let previous = session.map_or(Sessions::NONE, |session| sessions.last_of(session));
        let after = match after {
            Some((alias, text)) => self.waited_for(alias, text)?,
            None if waits || self.schema.format == Format::Native => previous,
            None => Sessions::NONE,
        };
        Ok(Some(Turn { line: row.line, session, turn, after, delay_ns, prompt }))
    }

    /// The row of the one request that the list `text` names.
    fn waited_for(&mut self, alias: u8, text: &str) -> Result<u32, Mistake> {
        let field = self.name(alias);
        let broken = || Mistake::new(field, "must be a list of ids of other requests", shortened(text));
        let list: Vec<&serde_json::value::RawValue> = serde_json::from_str(text).map_err(|_| broken())?;
        let id = match list.as_slice() {
            [] => return Ok(Sessions::NONE),
            [id] => text_of(id.get()),
            _ => {
                return Err(Mistake::new(
                    field,
                    "must name one request (joins are not read yet)",
                    shortened(text),
                ));
            }
        };
        let ids = &self.ids;
        let rows = self.by_id.get_or_insert_with(|| {
            ids.iter().enumerate().map(|(row, id)| (id.clone(), row as u32)).collect()
        });
        rows.get(id.as_ref())
            .copied()
            .ok_or_else(|| Mistake::new(field, "must name a request on an earlier line", shortened(&id)))
    }

    /// The priority, lower first; none if the row has none.
    fn priority(&mut self, row: &Row) -> Result<Option<i32>, Mistake> {
        let (slot, negated) = match (row.given(Slot::Priority), row.given(Slot::StrictPriority)) {
            (Some(given), _) => (given, self.options.priority_order == PriorityOrder::HigherFirst),
            (None, Some(given)) => (given, true),
            (None, None) => return Ok(None),
        };
        let (alias, raw) = slot;
        let text = self.unquoted(row, raw);
        let value = number::signed(text.as_bytes()).ok().map(|value| if negated { -value } else { value });
        match value.and_then(|value| i32::try_from(value).ok()) {
            Some(priority) => Ok(Some(priority)),
            None => Err(Mistake::new(self.name(alias), "must be a whole number of 32 bits", shortened(raw))),
        }
    }

    /// Reads the hash ids; whether there were any.
    fn hash_path(&mut self, row: &Row, prompt: u32) -> Result<bool, Mistake> {
        let Some((alias, text)) = row.given(Slot::Hashes) else { return Ok(false) };
        let (field, requests) = (self.name(alias), self.arrival.len());
        let column = self.hashes.get_or_insert_with(|| HashColumn::after(requests));
        let blocks = column.read(field, text)? as u64;
        let (whole, size) = (u64::from(prompt / self.block_size), self.block_size);
        let needed = if self.whole_blocks { whole } else { u64::from(prompt.div_ceil(size)) };
        if blocks != needed && blocks > 0 {
            let detail = || format!("line {}: {prompt} tokens need {needed}, has {blocks}", row.line);
            self.tallies.hash_mismatch.note(row.line, detail);
        }
        Ok(true)
    }

    /// Appends what was read.
    fn keep(
        &mut self,
        row: &Row,
        (arrival, prompt, output): (i64, u32, u32),
        turn: Option<Turn>,
        priority: Option<i32>,
        hashed: bool,
    ) {
        let requests = self.arrival.len();
        self.arrival.push(arrival);
        self.prompt.push(prompt);
        self.output.push(output);
        if let Some(hashes) = &mut self.hashes {
            hashes.keep(hashed);
        }
        if let Some(sessions) = &mut self.sessions {
            let none =
                Turn { line: 0, session: None, turn: None, after: Sessions::NONE, delay_ns: 0, prompt };
            sessions.push(&turn.unwrap_or(none));
        }
        if priority.is_some() || !self.priority.is_empty() {
            self.priority.resize(requests, 0);
            self.priority.push(priority.unwrap_or(0));
        }
        self.keep_id(row, requests);
        if let Some((_, model)) = row.given(Slot::Model) {
            self.note_model(&text_of(model));
        }
    }

    fn keep_id(&mut self, row: &Row, requests: usize) {
        let given = row.given(Slot::Id);
        if given.is_none() && self.ids.is_empty() {
            return;
        }
        while self.ids.len() < requests {
            self.ids.push((self.ids.len() + 1).to_string());
        }
        let id = given.map_or_else(|| (requests + 1).to_string(), |(_, text)| text_of(text).into_owned());
        if let Some(rows) = &mut self.by_id {
            rows.insert(id.clone(), requests as u32);
        }
        self.ids.push(id);
    }

    fn note_model(&mut self, model: &str) {
        if let Some((_, count)) = self.models.iter_mut().find(|(known, _)| known == model) {
            *count += 1;
        } else if self.models.len() < 64 {
            self.models.push((model.to_string(), 1));
        }
    }

    /// Notes if an arrival lies before the one above it.
    fn follow_time(&mut self, line: u64, now: i64) {
        if let Some(before) = self.last_given.replace(now).filter(|before| now < *before) {
            self.tallies.back_in_time.note(line, String::new);
            self.tallies.largest_step_ns = self.tallies.largest_step_ns.min(now.saturating_sub(before));
        }
    }
}

/// A JSON text without quotes and escapes; anything else as it is.
fn text_of(raw: &str) -> Cow<'_, str> {
    match raw.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inside) if !inside.contains('\\') => Cow::Borrowed(inside),
        Some(inside) => {
            serde_json::from_str(raw).map_or(Cow::Borrowed(inside), |text: String| Cow::Owned(text))
        }
        None => Cow::Borrowed(raw),
    }
}
