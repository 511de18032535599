//! What is kept of requests by their numbers, from the oldest that is under way on.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};

/// A list that grows at its end and is forgotten from its beginning; places keep their numbers.
#[derive(Debug, Clone)]
pub struct Living<T> {
    first: usize,
    items: VecDeque<T>,
}

impl<T> Default for Living<T> {
    fn default() -> Living<T> {
        Living { first: 0, items: VecDeque::new() }
    }
}

impl<T> Living<T> {
    /// Makes the place of that number one of the list, and all before it, with what `new` gives for each.
    pub fn reach(&mut self, number: usize, mut new: impl FnMut(usize) -> T) {
        for place in self.end()..=number {
            self.items.push_back(new(place));
        }
    }

    /// The number behind the last.
    pub fn end(&self) -> usize {
        self.first + self.items.len()
    }

    /// The number of the first that is kept.
    pub fn first(&self) -> usize {
        self.first
    }

    /// Forgets the first as long as `is_done` with it.
    pub fn forget_while(&mut self, is_done: impl Fn(&T) -> bool) {
        while self.items.front().is_some_and(&is_done) {
            self.items.pop_front();
            self.first += 1;
        }
    }

    /// Forgets those before that number.
    pub fn forget_before(&mut self, number: usize) {
        while self.first < number && self.items.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// What is kept of a number, if it is.
    pub fn get(&self, number: usize) -> Option<&T> {
        self.items.get(number.checked_sub(self.first)?)
    }

    /// Those that are kept, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter()
    }
}

impl<T> Index<usize> for Living<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: usize) -> &T {
        &self.items[number - self.first]
    }
}

impl<T> IndexMut<usize> for Living<T> {
    #[inline]
    fn index_mut(&mut self, number: usize) -> &mut T {
        &mut self.items[number - self.first]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_numbers_when_those_before_are_forgotten() {
        let mut living = Living::default();
        living.reach(4, |number| 10 * number);
        living.forget_while(|&item| item < 20);
        assert_eq!((living[2], living[4], living.get(1), living.get(5)), (20, 40, None, None));
        living[3] = 7;
        living.reach(5, |number| 10 * number);
        living.forget_before(3);
        assert_eq!((living.first(), living.end()), (3, 6));
        assert_eq!(living.iter().copied().collect::<Vec<_>>(), [7, 40, 50]);
        living.forget_before(9);
        assert_eq!((living.first(), living.end()), (6, 6));
    }
}
