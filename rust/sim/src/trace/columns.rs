//! From fields to columns: every rule a request must keep, and what is repaired with a warning.

use roofline_core::names;

use super::carried::{CarriedColumns, CarriedRow};
use super::detect;
use super::format::{Alias, Format, History, Schema, Slot, Turns};
use super::hashes::HashColumn;
use super::history::{Repeats, repeated};
use super::links::{Link, On};
use super::mistakes::{Mistake, Mistakes, shortened};
use super::number::TOKENS_MAX;
use super::options::{FieldMap, ReadOptions};
use super::policy::{BlockRule, OnError, TurnLengths, ZeroOutput};
use super::row::{Row, named, text_of};
use super::schemas;
use super::sessions::{Last, SessionColumns, Turn};
use super::values::{MISSING, Values};

/// What a row waits for, each with the nanoseconds in between.
type Waits = Vec<(On, u64)>;

/// Why a field that the user named has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idle {
    /// No row has it.
    Absent,
    /// The format knows nothing of what it is to hold.
    Meaningless,
}

/// The columns of the rows read so far, in the order of the file.
pub(super) struct Columns {
    pub values: Values,
    pub block_size: u32,
    /// Which blocks of a prompt have a hash id.
    pub block_rule: BlockRule,
    pub arrival: Vec<i64>,
    pub prompt: Vec<u32>,
    pub output: Vec<u32>,
    pub ids: Vec<String>,
    pub priority: Vec<i32>,
    pub hashes: Option<HashColumn>,
    pub sessions: Option<SessionColumns>,
    pub carried: CarriedColumns,
    /// What the lengths of turns count, where the user or the file says it.
    pub turn_lengths: Option<TurnLengths>,
    /// What turns repeat.
    pub repeats: Repeats,
    /// Whether the user or the file says how many tokens a hash id stands for.
    pub block_size_told: bool,
    /// The line that set the block size, where lines do.
    block_size_line: Option<u64>,
    /// Field names that belong to no known field, in order.
    pub unknown: Vec<String>,
    /// Which of the aliases were seen.
    pub seen: u64,
    /// Which of the fields that the user named were seen.
    mapped_seen: u64,
    pub rows: u64,
    pub mistakes: Mistakes,
}

impl Columns {
    pub fn new(schema: &'static Schema, options: &ReadOptions) -> Columns {
        Columns {
            values: Values::new(schema, options),
            block_size: options.trace_block_size.unwrap_or(schema.block_size).max(1),
            block_rule: if schema.whole_blocks { BlockRule::Floor } else { BlockRule::Ceil },
            arrival: Vec::new(),
            prompt: Vec::new(),
            output: Vec::new(),
            ids: Vec::new(),
            priority: Vec::new(),
            hashes: None,
            sessions: None,
            carried: CarriedColumns::default(),
            turn_lengths: options.turn_lengths,
            repeats: Repeats::default(),
            block_size_told: options.trace_block_size.is_some(),
            block_size_line: None,
            unknown: Vec::new(),
            seen: 0,
            mapped_seen: 0,
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

    /// Whether the user said which fields hold what.
    pub fn is_mapped(&self) -> bool {
        !self.values.options.map.is_empty()
    }

    /// The field without meaning whose name is nearly that.
    fn misspelling_of(&self, name: &str) -> Option<&str> {
        let distance = |other: &str| names::edit_distance(&name.to_lowercase(), &other.to_lowercase());
        let near = self.unknown.iter().min_by_key(|unknown| distance(unknown))?;
        (distance(near) <= detect::slip(name)).then_some(near.as_str())
    }

    /// What the user calls an alias: the field named for it, or its own name.
    pub fn called(&self, alias: u8) -> String {
        let map = self.values.options.map.iter().find(|map| self.mapped(map) == Some(alias));
        map.map_or_else(|| self.values.name(alias).to_string(), |map| map.field.clone())
    }

    /// Whether the user said what this field holds.
    pub fn is_named(&self, field: &str) -> bool {
        self.values.options.map.iter().any(|map| map.field == field)
    }

    pub fn aliases(&self) -> &'static [Alias] {
        self.values.schema.aliases
    }

    /// The alias that a field of the user's choice stands for: the native one, or the first that means the same.
    fn mapped(&self, map: &FieldMap) -> Option<u8> {
        let aliases = self.aliases();
        let same = |slot| aliases.iter().position(|alias| alias.slot == slot);
        let native = aliases.iter().position(|alias| alias.name == map.native);
        native.or_else(|| same(schemas::slot_of(&map.native)?)).map(|alias| alias as u8)
    }

    /// Whether another field stands in for this alias, because the user named it.
    fn replaced(&self, alias: u8) -> bool {
        let slot = self.aliases()[usize::from(alias)].slot;
        slot != Slot::Unused
            && self.values.options.map.iter().any(|map| schemas::slot_of(&map.native) == Some(slot))
    }

    /// The first field that the user named and that no row has, or that the format has no use for; and why.
    pub fn idle_map(&self) -> Option<(&FieldMap, Idle)> {
        self.values.options.map.iter().enumerate().find_map(|(place, map)| {
            let idle = match self.mapped(map) {
                None => Idle::Meaningless,
                Some(_) if self.mapped_seen >> place.min(63) & 1 == 0 => Idle::Absent,
                Some(_) => return None,
            };
            Some((map, idle))
        })
    }

    /// Which alias a field name is; an unknown one is remembered.
    pub fn alias_of(&mut self, name: &str, guess: Option<u8>) -> Option<u8> {
        let aliases = self.values.schema.aliases;
        if let Some(place) = self.values.options.map.iter().position(|map| map.field == name) {
            self.mapped_seen |= 1 << place.min(63);
            if let Some(alias) = self.mapped(&self.values.options.map[place]) {
                self.seen |= 1 << alias;
                return Some(alias);
            }
        }
        let folds = self.values.schema.table;
        let same = |alias: &Alias| alias.name == name || folds && alias.name.eq_ignore_ascii_case(name);
        let is = |alias: &u8| aliases.get(usize::from(*alias)).is_some_and(same);
        if let Some(alias) = guess.filter(is).filter(|alias| !self.replaced(*alias)) {
            return Some(alias);
        }
        let named = aliases.iter().position(same).map(|alias| alias as u8);
        if let Some(alias) = named.filter(|alias| !self.replaced(*alias)) {
            self.seen |= 1 << alias;
            return Some(alias);
        }
        if self.unknown.len() < 64 && !self.unknown.iter().any(|known| known == name) {
            self.unknown.push(shortened(name));
        }
        None
    }

    /// The same for the name of a column, found in any case unless the user names it.
    pub fn alias_of_column(&mut self, name: &str) -> Option<u8> {
        let same = |alias: &&Alias| alias.name.eq_ignore_ascii_case(name);
        let known = self.aliases().iter().find(same).filter(|_| !self.is_named(name));
        self.alias_of(known.map_or(name, |alias| alias.name), None)
    }

    /// How many fields that mean `slot` were seen.
    pub fn seen_slot(&self, slot: Slot) -> usize {
        let aliases = self.aliases().iter().enumerate();
        aliases.filter(|(place, alias)| alias.slot == slot && self.seen >> place & 1 == 1).count()
    }

    /// Sets the arrivals of all rows but `kept` to the earliest of those, so that they have no effect.
    pub fn arrival_of_kept(&mut self, kept: &[u32]) {
        let Some(first) = kept.iter().map(|row| self.arrival[*row as usize]).min() else { return };
        let mut kept = kept.iter().peekable();
        for row in 0..self.arrival.len() {
            if kept.next_if(|next| **next as usize == row).is_none() {
                self.arrival[row] = first;
            }
        }
    }

    /// Notes a row that cannot be read; false if reading should stop.
    pub fn refuse(&mut self, line: u64, mut mistake: Mistake) -> bool {
        self.rows += 1;
        let named =
            |map: &&FieldMap| self.mapped(map).is_some_and(|alias| self.values.name(alias) == mistake.field);
        if let Some(map) = self.values.options.map.iter().find(named) {
            mistake.field.clone_from(&map.field);
        }
        if mistake.must == MISSING
            && mistake.hint.is_empty()
            && let Some(near) = self.misspelling_of(&mistake.field)
        {
            mistake.hint = format!("did you mean `{}` for `{near}`?", mistake.field);
        }
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
        if row.is_plain() && self.sessions.is_none() {
            return self.take_plain(row);
        }
        self.check_fields(row)?;
        if row.given(Slot::Status).is_some_and(|(_, text)| text.trim_matches('"') == "failure") {
            self.values.tallies.failed.note(row.line, String::new);
            return Ok(());
        }
        let Some(output) = self.output(row)? else { return Ok(()) };
        let own = self.prompt(row)?;
        let arrival = self.values.own_arrival(row)?;
        let session = row.given(Slot::Session).map(|(_, text)| text);
        let previous = session.and_then(|name| self.sessions.as_ref()?.last_of(name));
        let behind = previous.filter(|_| self.turn_lengths == Some(TurnLengths::Delta));
        let prompt = match behind.map(|last| last.context() + u64::from(own)) {
            None => own,
            Some(whole) => {
                u32::try_from(whole).ok().filter(|whole| *whole <= TOKENS_MAX).ok_or_else(|| {
                    let must = format!("must be at most {TOKENS_MAX} tokens with the turns before");
                    Mistake::new(self.name_of(row, Slot::Prompt), must, whole.to_string())
                })?
            }
        };
        let repeats = self.repeats(row, previous, prompt)?;
        let turn = self.turn(row, session, prompt, output)?;
        let (links, arrival) = self.links(row, turn.is_some(), previous, arrival)?;
        let priority = self.values.priority(row)?;
        let numbered = self.format() == Format::Native && row.given(Slot::Turn).is_some();
        let carried =
            if numbered || row.carries() { Some(self.carried_by(row, arrival, prompt)?) } else { None };
        let hashed = self.hash_path(row, own, behind.map(|last| last.row))?;
        self.keep(row, (arrival, prompt, output), turn, priority, hashed);
        self.wait(row, links, arrival);
        if let Some((behind, tokens)) = repeats {
            self.repeats.note(self.arrival.len() - 1, behind, tokens);
        }
        if let Some(carried) = carried {
            self.carried.set(self.arrival.len() - 1, &carried);
        }
        if let Some(arrival) = arrival {
            self.values.follow_time(row.line, arrival);
        }
        Ok(())
    }

    /// The turn before a row, and how many tokens of what was said up to its end the row begins with, if that is known.
    fn repeats(
        &mut self,
        row: &Row,
        previous: Option<Last>,
        prompt: u32,
    ) -> Result<Option<(u32, u32)>, Mistake> {
        let told = self.values.schema.history;
        let recorded = self.values.optional_count(row, Slot::Cached)?.filter(|_| told == History::Recorded);
        let found = previous
            .and_then(|last| Some((last.row, repeated(told, self.turn_lengths, last, prompt, recorded)?)));
        self.repeats.unknown += u64::from(recorded.unwrap_or(0) > found.map_or(0, |(_, tokens)| tokens));
        Ok(found)
    }

    /// What [`Columns::take`] comes to for a row of arrival and lengths: most rows of most files.
    fn take_plain(&mut self, row: &Row) -> Result<(), Mistake> {
        let Some(output) = self.output(row)? else { return Ok(()) };
        let prompt = self.prompt(row)?;
        let Some(arrival) = self.values.own_arrival(row)? else {
            return if self.values.options.arrivals_elsewhere {
                self.keep(row, (Some(0), prompt, output), None, None, false);
                Ok(())
            } else {
                Err(self.values.missing(Slot::Arrival, row))
            };
        };
        self.keep(row, (Some(arrival), prompt, output), None, None, false);
        self.values.follow_time(row.line, arrival);
        Ok(())
    }

    /// The tokens a row generates; none if it is left out because it generates nothing.
    fn output(&mut self, row: &Row) -> Result<Option<u32>, Mistake> {
        let options = &self.values.options;
        let policy = options.zero_output.unwrap_or(self.values.schema.zero_output);
        let output = match (row.given(Slot::Output), options.default_output_tokens) {
            (None, Some(tokens)) => {
                self.values.tallies.default_output.note(row.line, String::new);
                tokens
            }
            _ => self.values.count(row, Slot::Output)?,
        };
        if output > 0 {
            return Ok(Some(output));
        }
        self.values.tallies.zero_output.note(row.line, String::new);
        Ok(match policy {
            ZeroOutput::Drop => None,
            ZeroOutput::Prefill => Some(0),
            ZeroOutput::One => Some(1),
        })
    }

    /// The tokens of a row's own prompt.
    fn prompt(&mut self, row: &Row) -> Result<u32, Mistake> {
        let prompt = self.values.count(row, Slot::Prompt)?;
        let beside = self.values.schema.cached_beside && row.given(Slot::Cached).is_some();
        let cached = if beside { self.values.count(row, Slot::Cached)? } else { 0 };
        match u64::from(prompt) + u64::from(cached) {
            0 => Err(Mistake::new(self.name_of(row, Slot::Prompt), "must be at least 1 token", "0")),
            whole if whole > u64::from(TOKENS_MAX) => {
                let must = format!("must be at most {TOKENS_MAX} tokens with those before it");
                Err(Mistake::new(self.name_of(row, Slot::Prompt), must, whole.to_string()))
            }
            whole => Ok(whole as u32),
        }
    }

    /// The name of the field that a row gives a slot by.
    fn name_of(&self, row: &Row, slot: Slot) -> &'static str {
        row.given(slot).map_or("", |(alias, _)| self.values.name(alias))
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

    /// What the row says about its session; none if it says nothing of sessions and of waiting.
    fn turn<'a>(
        &mut self,
        row: &Row<'a>,
        session: Option<&'a str>,
        prompt: u32,
        output: u32,
    ) -> Result<Option<Turn<'a>>, Mistake> {
        let says = |slot: &Slot| row.given(*slot).is_some();
        if session.is_none() && ![Slot::Delay, Slot::Wait, Slot::After].iter().any(says) {
            return Ok(None);
        }
        let turn = self.values.optional_count(row, Slot::Turn)?;
        let wait_after_ns = self.values.optional_duration(row, Slot::WaitAfter)?.unwrap_or(0);
        Ok(Some(Turn { line: row.line, session, turn, wait_after_ns, prompt, output }))
    }

    /// What the row waits for, and its own arrival; one of them there must be.
    fn links(
        &mut self,
        row: &Row,
        says: bool,
        previous: Option<Last>,
        arrival: Option<i64>,
    ) -> Result<(Waits, Option<i64>), Mistake> {
        let turns = self.values.schema.turns;
        let arrival = arrival.filter(|_| turns != Turns::SessionArrival || previous.is_none());
        let links = if says { self.waited_for(row, previous, arrival)? } else { Vec::new() };
        if arrival.is_none() && links.is_empty() {
            if !self.values.options.arrivals_elsewhere {
                return Err(self.values.missing(Slot::Arrival, row));
            }
            return Ok((links, Some(0)));
        }
        Ok((links, arrival))
    }

    /// What a row waits for, each with the nanoseconds in between.
    fn waited_for(
        &mut self,
        row: &Row,
        previous: Option<Last>,
        arrival: Option<i64>,
    ) -> Result<Waits, Mistake> {
        let (delays, wait) =
            (self.delays(row)?, self.values.optional_duration(row, Slot::Wait)?.unwrap_or(0));
        let delay = |place: usize| {
            delays.get(place).or(delays.first()).map_or(0, |delay| *delay).saturating_add(wait)
        };
        if let Some((alias, text)) = row.given(Slot::After) {
            let ids = named(self.values.name(alias), text)?;
            if delays.len() > 1 && delays.len() != ids.len() {
                let must = format!("must have as many delays as requests to wait for ({})", ids.len());
                return Err(Mistake::new(self.name_of(row, Slot::Delay), must, delays.len().to_string()));
            }
            return Ok(ids.into_iter().enumerate().map(|(place, id)| (On::Id(id), delay(place))).collect());
        }
        let waits = arrival.is_none() || self.values.schema.turns == Turns::AfterPrevious;
        let previous = previous.filter(|_| waits);
        Ok(previous
            .map(|last| (On::Row(last.row), delay(0).saturating_add(last.wait_after_ns)))
            .into_iter()
            .collect())
    }

    /// The delays of a row: none, one for all it waits for, or a list of one each.
    fn delays(&mut self, row: &Row) -> Result<Vec<u64>, Mistake> {
        let Some((alias, raw)) = row.given(Slot::Delay) else { return Ok(Vec::new()) };
        match raw.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
            None => Ok(vec![self.values.duration(row, alias, raw)?]),
            Some(list) => list.split(',').map(|one| self.values.duration(row, alias, one.trim())).collect(),
        }
    }

    /// Notes what the last row waits for.
    fn wait(&mut self, row: &Row, links: Waits, arrival: Option<i64>) {
        let Some(sessions) = self.sessions.as_mut().filter(|_| !links.is_empty()) else { return };
        let (at, line) = ((self.arrival.len() - 1) as u32, row.line);
        if arrival.is_none() {
            sessions.links.without_arrival.push((at, line));
        }
        sessions.links.list.extend(links.into_iter().map(|(on, delay_ns)| Link {
            row: at,
            line,
            on,
            delay_ns,
        }));
    }

    /// What a row carries besides arrival and lengths.
    fn carried_by<'a>(
        &mut self,
        row: &Row<'a>,
        arrival: Option<i64>,
        prompt: u32,
    ) -> Result<CarriedRow<'a>, Mistake> {
        let native = self.format() == Format::Native;
        let values = &mut self.values;
        let image_sizes = values.listed(row, Slot::ImageTokens)?;
        let listed = image_sizes.as_ref().map(|sizes| sizes.len() as u32);
        let text = |slot| row.given(slot).map(|(_, text): (u8, &'a str)| text_of(text));
        let carried = CarriedRow {
            group: text(Slot::PrefixGroup),
            prefix_tokens: values.optional_count(row, Slot::PrefixTokens)?,
            cached_tokens: values.optional_count(row, Slot::Cached)?,
            lora: text(Slot::Lora),
            tenant: text(Slot::Tenant),
            images: values.optional_count(row, Slot::Images)?.or(listed),
            image_sizes,
            image_tokens: values.summed(row, Slot::ImageTokens)?,
            audio_tokens: values.summed(row, Slot::AudioTokens)?,
            video_tokens: values.summed(row, Slot::VideoTokens)?,
            slo_class: text(Slot::SloClass),
            // Other formats number turns in other ways.
            turn: if native { values.optional_count(row, Slot::Turn)? } else { None },
            max_output_tokens: values.optional_count(row, Slot::MaxOutput)?,
            reasoning_tokens: values.optional_count(row, Slot::Reasoning)?,
            timeout_ns: values.optional_duration(row, Slot::Timeout)?,
            deadline_ns: values.observed(row, Slot::Deadline, Slot::DeadlineAt, arrival)?,
            ttft_ns: values.observed(row, Slot::Ttft, Slot::FirstAt, arrival)?,
            e2e_ns: values.observed(row, Slot::E2e, Slot::EndAt, arrival)?,
            tpot_ns: values.optional_duration(row, Slot::Tpot)?,
        };
        for (slot, tokens) in
            [(Slot::PrefixTokens, carried.prefix_tokens), (Slot::Cached, carried.cached_tokens)]
        {
            if let Some(tokens) = tokens.filter(|tokens| *tokens > prompt) {
                let must = format!("must be at most the tokens of the prompt ({prompt})");
                return Err(Mistake::new(self.name_of(row, slot), must, tokens.to_string()));
            }
        }
        Ok(carried)
    }

    /// Reads the hash ids, which go on behind those of another request if that is given; whether there were any.
    fn hash_path(&mut self, row: &Row, prompt: u32, behind: Option<u32>) -> Result<bool, Mistake> {
        self.own_block_size(row)?;
        let Some((alias, text)) = row.given(Slot::Hashes) else { return Ok(false) };
        let (field, requests) = (self.values.name(alias), self.arrival.len());
        let column = self.hashes.get_or_insert_with(|| HashColumn::after(requests));
        let blocks = column.read(field, text, behind)? as u64;
        let needed = u64::from(match self.block_rule {
            BlockRule::Floor => prompt / self.block_size,
            BlockRule::Ceil | BlockRule::Leading => prompt.div_ceil(self.block_size),
        });
        let fits = blocks == needed || self.block_rule == BlockRule::Leading && blocks < needed;
        if !fits && blocks > 0 {
            let detail = || format!("line {}: {prompt} tokens need {needed}, has {blocks}", row.line);
            self.values.tallies.hash_mismatch.note(row.line, detail);
        }
        Ok(true)
    }

    /// Takes the block size that the row gives, which must be that of the rows before.
    fn own_block_size(&mut self, row: &Row) -> Result<(), Mistake> {
        if row.given(Slot::BlockSize).is_none() || self.values.options.trace_block_size.is_some() {
            return Ok(());
        }
        let size = self.values.count(row, Slot::BlockSize)?;
        let name = self.name_of(row, Slot::BlockSize);
        if size == 0 {
            return Err(Mistake::new(name, "must be at least 1 token", "0"));
        }
        if self.block_size_line.is_some() && size != self.block_size {
            let must = format!("must be the same on every line ({})", self.block_size);
            return Err(Mistake::new(name, must, size.to_string()));
        }
        self.block_size_line.get_or_insert(row.line);
        self.block_size_told = true;
        self.block_size = size;
        Ok(())
    }

    /// From here on, hash ids mean something else than before.
    pub fn begin_hash_scope(&mut self) {
        if let Some(hashes) = &mut self.hashes {
            hashes.begin_scope();
        }
    }

    /// Appends what was read.
    fn keep(
        &mut self,
        row: &Row,
        (arrival, prompt, output): (Option<i64>, u32, u32),
        turn: Option<Turn>,
        priority: Option<i32>,
        hashed: bool,
    ) {
        let requests = self.arrival.len();
        self.arrival.push(arrival.unwrap_or(i64::MIN));
        self.prompt.push(prompt);
        self.output.push(output);
        if let Some(hashes) = &mut self.hashes {
            hashes.keep(hashed);
        }
        if turn.is_some() && self.sessions.is_none() {
            self.sessions = Some(SessionColumns::after(requests));
        }
        if let Some(sessions) = &mut self.sessions {
            sessions.push(&turn.unwrap_or_default());
        }
        if priority.is_some() || !self.priority.is_empty() {
            self.priority.resize(requests, 0);
            self.priority.push(priority.unwrap_or(0));
        }
        self.keep_id(row, requests);
        if let Some((_, model)) = row.given(Slot::Model) {
            self.carried.set_model(requests, &text_of(model));
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
        self.ids.push(id);
    }
}
