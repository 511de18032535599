//! Order: what is written in any order means one thing, and what is applied in turn commutes but for a few pairs.

use proptest::prelude::*;
use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::error::Error;
use roofline_core::layout::Layout;
use roofline_core::step::Deployment;
use roofline_core::technique::KINDS;

use super::random;
use super::toy::*;

/// A model, and two techniques that do not commute when one is applied after the other: the first changes what the second
/// reads. Every other pair of kinds commutes.
const IN_TURN: [[&str; 3]; 7] = [
    // Another model has other layers …
    ["llama-3.1-8b", "distill:student=llama-3.2-1b", "attention:kind=window,window=100"],
    ["llama-3.1-8b", "distill:student=olmoe-1b-7b-0924", "experts:top-k=2"],
    ["llama-3.1-8b", "distill:student=llama-3.2-1b", "kv-evict:window=100"],
    // … and matrices.
    ["llama-3.1-8b", "distill:student=llama-3.2-1b", "weight-quant:bits=4,parts=ffn"],
    // A half of a tenth of 32 layers is rounded twice.
    ["llama-3.1-8b", "prune:layers=0.1", "attention:kind=window,layers=0.5,window=100"],
    // Layers that have a window keep it.
    ["llama-3.1-8b", "attention:kind=window,layers=0.5,window=100", "kv-evict:window=300"],
    // Activations are no narrower than weights.
    ["llama-3.1-8b", "weight-quant:bits=4", "activation-quant:format=int4"],
];

fn kind(text: &str) -> &str {
    text.split(':').next().unwrap_or(text)
}

/// What a deployment costs, or why it is refused.
fn cost(made: Result<Deployment, Error>) -> Result<Analyst, String> {
    made.and_then(|made| Analyst::new(made, &random::ENGINE)).map_err(|error| error.to_string())
}

fn equal(one: &Result<Analyst, String>, other: &Result<Analyst, String>) -> bool {
    let same = |one: &Analyst, other: &Analyst| {
        one.pricer() == other.pricer()
            && one.memory() == other.memory()
            && one.generation() == other.generation()
    };
    match (one, other) {
        (Ok(one), Ok(other)) => same(one, other),
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

/// One technique of each kind.
fn one_of_each() -> impl Strategy<Value = Vec<String>> {
    KINDS.iter().map(|kind| random::of_kind(kind.name)).collect::<Vec<_>>()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5))]

    #[test]
    fn any_two_mean_the_same_in_either_order(
        base in random::deployments(), these in one_of_each(), those in one_of_each(),
    ) {
        let written = |text: String| cost(base.0.clone().with(&techniques(&text)));
        for one in &these {
            for other in &those {
                let (ahead, behind) = (written(format!("{one} + {other}")), written(format!("{other} + {one}")));
                prop_assert!(equal(&ahead, &behind), "{one} {other}: {:?} {:?}", ahead.err(), behind.err());
                // Of two of a kind the second one is the mistake.
                if kind(one) != kind(other) {
                    prop_assert_eq!(ahead.err(), behind.err());
                }
            }
        }
    }

    #[test]
    fn all_but_a_few_commute_even_when_applied_in_turn(
        base in random::deployments(), these in one_of_each(), those in one_of_each(),
    ) {
        let of = |text: &str| techniques(text);
        let applied = |one: &str, other: &str| cost(base.0.clone().with(&of(one)).and_then(|made| made.with(&of(other))));
        let listed = |one: &str, other: &str| {
            IN_TURN.iter().any(|[_, first, second]| {
                [[kind(first), kind(second)], [kind(second), kind(first)]].contains(&[kind(one), kind(other)])
            })
        };
        for (place, one) in these.iter().enumerate() {
            for other in those[place..].iter().filter(|other| !listed(one, other)) {
                let (ahead, behind) = (applied(one, other), applied(other, one));
                prop_assert!(equal(&ahead, &behind), "{one} {other}: {:?} {:?}", ahead.err(), behind.err());
                let together = cost(base.0.clone().with(&of(&format!("{one} + {other}"))));
                prop_assert!(equal(&ahead, &together), "{one} {other}: {:?} {:?}", ahead.err(), together.err());
            }
        }
    }

    #[test]
    fn several_mean_the_same_however_they_are_turned(
        base in random::deployments(), point in random::points(), these in one_of_each(), turn in 0usize..28,
    ) {
        let mut turned = these;
        turned.rotate_left(turn);
        let mut chosen: Vec<String> = Vec::new();
        for text in turned {
            let joined = chosen.iter().chain([&text]).cloned().collect::<Vec<_>>().join(" + ");
            if cost(base.0.clone().with(&techniques(&joined))).is_ok() {
                chosen.push(text);
            }
        }
        let one = random::ask(&base, &chosen.join(" + "), &point);
        chosen.reverse();
        let other = random::ask(&base, &chosen.join(" + "), &point);
        prop_assert!(chosen.len() > 5 && one == other, "{chosen:?}");
    }
}

#[test]
fn pairs_that_do_not_commute_differ_or_are_refused_the_other_way() {
    for [model, first, second] in IN_TURN {
        let model = catalog::models::model(model).unwrap();
        let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
        let base = random::plain(model, hardware, Layout::default());
        let in_turn = |one: &str, two: &str| {
            cost(base.clone().with(&techniques(one)).and_then(|made| made.with(&techniques(two))))
        };
        let (ahead, behind) = (in_turn(first, second), in_turn(second, first));
        assert!(ahead.is_ok() && !equal(&ahead, &behind), "{first} {second}: {:?}", ahead.err());
        // Written together they are applied in the order of the catalogue.
        let together = cost(base.clone().with(&techniques(&format!("{second} + {first}"))));
        assert!(equal(&ahead, &together), "{first} {second}");
    }
}
