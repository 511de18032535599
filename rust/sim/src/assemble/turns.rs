//! Conversations of columns: which turn waits for which.

use rustc_hash::FxHashMap;

use roofline_core::error::Error;
use roofline_core::table::Lists;

use crate::trace::Sessions;

/// What columns say about conversations; each may be absent or empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Turns {
    /// The conversation of each request; empty for one without.
    pub session: Vec<String>,
    /// Rows that must be answered before a request is sent; without any, the row before it in its conversation.
    pub after: Option<Lists<u64>>,
    /// Seconds between the last of these answers and the request.
    pub delay_s: Vec<f64>,
}

impl Turns {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.session.is_empty() && self.after.is_none() && self.delay_s.is_empty()
    }

    /// Columns that have not this number of rows, by name.
    pub(super) fn lengths(&self) -> [(&'static str, Option<usize>); 3] {
        let some = |length: usize| (length > 0).then_some(length);
        [
            ("session", some(self.session.len())),
            ("after", self.after.as_ref().map(Lists::len)),
            ("delay_s", some(self.delay_s.len())),
        ]
    }

    /// Delays of nobody.
    pub(super) fn company_mistake(&self) -> Option<Error> {
        let alone = !self.delay_s.is_empty() && self.session.is_empty() && self.after.is_none();
        alone.then(|| {
            Error::spec(
                "session",
                "must be given with delay_s",
                "absent",
                "or give after, the rows waited for",
            )
        })
    }

    /// The first row that breaks a rule; rows arrive at `arrival_s`.
    pub(super) fn mistakes(&self, arrival_s: &[f64]) -> Vec<Error> {
        let mut mistakes = Vec::new();
        let longest_s = (i64::MAX / 1_000_000_000) as f64;
        if let Some(row) = self.delay_s.iter().position(|delay| !(0.0..=longest_s).contains(delay)) {
            let must = "must be seconds from 0 up, within 292 years";
            mistakes.push(Error::spec("delay_s", must, format!("{} in row {row}", self.delay_s[row]), ""));
        }
        mistakes.extend(self.after.as_ref().and_then(|after| wrong_row(after, arrival_s)));
        mistakes
    }

    /// Who waits for whom, for the rows in that order; no mistake was found.
    pub(super) fn sessions(&self, order: &[usize]) -> Option<Sessions> {
        if self.is_empty() {
            return None;
        }
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(now, &row)| place[row] = now as u32);
        let mut sessions = Sessions { offsets: vec![0], ..Sessions::default() };
        let mut numbers: FxHashMap<&str, (u32, u32)> = FxHashMap::default();
        for (now, &row) in order.iter().enumerate() {
            let name = self.session.get(row).filter(|name| !name.is_empty());
            let mut previous = None;
            let session = name.map_or(Sessions::NONE, |name| {
                let count = numbers.len() as u32;
                let (number, last) = numbers.entry(name).or_insert((count, now as u32));
                previous = (*last != now as u32).then_some(*last);
                *last = now as u32;
                *number
            });
            sessions.session.push(session);
            let named = self.after.as_ref().map_or(&[][..], |after| after.row(row));
            let named = named.iter().map(|&before| place[before as usize]);
            let before = sessions.after.len();
            sessions.after.extend(named);
            if sessions.after.len() == before {
                sessions.after.extend(previous);
            }
            let delay_ns = self.delay_s.get(row).map_or(0, |delay| (delay * 1e9).round() as u64);
            sessions.delay_ns.resize(sessions.after.len(), delay_ns);
            sessions.offsets.push(sessions.after.len() as u64);
        }
        sessions.count = numbers.len() as u32;
        Some(sessions)
    }
}

/// The first row that waits for one that is not there, or does not come before it: so no two wait for each other.
fn wrong_row(after: &Lists<u64>, arrival_s: &[f64]) -> Option<Error> {
    for row in 0..after.len() {
        for &before in after.row(row) {
            let earlier = arrival_s
                .get(before as usize)
                .is_some_and(|arrival| (*arrival, before) < (arrival_s[row], row as u64));
            if !earlier {
                let must = "must name rows that arrive earlier, or at once and stand before";
                let hint = "rows are counted from 0; a request is sent when they are answered, and not before its arrival_s";
                return Some(Error::spec("after", must, format!("{before} in row {row}"), hint));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(rows: &[&[u64]]) -> Option<Lists<u64>> {
        let mut lists = Lists::default();
        rows.iter().for_each(|row| lists.push(row.iter().copied()));
        Some(lists)
    }

    #[test]
    fn a_turn_waits_for_the_one_before_it_or_for_those_it_names() {
        let turns = Turns {
            session: ["b", "a", "", "a"].map(String::from).to_vec(),
            after: lists(&[&[], &[], &[1], &[]]),
            delay_s: vec![0.0, 1.0, 0.5, 2.0],
        };
        // In order of arrival: rows 1, 0, 3, 2.
        let sessions = turns.sessions(&[1, 0, 3, 2]).unwrap();
        assert_eq!((sessions.count, sessions.session), (2, vec![0, 1, 0, Sessions::NONE]));
        assert_eq!((sessions.offsets, sessions.after), (vec![0, 0, 0, 1, 2], vec![0, 0]));
        assert_eq!(sessions.delay_ns, [2_000_000_000, 500_000_000]);
        assert_eq!(Turns::default().sessions(&[0]), None);
    }

    #[test]
    fn a_request_waits_only_for_what_comes_before_it() {
        let message = |rows: &[&[u64]], arrival_s: &[f64]| {
            let turns = Turns { after: lists(rows), ..Turns::default() };
            turns.mistakes(arrival_s).first().map(ToString::to_string)
        };
        let must = "after must name rows that arrive earlier, or at once and stand before";
        assert_eq!(message(&[&[], &[0]], &[1.0, 1.0]), None);
        assert_eq!(message(&[&[0], &[]], &[1.0, 1.0]), Some(format!("{must}: 0 in row 0")));
        assert_eq!(message(&[&[], &[0]], &[2.0, 1.0]), Some(format!("{must}: 0 in row 1")));
        assert_eq!(message(&[&[], &[7]], &[2.0, 3.0]), Some(format!("{must}: 7 in row 1")));
    }

    #[test]
    fn delays_are_seconds_and_need_somebody_who_waits() {
        let turns = Turns { delay_s: vec![-1.0], ..Turns::default() };
        assert_eq!(
            turns.mistakes(&[0.0])[0].to_string(),
            "delay_s must be seconds from 0 up, within 292 years: -1 in row 0"
        );
        assert_eq!(
            turns.company_mistake().unwrap().to_string(),
            "session must be given with delay_s: absent"
        );
    }
}
