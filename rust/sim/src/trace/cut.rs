//! Parts of a trace: a window of time, the first requests, a faster clock.

use super::policy::OverContext;
use super::{BlockHashes, Trace};
use crate::error::Result;
use roofline_core::error::Error;

impl Trace {
    /// The requests that arrive in `[start_s, end_s)`, with the clock at 0 at `start_s`.
    ///
    /// A request that waited for one outside of the window waits for none.
    ///
    /// # Errors
    /// Bounds that are not `0 <= start_s < end_s`.
    pub fn window(&self, start_s: f64, end_s: f64) -> Result<Trace> {
        if !(start_s >= 0.0 && end_s > start_s) {
            return Err(Error::spec(
                "window",
                "must be start:end in seconds, 0 <= start < end",
                format!("{start_s}:{end_s}"),
                "",
            )
            .into());
        }
        let (start, end) = (nanos(start_s), nanos(end_s));
        let from = self.arrival_ns.partition_point(|arrival| *arrival < start);
        let to = self.arrival_ns.partition_point(|arrival| *arrival < end);
        let mut part = self.rows(from, to);
        part.arrival_ns.iter_mut().for_each(|arrival| *arrival -= start);
        Ok(part)
    }

    /// The first `count` requests.
    pub fn limit(&self, count: usize) -> Trace {
        self.rows(0, count.min(self.len()))
    }

    /// The same requests with every time divided by `factor`: above 1 is faster.
    ///
    /// # Errors
    /// A factor that is not positive and finite.
    pub fn speedup(mut self, factor: f64) -> Result<Trace> {
        if !(factor.is_finite() && factor > 0.0) {
            return Err(Error::spec("speedup", "must be positive", factor, "2 replays twice as fast").into());
        }
        let last = self.arrival_ns.last().map_or(0.0, |last| *last as f64 / factor);
        if last > i64::MAX as f64 {
            let hint = "arrivals must stay within 292 years";
            return Err(
                Error::spec("speedup", "must not stretch the trace beyond 292 years", factor, hint).into()
            );
        }
        let faster = |time: &mut u64| *time = (*time as f64 / factor).round() as u64;
        self.arrival_ns.iter_mut().for_each(faster);
        if let Some(sessions) = &mut self.sessions {
            sessions.delay_ns.iter_mut().for_each(faster);
        }
        Ok(self)
    }

    /// The requests as an engine gets them whose context is `longest` tokens, and how many of them are cut; none if they
    /// stay as they are.
    ///
    /// A request is over context if its prompt and its answer together are longer than `longest`. One whose answer
    /// alone is stays: no prompt would help it.
    ///
    /// # Errors
    /// A request over context where that is to [`OverContext::Fail`].
    pub fn within_context(&self, longest: u32, policy: OverContext) -> Result<Option<(Trace, usize)>> {
        let over = |row: &usize| {
            u64::from(self.prompt_tokens[*row]) + u64::from(self.output_tokens[*row]) > u64::from(longest)
        };
        let first = (0..self.len()).find(over);
        let (Some(first), false) = (first, policy == OverContext::Reject) else { return Ok(None) };
        if policy == OverContext::Fail {
            let count = (first..self.len()).filter(over).count();
            let value = format!(
                "{} of prompt and {} of output in request {first}, the first of {count}",
                self.prompt_tokens[first], self.output_tokens[first]
            );
            let must = format!("must fit max_model_len ({longest} tokens)");
            let hint = "`--over-context truncate` cuts prompts, `reject` serves the others";
            return Err(Error::spec("trace", must, value, hint).into());
        }
        let mut cut = self.clone();
        let mut count = 0;
        for row in (first..self.len()).filter(over) {
            if let Some(room) = longest.checked_sub(self.output_tokens[row]).filter(|room| *room > 0) {
                cut.prompt_tokens[row] = room;
                count += 1;
            }
        }
        if let Some(hashes) = &mut cut.hashes {
            hashes.shorten(&cut.prompt_tokens);
        }
        for (cached, prompt) in cut.carried.cached_tokens.iter_mut().zip(&cut.prompt_tokens) {
            *cached = (*cached).min(*prompt);
        }
        Ok(Some((cut, count)))
    }

    /// How many answers end early at a context of `longest` tokens, though their prompts leave room for one.
    pub fn answers_cut(&self, longest: u32) -> usize {
        let lengths = self.prompt_tokens.iter().zip(&self.output_tokens);
        lengths
            .filter(|(prompt, output)| {
                **prompt < longest && u64::from(**prompt) + u64::from(**output) > u64::from(longest)
            })
            .count()
    }

    /// Rows `from..to` of every column.
    fn rows(&self, from: usize, to: usize) -> Trace {
        self.select(&(from as u32..to as u32).collect::<Vec<_>>())
    }
}

impl BlockHashes {
    /// Ends each path where its prompt, which may have become shorter, ends.
    fn shorten(&mut self, prompts: &[u32]) {
        let mut shorter = BlockHashes { block_size: self.block_size, offsets: vec![0], ids: Vec::new() };
        for (request, prompt) in prompts.iter().enumerate() {
            let path = self.path(request);
            let blocks = (prompt.div_ceil(self.block_size.max(1)) as usize).min(path.len());
            shorter.ids.extend_from_slice(&path[..blocks]);
            shorter.offsets.push(shorter.ids.len() as u64);
        }
        *self = shorter;
    }
}

/// Seconds as nanoseconds, beyond the largest at the largest.
fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{BlockHashes, Sessions};

    fn trace() -> Trace {
        Trace {
            arrival_ns: vec![0, 1_000_000_000, 2_000_000_000, 2_500_000_000],
            prompt_tokens: vec![16, 32, 48, 64],
            output_tokens: vec![1, 2, 3, 4],
            ids: ["a", "b", "c", "d"].map(String::from).to_vec(),
            hashes: Some(BlockHashes {
                block_size: 16,
                offsets: vec![0, 1, 3, 6, 10],
                ids: (0..10).collect(),
            }),
            sessions: Some(Sessions {
                count: 2,
                names: vec![],
                session: vec![0, 1, 0, 1],
                offsets: vec![0, 0, 0, 1, 2],
                after: vec![0, 1],
                delay_ns: vec![500, 700],
            }),
            ..Trace::default()
        }
    }

    #[test]
    fn a_window_keeps_what_arrives_in_it_and_starts_at_zero() {
        let part = trace().window(1.0, 2.5).unwrap();
        assert_eq!(part.arrival_ns, [0, 1_000_000_000]);
        assert_eq!(part.ids, ["b", "c"]);
        assert_eq!(part.hashes.as_ref().unwrap().path(1), [3, 4, 5]);
        assert_eq!(part.sessions.unwrap().waiting(), 0);
        let open = trace().window(1.0, 9.0).unwrap().sessions.unwrap();
        assert_eq!((open.offsets, open.after), (vec![0, 0, 0, 1], vec![0]));
    }

    #[test]
    fn answers_that_end_early_are_counted_without_prompts_that_leave_no_room() {
        let lengths = |trace: &Trace| {
            let pairs = trace.prompt_tokens.iter().zip(&trace.output_tokens);
            pairs.map(|(prompt, output)| (*prompt, *output)).collect::<Vec<_>>()
        };
        let trace = trace();
        for longest in 1..70 {
            let cut = |(prompt, output): &(u32, u32)| *prompt < longest && prompt + output > longest;
            let expected = lengths(&trace).iter().filter(|pair| cut(pair)).count();
            assert_eq!(trace.answers_cut(longest), expected);
        }
        assert_eq!(trace.answers_cut(u32::MAX), 0);
    }

    #[test]
    fn a_window_must_not_be_empty_or_backwards() {
        assert_eq!(
            trace().window(5.0, 5.0).unwrap_err().to_string(),
            "window must be start:end in seconds, 0 <= start < end: 5:5"
        );
        assert!(trace().window(f64::NAN, 5.0).is_err());
    }

    #[test]
    fn what_is_over_context_is_cut_refused_or_left_to_the_engine() {
        let (cut, count) = trace().within_context(40, OverContext::Truncate).unwrap().unwrap();
        assert_eq!((cut.prompt_tokens, count), (vec![16, 32, 37, 36], 2));
        assert_eq!(cut.hashes.unwrap().offsets, [0, 1, 3, 6, 9]);
        assert!(trace().within_context(40, OverContext::Reject).unwrap().is_none());
        assert!(trace().within_context(68, OverContext::Fail).unwrap().is_none());
        let error = trace().within_context(40, OverContext::Fail).unwrap_err();
        assert_eq!(
            error.to_string(),
            "trace must fit max_model_len (40 tokens): 48 of prompt and 3 of output in request 2, the first of 2"
        );
        let (cut, count) = trace().within_context(3, OverContext::Truncate).unwrap().unwrap();
        assert_eq!((cut.prompt_tokens[3], count), (64, 2), "an answer that leaves no room stays");
    }

    #[test]
    fn a_limit_keeps_the_first() {
        assert_eq!(trace().limit(2).prompt_tokens, [16, 32]);
        assert_eq!(trace().limit(9), trace());
    }

    #[test]
    fn a_speedup_of_two_halves_every_time() {
        let faster = trace().speedup(2.0).unwrap();
        assert_eq!(faster.arrival_ns[3], 1_250_000_000);
        assert_eq!(faster.sessions.unwrap().delay_ns, [250, 350]);
        assert_eq!(trace().speedup(0.0).unwrap_err().to_string(), "speedup must be positive: 0");
    }
}
