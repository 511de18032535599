//! Random settings of every kind of technique.

use proptest::prelude::*;
use proptest::sample::select;
use roofline_core::technique::KINDS;

type Text = BoxedStrategy<String>;

/// A share of two digits, as one writes it.
fn share(least: u32) -> impl Strategy<Value = String> {
    (least..=100).prop_map(|percent| format!("{}", f64::from(percent) / 100.0))
}

fn parts() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(""), 1 => Just(",parts=attention"), 1 => Just(",parts=ffn"), 1 => Just(",parts=experts")]
}

/// How weights or a cache are stored.
fn stored() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec!["16", "8", "6", "4", "3", "2", "1"]).prop_map(|bits| format!("bits={bits}")),
        (select(vec!["8", "4", "2"]), select(vec![32, 64, 128]), 0..=16u32)
            .prop_map(|(bits, group, zero)| format!("bits={bits},group={group},scale=16,zero={zero}")),
        select(vec!["fp8", "nvfp4", "mxfp4", "mxfp8", "int8"]).prop_map(|format| format!("format={format}")),
    ]
}

/// Drafts, most often of a chain.
fn drafts() -> Text {
    let methods = select(vec!["ngram", "eagle", "medusa", "dflash", "draft-model,draft=llama-3.2-1b"]);
    let chain = (methods, 0..6u32, share(0))
        .prop_map(|(method, gamma, accept)| format!("spec:method={method},gamma={gamma},accept={accept}"));
    let tree = (select(vec!["2", "2/2", "3/2/1"]), share(0)).prop_map(|(tree, accept)| {
        let gamma = tree.split('/').count();
        format!("spec:method=eagle,gamma={gamma},accept={accept},tree={tree}")
    });
    let ahead = (1..4u32, share(0), 1..8u32).prop_map(|(gamma, accept, window)| {
        format!("spec:method=lookahead,gamma={gamma},accept={accept},window={window}")
    });
    prop_oneof![4 => chain, 1 => tree, 1 => ahead].boxed()
}

fn attention() -> Text {
    prop_oneof![
        Just("attention:kind=full".to_string()),
        (1..6000u64, 0..9u64, share(0)).prop_map(|(window, sinks, layers)| {
            format!("attention:kind=window,layers={layers},window={window},sinks={sinks}")
        }),
        (1..4000u64, 0..64u64, share(30)).prop_map(|(top_k, heads, layers)| {
            format!("attention:kind=sparse,layers={layers},top-k={top_k},index-heads={heads}")
        }),
        (1..30u64, 1..64u64)
            .prop_map(|(blocks, stride)| format!("attention:kind=nsa,blocks={blocks},stride={stride}")),
        (select(vec!["lightning", "gated-delta"]), share(30))
            .prop_map(|(rule, layers)| format!("attention:kind=linear,layers={layers},rule={rule}")),
    ]
    .boxed()
}

fn exits() -> Text {
    let kv = select(vec!["", ",kv=skip", ",head=lm"]);
    (1..50u32, 51..=100u32, 0..=50u32, 0..=50u32, any::<bool>(), kv)
        .prop_map(|(first, second, some, more, twice, kv)| {
            let of = |percent: u32| f64::from(percent) / 100.0;
            let (first, second, some, more) = (of(first), of(second), of(some), of(more));
            let (at, leave) = if twice {
                (format!("{first}/{second}"), format!("{some}/{more}"))
            } else {
                (format!("{first}"), format!("{some}"))
            };
            format!("early-exit:at={at},share={leave}{kv}")
        })
        .boxed()
}

fn systems(kind: &str) -> Text {
    let processors = || select(vec!["xeon-8592", "epyc-9654", "grace"]);
    match kind {
        "parallel" => select(vec!["tp=1", "tp=2", "pp=2", "dp=2", "tp=2,pp=2", "tp=2,dp=2"])
            .prop_map(|degrees| format!("parallel:{degrees}"))
            .boxed(),
        "spatial" => {
            (1..9u32, 10..500u32).prop_map(|(chips, gb)| format!("spatial:chips={chips},gb-s={gb}")).boxed()
        }
        "context-parallel" => (1..9u32, select(vec!["ring", "ulysses"]))
            .prop_map(|(ranks, style)| format!("context-parallel:ranks={ranks},style={style}"))
            .boxed(),
        "afd" => (1..4u32, 1..4u32, 1..5u32)
            .prop_map(|(attention, ffn, pieces)| {
                format!("afd:attention={attention},ffn={ffn},micro-batches={pieces},gb-s=200")
            })
            .boxed(),
        "pim" => {
            let how = select(vec!["", ",route=always", ",memory=added"]);
            let what = select(vec!["attention", "gemm", "all"]);
            (select(vec!["hbm-pim", "gddr6-aim"]), 1..9u32, what, how)
                .prop_map(|(device, stacks, ops, how)| {
                    format!("pim:device={device},stacks={stacks},ops={ops}{how}")
                })
                .boxed()
        }
        "hybrid" => (processors(), select(vec!["attention", "ffn", "experts"]), share(0), share(0))
            .prop_map(|(name, ops, share, overlap)| {
                format!("hybrid:processor={name},ops={ops},share={share},overlap={overlap},gb-s=55")
            })
            .boxed(),
        _ => (select(vec!["weights", "experts", "kv"]), share(0), select(vec!["host", "ssd"]), share(0))
            .prop_map(|(what, share, to, overlap)| {
                format!("offload:what={what},share={share},to={to},overlap={overlap},gb-s=40")
            })
            .boxed(),
    }
}

fn of_cache(kind: &str) -> Text {
    match kind {
        "kv-quant" => stored().prop_map(|stored| format!("kv-quant:{stored}")).boxed(),
        "kv-evict" => prop_oneof![
            (share(1), any::<bool>()).prop_map(|(ratio, score)| format!(
                "kv-evict:ratio={ratio}{}",
                if score { ",score=yes" } else { "" }
            )),
            (1..6000u64, 1..6000u64).prop_map(|(one, other)| format!("kv-evict:budget={one}/{other}")),
            (1..6000u64, 0..9u64)
                .prop_map(|(window, sinks)| format!("kv-evict:window={window},sinks={sinks}")),
        ]
        .boxed(),
        "paging" => prop_oneof![
            (1..300u64).prop_map(|block| format!("paging:block={block}")),
            (1..9000u64).prop_map(|reserved| format!("paging:contiguous={reserved}")),
        ]
        .boxed(),
        _ => (0..300u64, any::<bool>())
            .prop_map(|(tokens, cascade)| {
                format!("prefix-sharing:tokens={tokens},cascade={}", if cascade { "yes" } else { "no" })
            })
            .boxed(),
    }
}

fn of_weights(kind: &str) -> Text {
    match kind {
        "weight-quant" => {
            let dequant = select(vec!["", ",dequant=serial,ops=3", ",dequant=kernel", ",dequant=off"]);
            (stored(), dequant, parts())
                .prop_map(|(stored, dequant, parts)| format!("weight-quant:{stored}{dequant}{parts}"))
                .boxed()
        }
        "activation-quant" => (select(vec!["int8", "fp8", "fp4", "fp6", "int4", "bf16"]), parts())
            .prop_map(|(format, parts)| format!("activation-quant:format={format}{parts}"))
            .boxed(),
        "low-rank" => prop_oneof![
            (share(1), parts()).prop_map(|(keep, parts)| format!("low-rank:keep={keep}{parts}")),
            (1..200u32).prop_map(|rank| format!("low-rank:rank={rank}")),
        ]
        .boxed(),
        "sparsity" => {
            let how = select(vec!["", ",index=8", ",format=bitmap", ",format=dense"]);
            (share(0), how, parts())
                .prop_map(|(zeros, how, parts)| format!("sparsity:zeros={zeros}{how}{parts}"))
                .boxed()
        }
        "n-m" => (1..17u32, 0..16u32, parts())
            .prop_map(|(n, more, parts)| format!("n-m:n={n},m={}{parts}", n + more))
            .boxed(),
        _ => (0..65u32, 1..50u32, parts())
            .prop_map(|(rank, adapters, parts)| match rank {
                0 => "lora:rank=0".to_string(),
                _ => format!("lora:rank={rank},adapters={adapters}{parts}"),
            })
            .boxed(),
    }
}

/// One of `kind`, with settings at random: some change nothing, some do not suit every deployment.
pub fn of_kind(kind: &str) -> Text {
    match kind {
        "distill" => select(vec!["llama-3.2-1b", "gemma-2-2b", "falcon-mamba-7b", "olmoe-1b-7b-0924"])
            .prop_map(|student| format!("distill:student={student}"))
            .boxed(),
        "prune" => (share(1), select(vec!["1", "0.5"]), share(20))
            .prop_map(|(ffn, heads, layers)| format!("prune:ffn={ffn},heads={heads},layers={layers}"))
            .boxed(),
        "attention" => attention(),
        "experts" => {
            let skew = (share(0), 0..5u32, select(vec!["dealt", "contiguous"])).prop_map(
                |(alpha, replicas, how)| format!("experts:alpha={alpha},replicas={replicas},placement={how}"),
            );
            prop_oneof![2 => skew, 1 => (1..8u32).prop_map(|top_k| format!("experts:top-k={top_k}"))].boxed()
        }
        "fusion" => {
            select(vec!["full", "engine", "none"]).prop_map(|level| format!("fusion:level={level}")).boxed()
        }
        "flash" => select(vec!["attention=on", "attention=off", "splits=4"])
            .prop_map(|how| format!("flash:{how}"))
            .boxed(),
        "overlap" => share(0).prop_map(|share| format!("overlap:share={share}")).boxed(),
        "contextual-sparsity" => prop_oneof![
            (share(1), parts(), 0..65u32).prop_map(|(active, parts, rank)| {
                format!("contextual-sparsity:active={active}{parts},predictor={rank}")
            }),
            Just("contextual-sparsity:active=0.2,hot=0.4,hits=0.8,processor=grace,parts=ffn".to_string()),
        ]
        .boxed(),
        "early-exit" => exits(),
        "spec" => drafts(),
        "parallel-decoding" => prop_oneof![
            (1..9u32).prop_map(|width| format!("parallel-decoding:width={width},tokens=1")),
            (2..9u32).prop_map(|width| format!("parallel-decoding:width={width},tokens=1.6")),
            (1..9u32).prop_map(|width| format!("parallel-decoding:method=skeleton,width={width},serial=0.2")),
            Just("parallel-decoding:method=lookahead,width=4,ngram=3,tokens=1.7".to_string()),
        ]
        .boxed(),
        "kv-quant" | "kv-evict" | "paging" | "prefix-sharing" => of_cache(kind),
        "weight-quant" | "activation-quant" | "low-rank" | "sparsity" | "n-m" | "lora" => of_weights(kind),
        _ => systems(kind),
    }
}

/// Up to `most` techniques of different kinds, joined by `+`; `none` for none.
pub fn sets(most: usize) -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = KINDS.iter().map(|kind| kind.name).collect();
    proptest::sample::subsequence(names, 0..=most)
        .prop_flat_map(|kinds| kinds.into_iter().map(of_kind).collect::<Vec<_>>())
        .prop_map(|texts| if texts.is_empty() { "none".to_string() } else { texts.join(" + ") })
}
