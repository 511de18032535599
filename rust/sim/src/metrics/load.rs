//! Whether an engine keeps up with what it is offered, in a word.

use super::percentiles::MOST_EXACT;
use super::timeline::Level;
use crate::time::{Ticks, tick_seconds, ticks_in};

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
    /// The load of the requests of a queue, whose mean time from arrival to last token is `mean_e2e_s`.
    ///
    /// The queue's growth is the increase of its mean from the second to the last quarter of the arrivals' time, over the
    /// half of it that lies between. It is overload if it is more than 1 % of what arrives and more than chance gives:
    /// 10 requests and the square root of what arrived in between; or, where nearly all of the last quarter waited (so
    /// no single burst is meant), 1 request and half the square root of all. The latter is looked at as long as requests
    /// are few enough to be remembered one by one.
    pub fn of(queue: &Queue, mean_e2e_s: Option<f64>, client: Sent) -> Load {
        let (first, last) = (queue.first, queue.last);
        let count = queue.count as f64;
        let offered = (last > first).then(|| (count - 1.0) / (last - first));
        if client.closed {
            return Load { offered, growth: None, verdict: Verdict::Closed };
        }
        let Some(offered) = offered else {
            return Load { offered: None, growth: None, verdict: Verdict::AtOnce };
        };
        let quarter = (last - first) / 4.0;
        let increase =
            queue.mean(first + 3.0 * quarter, last) - queue.mean(first + quarter, first + 2.0 * quarter);
        // Arrivals that come faster late than on average would make it grow by more than what is offered.
        let growth = (increase / (2.0 * quarter)).min(offered);
        let by_far = increase > 10.0 + (count / 2.0).sqrt();
        let steadily = increase > 1.0 + count.sqrt() / 2.0 && queue.nearly_all_wait(first + 3.0 * quarter);
        let verdict = if growth > 0.01 * offered && (by_far || steadily) {
            Verdict::Overloaded
        } else if mean_e2e_s.is_none_or(|e2e| e2e > last - first) {
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

/// When a request was ready to be sent, and when the first step with it began, if one did; seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Ready.
    pub ready: f64,
    /// Scheduled; infinity for one that never was.
    pub scheduled: f64,
    /// Whether the engine refused it.
    pub refused: bool,
}

/// Who waited when: request by request or, beyond a limit, the time all of them waited in a few thousand intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    count: u64,
    first: f64,
    last: f64,
    most: usize,
    spans: Vec<Span>,
    binned: Option<Box<Binned>>,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue::within(MOST_EXACT)
    }
}

impl Queue {
    /// Nobody has come yet; up to `most` requests are remembered.
    pub fn within(most: usize) -> Queue {
        Queue {
            count: 0,
            first: f64::INFINITY,
            last: f64::NEG_INFINITY,
            most,
            spans: Vec::new(),
            binned: None,
        }
    }

    /// A request that was sent.
    pub fn add(&mut self, span: Span) {
        self.count += 1;
        self.first = self.first.min(span.ready);
        self.last = self.last.max(span.ready);
        match &mut self.binned {
            Some(binned) => binned.add(span),
            None if self.spans.len() < self.most => self.spans.push(span),
            None => self.bin().add(span),
        }
    }

    /// Adds those of another one.
    pub fn append(&mut self, other: Queue) {
        self.count += other.count;
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        match other.binned {
            Some(theirs) => self.bin().append(*theirs),
            None if self.binned.is_none() && self.spans.len() + other.spans.len() <= self.most => {
                self.spans.extend(other.spans);
            }
            None => {
                let bins = self.bin();
                other.spans.into_iter().for_each(|span| bins.add(span));
            }
        }
    }

    /// The intervals, to which all that is remembered goes.
    fn bin(&mut self) -> &mut Binned {
        let spans = std::mem::take(&mut self.spans);
        let binned = self.binned.get_or_insert_default();
        spans.into_iter().for_each(|span| binned.add(span));
        binned
    }

    /// The time requests spent waiting in a span, divided by its length: single bursts weigh little.
    fn mean(&self, from: f64, to: f64) -> f64 {
        let waited = match &self.binned {
            Some(binned) => binned.between(from, to),
            None => {
                let accepted = self.spans.iter().filter(|span| !span.refused);
                let waited = accepted.map(|span| (span.scheduled.min(to) - span.ready.max(from)).max(0.0));
                // Whole numbers add up alike in any order.
                tick_seconds(waited.map(ticks_in).sum())
            }
        };
        waited / (to - from)
    }

    /// Whether nine of ten requests that came from then on waited at least a quarter of the mean wait.
    fn nearly_all_wait(&self, from: f64) -> bool {
        let late = self.spans.iter().filter(|span| !span.refused && span.ready >= from);
        let mut waits: Vec<f64> = late.map(|span| span.scheduled - span.ready).collect();
        waits.sort_unstable_by(f64::total_cmp);
        let known: Vec<f64> = waits.iter().copied().filter(|wait| wait.is_finite()).collect();
        let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
        waits.get(waits.len() / 10).is_some_and(|&least| least > 0.0 && least >= mean / 4.0)
    }
}

/// The time requests waited in intervals from second 0 on, as long as need be for all to be few.
#[derive(Debug, Clone, PartialEq)]
struct Binned {
    interval: Ticks,
    level: Level,
    /// When those who still wait came.
    endless: Vec<f64>,
}

/// Intervals of a queue.
const BINS: usize = 1 << 14;

impl Default for Binned {
    fn default() -> Binned {
        Binned { interval: 1 << 64, level: Level::new(BINS), endless: Vec::new() }
    }
}

impl Binned {
    fn add(&mut self, span: Span) {
        if span.refused {
            return;
        }
        if !span.scheduled.is_finite() {
            self.endless.push(span.ready);
            return;
        }
        let (from, to) = (ticks_in(span.ready), ticks_in(span.scheduled));
        while to > self.interval * BINS as Ticks {
            self.coarsen();
        }
        self.level.add(from, to, self.interval);
    }

    fn coarsen(&mut self) {
        self.level = self.level.coarsened(self.interval);
        self.interval *= 2;
    }

    fn append(&mut self, mut other: Binned) {
        while self.interval < other.interval {
            self.coarsen();
        }
        while other.interval < self.interval {
            other.coarsen();
        }
        self.level.append(&other.level);
        self.endless.append(&mut other.endless);
    }

    /// Seconds waited between two instants; within an interval they are taken as spread evenly.
    fn between(&self, from: f64, to: f64) -> f64 {
        let width = tick_seconds(self.interval);
        let sums = self.level.sums(self.interval);
        let share = |(place, &sum): (usize, &Ticks)| {
            let start = place as f64 * width;
            let inside = (to.min(start + width) - from.max(start)).max(0.0);
            if inside > 0.0 { tick_seconds(sum) * (inside / width) } else { 0.0 }
        };
        let waited: f64 = sums.iter().enumerate().map(share).sum();
        let endless: Ticks =
            self.endless.iter().map(|&ready| ticks_in((to - ready.max(from)).max(0.0))).sum();
        waited + tick_seconds(endless)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests one after another through a server that takes `service` seconds each, arriving at random.
    fn served(count: usize, utilization: f64, seed: u64) -> Queue {
        let mut queue = Queue::default();
        spans(count, utilization, seed).into_iter().for_each(|span| queue.add(span));
        queue
    }

    fn load(queue: &Queue) -> Load {
        Load::of(queue, Some(1.0), Sent::default())
    }

    fn spans(count: usize, utilization: f64, seed: u64) -> Vec<Span> {
        let (service, mut state) = (1.0, seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let (mut now, mut free) = (0.0, 0.0f64);
        let span = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            now += -uniform.ln() * service / utilization;
            let start = free.max(now);
            free = start + service;
            Span { ready: now, scheduled: start, refused: false }
        };
        (0..count).map(span).collect()
    }

    fn share_overloaded(count: usize, utilization: f64) -> f64 {
        let runs = 300;
        let found = (1..=runs)
            .filter(|&seed| load(&served(count, utilization, seed)).verdict == Verdict::Overloaded)
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
        let load = load(&served(4000, 1.5, 7));
        assert_eq!((load.verdict, load.overloaded()), (Verdict::Overloaded, Some(true)));
        assert!((load.growth.unwrap() - 0.5).abs() < 0.1, "{load:?}");
        assert!((load.offered.unwrap() - 1.5).abs() < 0.1, "{load:?}");
    }

    #[test]
    fn without_a_rate_there_is_nothing_to_keep_up_with() {
        let mut at_once = Queue::default();
        let spans = spans(20, 1.0, 1).into_iter().map(|span| Span { ready: 0.0, ..span });
        spans.for_each(|span| at_once.add(span));
        for queue in [at_once, Queue::default()] {
            let load = load(&queue);
            assert_eq!((load.offered, load.verdict, load.overloaded()), (None, Verdict::AtOnce, None));
        }
    }

    #[test]
    fn a_closed_loop_offers_what_it_is_served() {
        let load = Load::of(&served(400, 2.0, 5), Some(1.0), Sent { closed: true, outside_s: 0.0 });
        assert_eq!((load.verdict.name(), load.overloaded()), ("closed loop", None));
    }

    #[test]
    fn a_run_shorter_than_its_requests_tells_nothing() {
        let load = Load::of(&served(10, 0.1, 3), Some(1e6), Sent::default());
        assert_eq!(load.verdict.name(), "too short to tell");
    }

    #[test]
    fn a_queue_in_intervals_is_as_long_as_request_by_request() {
        for utilization in [0.8, 1.2] {
            let spans = spans(20_000, utilization, 11);
            let (mut exact, mut binned, mut halves) =
                (Queue::default(), Queue::within(100), [Queue::within(100), Queue::within(100)]);
            for (place, &span) in spans.iter().enumerate() {
                let span = if place % 1000 == 999 { Span { scheduled: f64::INFINITY, ..span } } else { span };
                exact.add(span);
                binned.add(span);
                halves[place % 2].add(span);
            }
            let [mut both, odd] = halves;
            both.append(odd);
            let (known, found, joined) = (load(&exact), load(&binned), load(&both));
            assert_eq!((known.offered, known.verdict), (found.offered, found.verdict));
            let error = (known.growth.unwrap() - found.growth.unwrap()).abs();
            assert!(error < 1e-4 * known.offered.unwrap(), "{known:?} {found:?}");
            assert_eq!((found.verdict, found.offered), (joined.verdict, joined.offered));
            assert!((found.growth.unwrap() - joined.growth.unwrap()).abs() < 1e-12);
        }
    }
}
