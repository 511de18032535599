//! Requests from columns that a program holds, under the rules that a file's rows keep.

mod turns;

use std::fmt::Display;

use roofline_core::error::Error;
use roofline_core::table::Lists;

pub use self::turns::Turns;
use crate::error::Result;
use crate::request::{Segments, Workload};
use crate::trace::{BlockHashes, Dense, TOKENS_MAX, Trace};

/// The columns of a trace as a program has them; all but the first three may be absent or empty.
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
    /// For each prompt the hashes of its leading blocks: equal paths are equal tokens.
    pub block_hashes: Option<Lists<u64>>,
    /// Tokens of such a block.
    pub block_size: Option<u32>,
    /// For each prompt the segments it consists of, instead of hashes: equal segments are equal tokens.
    pub segments: Option<Lists<u64>>,
    /// Tokens of each segment.
    pub segment_lengths: Option<Lists<u64>>,
    /// The segment that each answer is.
    pub output_segment: Vec<u64>,
    /// Which requests belong to one conversation.
    pub turns: Turns,
}

/// Requests made of columns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assembled {
    /// The requests, sorted by arrival.
    pub trace: Trace,
    /// Which tokens they share, if said by segments.
    pub segments: Option<Segments>,
    /// Their arrivals as given, before they were rounded to nanoseconds; empty where only those are known.
    pub arrival_s: Vec<f64>,
    /// The rows they were given in; empty where that is their order of arrival.
    pub given_rows: Vec<u32>,
}

impl Assembled {
    /// The requests as an engine sees them; `exact` for arrivals as given, if known, instead of the nearest nanoseconds.
    ///
    /// # Errors
    /// None that [`TraceColumns::assemble`] has not excluded.
    pub fn workload(&self, exact: bool) -> Result<Workload<'_>> {
        let workload = Workload::new(&self.trace, self.segments.as_ref())?.given_in(&self.given_rows)?;
        let given = exact && !self.arrival_s.is_empty();
        Ok(if given { workload.arriving_at(&self.arrival_s)? } else { workload })
    }
}

impl From<Trace> for Assembled {
    fn from(trace: Trace) -> Assembled {
        Assembled { trace, ..Assembled::default() }
    }
}

impl TraceColumns {
    /// The requests of these columns, sorted by arrival, ties in the order given.
    ///
    /// ```
    /// use roofline_sim::assemble::TraceColumns;
    /// let requests = TraceColumns {
    ///     arrival_s: vec![0.5, 0.25],
    ///     prompt_tokens: vec![100, 200],
    ///     output_tokens: vec![10, 20],
    ///     ..TraceColumns::default()
    /// }
    /// .assemble()?;
    /// assert_eq!(requests.trace.arrival_ns, [250_000_000, 500_000_000]);
    /// assert_eq!(requests.trace.prompt_tokens, [200, 100]);
    /// # Ok::<(), roofline_sim::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// No rows; columns of unequal length, or one without another it needs; an arrival that is negative or no number,
    /// a prompt without a token, a count or a priority beyond 32 bits, more hashes than a prompt has blocks, segments
    /// that do not add up to a prompt: every mistake, each with its first row.
    pub fn assemble(self) -> Result<Assembled> {
        if self.arrival_s.is_empty() {
            return Err(Error::spec("arrival_s", "must hold requests", "no rows", "").into());
        }
        Error::all("trace", self.shape_mistakes())?;
        Error::all("trace", self.mistakes())?;
        Ok(self.sorted())
    }

    /// Columns that are too short or long, or stand alone.
    fn shape_mistakes(&self) -> Vec<Error> {
        let rows = self.arrival_s.len();
        let some = |length: usize| (length > 0).then_some(length);
        let lists = |lists: &Option<Lists<u64>>| lists.as_ref().map(Lists::len);
        let lengths = [
            ("prompt_tokens", Some(self.prompt_tokens.len())),
            ("output_tokens", Some(self.output_tokens.len())),
            ("ids", some(self.ids.len())),
            ("priority", some(self.priority.len())),
            ("block_hashes", lists(&self.block_hashes)),
            ("segments", lists(&self.segments)),
            ("segment_lengths", lists(&self.segment_lengths)),
            ("output_segment", some(self.output_segment.len())),
        ];
        let unequal = lengths.into_iter().chain(self.turns.lengths()).filter_map(|(field, length)| {
            let length = length.filter(|&length| length != rows)?;
            Some(Error::spec(field, format!("must have the {rows} rows of arrival_s"), length, ""))
        });
        unequal.chain(self.company_mistakes()).collect()
    }

    /// Columns that mean nothing without another, or beside another.
    fn company_mistakes(&self) -> Vec<Error> {
        let needs = [
            ("block_size", self.block_size.is_some(), "block_hashes", self.block_hashes.is_some()),
            ("segment_lengths", self.segment_lengths.is_some(), "segments", self.segments.is_some()),
        ];
        let mut mistakes = Vec::new();
        for (one, has_one, other, has_other) in needs {
            if has_one != has_other {
                let (absent, present) = if has_one { (other, one) } else { (one, other) };
                mistakes.push(Error::spec(absent, format!("must be given with {present}"), "absent", ""));
            }
        }
        if !self.output_segment.is_empty() && self.segments.is_none() {
            mistakes.push(Error::spec("segments", "must be given with output_segment", "absent", ""));
        }
        if self.segments.is_some() && self.block_hashes.is_some() {
            let hint = "both say which tokens prompts share; leave one of them out";
            mistakes.push(Error::spec("block_hashes", "must be left out with segments", "both given", hint));
        }
        mistakes.extend(self.turns.company_mistake());
        if self.block_size == Some(0) {
            mistakes.push(Error::spec("block_size", "must be at least 1 token", 0, ""));
        }
        mistakes
    }

    /// The first row of each kind that breaks a rule.
    fn mistakes(&self) -> Vec<Error> {
        let most = u64::from(TOKENS_MAX);
        let longest_s = (i64::MAX / 1_000_000_000) as f64;
        let late = |arrival: &f64| !(0.0..=longest_s).contains(arrival);
        let checks = [
            first("arrival_s", "must be seconds from 0 up, within 292 years", &self.arrival_s, late),
            first("prompt_tokens", "must be at least 1 token", &self.prompt_tokens, |count| *count == 0),
            first("prompt_tokens", &at_most(most), &self.prompt_tokens, |count| *count > most),
            first("output_tokens", &at_most(most), &self.output_tokens, |count| *count > most),
            first("priority", "must fit in 32 bits", &self.priority, |value| i32::try_from(*value).is_err()),
            self.hash_mistake(),
            self.segment_mistake(),
        ];
        checks.into_iter().flatten().chain(self.turns.mistakes(&self.arrival_s)).collect()
    }

    fn hash_mistake(&self) -> Option<Error> {
        let (hashes, size) = (self.block_hashes.as_ref()?, self.block_size?);
        for (row, &prompt) in self.prompt_tokens.iter().enumerate() {
            let (count, blocks) = (hashes.row(row).len() as u64, prompt.div_ceil(u64::from(size)));
            if count > blocks {
                let must = format!("must name at most the {blocks} blocks of a prompt of {prompt} tokens");
                return Some(Error::spec("block_hashes", must, format!("{count} in row {row}"), ""));
            }
        }
        None
    }

    fn segment_mistake(&self) -> Option<Error> {
        let (segments, lengths) = (self.segments.as_ref()?, self.segment_lengths.as_ref()?);
        for (row, &prompt) in self.prompt_tokens.iter().enumerate() {
            let (named, measured) = (segments.row(row).len(), lengths.row(row).len());
            if named != measured {
                let must = format!("must be as many as segments, {named}");
                return Some(Error::spec("segment_lengths", must, format!("{measured} in row {row}"), ""));
            }
            let sum = lengths.row(row).iter().fold(0u64, |sum, &length| sum.saturating_add(length));
            if sum != prompt {
                let must = format!("must add up to the {prompt} tokens of its prompt");
                return Some(Error::spec("segment_lengths", must, format!("{sum} in row {row}"), ""));
            }
        }
        None
    }

    /// The ids given, in that order; without any the numbers of the rows, where their places no longer tell them.
    fn ids(&self, order: &[usize]) -> Vec<String> {
        if self.ids.is_empty() && !order.is_sorted() {
            return order.iter().map(usize::to_string).collect();
        }
        order.iter().filter_map(|&row| self.ids.get(row).cloned()).collect()
    }

    /// The columns in order of arrival, narrowed; no mistake was found in them.
    fn sorted(self) -> Assembled {
        let mut order: Vec<usize> = (0..self.arrival_s.len()).collect();
        order.sort_by(|&a, &b| self.arrival_s[a].total_cmp(&self.arrival_s[b]));
        let narrow = |rows: &[u64]| order.iter().map(|&row| rows[row] as u32).collect();
        // Adding 0 makes the negative zero the one that nothing comes before.
        let arrival_s: Vec<f64> = order.iter().map(|&row| self.arrival_s[row] + 0.0).collect();
        let trace = Trace {
            arrival_ns: arrival_s.iter().map(|seconds| (seconds * 1e9).round() as u64).collect(),
            prompt_tokens: narrow(&self.prompt_tokens),
            output_tokens: narrow(&self.output_tokens),
            ids: self.ids(&order),
            priority: order
                .iter()
                .filter_map(|&row| self.priority.get(row))
                .map(|&value| value as i32)
                .collect(),
            hashes: self.block_hashes.as_ref().zip(self.block_size).map(|(hashes, block_size)| {
                let ids = numbered(hashes, &order, &mut Dense::default());
                BlockHashes { block_size, offsets: ids.offsets, ids: ids.values }
            }),
            sessions: self.turns.sessions(&order),
            ..Trace::default()
        };
        let segments =
            self.segments.as_ref().zip(self.segment_lengths.as_ref()).map(|(segments, lengths)| {
                let mut dense = Dense::default();
                let ids = numbered(segments, &order, &mut dense);
                let lengths =
                    order.iter().flat_map(|&row| lengths.row(row)).map(|&length| length as u32).collect();
                let output =
                    order.iter().filter_map(|&row| self.output_segment.get(row)).map(|&id| dense.of(id));
                Segments { offsets: ids.offsets, ids: ids.values, lengths, output: output.collect() }
            });
        let given_rows =
            if order.is_sorted() { Vec::new() } else { order.iter().map(|&row| row as u32).collect() };
        Assembled { trace, segments, arrival_s, given_rows }
    }
}

/// Rows in that order, their values numbered in the order in which they are first seen.
fn numbered(lists: &Lists<u64>, order: &[usize], dense: &mut Dense) -> Lists<u32> {
    let mut numbers = Lists::default();
    for &row in order {
        numbers.push(lists.row(row).iter().map(|&value| dense.of(value)));
    }
    numbers
}

fn at_most(tokens: u64) -> String {
    format!("must be at most {tokens} tokens")
}

fn first<T: Display>(field: &str, must: &str, rows: &[T], breaks: impl Fn(&T) -> bool) -> Option<Error> {
    let row = rows.iter().position(breaks)?;
    Some(Error::spec(field, must, format!("{} in row {row}", rows[row]), ""))
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
            ..TraceColumns::default()
        }
    }

    fn lists<const N: usize>(rows: [&[u64]; N]) -> Option<Lists<u64>> {
        let mut lists = Lists::default();
        for row in rows {
            lists.push(row.iter().copied());
        }
        Some(lists)
    }

    fn segmented() -> TraceColumns {
        TraceColumns {
            segments: lists([&[7], &[u64::MAX, 7], &[9]]),
            segment_lengths: lists([&[1], &[1, 1], &[3]]),
            output_segment: vec![20, 9, 7],
            ..columns()
        }
    }

    fn hashed() -> TraceColumns {
        TraceColumns { block_hashes: lists([&[u64::MAX], &[5], &[5, 6]]), block_size: Some(2), ..columns() }
    }

    fn refused(columns: TraceColumns, change: impl FnOnce(&mut TraceColumns)) -> String {
        let mut columns = columns;
        change(&mut columns);
        columns.assemble().unwrap_err().to_string()
    }

    #[test]
    fn rows_without_ids_are_known_by_their_numbers_once_they_are_moved() {
        let unnamed = |arrival_s| TraceColumns { ids: Vec::new(), arrival_s, ..columns() };
        assert_eq!(unnamed(vec![2.0, 1.0, 1.0]).assemble().unwrap().trace.ids, ["1", "2", "0"]);
        assert!(unnamed(vec![0.0, 1.0, 1.0]).assemble().unwrap().trace.ids.is_empty());
    }

    #[test]
    fn rows_are_sorted_by_arrival_and_ties_keep_their_order() {
        let trace = columns().assemble().unwrap().trace;
        assert_eq!(trace.ids, ["b", "c", "a"]);
        assert_eq!(trace.output_tokens, [5, 6, 4]);
        assert_eq!(trace.priority, [0, 1, -1]);
    }

    #[test]
    fn arrivals_within_one_nanosecond_keep_their_order_and_their_digits() {
        let arrival_s = vec![1.000_000_000_2, 1.000_000_000_1, -0.0];
        let requests = TraceColumns { arrival_s, ..columns() }.assemble().unwrap();
        assert_eq!(requests.trace.ids, ["c", "b", "a"]);
        assert_eq!(requests.arrival_s, [0.0, 1.000_000_000_1, 1.000_000_000_2]);
        assert!(requests.workload(true).is_ok());
    }

    #[test]
    fn equal_hashes_and_segments_get_equal_numbers_wherever_they_stand() {
        let trace = hashed().assemble().unwrap().trace;
        let hashes = trace.hashes.unwrap();
        assert_eq!((hashes.path(0), hashes.path(1), hashes.path(2)), (&[0][..], &[0, 1][..], &[2][..]));
        let segments = segmented().assemble().unwrap().segments.unwrap();
        assert_eq!((segments.offsets, segments.ids), (vec![0, 2, 3, 4], vec![0, 1, 2, 1]));
        assert_eq!((segments.lengths, segments.output), (vec![1, 1, 3, 1], vec![2, 1, 3]));
    }

    #[test]
    fn columns_must_have_equal_length() {
        let rows = "must have the 3 rows of arrival_s:";
        let short = |change: fn(&mut TraceColumns)| refused(columns(), change);
        assert_eq!(short(|columns| columns.output_tokens.truncate(2)), format!("output_tokens {rows} 2"));
        assert_eq!(short(|columns| columns.ids.truncate(1)), format!("ids {rows} 1"));
        assert_eq!(short(|columns| columns.arrival_s.clear()), "arrival_s must hold requests: no rows");
        let short = refused(hashed(), |columns| columns.block_hashes = lists([&[1]]));
        assert_eq!(short, format!("block_hashes {rows} 1"));
        let short = refused(segmented(), |columns| columns.output_segment.truncate(2));
        assert_eq!(short, format!("output_segment {rows} 2"));
    }

    #[test]
    fn columns_that_need_each_other_come_together() {
        let alone = |columns: TraceColumns, change: fn(&mut TraceColumns)| refused(columns, change);
        assert_eq!(
            alone(hashed(), |columns| columns.block_size = None),
            "block_size must be given with block_hashes: absent"
        );
        assert_eq!(
            alone(hashed(), |columns| columns.block_hashes = None),
            "block_hashes must be given with block_size: absent"
        );
        assert_eq!(
            alone(segmented(), |columns| columns.segment_lengths = None),
            "segment_lengths must be given with segments: absent"
        );
        let both = alone(segmented(), |columns| (columns.segments, columns.segment_lengths) = (None, None));
        assert_eq!(both, "segments must be given with output_segment: absent");
        let twice = alone(segmented(), |columns| {
            (columns.block_hashes, columns.block_size) = (hashed().block_hashes, Some(2));
        });
        assert_eq!(twice, "block_hashes must be left out with segments: both given");
        let none = alone(hashed(), |columns| columns.block_size = Some(0));
        assert_eq!(none, "block_size must be at least 1 token: 0");
    }

    #[test]
    fn hashes_and_segments_must_fit_their_prompts() {
        assert_eq!(
            refused(hashed(), |columns| columns.block_hashes = lists([&[], &[5, 6], &[]])),
            "block_hashes must name at most the 1 blocks of a prompt of 2 tokens: 2 in row 1"
        );
        assert_eq!(
            refused(segmented(), |columns| columns.segment_lengths = lists([&[1], &[2], &[3]])),
            "segment_lengths must be as many as segments, 2: 1 in row 1"
        );
        assert_eq!(
            refused(segmented(), |columns| columns.segment_lengths = lists([&[1], &[1, 2], &[3]])),
            "segment_lengths must add up to the 2 tokens of its prompt: 3 in row 1"
        );
    }

    #[test]
    fn every_mistake_is_told_with_its_row() {
        assert_eq!(
            refused(columns(), |columns| columns.arrival_s[1] = f64::NAN),
            "arrival_s must be seconds from 0 up, within 292 years: NaN in row 1"
        );
        assert_eq!(
            refused(columns(), |columns| columns.prompt_tokens[2] = 0),
            "prompt_tokens must be at least 1 token: 0 in row 2"
        );
        assert_eq!(
            refused(columns(), |columns| columns.priority[0] = i64::MAX),
            "priority must fit in 32 bits: 9223372036854775807 in row 0"
        );
        let both = refused(columns(), |columns| {
            columns.output_tokens[0] = u64::MAX;
            columns.prompt_tokens[0] = u64::MAX;
        });
        assert!(both.starts_with("trace has 2 mistakes:\n  prompt_tokens must be at most"), "{both}");
    }
}
