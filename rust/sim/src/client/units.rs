//! Requests that belong together: what stays on one replica, and what a user does from beginning to end.

use crate::request::Rows;
use crate::trace::{Sessions, Trace};

/// The requests of a trace in units: a session, those that wait for each other, or a single request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Units {
    /// The unit of each request, numbered in the order of their first requests; empty where each is one of its own.
    of: Vec<u32>,
}

impl Units {
    /// The units of a trace.
    pub fn of(trace: &Trace) -> Units {
        let Some(sessions) = &trace.sessions else { return Units { of: Vec::new() } };
        let mut forest = Forest { parent: (0..trace.len() as u32).collect() };
        let mut first_of = vec![Sessions::NONE; sessions.count as usize];
        for row in 0..trace.len() {
            if let Some(first) = first_of.get_mut(sessions.session[row] as usize) {
                if *first == Sessions::NONE {
                    *first = row as u32;
                }
                forest.join(*first, row as u32);
            }
            for (before, _) in sessions.waits_for(row) {
                forest.join(before, row as u32);
            }
        }
        let mut number = vec![Sessions::NONE; trace.len()];
        let mut count = 0;
        let of = (0..trace.len() as u32).map(|row| {
            let root = forest.root(row) as usize;
            if number[root] == Sessions::NONE {
                number[root] = count;
                count += 1;
            }
            number[root]
        });
        Units { of: of.collect() }
    }

    /// The requests of each of `served` replicas, which get units in turn; `None` where every request is one and they
    /// are simply taken in turn.
    pub fn deal(&self, served: u32) -> Option<Vec<Vec<u32>>> {
        if self.of.is_empty() || served == 1 {
            return None;
        }
        let mut dealt = vec![Vec::with_capacity(self.of.len() / served as usize + 1); served as usize];
        for (row, unit) in self.of.iter().enumerate() {
            dealt[(unit % served) as usize].push(row as u32);
        }
        Some(dealt)
    }

    /// The requests that the replica of that number serves, of so many, as they were dealt.
    pub fn rows(dealt: Option<&[Vec<u32>]>, replica: u32, served: u32) -> Rows<'_> {
        match dealt {
            Some(dealt) => Rows::Listed(&dealt[replica as usize]),
            None => Rows::Every { first: replica, step: served },
        }
    }

    /// For the requests `rows` the unit of each, numbered anew in the order of their first requests, and how many there
    /// are; `None` where each is one of its own.
    pub(super) fn among(&self, rows: Rows<'_>) -> Option<(Vec<u32>, u32)> {
        if self.of.is_empty() {
            return None;
        }
        let most = rows.iter(self.of.len()).map(|row| self.of[row as usize]).max()?;
        let mut number = vec![Sessions::NONE; most as usize + 1];
        let mut count = 0;
        let of = rows.iter(self.of.len()).map(|row| {
            let number = &mut number[self.of[row as usize] as usize];
            if *number == Sessions::NONE {
                *number = count;
                count += 1;
            }
            *number
        });
        let of = of.collect();
        Some((of, count))
    }
}

/// Sets that are joined (Galler and Fischer, 1964); the root of a set is its first request.
struct Forest {
    parent: Vec<u32>,
}

impl Forest {
    fn root(&mut self, mut row: u32) -> u32 {
        while self.parent[row as usize] != row {
            let above = self.parent[row as usize];
            self.parent[row as usize] = self.parent[above as usize];
            row = above;
        }
        row
    }

    fn join(&mut self, one: u32, other: u32) {
        let (one, other) = (self.root(one), self.root(other));
        self.parent[one.max(other) as usize] = one.min(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_those_who_wait_for_each_other_stay_together() {
        let none = Sessions::NONE;
        let sessions = Sessions {
            count: 2,
            names: vec![],
            session: vec![0, none, 1, 0, none, 1],
            offsets: vec![0, 0, 0, 0, 0, 1, 2],
            after: vec![1, 2],
            delay_ns: vec![0, 0],
        };
        let trace = Trace { arrival_ns: vec![0; 6], sessions: Some(sessions), ..Trace::default() };
        let units = Units::of(&trace);
        assert_eq!(units.of, [0, 1, 2, 0, 1, 2]);
        let dealt = units.deal(2).unwrap();
        assert_eq!(dealt, [vec![0, 2, 3, 5], vec![1, 4]]);
        let second = Units::rows(Some(&dealt), 1, 2);
        assert_eq!(units.among(second), Some((vec![0, 0], 1)));
    }

    #[test]
    fn requests_without_company_are_dealt_in_turn() {
        let units = Units::of(&Trace { arrival_ns: vec![0; 5], ..Trace::default() });
        assert_eq!(units.deal(2), None);
        let rows = [0, 1].map(|replica| Units::rows(None, replica, 2));
        assert_eq!(rows.map(|rows| rows.iter(5).collect::<Vec<_>>()), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(rows.map(|rows| rows.count(5)), [3, 2]);
        assert_eq!(units.among(rows[0]), None);
    }
}
