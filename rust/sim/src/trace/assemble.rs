//! A trace from columns that a program holds, under the rules that a file's rows keep.

use super::hashes::HashColumn;
use super::number::TOKENS_MAX;
use super::{BlockHashes, Trace};
use crate::error::Result;
use roofline_core::error::Error;

/// The columns of a trace as a program has them; `ids` and `priority` may be empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TraceColumns {
    /// Seconds; the earliest need not be 0.
    pub arrival_s: Vec<f64>,
    /// Tokens of the whole prompt.
    pub prompt_tokens: Vec<u64>,
    /// Tokens generated.
    pub output_tokens: Vec<u64>,
    /// Identifiers.
    pub ids: Vec<String>,
    /// Scheduling priority, lower first.
    pub priority: Vec<i64>,
    /// Shared prefixes as hashes of leading blocks.
    pub hashes: Option<HashLists>,
}

/// A list of hashes for each request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HashLists {
    /// Tokens a hash stands for.
    pub block_size: u32,
    /// `values[offsets[i]..offsets[i + 1]]` are the hashes of request `i`; `len() == requests + 1`, from 0 up.
    pub offsets: Vec<u64>,
    /// Hashes of all 64 bits.
    pub values: Vec<u64>,
}

impl HashLists {
    /// What is wrong with the lists of `rows` requests, if anything is.
    fn mistake(&self, rows: usize) -> Option<Error> {
        if self.block_size == 0 {
            return Some(Error::spec("block_size", "must be at least 1 token", 0, ""));
        }
        let ends =
            (self.offsets.first(), self.offsets.last()) == (Some(&0), Some(&(self.values.len() as u64)));
        if self.offsets.len() != rows + 1 || !ends || !self.offsets.is_sorted() {
            let must =
                format!("must rise from 0 to the {} hashes over {} offsets", self.values.len(), rows + 1);
            return Some(Error::spec("hashes.offsets", must, format!("{} offsets", self.offsets.len()), ""));
        }
        None
    }

    /// The paths in dense ids.
    fn paths(self) -> BlockHashes {
        let mut column = HashColumn::after(0);
        for range in self.offsets.windows(2) {
            column.append(&self.values[range[0] as usize..range[1] as usize]);
        }
        column.into_hashes(self.block_size)
    }
}

impl Trace {
    /// The trace of these columns: sorted by arrival, ties in the order given, times rounded to nanoseconds.
    ///
    /// ```
    /// use roofline_sim::trace::{Trace, TraceColumns};
    /// let trace = Trace::from_columns(TraceColumns {
    ///     arrival_s: vec![0.5, 0.25],
    ///     prompt_tokens: vec![100, 200],
    ///     output_tokens: vec![10, 20],
    ///     ..TraceColumns::default()
    /// })?;
    /// assert_eq!(trace.arrival_ns, [250_000_000, 500_000_000]);
    /// assert_eq!(trace.prompt_tokens, [200, 100]);
    /// # Ok::<(), roofline_sim::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// No rows; columns of unequal length; an arrival that is negative or no number, a prompt without a token, a count
    /// or a priority beyond 32 bits: every mistake, each with its first row.
    pub fn from_columns(columns: TraceColumns) -> Result<Trace> {
        let rows = columns.arrival_s.len();
        if rows == 0 {
            return Err(Error::spec("arrival_s", "must hold requests", "no rows", "").into());
        }
        let lengths = [
            ("prompt_tokens", columns.prompt_tokens.len(), false),
            ("output_tokens", columns.output_tokens.len(), false),
            ("ids", columns.ids.len(), true),
            ("priority", columns.priority.len(), true),
        ];
        let unequal = lengths
            .into_iter()
            .filter(|(_, length, optional)| *length != rows && !(*optional && *length == 0))
            .map(|(field, length, _)| {
                Error::spec(field, format!("must have the {rows} rows of arrival_s"), length, "")
            });
        Error::all("trace", unequal.collect())?;
        let mut mistakes = mistakes(&columns);
        mistakes.extend(columns.hashes.as_ref().and_then(|hashes| hashes.mistake(rows)));
        Error::all("trace", mistakes)?;
        Ok(sorted(columns))
    }
}

/// The first row of each kind that breaks a rule.
fn mistakes(columns: &TraceColumns) -> Vec<Error> {
    let most = u64::from(TOKENS_MAX);
    let longest_s = (i64::MAX / 1_000_000_000) as f64;
    let late = |arrival: &f64| !(0.0..=longest_s).contains(arrival);
    let checks = [
        first("arrival_s", "must be seconds from 0 up, within 292 years", &columns.arrival_s, late),
        first("prompt_tokens", "must be at least 1 token", &columns.prompt_tokens, |count| *count == 0),
        first("prompt_tokens", &at_most(most), &columns.prompt_tokens, |count| *count > most),
        first("output_tokens", &at_most(most), &columns.output_tokens, |count| *count > most),
        first("priority", "must fit in 32 bits", &columns.priority, |value| i32::try_from(*value).is_err()),
    ];
    checks.into_iter().flatten().collect()
}

fn at_most(tokens: u64) -> String {
    format!("must be at most {tokens} tokens")
}

fn first<T: std::fmt::Display>(
    field: &str,
    must: &str,
    rows: &[T],
    breaks: impl Fn(&T) -> bool,
) -> Option<Error> {
    let row = rows.iter().position(breaks)?;
    Some(Error::spec(field, must, format!("{} in row {row}", rows[row]), ""))
}

/// The columns in order of arrival, narrowed; [`mistakes`] found none.
fn sorted(columns: TraceColumns) -> Trace {
    let narrow = |rows: Vec<u64>| rows.into_iter().map(|count| count as u32).collect();
    let trace = Trace {
        arrival_ns: columns.arrival_s.iter().map(|s| (s * 1e9).round() as u64).collect(),
        prompt_tokens: narrow(columns.prompt_tokens),
        output_tokens: narrow(columns.output_tokens),
        ids: columns.ids,
        priority: columns.priority.into_iter().map(|value| value as i32).collect(),
        hashes: columns.hashes.map(HashLists::paths),
        ..Trace::default()
    };
    if trace.arrival_ns.is_sorted() {
        return trace;
    }
    let mut order: Vec<u32> = (0..trace.len() as u32).collect();
    order.sort_by_key(|row| trace.arrival_ns[*row as usize]);
    trace.select(&order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> TraceColumns {
        TraceColumns {
            arrival_s: vec![2.0, 1.0, 1.0],
            prompt_tokens: vec![1, 2, 3],
            output_tokens: vec![4, 5, 6],
            ids: ["a", "b", "c"].map(String::from).to_vec(),
            priority: vec![-1, 0, 1],
            hashes: None,
        }
    }

    fn refused(change: impl FnOnce(&mut TraceColumns)) -> String {
        let mut columns = columns();
        change(&mut columns);
        Trace::from_columns(columns).unwrap_err().to_string()
    }

    #[test]
    fn rows_are_sorted_by_arrival_and_ties_keep_their_order() {
        let trace = Trace::from_columns(columns()).unwrap();
        assert_eq!(trace.ids, ["b", "c", "a"]);
        assert_eq!(trace.output_tokens, [5, 6, 4]);
        assert_eq!(trace.priority, [0, 1, -1]);
    }

    #[test]
    fn hashes_follow_their_requests_and_must_fit_them() {
        let lists =
            HashLists { block_size: 16, offsets: vec![0, 1, 3, 3], values: vec![1 << 63, (1 << 63) + 1, 4] };
        let with = |hashes| TraceColumns { hashes: Some(hashes), ..columns() };
        let hashes = Trace::from_columns(with(lists.clone())).unwrap().hashes.unwrap();
        assert_eq!([hashes.path(0), hashes.path(1), hashes.path(2)], [&[1, 2][..], &[], &[0]]);
        let refused = |hashes| Trace::from_columns(with(hashes)).unwrap_err().to_string();
        assert_eq!(
            refused(HashLists { offsets: vec![0, 3], ..lists.clone() }),
            "hashes.offsets must rise from 0 to the 3 hashes over 4 offsets: 2 offsets"
        );
        assert_eq!(refused(HashLists { block_size: 0, ..lists }), "block_size must be at least 1 token: 0");
    }

    #[test]
    fn columns_must_have_equal_length() {
        assert_eq!(
            refused(|columns| columns.output_tokens.truncate(2)),
            "output_tokens must have the 3 rows of arrival_s: 2"
        );
        assert_eq!(refused(|columns| columns.ids.truncate(1)), "ids must have the 3 rows of arrival_s: 1");
        assert_eq!(refused(|columns| columns.arrival_s.clear()), "arrival_s must hold requests: no rows");
    }

    #[test]
    fn every_mistake_is_told_with_its_row() {
        assert_eq!(
            refused(|columns| columns.arrival_s[1] = f64::NAN),
            "arrival_s must be seconds from 0 up, within 292 years: NaN in row 1"
        );
        assert_eq!(
            refused(|columns| columns.prompt_tokens[2] = 0),
            "prompt_tokens must be at least 1 token: 0 in row 2"
        );
        assert_eq!(
            refused(|columns| columns.priority[0] = i64::MAX),
            "priority must fit in 32 bits: 9223372036854775807 in row 0"
        );
        let both = refused(|columns| {
            columns.output_tokens[0] = u64::MAX;
            columns.prompt_tokens[0] = u64::MAX;
        });
        assert!(both.starts_with("trace has 2 mistakes:\n  prompt_tokens must be at most"), "{both}");
    }
}
