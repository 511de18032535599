//! What drafts and techniques cost an engine and keep in its cache.

use super::{deployment, drafting, refused, seconds, server, techniques, trace, with};
use roofline_core::catalog;
use roofline_core::groups::cut;
use roofline_sim::assemble::Assembled;
use roofline_sim::knobs::Knobs;
use roofline_sim::request::Segments;
use roofline_sim::scheduler::speculation::DraftMethod;
use roofline_sim::serve::Server;
use roofline_sim::techniques::prefixed;
use roofline_sim::trace::Trace;

#[test]
fn drafts_take_a_pass_each_of_what_makes_them() {
    let plain = seconds(&server("llama-3.1-8b", "vllm", &Knobs::default()).cost, 8);
    let extra = |method, tokens, model: Option<&str>| {
        let spec_model = model.map(|name| catalog::models::model(name).unwrap());
        let knobs = Knobs { speculation: Some(drafting(method, tokens)), spec_model, ..Knobs::default() };
        seconds(&server("llama-3.1-8b", "vllm", &knobs).cost, 8) - plain
    };
    assert_eq!(extra(DraftMethod::Ngram, 3, None), 0.0);
    assert_eq!(extra(DraftMethod::DraftModel, 3, None), 0.0);
    let (one, three) = (extra(DraftMethod::Eagle, 1, None), extra(DraftMethod::Eagle, 3, None));
    // A layer of 32, the head and a projection: 0.22 + 0.53 + 0.03 billion weights of 8.03 billion.
    assert!((0.08..0.12).contains(&(one / plain)), "{}", one / plain);
    assert!((2.9..3.1).contains(&(three / one)), "{}", three / one);
    let small = extra(DraftMethod::DraftModel, 1, Some("llama-3.2-1b"));
    assert!(small > one && small < 0.3 * plain, "{small} {plain}");
}

#[test]
fn a_block_of_drafts_takes_one_pass_of_five_layers() {
    let plain = seconds(&server("llama-3.1-8b", "vllm", &Knobs::default()).cost, 8);
    let extra = |method, tokens| {
        let knobs = Knobs { speculation: Some(drafting(method, tokens)), ..Knobs::default() };
        seconds(&server("llama-3.1-8b", "vllm", &knobs).cost, 8) - plain
    };
    let (eight, sixteen) = (extra(DraftMethod::Dflash, 8), extra(DraftMethod::Dflash, 16));
    // Five layers of 32, the head and a projection of five states: 1.09 + 0.53 + 0.08 of 8.03 billion weights.
    assert!((0.17..0.26).contains(&(eight / plain)), "{}", eight / plain);
    assert!(sixteen < 1.1 * eight, "{sixteen} {eight}");
}

#[test]
fn prompts_hash_as_far_ahead_as_a_model_has_modules_to_draft() {
    let ahead = |model: &str| {
        let knobs = Knobs { speculation: Some(drafting(DraftMethod::Mtp, 3)), ..Knobs::default() };
        let server = Server::new(deployment(model, 8), "vllm", &knobs, &trace(1000)).unwrap();
        server.engine.speculation.unwrap().hash_lookahead()
    };
    assert_eq!((ahead("glm-4.5-air"), ahead("minimax-m2")), (1, 3));
}

#[test]
fn memory_is_sized_for_the_step_that_the_engine_will_run() {
    let blocks = |knobs: Knobs| {
        let engine = server("llama-3.1-8b", "vllm", &knobs).engine;
        (engine.max_num_batched_tokens, engine.num_gpu_blocks)
    };
    let whole = Knobs { enable_chunked_prefill: Some(false), ..Knobs::default() };
    let (tokens, held) = blocks(whole.clone());
    assert_eq!(tokens, 131_072);
    assert_eq!(blocks(Knobs { max_num_batched_tokens: Some(tokens), ..whole }).1, held);
    let few = Knobs { max_num_seqs: Some(4), max_model_len: Some(100), ..Knobs::default() };
    let (tokens, held) = blocks(few.clone());
    assert_eq!(tokens, 400);
    assert_eq!(blocks(Knobs { max_num_batched_tokens: Some(tokens), ..few }).1, held);
}

#[test]
fn flags_and_technique_cost_and_hold_alike() {
    for (method, drafts, name) in [
        (DraftMethod::Eagle, 3, "eagle"),
        (DraftMethod::Ngram, 2, "ngram"),
        (DraftMethod::DraftModel, 2, "draft-model"),
        (DraftMethod::Dflash, 7, "dflash"),
    ] {
        let draft = (method == DraftMethod::DraftModel).then_some("llama-3.2-1b");
        let spec_model = draft.map(|name| catalog::models::model(name).unwrap());
        let knobs = Knobs { speculation: Some(drafting(method, drafts)), spec_model, ..Knobs::default() };
        let flags = server("llama-3.1-8b", "vllm", &knobs);
        let draft = draft.map_or(String::new(), |name| format!(",draft={name}"));
        let technique = with("llama-3.1-8b", &format!("spec:method={name},gamma={drafts},accept=0.7{draft}"));
        assert_eq!(seconds(&flags.cost, 8), seconds(&technique.cost, 8), "{name}");
        assert_eq!(flags.engine.num_gpu_blocks, technique.engine.num_gpu_blocks, "{name}");
        let tokens = |server: &Server| server.engine.speculation.as_ref().map(|drafts| drafts.tokens);
        assert_eq!(tokens(&flags), tokens(&technique));
    }
    let error = refused(
        "spec:gamma=2,accept=0.5",
        &Knobs { speculation: Some(drafting(DraftMethod::Eagle, 2)), ..Knobs::default() },
    );
    assert_eq!(error, "spec_method must not be given beside a technique that drafts: ngram");
}

#[test]
fn a_tree_is_verified_whole_and_accepted_by_depth() {
    let speculation = with("llama-3.1-8b", "spec:gamma=2,tree=3/2,accept=0.5").engine.speculation.unwrap();
    assert_eq!(speculation.tokens, 9);
    let most = (0..500).map(|count| speculation.accepted(0, count, 9)).max();
    assert_eq!(most, Some(2));
    let mean = f64::from((0..4000).map(|count| speculation.accepted(0, count, 9)).sum::<u32>()) / 4000.0;
    // 0.875 at the first depth, 0.75 of those at the second
    assert!((mean - 1.531_25).abs() < 0.03, "{mean}");
}

#[test]
fn points_of_a_skeleton_are_all_kept_once_it_is_written() {
    let speculation = |with_serial: &str| {
        let text = format!("parallel-decoding:method=skeleton,width=5{with_serial}");
        with("llama-3.1-8b", &text).engine.speculation.unwrap()
    };
    let points = speculation(",serial=0");
    assert_eq!((points.tokens, points.accepted(3, 7, 4)), (4, 4));
    // A tenth of the answer before, token by token: 1/(0.1 + 0.9/5) = 3.57 tokens a step, so 2 and now and then 3 of 4
    let whole = speculation("");
    let brought: u32 = (0..1000).map(|verification| whole.accepted(3, verification, 4)).sum();
    assert!((f64::from(brought) / 1000.0 - 2.571).abs() < 0.05, "{brought}");
}

#[test]
fn pages_are_an_engines_blocks() {
    let paged = with("llama-3.1-8b", "paging:block=64").engine;
    let plain = server("llama-3.1-8b", "vllm", &Knobs::default()).engine;
    assert_eq!(paged.block_size, 64);
    let ratio = f64::from(plain.num_gpu_blocks) / f64::from(paged.num_gpu_blocks);
    assert!((ratio / 4.0 - 1.0).abs() < 0.001, "{ratio}");
    let knobs = Knobs { block_size: Some(32), ..Knobs::default() };
    assert_eq!(
        refused("paging:block=64", &knobs),
        "block_size must not be given beside `paging`, which has blocks of 64 tokens: 32"
    );
    let same = Knobs { block_size: Some(64), ..Knobs::default() };
    assert!(Server::new(techniques("llama-3.1-8b", "paging:block=64"), "vllm", &same, &trace(10)).is_ok());
}

#[test]
fn contiguous_caches_hold_a_longest_sequence_each() {
    let engine = with("llama-3.1-8b", "paging:contiguous=8192").engine;
    assert_eq!(
        (engine.block_size, engine.max_model_len, engine.enable_prefix_caching),
        (8192, Some(8192), false)
    );
    assert_eq!(engine.blocks_for(1), 1);
    assert_eq!(engine.blocks_for(8192), 1);
    let knobs = Knobs { max_model_len: Some(9000), ..Knobs::default() };
    assert_eq!(
        refused("paging:contiguous=8192", &knobs),
        "max_model_len must be at most the 8192 tokens reserved for a sequence: 9000"
    );
}

#[test]
fn requests_share_the_prefix_that_a_technique_says() {
    let server = with("llama-3.1-8b", "prefix-sharing:tokens=800,groups=2,cascade=no");
    let several = |prompts: &[u32]| {
        let count = prompts.len();
        Assembled::from(Trace {
            arrival_ns: vec![0; count],
            prompt_tokens: prompts.to_vec(),
            output_tokens: vec![10; count],
            ..Trace::default()
        })
    };
    let shared = prefixed(server.held, &server.engine, &several(&[900, 1000, 1100])).unwrap().unwrap();
    let hashes = shared.trace.hashes.clone().unwrap();
    assert_eq!((hashes.block_size, hashes.path(0).len()), (16, 50));
    assert_eq!(hashes.path(0), hashes.path(2));
    assert!(hashes.path(0).iter().all(|id| !hashes.path(1).contains(id)));
    // What requests tell themselves is taken at their word.
    assert_eq!(prefixed(server.held, &server.engine, &shared).unwrap(), None);
    let message = |with_technique: &str, requests: &Assembled| {
        let server = with("llama-3.1-8b", with_technique);
        prefixed(server.held, &server.engine, requests).unwrap_err().to_string()
    };
    assert_eq!(
        message("prefix-sharing:tokens=800", &shared),
        "prefix-sharing:tokens must be a prefix of which the requests have at most 1, as their hashes tell: 800"
    );
    assert_eq!(
        message("prefix-sharing:tokens=800", &several(&[900, 700])),
        "prefix-sharing:tokens must be at most the shortest prompt's 700 tokens: 800"
    );
    let knobs = Knobs { enable_prefix_caching: Some(false), ..Knobs::default() };
    let off = Server::new(techniques("llama-3.1-8b", "prefix-sharing:tokens=8"), "vllm", &knobs, &trace(10))
        .unwrap();
    assert_eq!(
        prefixed(off.held, &off.engine, &several(&[900])).unwrap_err().to_string(),
        "prefix-sharing:tokens must be used with an engine that keeps prefixes: 8"
    );
    let segments = Assembled { segments: Some(Segments::default()), ..several(&[900]) };
    assert_eq!(
        message("prefix-sharing:tokens=800", &segments),
        "prefix-sharing:tokens must be left out where prompts are told by segments: 800"
    );
}

#[test]
fn techniques_keep_the_groups_of_layers_that_differ() {
    let plain = server("gpt-oss-20b", "vllm", &Knobs::default()).engine;
    for with_technique in
        ["kv-quant:bits=8", "weight-quant:bits=8", "offload:what=kv,share=0.5", "kv-evict:ratio=0.5"]
    {
        let engine = with("gpt-oss-20b", with_technique).engine;
        if with_technique != "kv-evict:ratio=0.5" {
            assert_eq!(engine.groups, plain.groups, "{with_technique}");
        }
        let more = f64::from(engine.num_gpu_blocks) / f64::from(plain.num_gpu_blocks);
        // Half of the layers keep a window, of which nothing is evicted: a block is as long as theirs, and holds twice the
        // tokens of the others.
        let holds = match with_technique {
            "weight-quant:bits=8" => more < 1.01,
            "kv-evict:ratio=0.5" => (more - 1.0).abs() < 0.001 && engine.block_size == 2 * plain.block_size,
            _ => (more / 2.0 - 1.0).abs() < 0.001,
        };
        assert!(holds, "{with_technique}: {more}");
    }
    // An EAGLE layer joins those that keep everything: 13 of them and 12 with a window are alike enough for one size.
    let drafted =
        cut(&techniques("gpt-oss-20b", "spec:method=eagle,gamma=1,accept=0.5"), 16).unwrap().unwrap();
    assert_eq!(drafted.groups, plain.groups);
    let one = cut(&deployment("gpt-oss-20b", 1), 16).unwrap().unwrap();
    assert!((drafted.block_bytes / one.block_bytes - 13.0 / 12.0).abs() < 1e-9);
}

#[test]
fn budgets_of_layers_are_windows_of_blocks() {
    let cut = cut(&techniques("llama-3.1-8b", "kv-evict:budget=512/2048"), 16).unwrap().unwrap();
    let windows: Vec<(u32, u32)> =
        cut.groups.windows.iter().filter(|w| w.groups > 0).map(|w| (w.groups, w.tokens)).collect();
    // 16 layers keep 512 tokens (the main group), 16 keep 2048
    assert_eq!((cut.groups.main_window, windows), (512, vec![(1, 2048)]));
    assert_eq!(cut.block_bytes, 16.0 * 16.0 * 4096.0);
}

#[test]
fn a_cache_that_lies_elsewhere_limits_nothing() {
    let engine = with("llama-3.1-8b", "offload:what=kv,share=1").engine;
    // Every sequence may be as long as the model allows
    assert_eq!(engine.num_gpu_blocks, 1 + 131_072 / 16 * engine.max_num_seqs);
}

#[test]
fn a_draft_model_goes_with_its_method_only() {
    let model = catalog::models::model("llama-3.2-1b").unwrap();
    let knobs = Knobs {
        speculation: Some(drafting(DraftMethod::Eagle, 2)),
        spec_model: Some(model),
        ..Knobs::default()
    };
    let error = Server::new(deployment("llama-3.1-8b", 1), "vllm", &knobs, &trace(10)).unwrap_err();
    assert_eq!(error.to_string(), "spec_model must be given with spec_method draft-model only: given");
}
