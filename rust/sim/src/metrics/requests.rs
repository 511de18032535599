//! What came of each request, as columns.

use roofline_core::table::{Column, Table, Texts};

use crate::request::Workload;
use crate::scheduler::sequence::Status;
use crate::time::Clock;

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
    /// The requests `rows` of a workload, none of which was sent yet; `held` if some may be held back.
    pub fn expected(workload: Workload<'_>, rows: &[u32], held: bool) -> Requests {
        let (trace, count) = (workload.trace(), rows.len());
        let whole = count == workload.len();
        let pick = |column: &[u32]| {
            if whole { column.to_vec() } else { rows.iter().map(|&row| column[row as usize]).collect() }
        };
        Requests {
            request_id: rows.iter().filter_map(|&row| trace.ids.get(row as usize)).collect(),
            arrival_s: vec![0.0; count],
            first_scheduled_s: vec![Seconds::NONE; count],
            first_token_s: vec![Seconds::NONE; count],
            finish_s: vec![Seconds::NONE; count],
            prompt_tokens: pick(&trace.prompt_tokens),
            output_tokens: vec![0; count],
            cached_tokens: vec![0; count],
            preemptions: vec![0; count],
            replica: vec![0; count],
            status: vec![Status::Expected; count],
            held_s: if held { vec![0.0; count] } else { Vec::new() },
        }
    }

    /// A request was sent, having been ready for some time.
    #[inline]
    pub fn sent<C: Clock>(&mut self, row: usize, at: C::Instant, ready: C::Instant) {
        // As the clock has it: nothing is scheduled before it arrives, not even by a rounding.
        self.arrival_s[row] = C::seconds(at);
        if let Some(held) = self.held_s.get_mut(row) {
            *held = C::seconds_between(ready, at);
        }
    }

    /// What came of a request for `asked` tokens. Zeros are not written: memory that is never touched costs nothing.
    pub fn set<C: Clock>(&mut self, row: usize, outcome: &Outcome<C::Instant>, asked: u32) {
        let seconds = |instant: Option<C::Instant>| Seconds::from(instant.map(C::seconds));
        self.first_scheduled_s[row] = seconds(outcome.first_scheduled);
        self.first_token_s[row] = seconds(outcome.first_token);
        self.finish_s[row] = seconds(outcome.finish);
        // A request for no output ends with the token its prompt yields, which nobody asked for.
        self.output_tokens[row] = outcome.delivered.min(asked);
        if outcome.cached > 0 {
            self.cached_tokens[row] = outcome.cached;
        }
        if outcome.preemptions > 0 {
            self.preemptions[row] = outcome.preemptions;
        }
        self.status[row] = outcome.status;
    }

    /// Puts the rows of a replica in their places.
    pub fn scatter(&mut self, rows: &[u32], replica: u32, part: &Requests) {
        for (place, &row) in rows.iter().enumerate() {
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

    /// The same as a client sees them who waits `seconds` longer for whatever the engine does.
    pub fn delay(&mut self, seconds: f64) {
        for column in [&mut self.first_scheduled_s, &mut self.first_token_s, &mut self.finish_s] {
            column.iter_mut().for_each(|instant| instant.0 += seconds);
        }
    }

    /// When a request was ready to be sent: its arrival, or before it if the client held it back.
    pub fn ready_s(&self, row: usize) -> f64 {
        self.arrival_s[row] - self.held_s.get(row).copied().unwrap_or(0.0)
    }

    /// Time to first token, queueing included.
    pub fn ttft_s(&self, row: usize) -> Option<f64> {
        self.first_token_s[row].get().map(|first| first - self.arrival_s[row])
    }

    /// Time per output token after the first: (E2E − TTFT)/(output − 1); absent for a single token.
    pub fn tpot_s(&self, row: usize) -> Option<f64> {
        let (first, last) = (self.first_token_s[row].get()?, self.finish_s[row].get()?);
        let gaps = self.output_tokens[row].checked_sub(1).filter(|&gaps| gaps > 0)?;
        Some((last - first) / f64::from(gaps))
    }

    /// Arrival to last token.
    pub fn e2e_s(&self, row: usize) -> Option<f64> {
        self.finish_s[row].get().map(|last| last - self.arrival_s[row])
    }

    /// How many stand there.
    pub fn count(&self, status: Status) -> usize {
        self.status.iter().filter(|&&known| known == status).count()
    }

    /// Some of the rows, in that order, without identifiers.
    pub fn select(&self, rows: &[u32]) -> Requests {
        fn pick<T: Copy>(column: &[T], rows: &[u32]) -> Vec<T> {
            rows.iter().filter_map(|&row| column.get(row as usize).copied()).collect()
        }
        Requests {
            request_id: Texts::default(),
            arrival_s: pick(&self.arrival_s, rows),
            first_scheduled_s: pick(&self.first_scheduled_s, rows),
            first_token_s: pick(&self.first_token_s, rows),
            finish_s: pick(&self.finish_s, rows),
            prompt_tokens: pick(&self.prompt_tokens, rows),
            output_tokens: pick(&self.output_tokens, rows),
            cached_tokens: pick(&self.cached_tokens, rows),
            preemptions: pick(&self.preemptions, rows),
            replica: pick(&self.replica, rows),
            status: pick(&self.status, rows),
            held_s: pick(&self.held_s, rows),
        }
    }

    /// The columns.
    pub fn to_table(&self) -> Table {
        let seconds =
            |column: &[Seconds]| Column::OptF64(column.iter().map(|seconds| seconds.get()).collect());
        let derived = |of: fn(&Requests, usize) -> Option<f64>| {
            Column::OptF64((0..self.len()).map(|row| of(self, row)).collect())
        };
        let names = self.status.iter().map(|status| status.name()).collect();
        let table = Table::new()
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
            .with("status", Column::Texts(names));
        if self.held_s.is_empty() { table } else { table.with("held_s", Column::F64(self.held_s.clone())) }
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
            ..Requests::default()
        };
        let told = |row: usize| (requests.ttft_s(row), requests.tpot_s(row), requests.e2e_s(row));
        assert_eq!(told(0), (Some(1.0), None, Some(1.0)));
        assert_eq!(told(1), (Some(1.0), Some(1.0), Some(4.0)));
        assert_eq!(told(2), (None, None, None));
    }
}
