//! One row of a file: the text of each of its fields, found by name.

use std::borrow::Cow;

use super::format::{Alias, SLOTS, Slot};
use super::mistakes::{Mistake, shortened};

/// The fields of one row, as texts.
pub(super) struct Row<'a> {
    pub line: u64,
    /// Which of `values` are of this row, a bit each: the others are left from rows before.
    has: u32,
    values: [(u8, &'a str); SLOTS],
    /// Values of the slots that are rare: a row that has none stays small.
    rare: Vec<(Slot, (u8, &'a str))>,
    /// A field that stands twice; its last value counts.
    pub repeated: Option<u8>,
    /// Two names for one thing with different values.
    pub conflict: Option<(u8, u8)>,
    /// A value nested deeper than any trace needs.
    pub too_deep: bool,
}

/// The slots of a row that says when it arrives and how long it is, and nothing else.
const PLAIN: u32 = 1 << Slot::Arrival as u32 | 1 << Slot::Prompt as u32 | 1 << Slot::Output as u32;

impl<'a> Row<'a> {
    pub fn new(line: u64) -> Row<'a> {
        Row {
            line,
            has: 0,
            values: [(0, ""); SLOTS],
            repeated: None,
            conflict: None,
            too_deep: false,
            rare: Vec::new(),
        }
    }

    /// Empties it for the fields of another line.
    pub fn begin(&mut self, line: u64) {
        self.line = line;
        self.has = 0;
        self.rare.clear();
        (self.repeated, self.conflict, self.too_deep) = (None, None, false);
    }

    /// Whether it says when it arrives and how long it is, and nothing else, without a doubt about its fields.
    pub fn is_plain(&self) -> bool {
        self.has == PLAIN
            && self.rare.is_empty()
            && self.repeated.is_none()
            && self.conflict.is_none()
            && !self.too_deep
    }

    /// Sets the field with the name `aliases[alias]`.
    pub fn set(&mut self, aliases: &[Alias], alias: u8, text: &'a str) {
        let slot = aliases[usize::from(alias)].slot;
        let Some(value) = self.values.get_mut(slot as usize) else {
            if slot != Slot::Unused {
                self.set_rare(slot, alias, text);
            }
            return;
        };
        if self.has >> slot as u32 & 1 == 1 {
            let tells = |alias: u8| aliases[usize::from(alias)].unit.is_some();
            match value {
                (same, _) if *same == alias => self.repeated = Some(alias),
                // An arrival whose name tells its unit goes before one whose name does not.
                (other, _) if slot == Slot::Arrival && tells(*other) && !tells(alias) => return,
                (other, _) if slot == Slot::Arrival && tells(alias) && !tells(*other) => {}
                (other, before) if *before != text => self.conflict = Some((*other, alias)),
                _ => {}
            }
        }
        self.has |= 1 << slot as u32;
        *value = (alias, text);
    }

    fn set_rare(&mut self, slot: Slot, alias: u8, text: &'a str) {
        let Some((_, value)) = self.rare.iter_mut().find(|(known, _)| *known == slot) else {
            return self.rare.push((slot, (alias, text)));
        };
        match *value {
            (same, _) if same == alias => self.repeated = Some(alias),
            (other, before) if before != text => self.conflict = Some((other, alias)),
            _ => {}
        }
        *value = (alias, text);
    }

    /// Whether it has any of what only some formats carry.
    pub fn carries(&self) -> bool {
        !self.rare.is_empty()
    }

    /// A value that is there, null or not.
    pub fn value(&self, slot: Slot) -> Option<(u8, &'a str)> {
        match self.values.get(slot as usize) {
            Some(value) => (self.has >> slot as u32 & 1 == 1).then_some(*value),
            None => self.rare.iter().find(|(known, _)| *known == slot).map(|(_, value)| *value),
        }
    }

    /// Whether it has what no request is without: both lengths, and when it starts or what it waits for.
    pub fn is_complete(&self) -> bool {
        let has = |slot: &Slot| self.value(*slot).is_some();
        [Slot::Prompt, Slot::Output].iter().all(has)
            && [Slot::Arrival, Slot::Session, Slot::After].iter().any(has)
    }

    /// A value that is there and not null.
    pub fn given(&self, slot: Slot) -> Option<(u8, &'a str)> {
        self.value(slot).filter(|(_, text)| !matches!(*text, "null" | ""))
    }
}

/// A JSON text without quotes and escapes; anything else as it is.
pub(super) fn text_of(raw: &str) -> Cow<'_, str> {
    match raw.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inside) if !inside.contains('\\') => Cow::Borrowed(inside),
        Some(inside) => {
            serde_json::from_str(raw).map_or(Cow::Borrowed(inside), |text: String| Cow::Owned(text))
        }
        None => Cow::Borrowed(raw),
    }
}

/// The ids that a field names: a list of them, one alone, or none (an empty list, or Bailian's -1).
pub(super) fn named(field: &str, text: &str) -> Result<Vec<String>, Mistake> {
    if !text.starts_with('[') {
        return match text {
            "-1" => Ok(Vec::new()),
            _ if text.starts_with('{') => {
                Err(Mistake::new(field, "must be a list of ids of other requests", shortened(text)))
            }
            one => Ok(vec![text_of(one).into_owned()]),
        };
    }
    let list: Vec<&serde_json::value::RawValue> = serde_json::from_str(text)
        .map_err(|_| Mistake::new(field, "must be a list of ids of other requests", shortened(text)))?;
    Ok(list.into_iter().map(|id| text_of(id.get()).into_owned()).collect())
}
