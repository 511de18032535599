//! What came of each request, as columns.

use std::ops::Range;

use roofline_core::table::{Column, Table, Texts};

use crate::request::{Rows, Workload, deadline_s};
use crate::scheduler::sequence::Status;
use crate::time::Clock;
use crate::trace::Trace;

/// Seconds that may be absent, in the space of a number: millions of requests have several of them each.
#[derive(Clone, Copy)]
pub struct Seconds(f64);

impl Seconds {
    /// Absent.
    pub const NONE: Seconds = Seconds(f64::NAN);

    /// The seconds, if there are any.
    #[inline]
    pub fn get(self) -> Option<f64> {
        (!self.0.is_nan()).then_some(self.0)
    }

    /// Whether there are any.
    pub fn is_some(self) -> bool {
        !self.0.is_nan()
    }
}

impl From<f64> for Seconds {
    fn from(seconds: f64) -> Seconds {
        Seconds(seconds)
    }
}

impl From<Option<f64>> for Seconds {
    fn from(seconds: Option<f64>) -> Seconds {
        seconds.map_or(Seconds::NONE, Seconds)
    }
}

impl PartialEq for Seconds {
    fn eq(&self, other: &Seconds) -> bool {
        self.get() == other.get()
    }
}

impl PartialEq<Option<f64>> for Seconds {
    fn eq(&self, other: &Option<f64>) -> bool {
        self.get() == *other
    }
}

impl std::fmt::Debug for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(formatter)
    }
}

/// Requests of a simulation, one row each, in the order of the trace; times in seconds since the trace began.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Requests {
    /// Identifiers as in the trace; empty where it has none (then the row number stands for them).
    pub request_id: Texts,
    /// When it arrived: was sent; or would have been at the earliest, if it never was.
    pub arrival_s: Vec<f64>,
    /// When the first step it was in began.
    pub first_scheduled_s: Vec<Seconds>,
    /// When its first token was there.
    pub first_token_s: Vec<Seconds>,
    /// When its last token was there.
    pub finish_s: Vec<Seconds>,
    /// Tokens of its prompt.
    pub prompt_tokens: Vec<u32>,
    /// Tokens it was given.
    pub output_tokens: Vec<u32>,
    /// Tokens of the prompt found cached at its first admission.
    pub cached_tokens: Vec<u32>,
    /// How often it was preempted.
    pub preemptions: Vec<u32>,
    /// The replica that served it.
    pub replica: Vec<u32>,
    /// Where it stood at the end.
    pub status: Vec<Status>,
    /// How long the client held it back before it was sent, its arrival; empty where nothing is held back.
    pub held_s: Vec<f64>,
    /// How long after its arrival its answer must be there; empty where no request says.
    pub deadline_s: Vec<Seconds>,
}

/// A row of [`Requests`], under the names of its columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct One {
    /// When it arrived: was sent; or would have been at the earliest, if it never was.
    pub arrival_s: f64,
    /// How long the client held it back before.
    pub held_s: f64,
    /// When the first step it was in began.
    pub first_scheduled_s: Seconds,
    /// When its first token was there.
    pub first_token_s: Seconds,
    /// When its last token was there.
    pub finish_s: Seconds,
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Tokens it was given.
    pub output_tokens: u32,
    /// Tokens of the prompt found cached at its first admission.
    pub cached_tokens: u32,
    /// How often it was preempted.
    pub preemptions: u32,
    /// Where it stood at the end.
    pub status: Status,
    /// How long after its arrival its answer must be there.
    pub deadline_s: Seconds,
}

impl One {
    /// A request of `prompt` tokens that was sent at `at`, having been ready for some time, and asked for `asked` tokens
    /// within `deadline_s`.
    pub fn of<C: Clock>(
        (at, ready): (C::Instant, C::Instant),
        outcome: &Outcome<C::Instant>,
        (prompt, asked): (u32, u32),
        deadline_s: Seconds,
    ) -> One {
        let seconds = |instant: Option<C::Instant>| Seconds::from(instant.map(C::seconds));
        One {
            // As the clock has it: nothing is scheduled before it arrives, not even by a rounding.
            arrival_s: C::seconds(at),
            held_s: C::seconds_between(ready, at),
            first_scheduled_s: seconds(outcome.first_scheduled),
            first_token_s: seconds(outcome.first_token),
            finish_s: seconds(outcome.finish),
            prompt_tokens: prompt,
            // A request for no output ends with the token its prompt yields, which nobody asked for.
            output_tokens: outcome.delivered.min(asked),
            cached_tokens: outcome.cached,
            preemptions: outcome.preemptions,
            status: outcome.status,
            deadline_s,
        }
    }

    /// A request of `prompt` tokens that was never sent.
    pub fn expected(arrival_s: f64, prompt: u32) -> One {
        One {
            arrival_s,
            held_s: 0.0,
            first_scheduled_s: Seconds::NONE,
            first_token_s: Seconds::NONE,
            finish_s: Seconds::NONE,
            prompt_tokens: prompt,
            output_tokens: 0,
            cached_tokens: 0,
            preemptions: 0,
            status: Status::Expected,
            deadline_s: Seconds::NONE,
        }
    }

    /// The same as a client sees it who waits `seconds` longer for whatever the engine does.
    #[must_use]
    pub fn delayed(self, seconds: f64) -> One {
        let later = |instant: Seconds| Seconds(instant.0 + seconds);
        One {
            first_scheduled_s: later(self.first_scheduled_s),
            first_token_s: later(self.first_token_s),
            finish_s: later(self.finish_s),
            ..self
        }
    }

    /// When it was ready to be sent: its arrival, or before it if the client held it back.
    pub fn ready_s(&self) -> f64 {
        self.arrival_s - self.held_s
    }

    /// Time to first token, queueing included.
    pub fn ttft_s(&self) -> Option<f64> {
        self.first_token_s.get().map(|first| first - self.arrival_s)
    }

    /// Time per output token after the first: (E2E − TTFT)/(output − 1); absent for a single token.
    pub fn tpot_s(&self) -> Option<f64> {
        let (first, last) = (self.first_token_s.get()?, self.finish_s.get()?);
        let gaps = self.output_tokens.checked_sub(1).filter(|&gaps| gaps > 0)?;
        Some((last - first) / f64::from(gaps))
    }

    /// Arrival to last token.
    pub fn e2e_s(&self) -> Option<f64> {
        self.finish_s.get().map(|last| last - self.arrival_s)
    }

    /// Whether its answer was there in time; absent where it does not say by when.
    pub fn meets_deadline(&self) -> Option<bool> {
        let deadline_s = self.deadline_s.get()?;
        Some(self.e2e_s().is_some_and(|e2e_s| e2e_s <= deadline_s))
    }
}

/// What came of one request.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<T> {
    /// When the first step it was in began.
    pub first_scheduled: Option<T>,
    /// When its first token was there.
    pub first_token: Option<T>,
    /// When its last token was there.
    pub finish: Option<T>,
    /// Tokens its answer was given; one more than asked for where none was asked for.
    pub delivered: u32,
    /// Tokens of the prompt found cached at its first admission.
    pub cached: u32,
    /// How often it was preempted.
    pub preemptions: u32,
    /// Where it stands.
    pub status: Status,
}

impl Requests {
    /// All requests of a trace, none of which was sent yet; `held` if some may be held back.
    pub fn expected(trace: &Trace, held: bool) -> Requests {
        let count = trace.len();
        Requests {
            request_id: trace.ids.iter().collect(),
            arrival_s: vec![0.0; count],
            first_scheduled_s: vec![Seconds::NONE; count],
            first_token_s: vec![Seconds::NONE; count],
            finish_s: vec![Seconds::NONE; count],
            prompt_tokens: trace.prompt_tokens.clone(),
            output_tokens: vec![0; count],
            cached_tokens: vec![0; count],
            preemptions: vec![0; count],
            replica: vec![0; count],
            status: vec![Status::Expected; count],
            held_s: if held { vec![0.0; count] } else { Vec::new() },
            deadline_s: match trace.carried.deadline_ns.is_empty() {
                true => Vec::new(),
                false => (0..count).map(|row| deadline_s(trace, row).into()).collect(),
            },
        }
    }

    /// These rows of a replica, numbers standing for their identifiers.
    pub fn listed(rows: &[(u32, One)], replica: u32, held: bool) -> Requests {
        let mut requests = Requests::default();
        requests.resize(rows.len(), held);
        requests.prompt_tokens = rows.iter().map(|(_, one)| one.prompt_tokens).collect();
        requests.request_id = rows.iter().map(|(row, _)| row.to_string()).collect();
        requests.replica.fill(replica);
        rows.iter().enumerate().for_each(|(place, (_, one))| requests.set(place, one));
        requests
    }

    /// Those of them that a replica is to serve, without identifiers.
    pub fn expected_of(workload: Workload<'_>, rows: Rows<'_>, held: bool) -> Requests {
        let count = rows.count(workload.len());
        if let Some(trace) = workload.trace().filter(|trace| trace.len() == count) {
            return Requests::expected(trace, held);
        }
        let prompt = |row: u32| workload.prompt_tokens(row as usize);
        let mut requests = Requests::default();
        requests.resize(count, held);
        requests.prompt_tokens = rows.iter(workload.len()).map(prompt).collect();
        if workload.trace().is_some_and(|trace| !trace.carried.deadline_ns.is_empty()) {
            let deadline = |row: u32| workload.deadline_s(row as usize).into();
            requests.deadline_s = rows.iter(workload.len()).map(deadline).collect();
        }
        requests
    }

    fn resize(&mut self, count: usize, held: bool) {
        self.arrival_s.resize(count, 0.0);
        self.first_scheduled_s.resize(count, Seconds::NONE);
        self.first_token_s.resize(count, Seconds::NONE);
        self.finish_s.resize(count, Seconds::NONE);
        self.output_tokens.resize(count, 0);
        self.cached_tokens.resize(count, 0);
        self.preemptions.resize(count, 0);
        self.replica.resize(count, 0);
        self.status.resize(count, Status::Expected);
        self.held_s.resize(if held { count } else { 0 }, 0.0);
    }

    /// What came of a request. Zeros are not written: memory that is never touched costs nothing.
    pub fn set(&mut self, row: usize, one: &One) {
        self.arrival_s[row] = one.arrival_s;
        if let Some(held) = self.held_s.get_mut(row) {
            *held = one.held_s;
        }
        self.first_scheduled_s[row] = one.first_scheduled_s;
        self.first_token_s[row] = one.first_token_s;
        self.finish_s[row] = one.finish_s;
        self.output_tokens[row] = one.output_tokens;
        if one.cached_tokens > 0 {
            self.cached_tokens[row] = one.cached_tokens;
        }
        if one.preemptions > 0 {
            self.preemptions[row] = one.preemptions;
        }
        self.status[row] = one.status;
    }

    /// A row.
    #[inline]
    pub fn one(&self, row: usize) -> One {
        One {
            arrival_s: self.arrival_s[row],
            held_s: self.held_s.get(row).copied().unwrap_or(0.0),
            first_scheduled_s: self.first_scheduled_s[row],
            first_token_s: self.first_token_s[row],
            finish_s: self.finish_s[row],
            prompt_tokens: self.prompt_tokens[row],
            output_tokens: self.output_tokens[row],
            cached_tokens: self.cached_tokens[row],
            preemptions: self.preemptions[row],
            status: self.status[row],
            deadline_s: self.deadline_s.get(row).copied().unwrap_or(Seconds::NONE),
        }
    }

    /// Puts the rows of a replica in their places.
    pub fn scatter(&mut self, rows: Rows<'_>, replica: u32, part: &Requests) {
        for (place, row) in rows.iter(self.len()).enumerate() {
            let row = row as usize;
            self.arrival_s[row] = part.arrival_s[place];
            self.first_scheduled_s[row] = part.first_scheduled_s[place];
            self.first_token_s[row] = part.first_token_s[place];
            self.finish_s[row] = part.finish_s[place];
            self.output_tokens[row] = part.output_tokens[place];
            self.cached_tokens[row] = part.cached_tokens[place];
            self.preemptions[row] = part.preemptions[place];
            self.replica[row] = replica;
            self.status[row] = part.status[place];
            if let Some(held) = self.held_s.get_mut(row) {
                *held = part.held_s[place];
            }
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.arrival_s.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.arrival_s.is_empty()
    }

    /// Identifiers: as in the trace, or the row numbers.
    pub fn ids(&self) -> Texts {
        if self.request_id.is_empty() { Texts::numbers(self.len()) } else { self.request_id.clone() }
    }

    /// The identifier of a row.
    pub fn id(&self, row: usize) -> String {
        if self.request_id.is_empty() { row.to_string() } else { self.request_id.row(row).to_string() }
    }

    /// Identifiers of some rows.
    pub fn ids_of(&self, rows: Range<usize>) -> Texts {
        rows.map(|row| self.id(row)).collect()
    }

    /// Some rows, each under its identifier.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Requests {
        Requests {
            request_id: self.ids_of(rows.clone()),
            arrival_s: self.arrival_s[rows.clone()].to_vec(),
            first_scheduled_s: self.first_scheduled_s[rows.clone()].to_vec(),
            first_token_s: self.first_token_s[rows.clone()].to_vec(),
            finish_s: self.finish_s[rows.clone()].to_vec(),
            prompt_tokens: self.prompt_tokens[rows.clone()].to_vec(),
            output_tokens: self.output_tokens[rows.clone()].to_vec(),
            cached_tokens: self.cached_tokens[rows.clone()].to_vec(),
            preemptions: self.preemptions[rows.clone()].to_vec(),
            replica: self.replica[rows.clone()].to_vec(),
            status: self.status[rows.clone()].to_vec(),
            held_s: self.held_s.get(rows.clone()).map_or(Vec::new(), <[f64]>::to_vec),
            deadline_s: self.deadline_s.get(rows).map_or(Vec::new(), <[Seconds]>::to_vec),
        }
    }

    /// The same as a client sees them who waits `seconds` longer for whatever the engine does.
    pub fn delay(&mut self, seconds: f64) {
        for column in [&mut self.first_scheduled_s, &mut self.first_token_s, &mut self.finish_s] {
            column.iter_mut().for_each(|instant| instant.0 += seconds);
        }
    }

    /// Time to first token, queueing included.
    pub fn ttft_s(&self, row: usize) -> Option<f64> {
        self.one(row).ttft_s()
    }

    /// Time per output token after the first: (E2E − TTFT)/(output − 1); absent for a single token.
    pub fn tpot_s(&self, row: usize) -> Option<f64> {
        self.one(row).tpot_s()
    }

    /// Arrival to last token.
    pub fn e2e_s(&self, row: usize) -> Option<f64> {
        self.one(row).e2e_s()
    }

    /// How many stand there.
    pub fn count(&self, status: Status) -> usize {
        self.status.iter().filter(|&&known| known == status).count()
    }

    /// The columns.
    pub fn to_table(&self) -> Table {
        let seconds = |column: &[Seconds]| Column::NanF64(column.iter().map(|seconds| seconds.0).collect());
        let derived = |of: fn(&Requests, usize) -> Option<f64>| {
            Column::NanF64((0..self.len()).map(|row| of(self, row).unwrap_or(f64::NAN)).collect())
        };
        let status = self.status.iter().map(|&status| status as u32).collect();
        let names = Status::ALL.map(|status| status.name().to_string()).to_vec();
        let mut table = Table::new()
            .with("request_id", Column::Texts(self.ids()))
            .with("arrival_s", Column::F64(self.arrival_s.clone()))
            .with("first_scheduled_s", seconds(&self.first_scheduled_s))
            .with("first_token_s", seconds(&self.first_token_s))
            .with("finish_s", seconds(&self.finish_s))
            .with("prompt_tokens", Column::U32(self.prompt_tokens.clone()))
            .with("output_tokens", Column::U32(self.output_tokens.clone()))
            .with("cached_tokens", Column::U32(self.cached_tokens.clone()))
            .with("preemptions", Column::U32(self.preemptions.clone()))
            .with("ttft_s", derived(Requests::ttft_s))
            .with("tpot_s", derived(Requests::tpot_s))
            .with("e2e_s", derived(Requests::e2e_s))
            .with("replica", Column::U32(self.replica.clone()))
            .with("status", Column::Names(status, names));
        if !self.held_s.is_empty() {
            table.push("held_s", Column::F64(self.held_s.clone()));
        }
        if !self.deadline_s.is_empty() {
            let (words, none) = (["met", "missed"].map(str::to_string).to_vec(), 2);
            let word = |row: usize| self.one(row).meets_deadline().map_or(none, |met| u32::from(!met));
            let words = Column::Names((0..self.len()).map(word).collect(), words);
            table.push("deadline_s", seconds(&self.deadline_s));
            table.push("deadline", words);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_seconds_equal_absent_seconds() {
        assert_eq!(Seconds::NONE, Seconds::from(None));
        assert_ne!(Seconds::NONE, Seconds::from(0.0));
        assert_eq!(Seconds::from(Some(1.5)), Some(1.5));
        assert_eq!(format!("{:?} {:?}", Seconds::NONE, Seconds::from(2.0)), "None Some(2.0)");
        assert_eq!(size_of::<Seconds>(), 8);
    }

    #[test]
    fn a_single_token_has_no_time_between_tokens() {
        let requests = Requests {
            arrival_s: vec![1.0; 3],
            first_token_s: vec![Seconds::from(2.0), Seconds::from(2.0), Seconds::NONE],
            finish_s: vec![Seconds::from(2.0), Seconds::from(5.0), Seconds::NONE],
            output_tokens: vec![1, 4, 0],
            first_scheduled_s: vec![Seconds::NONE; 3],
            prompt_tokens: vec![1; 3],
            cached_tokens: vec![0; 3],
            preemptions: vec![0; 3],
            status: vec![Status::Finished; 3],
            ..Requests::default()
        };
        let told = |row: usize| (requests.ttft_s(row), requests.tpot_s(row), requests.e2e_s(row));
        assert_eq!(told(0), (Some(1.0), None, Some(1.0)));
        assert_eq!(told(1), (Some(1.0), Some(1.0), Some(4.0)));
        assert_eq!(told(2), (None, None, None));
    }
}
