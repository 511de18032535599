//! How many requests were there at once: had arrived and were not answered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Counts those who are there; one that ends when another arrives is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct AtOnce {
    most: u64,
    /// One after the other as they come, as long as all come in one order: who came, less who is known to have gone.
    present: Option<Present>,
    /// When each came and went, as long as they are few, where they come in several orders.
    lists: Option<(Vec<f64>, Vec<f64>)>,
    limit: usize,
}

/// Who is there.
#[derive(Debug, Clone, Default)]
struct Present {
    count: u64,
    /// Ends after the last arrival, the first on top: seconds, as bits.
    ends: BinaryHeap<Reverse<u64>>,
}

impl PartialEq for Present {
    fn eq(&self, other: &Present) -> bool {
        self.count == other.count && self.ends.len() == other.ends.len()
    }
}

impl Default for AtOnce {
    fn default() -> AtOnce {
        AtOnce { most: 0, present: Some(Present::default()), lists: None, limit: 0 }
    }
}

impl AtOnce {
    /// For requests of several replicas, each of which sees its own: up to `limit` of them.
    pub fn listed(limit: usize) -> AtOnce {
        AtOnce { most: 0, present: None, lists: Some((Vec::new(), Vec::new())), limit }
    }

    /// Of requests that came and went then, seconds.
    pub fn of(mut starts: Vec<f64>, mut ends: Vec<f64>) -> u64 {
        starts.sort_unstable_by(f64::total_cmp);
        ends.sort_unstable_by(f64::total_cmp);
        let (mut gone, mut most) = (0, 0);
        for (arrived, start) in starts.into_iter().enumerate() {
            while ends.get(gone).is_some_and(|&end| end <= start) {
                gone += 1;
            }
            most = most.max(arrived + 1 - gone);
        }
        most as u64
    }

    /// A request came, not before any other; all that went by then are known.
    pub fn came(&mut self, at_s: f64) {
        if let Some(present) = &mut self.present {
            while present.ends.peek().is_some_and(|Reverse(end)| f64::from_bits(*end) <= at_s) {
                present.ends.pop();
                present.count -= 1;
            }
            present.count += 1;
            self.most = self.most.max(present.count);
        }
        if let Some((starts, _)) = &mut self.lists {
            starts.push(at_s);
            if starts.len() > self.limit {
                self.lists = None;
            }
        }
    }

    /// A request that came was answered.
    pub fn went(&mut self, at_s: f64) {
        if let Some(present) = &mut self.present {
            present.ends.push(Reverse(at_s.to_bits()));
        }
        if let Some((_, ends)) = &mut self.lists {
            ends.push(at_s);
        }
    }

    /// Adds those of another replica.
    pub fn append(&mut self, other: AtOnce) {
        self.present = None;
        self.lists = match (self.lists.take(), other.lists) {
            (Some(mut mine), Some(theirs)) => {
                mine.0.extend(theirs.0);
                mine.1.extend(theirs.1);
                Some(mine).filter(|(starts, _)| starts.len() <= self.limit)
            }
            _ => None,
        };
    }

    /// The most; `None` where they are too many to tell.
    pub fn most(&self) -> Option<u64> {
        match (&self.present, &self.lists) {
            (Some(_), _) => Some(self.most),
            (None, Some((starts, ends))) => Some(AtOnce::of(starts.clone(), ends.clone())),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (came, went) of requests.
    const SPANS: [(f64, f64); 5] = [(0.0, 2.0), (1.0, 5.0), (2.0, 3.0), (2.5, 9.0), (5.0, 6.0)];

    #[test]
    fn one_that_ends_when_another_comes_is_gone() {
        let (starts, ends) = SPANS.into_iter().unzip();
        assert_eq!(AtOnce::of(starts, ends), 3);
        assert_eq!(AtOnce::of(vec![1.0, 0.0], vec![]), 2);
    }

    #[test]
    fn those_who_come_one_after_the_other_are_counted_without_lists() {
        let mut online = AtOnce::default();
        let mut ends: Vec<f64> = SPANS.iter().map(|span| span.1).collect();
        ends.sort_by(f64::total_cmp);
        let mut ends = ends.into_iter().peekable();
        for (came, _) in SPANS {
            // All that end up to then, and some later, are known.
            while ends.peek().is_some_and(|&end| end <= came + 0.5) {
                online.went(ends.next().unwrap());
            }
            online.came(came);
        }
        assert_eq!(online.most(), Some(3));
    }

    #[test]
    fn replicas_are_counted_together_as_long_as_they_are_few() {
        let part = |place: usize, limit: usize| {
            let mut part = AtOnce::listed(limit);
            for (came, went) in SPANS.iter().skip(place).step_by(2) {
                part.came(*came);
                part.went(*went);
            }
            part
        };
        let both = |limit: usize| {
            let mut both = part(0, limit);
            both.append(part(1, limit));
            both.most()
        };
        assert_eq!((both(5), both(4), both(2)), (Some(3), None, None));
    }
}
