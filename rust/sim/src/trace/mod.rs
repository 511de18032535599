//! Requests as columns: when each arrives, how long its prompt and output are, which prefix it shares.
//!
//! [`read`] goes from bytes to columns in five stages, one file each: the container (compression), detection (which
//! format, and why), the rows (JSON or CSV), the columns (rules, repairs, mistakes), and finishing (order, origin,
//! checks over the whole). Nothing that changes a number is repaired in silence.

mod number;
mod datetime;
mod time_format;
mod policy;
mod carried;
mod mistakes;
mod records;
mod unfold;
mod format;
mod schemas;
mod options;
mod report;
mod container;
mod diagnose;
mod detect;
mod hashes;
pub(crate) mod prefix_groups;
mod links;
mod sessions;
mod history;
mod row;
mod values;
mod columns;
mod unfolded;
mod flat;
mod json;
mod csv;
mod finish;
mod check;
mod select;
mod cut;
mod read;
mod files;
mod windows;
mod sharing;
mod inspect;
mod write;

use roofline_core::table::Texts;

pub use carried::{Carried, Labels, NOT_OBSERVED, Prefixes};
pub(crate) use check::{check_length, check_offsets};
pub use detect::{Detection, detect};
pub use files::{paths, read_files};
pub use format::Format;
pub(crate) use hashes::Dense;
pub use inspect::{InFlight, Inspection, Lengths, TOKEN_S, Turns, Windowed, inspect};
pub(crate) use number::TOKENS_MAX;
pub use options::{FieldMap, ReadOptions};
pub use policy::{OnError, OverContext, PriorityOrder, TimeUnit, TurnLengths, ZeroOutput};
pub(crate) use prefix_groups::{Adapters, GroupPaths};
pub use read::{Reader, read, read_file};
pub use report::{Report, Warning};
pub use sharing::{BLOCKS, Sharing};
pub use time_format::TimeFormat;
pub use windows::Window;
pub use write::{Written, left_out, write, write_file, write_parts};

/// Which tokens prompts share, as hash ids of their leading blocks (compared as a path, never one by one).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockHashes {
    /// Tokens an id stands for.
    pub block_size: u32,
    /// `ids[offsets[i]..offsets[i + 1]]` are the blocks of request `i`, first block first; `len() == requests + 1`.
    pub offsets: Vec<u64>,
    /// Dense ids: equal hashes of the file have equal ids.
    pub ids: Vec<u32>,
}

impl BlockHashes {
    /// The hash path of a request: the ids of its leading blocks, first block first.
    pub fn path(&self, request: usize) -> &[u32] {
        &self.ids[self.offsets[request] as usize..self.offsets[request + 1] as usize]
    }

    /// What block `k` of an engine holds: the id of the trace block in which its last token lies, and how many tokens
    /// of that trace block it reaches (1 ..= `block_size`). None beyond the hash path.
    ///
    /// The last token of engine block `k` of `e` tokens is token `t = (k + 1)·e − 1` of the prompt; it lies in trace
    /// block `p = t / B` and reaches `t mod B + 1` tokens of it (`B` = [`BlockHashes::block_size`]). An id stands for
    /// its block *and* what precedes it on the path, so two engine blocks at the same `k` hold the same tokens if and
    /// only if the paths up to `p` are equal. For `e = 16`, `B = 512`, that is `p = k·16/512`, reached in 32 steps.
    /// This is arithmetic: the finer blocks are never stored.
    ///
    /// ```
    /// use roofline_sim::trace::BlockHashes;
    /// let hashes = BlockHashes { block_size: 512, offsets: vec![0, 2], ids: vec![7, 9] };
    /// assert_eq!(hashes.engine_block(0, 0, 16), Some((7, 16)));
    /// assert_eq!(hashes.engine_block(0, 31, 16), Some((7, 512)));
    /// assert_eq!(hashes.engine_block(0, 32, 16), Some((9, 16)));
    /// assert_eq!(hashes.engine_block(0, 64, 16), None);
    /// ```
    pub fn engine_block(&self, request: usize, k: u32, engine_block: u32) -> Option<(u32, u32)> {
        let token = (u64::from(k) + 1) * u64::from(engine_block.max(1)) - 1;
        let block = u64::from(self.block_size.max(1));
        let id = *self.path(request).get((token / block) as usize)?;
        Some((id, (token % block) as u32 + 1))
    }
}

/// Which requests belong together, and which wait for others to complete.
///
/// A request starts when all it waits for have completed, each plus its own delay, and not before its arrival.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sessions {
    /// How many sessions there are.
    pub count: u32,
    /// The session of each request, or [`Sessions::NONE`].
    pub session: Vec<u32>,
    /// `after[offsets[i]..offsets[i + 1]]` are what request `i` waits for; `len() == requests + 1`.
    pub offsets: Vec<u64>,
    /// Requests (their rows here) that must complete before another starts.
    pub after: Vec<u32>,
    /// Nanoseconds between each completion in `after` and the earliest start of the request that waits for it.
    pub delay_ns: Vec<u64>,
}

impl Sessions {
    /// No session.
    pub const NONE: u32 = u32::MAX;

    /// What a request waits for: the rows that must complete, and the nanoseconds from each completion to its start.
    pub fn waits_for(&self, request: usize) -> impl ExactSizeIterator<Item = (u32, u64)> + '_ {
        let range = self.offsets[request] as usize..self.offsets[request + 1] as usize;
        self.after[range.clone()].iter().copied().zip(self.delay_ns[range].iter().copied())
    }

    /// Whether any request waits for more than one other.
    pub fn waits_for_several(&self) -> bool {
        self.offsets.windows(2).any(|pair| pair[1] - pair[0] > 1)
    }

    /// Requests that wait for another one.
    pub fn waiting(&self) -> usize {
        self.offsets.windows(2).filter(|pair| pair[0] < pair[1]).count()
    }
}

/// A workload in columns, sorted by arrival; ties keep their order in the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// Nanoseconds since the trace began. For a request that waits for others (see [`Sessions::waits_for`]) and has no
    /// arrival of its own, the earliest it can be: the latest of their arrivals, each plus its delay.
    pub arrival_ns: Vec<u64>,
    /// Tokens of the whole prompt, shared prefix included.
    pub prompt_tokens: Vec<u32>,
    /// Tokens generated.
    pub output_tokens: Vec<u32>,
    /// Identifiers as in the file; empty where it has none (then the row number stands for them).
    pub ids: Vec<String>,
    /// Scheduling priority, lower first; empty where the file has none.
    pub priority: Vec<i32>,
    /// Shared prefixes, if the file tells.
    pub hashes: Option<BlockHashes>,
    /// Sessions and what waits for what, if the file tells.
    pub sessions: Option<Sessions>,
    /// The model the file names, if it names exactly one.
    pub model: Option<String>,
    /// What some formats carry besides.
    pub carried: Carried,
}

impl Trace {
    /// Requests.
    pub fn len(&self) -> usize {
        self.arrival_ns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.arrival_ns.is_empty()
    }

    /// Identifiers as in the file, or the row numbers where it has none.
    pub fn request_ids(&self) -> Texts {
        if self.ids.is_empty() { Texts::numbers(self.len()) } else { self.ids.iter().collect() }
    }
}
