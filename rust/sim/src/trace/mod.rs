//! Requests as columns: when each arrives, how long its prompt and output are, which prefix it shares.

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

/// A workload in columns, sorted by arrival; ties keep their order in the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trace {
    /// Nanoseconds since the trace began.
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
    /// The model the file names, if it names exactly one.
    pub model: Option<String>,
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
}
