//! What steps cost that differ in nothing but their contexts: only what grows with context is priced again.
//!
//! A run of decode steps has the same sequences in each; most operators (the matrix multiplications) then cost the
//! same every time. The result is that of [`Pricer::seconds`] to the bit: the same numbers, added in the same order.

use crate::cause::{Cause, Causes};
use crate::shape::{PhaseSums, Sums};
use crate::step::{Exposed, Pricer};

/// Steps of more decoding sequences are priced from scratch.
const MOST_SEQUENCES: usize = 4096;

/// All occurrences of one operator in a step.
#[derive(Debug, Clone, Copy)]
struct Share {
    seconds: f64,
    /// The operator's place.
    place: u32,
    /// Whether it has to be priced again.
    grows: bool,
}

/// What is known of steps in which so many sequences decode.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Every operator that runs, in order.
    shares: Vec<Share>,
    /// What those are spent on that do not grow.
    fixed: Causes,
}

/// Prices of one [`Pricer`], remembered by the number of sequences that decode.
#[derive(Debug, Clone, Default)]
pub struct Memo {
    by_sequences: Vec<Known>,
}

impl Memo {
    /// Seconds of one step, as [`Pricer::seconds`] predicts them; what they are spent on is added to `spent`, and `see`
    /// is told the place of each operator that runs and its seconds, in order. A memo must be used with one pricer
    /// only.
    pub fn seconds(
        &mut self,
        pricer: &Pricer,
        sums: &Sums,
        spent: &mut Causes,
        mut see: impl FnMut(usize, f64),
    ) -> f64 {
        let mut total = Exposed::default();
        let mut add = |place: usize, seconds: f64| {
            total.add(pricer.lines[place].op(), seconds);
            see(place, seconds);
        };
        match decoding_alone(sums) {
            Some(sequences) => {
                // Nobody else is in the step: those who decode are all.
                let parts = sums.parts(&sums.decode);
                let known = self.known(pricer, sums, sequences);
                spent.append(&known.fixed);
                for share in &known.shares {
                    let place = share.place as usize;
                    if share.grows {
                        let line = &pricer.lines[place];
                        let cost = line.cost_of(&parts, parts.over(line.op().over));
                        let seconds = cost.seconds * line.op().repeat;
                        add(place, seconds);
                        if line.op().site.lane.beside().is_none() {
                            spent.add_cost(&cost, seconds);
                        }
                    } else {
                        add(place, share.seconds);
                    }
                }
            }
            None => pricer.each(sums, |place, op, cost| {
                let seconds = cost.seconds * op.repeat;
                add(place, seconds);
                if op.site.lane.beside().is_none() {
                    spent.add_cost(&cost, seconds);
                }
            }),
        }
        let hidden = pricer.hidden();
        spent.add(Cause::Link, total.waits(hidden) - total.hidden(hidden));
        total.exposed(hidden)
    }

    fn known(&mut self, pricer: &Pricer, sums: &Sums, sequences: usize) -> &Known {
        if self.by_sequences.len() <= sequences {
            self.by_sequences.resize_with(sequences + 1, Known::default);
        }
        let known = &mut self.by_sequences[sequences];
        if known.shares.is_empty() {
            pricer.each(sums, |place, op, cost| {
                let (seconds, grows) = (cost.seconds * op.repeat, op.grows_with_context());
                if !grows && op.site.lane.beside().is_none() {
                    known.fixed.add_cost(&cost, seconds);
                }
                known.shares.push(Share { seconds, place: place as u32, grows });
            });
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
                for &(sequences, context, prompt) in &steps {
                    let mut sums = Sums::default();
                    for sequence in 0..sequences {
                        pricer.reaches().add_item(&mut sums, Phase::Decode, 1.0, 1, context + 97 * sequence, 1);
                    }
                    if prompt % 3 == 1 {
                        pricer.reaches().add_item(&mut sums, Phase::Prefill, 1.0, prompt, context, 1);
                    }
                    let (before, mut seen) = (spent, 0.0);
                    let seconds = memo.seconds(&pricer, &sums, &mut spent, |_, part| seen += part);
                    prop_assert_eq!(seconds, pricer.seconds(&sums).step.seconds);
                    prop_assert!((spent.since(&before).total() - seconds).abs() <= 1e-12 * spent.total());
                    let (mut all, mut exposed, mut link) = (0.0, 0.0, 0.0);
                    pricer.each(&sums, |_, op, cost| {
                        expected.add_cost(&cost, cost.seconds * op.repeat);
                        all += cost.seconds * op.repeat;
                        match op.family {
                            Family::Link => link += cost.seconds * op.repeat,
                            Family::Host => {}
                            _ => exposed += cost.seconds * op.repeat,
                        }
                    });
                    prop_assert_eq!(seen, all);
                    expected.add(Cause::Link, -f64::min(link, pricer.overlap() * exposed));
                }
                for ((cause, found), (_, expected)) in spent.iter().zip(expected.iter()) {
                    prop_assert!((found - expected).abs() <= 1e-12 * spent.total(), "{cause:?}: {found} {expected}");
                }
            }
        }
    }
}
