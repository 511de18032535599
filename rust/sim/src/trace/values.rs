//! From the text of a field to its value: what must hold of each value, and what is noted of it.

use std::borrow::Cow;

use super::datetime;
use super::format::{Alias, Schema, Slot};
use super::mistakes::{Mistake, shortened};
use super::number::{self, Broken};
use super::options::ReadOptions;
use super::policy::{PriorityOrder, TimeUnit};
use super::row::Row;
use super::schemas;

/// A text without the quotes JSON puts around it.
fn bare(raw: &str) -> &str {
    raw.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(raw)
}

/// Whether a text has the shape of a date.
pub(super) fn is_date(raw: &str) -> bool {
    let text = bare(raw).as_bytes();
    text.len() >= 10 && text[4] == b'-' && text[7] == b'-'
}

/// What is said of a field that a row lacks.
pub(super) const MISSING: &str = "must be given";

/// How often something was repaired, and where first.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    pub count: u64,
    pub first_line: u64,
    pub detail: String,
}

impl Tally {
    pub fn note(&mut self, line: u64, detail: impl FnOnce() -> String) {
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
    pub default_output: Tally,
    pub failed: Tally,
    pub hash_mismatch: Tally,
    pub back_in_time: Tally,
    pub largest_step_ns: i64,
    pub zoned: Tally,
    pub unzoned: Tally,
    pub fractional: bool,
}

/// Reads the values of a file's rows.
pub(super) struct Values {
    pub schema: &'static Schema,
    pub options: ReadOptions,
    pub tallies: Tallies,
    arrival_alias: Option<u8>,
    /// The unit of the arrivals, where the user named their field.
    mapped_unit: Option<TimeUnit>,
    /// Whether the arrivals are dates, where the format leaves it open.
    dated: Option<bool>,
    /// The last arrival that stood in the file.
    last_given: Option<i64>,
}

impl Values {
    pub fn new(schema: &'static Schema, options: &ReadOptions) -> Values {
        let (options, tallies) = (options.clone(), Tallies::default());
        let mapped_unit = options.map.iter().find_map(|map| schemas::unit_of_arrival(&map.native));
        Values { schema, options, tallies, arrival_alias: None, mapped_unit, dated: None, last_given: None }
    }

    /// The unit of a field's times. Only an arrival can be a date: a delay keeps the format's unit.
    pub fn unit(&self, alias: u8) -> TimeUnit {
        let Alias { slot, unit: own, .. } = self.schema.aliases[usize::from(alias)];
        let own = self.mapped_unit.filter(|_| slot == Slot::Arrival).or(own);
        let chosen =
            self.options.time_unit.filter(|unit| slot == Slot::Arrival || *unit != TimeUnit::DateTime);
        own.or(chosen).unwrap_or(self.schema.unit)
    }

    /// The unit of the arrivals.
    pub fn arrival_unit(&self) -> TimeUnit {
        if self.dated == Some(true) || self.options.time_format.is_some() {
            return TimeUnit::DateTime;
        }
        let unnamed = self.mapped_unit.or(self.options.time_unit).unwrap_or(self.schema.unit);
        self.arrival_alias.map_or(unnamed, |alias| self.unit(alias))
    }

    /// The name a user knows a field by.
    pub fn name(&self, alias: u8) -> &'static str {
        self.schema.aliases[usize::from(alias)].name
    }

    /// The mistake of a row that lacks `slot`.
    pub fn missing(&self, slot: Slot, row: &Row) -> Mistake {
        let alias = self.schema.aliases.iter().find(|alias| alias.slot == slot);
        let name =
            row.value(slot).map_or(alias.map_or("", |alias| alias.name), |(alias, _)| self.name(alias));
        match row.value(slot) {
            Some((_, "null")) => Mistake::new(name, "must be given, not null", "null"),
            Some(_) => Mistake::new(name, "must be given, not an empty cell", "nothing"),
            None => Mistake::new(name, MISSING, "missing"),
        }
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

    /// A count of tokens.
    pub fn count(&mut self, row: &Row, slot: Slot) -> Result<u32, Mistake> {
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
    pub fn own_arrival(&mut self, row: &Row) -> Result<Option<i64>, Mistake> {
        let Some((alias, raw)) = row.given(Slot::Arrival) else {
            let null = row.value(Slot::Arrival).is_some();
            return if null { Err(self.missing(Slot::Arrival, row)) } else { Ok(None) };
        };
        let first = *self.arrival_alias.get_or_insert(alias);
        if first != alias && !self.means_the_same(first, alias) {
            let must =
                format!("every line must give its arrival in the same field and unit ({})", self.name(first));
            return Err(Mistake::new("", must, self.name(alias)));
        }
        self.instant(row, alias, raw).map(Some)
    }

    /// Whether two names of the arrival leave its unit to the format, so that neither tells another than the other.
    fn means_the_same(&self, first: u8, second: u8) -> bool {
        let untold = |alias: u8| self.schema.aliases[usize::from(alias)].unit.is_none();
        untold(first) && untold(second) && self.options.map.is_empty()
    }

    /// A point in time on the clock of the arrivals.
    pub fn instant(&mut self, row: &Row, alias: u8, raw: &str) -> Result<i64, Mistake> {
        let Alias { slot, unit, .. } = self.schema.aliases[usize::from(alias)];
        if self.options.time_format.is_some() && (slot == Slot::Arrival || unit.is_none()) {
            return self.moment(row, alias, raw);
        }
        if self.schema.dates && self.options.time_unit.is_none() && self.mapped_unit.is_none() {
            let dated = is_date(raw);
            if *self.dated.get_or_insert(dated) != dated {
                let kind = if dated { "numbers" } else { "dates" };
                let must = format!("must be of one kind with the times before ({kind})");
                return Err(Mistake::new(self.name(alias), must, shortened(raw)));
            }
            if dated {
                return self.moment(row, alias, raw);
            }
        }
        match self.unit(alias) {
            TimeUnit::DateTime => self.moment(row, alias, raw),
            unit => {
                if !self.tallies.fractional && raw.contains(['.', 'e', 'E']) {
                    self.tallies.fractional = number::is_fractional(raw.as_bytes());
                }
                self.time(row, alias, raw, unit)
            }
        }
    }

    /// A duration, which cannot be negative.
    pub fn duration(&mut self, row: &Row, alias: u8, raw: &str) -> Result<u64, Mistake> {
        let nanos = self.time(row, alias, raw, self.unit(alias))?;
        u64::try_from(nanos).map_err(|_| Mistake::new(self.name(alias), "must be at least 0", shortened(raw)))
    }

    /// A duration of a slot that a row may have.
    pub fn optional_duration(&mut self, row: &Row, slot: Slot) -> Result<Option<u64>, Mistake> {
        row.given(slot).map(|(alias, raw)| self.duration(row, alias, raw)).transpose()
    }

    /// A count of a slot that a row may have.
    pub fn optional_count(&mut self, row: &Row, slot: Slot) -> Result<Option<u32>, Mistake> {
        row.given(slot).map(|_| self.count(row, slot)).transpose()
    }

    /// A date with a time of day.
    fn moment(&mut self, row: &Row, alias: u8, raw: &str) -> Result<i64, Mistake> {
        let text = bare(raw);
        let written = self.options.time_format.as_ref();
        let read = written.map_or_else(|| datetime::parse(text.as_bytes()), |how| how.read(text.as_bytes()));
        match read {
            Ok(instant) => {
                let tally = if instant.zoned { &mut self.tallies.zoned } else { &mut self.tallies.unzoned };
                tally.note(row.line, String::new);
                Ok(instant.nanos)
            }
            Err(datetime::Broken::NoSuchTime) => {
                Err(Mistake::new(self.name(alias), "must be a date and time that exist", shortened(text)))
            }
            Err(datetime::Broken::Shape) => {
                let how = written.map_or("YYYY-MM-DD HH:MM:SS[.fraction][zone]", |how| how.text());
                let must = format!("must be a date and time as {how}");
                let mistake = Mistake::new(self.name(alias), must, shortened(text));
                let hint = "`--time-format` says how else they are written, for example `%d/%m/%Y %H:%M:%S`";
                Err(if written.is_none() { mistake.hinted(hint) } else { mistake })
            }
        }
    }

    /// A number of `unit`s, as nanoseconds.
    pub fn time(&mut self, row: &Row, alias: u8, raw: &str, unit: TimeUnit) -> Result<i64, Mistake> {
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

    /// A count, or the sum of a list of counts.
    pub fn summed(&mut self, row: &Row, slot: Slot) -> Result<Option<u32>, Mistake> {
        match self.listed(row, slot)? {
            Some(counts) => Ok(Some(counts.iter().sum())),
            None => self.optional_count(row, slot),
        }
    }

    /// The counts of a list, where there is one; their sum is a count, too.
    pub fn listed(&self, row: &Row, slot: Slot) -> Result<Option<Box<[u32]>>, Mistake> {
        let Some((alias, raw)) = row.given(slot) else { return Ok(None) };
        let Some(list) = raw.strip_prefix('[').and_then(|list| list.strip_suffix(']')) else {
            return Ok(None);
        };
        let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
        let counts: Option<Box<[u32]>> = items.map(|item| number::tokens(item.as_bytes()).ok()).collect();
        let sum = |counts: &[u32]| counts.iter().map(|count| u64::from(*count)).sum::<u64>();
        match counts.filter(|counts| sum(counts) <= u64::from(number::TOKENS_MAX)) {
            Some(counts) => Ok(Some(counts)),
            None => Err(Mistake::new(self.name(alias), "must be a list of whole numbers", shortened(raw))),
        }
    }

    /// What was measured of a request: a duration, or the time since its arrival at a point in time; 0 is none.
    pub fn observed(
        &mut self,
        row: &Row,
        duration: Slot,
        at: Slot,
        arrival: Option<i64>,
    ) -> Result<Option<u64>, Mistake> {
        if let Some(nanos) = self.optional_duration(row, duration)? {
            return Ok(Some(nanos));
        }
        let (Some((alias, raw)), Some(arrival)) = (row.given(at), arrival) else { return Ok(None) };
        match self.instant(row, alias, raw)? {
            0 => Ok(None),
            end if end < arrival => {
                Err(Mistake::new(self.name(alias), "must not lie before the arrival", shortened(raw)))
            }
            end => Ok(Some(end.abs_diff(arrival))),
        }
    }

    /// The priority, lower first; none if the row has none.
    pub fn priority(&mut self, row: &Row) -> Result<Option<i32>, Mistake> {
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

    /// Notes if an arrival lies before the one above it.
    pub fn follow_time(&mut self, line: u64, now: i64) {
        if let Some(before) = self.last_given.replace(now).filter(|before| now < *before) {
            self.tallies.back_in_time.note(line, String::new);
            self.tallies.largest_step_ns = self.tallies.largest_step_ns.min(now.saturating_sub(before));
        }
    }
}
