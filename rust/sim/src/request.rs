//! Requests as an engine sees them: how long they are, and which tokens they share with others.

use roofline_core::error::{Error, Result};

use crate::images::Images;
use crate::stream::Stream;
use crate::time::Clock;
use crate::trace::{NOT_OBSERVED, Trace, check_length, check_offsets};

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
    source: Held<'a>,
}

/// Where the requests are.
#[derive(Debug, Clone, Copy)]
enum Held<'a> {
    Whole(Whole<'a>),
    Stream(&'a Stream<'a>),
}

/// Requests that are all in memory.
#[derive(Debug, Clone, Copy)]
pub struct Whole<'a> {
    trace: &'a Trace,
    segments: Option<&'a Segments>,
    arrival_s: Option<&'a [f64]>,
    /// The rows that the requests were given in; empty where that is their order of arrival.
    given_rows: &'a [u32],
    /// Whether what a cache held when the requests were recorded counts as cached.
    recorded_cache: bool,
}

/// Which requests of a workload a replica serves, in order of arrival; it numbers them from 0 on.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// These.
    Listed(&'a [u32]),
    /// One of every so many.
    Every {
        /// The first.
        first: u32,
        /// From one to the next.
        step: u32,
    },
}

impl Rows<'_> {
    /// All of them.
    pub const ALL: Rows<'static> = Rows::Every { first: 0, step: 1 };

    /// The row of the request of that number, whether the workload has it or not; `None` beyond the last.
    #[inline]
    pub fn row(&self, number: u32) -> Option<u32> {
        match self {
            Rows::Listed(rows) => rows.get(number as usize).copied(),
            Rows::Every { first, step } => number.checked_mul(*step)?.checked_add(*first),
        }
    }

    /// How many there are among so many requests.
    pub fn count(&self, requests: usize) -> usize {
        match self {
            Rows::Listed(rows) => rows.len(),
            Rows::Every { first, step } => requests.saturating_sub(*first as usize).div_ceil(*step as usize),
        }
    }

    /// All of them among so many requests.
    pub fn iter(&self, requests: usize) -> impl Iterator<Item = u32> + use<'_> {
        (0..self.count(requests) as u32).filter_map(|number| self.row(number))
    }
}

impl<'a> Whole<'a> {
    /// The columns.
    pub fn trace(&self) -> &'a Trace {
        self.trace
    }
}

impl<'a> From<Whole<'a>> for Workload<'a> {
    fn from(whole: Whole<'a>) -> Workload<'a> {
        Workload { source: Held::Whole(whole) }
    }
}

impl<'a> From<&'a Stream<'a>> for Workload<'a> {
    fn from(stream: &'a Stream<'a>) -> Workload<'a> {
        Workload { source: Held::Stream(stream) }
    }
}

impl<'a> Workload<'a> {
    /// Checks the columns of a trace and, if given, the segments its prompts consist of (they replace its hashes).
    ///
    /// # Errors
    /// Columns of unequal length, arrivals out of order, an empty prompt, segments that do not add up to a prompt.
    pub fn new(trace: &'a Trace, segments: Option<&'a Segments>) -> Result<Workload<'a>> {
        trace.check_columns(0)?;
        let count = trace.len();
        if let Some(segments) = segments {
            check_length("segments", segments.offsets.len().wrapping_sub(1), false, count)?;
            check_length("output_segment", segments.output.len(), true, count)?;
            check_offsets(
                "trace.segments",
                &segments.offsets,
                segments.ids.len().min(segments.lengths.len()),
            )?;
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
        Ok(Whole { trace, segments, arrival_s: None, given_rows: &[], recorded_cache: false }.into())
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
        Ok(self.changed(|whole| Whole { arrival_s: Some(arrival_s), ..whole }))
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
        Ok(self.changed(|whole| Whole { given_rows: rows, ..whole }))
    }

    /// The row that a request was given in: what is drawn for it does not depend on when others arrive.
    pub fn given_row(&self, request: u32) -> u32 {
        let rows = self.whole().map_or(&[][..], |whole| whole.given_rows);
        rows.get(request as usize).copied().unwrap_or(request)
    }

    /// The same requests; what a cache held of their prompts when they were recorded is found there again, whatever
    /// the engine's own cache holds, if `used`.
    #[must_use]
    pub fn with_recorded_cache(self, used: bool) -> Workload<'a> {
        self.changed(|whole| {
            let recorded_cache = used && !whole.trace.carried.cached_tokens.is_empty();
            Whole { recorded_cache, ..whole }
        })
    }

    fn changed(self, change: impl FnOnce(Whole<'a>) -> Whole<'a>) -> Workload<'a> {
        match self.source {
            Held::Whole(whole) => change(whole).into(),
            Held::Stream(_) => self,
        }
    }

    /// What `of` tells of a request that is there: the columns it stands in, and its row of them.
    #[inline]
    fn at<T>(&self, request: usize, of: impl FnOnce(&Trace, usize) -> T) -> T {
        match self.source {
            Held::Whole(whole) => of(whole.trace, request),
            Held::Stream(stream) => stream.at(request, of),
        }
    }

    /// The requests, where all are in memory.
    pub fn whole(&self) -> Option<Whole<'a>> {
        match self.source {
            Held::Whole(whole) => Some(whole),
            Held::Stream(_) => None,
        }
    }

    /// The columns, where all are in memory.
    pub fn trace(&self) -> Option<&'a Trace> {
        self.whole().map(|whole| whole.trace)
    }

    /// Whether what was recorded of a cache counts.
    pub fn has_recorded_cache(&self) -> bool {
        self.whole().is_some_and(|whole| whole.recorded_cache)
    }

    /// Tokens of a request's prompt that count as cached because they were when it was recorded.
    pub fn recorded_cache(&self, request: usize) -> u32 {
        if self.has_recorded_cache() {
            self.at(request, |trace, row| trace.carried.cached_tokens[row])
        } else {
            0
        }
    }

    /// Whether there is such a request.
    #[inline]
    pub fn has(&self, request: usize) -> bool {
        match self.source {
            Held::Whole(whole) => request < whole.trace.len(),
            Held::Stream(stream) => stream.has(request),
        }
    }

    /// No request before the `oldest` will be asked for again; a stream asks which that is when it has anything to forget.
    #[inline]
    pub fn forget(&self, oldest: impl FnOnce() -> Option<u32>) {
        if let Held::Stream(stream) = self.source
            && stream.holds_several_parts()
            && let Some(oldest) = oldest()
        {
            stream.forget_before(oldest as usize);
        }
    }

    /// So many requests are under way: a stream ends where memory holds no more.
    #[inline]
    pub fn limit(&self, under_way: usize) {
        if let Held::Stream(stream) = self.source {
            stream.limit(under_way as u64);
        }
    }

    /// Passes on why a stream ended early, if it did.
    ///
    /// # Errors
    /// That.
    pub fn check_whole(&self) -> crate::error::Result<()> {
        match self.source {
            Held::Whole(_) => Ok(()),
            Held::Stream(stream) => stream.failure().map_or(Ok(()), Err),
        }
    }

    /// When a request arrives.
    #[inline]
    pub fn arrival<C: Clock>(&self, request: usize) -> C::Instant {
        match self.source {
            Held::Whole(Whole { arrival_s: Some(seconds), .. }) => C::at_seconds(seconds[request]),
            _ => C::at_nanos(self.arrival_ns(request)),
        }
    }

    /// The same in whole nanoseconds.
    #[inline]
    pub fn arrival_ns(&self, request: usize) -> u64 {
        self.at(request, |trace, row| trace.arrival_ns[row])
    }

    /// Tokens of a request's prompt.
    #[inline]
    pub fn prompt_tokens(&self, request: usize) -> u32 {
        self.at(request, |trace, row| trace.prompt_tokens[row])
    }

    /// Tokens a request asks for.
    #[inline]
    pub fn output_tokens(&self, request: usize) -> u32 {
        self.at(request, |trace, row| trace.output_tokens[row])
    }

    /// Tokens of a block of which prompts have hashes, where they have any.
    pub fn hashed_block(&self) -> Option<u32> {
        match self.source {
            Held::Whole(whole) => whole.trace.hashes.as_ref().map(|hashes| hashes.block_size),
            Held::Stream(stream) => stream.block_size(),
        }
    }

    /// The hashed blocks of a request's prompt, and its tokens.
    pub fn hashed_prompt(&self, request: usize) -> (Vec<u32>, u32) {
        self.at(request, |trace, row| {
            let ids = trace.hashes.as_ref().map_or(Vec::new(), |hashes| hashes.path(row).to_vec());
            (ids, trace.prompt_tokens[row])
        })
    }

    /// Whether prompts consist of segments rather than of hashed blocks.
    pub fn has_segments(&self) -> bool {
        self.whole().is_some_and(|whole| whole.segments.is_some())
    }

    /// Requests; of a stream those that were drawn so far.
    pub fn len(&self) -> usize {
        match self.source {
            Held::Whole(whole) => whole.trace.len(),
            Held::Stream(stream) => stream.drawn(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The scheduling priority of a request, lower first.
    pub fn priority(&self, request: usize) -> i32 {
        self.at(request, |trace, row| trace.priority.get(row).copied().unwrap_or(0))
    }

    /// Seconds from its arrival within which a request's answer must be there, if it says.
    pub fn deadline_s(&self, request: usize) -> Option<f64> {
        self.at(request, deadline_s)
    }

    /// The images of a request's prompt whose tokens are known.
    pub fn images(&self, request: usize) -> Images {
        self.at(request, Images::of)
    }

    /// Both at once.
    #[inline]
    pub fn deadline_and_images(&self, request: usize) -> (Option<f64>, Images) {
        self.at(request, |trace, row| (deadline_s(trace, row), Images::of(trace, row)))
    }

    /// The tokens from the cursor to the end of the piece it is in, and the cursor behind them; `limit` at most.
    pub fn piece(&self, request: usize, cursor: Cursor, limit: u32) -> (Piece, Cursor) {
        let prompt = self.prompt_tokens(request);
        let segments = self.whole().and_then(|whole| whole.segments);
        if cursor.position >= prompt {
            let segment = segments.and_then(|segments| segments.output.get(request).copied());
            let segment = segment.unwrap_or(Piece::PRIVATE);
            let piece = Piece { segment, start: cursor.position - prompt, length: limit };
            return (piece, Cursor { position: cursor.position + limit, ..cursor });
        }
        if let Some(segments) = segments {
            return segment_piece(segments, request, cursor, limit);
        }
        let rest = limit.min(prompt - cursor.position);
        let private = Piece { segment: Piece::PRIVATE, start: cursor.position, length: rest };
        let piece = self.at(request, |trace, row| {
            let Some(hashes) = &trace.hashes else { return private };
            let place = hashes.offsets[row] + u64::from(cursor.position) / u64::from(hashes.block_size);
            if place >= hashes.offsets[row + 1] {
                return private;
            }
            let start = cursor.position % hashes.block_size;
            let length = rest.min(hashes.block_size - start);
            Piece { segment: hashes.ids[place as usize], start, length }
        });
        (piece, Cursor { position: cursor.position + piece.length, ..cursor })
    }
}

/// Seconds from its arrival within which the answer of a row must be there, if it says.
pub fn deadline_s(trace: &Trace, row: usize) -> Option<f64> {
    let nanos = trace.carried.deadline_ns.get(row).copied().filter(|&nanos| nanos != NOT_OBSERVED);
    nanos.map(|nanos| nanos as f64 / 1e9)
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
        let message = |seconds: &[f64]| {
            Workload::new(&trace, None).unwrap().arriving_at(seconds).unwrap_err().to_string()
        };
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
