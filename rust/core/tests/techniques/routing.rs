//! Experts: what the busiest rank does, against a count of every expert on every rank.

use proptest::prelude::*;
use roofline_core::analysis::Analysis;
use roofline_core::layout::Layout;
use roofline_core::step::Deployment;

use super::toy::*;

/// The toy with 8 experts, spread over `ep` devices.
fn spread(with: &str, ep: u64, tokens: u64) -> Analysis {
    let layout = Layout { tp: ep, ep, ..Layout::default() };
    ask(Deployment { layout, ..deployment(toy_moe(), device()) }, with, &decode(tokens, 1000)).unwrap()
}

/// Chances that a token visits each of 8 experts, two of them, by shares of what is left of the two visits.
fn chances(loads: &[f64]) -> Vec<f64> {
    let mut order = loads.to_vec();
    order.sort_by(|a, b| b.partial_cmp(a).unwrap());
    let mut found: Vec<f64> = Vec::new();
    for (place, load) in order.iter().enumerate() {
        let left = 2.0 - found.iter().sum::<f64>();
        let rest: f64 = order[place..].iter().sum();
        let share = if rest > 0.0 { left * load / rest } else { left / (8 - place) as f64 };
        found.push(share.min(1.0));
    }
    found
}

/// The chances of what the busiest of two ranks holds: experts dealt in turn, replicas of the hottest on each.
fn on_the_busiest(chances: &[f64], ep: usize, replicas: usize) -> Vec<f64> {
    let (hot, cold) = chances.split_at(replicas);
    let dealt = cold.iter().enumerate().filter(|(place, _)| place % ep == 0).map(|(_, chance)| *chance);
    hot.iter().map(|chance| chance / ep as f64).chain(dealt).collect()
}

fn loads() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(0u32..50, 8).prop_filter("some are visited", |loads| loads.iter().sum::<u32>() > 0)
}

fn text(loads: &[u32]) -> String {
    loads.iter().map(ToString::to_string).collect::<Vec<_>>().join("/")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_busiest_rank_reads_and_multiplies_what_counting_says(
        loads in loads(), replicas in 0usize..=8, wide: bool, tokens in 1u64..60,
    ) {
        let ep = if wide { 2 } else { 1 };
        let step = spread(&format!("experts:loads={},replicas={replicas}", text(&loads)), ep, tokens);
        let numbers: Vec<f64> = loads.iter().map(|load| f64::from(*load)).collect();
        let all = chances(&numbers);
        is(all.iter().sum::<f64>(), 2.0);
        let held = on_the_busiest(&all, ep as usize, replicas);
        // 4 layers; gate and up 1000 × 8000 in 16 bits; 2 operations a number and visit.
        let touched: f64 = held.iter().map(|chance| 1.0 - (1.0 - chance).powi(tokens as i32)).sum();
        is(op(&step, "experts_gate_up").work.weight_bytes, 4.0 * 16e6 * touched);
        is(op(&step, "experts_gate_up").work.flops, 4.0 * 16e6 * tokens as f64 * held.iter().sum::<f64>());
        let plain = spread("none", ep, tokens);
        // Gate and up and down: 24 MB an expert and layer.
        let more = held.len() as f64 - 8.0 / ep as f64;
        is(step.outcome.memory.weights - plain.outcome.memory.weights, 4.0 * 24e6 * more);
    }

    #[test]
    fn which_expert_is_the_popular_one_does_not_count(loads in loads(), turn in 0usize..8, times in 1u32..9, tokens in 1u64..60) {
        let mut turned = loads.clone();
        turned.rotate_left(turn);
        let scaled: Vec<u32> = turned.iter().map(|load| load * times).collect();
        let of = |loads: &[u32]| spread(&format!("experts:loads={}", text(loads)), 2, tokens);
        is(seconds(&of(&scaled)), seconds(&of(&loads)));
    }

    #[test]
    fn a_power_law_is_its_loads(tenths in 0u32..30, replicas in 0u32..5, tokens in 1u64..60) {
        let alpha = f64::from(tenths) / 10.0;
        let loads: Vec<String> = (1..=8).map(|place| format!("{}", f64::from(place).powf(-alpha))).collect();
        let of = |with: String| spread(&with, 2, tokens);
        let law = of(format!("experts:alpha={alpha},replicas={replicas}"));
        is(seconds(&law), seconds(&of(format!("experts:loads={},replicas={replicas}", loads.join("/")))));
    }

    #[test]
    fn steeper_laws_touch_fewer_experts_and_load_one_rank_more(tenths in 0u32..30, tokens in 1u64..60) {
        // The popular ones together: dealt, the second would make up for the first.
        let of = |tenths: u32, ep: u64| {
            spread(&format!("experts:alpha={},placement=contiguous", f64::from(tenths) / 10.0), ep, tokens)
        };
        let read = |tenths: u32| op(&of(tenths, 1), "experts_down").work.weight_bytes;
        prop_assert!(read(tenths + 1) <= read(tenths) * (1.0 + 1e-12));
        let visits = |tenths: u32| op(&of(tenths, 2), "experts_down").work.flops;
        prop_assert!(visits(tenths + 1) >= visits(tenths) * (1.0 - 1e-12));
        // All visits are of one rank at most, and the mean rank's at least.
        let even = op(&spread("none", 2, tokens), "experts_down").work.flops;
        prop_assert!(visits(tenths) >= even * (1.0 - 1e-12) && visits(tenths) <= 2.0 * even * (1.0 + 1e-12));
    }

    #[test]
    fn replicas_level_the_load_and_fill_memory(tenths in 0u32..30, replicas in 0u32..8, tokens in 1u64..60) {
        let of = |replicas: u32, how: &str| {
            spread(&format!("experts:alpha={},replicas={replicas},placement={how}", f64::from(tenths) / 10.0), 2, tokens)
        };
        let visits = |step: &Analysis| op(step, "experts_down").work.flops;
        let (some, two_more, together) = (of(replicas.min(6), "dealt"), of(replicas.min(6) + 2, "dealt"), of(replicas.min(6), "contiguous"));
        prop_assert!(visits(&two_more) <= visits(&some) * (1.0 + 1e-12));
        prop_assert!(visits(&together) >= visits(&some) * (1.0 - 1e-12));
        prop_assert!(two_more.outcome.memory.weights > some.outcome.memory.weights);
        // Where every rank holds every expert none is busier.
        let even = spread("none", 2, tokens);
        is(visits(&of(8, "dealt")), visits(&even));
        is(visits(&of(8, "contiguous")), visits(&even));
    }
}
