//! From fields to columns: every rule a request must keep, and what is repaired with a warning.

use rustc_hash::FxHashMap;

use super::Sessions;
use super::format::{Alias, Format, Schema, Slot};
use super::hashes::HashColumn;
use super::mistakes::{Mistake, Mistakes, shortened};
use super::options::ReadOptions;
use super::policy::{OnError, ZeroOutput};
use super::row::{Row, text_of};
use super::sessions::{SessionColumns, Turn};
use super::values::Values;

/// The row of each id; [`Sessions::NONE`] for an id that several rows have.
#[derive(Default)]
struct Ids(FxHashMap<String, u32>);

impl Ids {
    fn of(ids: &[String]) -> Ids {
        let mut rows = Ids::default();
        ids.iter().zip(0..).for_each(|(id, row)| rows.add(id, row));
        rows
    }

    fn add(&mut self, id: &str, row: u32) {
        self.0.entry(id.to_string()).and_modify(|known| *known = Sessions::NONE).or_insert(row);
    }

    fn get(&self, id: &str) -> Option<u32> {
        self.0.get(id).copied()
    }
}

/// The columns of the rows read so far, in the order of the file.
pub(super) struct Columns {
    pub values: Values,
    pub block_size: u32,
    /// Hash ids stand for whole blocks only, the rest of a prompt has none.
    pub whole_blocks: bool,
    pub arrival: Vec<i64>,
    pub prompt: Vec<u32>,
    pub output: Vec<u32>,
    pub ids: Vec<String>,
    by_id: Option<Ids>,
    pub priority: Vec<i32>,
    pub hashes: Option<HashColumn>,
    pub sessions: Option<SessionColumns>,
    pub models: Vec<(String, u64)>,
    /// Field names that belong to no known field, in order.
    pub unknown: Vec<String>,
    /// Which of the aliases were seen.
    pub seen: u64,
    pub rows: u64,
    pub mistakes: Mistakes,
}

impl Columns {
    pub fn new(schema: &'static Schema, options: &ReadOptions) -> Columns {
        Columns {
            values: Values::new(schema, options),
            block_size: options.trace_block_size.unwrap_or(schema.block_size).max(1),
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
            unknown: Vec::new(),
            seen: 0,
            rows: 0,
            mistakes: Mistakes::default(),
        }
    }

    pub fn format(&self) -> Format {
        self.values.schema.format
    }

    /// Whether the user chose the format.
    pub fn forced(&self) -> bool {
        self.values.options.format.is_some()
    }

    pub fn aliases(&self) -> &'static [Alias] {
        self.values.schema.aliases
    }

    /// Which alias a field name is; an unknown one is remembered.
    pub fn alias_of(&mut self, name: &str, guess: Option<u8>) -> Option<u8> {
        let aliases = self.values.schema.aliases;
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

    /// Notes a row that cannot be read; false if reading should stop.
    pub fn refuse(&mut self, line: u64, mistake: Mistake) -> bool {
        self.rows += 1;
        self.mistakes.add(line, mistake) || self.values.options.on_error == OnError::Skip
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

    fn take(&mut self, row: &Row) -> Result<(), Mistake> {
        self.check_fields(row)?;
        let output = self.values.count(row, Slot::Output)?;
        let output = match (output, self.values.options.zero_output.unwrap_or(self.values.schema.zero_output))
        {
            (0, policy) => {
                self.values.tallies.zero_output.note(row.line, String::new);
                match policy {
                    ZeroOutput::Drop => return Ok(()),
                    ZeroOutput::Prefill => 0,
                    ZeroOutput::One => 1,
                }
            }
            (output, _) => output,
        };
        let prompt = self.values.count(row, Slot::Prompt)?;
        if prompt == 0 {
            let name = row.given(Slot::Prompt).map_or("", |(alias, _)| self.values.name(alias));
            return Err(Mistake::new(name, "must be at least 1 token", "0"));
        }
        let own_arrival = self.values.own_arrival(row)?;
        let turn = self.turn(row, own_arrival.is_none(), prompt)?;
        let arrival = match (own_arrival, &turn) {
            (Some(arrival), _) => arrival,
            (None, Some(turn)) if turn.after != Sessions::NONE => {
                let delay = i64::try_from(turn.delay_ns).unwrap_or(i64::MAX);
                self.arrival[turn.after as usize].saturating_add(delay)
            }
            _ => return Err(self.values.missing(Slot::Arrival, row)),
        };
        let priority = self.values.priority(row)?;
        let hashed = self.hash_path(row, prompt)?;
        self.keep(row, (arrival, prompt, output), turn, priority, hashed);
        if let Some(arrival) = own_arrival {
            self.values.follow_time(row.line, arrival);
        }
        Ok(())
    }

    /// What must hold of a row's fields before any is read.
    fn check_fields(&mut self, row: &Row) -> Result<(), Mistake> {
        if row.too_deep {
            return Err(Mistake::new("", "a value must not be nested more than 128 deep", "deeper"));
        }
        if let Some((one, other)) = row.conflict {
            let must = format!("must equal {}, which means the same", self.values.name(one));
            return Err(Mistake::new(self.values.name(other), must, "two different values"));
        }
        if let Some(alias) = row.repeated {
            let name = self.values.name(alias);
            self.values.tallies.repeated_key.note(row.line, || name.to_string());
        }
        Ok(())
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
                let delay = self.values.time(row, alias, raw, self.values.unit(alias))?;
                u64::try_from(delay).map_err(|_| {
                    Mistake::new(self.values.name(alias), "must be at least 0", shortened(raw))
                })?
            }
        };
        let turn = match row.given(Slot::Turn) {
            None => None,
            Some(_) => Some(self.values.count(row, Slot::Turn)?),
        };
        let requests = self.arrival.len();
        let sessions = self.sessions.get_or_insert_with(|| SessionColumns::after(requests));
        let previous = session.map_or(Sessions::NONE, |session| sessions.last_of(session));
        let after = match after {
            Some((alias, text)) => self.waited_for(alias, text)?,
            None if waits || self.values.schema.format == Format::Native => previous,
            None => Sessions::NONE,
        };
        Ok(Some(Turn { line: row.line, session, turn, after, delay_ns, prompt }))
    }

    /// The row of the one request that the list `text` names.
    fn waited_for(&mut self, alias: u8, text: &str) -> Result<u32, Mistake> {
        let field = self.values.name(alias);
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
        let rows = self.by_id.get_or_insert_with(|| Ids::of(&self.ids));
        match rows.get(id.as_ref()) {
            None => Err(Mistake::new(field, "must name a request on an earlier line", shortened(&id))),
            Some(Sessions::NONE) => {
                Err(Mistake::new(field, "must name an id that is used once", shortened(&id)))
            }
            Some(row) => Ok(row),
        }
    }

    /// Reads the hash ids; whether there were any.
    fn hash_path(&mut self, row: &Row, prompt: u32) -> Result<bool, Mistake> {
        let Some((alias, text)) = row.given(Slot::Hashes) else { return Ok(false) };
        let (field, requests) = (self.values.name(alias), self.arrival.len());
        let column = self.hashes.get_or_insert_with(|| HashColumn::after(requests));
        let blocks = column.read(field, text)? as u64;
        let (whole, size) = (u64::from(prompt / self.block_size), self.block_size);
        let needed = if self.whole_blocks { whole } else { u64::from(prompt.div_ceil(size)) };
        if blocks != needed && blocks > 0 {
            let detail = || format!("line {}: {prompt} tokens need {needed}, has {blocks}", row.line);
            self.values.tallies.hash_mismatch.note(row.line, detail);
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
            rows.add(&id, requests as u32);
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
}
