//! Whether an engine keeps up with what it is offered, in a word.

use super::records::Requests;
use crate::scheduler::sequence::Status;

/// What is known of those who sent requests.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Sent {
    /// Whether each user sends the next request when the last one was answered.
    pub closed: bool,
    /// Seconds by which answers begin later for them than in the engine.
    pub outside_s: f64,
}

/// What became of the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All requests came at once, or only one: there is no rate to keep up with.
    AtOnce,
    /// The queue grew for as long as requests arrived.
    Overloaded,
    /// It did not.
    KeepsUp,
    /// Users wait for their answers: what is offered is what is served.
    Closed,
    /// Requests arrived for a shorter time than one takes: a queue had no time to show.
    TooShort,
}

impl Verdict {
    /// As summaries and screens say it.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::AtOnce => "all at once",
            Verdict::Overloaded => "overloaded",
            Verdict::KeepsUp => "keeps up",
            Verdict::Closed => "closed loop",
            Verdict::TooShort => "too short to tell",
        }
    }
}

/// What was offered, and how the queue took it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Requests a second while they arrived; unknown when all arrived at once.
    pub offered: Option<f64>,
    /// Requests a second by which the queue grew.
    pub growth: Option<f64>,
    /// In a word.
    pub verdict: Verdict,
}

impl Load {
    /// The load of these requests.
    ///
    /// The queue's growth is the increase of its mean from the second to the last quarter of the arrivals' time, over the
    /// half of it that lies between. It is overload if it is more than 1 % of what arrives and more than chance gives:
    /// 10 requests and the square root of what arrived in between; or, where nearly all of the last quarter waited (so
    /// no single burst is meant), 1 request and half the square root of all.
    pub fn of(requests: &Requests, client: Sent) -> Load {
        let spans: Vec<Span> = spans(requests, client.outside_s);
        let first = spans.iter().map(|span| span.ready).fold(f64::INFINITY, f64::min);
        let last = spans.iter().map(|span| span.ready).fold(f64::NEG_INFINITY, f64::max);
        let count = spans.len() as f64;
        let offered = (last > first).then(|| (count - 1.0) / (last - first));
        if client.closed {
            return Load { offered, growth: None, verdict: Verdict::Closed };
        }
        let Some(offered) = offered else {
            return Load { offered: None, growth: None, verdict: Verdict::AtOnce };
        };
        let quarter = (last - first) / 4.0;
        let increase = mean_queue(&spans, first + 3.0 * quarter, last)
            - mean_queue(&spans, first + quarter, first + 2.0 * quarter);
        // Arrivals that come faster late than on average would make it grow by more than what is offered.
        let growth = (increase / (2.0 * quarter)).min(offered);
        let by_far = increase > 10.0 + (count / 2.0).sqrt();
        let steadily = increase > 1.0 + count.sqrt() / 2.0 && nearly_all_wait(&spans, first + 3.0 * quarter);
        let verdict = if growth > 0.01 * offered && (by_far || steadily) {
            Verdict::Overloaded
        } else if mean_e2e(requests).is_none_or(|e2e| e2e > last - first) {
            Verdict::TooShort
        } else {
            Verdict::KeepsUp
        };
        Load { offered: Some(offered), growth: Some(growth), verdict }
    }

    /// Whether it was overload; unknown where nothing can be said.
    pub fn overloaded(&self) -> Option<bool> {
        match self.verdict {
            Verdict::Overloaded => Some(true),
            Verdict::KeepsUp => Some(false),
            Verdict::AtOnce | Verdict::Closed | Verdict::TooShort => None,
        }
    }
}

/// When a request was ready to be sent, and when the first step with it began, if one did.
#[derive(Debug, Clone, Copy)]
struct Span {
    ready: f64,
    scheduled: f64,
    refused: bool,
}

/// Those of all requests that were sent.
fn spans(requests: &Requests, outside_s: f64) -> Vec<Span> {
    let sent = (0..requests.len()).filter(|&row| requests.status[row] != Status::Expected);
    sent.map(|row| Span {
        ready: requests.ready_s(row),
        scheduled: requests.first_scheduled_s[row].get().map_or(f64::INFINITY, |at| at - outside_s),
        refused: requests.status[row] == Status::Rejected,
    })
    .collect()
}

/// The time requests spent waiting in a span, divided by its length: single bursts weigh little.
fn mean_queue(spans: &[Span], from: f64, to: f64) -> f64 {
    let accepted = spans.iter().filter(|span| !span.refused);
    let waited = accepted.map(|span| (span.scheduled.min(to) - span.ready.max(from)).max(0.0));
    waited.sum::<f64>() / (to - from)
}

/// Whether nine of ten requests that came from then on waited at least a quarter of the mean wait.
fn nearly_all_wait(spans: &[Span], from: f64) -> bool {
    let late = spans.iter().filter(|span| !span.refused && span.ready >= from);
    let mut waits: Vec<f64> = late.map(|span| span.scheduled - span.ready).collect();
    waits.sort_unstable_by(f64::total_cmp);
    let known: Vec<f64> = waits.iter().copied().filter(|wait| wait.is_finite()).collect();
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    waits.get(waits.len() / 10).is_some_and(|&least| least > 0.0 && least >= mean / 4.0)
}

fn mean_e2e(requests: &Requests) -> Option<f64> {
    let (sum, count) = (0..requests.len())
        .filter_map(|row| requests.e2e_s(row))
        .fold((0.0, 0u64), |(sum, count), e2e| (sum + e2e, count + 1));
    (count > 0).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests one after another through a server that takes `service` seconds each, arriving at random.
    fn served(count: usize, utilization: f64, seed: u64) -> Requests {
        let (service, mut state) = (1.0, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let mut requests = Requests::default();
        let (mut now, mut free) = (0.0, 0.0f64);
        for _ in 0..count {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            now += -uniform.ln() * service / utilization;
            let start = free.max(now);
            free = start + service;
            requests.arrival_s.push(now);
            requests.first_scheduled_s.push(start.into());
            requests.finish_s.push(free.into());
            requests.status.push(Status::Finished);
        }
        requests
    }

    fn share_overloaded(count: usize, utilization: f64) -> f64 {
        let runs = 300;
        let found = (1..=runs)
            .filter(|&seed| {
                Load::of(&served(count, utilization, seed), Sent::default()).verdict == Verdict::Overloaded
            })
            .count();
        found as f64 / runs as f64
    }

    #[test]
    fn short_overloaded_runs_are_told_from_busy_ones() {
        for count in [40, 100, 400, 2000] {
            assert!(share_overloaded(count, 0.5) < 0.01, "{count} at 50 %");
            assert!(share_overloaded(count, 0.8) < 0.05, "{count} at 80 %");
            assert!(share_overloaded(count, 3.0) > 0.99, "{count} at 300 %");
        }
        assert!(share_overloaded(100, 2.0) > 0.99);
        assert!(share_overloaded(400, 1.4) > 0.99);
    }

    #[test]
    fn growth_is_what_is_offered_beyond_what_is_served() {
        let load = Load::of(&served(4000, 1.5, 7), Sent::default());
        assert_eq!((load.verdict, load.overloaded()), (Verdict::Overloaded, Some(true)));
        assert!((load.growth.unwrap() - 0.5).abs() < 0.1, "{load:?}");
        assert!((load.offered.unwrap() - 1.5).abs() < 0.1, "{load:?}");
    }

    #[test]
    fn without_a_rate_there_is_nothing_to_keep_up_with() {
        let mut at_once = served(20, 1.0, 1);
        at_once.arrival_s.fill(0.0);
        for requests in [at_once, Requests::default()] {
            let load = Load::of(&requests, Sent::default());
            assert_eq!((load.offered, load.verdict, load.overloaded()), (None, Verdict::AtOnce, None));
        }
    }

    #[test]
    fn a_closed_loop_offers_what_it_is_served() {
        let load = Load::of(&served(400, 2.0, 5), Sent { closed: true, outside_s: 0.0 });
        assert_eq!((load.verdict.name(), load.overloaded()), ("closed loop", None));
    }

    #[test]
    fn a_run_shorter_than_its_requests_tells_nothing() {
        let mut requests = served(10, 0.1, 3);
        requests.finish_s.fill(1e6.into());
        assert_eq!(Load::of(&requests, Sent::default()).verdict.name(), "too short to tell");
    }
}
