//! What each engine is known for, calculated by hand.

use super::{COST, drafts, engine, schedule, serve, shared, trace};
use roofline_core::groups::{Apart, Groups, Window};
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::fast::covers;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::Workload;
use roofline_sim::run::simulate;
use roofline_sim::scheduler::config::{EngineConfig, Policy};
use roofline_sim::scheduler::preset::ENGINES;
use roofline_sim::scheduler::rules::{Capacity, Rules, Sglang};
use roofline_sim::scheduler::sequence::Status;
use roofline_sim::scheduler::swap::Swap;
use roofline_sim::time::FixedClock;

#[test]
fn vllm_v0_computes_prompts_before_it_continues_answers() {
    let served = serve(&trace(&[(0, 20, 3), (500, 30, 2)]), None, &engine("vllm-v0"));
    // The second arrives during the first step: its prompt delays the first one's answer.
    assert_eq!(schedule(&served), [vec![(0, 20)], vec![(1, 30)], vec![(0, 1), (1, 1)], vec![(0, 1)]]);
    // A step of 20 tokens, one of 30, one of 2.
    assert_eq!(served.requests.finish_s[1], Some(3.0 + 52.0 / 1024.0));
}

#[test]
fn vllm_v0_never_cuts_a_prompt_unless_told_to() {
    let config = EngineConfig { max_num_batched_tokens: 64, ..engine("vllm-v0") };
    let served = serve(&trace(&[(0, 40, 1), (0, 40, 1)]), None, &config);
    assert_eq!(schedule(&served), [vec![(0, 40)], vec![(1, 40)]]);
    let cut = EngineConfig { enable_chunked_prefill: true, ..config };
    let served = serve(&trace(&[(0, 40, 1), (0, 40, 1)]), None, &cut);
    assert_eq!(schedule(&served), [vec![(0, 40), (1, 24)], vec![(1, 16)]]);
}

#[test]
fn vllm_v0_recomputes_the_last_admitted_when_memory_is_short() {
    // Four usable blocks of 16: two prompts of 32 leave none for the first answers.
    let config = EngineConfig { num_gpu_blocks: 5, watermark: 0.0, ..engine("vllm-v0") };
    let served = serve(&trace(&[(0, 32, 3), (0, 32, 3)]), None, &config);
    assert_eq!(
        schedule(&served),
        // The second comes back with the token it was given: 33 tokens.
        [vec![(0, 32), (1, 32)], vec![(0, 1)], vec![(0, 1)], vec![(1, 33)], vec![(1, 1)]]
    );
    assert_eq!(served.requests.preemptions, [0, 1]);
}

/// Four usable blocks, and room for `blocks` with the host, half a second away.
fn swapping(blocks: u32) -> EngineConfig {
    let swap = Some(Swap { blocks, block_s: 0.5 });
    EngineConfig { num_gpu_blocks: 5, watermark: 0.0, swap, ..engine("vllm-v0") }
}

#[test]
fn vllm_v0_told_to_swap_keeps_what_was_computed_and_pays_the_link() {
    let served = serve(&trace(&[(0, 32, 3), (0, 32, 3)]), None, &swapping(2));
    assert_eq!(
        schedule(&served),
        // The second goes to the host with its two blocks, and comes back to go on where it was.
        [vec![(0, 32), (1, 32)], vec![(0, 1)], vec![(0, 1)], vec![(1, 1)], vec![(1, 1)]]
    );
    assert_eq!(served.requests.preemptions, [0, 1]);
    // Five steps of 68 tokens, and two blocks there and back.
    assert_eq!(served.requests.finish_s[1], Some(5.0 + 68.0 / 1024.0 + 4.0 * 0.5));
}

#[test]
fn vllm_v0_starts_no_prompt_while_blocks_of_others_lie_with_the_host() {
    let requests = trace(&[(0, 32, 3), (0, 32, 3), (500, 16, 1)]);
    let served = serve(&requests, None, &swapping(9));
    // A block is free in the third step, which would do for the last prompt.
    assert_eq!(
        schedule(&served)[2..],
        [vec![(0, 1)], vec![(1, 1)], vec![(2, 16)], vec![(1, 1)]],
        "{:?}",
        served.steps.free_blocks
    );
    // Where prompts are cut it does.
    let cut = EngineConfig { enable_chunked_prefill: true, ..swapping(9) };
    assert_eq!(schedule(&serve(&requests, None, &cut))[2], [(0, 1), (2, 16)]);
}

#[test]
fn vllm_v0_stops_where_the_host_has_no_room_for_more_blocks() {
    let requests = trace(&[(0, 32, 3), (0, 32, 3)]);
    let (workload, client) = (Workload::new(&requests, None).unwrap(), Client::default());
    let config = swapping(1);
    let served =
        simulate::<FixedClock, _>(workload, &client, &config, &COST, Record::Summary, &Monitor::default());
    let error = served.unwrap_err();
    assert_eq!(
        error.to_string(),
        "swap_space must hold the blocks of every request that gives way: room for 1 blocks"
    );
    assert!(error.hint().contains("preemption_mode recompute"), "{}", error.hint());
}

#[test]
fn a_request_is_refused_where_as_many_wait_as_may() {
    let config = EngineConfig { max_num_seqs: 1, max_num_queued_reqs: Some(1), ..engine("vllm-sync") };
    let served = serve(&trace(&[(0, 20, 3), (500, 20, 1), (600, 20, 1), (9000, 20, 1)]), None, &config);
    let refused = [Status::Finished, Status::Finished, Status::Rejected, Status::Finished];
    assert_eq!(served.requests.status, refused);
}

#[test]
fn fewer_tokens_can_be_scheduled_than_a_step_has_room_for() {
    let config = EngineConfig { max_num_scheduled_tokens: Some(16), ..engine("vllm-sync") };
    let served = serve(&trace(&[(0, 40, 1), (0, 8, 1)]), None, &config);
    assert_eq!(schedule(&served), [vec![(0, 16)], vec![(0, 16)], vec![(0, 8), (1, 8)]]);
}

#[test]
fn a_window_of_its_own_memory_holds_back_who_would_fit_the_rest() {
    let window = Window { groups: 1, tokens: 16, block_size: 16 };
    let mut config = EngineConfig {
        max_num_batched_tokens: 32,
        num_gpu_blocks: 101,
        ..trtllm(Capacity::GuaranteedNoEvict)
    };
    config.groups.apart[0] = Apart { window, blocks: 4, keeps_steps: false };
    // A window of 16 tokens lies in two blocks at most: two requests at once, however many blocks others have.
    let served = serve(&trace(&[(0, 8, 20), (0, 8, 20), (0, 8, 20)]), None, &config);
    assert_eq!(served.totals.max_running, 2);
    config.groups.apart[0].blocks = 6;
    assert_eq!(serve(&trace(&[(0, 8, 20), (0, 8, 20), (0, 8, 20)]), None, &config).totals.max_running, 3);
}

#[test]
fn replicas_in_step_pass_their_waves_through_a_pipeline() {
    let config = EngineConfig { pipeline_parallel: 2, ..engine("vllm-sync") };
    let config = EngineConfig { data_parallel: 2, data_parallel_lockstep: true, ..config };
    // 1 + 32/1024 s and 1 + 16/1024 s: each of two stages takes half of the longer.
    let served = serve(&trace(&[(0, 32, 1), (0, 16, 1)]), None, &config);
    let whole = 1.0 + 32.0 / 1024.0;
    assert_eq!(served.requests.finish_s, [Some(whole), Some(whole)]);
}

#[test]
fn a_watermark_keeps_blocks_free_beside_others() {
    let config = EngineConfig { num_gpu_blocks: 11, watermark: 0.1, ..engine("vllm-v0") };
    let prompts = trace(&[(0, 60, 1), (0, 60, 1), (0, 30, 1)]);
    let wide = EngineConfig { max_num_batched_tokens: 200, ..config };
    // Ten usable blocks, 4 + 4 taken: the last would leave none.
    assert_eq!(schedule(&serve(&prompts, None, &wide))[0], [(0, 60), (1, 60)]);
    let brave = EngineConfig { watermark: 0.0, ..wide };
    assert_eq!(schedule(&serve(&prompts, None, &brave))[0], [(0, 60), (1, 60), (2, 30)]);
}

#[test]
fn sarathi_continues_answers_first_and_fills_the_step_with_chunks() {
    let config = EngineConfig { max_num_batched_tokens: 16, ..engine("sarathi") };
    let served = serve(&trace(&[(0, 10, 4), (0, 30, 2)]), None, &config);
    assert_eq!(
        schedule(&served),
        [vec![(0, 10), (1, 6)], vec![(0, 1), (1, 15)], vec![(0, 1), (1, 9)], vec![(0, 1), (1, 1)],]
    );
}

#[test]
fn sarathi_takes_the_blocks_of_a_whole_prompt_at_once() {
    let config = EngineConfig { max_num_batched_tokens: 16, num_gpu_blocks: 5, ..engine("sarathi") };
    let served = serve(&trace(&[(0, 60, 1), (0, 16, 1)]), None, &config);
    // Four usable blocks: the second waits for the first to end although only a block is written at a time.
    assert_eq!(served.steps.free_blocks[..4], [0, 0, 0, 0]);
    assert_eq!(served.requests.first_scheduled_s[1], Some(4.0 + 60.0 / 1024.0));
}

#[test]
fn orca_decides_anew_at_every_iteration_and_mixes_whole_prompts_with_answers() {
    let served = serve(&trace(&[(0, 20, 3), (500, 30, 2)]), None, &engine("orca"));
    assert_eq!(schedule(&served), [vec![(0, 20)], vec![(0, 1), (1, 30)], vec![(0, 1), (1, 1)]]);
    let narrow = EngineConfig { max_num_batched_tokens: 64, ..engine("orca") };
    let served = serve(&trace(&[(0, 40, 1), (0, 40, 1)]), None, &narrow);
    assert_eq!(schedule(&served), [vec![(0, 40)], vec![(1, 40)]]);
}

#[test]
fn orca_reserves_memory_for_the_longest_answer() {
    // Four usable blocks; each request may come to three.
    let config = EngineConfig { num_gpu_blocks: 5, ..engine("orca") };
    let served = serve(&trace(&[(0, 16, 20), (0, 16, 20)]), None, &config);
    assert_eq!(served.steps.free_blocks[0], 1);
    assert_eq!(served.requests.first_scheduled_s[1], served.requests.finish_s[0]);
    // Vllm would have started both.
    assert_eq!(
        schedule(&serve(
            &trace(&[(0, 16, 20), (0, 16, 20)]),
            None,
            &EngineConfig { num_gpu_blocks: 5, ..engine("vllm") }
        ))[0]
            .len(),
        2
    );
}

#[test]
fn a_static_batch_starts_and_ends_together() {
    let config = EngineConfig { max_num_seqs: 2, ..engine("static") };
    let served = serve(&trace(&[(0, 10, 1), (0, 20, 3), (0, 5, 1)]), None, &config);
    assert_eq!(
        schedule(&served),
        // The first is complete after its prompt, but keeps its row: the second's answer takes two more steps.
        [vec![(0, 10), (1, 20)], vec![(1, 1), (0, 1)], vec![(1, 1), (0, 1)], vec![(2, 5)]]
    );
    assert_eq!(served.requests.finish_s[0], served.requests.finish_s[1]);
    assert_eq!(served.requests.first_scheduled_s[2], served.requests.finish_s[0]);
    assert_eq!(served.requests.output_tokens, [1, 3, 1]);
}

#[test]
fn a_static_batch_computes_all_prompts_before_any_answer() {
    let served = serve(&trace(&[(0, 40, 3), (0, 40, 3)]), None, &engine("static"));
    assert_eq!(schedule(&served), [vec![(0, 40)], vec![(1, 40)], vec![(0, 1), (1, 1)], vec![(0, 1), (1, 1)]]);
    assert!(served.totals.prefill > 0 && served.totals.decode > 0, "{:?}", served.totals);
    // Who arrives while it runs waits for the next batch, though there is room.
    let served = serve(&trace(&[(0, 10, 3), (500, 10, 1)]), None, &engine("static"));
    assert_eq!(served.requests.first_scheduled_s[1], served.requests.finish_s[0]);
}

#[test]
fn sglang_computes_prompts_before_it_continues_answers() {
    let config = EngineConfig { max_num_batched_tokens: 32, ..engine("sglang") };
    let served = serve(&trace(&[(0, 20, 3), (500, 40, 2)]), None, &config);
    // A cut prompt comes first until it is computed.
    assert_eq!(
        schedule(&served),
        [vec![(0, 20)], vec![(1, 32)], vec![(1, 8)], vec![(0, 1), (1, 1)], vec![(0, 1)]]
    );
}

fn mixing(mut config: EngineConfig) -> EngineConfig {
    if let Rules::Sglang(settings) = &mut config.rules {
        settings.enable_mixed_chunk = true;
    }
    config
}

#[test]
fn sglang_mixes_answers_into_chunks_only_if_told_to() {
    let config = mixing(EngineConfig { max_num_batched_tokens: 33, ..engine("sglang") });
    let served = serve(&trace(&[(0, 20, 4), (500, 40, 2)]), None, &config);
    assert_eq!(
        schedule(&served),
        [vec![(0, 20)], vec![(1, 32), (0, 1)], vec![(1, 8), (0, 1)], vec![(0, 1), (1, 1)]]
    );
}

#[test]
fn sglang_cuts_at_whole_pages() {
    let config = EngineConfig { max_num_batched_tokens: 40, ..engine("sglang") };
    let served = serve(&trace(&[(0, 50, 1)]), None, &config);
    assert_eq!(schedule(&served), [vec![(0, 32)], vec![(0, 18)]]);
}

#[test]
fn sglang_uses_the_room_that_a_cut_prompt_has_in_its_own_pages() {
    // 14 pages of 5 tokens for a prompt of 66. Looking one draft ahead, its first 35 tokens take 8 pages; the 31 left
    // are one more than the 6 free pages hold, and fit where they end.
    let config = EngineConfig {
        max_num_batched_tokens: 36,
        max_num_seqs: 1,
        block_size: 5,
        num_gpu_blocks: 15,
        max_model_len: Some(67),
        enable_prefix_caching: false,
        speculation: Some(drafts(1)),
        ..engine("sglang")
    };
    let served = serve(&trace(&[(0, 66, 1)]), None, &config);
    assert_eq!(schedule(&served), [[(0, 35)], [(0, 31)]]);
}

#[test]
fn sglang_finds_prefixes_once_they_are_computed_and_vllm_at_once() {
    let (trace, segments) = shared(&[&[(1, 32), (2, 8)], &[(1, 32), (3, 8)]], 1);
    let cached = |name| {
        let config = EngineConfig { max_num_batched_tokens: 128, max_model_len: Some(64), ..engine(name) };
        serve(&trace, Some(&segments), &config).requests.cached_tokens
    };
    assert_eq!(cached("vllm"), [0, 32]);
    assert_eq!(cached("sglang"), [0, 0]);
    // In turn the second finds what the first has computed, to the token where pages are one token.
    let in_turn = |page| {
        let config =
            EngineConfig { max_num_seqs: 1, block_size: page, num_gpu_blocks: 1001, ..engine("sglang") };
        serve(&trace, Some(&segments), &config).requests.cached_tokens
    };
    assert_eq!((in_turn(16), in_turn(1), in_turn(5)), (vec![0, 32], vec![0, 32], vec![0, 30]));
}

#[test]
fn sglang_holds_equal_prefixes_once() {
    // Both compute the same 32 tokens in the first step; then one copy is given up.
    let (trace, segments) = shared(&[&[(1, 32), (2, 8)], &[(1, 32), (3, 8)]], 3);
    let free = |name| {
        let config = EngineConfig { max_num_batched_tokens: 128, ..engine(name) };
        serve(&trace, Some(&segments), &config).steps.free_blocks
    };
    assert_eq!(free("sglang")[..2], [94, 96]);
}

#[test]
fn sglang_starts_those_with_the_longest_cached_prefix_first_if_told_to() {
    let (trace, segments) = shared(&[&[(1, 40)], &[(2, 40)], &[(1, 32), (3, 8)]], 1);
    let order = |policy| {
        let config = EngineConfig { max_num_seqs: 1, scheduling_policy: policy, ..engine("sglang") };
        let served = serve(&trace, Some(&segments), &config);
        schedule(&served).iter().map(|step| step[0].0).collect::<Vec<_>>()
    };
    assert_eq!(order(Policy::Fcfs), [0, 1, 2]);
    assert_eq!(order(Policy::LongestPrefix), [0, 2, 1]);
}

#[test]
fn sglang_sets_aside_a_share_of_the_answers_to_come() {
    // 160 tokens. Both prompts take 40, both answers may take 80; the first one's is counted for 0.7 or more.
    let requests = trace(&[(0, 40, 80), (500, 40, 30)]);
    let start = |conservativeness: f64| {
        let settings = Sglang {
            max_prefill_tokens: 16384,
            schedule_conservativeness: conservativeness,
            enable_mixed_chunk: false,
        };
        let config = EngineConfig {
            rules: Rules::Sglang(settings),
            num_gpu_blocks: 11,
            max_model_len: Some(150),
            ..engine("sglang")
        };
        serve(&requests, None, &config).requests.first_scheduled_s[1].get().unwrap()
    };
    // After the first step 112 tokens are free (whole pages), 79 still to come: 55.3 set aside at 0.7, and the second
    // asks for 70. Little set aside lets it in at once.
    assert_eq!(start(0.1), 1.0 + 40.0 / 1024.0);
    assert!(start(1.0) > 2.0);
}

#[test]
fn sglang_retracts_the_request_with_the_fewest_tokens_answered() {
    let settings =
        Sglang { max_prefill_tokens: 16384, schedule_conservativeness: 0.0, enable_mixed_chunk: false };
    let config = EngineConfig {
        rules: Rules::Sglang(settings),
        num_gpu_blocks: 8,
        max_model_len: Some(100),
        enable_prefix_caching: false,
        ..engine("sglang")
    };
    // Seven pages of 16. The first has answered more when memory ends, so the second gives way although it came last
    // only by a little; it starts again behind everybody.
    let served = serve(&trace(&[(0, 30, 40), (500, 30, 40), (600, 30, 2)]), None, &config);
    assert!(served.requests.preemptions[0] == 0 && served.requests.preemptions[1] > 0);
    assert_eq!(served.requests.status, [Status::Finished; 3]);
}

#[test]
fn an_overlapping_sglang_computes_one_row_too_many_and_trtllm_does_not() {
    let rows = |name: &str| {
        let config = EngineConfig { async_scheduling: true, ..engine(name) };
        let served = serve(&trace(&[(0, 20, 3)]), None, &config);
        assert_eq!(served.requests.output_tokens, [3]);
        schedule(&served).concat()
    };
    assert_eq!(rows("trtllm"), [(0, 20), (0, 1), (0, 1)]);
    assert_eq!(rows("vllm"), [(0, 20), (0, 1), (0, 1)]);
    assert_eq!(rows("sglang"), [(0, 20), (0, 1), (0, 1), (0, 1)]);
}

fn trtllm(capacity: Capacity) -> EngineConfig {
    EngineConfig { rules: Rules::Trtllm(capacity), num_gpu_blocks: 5, ..engine("trtllm") }
}

#[test]
fn trtllm_starts_only_what_it_can_end() {
    let requests = trace(&[(0, 16, 20), (0, 16, 20)]);
    let safe = serve(&requests, None, &trtllm(Capacity::GuaranteedNoEvict));
    assert_eq!(safe.requests.first_scheduled_s[1], safe.requests.finish_s[0]);
    // Blocks are promised, not taken: only the prompt's is in use.
    assert_eq!(safe.steps.free_blocks[0], 3);
    assert_eq!(safe.requests.preemptions, [0, 0]);
}

#[test]
fn trtllm_fills_its_memory_and_pauses_the_last_if_told_to() {
    let requests = trace(&[(0, 16, 40), (0, 16, 40)]);
    let config = EngineConfig { enable_prefix_caching: false, ..trtllm(Capacity::MaxUtilization) };
    let full = serve(&requests, None, &config);
    assert_eq!(schedule(&full)[0], [(0, 16), (1, 16)]);
    assert!(full.requests.preemptions[0] == 0 && full.requests.preemptions[1] > 0);
    assert_eq!(full.requests.status, [Status::Finished; 2]);
}

#[test]
fn trtllm_mixes_answers_and_prompts_and_refuses_a_prompt_longer_than_a_step() {
    let config = EngineConfig { max_num_batched_tokens: 40, ..engine("trtllm") };
    let requests = trace(&[(0, 20, 3), (500, 30, 2), (600, 50, 1)]);
    let served = serve(&requests, None, &config);
    assert_eq!(schedule(&served), [vec![(0, 20)], vec![(0, 1), (1, 30)], vec![(0, 1), (1, 1)]]);
    assert_eq!(served.requests.status[2], Status::Rejected);
    let cut = EngineConfig { enable_chunked_prefill: true, ..config };
    assert_eq!(serve(&requests, None, &cut).requests.status[2], Status::Finished);
}

#[test]
fn the_fast_path_leaves_other_engines_to_the_stepper() {
    let requests = trace(&[(0, 20, 3)]);
    let workload = Workload::new(&requests, None).unwrap();
    for name in ENGINES {
        let config = engine(name);
        assert_eq!(covers(&config, workload, Record::Summary), config.rules == Rules::Vllm, "{name}");
    }
}

#[test]
fn settings_that_do_not_go_with_an_engine_are_refused() {
    let message = |config: EngineConfig| config.limits().unwrap_err().to_string();
    let ranked = |name| message(EngineConfig { scheduling_policy: Policy::Priority, ..engine(name) });
    assert_eq!(ranked("orca"), "scheduling_policy must be fcfs with this engine: priority");
    assert_eq!(ranked("sglang"), "scheduling_policy must be fcfs or lpm: priority");
    let longest = EngineConfig { scheduling_policy: Policy::LongestPrefix, ..engine("vllm") };
    assert_eq!(message(longest), "scheduling_policy must be fcfs or priority: lpm");
    let drafting = EngineConfig { speculation: Some(drafts(2)), ..engine("static") };
    assert_eq!(message(drafting), "spec_method must be none with an engine that has no speculation: given");
    let whole = EngineConfig { max_num_batched_tokens: 50, ..engine("orca") };
    assert!(message(whole).contains("must be at least max_model_len, 64, without chunked prefill: 50"));
    let sglang = |max_prefill_tokens, schedule_conservativeness| {
        let settings = Sglang { max_prefill_tokens, schedule_conservativeness, enable_mixed_chunk: false };
        message(EngineConfig { rules: Rules::Sglang(settings), ..engine("sglang") })
    };
    assert_eq!(sglang(0, 1.0), "max_prefill_tokens must be at least 1: 0");
    assert_eq!(sglang(1, -1.0), "schedule_conservativeness must be finite and not negative: -1");
    let page = EngineConfig { max_num_batched_tokens: 8, ..engine("sglang") };
    assert_eq!(message(page), "max_num_batched_tokens must hold a page of 16 tokens: 8");
    let groups = Groups { states: 2, ..Groups::default() };
    let states = EngineConfig { groups, block_size: 80, ..engine("vllm") };
    let expected = "max_num_batched_tokens must hold a block of 80 tokens, at whose end states are kept: 64";
    assert_eq!(message(states), expected);
}
