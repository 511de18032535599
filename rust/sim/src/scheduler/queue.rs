//! Requests that wait, in the order in which they are tried.

use std::collections::{BTreeSet, VecDeque};

use super::config::Policy;

/// Priority, arrival, sequence: lower first.
type Rank<S> = (i32, u64, S);

/// The waiting queue of an engine; `S` is what it calls a sequence, its number first.
#[derive(Debug, Clone)]
pub enum Queue<S> {
    /// First come, first served; who was preempted comes before everybody.
    Fcfs(VecDeque<S>),
    /// By rank.
    Priority(BTreeSet<Rank<S>>),
}

impl<S: Copy + Ord> Queue<S> {
    /// An empty queue of an engine under that policy.
    pub fn of(policy: Policy) -> Queue<S> {
        match policy {
            Policy::Fcfs | Policy::LongestPrefix => Queue::Fcfs(VecDeque::new()),
            Policy::Priority => Queue::Priority(BTreeSet::new()),
        }
    }

    /// Requests waiting.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Queue::Fcfs(queue) => queue.len(),
            Queue::Priority(queue) => queue.len(),
        }
    }

    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who is tried next.
    #[inline]
    pub fn front(&self) -> Option<S> {
        match self {
            Queue::Fcfs(queue) => queue.front().copied(),
            Queue::Priority(queue) => queue.first().map(|rank| rank.2),
        }
    }

    /// Takes out who is tried next.
    #[inline]
    pub fn pop(&mut self) -> Option<S> {
        match self {
            Queue::Fcfs(queue) => queue.pop_front(),
            Queue::Priority(queue) => queue.pop_first().map(|rank| rank.2),
        }
    }

    /// A request that has just arrived.
    #[inline]
    pub fn push(&mut self, rank: Rank<S>) {
        match self {
            Queue::Fcfs(queue) => queue.push_back(rank.2),
            Queue::Priority(queue) => {
                queue.insert(rank);
            }
        }
    }

    /// A request that was preempted or set aside.
    #[inline]
    pub fn put_back(&mut self, rank: Rank<S>) {
        match self {
            Queue::Fcfs(queue) => queue.push_front(rank.2),
            Queue::Priority(queue) => {
                queue.insert(rank);
            }
        }
    }

    /// Sorts those in order of arrival anew; equals stay in their order.
    pub fn sort_by_key<K: Ord>(&mut self, key: impl FnMut(&S) -> K) {
        if let Queue::Fcfs(queue) = self {
            queue.make_contiguous().sort_by_cached_key(key);
        }
    }

    /// Takes out a request that ended while it waited.
    pub fn remove(&mut self, rank: Rank<S>) {
        match self {
            Queue::Fcfs(queue) => queue.retain(|&sequence| sequence != rank.2),
            Queue::Priority(queue) => {
                queue.remove(&rank);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preempted_come_first_only_where_no_priority_rules() {
        let order = |mut queue: Queue<u32>| {
            queue.push((1, 10, 0));
            queue.push((0, 11, 1));
            queue.put_back((2, 5, 2));
            queue.push((0, 11, 3));
            queue.remove((0, 11, 3));
            assert_eq!((queue.len(), queue.is_empty()), (3, false));
            let front = queue.front();
            let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
            assert_eq!(front, order.first().copied());
            order
        };
        assert_eq!(order(Queue::Fcfs(VecDeque::new())), [2, 0, 1]);
        assert_eq!(order(Queue::Priority(BTreeSet::new())), [1, 0, 2]);
    }
}
