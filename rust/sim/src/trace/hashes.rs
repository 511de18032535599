//! Hash ids of prompts, read exactly and made dense.

use rustc_hash::FxHashMap;

use super::BlockHashes;
use super::mistakes::{Mistake, shortened};

/// The paths of the requests read so far.
pub(super) struct HashColumn {
    offsets: Vec<u64>,
    ids: Vec<u32>,
    dense: Dense,
}

/// Dense numbers of hashes, in the order in which they are first seen.
#[derive(Default)]
pub(crate) struct Dense {
    /// One more than the number of each hash below [`Dense::SMALL`]; 0 where it was not seen. Most files number their
    /// blocks from 0, and an index is several times faster than a hash map.
    small: Vec<u32>,
    large: FxHashMap<u64, u32>,
    count: u32,
}

impl Dense {
    /// At most 16 MiB of indices.
    const SMALL: u64 = 1 << 22;

    /// The number of a hash.
    pub fn of(&mut self, hash: u64) -> u32 {
        let number = if hash < Self::SMALL {
            let place = hash as usize;
            if place >= self.small.len() {
                self.small.resize((place + 1).next_power_of_two(), 0);
            }
            let seen = &mut self.small[place];
            if *seen == 0 {
                *seen = self.count + 1;
            }
            *seen - 1
        } else {
            *self.large.entry(hash).or_insert(self.count)
        };
        self.count = self.count.max(number + 1);
        number
    }
}

impl HashColumn {
    /// For `requests` that had no hashes.
    pub fn after(requests: usize) -> HashColumn {
        HashColumn { offsets: vec![0; requests + 1], ids: Vec::new(), dense: Dense::default() }
    }

    /// From here on, ids mean something else than before.
    pub fn begin_scope(&mut self) {
        self.dense.small.clear();
        self.dense.large.clear();
    }

    /// Reads the JSON list `text` as the path of the next request, behind that of request `behind` if there is one;
    /// [`HashColumn::keep`] confirms it. How many ids were read.
    pub fn read(&mut self, field: &str, text: &str, behind: Option<u32>) -> Result<usize, Mistake> {
        self.ids.truncate(self.offsets[self.offsets.len() - 1] as usize);
        if let Some(row) = behind.map(|row| row as usize) {
            self.ids.extend_from_within(self.offsets[row] as usize..self.offsets[row + 1] as usize);
        }
        let start = self.ids.len();
        let Some(list) = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) else {
            return Err(Mistake::new(field, "must be a list of whole numbers", shortened(text)));
        };
        if list.trim_ascii().is_empty() {
            return Ok(0);
        }
        for item in list.as_bytes().split(|byte| *byte == b',') {
            let Some(hash) = exact(item.trim_ascii()) else {
                let value = String::from_utf8_lossy(item.trim_ascii()).into_owned();
                return Err(Mistake::new(field, "must hold whole numbers from 0 to 2^64 - 1", value));
            };
            self.ids.push(self.dense.of(hash));
        }
        Ok(self.ids.len() - start)
    }

    /// Ends the path of a request, as read or empty.
    pub fn keep(&mut self, read: bool) {
        if !read {
            self.ids.truncate(self.offsets[self.offsets.len() - 1] as usize);
        }
        self.offsets.push(self.ids.len() as u64);
    }

    /// How many ids each request has.
    pub fn lengths(&self) -> impl Iterator<Item = u64> + Clone + '_ {
        self.offsets.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// The paths, for ids of `block_size` tokens.
    pub fn into_hashes(self, block_size: u32) -> BlockHashes {
        BlockHashes { block_size, offsets: self.offsets, ids: self.ids }
    }
}

/// A whole number, never through a float: hashes use all 64 bits.
fn exact(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |sum, byte| match byte {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_above_2_to_63_that_differ_by_one_stay_different() {
        let mut column = HashColumn::after(0);
        assert_eq!(column.read("h", "[18435288317095910706, 13761487376996030303]", None), Ok(2));
        column.keep(true);
        assert_eq!(column.read("h", "[18435288317095910706,13761487376996030304]", None), Ok(2));
        column.keep(true);
        let hashes = column.into_hashes(16);
        assert_eq!((hashes.path(0), hashes.path(1)), (&[0, 1][..], &[0, 2][..]));
    }

    #[test]
    fn what_is_no_hash_is_refused_and_leaves_nothing_behind() {
        let mut column = HashColumn::after(1);
        for text in ["[1, -1]", "[\"a1b2\"]", "[1.5]", "[18446744073709551616]", "[1,,2]", "7", "[[1]]"] {
            assert!(column.read("h", text, None).is_err(), "{text}");
        }
        column.keep(false);
        assert_eq!(column.into_hashes(16).offsets, [0, 0, 0]);
    }

    #[test]
    fn ids_of_another_scope_are_other_blocks_and_a_path_can_go_on() {
        let mut column = HashColumn::after(0);
        column.read("h", "[1, 9000000]", None).unwrap();
        column.keep(true);
        assert_eq!(column.read("h", "[2]", Some(0)), Ok(1));
        column.keep(true);
        column.begin_scope();
        column.read("h", "[1, 9000000]", None).unwrap();
        column.keep(true);
        let hashes = column.into_hashes(16);
        assert_eq!([hashes.path(0), hashes.path(1), hashes.path(2)], [&[0, 1][..], &[0, 1, 2], &[3, 4]]);
    }
}
