//! Prices of many steps at once: for each family one loop over the steps, in which nothing else is decided.

use super::prompts::prompts_of_each;
use super::{Predicted, Price};
use crate::efficiency::form::Form;
use crate::efficiency::form::collective::CollectiveKernel;
use crate::efficiency::form::decode::DecodeKernel;
use crate::efficiency::form::elementwise::ElementwiseKernel;
use crate::efficiency::form::gemm::GemmKernel;
use crate::efficiency::form::host::HostKernel;
use crate::efficiency::form::mla::MlaDecodeKernel;
use crate::efficiency::form::moe::MoeKernel;
use crate::efficiency::form::prefill::PrefillKernel;
use crate::per_step::{Part, Parts, PerStep, visited};
use crate::roof::Costs;
use crate::work::{Op, Rate};

impl Predicted {
    /// Seconds of one occurrence in each of the first `count` steps of a block, as [`Predicted::seconds`] says of one:
    /// one loop over the steps for each family, so that only one form is evaluated in it. `costs` holds what the roofline
    /// says and receives the seconds.
    pub fn seconds_of_each(&self, op: &Op, parts: &Parts<'_>, part: &Part, count: usize, costs: &mut Costs) {
        let device = &self.device;
        let Costs { seconds, other, ideal, buffer_bytes, .. } = costs;
        let (seconds, other) = (&mut seconds[..count], &mut other[..count]);
        let ideal = &ideal[..count];
        let pass = |rate: &Rate, bytes: &mut [f64]| rate.of_each(part, op.reach, bytes);
        let kernel_of = |bytes: &f64| ElementwiseKernel { bytes: *bytes };
        match &self.price {
            Price::Nothing => return,
            Price::Gemm(form, kernel, rows) => {
                rows.of_each(part, op.reach, other);
                each(seconds, other, |m| form.seconds(device, &GemmKernel { m: *m, ..*kernel }));
            }
            Price::Attention(prefill, decode, seen) => {
                let prompts = prefill.as_ref().zip(parts.prefill);
                let answers = decode.as_ref().zip(parts.decode);
                seconds.fill(0.0);
                if let Some((prompts, part)) = prompts {
                    prompts.add_each(device, part, op.reach, seconds);
                }
                if let Some(((form, kernel), part)) = answers {
                    let sums = &part.reach[op.reach];
                    let lanes = part.sequences.iter().zip(&sums.keys).zip(&sums.pairs).zip(&part.longest);
                    for (out, (((sequences, keys), pairs), longest)) in seconds.iter_mut().zip(lanes) {
                        let kernel = DecodeKernel {
                            sequences: *sequences,
                            keys: *keys,
                            pairs: *pairs * seen.at_once,
                            longest: longest.min(seen.window),
                            ..*kernel
                        };
                        *out += form.seconds(device, &kernel);
                    }
                }
                if let (Some((prompts, _)), Some(((answers, _), _))) = (prompts, answers) {
                    // One launch serves both.
                    let shared = prompts.launch().min(answers.t0_s);
                    seconds.iter_mut().for_each(|seconds| *seconds -= shared);
                }
            }
            Price::Expanded(form, kernel) => {
                seconds.fill(0.0);
                let of = |kernel: &PrefillKernel| form.seconds(device, kernel);
                prompts_of_each(kernel, part, op.reach, f64::INFINITY, seconds, of);
            }
            Price::Absorbed(form, kernel, seen) => {
                let sums = &part.reach[op.reach];
                let lanes = part.sequences.iter().zip(&sums.keys).zip(&sums.pairs).zip(&part.longest);
                for (out, (((sequences, keys), pairs), longest)) in seconds.iter_mut().zip(lanes) {
                    let kernel = MlaDecodeKernel {
                        sequences: *sequences,
                        keys: *keys,
                        pairs: *pairs * seen.at_once,
                        longest: longest.min(seen.window),
                        ..*kernel
                    };
                    *out = form.seconds(device, &kernel);
                }
            }
            Price::Experts(form, quick, experts, kernel) => {
                let mut active: PerStep = part.tokens;
                let active = &mut active[..count];
                each(other, &part.tokens, |tokens| tokens * experts.at_once * experts.ranks);
                visited(active, other, experts.missed.ln());
                let lanes = other.iter().zip(&*active).zip(&part.tokens);
                for (out, ((tokens, share), own)) in seconds.iter_mut().zip(lanes) {
                    let active = experts.experts * share;
                    let visits = own * experts.at_once * experts.visits;
                    let meeting = visits * experts.ranks;
                    let kernel = MoeKernel { tokens: *tokens, visits, meeting, active, ..*kernel };
                    let usual = form.seconds(device, &kernel);
                    *out = experts.share
                        * quick.map_or(usual, |quick| quick.seconds(device, &kernel).min(usual));
                }
            }
            Price::Pass(form, bytes) => {
                pass(bytes, other);
                each(seconds, other, |bytes| form.seconds(device, &kernel_of(bytes)));
            }
            Price::Scale(form, bytes) => {
                pass(bytes, other);
                each(seconds, other, |bytes| form.seconds(device, &kernel_of(bytes)));
            }
            Price::FindAndScale(find, scale, bytes) => {
                pass(bytes, other);
                each(seconds, other, |bytes| {
                    let kernel = kernel_of(bytes);
                    find.seconds(device, &kernel) + scale.seconds(device, &kernel)
                });
            }
            Price::State(form) => each(seconds, ideal, |ideal| {
                form.seconds(device, &ElementwiseKernel { bytes: ideal * device.bandwidth })
            }),
            Price::Nccl(form, kernel) => each(seconds, buffer_bytes, |bytes| {
                form.seconds(device, &CollectiveKernel { bytes: *bytes, ..*kernel })
            }),
            Price::CustomAllReduce(form, kernel) => each(seconds, buffer_bytes, |bytes| {
                form.seconds(device, &CollectiveKernel { bytes: *bytes, ..*kernel })
            }),
            Price::Host(form) => each(seconds, &part.sequences, |sequences| {
                form.seconds(device, &HostKernel { sequences: *sequences })
            }),
            Price::Launching(all, captured) => {
                each(seconds, &part.tokens, |tokens| if tokens > captured { *all } else { 0.0 })
            }
        }
        for (seconds, ideal) in seconds.iter_mut().zip(ideal) {
            *seconds = (self.factor * *seconds).max(self.floor).max(*ideal);
        }
    }
}

/// Writes the seconds of each step, given its lane.
fn each(seconds: &mut [f64], lane: &[f64], of: impl Fn(&f64) -> f64) {
    seconds.iter_mut().zip(lane).for_each(|(seconds, value)| *seconds = of(value));
}
