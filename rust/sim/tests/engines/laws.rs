//! Laws of every engine, on random workloads.

use super::moves::conserved;
use super::streamed::streamed_is_whole;
use super::{COST, drafts, serve, trace};
use proptest::prelude::*;
use roofline_core::groups::{Apart, Groups, Window};
use roofline_sim::client::{Client, Sender, Units};
use roofline_sim::engine::{Monitor, Replica};
use roofline_sim::lockstep::{self, Member};
use roofline_sim::metrics::requests::Requests;
use roofline_sim::metrics::sink::Sink;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::{Rows, Segments, Workload};
use roofline_sim::run::{Pace, Simulation};
use roofline_sim::scheduler::config::{EngineConfig, Policy};
use roofline_sim::scheduler::preset::{DeviceClass, ENGINES, preset};
use roofline_sim::scheduler::rules::{Capacity, Rules, Sglang};
use roofline_sim::scheduler::sequence::Status;
use roofline_sim::scheduler::swap::Swap;
use roofline_sim::time::FixedClock;
use roofline_sim::trace::Trace;

/// Requests as drawn: milliseconds since the one before, segments of its prompt, output.
type Draw = (u64, Vec<(u32, u32)>, u32);

fn workload() -> impl Strategy<Value = (Trace, Segments)> {
    let request = (0u64..4000, prop::collection::vec((0u32..6, 1u32..30), 1..4), 0u32..25);
    prop::collection::vec(request, 1..30).prop_map(|draws: Vec<Draw>| {
        let mut now = 0;
        let mut rows = Vec::new();
        let mut segments = Segments { offsets: vec![0], ..Segments::default() };
        for (row, (wait, pieces, output)) in draws.into_iter().enumerate() {
            now += wait;
            rows.push((now, pieces.iter().map(|piece| piece.1).sum(), output));
            segments.ids.extend(pieces.iter().map(|piece| piece.0));
            segments.lengths.extend(pieces.iter().map(|piece| piece.1));
            segments.offsets.push(segments.ids.len() as u64);
            segments.output.push(row as u32 % 8);
        }
        (trace(&rows), segments)
    })
}

/// Mostly none: layers with windows, states, or in several groups beside the main one.
fn groups() -> impl Strategy<Value = Groups> {
    let window = (0u32..3, 1u32..40, 1u32..9);
    let drawn = (0u32..2, window, 0u32..3, 0u32..30).prop_map(
        |(full, (groups, tokens, block_size), states, main)| {
            let window = Window { groups, tokens, block_size };
            let windows = [window, Window::default(), Window::default()];
            let main_window = if full + states == 0 { main } else { 0 };
            Groups { full, windows, states, main_window, ..Groups::default() }
        },
    );
    prop_oneof![2 => Just(Groups::default()), 1 => drawn]
}

/// The windows of `groups` in memory apart, that holds the longest request of [`any_engine`] and `more` blocks.
fn apart(groups: Groups, keeps_steps: bool, more: u32) -> Groups {
    let window = groups.windows[0];
    let mut apart = [Apart::default(); 3];
    if window.groups > 0 {
        apart[0] = Apart { window, blocks: window.groups * (90 + more), keeps_steps };
    }
    Groups { apart, states_apart: groups.states > 0 && keeps_steps, ..Groups::default() }
}

fn any_engine() -> impl Strategy<Value = EngineConfig> {
    let sizes = (1u32..12, 0u32..60, 1u32..9, 20u32..90, 0u32..30);
    let switches = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let extra = prop_oneof![
        3 => Just((None, 1)),
        1 => (2u32..4).prop_map(|stages| (None, stages)),
        1 => (1u32..4).prop_map(|tokens| (Some(drafts(tokens)), 1)),
    ];
    (0..ENGINES.len() + 2, sizes, switches, extra, 0.0..2.0f64, groups()).prop_map(
        |(
            kind,
            sizes,
            (chunked, caching, overlap, other),
            (speculation, stages),
            conservativeness,
            groups,
        )| {
            let (max_num_seqs, more, block_size, max_model_len, more_blocks) = sizes;
            let name = ENGINES.get(kind).copied().unwrap_or(["sglang", "trtllm"][kind % 2]);
            let base = preset(name, DeviceClass::Standard).unwrap();
            let known = base.rules.settings();
            let chunked =
                if known.contains(&"enable_chunked_prefill") { chunked } else { base.enable_chunked_prefill };
            let rules = match base.rules {
                Rules::Sglang(_) => Rules::Sglang(Sglang {
                    max_prefill_tokens: 20 + more,
                    schedule_conservativeness: conservativeness,
                    enable_mixed_chunk: other,
                }),
                Rules::Trtllm(_) if other => Rules::Trtllm(Capacity::MaxUtilization),
                rules => rules,
            };
            let tokens = max_num_seqs.max(9) * 4 + more;
            let whole = !chunked && !matches!(rules, Rules::Trtllm(_));
            let tokens = tokens.max(block_size);
            let largest = if whole { tokens.max(max_model_len) } else { tokens };
            let groups = match rules {
                Rules::Vllm => groups,
                Rules::Sglang(_) | Rules::Trtllm(_) => apart(groups, matches!(rules, Rules::Sglang(_)), more),
                _ => Groups::default(),
            };
            // The host has room for whatever the device holds, and more.
            let swaps = other && rules == Rules::VllmV0;
            let swap = swaps.then_some(Swap { blocks: u32::MAX, block_s: 0.25 });
            let lpm = other && matches!(rules, Rules::Sglang(_));
            EngineConfig {
                rules,
                max_num_seqs,
                max_num_batched_tokens: largest,
                max_model_len: Some(max_model_len),
                block_size,
                num_gpu_blocks: groups.blocks_for(max_model_len, block_size, largest) + 1 + more_blocks,
                groups,
                enable_chunked_prefill: chunked,
                enable_prefix_caching: caching && known.contains(&"enable_prefix_caching"),
                async_scheduling: overlap && known.contains(&"async_scheduling"),
                scheduling_policy: if lpm { Policy::LongestPrefix } else { Policy::Fcfs },
                speculation: speculation.filter(|_| known.contains(&"spec_method")),
                pipeline_parallel: if swap.is_some() { 1 } else { stages },
                swap,
                ..base
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn blocks_and_requests_are_conserved_at_every_move((trace, segments) in workload(), config in any_engine()) {
        prop_assert_eq!(conserved(&trace, &segments, &config, &COST), Ok(()));
    }

    #[test]
    fn tokens_that_are_sent_together_have_their_gaps_together(
        (trace, segments) in workload(), config in any_engine(), together in 1u32..6,
    ) {
        let config = EngineConfig { speculation: None, ..config };
        let alone = serve(&trace, Some(&segments), &config);
        let served = serve(&trace, Some(&segments), &EngineConfig { stream_interval: together, ..config });
        prop_assert_eq!(&served.requests, &alone.requests);
        prop_assert_eq!(&served.totals, &alone.totals);
        // The first at once, then so many together, and what is left at the end.
        let later = served.requests.output_tokens.iter().map(|&tokens| u64::from(tokens.saturating_sub(1)));
        prop_assert_eq!(served.gaps.count(), later.map(|later| later.div_ceil(u64::from(together))).sum::<u64>());
        let waited = |served: &Simulation| served.gaps.count() as f64 * served.gaps.distribution().mean().unwrap_or(0.0);
        prop_assert!((waited(&served) - waited(&alone)).abs() <= 1e-9 * waited(&alone).max(1.0));
    }

    #[test]
    fn every_engine_answers_or_rejects_and_keeps_to_its_limits(
        (trace, segments) in workload(), config in any_engine(),
    ) {
        let served = serve(&trace, Some(&segments), &config);
        let (requests, steps) = (&served.requests, &served.steps);
        let refuses = matches!(config.rules, Rules::Trtllm(_)) && !config.enable_chunked_prefill;
        for row in 0..trace.len() {
            let prompt = trace.prompt_tokens[row];
            let refused =
                prompt >= config.model_len() || (refuses && prompt > config.max_num_batched_tokens);
            prop_assert_eq!(requests.status[row], if refused { Status::Rejected } else { Status::Finished });
            if refused {
                continue;
            }
            prop_assert_eq!(requests.output_tokens[row], trace.output_tokens[row].min(config.model_len() - prompt));
            prop_assert!(requests.cached_tokens[row] < prompt);
            let instants = [requests.arrival_s[row], requests.first_scheduled_s[row].get().unwrap(),
                requests.first_token_s[row].get().unwrap(), requests.finish_s[row].get().unwrap()];
            prop_assert!(instants.windows(2).all(|pair| pair[0] <= pair[1]), "{:?}", instants);
        }
        let decisions = steps.decisions.as_ref().unwrap();
        for row in 0..steps.len() {
            let counted =
                if config.rules.counts_answers() { steps.scheduled_tokens[row] } else { steps.prefill_tokens[row] };
            if config.enable_chunked_prefill || config.rules.counts_answers() {
                prop_assert!(counted <= config.max_num_batched_tokens, "{} tokens", counted);
            }
            let mut members: Vec<u32> = decisions.request.row(row).to_vec();
            prop_assert!(members.len() <= config.max_num_seqs as usize);
            members.sort_unstable();
            members.dedup();
            prop_assert_eq!(members.len(), decisions.request.row(row).len());
            prop_assert!(steps.start_s[row] <= steps.end_s[row]);
            prop_assert!(row == 0 || steps.scheduled_s[row - 1] <= steps.scheduled_s[row]);
        }
        prop_assert_eq!(&serve(&trace, Some(&segments), &config), &served);
    }

    #[test]
    fn engines_that_reserve_answers_compute_each_token_once_and_preempt_nobody(
        (trace, segments) in workload(), config in any_engine(),
    ) {
        let no_evict = Rules::Trtllm(Capacity::GuaranteedNoEvict);
        if ![Rules::Orca, Rules::Static, no_evict].contains(&config.rules) {
            return Ok(());
        }
        let config = EngineConfig { enable_prefix_caching: false, speculation: None, ..config };
        let served = serve(&trace, Some(&segments), &config);
        prop_assert_eq!(served.totals.preemptions, 0);
        let computed: u64 = (0..trace.len())
            .filter(|&row| served.requests.status[row] == Status::Finished)
            .map(|row| {
                let room = config.model_len() - trace.prompt_tokens[row];
                u64::from(trace.prompt_tokens[row] + trace.output_tokens[row].clamp(1, room) - 1)
            })
            .sum();
        let (scheduled, idle) = (served.totals.scheduled_tokens, config.rules == Rules::Static);
        let as_expected = if idle { scheduled >= computed } else { scheduled == computed };
        prop_assert!(as_expected, "{scheduled} of {computed}");
    }

    #[test]
    fn who_computes_prompts_first_never_mixes((trace, segments) in workload(), config in any_engine()) {
        let pure = match config.rules {
            Rules::VllmV0 => !config.enable_chunked_prefill,
            Rules::Sglang(settings) => !settings.enable_mixed_chunk,
            Rules::Static => true,
            _ => false,
        };
        if !pure {
            return Ok(());
        }
        let served = serve(&trace, Some(&segments), &config);
        for (prefill, all) in served.steps.prefill_tokens.iter().zip(&served.steps.scheduled_tokens) {
            prop_assert!(*prefill == 0 || prefill == all, "{} of {}", prefill, all);
        }
    }

    #[test]
    fn a_static_batch_returns_as_one((trace, segments) in workload(), config in any_engine()) {
        let config = EngineConfig { groups: Groups::default(), rules: Rules::Static, enable_prefix_caching: false, speculation: None,
            async_scheduling: false, enable_chunked_prefill: false, scheduling_policy: Policy::Fcfs,
            max_num_batched_tokens: config.max_num_batched_tokens.max(config.model_len()),
            num_gpu_blocks: config.num_gpu_blocks.max(config.model_len().div_ceil(config.block_size) + 1), ..config };
        let served = serve(&trace, Some(&segments), &config);
        let steps = &served.steps;
        let decisions = steps.decisions.as_ref().unwrap();
        for row in 0..steps.len() {
            let admitted = decisions.admitted.row(row);
            let finish = |request: &u32| served.requests.finish_s[*request as usize];
            prop_assert!(admitted.windows(2).all(|pair| finish(&pair[0]) == finish(&pair[1])));
            prop_assert!(admitted.is_empty() || admitted.len() == steps.running[row] as usize);
        }
    }

    #[test]
    fn a_replica_in_step_with_nobody_runs_as_it_does_alone((trace, segments) in workload(), config in any_engine()) {
        let workload = Workload::new(&trace, Some(&segments)).unwrap();
        let (monitor, units, rows) = (Monitor::default(), Units::of(&trace), Rows::ALL);
        let sender = || Sender::<FixedClock>::new(&Client::default(), workload, &units, rows, (0, 1));
        let told = || Sink::Rows(Requests::expected(&trace, false));
        let how = (Record::Decisions, told());
        let alone = Replica::new(&config, workload, rows, sender(), 0, &COST, how, &monitor)
            .unwrap().run().unwrap();
        let ranks = vec![Member { workload, rows, client: sender(), told: told() }];
        let together = lockstep::run(&config, ranks, &COST, Record::Decisions, &monitor).unwrap();
        prop_assert_eq!(&together[0].told, &alone.told);
        prop_assert_eq!(&together[0].steps.decisions, &alone.steps.decisions);
    }

    #[test]
    fn requests_that_come_part_by_part_are_served_as_they_are_all_at_once(
        (trace, _) in workload(), config in any_engine(), part in 1usize..9, replicas in 1u32..3, lockstep: bool,
    ) {
        let config = EngineConfig { data_parallel: replicas, data_parallel_lockstep: lockstep, ..config };
        let (pace, client) = (Pace::default(), Client::default());
        streamed_is_whole::<FixedClock, _>(pace, (&trace, part), &client, &config, &COST, 3)?;
    }

    #[test]
    fn replicas_in_step_begin_and_end_their_steps_together((trace, segments) in workload(), config in any_engine()) {
        let config = EngineConfig { data_parallel: 3, data_parallel_lockstep: true, ..config };
        let served = serve(&trace, Some(&segments), &config);
        let steps = &served.steps;
        let mut waves = std::collections::BTreeMap::new();
        for row in (0..steps.len()).filter(|&row| steps.scheduled_tokens[row] > 0) {
            let end = waves.entry(steps.start_s[row].to_bits()).or_insert(steps.end_s[row]);
            prop_assert_eq!(*end, steps.end_s[row]);
        }
        let ends: Vec<f64> = waves.values().copied().collect();
        prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
        for (start, end) in waves.keys().skip(1).zip(&ends) {
            let apart = config.pipeline_parallel > 1 || f64::from_bits(*start) >= *end;
            prop_assert!(apart, "a step must not begin before the one before ends");
        }
        let left = |row: &usize| !matches!(served.requests.status[*row], Status::Finished | Status::Rejected);
        prop_assert_eq!((0..trace.len()).filter(left).count(), 0);
    }
}
