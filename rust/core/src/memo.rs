//! What steps cost that differ in nothing but their contexts: only what grows with context is priced again.
//!
//! A run of decode steps has the same sequences in each; most operators (the matrix multiplications) then cost the
//! same every time. The result is that of [`Pricer::seconds`] to the bit: the same numbers, added in the same order.

use crate::roof::{Bound, Priced};
use crate::shape::{PhaseSums, Sums};
use crate::site::Lane;
use crate::step::{Exposed, Pricer};

/// Steps of more decoding sequences are priced from scratch.
const MOST_SEQUENCES: usize = 4096;

/// All occurrences of one operator in a step.
#[derive(Debug, Clone, Copy)]
struct Share {
    seconds: f64,
    bound: Bound,
    lane: Lane,
    /// The operator's place if it has to be priced again.
    grows: Option<u32>,
}

/// Prices of one [`Pricer`], remembered by the number of sequences that decode.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    by_sequences: Vec<Vec<Share>>,
}

impl Memo {
    /// Seconds of one step, as [`Pricer::seconds`] predicts them; `see` is told the seconds of each operator that runs
    /// and what bounds it, in order. A memo must be used with one pricer only.
    pub fn seconds(&mut self, pricer: &Pricer, sums: &Sums, mut see: impl FnMut(Bound, f64)) -> f64 {
        let mut total = Exposed::default();
        let mut add = |seconds: f64, bound: Bound, lane: Lane| {
            total.add_seconds(seconds, bound, lane);
            see(bound, seconds);
        };
        match decoding_alone(sums) {
            Some(sequences) => {
                // Nobody else is in the step: those who decode are all.
                let all = &sums.decode;
                for share in self.shares(pricer, sums, sequences) {
                    match share.grows.map(|place| &pricer.ops[place as usize]) {
                        None => add(share.seconds, share.bound, share.lane),
                        Some(priced) => {
                            let cost = priced.cost_of(part(priced, sums, all));
                            add(cost.seconds * priced.op().repeat, cost.bound, priced.op().site.lane);
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
                        add(cost.seconds * priced.op().repeat, cost.bound, priced.op().site.lane);
                    }
                }
            }
        }
        pricer.predict(total.exposed(pricer.hidden())).seconds
    }

    /// What is known of steps in which so many sequences decode.
    fn shares(&mut self, pricer: &Pricer, sums: &Sums, sequences: usize) -> &[Share] {
        if self.by_sequences.len() <= sequences {
            self.by_sequences.resize_with(sequences + 1, Vec::new);
        }
        let shares = &mut self.by_sequences[sequences];
        if shares.is_empty() {
            let parts = sums.parts();
            shares.extend(pricer.ops.iter().enumerate().filter_map(|(place, priced)| {
                let grows = priced.op().grows_with_context().then_some(place as u32);
                priced.cost(&parts).map(|cost| Share {
                    seconds: cost.seconds * priced.op().repeat,
                    bound: cost.bound,
                    lane: priced.op().site.lane,
                    grows,
                })
            }));
        }
        shares
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
    priced.op().over.of(&sums.prefill, &sums.decode, all)
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
            techniques: Default::default(),
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
                let (mut memo, mut seen, mut expected) = (Memo::default(), [0.0; 4], [0.0; 4]);
                for &(sequences, context, prompt) in &steps {
                    let mut sums = Sums::default();
                    for sequence in 0..sequences {
                        pricer.reaches().add_item(&mut sums, Phase::Decode, 1.0, 1, context + 97 * sequence, 1);
                    }
                    if prompt % 3 == 1 {
                        pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, prompt, context, 1);
                    }
                    let seconds = memo.seconds(&pricer, &sums, |bound, part| seen[bound as usize] += part);
                    prop_assert_eq!(seconds, pricer.seconds(&sums).step.seconds);
                    pricer.each(&sums, |_, op, cost| expected[cost.bound as usize] += cost.seconds * op.repeat);
                    prop_assert_eq!(seen, expected);
                }
            }
        }
    }
}
