//! Requests as an engine sees them: how long they are, and which tokens they share with others.

use roofline_core::error::{Error, Result};

use crate::time::Clock;
use crate::trace::Trace;

/// Token identity by segments: token `o` of segment `s` is `s·2²⁴ + o`, so equal segments are equal content.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Segments {
    /// `ids[offsets[i]..offsets[i + 1]]` are the segments of prompt `i`; `len() == requests + 1`.
    pub offsets: Vec<u64>,
    /// Segments, each from its first token.
    pub ids: Vec<u32>,
    /// Tokens of each.
    pub lengths: Vec<u32>,
    /// The segment that the answer of each request is; empty where no later prompt repeats an answer.
    pub output: Vec<u32>,
}

/// Tokens of one segment, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Piece {
    /// The segment; [`Piece::PRIVATE`] for tokens that no other request has.
    pub segment: u32,
    /// The first token's place in the segment.
    pub start: u32,
    /// Tokens.
    pub length: u32,
}

impl Piece {
    /// The segment of tokens that no other request has.
    pub const PRIVATE: u32 = u32::MAX;
}

/// A place in a request's tokens, moved forward only.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursor {
    /// Tokens before it.
    position: u32,
    /// Segments of the prompt before it.
    segment: u32,
    /// Tokens of the current segment before it.
    within: u32,
}

/// The requests of a simulation, checked.
#[derive(Debug, Clone, Copy)]
pub struct Workload<'a> {
    trace: &'a Trace,
    segments: Option<&'a Segments>,
    arrival_s: Option<&'a [f64]>,
    /// The rows that the requests were given in; empty where that is their order of arrival.
    given_rows: &'a [u32],
    /// Whether what a cache held when the requests were recorded counts as cached.
    recorded_cache: bool,
}

impl<'a> Workload<'a> {
    /// Checks the columns of a trace and, if given, the segments its prompts consist of (they replace its hashes).
    ///
    /// # Errors
    /// Columns of unequal length, arrivals out of order, an empty prompt, segments that do not add up to a prompt.
    pub fn new(trace: &'a Trace, segments: Option<&'a Segments>) -> Result<Workload<'a>> {
        let count = trace.len();
        let column = |name: &str, length: usize, optional: bool| {
            if length == count || (optional && length == 0) {
                return Ok(());
            }
            let must = format!("must have a row for each of the {count} requests");
            Err(Error::spec(format!("trace.{name}"), must, format!("{length} rows"), ""))
        };
        column("prompt_tokens", trace.prompt_tokens.len(), false)?;
        column("output_tokens", trace.output_tokens.len(), false)?;
        column("ids", trace.ids.len(), true)?;
        column("priority", trace.priority.len(), true)?;
        column("carried.cached_tokens", trace.carried.cached_tokens.len(), true)?;
        if let Some(late) = trace.arrival_ns.windows(2).position(|pair| pair[0] > pair[1]) {
            let must = "must not decrease";
            return Err(Error::spec(
                format!("trace.arrival_ns[{}]", late + 1),
                must,
                trace.arrival_ns[late + 1],
                "",
            ));
        }
        if let Some(empty) = trace.prompt_tokens.iter().position(|&tokens| tokens == 0) {
            let hint = "an engine computes at least one token of a prompt; leave the request out";
            return Err(Error::spec(format!("trace.prompt_tokens[{empty}]"), "must be at least 1", 0, hint));
        }
        if let Some(hashes) = &trace.hashes {
            column("hashes.offsets", hashes.offsets.len().wrapping_sub(1), false)?;
            ordered("trace.hashes.offsets", &hashes.offsets, hashes.ids.len())?;
            if hashes.block_size == 0 {
                return Err(Error::spec("trace.hashes.block_size", "must be at least 1", 0, ""));
            }
        }
        if let Some(segments) = segments {
            column("segments", segments.offsets.len().wrapping_sub(1), false)?;
            column("output_segment", segments.output.len(), true)?;
            ordered("trace.segments", &segments.offsets, segments.ids.len().min(segments.lengths.len()))?;
            for (request, &prompt) in trace.prompt_tokens.iter().enumerate() {
                let lengths = &segments.lengths
                    [segments.offsets[request] as usize..segments.offsets[request + 1] as usize];
                let sum: u64 = lengths.iter().map(|&length| u64::from(length)).sum();
                if sum != u64::from(prompt) {
                    let must = format!("must add up to the {prompt} tokens of its prompt");
                    return Err(Error::spec(format!("trace.segment_lengths[{request}]"), must, sum, ""));
                }
            }
        }
        Ok(Workload { trace, segments, arrival_s: None, given_rows: &[], recorded_cache: false })
    }

    /// The same requests, arriving at these seconds instead of the nearest nanoseconds: recorded schedules have
    /// arrivals between two nanoseconds.
    ///
    /// # Errors
    /// Another number of arrivals, one out of order, negative or not finite.
    pub fn arriving_at(self, arrival_s: &'a [f64]) -> Result<Workload<'a>> {
        if arrival_s.len() != self.len() {
            let must = format!("must have a row for each of the {} requests", self.len());
            return Err(Error::spec("trace.arrival_s", must, format!("{} rows", arrival_s.len()), ""));
        }
        let mut before = 0.0;
        for (row, &seconds) in arrival_s.iter().enumerate() {
            if !seconds.is_finite() || seconds < before {
                let must = "must be finite, not negative and not decrease";
                return Err(Error::spec(format!("trace.arrival_s[{row}]"), must, seconds, ""));
            }
            before = seconds;
        }
        Ok(Workload { arrival_s: Some(arrival_s), ..self })
    }

    /// The same requests, which were given in these rows before they were sorted; none for the order they have.
    ///
    /// # Errors
    /// Another number of rows.
    pub fn given_in(self, rows: &'a [u32]) -> Result<Workload<'a>> {
        if !rows.is_empty() && rows.len() != self.len() {
            let must = format!("must have a row for each of the {} requests", self.len());
            return Err(Error::spec("trace.given_rows", must, format!("{} rows", rows.len()), ""));
        }
        Ok(Workload { given_rows: rows, ..self })
    }

    /// The row that a request was given in: what is drawn for it does not depend on when others arrive.
    pub fn given_row(&self, request: u32) -> u32 {
        self.given_rows.get(request as usize).copied().unwrap_or(request)
    }

    /// The same requests; what a cache held of their prompts when they were recorded is found there again, whatever
    /// the engine's own cache holds, if `used`.
    #[must_use]
    pub fn with_recorded_cache(self, used: bool) -> Workload<'a> {
        let recorded_cache = used && !self.trace.carried.cached_tokens.is_empty();
        Workload { recorded_cache, ..self }
    }

    /// Whether what was recorded of a cache counts.
    pub fn has_recorded_cache(&self) -> bool {
        self.recorded_cache
    }

    /// Tokens of a request's prompt that count as cached because they were when it was recorded.
    pub fn recorded_cache(&self, request: usize) -> u32 {
        if self.recorded_cache { self.trace.carried.cached_tokens[request] } else { 0 }
    }

    /// When a request arrives.
    pub fn arrival<C: Clock>(&self, request: usize) -> C::Instant {
        match self.arrival_s {
            Some(seconds) => C::at_seconds(seconds[request]),
            None => C::at_nanos(self.trace.arrival_ns[request]),
        }
    }

    /// The columns.
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }

    /// Whether prompts consist of segments rather than of hashed blocks.
    pub fn has_segments(&self) -> bool {
        self.segments.is_some()
    }

    /// Requests.
    pub fn len(&self) -> usize {
        self.trace.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.trace.is_empty()
    }

    /// The scheduling priority of a request, lower first.
    pub fn priority(&self, request: usize) -> i32 {
        self.trace.priority.get(request).copied().unwrap_or(0)
    }

    /// The tokens from the cursor to the end of the piece it is in, and the cursor behind them; `limit` at most.
    pub fn piece(&self, request: usize, cursor: Cursor, limit: u32) -> (Piece, Cursor) {
        let prompt = self.trace.prompt_tokens[request];
        if cursor.position >= prompt {
            let segment = self
                .segments
                .and_then(|segments| segments.output.get(request).copied())
                .unwrap_or(Piece::PRIVATE);
            let piece = Piece { segment, start: cursor.position - prompt, length: limit };
            return (piece, Cursor { position: cursor.position + limit, ..cursor });
        }
        if let Some(segments) = self.segments {
            return segment_piece(segments, request, cursor, limit);
        }
        let rest = limit.min(prompt - cursor.position);
        let private = |length: u32| Piece { segment: Piece::PRIVATE, start: cursor.position, length };
        let piece = match &self.trace.hashes {
            None => private(rest),
            Some(hashes) => {
                let place =
                    hashes.offsets[request] + u64::from(cursor.position) / u64::from(hashes.block_size);
                if place < hashes.offsets[request + 1] {
                    let start = cursor.position % hashes.block_size;
                    let length = rest.min(hashes.block_size - start);
                    Piece { segment: hashes.ids[place as usize], start, length }
                } else {
                    private(rest)
                }
            }
        };
        (piece, Cursor { position: cursor.position + piece.length, ..cursor })
    }
}

fn segment_piece(segments: &Segments, request: usize, mut cursor: Cursor, limit: u32) -> (Piece, Cursor) {
    let first = segments.offsets[request];
    let mut place = (first + u64::from(cursor.segment)) as usize;
    while cursor.within >= segments.lengths[place] {
        (cursor.segment, cursor.within, place) = (cursor.segment + 1, 0, place + 1);
    }
    let length = limit.min(segments.lengths[place] - cursor.within);
    let piece = Piece { segment: segments.ids[place], start: cursor.within, length };
    cursor.position += length;
    cursor.within += length;
    (piece, cursor)
}

fn ordered(field: &str, offsets: &[u64], end: usize) -> Result<()> {
    let rises = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
    if rises && offsets.last().is_some_and(|&last| last <= end as u64) {
        return Ok(());
    }
    let must = "must rise from request to request and stay within the values they index";
    Err(Error::spec(field, must, format!("{:?}", offsets.last()), ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::F64Clock;
    use crate::trace::BlockHashes;

    fn trace(prompt_tokens: Vec<u32>) -> Trace {
        let count = prompt_tokens.len();
        Trace { arrival_ns: vec![0; count], output_tokens: vec![1; count], prompt_tokens, ..Trace::default() }
    }

    #[test]
    fn hashed_blocks_are_pieces_and_what_follows_them_is_private() {
        let hashes = BlockHashes { block_size: 4, offsets: vec![0, 2], ids: vec![7, 9] };
        let trace = Trace { hashes: Some(hashes), ..trace(vec![10]) };
        let workload = Workload::new(&trace, None).unwrap();
        let (first, cursor) = workload.piece(0, Cursor::default(), 3);
        assert_eq!(first, Piece { segment: 7, start: 0, length: 3 });
        let (rest, cursor) = workload.piece(0, cursor, 3);
        assert_eq!(rest, Piece { segment: 7, start: 3, length: 1 });
        let (second, cursor) = workload.piece(0, cursor, 9);
        assert_eq!(second, Piece { segment: 9, start: 0, length: 4 });
        let (tail, cursor) = workload.piece(0, cursor, 9);
        assert_eq!(tail, Piece { segment: Piece::PRIVATE, start: 8, length: 2 });
        assert_eq!(workload.piece(0, cursor, 5).0, Piece { segment: Piece::PRIVATE, start: 0, length: 5 });
    }

    #[test]
    fn an_answer_can_be_a_segment_of_a_later_prompt() {
        let segments =
            Segments { offsets: vec![0, 3], ids: vec![1, 2, 3], lengths: vec![2, 0, 1], output: vec![5] };
        let trace = trace(vec![3]);
        let workload = Workload::new(&trace, Some(&segments)).unwrap();
        let (first, cursor) = workload.piece(0, Cursor::default(), 8);
        assert_eq!(first, Piece { segment: 1, start: 0, length: 2 });
        let (second, cursor) = workload.piece(0, cursor, 8);
        assert_eq!(second, Piece { segment: 3, start: 0, length: 1 });
        assert_eq!(workload.piece(0, cursor, 8).0, Piece { segment: 5, start: 0, length: 8 });
    }

    #[test]
    fn arrivals_between_two_nanoseconds_are_kept() {
        let trace = trace(vec![1, 1]);
        let workload = Workload::new(&trace, None).unwrap();
        let seconds = [0.5, 29.994999999999997];
        assert_eq!(workload.arriving_at(&seconds).unwrap().arrival::<F64Clock>(1), seconds[1]);
        assert_eq!(workload.arrival::<F64Clock>(1), 0.0);
        let message = |seconds: &[f64]| workload.arriving_at(seconds).unwrap_err().to_string();
        let order = "must be finite, not negative and not decrease";
        assert_eq!(message(&[0.5, 0.4]), format!("trace.arrival_s[1] {order}: 0.4"));
        assert_eq!(message(&[-1.0, 0.4]), format!("trace.arrival_s[0] {order}: -1"));
        assert_eq!(message(&[0.0, f64::NAN]), format!("trace.arrival_s[1] {order}: NaN"));
        assert_eq!(message(&[0.0]), "trace.arrival_s must have a row for each of the 2 requests: 1 rows");
    }

    #[test]
    fn columns_that_do_not_fit_together_are_refused() {
        let message = |trace: &Trace, segments: Option<&Segments>| {
            Workload::new(trace, segments).unwrap_err().to_string()
        };
        let mut short = trace(vec![1, 2]);
        short.output_tokens.pop();
        assert_eq!(
            message(&short, None),
            "trace.output_tokens must have a row for each of the 2 requests: 1 rows"
        );
        let named = Trace { ids: vec!["a".into()], ..trace(vec![1, 2]) };
        assert_eq!(message(&named, None), "trace.ids must have a row for each of the 2 requests: 1 rows");
        let mut late = trace(vec![1, 2]);
        late.arrival_ns = vec![5, 4];
        assert_eq!(message(&late, None), "trace.arrival_ns[1] must not decrease: 4");
        assert_eq!(message(&trace(vec![1, 0]), None), "trace.prompt_tokens[1] must be at least 1: 0");
        let segments = Segments { offsets: vec![0, 1], ids: vec![1], lengths: vec![2], output: vec![] };
        assert_eq!(
            message(&trace(vec![3]), Some(&segments)),
            "trace.segment_lengths[0] must add up to the 3 tokens of its prompt: 2"
        );
        let hashes = BlockHashes { block_size: 0, offsets: vec![0, 0], ids: vec![] };
        let unsized_blocks = Trace { hashes: Some(hashes), ..trace(vec![1]) };
        assert_eq!(message(&unsized_blocks, None), "trace.hashes.block_size must be at least 1: 0");
        let hashes = BlockHashes { block_size: 4, offsets: vec![0, 3], ids: vec![1] };
        let beyond = Trace { hashes: Some(hashes), ..trace(vec![1]) };
        assert!(message(&beyond, None).starts_with("trace.hashes.offsets must rise"));
    }
}
