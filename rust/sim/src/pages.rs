//! A list of millions that grows without being moved: a vector would need its space three times over while it grows.

use std::ops::Index;

/// Items of a page.
const PAGE: usize = 1 << 12;

/// A list that only grows, in pages.
#[derive(Debug, Clone, PartialEq)]
pub struct Pages<T> {
    /// All but the last are full, none is empty.
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Pages<T> {
        Pages { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// Appends an item.
    pub fn push(&mut self, item: T) {
        match self.pages.last_mut() {
            Some(page) if page.len() < PAGE => page.push(item),
            // Short lists stay small.
            None => self.pages.push(vec![item]),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(item);
                self.pages.push(page);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The item of that number, if there are so many.
    #[inline]
    pub fn get(&self, place: usize) -> Option<&T> {
        self.pages.get(place / PAGE)?.get(place % PAGE)
    }

    /// The last.
    pub fn last(&self) -> Option<&T> {
        self.pages.last()?.last()
    }

    /// The last, to be changed.
    pub fn last_mut(&mut self) -> Option<&mut T> {
        self.pages.last_mut()?.last_mut()
    }

    /// All from that number on, in order.
    pub fn from(&self, place: usize) -> impl Iterator<Item = &T> {
        let (page, within) = (place / PAGE, place % PAGE);
        self.pages.iter().skip(page).flatten().skip(within)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }

    /// How many come before the first that `is_before` does not hold of, where it holds of no later one.
    pub fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let pages = self.pages.partition_point(|page| page.first().is_some_and(&is_before));
        let Some(page) = pages.checked_sub(1) else { return 0 };
        page * PAGE + self.pages[page].partition_point(is_before)
    }
}

impl<'a, T> IntoIterator for &'a Pages<T> {
    type Item = &'a T;
    type IntoIter = std::iter::Flatten<std::slice::Iter<'a, Vec<T>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.pages.iter().flatten()
    }
}

impl<T> Index<usize> for Pages<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        &self.pages[place / PAGE][place % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_a_list() {
        for count in [0, 1, 2, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 5] {
            let mut pages = Pages::default();
            let list: Vec<usize> = (0..count).map(|number| 3 * number).collect();
            list.iter().for_each(|&number| pages.push(number));
            assert_eq!((pages.len(), pages.is_empty(), pages.last()), (count, count == 0, list.last()));
            assert!(pages.iter().eq(&list) && (&pages).into_iter().eq(&list));
            for place in [0, 1, PAGE - 1, PAGE, PAGE + 1, count.saturating_sub(1), count, count + PAGE] {
                assert_eq!(pages.get(place), list.get(place));
                assert!(pages.from(place).eq(list.iter().skip(place)));
                let point = list.partition_point(|&number| number < 3 * place);
                assert_eq!(pages.partition_point(|&number| number < 3 * place), point);
            }
            if let Some(last) = pages.last_mut() {
                *last = 7;
                assert_eq!(pages[count - 1], 7);
            }
        }
    }
}
