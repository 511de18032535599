//! Collecting what is wrong with a file: each kind of mistake once, with how often it happens.

use super::policy::OnError;
use crate::error::Error;

/// Kinds after which reading stops.
pub(super) const KINDS_MAX: usize = 20;

/// What is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub field: String,
    pub must: String,
    pub value: String,
    pub hint: String,
}

impl Mistake {
    pub fn new(field: &str, must: impl Into<String>, value: impl Into<String>) -> Mistake {
        Mistake { field: field.to_string(), must: must.into(), value: value.into(), hint: String::new() }
    }

    pub fn hinted(mut self, hint: &str) -> Mistake {
        self.hint = hint.to_string();
        self
    }
}

struct Kind {
    first: Mistake,
    lines: Vec<u64>,
    count: u64,
}

/// The mistakes of a file, by kind (the field and what must hold of it).
#[derive(Default)]
pub(super) struct Mistakes {
    kinds: Vec<Kind>,
    /// Rows with at least one mistake.
    pub rows: u64,
}

impl Mistakes {
    /// Notes a mistake of `line`; false once there are too many kinds to go on.
    pub fn add(&mut self, line: u64, mut mistake: Mistake) -> bool {
        self.rows += 1;
        let same = |kind: &&mut Kind| kind.first.field == mistake.field && kind.first.must == mistake.must;
        if let Some(kind) = self.kinds.iter_mut().find(same) {
            kind.count += 1;
            if kind.lines.len() < 3 {
                kind.lines.push(line);
            }
        } else if self.kinds.len() < KINDS_MAX {
            mistake.value = shortened(&mistake.value);
            self.kinds.push(Kind { first: mistake, lines: vec![line], count: 1 });
        }
        self.kinds.len() < KINDS_MAX
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// How often `field` is said to break `must`.
    pub fn count(&self, field: &str, must: &str) -> u64 {
        let kind = self.kinds.iter().find(|kind| kind.first.field == field && kind.first.must == must);
        kind.map_or(0, |kind| kind.count)
    }

    /// Each kind as a text, its count and its first line: what is told when the rows are left out.
    pub fn told(&self) -> impl Iterator<Item = (String, u64, u64)> {
        self.kinds.iter().map(|kind| {
            let Mistake { field, must, value, .. } = &kind.first;
            let space = if field.is_empty() { "" } else { " " };
            (format!("left out: {field}{space}{must}: {value}"), kind.count, kind.lines[0])
        })
    }

    /// The error that refuses the file, of which `rows` were read.
    pub fn into_error(self, file: &str, rows: u64, policy: OnError) -> Error {
        let skip = match policy {
            OnError::Stop => format!("`--on-error skip` leaves out {} of {rows} rows", self.rows),
            OnError::Skip => "without them no row is left".to_string(),
        };
        let mut errors: Vec<Error> =
            self.kinds.into_iter().map(|kind| kind.into_error(file, &skip)).collect();
        match errors.len() {
            1 => errors.remove(0),
            _ => Error::Traces { file: file.to_string(), errors },
        }
    }
}

impl Kind {
    fn into_error(self, file: &str, skip: &str) -> Error {
        let lines = self.lines.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let more = match self.count {
            1 => String::new(),
            count if count as usize > self.lines.len() => format!("{count} lines (first: {lines})"),
            count => format!("{count} lines ({lines})"),
        };
        let hint = if self.first.hint.is_empty() { skip } else { &self.first.hint };
        let hint = if more.is_empty() { hint.to_string() } else { format!("{more}; {hint}") };
        Error::trace(file, self.lines[0], self.first.field, self.first.must, self.first.value).hinted(hint)
    }
}

/// A value as it can stand in a message: at most 80 characters.
pub(super) fn shortened(value: &str) -> String {
    if value.chars().count() <= 80 {
        return value.to_string();
    }
    format!("{}…", value.chars().take(79).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_made_twice_is_told_once_with_both_lines() {
        let mut mistakes = Mistakes::default();
        mistakes.add(2, Mistake::new("input_length", "must be at least 0", "-5"));
        mistakes.add(7, Mistake::new("input_length", "must be at least 0", "-9"));
        let error = mistakes.into_error("t.jsonl", 9, OnError::Stop);
        assert_eq!(error.to_string(), "t.jsonl:2: input_length must be at least 0: -5");
        assert_eq!(error.hint(), "2 lines (2, 7); `--on-error skip` leaves out 2 of 9 rows");
    }

    #[test]
    fn whoever_skips_already_is_not_told_to() {
        let mut mistakes = Mistakes::default();
        mistakes.add(2, Mistake::new("input_length", "must be at least 0", "-5"));
        let error = mistakes.into_error("t.jsonl", 1, OnError::Skip);
        assert_eq!(error.hint(), "without them no row is left");
    }

    #[test]
    fn mistakes_of_several_kinds_are_told_together() {
        let mut mistakes = Mistakes::default();
        mistakes.add(1, Mistake::new("a", "must be given", "missing"));
        mistakes.add(3, Mistake::new("b", "must be given", "missing").hinted("name it"));
        let error = mistakes.into_error("t.jsonl", 4, OnError::Stop);
        assert_eq!(
            error.to_string(),
            "t.jsonl has mistakes of 2 kinds:\n  t.jsonl:1: a must be given: missing \
             (`--on-error skip` leaves out 2 of 4 rows)\n  t.jsonl:3: b must be given: missing (name it)"
        );
    }

    #[test]
    fn reading_stops_after_twenty_kinds() {
        let mut mistakes = Mistakes::default();
        let goes_on = |n: u64, mistakes: &mut Mistakes| mistakes.add(n, Mistake::new(&n.to_string(), "", ""));
        assert!((1..20).all(|n| goes_on(n, &mut mistakes)));
        assert!(!goes_on(20, &mut mistakes));
    }

    #[test]
    fn a_long_value_is_shortened() {
        assert_eq!(shortened(&"é".repeat(100)).chars().count(), 80);
    }
}
