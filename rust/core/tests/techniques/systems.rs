//! Parallelism, offloading, other processors, memory that computes: worked out by hand on the toy.

use super::toy::*;

#[test]
fn tensor_parallelism_cuts_weights_and_adds_reductions() {
    let step = run("parallel:tp=2", &decode(10, 1000));
    is(op(&step, "gate_up_proj").work.weight_bytes, 32e6);
    // 2 a layer and the embedding's: 9 of 10 · 1000 · 2 bytes; a ring of two sends M, at 100 GB/s 0.2 us
    is(op(&step, "all_reduce").ideal, 9.0 * 0.2e-6);
}

#[test]
fn pipeline_stages_hold_their_layers() {
    let step = run("parallel:pp=2", &decode(10, 1000));
    is(op(&step, "gate_up_proj").repeat, 2.0);
    is(step.outcome.memory.kv, 2.0 * 10.0 * 1000.0 * 1600.0);
}

#[test]
fn expert_parallelism_keeps_whole_experts() {
    let step = run_moe("parallel:tp=2,ep=2", &decode(2, 1000));
    // Half of 3.5 touched experts
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 1.75 * 16e6);
}

#[test]
fn hidden_communication_takes_no_time() {
    let plain = run("parallel:tp=2", &decode(10, 1000));
    let hidden = run("parallel:tp=2 + overlap:share=1", &decode(10, 1000));
    // The reductions' 1.8 us, and the logits' all-gather of 10 · 10,000 · 2 bytes: half of it at 100 GB/s, 1 us
    is(seconds(&plain) - seconds(&hidden), 2.8e-6);
}

#[test]
fn a_share_of_the_computing_time_hides_as_much_communication() {
    let plain = seconds(&run("parallel:tp=2", &decode(10, 1000)));
    let hidden = seconds(&run("parallel:tp=2 + overlap:share=0.01", &decode(10, 1000)));
    // All but the 2.8 us of communication computes
    is(plain - hidden, 0.01 * (plain - 2.8e-6));
}

#[test]
fn context_parallelism_cuts_prompts() {
    let step = run("context-parallel:ranks=4", &prefill(1, 1000));
    // 250 tokens of gate and up; a quarter of 500,500 pairs
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 250.0 * 8e6);
    is(op(&step, "attention").work.flops, 4.0 * 4000.0 * 500_500.0 / 4.0);
    // Keys and values of 1000 tokens go round: 3/4 · 800 kB a layer at 100 GB/s
    is(op(&step, "exchange[attention]").ideal, 4.0 * 6e-6);
    is(step.outcome.memory.kv, 1000.0 * 800.0);
    // Four devices do the work of one
    is(step.outcome.tokens_per_gpu_s, 1000.0 / seconds(&step) / 4.0);
}

#[test]
fn context_parallel_decode_reads_a_share_of_the_keys() {
    let step = run("context-parallel:ranks=4", &decode(1, 1000));
    is(op(&step, "attention").work.kv_bytes, 4.0 * 800.0 * (250.0 + 1.0));
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 8e6);
}

#[test]
fn ulysses_exchanges_heads() {
    let step = run("context-parallel:ranks=4,style=ulysses", &prefill(1, 1000));
    // q and the output 2 · 1000 · 1000 · 2 bytes, new keys and values 800 kB: 4.8 MB a layer, 1/4 of them one rank's;
    // 3/4 of that leave it
    let sent = op(&step, "exchange[attention]").work.link_bytes;
    is(sent, 4.0 * 0.75 * 4.8e6);
}

#[test]
fn offloaded_weights_come_over_the_link() {
    let step = run("offload:what=weights,share=0.5", &decode(1, 1000));
    // 57.6 M weights of 2 bytes, half of them, at 50 GB/s: 1.152 ms, behind which the device's 0.14 ms disappear
    is(seconds(&step), 1.152e-3);
    is(op(&step, "fetch[gate_up_proj]").work.link_bytes, 32e6);
    // The device keeps half and a buffer of two of the four layers' other half
    let dense = run("none", &decode(1, 1000));
    is(dense.outcome.memory.weights - step.outcome.memory.weights, 57.6e6 * 2.0 * 0.25);
}

#[test]
fn without_overlap_both_add_up() {
    let dense = seconds(&run("none", &decode(1, 1000)));
    let step = run("offload:what=weights,share=0.5,overlap=0", &decode(1, 1000));
    is(seconds(&step), dense + 1.152e-3);
}

#[test]
fn storage_is_slower_than_the_host() {
    let step = run("offload:what=weights,share=0.5,to=ssd,gb-s=5", &decode(1, 1000));
    is(seconds(&step), 11.52e-3);
}

#[test]
fn an_offloaded_cache_is_fetched_each_step() {
    let step = run("offload:what=kv,share=0.5", &decode(10, 1000));
    // (10,000 read + 10 written) · 3200 bytes, half of them
    is(op(&step, "fetch[attention]").work.link_bytes, 10_010.0 * 1600.0);
    is(step.outcome.memory.kv, 10_000.0 * 1600.0);
}

#[test]
fn weights_and_cache_share_the_link() {
    let [weights, cache] = ["offload:what=weights,share=0.5", "offload:what=kv,share=0.5"];
    let (dense, step) =
        (run("none", &decode(10, 1000)), run(&format!("{weights} + {cache}"), &decode(10, 1000)));
    // 57.6 MB of weights and 10,010 · 1600 bytes of cache at 50 GB/s: 1.47232 ms, behind which the device disappears
    is(step.per_gpu.link_bytes, 57.6e6 + 16.016e6);
    is(seconds(&step), 1.47232e-3);
    // Both leave memory: half of the cache, and of the weights' half all but two of four layers' buffers
    is(dense.outcome.memory.weights - step.outcome.memory.weights, 28.8e6);
    is(step.outcome.memory.kv, 10_000.0 * 1600.0);
    let turned = run(&format!("{cache} + {weights}"), &decode(10, 1000));
    is(seconds(&turned), seconds(&step));
    let in_turn = run(&format!("{weights},overlap=0 + {cache},overlap=0"), &decode(10, 1000));
    is(seconds(&in_turn), seconds(&dense) + 1.47232e-3);
}

#[test]
fn host_and_storage_deliver_at_the_same_time() {
    let with = "offload:what=weights,share=0.5 + offload:what=kv,share=0.5,to=ssd,gb-s=5";
    // 57.6 MB from the host take 1.152 ms, 16.016 MB from the SSD 3.2032 ms
    is(seconds(&run(with, &decode(10, 1000))), 3.2032e-3);
}

#[test]
fn experts_and_cache_are_offloaded_together() {
    let step = run_moe("offload:what=experts,share=0.5 + offload:what=kv,share=0.5", &decode(1, 1000));
    // 2 experts of 12 M weights and 1001 · 3200 bytes of cache, half of each
    is(step.per_gpu.link_bytes, 4.0 * 2.0 * 12e6 + 1001.0 * 1600.0);
}

#[test]
fn the_host_runs_a_share_of_the_ffn_beside_an_offloaded_cache() {
    let with = "hybrid:processor=xeon-8592,ops=ffn,share=0.25 + offload:what=kv,share=0.5";
    let step = run(with, &decode(10, 1000));
    is(op(&step, "fetch[attention]").work.link_bytes, 10_010.0 * 1600.0);
    is(op(&step, "host[gate_up_proj]").work.weight_bytes, 0.25 * 64e6);
}

#[test]
fn only_touched_experts_are_fetched() {
    let step = run_moe("offload:what=experts,share=0.5", &decode(1, 1000));
    // 2 experts of 12 M weights, half of them
    let fetched = op(&step, "fetch[experts_gate_up]").work.link_bytes
        + op(&step, "fetch[experts_down]").work.link_bytes;
    is(fetched, 4.0 * 2.0 * 12e6 * 2.0 * 0.5);
}

#[test]
fn attention_and_ffn_work_at_the_same_time() {
    let plain = run("none", &decode(30, 1000));
    let step = run("afd:attention=1,ffn=1,micro-batches=3,gb-s=1000", &decode(30, 1000));
    // FFN weights are read once a micro-batch: 3 · 4 · 24 MB in 0.288 ms and activations of 30 tokens,
    // 4·30·(1000 + 8000 + 4000 + 1000)·2 bytes in 3.36 us; attention and the head take less.
    is(seconds(&step), 0.288e-3 + 3.36e-6);
    // Half of the devices hold attention
    is(step.outcome.tokens_per_gpu_s, 30.0 / seconds(&step) / 2.0);
    is(plain.outcome.memory.weights - step.outcome.memory.weights, 4.0 * 24e6);
}

#[test]
fn each_micro_batch_reads_the_experts_it_touches() {
    // Two micro-batches of two tokens: each reads 8·(1 − (6/8)²) = 3.5 experts
    let step = run_moe("afd:attention=1,ffn=1,micro-batches=2", &decode(4, 1000));
    is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 2.0 * 3.5 * 16e6);
}

#[test]
fn one_micro_batch_waits() {
    let plain = run("none", &decode(30, 1000));
    let step = run("afd:micro-batches=1,gb-s=100", &decode(30, 1000));
    // There and back: 4 layers · 30 · 2 · 1000 · 2 bytes at 100 GB/s
    is(seconds(&step) - seconds(&plain), 4.8e-6);
}

#[test]
fn several_attention_groups_share_an_ffn() {
    let step = run("afd:attention=2,ffn=1,micro-batches=1", &decode(30, 1000));
    // 60 tokens reach each FFN
    is(op(&step, "gate_up_proj").work.flops, 4.0 * 2.0 * 60.0 * 8e6);
}

#[test]
fn attention_runs_where_its_cache_is_read_faster() {
    let step = run("pim:device=hbm-pim,stacks=5", &decode(10, 1000));
    // 5 · 1228.8 GB/s for 4 · (10,010 · 800 + 10 · 2 · 1000 · 2) bytes; 4 · 4000 · 10,000 FLOPs at 6 T/s take longer: 26.7 us
    is(op(&step, "attention").ideal, 4.0 * 4000.0 * 10_000.0 / 6e12);
    let plain = run("none", &decode(10, 1000));
    is(op(&plain, "attention").ideal, 4.0 * (10_010.0 * 800.0 + 40_000.0) / 1e12);
}

#[test]
fn what_is_faster_on_the_device_stays_there() {
    let plain = run("none", &prefill(1, 1000));
    is(seconds(&run("pim:ops=all", &prefill(1, 1000))), seconds(&plain));
    let (plain, always) =
        (run("none", &decode(500, 100)), run("pim:ops=gemm,route=always", &decode(500, 100)));
    assert!(seconds(&always) > seconds(&plain));
    is(seconds(&run("pim:ops=gemm", &decode(500, 100))), seconds(&plain));
}

#[test]
fn prompts_stay_on_the_device() {
    for (point, prompt) in [(prefill(1, 1000), 1000), (mixed(8, 1000, 500), 500)] {
        let (plain, pim) = (run("none", &point), run("pim:ops=all,route=always", &point));
        // Beside a prompt, which needs the weights anyway, only the attention of those that decode is elsewhere.
        is(op(&pim, "gate_up_proj").ideal, op(&plain, "gate_up_proj").ideal);
        let own = pim.ops.iter().rfind(|op| op.name == "attention").unwrap();
        is(own.ideal, op(&run("none", &prefill(1, prompt)), "attention").ideal);
    }
    let host = run("hybrid:processor=xeon-8592,ops=attention,gb-s=50", &prefill(1, 1000));
    is(op(&host, "attention").ideal, op(&run("none", &prefill(1, 1000)), "attention").ideal);
    // 4 layers write 1000 keys and values of 800 bytes to the host
    is(op(&host, "to_host[attention]").ideal, 4.0 * 1000.0 * 800.0 / 50e9);
}

#[test]
fn the_host_attends_to_its_cache() {
    let step = run("hybrid:processor=xeon-8592,ops=attention,gb-s=50", &decode(10, 1000));
    // q and output 10 · 2000 · 2 bytes, new keys and values 10 · 800: 48 kB a layer at 50 GB/s
    is(op(&step, "to_host[attention]").ideal, 4.0 * 48_000.0 / 50e9);
    is(step.outcome.memory.kv, 0.0);
}

#[test]
fn a_share_of_the_ffn_runs_beside_on_the_host() {
    let step = run("hybrid:processor=xeon-8592,ops=ffn,share=0.25,overlap=1", &decode(1, 1000));
    is(op(&step, "gate_up_proj").work.weight_bytes, 0.75 * 64e6);
    is(op(&step, "host[gate_up_proj]").work.weight_bytes, 0.25 * 64e6);
}

#[test]
fn chips_of_fast_memory_read_together() {
    let one = run("none", &decode(1, 1000));
    let many = run("spatial:chips=10", &decode(1, 1000));
    // Twice in each of 4 layers 2 · 9/10 of 1000 numbers of 2 bytes cross 100 GB/s
    let links = 8.0 * 1.8 * 2000.0 / 100e9;
    is(op(&many, "chip_exchange").ideal, links);
    is(seconds(&many), seconds(&one) / 10.0 + links);
    is(many.outcome.memory.capacity, 100.0 * GIB);
    let faster = run("spatial:chips=10,gb-s=400", &decode(1, 1000));
    is(seconds(&faster), seconds(&one) / 10.0 + links / 4.0);
    // Hidden behind the chips' own work where the deployment overlaps
    is(seconds(&run("spatial:chips=10 + overlap:share=1", &decode(1, 1000))), seconds(&one) / 10.0);
}

#[test]
fn chips_without_a_known_link_need_one() {
    let with = |with: &str| {
        let hardware = roofline_core::catalog::hardware::hardware("groq-lpu").unwrap().item;
        ask(deployment(toy(), hardware), with, &decode(1, 1000))
    };
    let error = with("spatial:chips=8").unwrap_err();
    assert_eq!(
        error.to_string(),
        "spatial:gb-s must be given: no link between chips of `groq-lpu` is known: absent"
    );
    assert!(error.hint().contains("gb-s=100"));
    assert!(with("spatial:chips=8,gb-s=100").is_ok() && with("spatial:chips=1").is_ok());
}

#[test]
fn a_faster_link_speeds_up_what_waits_for_it() {
    for with in [
        "offload:what=weights,share=0.5",
        "offload:what=weights,share=0.5,gb-s=20",
        "offload:what=weights,share=0.5,to=ssd",
    ] {
        // Half of 115.2 MB over 50, 20 or 7 GB/s: more than a ms, which the device's 0.14 ms hide behind
        let step = run(with, &decode(1, 1000));
        let (bound, _) = step.bounds()[0];
        assert_eq!(bound.name(), "link", "{with}");
        is(step.sensitivity.link, 1.0 / 1.1 - 1.0);
        is(step.sensitivity.bandwidth, 0.0);
    }
    // Added up: 1.152 ms of the link get 1/11 shorter, the rest stays
    let step = run("offload:what=weights,share=0.5,overlap=0", &decode(1, 1000));
    is(step.sensitivity.link, -1.152e-3 / 11.0 / seconds(&step));
}

#[test]
fn a_link_beside_the_device_has_a_ridge_of_its_own() {
    let ridge = |with: &str| run(with, &decode(1, 1000)).link_ridge;
    // 100 TFLOP/s over 50 and 7 GB/s, where the device's memory has 100 FLOP/B
    is(ridge("offload:what=weights,share=0.5").unwrap(), 2000.0);
    is(ridge("offload:what=weights,share=0.5,to=ssd").unwrap(), 100e12 / 7e9);
    assert_eq!((ridge("none"), ridge("parallel:tp=2")), (None, None));
}

#[test]
fn a_faster_link_does_not_speed_up_the_processor_behind_it() {
    let step = run("hybrid:processor=xeon-8592,ops=ffn", &decode(1, 1000));
    let sent: f64 = step.ops.iter().filter(|op| op.name.starts_with("to_host[")).map(|op| op.ideal).sum();
    assert!(sent > 0.0);
    is(step.sensitivity.link, -sent / 11.0 / seconds(&step));
}

#[test]
fn a_faster_link_between_chips_speeds_up_what_crosses_it() {
    let step = run("spatial:chips=2,gb-s=10", &decode(1, 1000));
    is(step.sensitivity.link, -op(&step, "chip_exchange").ideal / 11.0 / seconds(&step));
}

#[test]
fn ffn_devices_hold_the_ffns_and_attention_devices_the_rest() {
    let (plain, step) = (run("none", &decode(10, 1000)), run("afd:attention=2,ffn=1", &decode(10, 1000)));
    // 4 layers · 12 M weights of 2 bytes
    let beside = step.outcome.memory.beside.unwrap();
    is(beside.weights, 96e6);
    is(beside.capacity, 10.0 * GIB);
    is(step.outcome.memory.weights, plain.outcome.memory.weights - 96e6);
    is(step.outcome.memory.kv, plain.outcome.memory.kv);
    assert_eq!(plain.outcome.memory.beside, None);
}

#[test]
fn what_does_not_fit_an_ffn_device_does_not_fit() {
    // Llama-2-70B: 80 · 3 · 8192 · 28,672 weights of FFNs are 112.7 GB, and the others 26 GB of an A100's 80
    let ask = |with: &str| known("llama-2-70b", "a100", with, &decode(1, 1000)).outcome.memory;
    let whole = ask("afd");
    is(whole.beside.unwrap().weights, 80.0 * 3.0 * 8192.0 * 28_672.0 * 2.0);
    assert!(whole.weights < 27e9 && !whole.fits() && !whole.fits_ideally());
    assert_eq!(whole.num_gpu_blocks, 0);
    for with in ["afd + weight-quant:bits=4,parts=ffn", "afd + parallel:tp=2"] {
        let less = ask(with);
        assert!(less.fits() && less.fits_ideally() && less.num_gpu_blocks > 0, "{with}");
    }
    // On one device 68.9 G weights do not fit in 8 bits beside a cache; on two kinds of devices they do
    let eight = ask("afd + weight-quant:bits=8");
    is(eight.beside.unwrap().weights, 80.0 * 3.0 * 8192.0 * 28_672.0);
    assert!(eight.fits());
}

#[test]
fn the_side_with_fewer_devices_has_the_busier_links() {
    let plain = seconds(&run("none", &decode(30, 1000)));
    // Two attention groups: 60 tokens pass each link of the FFN, there and back: 4 layers · 60 · 2 · 1000 · 2 bytes at
    // 100 GB/s. Activations of 30 tokens more: 4 · 30 · (1000 + 8000 + 4000 + 1000) · 2 bytes at 1 TB/s
    let two = run("afd:attention=2,ffn=1,micro-batches=1,gb-s=100", &decode(30, 1000));
    is(op(&two, "afd_exchange").ideal, 9.6e-6);
    is(seconds(&two) - plain, 9.6e-6 + 3.36e-6);
    // Two FFN groups: 30 tokens pass each link of the attention device, and 15 are an FFN device's
    let half = run("afd:attention=1,ffn=2,micro-batches=1,gb-s=100", &decode(30, 1000));
    is(op(&half, "afd_exchange").ideal, 4.8e-6);
    is(seconds(&half) - plain, 4.8e-6 - 1.68e-6);
}

#[test]
fn three_micro_batches_use_both_directions_of_the_link_at_once() {
    let step = run("afd:micro-batches=3,gb-s=100", &decode(30, 1000));
    is(op(&step, "afd_exchange").ideal, 2.4e-6);
    let step = run("afd:micro-batches=2,gb-s=100", &decode(30, 1000));
    is(op(&step, "afd_exchange").ideal, 4.8e-6);
}

#[test]
fn reductions_behind_ffns_are_the_ffn_devices() {
    let step = run("parallel:tp=2 + afd:attention=2,ffn=1,micro-batches=1", &decode(10, 1000));
    let reductions: Vec<_> = step.ops.iter().filter(|op| op.name == "all_reduce").collect();
    // 4 behind attention and the embedding's: 10 tokens of 2000 bytes in 0.2 us; 4 behind FFNs of 20 tokens
    is(reductions[0].ideal, 5.0 * 0.2e-6);
    is(reductions[1].ideal, 4.0 * 0.4e-6);
    // One micro-batch waits for all of it
    is(seconds(&step), step.ops.iter().map(|op| op.ideal).sum());
}

#[test]
fn tokens_reach_their_experts_over_the_exchange_alone() {
    let spread = "parallel:dp=4,ep=4 + afd:micro-batches=1,gb-s=100";
    let step = run_moe(spread, &decode(8, 1000));
    assert!(step.ops.iter().all(|op| !["dispatch", "combine"].contains(&op.name.as_str())));
    // A token visits 2 experts: 4 layers · 8 tokens · 2 copies · 2 directions · 2000 bytes at 100 GB/s
    is(op(&step, "afd_exchange").ideal, 4.0 * 8.0 * 2.0 * 2.0 * 2000.0 / 100e9);
    // Where every device of the group holds every token, one copy does
    let step = run_moe("parallel:tp=2,ep=2 + afd:micro-batches=1,gb-s=100", &decode(8, 1000));
    is(op(&step, "afd_exchange").ideal, 4.0 * 8.0 * 2.0 * 2000.0 / 100e9);
}

#[test]
fn drafts_are_made_where_attention_is() {
    let with = "spec:method=eagle,gamma=2,accept=0.5";
    let (plain, step) = (run(with, &decode(4, 1000)), run(&format!("afd + {with}"), &decode(4, 1000)));
    for name in ["draft.gate_up_proj", "draft.down_proj", "draft.fuse_proj"] {
        is(op(&step, name).work.weight_bytes, op(&plain, name).work.weight_bytes);
    }
    // One layer of FFNs is a draft's: it stays
    is(step.outcome.memory.beside.unwrap().weights, 96e6);
}

#[test]
fn a_factored_ffn_sends_its_tokens_as_often() {
    let plain = run("afd:micro-batches=1,gb-s=100", &decode(30, 1000));
    let step = run("afd:micro-batches=1,gb-s=100 + low-rank:rank=100", &decode(30, 1000));
    is(op(&step, "afd_exchange").ideal, op(&plain, "afd_exchange").ideal);
}

#[test]
fn the_deployment_computes_what_one_device_would() {
    let plain = run("none", &decode(12, 1000)).deployment.flops;
    for with in ["afd", "afd:attention=3,ffn=1", "afd:attention=1,ffn=4", "spatial:chips=8,gb-s=10"] {
        is(run(with, &decode(12, 1000)).deployment.flops, plain);
    }
    // A device is busy for what it does itself: a waiting one takes no more than when idle
    let step = run("afd:attention=1,ffn=1,micro-batches=1", &decode(12, 1000));
    let all: f64 = step.ops.iter().filter(|op| op.name != "afd_exchange").map(|op| op.ideal).sum();
    is(step.outcome.done.busy(), all / 2.0);
}

#[test]
fn an_ffn_device_of_the_same_kind_is_predicted_alike() {
    use roofline_core::efficiency::Efficiency;
    let hardware = roofline_core::catalog::hardware::hardware("h100-sxm").unwrap().item;
    let deployment = || roofline_core::step::Deployment {
        efficiency: Efficiency::predicted("vllm"),
        ..deployment(toy(), hardware.clone())
    };
    let (plain, step) = (
        ask(deployment(), "none", &decode(64, 1000)).unwrap(),
        ask(deployment(), "afd:micro-batches=1", &decode(64, 1000)).unwrap(),
    );
    is(op(&step, "down_proj").predicted.seconds, op(&plain, "down_proj").predicted.seconds);
}

#[test]
fn memory_that_computes_in_the_device_leaves_its_capacity() {
    let (plain, step) = (run("none", &decode(10, 1000)), run("pim", &decode(10, 1000)));
    assert_eq!(step.outcome.memory, plain.outcome.memory);
    assert!(step.notes[0].ends_with("within the device's own capacity"), "{:?}", step.notes);
}

#[test]
fn added_memory_that_computes_holds_the_cache() {
    let (plain, step) = (run("none", &decode(10, 1000)), run("pim:memory=added", &decode(10, 1000)));
    let memory = step.outcome.memory;
    let beside = memory.beside.unwrap();
    // 10 · 1000 tokens of 3200 bytes in five stacks of 6 GiB, and none on the device
    is(beside.kv, 32e6);
    is(beside.capacity, 30.0 * GIB);
    is(memory.kv, 0.0);
    is(memory.weights, plain.outcome.memory.weights);
    assert_eq!(memory.ideal_sequences, (30.0 * GIB / 3.2e6) as u64);
    // 63 blocks of 16 tokens hold a sequence
    assert_eq!(memory.num_gpu_blocks, (30.0 * GIB / (16.0 * 3200.0)) as u64);
    is(memory.engine_bytes(), memory.weights + memory.engine_activations + memory.runtime);
    // Decode reads it there, whatever is faster; time is that of memory inside the device
    is(seconds(&step), seconds(&run("pim:route=always", &decode(10, 1000))));
    // One stack of a gigabyte is too small for 600 sequences of 3.2 MB
    let small = run("pim:device=gddr6-aim,stacks=1,memory=added", &decode(600, 1000)).outcome.memory;
    assert!(!small.fits() && !small.fits_ideally());
}

#[test]
fn prompts_fetch_what_lies_in_added_memory_over_its_pins() {
    let (plain, step) = (run("none", &prefill(1, 1000)), run("pim:memory=added", &prefill(1, 1000)));
    // 1000 keys written and read, 800 bytes in each of 4 layers, over 5 · 307.2 GB/s: hidden behind the device
    is(op(&step, "fetch[attention]").ideal, 2.0 * 4.0 * 800e3 / 1536e9);
    is(seconds(&step), seconds(&plain));
}

#[test]
fn added_memory_may_hold_weights() {
    let (plain, step) = (run("none", &decode(1, 1000)), run("pim:ops=gemm,memory=added", &decode(1, 1000)));
    // 57.6 M weights of the layers
    is(step.outcome.memory.beside.unwrap().weights, 115.2e6);
    is(step.outcome.memory.weights, plain.outcome.memory.weights - 115.2e6);
    is(step.outcome.memory.kv, plain.outcome.memory.kv);
    // A prompt needs all of them: 115.2 MB at 1,536 GB/s are 75 us, behind which nothing is left of a short one
    let short = run("pim:ops=gemm,memory=added", &prefill(1, 1));
    let fetched: f64 = short.ops.iter().filter(|op| op.name.starts_with("fetch[")).map(|op| op.ideal).sum();
    is(fetched, 115.2e6 / 1536e9);
    assert!(seconds(&short) >= fetched);
}

#[test]
fn what_is_offloaded_without_a_share_is_offloaded_whole() {
    let [said, unsaid] =
        ["offload:what=kv,share=1", "offload:what=kv"].map(|with| run(with, &decode(10, 1000)));
    is(seconds(&said), seconds(&unsaid));
    is(unsaid.outcome.memory.kv, 0.0);
    // All weights but buffers of two of four layers leave, on the FFN devices of a disaggregated model too
    let (plain, step) = (run("none", &decode(1, 1000)), run("offload", &decode(1, 1000)));
    is(plain.outcome.memory.weights - step.outcome.memory.weights, 57.6e6 * 2.0 * 0.5);
    let afd = run("afd + offload:what=weights", &decode(1, 1000)).outcome.memory;
    is(afd.beside.unwrap().weights, 48e6);
}

#[test]
fn a_technique_that_was_told_nothing_says_so() {
    for (with, wants) in [
        ("lora", "`lora` changes nothing until it is given rank (`lora:rank=…`)"),
        ("spec:method=eagle", "`spec:method=eagle` changes nothing until it is given gamma (`spec:gamma=…`)"),
        (
            "kv-evict",
            "`kv-evict` changes nothing until it is given ratio or budget or window (`kv-evict:ratio=…`)",
        ),
        (
            "contextual-sparsity:predictor=64",
            "`contextual-sparsity:predictor=64` changes nothing until it is given active or hot",
        ),
    ] {
        let notes = run(with, &decode(1, 1000)).notes;
        assert!(notes.iter().any(|note| note.starts_with(wants)), "{notes:?}");
    }
    for with in ["lora:rank=0", "flash", "prune:ffn=1", "weight-quant:bits=16", "activation-quant:format=fp8"]
    {
        assert_eq!(run(with, &decode(1, 1000)).notes, [format!("`{with}` changes nothing here")]);
    }
    // Experts are no neurons that are chosen one by one
    let cold = "contextual-sparsity:active=0.2,parts=experts,hot=0.4,hits=0.8,processor=xeon-8592";
    let notes = run_moe(cold, &decode(1, 1000)).notes;
    assert!(notes.contains(&format!("`{cold}` changes nothing here")), "{notes:?}");
    for with in
        ["offload:what=kv", "prune:layers=0.5", "low-rank:keep=1", "paging", "pim", "afd", "kv-quant:bits=8"]
    {
        let notes = run(with, &decode(1, 1000)).notes;
        assert!(notes.iter().all(|note| !note.contains("changes nothing")), "{notes:?}");
    }
}

#[test]
fn what_lies_between_two_matrices_on_the_host_stays_there() {
    for share in ["1", "0.25"] {
        let step = run(&format!("hybrid:processor=xeon-8592,ops=ffn,share={share}"), &decode(10, 1000));
        // 10 states of 1000 numbers there and 10 sums back, in each of 4 layers: not the 8000 of gate and up
        is(op(&step, "to_host[gate_up_proj]").work.link_bytes, 4.0 * 10.0 * 2000.0);
        is(op(&step, "to_host[down_proj]").work.link_bytes, 4.0 * 10.0 * 2000.0);
    }
}

#[test]
fn the_host_converts_its_share_of_the_weights_and_gets_its_share_of_the_keys() {
    let step = run("weight-quant:bits=4 + hybrid:processor=xeon-8592,ops=ffn,share=0.25", &decode(1, 1000));
    is(op(&step, "host[gate_up_proj]").work.vector_flops, 0.25 * 32e6);
    is(op(&step, "gate_up_proj").work.vector_flops, 0.75 * 32e6);
    // A prompt of 1000 tokens leaves half of its keys with the host: 800 bytes in each of 4 layers
    let step = run("hybrid:processor=xeon-8592,share=0.5", &prefill(1, 1000));
    is(op(&step, "to_host[attention]").work.link_bytes, 0.5 * 4.0 * 800e3);
}

#[test]
fn both_sides_of_a_matrix_take_all_of_its_activations() {
    // A quarter of the columns with the host: 4 layers of a fourth of the weights, inputs and outputs of every token
    let (plain, step) =
        (run("none", &decode(8, 1000)), run("hybrid:processor=grace,ops=ffn,share=0.25", &decode(8, 1000)));
    for name in ["gate_up_proj", "down_proj"] {
        let whole = &op(&plain, name).work;
        let (host, own) = (&op(&step, &format!("host[{name}]")).work, &op(&step, name).work);
        is(host.weight_bytes, 0.25 * whole.weight_bytes);
        is(own.weight_bytes, 0.75 * whole.weight_bytes);
        is(host.flops + own.flops, whole.flops);
        is(host.activation_bytes, whole.activation_bytes);
        is(own.activation_bytes, whole.activation_bytes);
    }
}
