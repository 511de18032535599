//! What is refused, with what must hold and what to do.

use roofline_core::technique::{Said, Technique};

use super::toy::*;

#[track_caller]
fn says(with: &str, message: &str, hint: &str) {
    let error = refused(with);
    assert_eq!(error.to_string(), message);
    assert!(error.hint().contains(hint), "{}", error.hint());
}

#[test]
fn an_unknown_technique_names_the_nearest() {
    says("weight-quand:bits=4", "no technique is called `weight-quand`", "weight-quant");
    says("speculate:gamma=3", "no technique is called `speculate`", "spec");
}

#[test]
fn an_unknown_setting_names_the_nearest() {
    says("spec:gama=3", "techniques.spec must be given settings it has: gama", "nearest: gamma");
    says("kv-quant:bytes=4", "techniques.kv-quant must be given settings it has: bytes", "bits");
}

#[test]
fn what_is_no_setting_is_refused() {
    says("kv-quant:4", "techniques must read `name:key=value,key=value`: `kv-quant:4`", "has no `=`");
    says(":bits=4", "techniques must begin with a technique's name: `:bits=4`", "");
    says("kv-quant:bits=4,bits=8", "kv-quant:bits must be given once: 8", "");
}

#[test]
fn settings_in_files_are_judged_by_who_reads_them() {
    use roofline_core::technique::mistakes;
    assert!(mistakes(&["spec:gamma=2,accept=@rates.csv + kv-quant:bits=4"]).is_empty());
    let found = mistakes(&["spec:gamma=2,accept=@rates.csv + kv-quant:bits=9", ""]);
    let places: Vec<(usize, usize, &str)> =
        found.iter().map(|one| (one.text, one.part, one.key.as_str())).collect();
    assert_eq!(places, [(0, 1, "bits"), (1, 0, "")]);
}

#[test]
fn nothing_is_no_technique() {
    for with in ["", "  ", "kv-quant:bits=4 + ", "+"] {
        let error = refused(with);
        let first = error.to_string().lines().next().unwrap_or_default().to_string();
        assert!(first.contains("techniques"), "{with:?}: {error}");
        assert!(error.to_string().contains("must begin with a technique's name: ``"), "{with:?}: {error}");
    }
    assert!(techniques("none").is_empty());
    assert!(Technique::parse_all::<&str>(&[]).unwrap().is_empty());
}

#[test]
fn writing_order_is_forgotten() {
    let of = |with: &str| Technique::canonical(&[with]).unwrap();
    assert_eq!(of("kv-quant:bits=4+weight-quant:bits=8"), of("weight-quant:bits=8 + kv-quant:bits=4"));
    assert_eq!(of("kv-quant:bits=4+weight-quant:bits=8"), "weight-quant:bits=8+kv-quant:bits=4");
    assert_eq!(
        of("weight-quant:bits=8,parts=ffn+wq:part=attention,bits=4"),
        "weight-quant:bits=4,parts=attention+weight-quant:bits=8,parts=ffn"
    );
    assert_eq!((of("none"), of("none + none")), ("none".to_string(), "none".to_string()));
}

#[test]
fn parts_that_overlap_are_decided_once() {
    let overlap = |with: &str| {
        let error = refused(with);
        assert!(error.hint().contains("parts=attention"), "{with}: {}", error.hint());
        error.to_string()
    };
    assert_eq!(
        overlap("weight-quant:bits=4,parts=ffn + weight-quant:bits=8"),
        "techniques must not be combined with `weight-quant:bits=4,parts=ffn`: both decide how weights are stored: \
         `weight-quant:bits=8`"
    );
    for with in [
        "weight-quant:bits=4,parts=ffn + weight-quant:bits=8,parts=experts",
        "activation-quant:format=fp8,parts=all + activation-quant:format=int8,parts=attention",
        "n-m:n=2,m=4,parts=ffn + sparsity:zeros=0.5,parts=experts",
    ] {
        overlap(with);
    }
    for with in [
        "weight-quant:bits=4,parts=attention + weight-quant:bits=8,parts=experts",
        "n-m:n=2,m=4,parts=ffn + low-rank:keep=0.5,parts=attention",
        "contextual-sparsity:active=0.5,parts=ffn + low-rank:keep=0.5,parts=attention",
        "contextual-sparsity:active=0.5,parts=ffn + contextual-sparsity:active=0.2,parts=attention",
    ] {
        assert!(deployment(toy(), device()).with(&techniques(with)).is_ok(), "{with}");
    }
}

#[test]
fn impossible_values_are_refused() {
    for (with, message) in [
        ("spec:gamma=2,accept=0.5,window=5", "spec:window must be left out but with method=lookahead: 5"),
        (
            "spec:method=lookahead,gamma=2,accept=0.5,tree=2/2",
            "spec:tree must be left out but with another method than lookahead: 2/2",
        ),
        (
            "spec:method=lookahead,gamma=2,accept=0.5,window=65536",
            "spec:window must have at most 65,536 tokens: 65536",
        ),
        (
            "parallel-decoding:width=2,tokens=1,serial=0.5",
            "parallel-decoding:serial must be left out but with method=skeleton and no tokens: 0.5",
        ),
        (
            "pim:memory=added,route=faster",
            "pim:route must be left out but with memory=own: what lies in added memory is run there: faster",
        ),
        ("weight-quant:bits=0", "weight-quant:bits must be a number from 1 to 8, or 16: 0"),
        ("weight-quant", "weight-quant:bits must be given: absent"),
        ("weight-quant:bits=4,format=fp8", "weight-quant:format must not be given beside bits: fp8"),
        (
            "weight-quant:format=fp64",
            "weight-quant:format must be a format of at most 8 bits, bf16 or fp16: fp64",
        ),
        (
            "weight-quant:format=nvfp4,group=64",
            "weight-quant:group must be left out with format=nvfp4, which has groups of 16: 64",
        ),
        ("weight-quant:bits=16,outliers=0.1", "weight-quant:outliers must be 0 for 16-bit weights: 0.1"),
        ("weight-quant:bits=4,outliers=2", "weight-quant:outliers must be a number from 0 to 1: 2"),
        (
            "weight-quant:bits=4,dequant=never",
            "weight-quant:dequant must be one of fused, serial, kernel, off: never",
        ),
        (
            "activation-quant:format=fp3",
            "activation-quant:format must be one of int8, int4, fp8, fp6, fp4, bf16: fp3",
        ),
        ("activation-quant", "activation-quant:format must be given: absent"),
        ("n-m:n=5,m=4", "n-m:n must be at most m = 4: 5"),
        ("n-m:n=0,m=4", "n-m:n must be a whole number from 1 to 65536: 0"),
        ("sparsity:zeros=1.5", "sparsity:zeros must be a number from 0 to 1: 1.5"),
        ("low-rank:rank=1001", "low-rank:rank must be at most 1000, the smaller side of qkv_proj: 1001"),
        ("low-rank:rank=10,keep=0.5", "low-rank:keep must not be given beside rank: 0.5"),
        ("spec:gamma=3,accept=1.2", "spec:accept must be numbers from 0 to 1 separated by slashes: 1.2"),
        ("spec:gamma=3", "spec:accept must be given: absent"),
        (
            "spec:gamma=1,accept=0.5/0.4",
            "spec:accept must have at most one chance for each of the 1 drafts: 0.5/0.4",
        ),
        ("spec:gamma=2,accept=0.5,recorded=1/2", "spec:recorded must not be given beside accept: 1/2"),
        ("spec:gamma=2,accept=0.5,tree=2", "spec:tree must have one number for each of the 2 depths: 2"),
        (
            "spec:gamma=4,accept=0.5,tree=99/99/99/99",
            "spec:tree must have at most 65,536 tokens: 99/99/99/99",
        ),
        ("spec:method=draft-model,gamma=2,accept=0.5", "spec:draft must be given for draft-model: absent"),
        (
            "spec:gamma=2,accept=0.5,draft=llama-3.2-1b",
            "spec:draft must be left out but for method=draft-model: llama-3.2-1b",
        ),
        (
            "spec:method=oracle,gamma=2,accept=0.5",
            "spec:method must be one of ngram, draft-model, medusa, eagle, mtp, lookahead, dflash: oracle",
        ),
        (
            "spec:method=mtp,gamma=1,accept=0.5",
            "spec:method must be one that `toy` has: it ships no multi-token-prediction layer: mtp",
        ),
        ("parallel-decoding:width=8", "parallel-decoding:tokens must be given: absent"),
        ("parallel-decoding:width=2,tokens=3", "parallel-decoding:tokens must be a number from 1 to 2: 3"),
        ("kv-evict:ratio=0", "kv-evict:ratio must be above 0 and at most 1: 0"),
        ("kv-evict:ratio=0.5,budget=9", "kv-evict:ratio must be given alone: ratio, budget or window: 0.5"),
        ("kv-evict:budget=1.5", "kv-evict:budget must be whole numbers of tokens: 1.5"),
        (
            "kv-evict:budget=1/2/3/4/5/6/7/8",
            "kv-evict:budget must be at most 7 different budgets beside the model's own spans: 1/2/3/4/5/6/7/8",
        ),
        ("early-exit:at=0.5/0.3,share=0.1/0.1", "early-exit:at must ascend: 0.5/0.3"),
        (
            "early-exit:at=0.5/0.6,share=0.1",
            "early-exit:share must have one number for each of the 2 depths: 0.1",
        ),
        ("early-exit:at=0.5/0.6,share=0.7/0.7", "early-exit:share must add up to at most 1: 0.7/0.7"),
        ("prune:heads=0.3", "prune:heads must leave a whole number of the 2 KV heads: 0.3"),
        ("prune:ffn=0", "prune:ffn must be above 0 and at most 1: 0"),
        ("experts:alpha=1", "experts must be used on a model with experts: toy"),
        ("offload:share=1.5", "offload:share must be a number from 0 to 1: 1.5"),
        ("paging:block=0", "paging:block must be a whole number of at least 1: 0"),
        ("paging:block=16,contiguous=99", "paging:contiguous must not be given beside block: 99"),
        (
            "prefix-sharing:tokens=2000",
            "prefix-sharing:tokens must be at most the 999 tokens of a sequence: 2000",
        ),
        (
            "prefix-sharing:tokens=20,groups=2",
            "prefix-sharing:groups must be at most the 1 sequences of a step: 2",
        ),
        (
            "spec:method=draft-model,draft=bert-base,gamma=1,accept=0.5",
            "spec:draft must be a model that generates tokens: bert-base-uncased",
        ),
        (
            "attention:kind=linear,window=9",
            "attention:window must be left out but with kind=window or kind=nsa: 9",
        ),
        (
            "attention:kind=full,rule=lightning",
            "attention:rule must be left out but with kind=linear: lightning",
        ),
        ("attention:kind=window,top-k=9", "attention:top-k must be left out but with kind=sparse: 9"),
        ("attention:kind=sparse,stride=9", "attention:stride must be left out but with kind=nsa: 9"),
        ("attention:kind=nsa,sinks=9", "attention:sinks must be left out but with kind=window: 9"),
        ("kv-evict:ratio=0.5,sinks=4", "kv-evict:sinks must be left out but with window: 4"),
        ("kv-evict:window=9,score=yes", "kv-evict:score must be left out but with ratio or budget: yes"),
        (
            "parallel-decoding:width=2,tokens=1,ngram=4",
            "parallel-decoding:ngram must be left out but with method=lookahead: 4",
        ),
        ("weight-quant:bits=4,zero=4", "weight-quant:zero must be left out but with a group: 4"),
        (
            "weight-quant:bits=4,dequant=off,ops=3",
            "weight-quant:ops must be left out but with dequantization: 3",
        ),
        ("sparsity:format=bitmap,index=8", "sparsity:index must be left out but with format=indexed: 8"),
        (
            "contextual-sparsity:processor=grace",
            "contextual-sparsity:processor must be left out but with hot below 1: grace",
        ),
        (
            "contextual-sparsity:active=0.5,predictor=1001",
            "contextual-sparsity:predictor must be at most 1000, the numbers of a token's state: 1001",
        ),
        (
            "prefix-sharing:tokens=0 + lora:rank=8,adapters=64,resident=0",
            "lora:resident must be a whole number from 1 to 4294967296: 0",
        ),
        ("lora:adapters=3", "lora:adapters must be left out but with a rank: 3"),
        ("lora:rank=8,adapters=3,resident=4", "lora:resident must be at most the 3 adapters: 4"),
        ("lora:rank=1001", "lora:rank must be at most 1000, the smaller side of qkv_proj: 1001"),
        ("spatial:chips=2,gb-s=0", "spatial:gb-s must be a number of at least 0.000000001: 0"),
        ("flash:block-q=64", "flash:block-k must be given together with block-q: absent"),
        ("flash:attention=off,splits=4", "flash:attention must be on for tiles and splits: off"),
        ("flash:attention=maybe", "flash:attention must be one of yes, no, on, off, true, false: maybe"),
        ("attention:kind=spiral", "attention:kind must be one of full, window, sparse, nsa, linear: spiral"),
        ("pim:device=h100-sxm", "pim:device must name memory that computes: h100-sxm"),
        ("hybrid:ops=attention", "hybrid:processor must be given: absent"),
        (
            "contextual-sparsity:active=0.2,hot=0.5,hits=0.8",
            "contextual-sparsity:processor must be given with hot < 1: absent",
        ),
        (
            "contextual-sparsity:active=0.2,hits=0.8",
            "contextual-sparsity:hits must be 1 where all neurons are hot: 0.8",
        ),
        ("distill", "distill:student must be given: absent"),
        ("distill:student=llama-9", "no model is called `llama-9`"),
        (
            "parallel:tp=3",
            "layout.tp must divide the 10 attention heads of `toy`, shared out over its 2 KV heads: 3",
        ),
    ] {
        assert_eq!(refused(with).to_string(), message, "{with}");
    }
    let error = ask(deployment(toy_moe(), device()), "experts:loads=1/2", &decode(1, 1000)).unwrap_err();
    assert_eq!(error.to_string(), "experts:loads must have one number for each of the 8 experts, not 2: 1/2");
    let error = ask(deployment(toy_moe(), device()), "experts:top-k=9", &decode(1, 1000)).unwrap_err();
    assert_eq!(error.to_string(), "experts:top-k must be at most the 8 experts of `toy-moe`: 9");
}

#[test]
fn several_mistakes_are_told_at_once() {
    let error = Technique::parse_all(&["kv-quant:bits=9", "n-m:n=5,m=4"]).unwrap_err().to_string();
    assert!(error.contains("kv-quant:bits") && error.contains("n-m:n"), "{error}");
}

#[test]
fn two_that_contradict_say_why() {
    for (with, message) in [
        (
            "weight-quant:bits=4 + weight-quant:bits=8",
            "techniques must not be combined with `weight-quant:bits=4`: both decide how weights are stored: `weight-quant:bits=8`",
        ),
        (
            "n-m:n=2,m=4 + sparsity:zeros=0.5",
            "techniques must not be combined with `sparsity:zeros=0.5`: both decide which weights are left out: `n-m:n=2,m=4`",
        ),
        (
            "spec:gamma=2,accept=0.5 + parallel-decoding:width=2,tokens=1.5",
            "techniques must not be combined with `spec:gamma=2,accept=0.5`: both decide how many tokens a step brings: \
             `parallel-decoding:width=2,tokens=1.5`",
        ),
        (
            "early-exit:share=0.5 + spec:gamma=2,accept=0.5",
            "techniques must not be combined with `early-exit:share=0.5`: drafts are verified by the whole depth, which \
             early exit leaves: `spec:gamma=2,accept=0.5`",
        ),
        (
            "offload:what=weights,share=0.5 + offload:what=experts,share=0.5",
            "techniques must not be combined with `offload:what=weights,share=0.5`: both decide where the weights lie: \
             `offload:what=experts,share=0.5`",
        ),
        (
            "offload:what=kv,share=0.5 + offload:what=kv,share=0.2",
            "techniques must not be combined with `offload:what=kv,share=0.5`: both decide where the KV cache lies: \
             `offload:what=kv,share=0.2`",
        ),
        (
            "offload:what=kv,share=0.5 + hybrid:processor=xeon-8592",
            "techniques must not be combined with `hybrid:processor=xeon-8592`: both decide where the KV cache lies: \
             `offload:what=kv,share=0.5`",
        ),
        (
            "hybrid:processor=xeon-8592,ops=ffn + hybrid:processor=xeon-8592,ops=attention",
            "techniques must not be combined with `hybrid:processor=xeon-8592,ops=ffn`: both decide what the host's \
             processor computes: `hybrid:processor=xeon-8592,ops=attention`",
        ),
        (
            "offload:what=weights,share=0.5 + offload:what=kv,share=0.5,overlap=0",
            "offload:overlap must be the same for all that comes over one link, 0 for the rest: 1",
        ),
        (
            "pim:memory=added + offload:what=kv,share=0.5",
            "techniques must not be combined with `pim:memory=added`: both decide where the KV cache lies: \
             `offload:what=kv,share=0.5`",
        ),
        (
            "afd + pim:memory=added",
            "techniques must not be combined with `afd`: both decide what memory beside the device's holds: \
             `pim:memory=added`",
        ),
        (
            "afd + hybrid:processor=xeon-8592,ops=ffn",
            "techniques must not be combined with `afd`: both decide where the FFN runs: \
             `hybrid:processor=xeon-8592,ops=ffn`",
        ),
        (
            "afd + early-exit:share=0.5",
            "techniques must not be combined with `early-exit:share=0.5`: tokens that leave empty the micro-batches, and how \
             they are filled again is not known: `afd`",
        ),
        (
            "spatial:chips=2 + spatial:chips=4",
            "techniques must not be combined with `spatial:chips=2`: both decide how many chips are one machine: \
             `spatial:chips=4`",
        ),
        (
            "prune:ffn=0.5 + prune:heads=0.5",
            "techniques must not be combined with `prune:ffn=0.5`: both decide how much of the layers is kept: \
             `prune:heads=0.5`",
        ),
        (
            "context-parallel:ranks=2 + context-parallel:ranks=4",
            "techniques must not be combined with `context-parallel:ranks=2`: both decide over how many devices contexts \
             are cut: `context-parallel:ranks=4`",
        ),
        (
            "paging:contiguous=4096 + prefix-sharing:tokens=10",
            "techniques must not be combined with `paging:contiguous=4096`: both decide which part of the KV cache \
             sequences share: `prefix-sharing:tokens=10`",
        ),
        (
            "prefix-sharing:tokens=10 + kv-evict:ratio=0.5",
            "techniques must not be combined with `kv-evict:ratio=0.5`: what is evicted differs from sequence to sequence, \
             so a prefix cannot be stored once: `prefix-sharing:tokens=10`",
        ),
    ] {
        let error = refused(with);
        assert_eq!(error.to_string(), message);
        assert!(!error.hint().is_empty());
    }
}

#[test]
fn a_flag_and_a_technique_must_not_say_the_same_thing() {
    let said = |said: Said, with: &str| said.once(&techniques(with)).unwrap_err().to_string();
    let quantization = Some("fp8".to_string());
    assert_eq!(
        said(Said { quantization, ..Said::default() }, "weight-quant:bits=4"),
        "quantization must not be given beside `weight-quant:bits=4`, which says the same thing: fp8"
    );
    let kv_cache_dtype = Some("fp8".to_string());
    assert_eq!(
        said(Said { kv_cache_dtype, ..Said::default() }, "kv-quant:bits=4"),
        "kv_cache_dtype must not be given beside `kv-quant:bits=4`, which says the same thing: fp8"
    );
    let spec_method = Some("eagle".to_string());
    assert_eq!(
        said(Said { spec_method, ..Said::default() }, "spec:gamma=1,accept=0.5"),
        "spec_method must not be given beside `spec:gamma=1,accept=0.5`, which says the same thing: eagle"
    );
    let auto = Said { quantization: Some("auto".to_string()), overlap: Some(0.0), ..Said::default() };
    assert!(auto.once(&techniques("weight-quant:bits=4 + overlap:share=1")).is_ok());
}

#[test]
fn what_cannot_be_served_says_why() {
    let served =
        |with: &str| deployment(toy(), device()).with(&techniques(with)).unwrap().techniques.served();
    let error = served("prefix-sharing:tokens=10,groups=3").unwrap_err().to_string();
    assert!(error.contains("how many of several prefixes the sequences of a step have differs"), "{error}");
    for with in [
        "weight-quant:bits=4 + kv-quant:bits=4",
        "prefix-sharing:tokens=10",
        "prefix-sharing:tokens=10,groups=3,cascade=no",
        "paging:block=32",
        "paging:contiguous=4096",
        "spec:gamma=2,tree=3/2,accept=0.5",
        "parallel-decoding:method=skeleton,width=4",
    ] {
        assert!(served(with).is_ok(), "{with}");
    }
}

fn told(texts: &[&str]) -> Vec<(usize, usize, String, String)> {
    let found = roofline_core::technique::mistakes(texts).into_iter();
    found.map(|one| (one.text, one.part, one.key, one.error.to_string())).collect()
}

#[test]
fn all_mistakes_of_techniques_are_found_each_at_its_setting() {
    let found = told(&[
        "kv-quant:bits=4",
        "weight-quant:bits=9,group=many,scales=16",
        "none + spec:method=eagle,gama=3,accept=1.5 + low-rnk",
        "kv-quant:bits=3",
    ]);
    let places: Vec<(usize, usize, &str)> =
        found.iter().map(|(text, part, key, _)| (*text, *part, key.as_str())).collect();
    let expected = [
        (1, 0, "bits"),
        (1, 0, "group"),
        (1, 0, "scales"),
        (2, 0, "gama"),
        (2, 0, "accept"),
        (2, 1, ""),
        (3, 0, ""),
    ];
    assert_eq!(places, expected, "{found:?}");
    assert_eq!(found[0].3, "weight-quant:bits must be a number from 1 to 8, or 16: 9");
    assert_eq!(found[2].3, "techniques.weight-quant must be given settings it has: scales");
    assert_eq!(found[5].3, "no technique is called `low-rnk`");
    assert!(found[6].3.contains("must not be combined with `kv-quant:bits=4`"), "{found:?}");
}

#[test]
fn what_only_follows_from_a_mistake_is_not_told() {
    // Without its method the draft model would be one too many.
    assert_eq!(told(&["spec:method=draft-modl,draft=llama-3.2-1b,gamma=2,accept=0.5"]).len(), 1);
    assert_eq!(told(&["parallel-decoding:method=lookahed,ngram=5,width=4,tokens=2"]).len(), 1);
    // What is missing is told once, by its name.
    let found = told(&["spec:method=draft-model,gamma=2,accept=0.5"]);
    assert_eq!((found.len(), found[0].2.as_str()), (1, "draft"));
    let unknown = told(&["hybrid:processor=xeon-1,share=0.5"]);
    assert_eq!((unknown.len(), unknown[0].2.as_str()), (1, "processor"));
    let twice = told(&["kv-quant:bits=4,bits=8"]);
    assert_eq!(twice[0].3, "kv-quant:bits must be given once: 8");
}

#[test]
fn what_can_be_read_has_no_mistakes() {
    assert!(told(&["kv-quant:bits=4", "none", "weight-quant:bits=4 + spec:gamma=2,accept=0.5"]).is_empty());
}

#[test]
fn adapters_of_running_sequences_must_be_resident() {
    let ask =
        |batch| ask(deployment(toy(), device()), "lora:rank=8,adapters=64,resident=4", &decode(batch, 1000));
    assert!(ask(4).is_ok());
    // 64·(1 − (63/64)^8) = 7.57
    let error = ask(8).unwrap_err();
    assert_eq!(
        error.to_string(),
        "lora:resident must be at least the 7.6 adapters that 8 sequences draw at once: 4"
    );
    assert_eq!(error.hint(), "adapters of running sequences lie in the device's memory");
}
