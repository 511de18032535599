//! Those who send the requests: when each is sent, which may depend on when others were answered.
//!
//! A request is *ready* when the trace says so, when what it waits for was answered, or when a user is free to ask;
//! it is *sent* then, or as soon as a cap on requests in flight lets it. Latencies count from sending, as
//! `vllm bench serve` measures them.

mod extent;
mod units;
mod sender;

use roofline_core::error::{Error, Result};
use roofline_core::names;

pub use self::extent::Extent;
pub use self::sender::{Due, Sender};
pub use self::units::Units;
use crate::trace::Trace;

/// What a turn of a conversation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionMode {
    /// The answers it follows, each plus its delay; and its recorded arrival, if that is later.
    #[default]
    Closed,
    /// Nothing: it comes at its recorded arrival, or at the earliest it could be.
    Open,
}

impl SessionMode {
    /// The mode of that name.
    ///
    /// # Errors
    /// An unknown name, with the known ones.
    pub fn parse(name: &str) -> Result<SessionMode> {
        match names::normalise(name).as_str() {
            "closed" => Ok(SessionMode::Closed),
            "open" => Ok(SessionMode::Open),
            _ => Err(names::unknown("session mode", name, ["closed", "open"])),
        }
    }
}

/// How requests are sent, and which of them are measured.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Client {
    /// What turns wait for.
    pub sessions: SessionMode,
    /// Users that each send their next request (or conversation) when the last one was answered; arrivals of the trace
    /// are not used then.
    pub concurrency: Option<u32>,
    /// Nanoseconds a user takes between an answer and the next request.
    pub think_ns: u64,
    /// Nanoseconds until an answer that the engine has given reaches the client.
    pub answer_ns: u64,
    /// Requests in flight at most; others are held back by the client.
    pub max_concurrency: Option<u32>,
    /// What is left out of the statistics at the beginning.
    pub warmup: Option<Extent>,
    /// How much is measured after it; everything unless said.
    pub measure: Option<Extent>,
}

impl Client {
    /// Checks the settings, for so many requests if that is known.
    ///
    /// # Errors
    /// Nobody who could send; a think time without users; a warm-up that leaves no request to be measured.
    pub fn check(&self, requests: Option<usize>) -> Result<()> {
        let mut mistakes = Vec::new();
        for (field, value) in [("concurrency", self.concurrency), ("max_concurrency", self.max_concurrency)] {
            if value == Some(0) {
                mistakes.push(Error::spec(field, "must be at least 1", 0, ""));
            }
        }
        if self.think_ns > 0 && self.concurrency.is_none() {
            let hint = "it is what a user takes between an answer and the next request; say how many users there are";
            mistakes.push(Error::spec(
                "think_time",
                "must be given with concurrency",
                "concurrency absent",
                hint,
            ));
        }
        if let (Some(Extent::Requests(count)), Some(requests)) = (self.warmup, requests)
            && count >= requests as u64
        {
            let must = format!("must leave some of the {requests} requests to be measured");
            mistakes.push(Error::spec("warmup", must, count, ""));
        }
        if let (Some(warmup), Some(measure)) = (self.warmup, self.measure)
            && !warmup.is_empty()
            && std::mem::discriminant(&warmup) != std::mem::discriminant(&measure)
        {
            let hint = "`--warmup 100 --measure 1000` counts requests, `--warmup 30s --measure 5min` time";
            let must = "must be of the kind of warmup, requests or time";
            mistakes.push(Error::spec("measure", must, "the other kind", hint));
        }
        if self.measure.is_some_and(Extent::is_empty) {
            mistakes.push(Error::spec(
                "measure",
                "must be more than nothing",
                0,
                "leave it out to measure all",
            ));
        }
        Error::all("client", mistakes)
    }

    /// Where what is measured begins and ends, counted from the beginning; `None` if everything is.
    pub(crate) fn window(&self) -> Option<(Extent, Option<Extent>)> {
        let warmup = self.warmup.filter(|extent| !extent.is_empty());
        let Some(measure) = self.measure else { return Some((warmup?, None)) };
        let end = match (warmup, measure) {
            (Some(Extent::Requests(before)), Extent::Requests(count)) => {
                Extent::Requests(before.saturating_add(count))
            }
            (Some(Extent::Nanos(before)), Extent::Nanos(nanos)) => {
                Extent::Nanos(before.saturating_add(nanos))
            }
            (_, measure) => measure,
        };
        Some((warmup.unwrap_or(end.none()), Some(end)))
    }

    /// Of `replicas`, how many get requests: each needs a user, and a place in flight, of its own.
    pub(crate) fn replicas_served(&self, replicas: u32) -> u32 {
        let most = self.concurrency.unwrap_or(u32::MAX).min(self.max_concurrency.unwrap_or(u32::MAX));
        replicas.min(most).max(1)
    }

    /// A replica's part of what is divided among `served` of them.
    pub(crate) fn share(total: u32, replica: u32, served: u32) -> u32 {
        total / served + u32::from(replica < total % served)
    }

    /// Sentences about how requests are sent.
    pub fn notes(&self, trace: &Trace, replicas: u32) -> Vec<String> {
        let mut notes = Vec::new();
        let turns = trace.sessions.as_ref().map_or(0, |sessions| sessions.waiting());
        if turns > 0 {
            notes.push(match self.sessions {
                SessionMode::Closed => format!(
                    "{turns} turns wait for an earlier answer (closed sessions; --session-mode open to replay \
                     recorded times)"
                ),
                SessionMode::Open => format!(
                    "{turns} turns follow an earlier one: sent at their recorded or earliest times (open sessions)"
                ),
            });
        }
        if let Some(users) = self.concurrency {
            let think_ms = self.think_ns as f64 / 1e6;
            notes.push(format!("{users} users, {think_ms} ms between an answer and the next request"));
        }
        if let Some(most) = self.max_concurrency {
            notes.push(format!("at most {most} requests in flight; latencies count from sending"));
        }
        let served = self.replicas_served(replicas);
        if served < replicas {
            notes
                .push(format!("only {served} of {replicas} replicas get requests: so many can be in flight"));
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_send_or_measure_nothing_are_refused() {
        let message = |client: Client| client.check(Some(10)).unwrap_err().to_string();
        let none = Some(0);
        assert_eq!(
            message(Client { concurrency: none, ..Client::default() }),
            "concurrency must be at least 1: 0"
        );
        assert_eq!(
            message(Client { max_concurrency: none, ..Client::default() }),
            "max_concurrency must be at least 1: 0"
        );
        assert_eq!(
            message(Client { think_ns: 1, ..Client::default() }),
            "think_time must be given with concurrency: concurrency absent"
        );
        assert_eq!(
            message(Client { warmup: Some(Extent::Requests(10)), ..Client::default() }),
            "warmup must leave some of the 10 requests to be measured: 10"
        );
        assert_eq!(
            message(Client { measure: Some(Extent::Nanos(0)), ..Client::default() }),
            "measure must be more than nothing: 0"
        );
        assert!(Client::default().check(Some(0)).is_ok());
    }

    #[test]
    fn an_unknown_session_mode_names_the_known_ones() {
        assert_eq!(SessionMode::parse("Open").unwrap(), SessionMode::Open);
        let error = SessionMode::parse("clsed").unwrap_err();
        assert!(error.to_string().contains("session mode") && error.hint().contains("closed"), "{error}");
    }

    #[test]
    fn what_is_divided_among_replicas_adds_up() {
        for (total, replicas) in [(7, 3), (2, 5), (8, 4), (1, 1)] {
            let client = Client { concurrency: Some(total), ..Client::default() };
            let served = client.replicas_served(replicas);
            let parts: Vec<u32> = (0..served).map(|replica| Client::share(total, replica, served)).collect();
            assert_eq!(parts.iter().sum::<u32>(), total);
            assert!(parts.iter().all(|&part| part > 0), "{parts:?}");
        }
    }
}
