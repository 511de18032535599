//! Laws of generated traffic: it has the rate and the variation asked for, its purposes share no draws, and copies of a
//! trace add up.

use std::sync::atomic::{AtomicBool, AtomicU64};

use proptest::prelude::*;
use roofline_sim::error::Error;
use roofline_sim::trace::{BlockHashes, Sessions, Trace, inspect};
use roofline_sim::workload::{Parts, Requests, Spec, fit, generate};

fn spec(words: &[(&str, &str)]) -> Spec {
    Spec::parse(words, None).expect("these words fit together")
}

fn traffic(words: &[(&str, &str)]) -> Trace {
    collected(&spec(words))
}

fn collected(spec: &Spec) -> Trace {
    generate(spec, &AtomicU64::new(0), &AtomicBool::new(false)).expect("this traffic has requests")
}

fn gaps(trace: &Trace) -> Vec<f64> {
    trace.arrival_ns.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e9).collect()
}

/// Mean and coefficient of variation.
fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt() / mean)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The mean of n gaps has a standard error of CV/√n of itself; five of them are never exceeded here.
    #[test]
    fn rate_and_variation_converge_to_what_was_asked(
        seed in any::<u64>(), rate in 0.01f64..1000.0, cv in 0.1f64..3.0, weibull in any::<bool>(),
    ) {
        let count = 20_000;
        let (rate, cv) = (rate.to_string(), cv.to_string());
        let trace = traffic(&[
            ("num_prompts", &count.to_string()), ("seed", &seed.to_string()), ("request_rate", &rate), ("cv", &cv),
            ("arrivals", if weibull { "weibull" } else { "gamma" }),
        ]);
        let (mean, found) = moments(&gaps(&trace));
        let (rate, cv): (f64, f64) = (rate.parse().unwrap(), cv.parse().unwrap());
        prop_assert!((mean * rate - 1.0).abs() < 5.0 * cv / f64::sqrt(f64::from(count)), "mean gap {mean} at {rate}");
        // The CV's own error depends on the fourth moment: heavy at CV 3.
        prop_assert!((found / cv - 1.0).abs() < 0.02 + 0.05 * cv, "CV {found} for {cv}");
    }

    #[test]
    fn lengths_leave_arrivals_and_the_other_lengths_as_they_are(
        seed in any::<u64>(), input in "[1-9][0-9]{0,3}", groups in 1u32..20,
    ) {
        let seed = seed.to_string();
        let base = [("num_prompts", "200"), ("request_rate", "3"), ("output_len", "1:500"), ("seed", seed.as_str())];
        let with = |more: &[(&str, &str)]| traffic(&[&base[..], more].concat());
        let plain = with(&[("input_len", "1:100")]);
        let range = with(&[("input_len", &format!("lognormal({input},50)"))]);
        prop_assert_eq!(&plain.arrival_ns, &range.arrival_ns);
        prop_assert_eq!(&plain.output_tokens, &range.output_tokens);
        let shared = with(&[("input_len", "1:100"), ("prefix_len", "64"), ("prefix_groups", &groups.to_string())]);
        prop_assert_eq!(&plain.arrival_ns, &shared.arrival_ns);
        let longer: Vec<u32> = plain.prompt_tokens.iter().map(|tokens| tokens + 64).collect();
        prop_assert_eq!(&longer, &shared.prompt_tokens);
    }

    #[test]
    fn who_asks_and_with_which_adapter_changes_nothing_else(seed in any::<u64>(), loras in 1u32..9, tenants in 1u32..9) {
        let seed = seed.to_string();
        let base = [("num_prompts", "100"), ("request_rate", "3"), ("input_len", "1:5000"), ("seed", seed.as_str())];
        let with = |more: &[(&str, &str)]| traffic(&[&base[..], more].concat());
        let (loras, tenants) = (loras.to_string(), tenants.to_string());
        let mut named = with(&[("loras", &loras), ("lora_dist", "zipf:1.5"), ("tenants", &tenants)]);
        let lora = named.carried.lora.take().unwrap();
        prop_assert_eq!(lora.names.len().to_string(), loras);
        prop_assert!(lora.of.iter().all(|name| (*name as usize) < lora.names.len()));
        prop_assert_eq!(named.carried.tenant.take().unwrap().names.len().to_string(), tenants);
        prop_assert_eq!(named, with(&[]));
    }

    #[test]
    fn parts_are_the_whole_in_pieces(seed in any::<u64>(), prefixes in any::<bool>()) {
        let seed = seed.to_string();
        let mut words = vec![("num_prompts", "70000"), ("request_rate", "9"), ("output_len", "1:9"), ("seed", seed.as_str())];
        if prefixes {
            words.extend([("prefix_len", "40"), ("prefix_groups", "5")]);
        }
        let (spec, done, cancel) = (spec(&words), AtomicU64::new(0), AtomicBool::new(false));
        let mut parts = Parts::new(&spec, &done, &cancel).unwrap().map(|part| part.unwrap());
        let (mut joined, rest) = (parts.next().unwrap(), parts.collect::<Vec<_>>());
        prop_assert_eq!(rest.len(), 1);
        for part in &rest {
            joined.arrival_ns.extend(&part.arrival_ns);
            joined.prompt_tokens.extend(&part.prompt_tokens);
            joined.output_tokens.extend(&part.output_tokens);
            if let (Some(all), Some(more)) = (&mut joined.hashes, &part.hashes) {
                let before = all.ids.len() as u64;
                all.ids.extend(&more.ids);
                all.offsets.extend(more.offsets[1..].iter().map(|offset| offset + before));
            }
        }
        prop_assert_eq!(joined, collected(&spec));
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
        prop_assert!(matches!(Parts::new(&spec, &done, &cancel).unwrap().next(), Some(Err(Error::Interrupted))));
    }

    #[test]
    fn each_turn_repeats_what_was_said_and_waits_for_the_answer(seed in any::<u64>(), rate in 0.1f64..50.0, prefix in 0u32..40) {
        let (seed, rate, prefix) = (seed.to_string(), rate.to_string(), prefix.to_string());
        let trace = traffic(&[("sessions", "20"), ("turns", "1:5"), ("turn_delay", "0:3000"), ("request_rate", &rate),
            ("input_len", "1:60"), ("output_len", "1:30"), ("seed", &seed), ("prefix_len", &prefix), ("prefix_groups", "3")]);
        let (sessions, hashes) = (trace.sessions.as_ref().unwrap(), trace.hashes.as_ref().unwrap());
        prop_assert_eq!(sessions.count, 20);
        prop_assert!(trace.arrival_ns.windows(2).all(|pair| pair[0] <= pair[1]));
        for row in 0..trace.len() {
            prop_assert_eq!(hashes.path(row).len() as u32, trace.prompt_tokens[row] / 16);
            for (before, delay_ns) in sessions.waits_for(row) {
                let before = before as usize;
                prop_assert_eq!(sessions.session[before], sessions.session[row]);
                prop_assert_eq!(trace.arrival_ns[before] + delay_ns, trace.arrival_ns[row]);
                let said = trace.prompt_tokens[before] + trace.output_tokens[before];
                prop_assert!(trace.prompt_tokens[row] > said);
                prop_assert!(hashes.path(row).starts_with(hashes.path(before)));
            }
        }
        let few = traffic(&[("num_prompts", "7"), ("turns", "4"), ("request_rate", &rate), ("seed", &seed)]);
        prop_assert_eq!(few.len(), 7);
    }

    #[test]
    fn arrivals_leave_lengths_as_they_are(seed in any::<u64>(), rate in 0.1f64..100.0) {
        let seed = seed.to_string();
        let base = [("num_prompts", "100"), ("input_len", "1:5000"), ("output_len", "exponential(90)"), ("seed", seed.as_str())];
        let with = |more: &[(&str, &str)]| traffic(&[&base[..], more].concat());
        let (one, other) = (with(&[("request_rate", &rate.to_string())]), with(&[("stages", "1:10,5:3"), ("arrivals", "mmpp")]));
        prop_assert_eq!(one.prompt_tokens, other.prompt_tokens);
        prop_assert_eq!(one.output_tokens, other.output_tokens);
    }

    #[test]
    fn as_many_are_generated_as_asked_and_more_begin_with_fewer(seed in any::<u64>(), count in 1usize..300) {
        let with = |count: usize| traffic(&[
            ("num_prompts", &count.to_string()), ("request_rate", "2"), ("burstiness", "0.3"), ("seed", &seed.to_string()),
            ("input_len", "exponential(200)"), ("shared_prefix_ratio", "0.5"), ("prefix_groups", "3"),
        ]);
        let (short, long) = (with(count), with(count + 50));
        prop_assert_eq!(short.len(), count);
        prop_assert_eq!(&long.limit(count), &short);
        prop_assert_eq!(&short, &with(count));
    }

    #[test]
    fn bounds_are_kept(seed in any::<u64>(), min in 1u32..500, width in 0u32..500) {
        let (max, seed) = (min + width, seed.to_string());
        let shapes = ["normal(300,300", "lognormal(300,600", "exponential(300", "skew-normal(300,200,4", "pareto-lognormal(300,300,0.2,400,1"];
        for shape in shapes {
            let text = format!("{shape},min={min},max={max})");
            let trace = traffic(&[("num_prompts", "300"), ("input_len", &text), ("output_len", &text), ("seed", &seed)]);
            let lengths = trace.prompt_tokens.iter().chain(&trace.output_tokens);
            prop_assert!(lengths.into_iter().all(|tokens| (min..=max).contains(tokens)), "{text}");
        }
    }

    #[test]
    fn copies_multiply_the_rate_and_keep_their_prefixes_apart(trace in traces(), copies in 1u32..6, seed in any::<u64>()) {
        let grown = trace.upsample(copies, seed).unwrap();
        let times = copies as usize;
        prop_assert_eq!(grown.len(), trace.len() * times);
        prop_assert!(grown.arrival_ns.is_sorted());
        let (span, grown_span) = (span(&trace), span(&grown));
        prop_assert!(grown_span as f64 <= span as f64 * 1.01 + 1.0 && grown_span >= span);
        let total = |column: &[u32]| column.iter().map(|tokens| u64::from(*tokens)).sum::<u64>();
        prop_assert_eq!(total(&grown.prompt_tokens), total(&trace.prompt_tokens) * u64::from(copies));
        // A prefix cache finds in every copy what it found in the one, and nothing across them.
        let hit = |trace: &Trace| inspect(trace, &[]).prefix_hit.unwrap();
        prop_assert!((hit(&grown) - hit(&trace)).abs() < 1e-9, "{} {}", hit(&grown), hit(&trace));
        let (old, new) = (trace.sessions.as_ref().unwrap(), grown.sessions.as_ref().unwrap());
        prop_assert_eq!(new.waiting(), old.waiting() * times);
        for row in 0..grown.len() {
            for (after, _) in new.waits_for(row) {
                prop_assert_eq!(new.session[row], new.session[after as usize]);
            }
        }
    }

    #[test]
    fn a_sample_keeps_sessions_whole(trace in traces(), seed in any::<u64>()) {
        let Ok(part) = trace.sample(0.5, seed) else { return Ok(()) };
        let (whole, kept) = (trace.sessions.as_ref().unwrap(), part.sessions.as_ref().unwrap());
        for session in &kept.session {
            let count = |sessions: &Sessions| sessions.session.iter().filter(|other| *other == session).count();
            prop_assert_eq!(count(whole), count(kept));
        }
    }
}

/// A trace from 0 with hashes and sessions, in which a request may wait for an earlier one of its session.
fn traces() -> impl Strategy<Value = Trace> {
    let row = (0u64..5_000_000_000, 1u32..20_000, 0u32..5_000, any::<i32>(), 0u32..4, 0u32..3, 0u32..3);
    prop::collection::vec(row, 1..40).prop_map(|rows| {
        let mut trace = Trace::default();
        let mut hashes = BlockHashes { block_size: 16, offsets: vec![0], ids: vec![] };
        let mut sessions = Sessions { count: 4, offsets: vec![0], ..Sessions::default() };
        let (mut now, mut known, mut of_group) = (0, 0, vec![Vec::new(); 3]);
        for (row, (gap, prompt, output, priority, session, group, blocks)) in rows.into_iter().enumerate() {
            now += if row == 0 { 0 } else { gap };
            trace.arrival_ns.push(now);
            trace.prompt_tokens.push(prompt);
            trace.output_tokens.push(output);
            trace.priority.push(priority);
            let group: &mut Vec<u32> = &mut of_group[group as usize];
            let blocks = blocks.min(prompt / 16) as usize;
            while group.len() < blocks {
                group.push(known);
                known += 1;
            }
            hashes.ids.extend(&group[..blocks]);
            hashes.offsets.push(hashes.ids.len() as u64);
            let last = sessions.session.iter().rposition(|other| *other == session);
            sessions.session.push(session);
            sessions.after.extend(last.map(|last| last as u32));
            sessions.delay_ns.extend(last.map(|last| now - trace.arrival_ns[last]));
            sessions.offsets.push(sessions.after.len() as u64);
        }
        Trace { hashes: Some(hashes), sessions: Some(sessions), ..trace }
    })
}

fn span(trace: &Trace) -> u64 {
    trace.arrival_ns[trace.len() - 1] - trace.arrival_ns[0]
}

#[test]
fn requests_stream_without_being_collected() {
    let spec =
        spec(&[("num_prompts", "1000000000"), ("request_rate", "1e5"), ("shared_prefix_ratio", "0.5")]);
    let last = Requests::new(&spec).nth(100_000).expect("there are a thousand million");
    assert!(last.arrival_ns > 900_000_000 && last.prefix_tokens == 512);
}

#[test]
fn an_infinite_rate_sends_everything_at_once() {
    assert_eq!(traffic(&[("num_prompts", "3"), ("request_rate", "inf")]).arrival_ns, [0, 0, 0]);
}

#[test]
fn stages_bring_as_many_as_they_say() {
    let trace = traffic(&[("stages", "100:60,300:60"), ("arrivals", "constant")]);
    // A rounding may put the last one on either side of the end.
    assert!(trace.len().abs_diff(24_000) <= 1, "{}", trace.len());
    let half = trace.arrival_ns.partition_point(|arrival| *arrival < 60_000_000_000);
    assert!(half.abs_diff(6_000) <= 1, "{half}");
}

#[test]
fn prefixes_of_a_group_are_found_by_a_cache() {
    let words = [("num_prompts", "1000"), ("input_len", "64"), ("prefix_len", "64"), ("prefix_groups", "10")];
    let hit = inspect(&traffic(&words), &[]).prefix_hit.expect("it has hashes");
    assert!((hit - 0.5 * 0.99).abs() < 1e-9, "all but the first ten find half of their prompt: {hit}");
}

#[test]
fn a_fit_draws_what_it_was_fitted_to() {
    let like = traffic(&[
        ("num_prompts", "20000"),
        ("stages", "5:500,20:500"),
        ("cv", "2"),
        ("input_len", "lognormal(500,400)"),
    ]);
    let spec = Spec::parse(&[("seed", "9")], Some(&like)).unwrap();
    let again = collected(&spec);
    assert_eq!(again.len(), like.len());
    let (one, other) = (inspect(&like, &[]), inspect(&again, &[]));
    let close = |a: f64, b: f64, share: f64| assert!((a / b - 1.0).abs() < share, "{a} {b}");
    close(one.rate.unwrap(), other.rate.unwrap(), 0.05);
    close(one.prompt_tokens.mean, other.prompt_tokens.mean, 0.03);
    close(one.prompt_tokens.p95, other.prompt_tokens.p95, 0.05);
    close(one.gap_cv.unwrap(), other.gap_cv.unwrap(), 0.15);
    close(fit(&like).unwrap().cv, 2.0, 0.15);
}

#[test]
fn a_rate_asked_for_is_reached_by_stretching_time() {
    let trace = traffic(&[("num_prompts", "500"), ("request_rate", "4")]);
    let faster = trace.clone().at_rate(40.0).unwrap();
    assert!((inspect(&faster, &[]).rate.unwrap() - 40.0).abs() < 1e-6);
    let refused = |trace: Trace, rate: f64| trace.at_rate(rate).unwrap_err().to_string();
    assert_eq!(refused(trace.clone(), 0.0), "target_rps must be positive: 0");
    assert_eq!(
        refused(trace.limit(1), 2.0),
        "target_rps must be left out where all requests arrive at once: 2"
    );
}

#[test]
fn copies_and_samples_must_leave_something() {
    let trace = traffic(&[("num_prompts", "5")]);
    let must = "upsample must be at least 1, and keep fewer than 4,294,967,295 requests and hash ids";
    assert_eq!(trace.upsample(0, 0).unwrap_err().to_string(), format!("{must}: 0"));
    assert_eq!(trace.upsample(u32::MAX, 0).unwrap_err().to_string(), format!("{must}: 4294967295"));
    assert_eq!(trace.sample(0.0, 0).unwrap_err().to_string(), "sample must be above 0, at most 1: 0");
    assert_eq!(
        trace.sample(1e-9, 0).unwrap_err().to_string(),
        "sample must keep requests: of 5 it keeps none: 0.000000001"
    );
}

#[test]
fn copies_are_named_apart() {
    let trace = Trace { ids: vec!["a".into()], ..traffic(&[("num_prompts", "1")]) };
    assert_eq!(trace.upsample(3, 0).unwrap().ids, ["a", "a~1", "a~2"]);
}

#[test]
fn traffic_that_never_comes_is_refused_and_a_long_one_can_be_stopped() {
    let done = AtomicU64::new(0);
    let late = spec(&[("num_prompts", "3"), ("request_rate", "1e-12")]);
    assert_eq!(
        generate(&late, &done, &AtomicBool::new(false)).unwrap_err().to_string(),
        "request_rate must bring every request within 292 years, at least one before its end: 1 requests"
    );
    let stopped = generate(&spec(&[("num_prompts", "3")]), &done, &AtomicBool::new(true));
    assert_eq!(stopped.unwrap_err(), Error::Interrupted);
}

#[test]
fn words_that_do_not_go_together_are_refused() {
    let refused = |words: &[(&str, &str)]| Spec::parse(words, None).unwrap_err().to_string();
    let must = |words: &[(&str, &str)], message: &str| assert_eq!(refused(words), message);
    must(&[("num_prompts", "9"), ("sessions", "3")], "sessions must be left out without turns: 3");
    must(
        &[("num_prompts", "9"), ("lora_dist", "uniform")],
        "lora_dist must be left out without loras: uniform",
    );
    must(
        &[("num_prompts", "9"), ("input_len", "1:9"), ("input_len_stddev", "3")],
        "input_len_stddev must be given with a number: a distribution",
    );
    must(
        &[("num_prompts", "9"), ("random_range_ratio", "0.5"), ("input_len_stddev", "3")],
        "input_len_stddev must be left out with random_range_ratio: 3",
    );
    must(&[("servegen", "x"), ("input_len", "3")], "input_len must be left out with servegen: 3");
    must(&[("servegen_from", "3")], "servegen_from must be left out without servegen: 3");
    let words = [("sessions", "3"), ("turns", "2"), ("request_rate", "1")];
    let (spec, done, cancel) = (spec(&words), AtomicU64::new(0), AtomicBool::new(false));
    let error = Parts::new(&spec, &done, &cancel).unwrap_err().to_string();
    assert_eq!(error, "turns must be left out of traffic in parts: given");
    assert_eq!(self::spec(&[("num_prompts", "1e9"), ("request_rate", "1")]).count, Some(1_000_000_000));
}
