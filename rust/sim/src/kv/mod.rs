//! Key-value memory of an engine: blocks, and the prefixes found in them.

pub mod blocks;
pub mod prefix;
pub mod cache;
