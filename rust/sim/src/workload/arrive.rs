//! Other arrivals for the requests of a trace: the lengths somebody recorded, at a rate of the user's choice.

use roofline_core::error::Error;
use roofline_core::names;

use super::generate::Requests;
use super::spec::{ARRIVAL_WORDS, RATE_WORDS, Spec};
use crate::error::Result;
use crate::trace::Trace;

impl Trace {
    /// The same requests in the same order, arriving as `words` and their texts say (those of [`Spec::parse`] about
    /// arrivals). A request that waits for others has no arrival to draw: it keeps waiting, with its delay.
    ///
    /// ```
    /// use roofline_sim::assemble::TraceColumns;
    /// let columns = TraceColumns {
    ///     arrival_s: vec![0.0, 60.0],
    ///     prompt_tokens: vec![100, 200],
    ///     output_tokens: vec![10, 20],
    ///     ..TraceColumns::default()
    /// };
    /// let faster = columns.assemble()?.trace.arriving(&[("request_rate", "2"), ("arrivals", "constant")])?;
    /// assert_eq!(faster.arrival_ns, [0, 500_000_000]);
    /// # Ok::<(), roofline_sim::error::Error>(())
    /// ```
    ///
    /// # Errors
    /// Words about anything but arrivals, none about the rate, and those of [`Spec::parse`].
    pub fn arriving(mut self, words: &[(&str, &str)]) -> Result<Trace> {
        if let Some((word, _)) = words.iter().find(|(word, _)| !ARRIVAL_WORDS.contains(word)) {
            return Err(names::unknown("setting of arrivals", word, ARRIVAL_WORDS.iter().copied()).into());
        }
        if !words.iter().any(|(word, _)| RATE_WORDS.contains(word)) {
            let hint = "for example `request_rate` 4, or inf for all at once";
            return Err(
                Error::spec("request_rate", "must be given for other arrivals", "nothing", hint).into()
            );
        }
        let free: Vec<usize> = (0..self.len()).filter(|row| !self.waits(*row)).collect();
        let count = free.len().to_string();
        let said: Vec<_> = words.iter().copied().chain([("num_prompts", count.as_str())]).collect();
        let spec = Spec::parse(&said, None)?;
        let mut arrivals = vec![None; self.len()];
        let mut drawn = 0;
        for (row, request) in free.iter().zip(Requests::new(&spec)) {
            arrivals[*row] = Some(request.arrival_ns);
            drawn += 1;
        }
        if drawn < free.len() {
            let must = "must bring every request within 292 years";
            return Err(Error::spec("request_rate", must, format!("{drawn} requests"), "").into());
        }
        self.arrival_ns = self.earliest(arrivals);
        if self.arrival_ns.is_sorted() {
            return Ok(self);
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by_key(|row| self.arrival_ns[*row as usize]);
        Ok(self.select(&order))
    }

    fn waits(&self, row: usize) -> bool {
        self.sessions.as_ref().is_some_and(|sessions| sessions.offsets[row] < sessions.offsets[row + 1])
    }

    /// The arrivals, and for those that wait the earliest they can be.
    fn earliest(&self, mut arrivals: Vec<Option<u64>>) -> Vec<u64> {
        let Some(sessions) = &self.sessions else { return arrivals.into_iter().flatten().collect() };
        let mut left: Vec<usize> = (0..self.len()).filter(|row| arrivals[*row].is_none()).collect();
        // Rows mostly stand behind those they wait for: one pass is the rule, and each pass settles at least one.
        while !left.is_empty() {
            let before = left.len();
            left.retain(|row| {
                let ends = sessions
                    .waits_for(*row)
                    .map(|(on, delay)| Some(arrivals[on as usize]?.saturating_add(delay)));
                arrivals[*row] = ends.collect::<Option<Vec<u64>>>().and_then(|ends| ends.into_iter().max());
                arrivals[*row].is_none()
            });
            if left.len() == before {
                break;
            }
        }
        arrivals.into_iter().map(Option::unwrap_or_default).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Sessions;

    fn turns() -> Trace {
        Trace {
            arrival_ns: vec![0, 5, 9],
            prompt_tokens: vec![1, 2, 3],
            output_tokens: vec![1, 1, 1],
            sessions: Some(Sessions {
                count: 1,
                names: vec![],
                session: vec![0, 0, Sessions::NONE],
                offsets: vec![0, 0, 1, 1],
                after: vec![0],
                delay_ns: vec![7_000_000_000],
            }),
            ..Trace::default()
        }
    }

    #[test]
    fn who_waits_keeps_waiting_and_the_others_arrive_in_order() {
        let trace = turns().arriving(&[("request_rate", "0.5"), ("arrivals", "constant")]).unwrap();
        assert_eq!(trace.arrival_ns, [0, 2_000_000_000, 7_000_000_000]);
        assert_eq!(trace.prompt_tokens, [1, 3, 2]);
        assert_eq!(trace.sessions.unwrap().waits_for(2).collect::<Vec<_>>(), [(0, 7_000_000_000)]);
    }

    #[test]
    fn only_arrivals_can_be_said_anew_and_their_rate_must_be() {
        let refused = |words: &[(&str, &str)]| turns().arriving(words).unwrap_err().to_string();
        assert_eq!(refused(&[("input_len", "5")]), "no setting of arrivals is called `input_len`");
        assert_eq!(refused(&[("cv", "2")]), "request_rate must be given for other arrivals: nothing");
        assert_eq!(refused(&[("request_rate", "0")]), turns_rate_error());
    }

    /// What a rate of 0 is told wherever it is given.
    fn turns_rate_error() -> String {
        Spec::parse(&[("num_prompts", "1"), ("request_rate", "0")], None).unwrap_err().to_string()
    }
}
