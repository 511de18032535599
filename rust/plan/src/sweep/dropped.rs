//! How many points were dropped, and why.

use std::collections::BTreeMap;

/// Points that a sweep left out, by reason.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Dropped {
    reasons: BTreeMap<String, (u64, String)>,
}

impl Dropped {
    /// Counts points; `example` says what was wrong with the first.
    pub fn add(&mut self, reason: &str, points: u64, example: impl FnOnce() -> String) {
        if points == 0 {
            return;
        }
        match self.reasons.get_mut(reason) {
            Some((count, _)) => *count += points,
            None => {
                let example = example();
                // Errors begin with what must hold, which the reason has said.
                let value = example.strip_prefix(reason).and_then(|rest| rest.strip_prefix(": "));
                let example = value.map(|value| format!("it is {value}")).unwrap_or(example);
                self.reasons.insert(reason.to_string(), (points, example));
            }
        }
    }

    /// Counts the points of another.
    pub fn append(&mut self, other: &Dropped) {
        for (reason, (points, example)) in &other.reasons {
            self.add(reason, *points, || example.clone());
        }
    }

    /// Reason, points, and what was wrong with the first; by reason.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64, &str)> {
        self.reasons.iter().map(|(reason, (points, example))| (reason.as_str(), *points, example.as_str()))
    }

    /// How many points in all.
    pub fn points(&self) -> u64 {
        self.reasons.values().map(|(points, _)| points).sum()
    }
}
