//! What steps cost that differ in nothing but their contexts: only what grows with context is priced again.
//!
//! A run of decode steps has the same sequences in each; most operators (the matrix multiplications) then cost the
//! same every time. The result is that of [`Pricer::seconds`] to the bit: the same numbers, added in the same order.

use crate::cause::{Cause, Causes};
use crate::roof::{Bound, Priced};
use crate::shape::{PhaseSums, Sums};
use crate::step::{Exposed, Pricer};
use crate::work::Over;

/// Steps of more decoding sequences are priced from scratch.
const MOST_SEQUENCES: usize = 4096;

/// All occurrences of one operator in a step.
#[derive(Debug, Clone, Copy)]
struct Share {
    seconds: f64,
    bound: Bound,
    /// The operator's place if it has to be priced again.
    grows: Option<u32>,
}

/// Prices of one [`Pricer`], remembered by the number of sequences that decode.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    by_sequences: Vec<Known>,
}

/// What is known of steps in which so many sequences decode.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Operators in order; none before the first such step.
    shares: Vec<Share>,
    /// What those that need not be priced again are spent on.
    fixed: Causes,
}

impl Memo {
    /// Seconds of one step, as [`Pricer::seconds`] predicts them; what they are spent on is added to `spent`. A memo
    /// must be used with one pricer only.
    pub fn seconds(&mut self, pricer: &Pricer, sums: &Sums, spent: &mut Causes) -> f64 {
        let mut total = Exposed::default();
        match decoding_alone(sums) {
            Some(sequences) => {
                // Nobody else is in the step: those who decode are all.
                let all = &sums.decode;
                let known = self.known(pricer, sums, sequences);
                spent.append(&known.fixed);
                for share in &known.shares {
                    match share.grows.map(|place| &pricer.ops[place as usize]) {
                        None => total.add_seconds(share.seconds, share.bound),
                        Some(priced) => {
                            let cost = priced.cost_of(part(priced, sums, all));
                            let seconds = cost.seconds * priced.op().repeat;
                            total.add_seconds(seconds, cost.bound);
                            spent.add_cost(&cost, seconds);
                        }
                    }
                }
            }
            None => {
                let all = sums.all();
                for priced in &pricer.ops {
                    let part = part(priced, sums, &all);
                    if priced.op().runs_over(part) {
                        let cost = priced.cost_of(part);
                        let seconds = cost.seconds * priced.op().repeat;
                        total.add_seconds(seconds, cost.bound);
                        spent.add_cost(&cost, seconds);
                    }
                }
            }
        }
        spent.add(Cause::Link, -total.hidden(pricer.overlap()));
        pricer.predict(total.exposed(pricer.overlap())).seconds
    }

    fn known(&mut self, pricer: &Pricer, sums: &Sums, sequences: usize) -> &Known {
        if self.by_sequences.len() <= sequences {
            self.by_sequences.resize_with(sequences + 1, Known::default);
        }
        let known = &mut self.by_sequences[sequences];
        if known.shares.is_empty() {
            let parts = sums.parts();
            for (place, priced) in pricer.ops.iter().enumerate() {
                let Some(cost) = priced.cost(&parts) else { continue };
                let seconds = cost.seconds * priced.op().repeat;
                let grows = priced.op().grows_with_context().then_some(place as u32);
                if grows.is_none() {
                    known.fixed.add_cost(&cost, seconds);
                }
                known.shares.push(Share { seconds, bound: cost.bound, grows });
            }
        }
        known
    }
}

/// How many sequences decode, each one token, if nothing else happens.
fn decoding_alone(sums: &Sums) -> Option<usize> {
    let Sums { prefill, decode, .. } = sums;
    let sequences = decode.sequences as usize;
    let alone = *prefill == PhaseSums::default()
        && decode.tokens == decode.sequences
        && decode.logits == decode.sequences
        && sequences as f64 == decode.sequences;
    (alone && sequences <= MOST_SEQUENCES).then_some(sequences)
}

fn part<'a>(priced: &Priced, sums: &'a Sums, all: &'a PhaseSums) -> &'a PhaseSums {
    match priced.op().over {
        Over::All => all,
        Over::Prefill => &sums.prefill,
        Over::Decode => &sums.decode,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog;
    use crate::efficiency::Efficiency;
    use crate::layout::Layout;
    use crate::lower::Lowering;
    use crate::precision::{Precision, Request};
    use crate::shape::Phase;
    use crate::step::Deployment;
    use proptest::prelude::*;

    fn pricer(model: &str, tp: u64) -> Pricer {
        let model = catalog::models::model(model).unwrap();
        let deployment = Deployment {
            precision: Precision::resolve(&model, &Request::default()).unwrap(),
            model,
            hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
            layout: Layout { tp, ..Layout::default() },
            lowering: Lowering::default(),
            overlap: 0.3,
            efficiency: Efficiency::Ideal,
        };
        deployment.compile().unwrap()
    }

    proptest! {
        #[test]
        fn a_remembered_price_is_the_price(
            steps in prop::collection::vec((1u64..6, 0u64..9000, 0u64..700), 1..20),
        ) {
            for (model, tp) in [("llama-3.1-8b", 1), ("mixtral-8x7b", 2), ("gemma-3-27b", 2), ("deepseek-v3", 8)] {
                let pricer = pricer(model, tp);
                let (mut memo, mut spent, mut expected) = (Memo::default(), Causes::default(), Causes::default());
                for &(sequences, context, prompt) in &steps {
                    let mut sums = Sums::default();
                    for sequence in 0..sequences {
                        pricer.reaches().add_item(&mut sums, Phase::Decode, 1.0, 1, context + 97 * sequence, 1);
                    }
                    if prompt % 3 == 1 {
                        pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, prompt, context, 1);
                    }
                    let before = spent;
                    let seconds = memo.seconds(&pricer, &sums, &mut spent);
                    prop_assert_eq!(seconds, pricer.seconds(&sums).step.seconds);
                    prop_assert!((spent.since(&before).total() - seconds).abs() <= 1e-12 * spent.total());
                    let (mut exposed, mut hidden) = (0.0, 0.0);
                    pricer.each(&sums, |_, op, cost| {
                        expected.add_cost(&cost, cost.seconds * op.repeat);
                        let side = if cost.bound == Bound::Link { &mut hidden } else { &mut exposed };
                        *side += cost.seconds * op.repeat;
                    });
                    expected.add(Cause::Link, -f64::min(hidden, pricer.overlap() * exposed));
                }
                for ((cause, found), (_, expected)) in spent.iter().zip(expected.iter()) {
                    prop_assert!((found - expected).abs() <= 1e-12 * spent.total(), "{cause:?}: {found} {expected}");
                }
            }
        }
    }
}
