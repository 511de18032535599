//! How many experts a benchmark's routing visits: uniform, or drawn from a power law as aiconfigurator's collector does.

use std::collections::HashMap;

/// Hidden width, experts and visits of layers whose experts have no gate, where a row does not say so (Nemotron 3).
pub const UNGATED: [(u64, u64, u64); 3] = [(2688, 128, 6), (2048, 512, 22), (8192, 512, 22)];

/// Hidden width, experts and visits of layers whose experts are chosen by groups (DeepSeek-V3): visits that are dealt out
/// evenly before they pass such a choice reach half of the experts, except where the collector goes round it.
pub const GROUPED: (f64, u64, u64) = (7168.0, 256, 8);

/// How visits were dealt out to experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Routing {
    /// Every expert equally likely.
    Uniform,
    /// Dealt out in turn: no expert is visited twice before all are.
    Balanced,
    /// Loads follow a power law with this exponent, in hundredths (101: 1.01).
    PowerLaw(u32),
}

/// One layer's routing question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Case {
    /// Tokens.
    pub tokens: u64,
    /// Experts of the whole layer.
    pub experts: u64,
    /// Experts a token visits.
    pub top_k: u64,
    /// Devices the experts are spread over.
    pub ep: u64,
    /// How visits are dealt out.
    pub routing: Routing,
}

/// What meets on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Experts visited.
    pub active: f64,
    /// Visits.
    pub visits: f64,
}

/// Answers, kept: the same few thousand cases come again and again.
#[derive(Debug, Default)]
pub struct Loads {
    known: HashMap<Case, Load>,
}

impl Loads {
    /// Works a case out, if it is new.
    pub fn learn(&mut self, case: Case) {
        self.known.entry(case).or_insert_with(|| load(&case));
    }

    /// The answer to a case that was learnt.
    pub fn get(&self, case: &Case) -> Option<Load> {
        self.known.get(case).copied()
    }
}

impl Routing {
    /// The routing of that name (`balanced`, `uniform`, `power_law_1.2`), if there is one.
    pub fn parse(name: &str) -> Option<Routing> {
        match name {
            "" | "uniform" => Some(Routing::Uniform),
            "balanced" => Some(Routing::Balanced),
            _ => {
                let alpha: f64 = name.strip_prefix("power_law_")?.parse().ok()?;
                (alpha > 0.0 && alpha < 10.0).then(|| Routing::PowerLaw((alpha * 100.0).round() as u32))
            }
        }
    }
}

/// The load of the busiest device.
pub fn load(case: &Case) -> Load {
    let (experts, ep) = (case.experts.max(1), case.ep.max(1));
    let visits = (case.tokens * case.top_k) as f64;
    match case.routing {
        Routing::Uniform => {
            let share = (case.top_k as f64 / experts as f64).min(1.0);
            let active = experts as f64 * (1.0 - (1.0 - share).powf(case.tokens as f64)) / ep as f64;
            Load { active, visits: visits / ep as f64 }
        }
        Routing::Balanced => {
            // Dealt out from the first expert on, so that whoever holds it is visited whatever the number.
            let share = |visits: f64| (visits / ep as f64).ceil();
            Load { active: share(visits.min(experts as f64)), visits: share(visits) }
        }
        Routing::PowerLaw(hundredths) => {
            let loads = power_law(case, f64::from(hundredths) / 100.0);
            // The device that holds the hottest expert, and every ep-th of the others.
            let local = (experts / ep).max(1) as usize;
            let rest = loads.iter().skip(1 + ep as usize / 2).step_by(ep as usize);
            let mine: Vec<f64> = if ep == 1 {
                loads.clone()
            } else {
                loads.iter().take(1).chain(rest).take(local).copied().collect()
            };
            let active = mine.iter().filter(|load| **load > 0.0).count() as f64;
            Load { active: active.max(1.0), visits: mine.iter().sum() }
        }
    }
}

/// Whole visits an expert, hottest first: quantiles of the power law, rounded; what rounding lost is dealt to the
/// coldest, what it added is taken from the hottest.
fn power_law(case: &Case, alpha: f64) -> Vec<f64> {
    let (experts, tokens) = (case.experts.max(1) as usize, case.tokens as f64);
    let visits = (case.tokens * case.top_k) as f64;
    let (least, most) = if visits > experts as f64 { (1.0, tokens * 0.8) } else { (0.01, 2.0) };
    let most = f64::max(most, least * 1.01);
    // An exponent of one has a logarithm for its distribution; beside it the power is as good.
    let power = if (1.0 - alpha).abs() < 1e-6 { 1e-6 } else { 1.0 - alpha };
    let (low, high) = (f64::powf(least, power), f64::powf(most, power));
    let drawn: Vec<f64> = (0..experts)
        .map(|place| {
            let quantile = (place as f64 + 0.5) / experts as f64;
            ((high - low) * quantile + low).powf(1.0 / power)
        })
        .collect();
    let sum: f64 = drawn.iter().sum();
    let mut loads: Vec<f64> =
        drawn.iter().rev().map(|load| (load / sum * visits).min(tokens).round()).collect();
    let mut over = loads.iter().sum::<f64>() - visits;
    for step in 0..10 * experts {
        if over.abs() < 0.5 {
            break;
        }
        let hot = step % experts;
        let load = &mut loads[if over < 0.0 { experts - 1 - hot } else { hot }];
        if over < 0.0 && *load < tokens {
            (*load, over) = (*load + 1.0, over + 1.0);
        } else if over > 0.0 && *load > 0.0 {
            (*load, over) = (*load - 1.0, over - 1.0);
        }
    }
    loads.sort_by(|a, b| b.total_cmp(a));
    loads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(tokens: u64, ep: u64, routing: Routing) -> Case {
        Case { tokens, experts: 256, top_k: 8, ep, routing }
    }

    #[test]
    fn every_visit_is_dealt_out() {
        for tokens in [1, 7, 64, 1000, 16384] {
            for routing in [Routing::Uniform, Routing::PowerLaw(101), Routing::PowerLaw(120)] {
                let load = load(&case(tokens, 1, routing));
                assert!((load.visits - tokens as f64 * 8.0).abs() < 1.0, "{tokens} {routing:?} {load:?}");
                assert!(load.active <= 256.0 && load.active >= 7.9);
            }
        }
    }

    #[test]
    fn few_tokens_of_a_skewed_routing_still_visit_an_expert_each_time() {
        for tokens in [1, 2] {
            assert_eq!(load(&case(tokens, 1, Routing::PowerLaw(101))).active, tokens as f64 * 8.0);
        }
        assert_eq!(load(&case(16, 1, Routing::Balanced)).active, 128.0);
    }

    #[test]
    fn a_skewed_routing_visits_fewer_experts() {
        let active = |routing| load(&case(64, 1, routing)).active;
        assert!(active(Routing::PowerLaw(120)) < active(Routing::Uniform));
    }

    #[test]
    fn the_busiest_of_several_devices_has_at_least_its_share() {
        let whole = load(&case(1024, 1, Routing::PowerLaw(120))).visits;
        let one = load(&case(1024, 8, Routing::PowerLaw(120))).visits;
        assert!(one >= whole / 8.0 && one < whole);
    }

    #[test]
    fn routings_have_names() {
        assert_eq!(Routing::parse("power_law_1.2"), Some(Routing::PowerLaw(120)));
        assert_eq!(Routing::parse("balanced"), Some(Routing::Balanced));
        assert_eq!((Routing::parse("power_law_x"), Routing::parse("zipf")), (None, None));
    }
}
