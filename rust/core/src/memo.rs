//! What steps cost that differ in nothing but their contexts: only what grows with context is priced again.
//!
//! A run of decode steps has the same sequences in each; most operators (the matrix multiplications) then cost the
//! same every time. The result is that of [`Pricer::seconds`] to the bit: both add the same numbers in the same order,
//! those that do not grow first.

use crate::cause::{Cause, Causes};
use crate::shape::{PhaseSums, Sums};
use crate::step::{Exposed, Pricer};

/// Steps of more decoding sequences are priced from scratch.
const MOST_SEQUENCES: usize = 4096;

/// What is known of steps in which so many sequences decode.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Steps priced with it.
    steps: u64,
    /// Seconds of all operators that do not grow.
    counted: Exposed,
    /// What those are spent on.
    spent: Causes,
    /// Place and seconds of each of them.
    operators: Vec<(u32, f64)>,
    /// Places of the operators that do grow, in order.
    growing: Vec<u32>,
}

/// Prices of one [`Pricer`], remembered by the number of sequences that decode.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    by_sequences: Vec<Option<Box<Known>>>,
}

impl Memo {
    /// Seconds of one step, as [`Pricer::seconds`] predicts them; what they are spent on is added to `spent`, and the
    /// seconds of each operator to its place in `operators`, but for those that [`Memo::add_operators`] adds later. A
    /// memo must be used with one pricer only.
    pub fn seconds(
        &mut self,
        pricer: &Pricer,
        sums: &Sums,
        spent: &mut Causes,
        operators: &mut [f64],
    ) -> f64 {
        let (mut counted, mut growing) = (Exposed::default(), Exposed::default());
        match decoding_alone(sums) {
            Some(sequences) => {
                // Nobody else is in the step: those who decode are all.
                let parts = sums.parts(&sums.decode);
                let known = self.known(pricer, sums, sequences);
                known.steps += 1;
                counted = known.counted;
                spent.append(&known.spent);
                for &place in &known.growing {
                    let line = &pricer.lines[place as usize];
                    let cost = line.cost_of(&parts, parts.over(line.op().over));
                    let seconds = cost.seconds * line.op().repeat;
                    growing.add(line.op(), seconds);
                    operators[place as usize] += seconds;
                    if line.op().site.lane.beside().is_none() {
                        spent.add_cost(&cost, seconds);
                    }
                }
            }
            None => pricer.each(sums, |place, op, cost| {
                let seconds = cost.seconds * op.repeat;
                if pricer.lines[place].grows { &mut growing } else { &mut counted }.add(op, seconds);
                operators[place] += seconds;
                if op.site.lane.beside().is_none() {
                    spent.add_cost(&cost, seconds);
                }
            }),
        }
        let (total, hidden) = (counted.plus(&growing), pricer.hidden());
        spent.add(Cause::Link, total.waits(hidden) - total.hidden(hidden));
        total.exposed(hidden)
    }

    /// Adds the seconds of operators that were remembered, not priced, to their places.
    pub fn add_operators(&self, operators: &mut [f64]) {
        for known in self.by_sequences.iter().flatten() {
            for &(place, seconds) in &known.operators {
                operators[place as usize] += seconds * known.steps as f64;
            }
        }
    }

    fn known(&mut self, pricer: &Pricer, sums: &Sums, sequences: usize) -> &mut Known {
        if self.by_sequences.len() <= sequences {
            self.by_sequences.resize_with(sequences + 1, || None);
        }
        self.by_sequences[sequences].get_or_insert_with(|| {
            let mut known = Box::<Known>::default();
            pricer.each(sums, |place, op, cost| {
                if pricer.lines[place].grows {
                    known.growing.push(place as u32);
                    return;
                }
                let seconds = cost.seconds * op.repeat;
                known.counted.add(op, seconds);
                known.operators.push((place as u32, seconds));
                if op.site.lane.beside().is_none() {
                    known.spent.add_cost(&cost, seconds);
                }
            });
            known
        })
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
    use crate::work::Family;
    use proptest::prelude::*;

    fn pricer(model: &str, tp: u64, efficiency: Efficiency) -> Pricer {
        let model = catalog::models::model(model).unwrap();
        let deployment = Deployment {
            precision: Precision::resolve(&model, &Request::default()).unwrap(),
            model,
            hardware: catalog::hardware::hardware("h100-sxm").unwrap().item,
            layout: Layout { tp, ..Layout::default() },
            lowering: Lowering::default(),
            overlap: 0.3,
            efficiency,
            techniques: Default::default(),
        };
        deployment.compile().unwrap()
    }

    proptest! {
        #[test]
        fn a_remembered_price_is_the_price(
            steps in prop::collection::vec((1u64..6, 0u64..9000, 0u64..700), 1..20),
        ) {
            let models = [("llama-3.1-8b", 1), ("mixtral-8x7b", 2), ("gemma-3-27b", 2), ("deepseek-v3", 8)];
            let modes = [Efficiency::Ideal, Efficiency::predicted("vllm")];
            for ((model, tp), mode) in models.into_iter().flat_map(|model| modes.clone().map(|mode| (model, mode))) {
                let pricer = pricer(model, tp, mode);
                let (mut memo, mut spent, mut expected) = (Memo::default(), Causes::default(), Causes::default());
                let count = pricer.ops().count();
                let (mut operators, mut every) = (vec![0.0; count], vec![0.0; count]);
                for &(sequences, context, prompt) in &steps {
                    let mut sums = Sums::default();
                    for sequence in 0..sequences {
                        pricer.reaches().add_item(&mut sums, Phase::Decode, 1.0, 1, context + 97 * sequence, 1);
                    }
                    if prompt % 3 == 1 {
                        pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, prompt, context, 1);
                    }
                    let before = spent;
                    let seconds = memo.seconds(&pricer, &sums, &mut spent, &mut operators);
                    prop_assert_eq!(seconds, pricer.seconds(&sums).step.seconds);
                    prop_assert!((spent.since(&before).total() - seconds).abs() <= 1e-12 * spent.total());
                    let (mut exposed, mut link) = (0.0, 0.0);
                    pricer.each(&sums, |place, op, cost| {
                        expected.add_cost(&cost, cost.seconds * op.repeat);
                        every[place] += cost.seconds * op.repeat;
                        match op.family {
                            Family::Link => link += cost.seconds * op.repeat,
                            Family::Host => {}
                            _ => exposed += cost.seconds * op.repeat,
                        }
                    });
                    expected.add(Cause::Link, -f64::min(link, pricer.overlap() * exposed));
                }
                memo.add_operators(&mut operators);
                for (found, expected) in operators.iter().zip(&every) {
                    prop_assert!((found - expected).abs() <= 1e-12 * spent.total(), "{found} {expected}");
                }
                for ((cause, found), (_, expected)) in spent.iter().zip(expected.iter()) {
                    prop_assert!((found - expected).abs() <= 1e-12 * spent.total(), "{cause:?}: {found} {expected}");
                }
            }
        }
    }
}
