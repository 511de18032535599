//! Laws of closed loops, caps and windows, on random workloads; and figures by hand.

#![allow(clippy::unwrap_used)] // a test that cannot be set up must fail

use proptest::prelude::*;
use roofline_sim::client::{Client, Extent, SessionMode};
use roofline_sim::engine::Monitor;
use roofline_sim::metrics::records::Requests;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::summary::{Summary, Value};
use roofline_sim::request::Workload;
use roofline_sim::run::{Simulation, simulate};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::scheduler::preset::{DeviceClass, preset};
use roofline_sim::scheduler::sequence::Status;
use roofline_sim::step_cost::LinearCost;
use roofline_sim::time::FixedClock;
use roofline_sim::trace::{Sessions, Trace};

const COST: LinearCost = LinearCost { a: 0.005, b: 2e-5, c: 2e-8 };
/// Two instants of the clock this close are one, written as f64 seconds.
const ROUNDING: f64 = 1e-9;

fn engine(data_parallel: u32) -> EngineConfig {
    EngineConfig {
        num_gpu_blocks: 101,
        max_num_seqs: 6,
        max_num_batched_tokens: 100,
        max_model_len: Some(300),
        data_parallel,
        ..preset("vllm", DeviceClass::Standard).unwrap()
    }
}

/// Requests as (ms since the one before, prompt, output, how far back its predecessor is, ms after it).
type Draw = (u64, u32, u32, usize, u64);

fn workload() -> impl Strategy<Value = Trace> {
    let request = (0u64..30, 1u32..310, 0u32..40, 0usize..5, 0u64..80);
    prop::collection::vec(request, 1..40).prop_map(|draws: Vec<Draw>| {
        let mut trace = Trace::default();
        let mut sessions = Sessions { offsets: vec![0], ..Sessions::default() };
        let mut now = 0;
        for (row, (wait, prompt, output, back, delay_ms)) in draws.into_iter().enumerate() {
            now += wait * 1_000_000;
            trace.arrival_ns.push(now);
            trace.prompt_tokens.push(prompt);
            trace.output_tokens.push(output);
            sessions.session.push(Sessions::NONE);
            if (1..=row).contains(&back) {
                sessions.after.push((row - back) as u32);
                sessions.delay_ns.push(delay_ms * 1_000_000);
            }
            sessions.offsets.push(sessions.after.len() as u64);
        }
        trace.sessions = Some(sessions);
        trace
    })
}

fn run(trace: &Trace, client: &Client, data_parallel: u32) -> Simulation {
    let workload = Workload::new(trace, None).unwrap();
    let monitor = Monitor::default();
    simulate::<FixedClock, _>(workload, client, &engine(data_parallel), &COST, Record::Summary, &monitor)
        .unwrap()
}

fn done(requests: &Requests, row: usize) -> f64 {
    // What is refused is answered at once.
    requests.finish_s[row].get().unwrap_or(requests.arrival_s[row])
}

/// Most requests in flight at once.
fn most_in_flight(requests: &Requests) -> usize {
    let in_flight = |now: f64| {
        (0..requests.len())
            .filter(|&row| requests.arrival_s[row] <= now && now + ROUNDING < done(requests, row))
            .count()
    };
    requests.arrival_s.iter().map(|&now| in_flight(now)).max().unwrap_or(0)
}

fn users(count: u32) -> Client {
    Client { concurrency: Some(count), sessions: SessionMode::Open, ..Client::default() }
}

fn capped(most: u32) -> Client {
    Client { max_concurrency: Some(most), ..Client::default() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_request_is_answered_or_refused_however_it_is_sent(
        trace in workload(), users in prop::option::of(1u32..9), most in prop::option::of(1u32..9), dp in 1u32..4,
    ) {
        let client = Client { concurrency: users, max_concurrency: most, ..Client::default() };
        let simulation = run(&trace, &client, dp);
        let requests = &simulation.requests;
        let summary = simulation.summary(None, &[]);
        let (finished, rejected) = (requests.count(Status::Finished), requests.count(Status::Rejected));
        prop_assert_eq!(summary.get("injected"), Some(Value::Count(trace.len() as u64)));
        prop_assert_eq!(finished + rejected, trace.len());
        for row in 0..trace.len() {
            let instants = [
                Some(requests.one(row).ready_s() - ROUNDING),
                Some(requests.arrival_s[row]),
                requests.first_scheduled_s[row].get(),
                requests.first_token_s[row].get(),
                requests.finish_s[row].get(),
            ];
            let known: Vec<f64> = instants.into_iter().flatten().collect();
            prop_assert!(known.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", known);
        }
    }

    #[test]
    fn a_turn_is_sent_when_what_it_waits_for_is_answered(trace in workload(), dp in 1u32..4) {
        let simulation = run(&trace, &Client::default(), dp);
        let (requests, sessions) = (&simulation.requests, trace.sessions.as_ref().unwrap());
        for row in 0..trace.len() {
            let own = trace.arrival_ns[row] as f64 / 1e9;
            let ready = sessions
                .waits_for(row)
                .map(|(before, delay_ns)| done(requests, before as usize) + delay_ns as f64 / 1e9)
                .fold(own, f64::max);
            prop_assert!((requests.arrival_s[row] - ready).abs() < ROUNDING);
            for (before, _) in sessions.waits_for(row) {
                prop_assert_eq!(requests.replica[row], requests.replica[before as usize]);
            }
        }
    }

    #[test]
    fn no_more_are_in_flight_than_users_or_the_cap_allow(trace in workload(), most in 1u32..8, dp in 1u32..3) {
        for client in [users(most), capped(most)] {
            prop_assert!(most_in_flight(&run(&trace, &client, dp).requests) <= most as usize);
        }
    }

    #[test]
    fn a_cap_or_users_enough_for_all_change_nothing(trace in workload()) {
        let free = run(&trace, &Client::default(), 1);
        let mut with_cap = run(&trace, &capped(1000), 1);
        with_cap.requests.held_s.clear();
        with_cap.client = free.client;
        prop_assert_eq!(free, with_cap);
        let at_once = Trace { arrival_ns: vec![0; trace.len()], sessions: None, ..trace.clone() };
        let free = run(&at_once, &Client::default(), 1);
        let with_users = Simulation { client: free.client, ..run(&trace, &users(1000), 1) };
        prop_assert_eq!(free, with_users);
    }

    #[test]
    fn one_user_sends_each_request_a_think_time_after_the_answer(trace in workload(), think_ms in 0u64..100) {
        let client = Client { think_ns: think_ms * 1_000_000, ..users(1) };
        let requests = run(&trace, &client, 1).requests;
        for row in 1..trace.len() {
            let ready = done(&requests, row - 1) + think_ms as f64 / 1e3;
            prop_assert!((requests.arrival_s[row] - ready).abs() < ROUNDING);
        }
    }

    #[test]
    fn replicas_are_independent_of_each_other(trace in workload(), most in prop::option::of(2u32..9)) {
        let open = Trace { sessions: None, ..trace };
        let both = run(&open, &Client { max_concurrency: most, ..Client::default() }, 2).requests;
        let share = |replica: u32| most.map(|most| most / 2 + u32::from(replica < most % 2));
        for replica in 0..2u32 {
            let rows: Vec<u32> = (replica..open.len() as u32).step_by(2).collect();
            if rows.is_empty() {
                continue;
            }
            let pick = |column: &[u32]| rows.iter().map(|&row| column[row as usize]).collect::<Vec<_>>();
            let part = Trace {
                arrival_ns: rows.iter().map(|&row| open.arrival_ns[row as usize]).collect(),
                prompt_tokens: pick(&open.prompt_tokens),
                output_tokens: pick(&open.output_tokens),
                ..Trace::default()
            };
            let client = Client { max_concurrency: share(replica), ..Client::default() };
            let alone = run(&part, &client, 1).requests;
            let finish_s: Vec<_> = rows.iter().map(|&row| both.finish_s[row as usize]).collect();
            prop_assert_eq!(&alone.finish_s, &finish_s);
        }
    }

    #[test]
    fn what_is_measured_and_what_is_not_add_up(
        trace in workload(), before in 1u64..20, count in 1u64..20, ms in 1u64..200, by_time: bool, dp in 1u32..3,
    ) {
        let extent = |count: u64| if by_time { Extent::Nanos(ms * count * 100_000) } else { Extent::Requests(count) };
        let client = Client { warmup: Some(extent(before)), measure: Some(extent(count)), ..Client::default() };
        let workload = Workload::new(&trace, None).unwrap();
        let (engine, monitor) = (engine(dp), Monitor::default());
        let run = |client: &Client| {
            simulate::<FixedClock, _>(workload, client, &engine, &COST, Record::Summary, &monitor)
        };
        let whole = run(&Client::default()).unwrap();
        match run(&client) {
            Err(error) => prop_assert!(error.to_string().starts_with("warmup must leave"), "{error}"),
            Ok(part) => {
                prop_assert_eq!(&part.requests, &whole.requests);
                prop_assert_eq!(part.totals.steps, whole.totals.steps);
                prop_assert_eq!(part.totals.calls, whole.totals.calls);
                prop_assert_eq!(part.gaps.count(), whole.gaps.count());
                let window = part.window.as_ref().unwrap();
                prop_assert!(window.epoch.totals.steps <= whole.totals.steps);
                prop_assert!(window.epoch.gaps.count() <= whole.gaps.count());
                let (from_s, to_s) = part.span_s();
                prop_assert!(from_s <= to_s);
            }
        }
    }
}

fn number(summary: &Summary, name: &str) -> f64 {
    match summary.get(name) {
        Some(Value::Number(number)) => number,
        other => panic!("{name} must be a number: {other:?}"),
    }
}

/// Requests that come every `every_ms`, each alone in the engine for 2 s: a prompt token and an answer of two.
fn regular(requests: u64, every_ms: u64) -> Trace {
    Trace {
        arrival_ns: (0..requests).map(|row| row * every_ms * 1_000_000).collect(),
        prompt_tokens: vec![1; requests as usize],
        output_tokens: vec![2; requests as usize],
        ..Trace::default()
    }
}

fn measured(trace: &Trace, client: &Client) -> Simulation {
    let config = EngineConfig { num_gpu_blocks: 100, ..preset("vllm-sync", DeviceClass::Standard).unwrap() };
    let second = LinearCost { a: 1.0, b: 0.0, c: 0.0 };
    let workload = Workload::new(trace, None).unwrap();
    simulate::<FixedClock, _>(workload, client, &config, &second, Record::Summary, &Monitor::default())
        .unwrap()
}

#[test]
fn rates_count_what_was_answered_in_the_time_measured() {
    let trace = regular(10, 4000);
    let client =
        Client { warmup: Some(Extent::Requests(2)), measure: Some(Extent::Requests(5)), ..Client::default() };
    let simulation = measured(&trace, &client);
    let summary = simulation.summary(None, &[50.0]);
    // From the arrival of request 2, at 8 s, to that of request 7, at 28 s.
    assert_eq!(simulation.span_s(), (8.0, 28.0));
    assert_eq!(summary.get("injected"), Some(Value::Count(5)));
    assert_eq!(summary.get("steps"), Some(Value::Count(10)));
    assert_eq!(number(&summary, "duration"), 20.0);
    assert_eq!(number(&summary, "request_throughput"), 0.25);
    assert_eq!(number(&summary, "output_throughput"), 0.5);
    assert_eq!(number(&summary, "decode_time_share"), 0.25);
    assert_eq!(number(&summary, "idle_time_share"), 0.5);
    assert_eq!(number(&summary, "median_itl_ms"), 1000.0);
    let by_time = Client {
        warmup: Some(Extent::Nanos(8_000_000_000)),
        measure: Some(Extent::Nanos(20_000_000_000)),
        ..Client::default()
    };
    assert_eq!(measured(&trace, &by_time).summary(None, &[50.0]), summary);
    assert_eq!(simulation.notes(), ["measured: 5 of 10 requests, sent from 8.000 s on; rates over 20.000 s"]);
}

#[test]
fn without_an_end_the_measurement_goes_on_to_the_last_token() {
    let client = Client { warmup: Some(Extent::Nanos(1_000_000_000)), ..Client::default() };
    let simulation = measured(&regular(3, 4000), &client);
    assert_eq!(simulation.span_s(), (1.0, 10.0));
    assert_eq!(simulation.window.as_ref().unwrap().rows, [1, 2]);
}

#[test]
fn a_warm_up_longer_than_the_traffic_is_an_error() {
    let trace = regular(3, 1000);
    let client = Client { warmup: Some(Extent::Nanos(3_600_000_000_000)), ..Client::default() };
    let error = simulate::<FixedClock, _>(
        Workload::new(&trace, None).unwrap(),
        &client,
        &engine(1),
        &COST,
        Record::Summary,
        &Monitor::default(),
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "warmup must leave requests to be measured: none sent after it");
    assert!(error.hint().contains("ends earlier"));
}

#[test]
fn latencies_count_from_sending_and_the_queue_at_the_client_is_told_apart() {
    // Four at once, one in flight: each is answered 2 s after the one before.
    let simulation = measured(&regular(4, 0), &capped(1));
    let requests = &simulation.requests;
    assert_eq!(requests.held_s, [0.0, 2.0, 4.0, 6.0]);
    assert_eq!(requests.arrival_s, [0.0, 2.0, 4.0, 6.0]);
    assert!((0..4).all(|row| requests.ttft_s(row) == Some(1.0)));
    assert_eq!(requests.one(3).ready_s(), 0.0);
}

#[test]
fn replicas_without_a_user_get_nothing() {
    let trace = regular(6, 0);
    let simulation = run(&trace, &users(2), 3);
    assert_eq!(simulation.requests.replica, [0, 1, 0, 1, 0, 1]);
    let notes = users(2).notes(&trace, 3);
    assert!(notes.iter().any(|note| note.starts_with("only 2 of 3 replicas")), "{notes:?}");
}
