//! The client of one replica: who is sent next, and when.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use super::{Client, Extent, SessionMode, Units};
use crate::request::{Rows, Workload};
use crate::time::Clock;

/// Requests that become ready, the earliest first.
type Called<C> = BinaryHeap<Reverse<Event<<C as Clock>::Instant>>>;

/// Something that happens on the client's side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Due<T> {
    /// A request is sent.
    Send {
        /// Which.
        sequence: u32,
        /// When.
        at: T,
        /// Since when it was ready to be sent.
        ready: T,
    },
    /// What is measured begins, or ends.
    Mark,
}

/// A request that becomes ready; ordered by time, then by number.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Event<T> {
    at: T,
    sequence: u32,
}

impl<T: PartialOrd> Eq for Event<T> {}

impl<T: PartialOrd> PartialOrd for Event<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: PartialOrd> Ord for Event<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let times = self.at.partial_cmp(&other.at).unwrap_or(Ordering::Equal);
        times.then(self.sequence.cmp(&other.sequence))
    }
}

/// Where the statistics change.
#[derive(Debug, Clone, Copy)]
enum Mark<T> {
    /// At this instant.
    At(T),
    /// When the first request from this row of the workload on is sent.
    Row(u64),
}

/// The client of one replica.
#[derive(Debug)]
pub struct Sender<'a, C: Clock> {
    workload: Workload<'a>,
    /// For each sequence its row of the workload, in order of arrival.
    rows: Rows<'a>,
    /// Nanoseconds until an answer reaches the client.
    answer_ns: u64,
    /// The next sequence whose arrival the trace gives, and that arrival.
    listed: Option<Event<C::Instant>>,
    /// Those who become ready because others were answered.
    called: Called<C>,
    links: Option<Links<C>>,
    users: Option<Users>,
    /// Places in flight; absent without a cap.
    places: Option<Places<C>>,
    /// Marks to come, in reverse order.
    marks: Vec<Mark<C::Instant>>,
    /// Whether arrivals are the trace's, none is held back, and all are measured.
    lists_only: bool,
    /// When the client has something to do next, as far as is known.
    due: Option<C::Instant>,
}

/// Places in flight that are free.
#[derive(Debug)]
struct Places<C: Clock> {
    /// Those that were never taken.
    new: u32,
    /// Since when each other one is free, earliest first.
    freed: VecDeque<C::Instant>,
}

/// Who waits for whom.
#[derive(Debug)]
struct Links<C: Clock> {
    /// Whether each sequence waits for anybody at all.
    waits: Vec<bool>,
    /// For each sequence how many answers it still waits for.
    open: Vec<u32>,
    /// For each sequence the earliest it can be ready, as far as is known.
    earliest: Vec<C::Instant>,
    /// `after[offsets[i]..offsets[i + 1]]` are those who wait for sequence `i`, with the nanoseconds in between.
    offsets: Vec<u32>,
    after: Vec<(u32, u64)>,
}

/// Users, each of whom does one unit after the other.
#[derive(Debug)]
struct Users {
    think_ns: u64,
    /// The next unit to be begun.
    next: u32,
    /// For each sequence its unit, and for each unit its sequences; `None` where each is one of its own.
    members: Option<Members>,
}

/// The requests of units.
#[derive(Debug)]
struct Members {
    /// The unit of each sequence.
    unit: Vec<u32>,
    /// For each unit how many of its requests are not answered.
    left: Vec<u32>,
    /// The sequences of unit `u` are `sequences[offsets[u]..offsets[u + 1]]`.
    offsets: Vec<u32>,
    sequences: Vec<u32>,
}

impl<'a, C: Clock> Sender<'a, C> {
    /// The client that sends `rows` of the workload, in order of arrival, to one of `served` replicas.
    pub fn new(
        client: &Client,
        workload: Workload<'a>,
        units: &Units,
        rows: Rows<'a>,
        (replica, served): (u32, u32),
    ) -> Sender<'a, C> {
        let closed = client.sessions == SessionMode::Closed;
        let share = |total: u32| Client::share(total, replica, served);
        let mut sender = Sender {
            workload,
            rows,
            answer_ns: client.answer_ns,
            listed: None,
            called: BinaryHeap::new(),
            links: if closed { Links::of(workload, rows) } else { None },
            users: client.concurrency.map(|_| Users { think_ns: client.think_ns, next: 0, members: None }),
            places: client.max_concurrency.map(|most| Places { new: share(most), freed: VecDeque::new() }),
            marks: marks::<C>(client),
            lists_only: false,
            due: None,
        };
        sender.lists_only = sender.links.is_none()
            && sender.users.is_none()
            && sender.places.is_none()
            && sender.marks.is_empty();
        match (client.concurrency, &mut sender.users) {
            (Some(total), Some(users)) => {
                if let Some((unit, count)) = units.among(rows).filter(|_| closed) {
                    users.members = Some(Members::of(unit, count));
                }
                // Users beyond the last unit have nothing to send.
                let mut idle = share(total);
                while idle > 0 && sender.begin_unit(C::Instant::default()) {
                    idle -= 1;
                }
            }
            _ => sender.list_from(0),
        }
        sender.look_ahead();
        sender
    }

    /// When the client has something to do next, as far as is known; `None` while it waits for answers, or is done.
    #[inline]
    pub fn due(&self) -> Option<C::Instant> {
        self.due
    }

    /// The first sequence that was not sent yet, as far as is known.
    pub fn oldest_unsent(&self) -> Option<u32> {
        let called = self.called.iter().map(|Reverse(event)| event.sequence).min();
        self.listed.map(|event| event.sequence).into_iter().chain(called).min()
    }

    /// Whether the statistics will change.
    pub fn has_marks(&self) -> bool {
        !self.marks.is_empty()
    }

    /// The next thing that happens up to `now`, in order of time.
    #[inline]
    pub fn pop(&mut self, now: C::Instant) -> Option<Due<C::Instant>> {
        match self.due {
            Some(due) if due <= now => Some(if self.lists_only { self.send_listed(due) } else { self.act() }),
            _ => None,
        }
    }

    /// Sends the next request where arrivals are the trace's and nothing else happens.
    fn send_listed(&mut self, at: C::Instant) -> Due<C::Instant> {
        let sequence = self.listed.map_or(0, |event| event.sequence);
        self.list_from(sequence + 1);
        self.due = self.listed.map(|event| event.at);
        Due::Send { sequence, at, ready: at }
    }

    /// Does what is due, which is known to be something.
    fn act(&mut self) -> Due<C::Instant> {
        let next = self.next();
        let marked = match (self.marks.last(), &next) {
            (None, _) => false,
            (Some(&Mark::At(mark)), next) => next.is_none_or(|(_, at)| mark <= at),
            (Some(&Mark::Row(first)), Some((event, _))) => {
                self.row(event.sequence).is_none_or(|row| row as u64 >= first)
            }
            (Some(Mark::Row(_)), None) => false,
        };
        let due = match next {
            Some((Event { at: ready, sequence }, at)) if !marked => {
                self.take(sequence);
                Due::Send { sequence, at, ready }
            }
            _ => {
                self.marks.pop();
                Due::Mark
            }
        };
        self.look_ahead();
        due
    }

    /// A request was answered, or refused: those who waited for it can go on.
    pub fn completed(&mut self, sequence: u32, at: C::Instant) {
        if self.lists_only {
            return;
        }
        let at = C::after_nanos(at, self.answer_ns);
        if let Some(places) = &mut self.places {
            // One that is refused frees its place at once, maybe before one whose answer was noted earlier.
            let later = places.freed.partition_point(|freed| *freed <= at);
            places.freed.insert(later, at);
        }
        if let Some(links) = &mut self.links {
            links.answered(sequence, at, &mut self.called);
        }
        if let Some(users) = &mut self.users
            && users.is_done_with(sequence)
        {
            let after = C::after_nanos(at, users.think_ns);
            self.begin_unit(after);
        }
        self.look_ahead();
    }

    /// Who is sent next, as far as is known, and when.
    fn next(&self) -> Option<(Event<C::Instant>, C::Instant)> {
        let called = self.called.peek().map(|Reverse(event)| *event);
        let event = match (self.listed, called) {
            (Some(listed), Some(called)) => listed.min(called),
            (listed, called) => listed.or(called)?,
        };
        match &self.places {
            None => Some((event, event.at)),
            Some(places) if places.new > 0 => Some((event, event.at)),
            Some(places) => Some((event, C::later(event.at, *places.freed.front()?))),
        }
    }

    fn take(&mut self, sequence: u32) {
        if self.listed.is_some_and(|event| event.sequence == sequence) {
            self.list_from(sequence + 1);
        } else {
            self.called.pop();
        }
        match &mut self.places {
            Some(places) if places.new > 0 => places.new -= 1,
            Some(places) => drop(places.freed.pop_front()),
            None => {}
        }
    }

    /// Lists the first sequence from `sequence` on that waits for nobody.
    fn list_from(&mut self, mut sequence: u32) {
        if let Some(links) = &self.links {
            while links.waits.get(sequence as usize).is_some_and(|&waits| waits) {
                sequence += 1;
            }
        }
        let row = self.row(sequence);
        self.listed = row.map(|row| Event { at: self.workload.arrival::<C>(row), sequence });
    }

    /// The row of a sequence, if there is such a one.
    #[inline]
    fn row(&self, sequence: u32) -> Option<usize> {
        self.rows.row(sequence).map(|row| row as usize).filter(|&row| self.workload.has(row))
    }

    /// A user begins the next unit, its requests as far apart as in the trace or when what they wait for is answered;
    /// whether there was one.
    fn begin_unit(&mut self, at: C::Instant) -> bool {
        let Some(users) = &mut self.users else { return false };
        let unit = users.next;
        let Some(members) = &users.members else {
            if self.row(unit).is_none() {
                return false;
            }
            self.called.push(Reverse(Event { at, sequence: unit }));
            self.users.iter_mut().for_each(|users| users.next += 1);
            return true;
        };
        if unit as usize == members.left.len() {
            return false;
        }
        users.next += 1;
        let row = |sequence: u32| self.rows.row(sequence).map_or(0, |row| row as usize);
        let sequences = members.of_unit(unit);
        let first_ns = sequences.first().map_or(0, |&first| self.workload.arrival_ns(row(first)));
        for &sequence in sequences {
            let at = C::after_nanos(at, self.workload.arrival_ns(row(sequence)) - first_ns);
            match &mut self.links {
                Some(links) if links.waits[sequence as usize] => links.earliest[sequence as usize] = at,
                _ => self.called.push(Reverse(Event { at, sequence })),
            }
        }
        true
    }

    fn look_ahead(&mut self) {
        self.due = self.next().map(|(_, at)| at);
        if let Some(&Mark::At(mark)) = self.marks.last()
            && self.due.is_none_or(|due| mark < due)
        {
            self.due = Some(mark);
        }
    }
}

/// Where what is measured begins and ends, the end first.
fn marks<C: Clock>(client: &Client) -> Vec<Mark<C::Instant>> {
    let Some((begin, end)) = client.window() else { return Vec::new() };
    let mark = |extent: Extent| match extent {
        Extent::Requests(row) => Mark::Row(row),
        Extent::Nanos(nanos) => Mark::At(C::at_nanos(nanos)),
    };
    end.map(mark).into_iter().chain([mark(begin)]).collect()
}

impl<C: Clock> Links<C> {
    /// The links among `rows` of the workload; `None` if there are none.
    fn of(workload: Workload<'_>, rows: Rows<'_>) -> Option<Links<C>> {
        let sessions = workload.trace()?.sessions.as_ref().filter(|sessions| sessions.waiting() > 0)?;
        let rows: Vec<u32> = rows.iter(workload.len()).collect();
        let mut sequence_of = vec![u32::MAX; workload.len()];
        for (sequence, &row) in rows.iter().enumerate() {
            sequence_of[row as usize] = sequence as u32;
        }
        let mut edges: Vec<(u32, u32, u64)> = Vec::new();
        let mut open = vec![0; rows.len()];
        for (sequence, &row) in rows.iter().enumerate() {
            for (before, delay_ns) in sessions.waits_for(row as usize) {
                open[sequence] += 1;
                edges.push((sequence_of[before as usize], sequence as u32, delay_ns));
            }
        }
        edges.sort_unstable();
        let begin = |sequence: u32| edges.partition_point(|edge| edge.0 < sequence) as u32;
        Some(Links {
            waits: open.iter().map(|&open| open > 0).collect(),
            earliest: rows.iter().map(|&row| workload.arrival::<C>(row as usize)).collect(),
            offsets: (0..=rows.len() as u32).map(begin).collect(),
            after: edges.iter().map(|&(_, sequence, delay_ns)| (sequence, delay_ns)).collect(),
            open,
        })
    }

    /// A sequence was answered; those who waited for nothing else become ready.
    fn answered(&mut self, sequence: u32, at: C::Instant, called: &mut Called<C>) {
        let (from, to) = (self.offsets[sequence as usize], self.offsets[sequence as usize + 1]);
        for &(next, delay_ns) in &self.after[from as usize..to as usize] {
            let earliest = &mut self.earliest[next as usize];
            *earliest = C::later(*earliest, C::after_nanos(at, delay_ns));
            self.open[next as usize] -= 1;
            if self.open[next as usize] == 0 {
                called.push(Reverse(Event { at: *earliest, sequence: next }));
            }
        }
    }
}

impl Users {
    /// A sequence was answered; whether its user is free to begin another unit.
    fn is_done_with(&mut self, sequence: u32) -> bool {
        let Some(members) = &mut self.members else { return true };
        let left = &mut members.left[members.unit[sequence as usize] as usize];
        *left -= 1;
        *left == 0
    }
}

impl Members {
    fn of(unit: Vec<u32>, units: u32) -> Members {
        let mut left = vec![0; units as usize];
        unit.iter().for_each(|&unit| left[unit as usize] += 1);
        let mut offsets = vec![0; units as usize + 1];
        for (place, &count) in left.iter().enumerate() {
            offsets[place + 1] = offsets[place] + count;
        }
        let mut next = offsets.clone();
        let mut sequences = vec![0; unit.len()];
        for (sequence, &unit) in unit.iter().enumerate() {
            sequences[next[unit as usize] as usize] = sequence as u32;
            next[unit as usize] += 1;
        }
        Members { unit, left, offsets, sequences }
    }

    fn of_unit(&self, unit: u32) -> &[u32] {
        let (from, to) = (self.offsets[unit as usize], self.offsets[unit as usize + 1]);
        &self.sequences[from as usize..to as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::FixedClock;
    use crate::trace::{Sessions, Trace};

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> i128 {
        FixedClock::at_nanos(ms * MS)
    }

    /// Requests that arrive at these milliseconds; (who, waits for, ms) say who waits for whom.
    fn trace(arrivals: &[u64], waits: &[(usize, u32, u64)]) -> Trace {
        let mut sessions = Sessions { session: vec![Sessions::NONE; arrivals.len()], ..Sessions::default() };
        sessions.offsets.push(0);
        for row in 0..arrivals.len() {
            for &(_, before, delay_ms) in waits.iter().filter(|wait| wait.0 == row) {
                sessions.after.push(before);
                sessions.delay_ns.push(delay_ms * MS);
            }
            sessions.offsets.push(sessions.after.len() as u64);
        }
        Trace {
            arrival_ns: arrivals.iter().map(|ms| ms * MS).collect(),
            prompt_tokens: vec![1; arrivals.len()],
            output_tokens: vec![1; arrivals.len()],
            sessions: Some(sessions),
            ..Trace::default()
        }
    }

    /// When each request is sent, in ms, if each is answered `service` ms after it was sent.
    fn sent(trace: &Trace, client: &Client, service: u64) -> Vec<(u32, u64)> {
        let units = Units::of(trace);
        let workload = Workload::new(trace, None).unwrap();
        let mut sender = Sender::<FixedClock>::new(client, workload, &units, Rows::ALL, (0, 1));
        let (mut sent, mut answers) = (Vec::new(), Vec::<(i128, u32)>::new());
        let milli = at(1);
        loop {
            let answer = answers.iter().min().copied();
            let Some(now) = [sender.due(), answer.map(|answer| answer.0)].into_iter().flatten().min() else {
                return sent;
            };
            if let Some(answer) = answer.filter(|answer| answer.0 == now) {
                answers.retain(|other| *other != answer);
                sender.completed(answer.1, now);
            }
            while let Some(due) = sender.pop(now) {
                match due {
                    Due::Send { sequence, at, ready } => {
                        assert!(ready <= at && at <= now);
                        sent.push((sequence, ((at + milli / 2) / milli) as u64));
                        answers.push((FixedClock::after_nanos(at, service * MS), sequence));
                    }
                    Due::Mark => sent.push((u32::MAX, 0)),
                }
            }
        }
    }

    #[test]
    fn a_turn_is_sent_when_all_it_waits_for_is_answered_and_not_before_its_arrival() {
        let trace = trace(&[0, 0, 5, 200], &[(2, 0, 30), (2, 1, 0), (3, 0, 0)]);
        assert_eq!(sent(&trace, &Client::default(), 10), [(0, 0), (1, 0), (2, 40), (3, 200)]);
        let open = Client { sessions: SessionMode::Open, ..Client::default() };
        assert_eq!(sent(&trace, &open, 10), [(0, 0), (1, 0), (2, 5), (3, 200)]);
    }

    #[test]
    fn users_send_one_request_after_the_other() {
        let trace = trace(&[0, 0, 0, 0, 900], &[]);
        let client = Client { concurrency: Some(2), think_ns: 5 * MS, ..Client::default() };
        assert_eq!(sent(&trace, &client, 10), [(0, 0), (1, 0), (2, 15), (3, 15), (4, 30)]);
    }

    #[test]
    fn who_waits_for_an_answer_waits_for_its_way_too() {
        let trace = trace(&[0, 0, 0, 900], &[(1, 0, 7)]);
        let client = Client { answer_ns: 3 * MS, max_concurrency: Some(1), ..Client::default() };
        assert_eq!(sent(&trace, &client, 10), [(0, 0), (2, 13), (1, 26), (3, 900)]);
    }

    #[test]
    fn a_user_holds_a_whole_conversation() {
        // Request 2 follows request 0; request 3 is alone, but 7 ms after 1 in the same session would be another.
        let trace = trace(&[0, 4, 50, 60], &[(2, 0, 20)]);
        let client = Client { concurrency: Some(1), think_ns: 5 * MS, ..Client::default() };
        // 0 is answered at 10; 2 waits 20 ms and for its place 50 ms after 0; its answer at 60 frees the user.
        assert_eq!(sent(&trace, &client, 10), [(0, 0), (2, 50), (1, 65), (3, 80)]);
    }

    #[test]
    fn a_cap_holds_requests_back_in_order() {
        let trace = trace(&[0, 1, 2, 30], &[]);
        let client = Client { max_concurrency: Some(1), ..Client::default() };
        assert_eq!(sent(&trace, &client, 10), [(0, 0), (1, 10), (2, 20), (3, 30)]);
        let client = Client { max_concurrency: Some(2), ..Client::default() };
        assert_eq!(sent(&trace, &client, 10), [(0, 0), (1, 1), (2, 10), (3, 30)]);
    }

    #[test]
    fn marks_stand_between_the_requests_they_divide() {
        let mark = (u32::MAX, 0);
        let trace = trace(&[0, 1, 2, 30], &[]);
        let by_count = Client {
            warmup: Some(Extent::Requests(1)),
            measure: Some(Extent::Requests(2)),
            ..Client::default()
        };
        assert_eq!(sent(&trace, &by_count, 10), [(0, 0), mark, (1, 1), (2, 2), mark, (3, 30)]);
        let by_time = Client {
            warmup: Some(Extent::Nanos(2 * MS)),
            measure: Some(Extent::Nanos(100 * MS)),
            ..Client::default()
        };
        assert_eq!(sent(&trace, &by_time, 10), [(0, 0), (1, 1), mark, (2, 2), (3, 30), mark]);
    }
}
