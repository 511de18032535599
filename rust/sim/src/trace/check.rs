//! Rules that the columns of a trace keep, whoever made them.

use roofline_core::error::{Error, Result};

use super::Trace;

impl Trace {
    /// Checks the columns that every request has; `before` requests come before these.
    ///
    /// # Errors
    /// Columns of unequal length, arrivals out of order, an empty prompt, hashes of no block.
    pub(crate) fn check_columns(&self, before: usize) -> Result<()> {
        let count = self.len();
        check_length("prompt_tokens", self.prompt_tokens.len(), false, count)?;
        check_length("output_tokens", self.output_tokens.len(), false, count)?;
        check_length("ids", self.ids.len(), true, count)?;
        check_length("priority", self.priority.len(), true, count)?;
        check_length("carried.cached_tokens", self.carried.cached_tokens.len(), true, count)?;
        if let Some(late) = self.arrival_ns.windows(2).position(|pair| pair[0] > pair[1]) {
            let field = format!("trace.arrival_ns[{}]", before + late + 1);
            return Err(Error::spec(field, "must not decrease", self.arrival_ns[late + 1], ""));
        }
        if let Some(empty) = self.prompt_tokens.iter().position(|&tokens| tokens == 0) {
            let hint = "an engine computes at least one token of a prompt; leave the request out";
            let field = format!("trace.prompt_tokens[{}]", before + empty);
            return Err(Error::spec(field, "must be at least 1", 0, hint));
        }
        if let Some(hashes) = &self.hashes {
            check_length("hashes.offsets", hashes.offsets.len().wrapping_sub(1), false, count)?;
            check_offsets("trace.hashes.offsets", &hashes.offsets, hashes.ids.len())?;
            if hashes.block_size == 0 {
                return Err(Error::spec("trace.hashes.block_size", "must be at least 1", 0, ""));
            }
        }
        Ok(())
    }
}

/// Checks that a column has a row for each of so many requests, or none where it may be absent.
pub(crate) fn check_length(name: &str, length: usize, optional: bool, count: usize) -> Result<()> {
    if length == count || (optional && length == 0) {
        return Ok(());
    }
    let must = format!("must have a row for each of the {count} requests");
    Err(Error::spec(format!("trace.{name}"), must, format!("{length} rows"), ""))
}

/// Checks that offsets rise, up to the end of what they index.
pub(crate) fn check_offsets(field: &str, offsets: &[u64], end: usize) -> Result<()> {
    let rises = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if rises && offsets.last().is_some_and(|&last| last <= end as u64) {
        return Ok(());
    }
    let must = "must rise from request to request and stay within the values they index";
    Err(Error::spec(field, must, format!("{:?}", offsets.last()), ""))
}
