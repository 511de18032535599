//! Prefixes: which contents stand behind which block, compared exactly, by the path of tokens that leads to them.
//!
//! A prefix is a number that stands for a whole path: equal numbers are equal tokens from the first on, so there are
//! no collisions to think of. Blocks with equal content are not merged; a lookup finds the oldest (as in vLLM).

use rustc_hash::FxHashMap;

use super::blocks::NONE;
use crate::request::Piece;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Content that several requests may have.
    Shared,
    /// Content of one living request.
    Private,
    /// Content of a request that has ended, still in a block.
    Orphan,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    oldest: u32,
    newest: u32,
    owner: Owner,
    /// What it adds to its parent; meaningless for private content.
    content: Content,
    /// The first shared prefix that continued this one. Most prefixes are continued in one way only: then no map of
    /// paths is needed.
    first_child: u32,
}

/// What a block adds to a path: the place of its tokens in a segment, or a composite and [`NONE`].
type Content = (u32, u32);

/// All prefixes met so far, and the blocks that hold them.
#[derive(Debug, Clone)]
pub struct Prefixes {
    /// Prefixes by what leads to them, the first children of others apart.
    paths: FxHashMap<(u32, Content), u32>,
    /// Contents of several pieces, numbered.
    composites: FxHashMap<Vec<Piece>, u32>,
    entries: Vec<Entry>,
    /// Numbers that can be given again.
    spare: Vec<u32>,
    /// For each block its neighbours among the blocks with equal content, older and newer.
    twins: Vec<(u32, u32)>,
    cached: u32,
}

impl Prefixes {
    /// No prefixes yet, in a pool of `blocks`.
    pub fn new(blocks: u32) -> Prefixes {
        Prefixes {
            paths: FxHashMap::default(),
            composites: FxHashMap::default(),
            entries: Vec::new(),
            spare: Vec::new(),
            twins: vec![(NONE, NONE); blocks as usize],
            cached: 0,
        }
    }

    /// The prefix that continues `parent` ([`NONE`] at the beginning) with the content of one block.
    pub fn intern(&mut self, parent: u32, content: &[Piece]) -> u32 {
        let private_parent = parent != NONE && self.entries[parent as usize].owner != Owner::Shared;
        if private_parent || content.iter().any(|piece| piece.segment == Piece::PRIVATE) {
            return self.create(Owner::Private, (NONE, NONE));
        }
        let content = match content {
            [piece] => (piece.segment, piece.start),
            pieces => (self.composite(pieces), NONE),
        };
        let sibling = if parent == NONE { NONE } else { self.entries[parent as usize].first_child };
        if sibling != NONE && self.entries[sibling as usize].content == content {
            return sibling;
        }
        if sibling == NONE && parent != NONE {
            let prefix = self.create(Owner::Shared, content);
            self.entries[parent as usize].first_child = prefix;
            return prefix;
        }
        if let Some(&known) = self.paths.get(&(parent, content)) {
            return known;
        }
        let prefix = self.create(Owner::Shared, content);
        self.paths.insert((parent, content), prefix);
        prefix
    }

    fn composite(&mut self, pieces: &[Piece]) -> u32 {
        if let Some(&known) = self.composites.get(pieces) {
            return known;
        }
        let number = self.composites.len() as u32;
        self.composites.insert(pieces.to_vec(), number);
        number
    }

    fn create(&mut self, owner: Owner, content: Content) -> u32 {
        let entry = Entry { oldest: NONE, newest: NONE, owner, content, first_child: NONE };
        if let Some(prefix) = self.spare.pop() {
            self.entries[prefix as usize] = entry;
            return prefix;
        }
        self.entries.push(entry);
        self.entries.len() as u32 - 1
    }

    /// The oldest block that holds the prefix, or [`NONE`].
    pub fn block(&self, prefix: u32) -> u32 {
        self.entries[prefix as usize].oldest
    }

    /// A block now holds the prefix.
    pub fn register(&mut self, prefix: u32, block: u32) {
        let entry = &mut self.entries[prefix as usize];
        self.twins[block as usize] = (entry.newest, NONE);
        if entry.newest == NONE {
            entry.oldest = block;
            self.cached += 1;
        } else {
            self.twins[entry.newest as usize].1 = block;
        }
        entry.newest = block;
    }

    /// A block no longer holds the prefix.
    pub fn forget(&mut self, prefix: u32, block: u32) {
        let (older, newer) = self.twins[block as usize];
        let entry = &mut self.entries[prefix as usize];
        match older {
            NONE => entry.oldest = newer,
            older => self.twins[older as usize].1 = newer,
        }
        match newer {
            NONE => entry.newest = older,
            newer => self.twins[newer as usize].0 = older,
        }
        if entry.oldest == NONE {
            self.cached -= 1;
            if entry.owner == Owner::Orphan {
                self.spare.push(prefix);
            }
        }
    }

    /// The request whose prefixes these are has ended: what only it had can never be found again.
    pub fn retire(&mut self, prefixes: &[u32]) {
        for &prefix in prefixes {
            let entry = &mut self.entries[prefix as usize];
            if entry.owner != Owner::Private {
                continue;
            }
            if entry.oldest == NONE {
                self.spare.push(prefix);
            } else {
                entry.owner = Owner::Orphan;
            }
        }
    }

    /// Distinct prefixes that some block holds.
    pub fn cached(&self) -> u32 {
        self.cached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(segment: u32, start: u32) -> Piece {
        Piece { segment, start, length: 4 }
    }

    #[test]
    fn equal_content_after_unequal_beginnings_is_another_prefix() {
        let mut prefixes = Prefixes::new(4);
        let a = prefixes.intern(NONE, &[piece(1, 0)]);
        let b = prefixes.intern(NONE, &[piece(2, 0)]);
        assert_eq!(prefixes.intern(NONE, &[piece(1, 0)]), a);
        assert_ne!(prefixes.intern(a, &[piece(3, 0)]), prefixes.intern(b, &[piece(3, 0)]));
        let mixed = prefixes.intern(a, &[piece(3, 0), piece(4, 0)]);
        assert_eq!(prefixes.intern(a, &[piece(3, 0), piece(4, 0)]), mixed);
        assert_ne!(prefixes.intern(a, &[piece(3, 0), piece(5, 0)]), mixed);
    }

    #[test]
    fn a_lookup_finds_the_oldest_block_still_there() {
        let mut prefixes = Prefixes::new(8);
        let prefix = prefixes.intern(NONE, &[piece(1, 0)]);
        for block in [5, 3, 7] {
            prefixes.register(prefix, block);
        }
        prefixes.forget(prefix, 3);
        assert_eq!((prefixes.block(prefix), prefixes.cached()), (5, 1));
        prefixes.forget(prefix, 5);
        assert_eq!(prefixes.block(prefix), 7);
        prefixes.forget(prefix, 7);
        assert_eq!((prefixes.block(prefix), prefixes.cached()), (NONE, 0));
    }

    #[test]
    fn private_content_is_never_shared_and_its_numbers_return() {
        let mut prefixes = Prefixes::new(8);
        let private = piece(Piece::PRIVATE, 0);
        let first = prefixes.intern(NONE, &[private]);
        assert_ne!(prefixes.intern(NONE, &[private]), first);
        let child = prefixes.intern(first, &[piece(1, 0)]);
        prefixes.register(child, 2);
        prefixes.retire(&[first, child]);
        assert_eq!(prefixes.intern(NONE, &[private]), first);
        prefixes.forget(child, 2);
        assert_eq!(prefixes.intern(NONE, &[private]), child);
    }
}
