//! How much larger an operator is than any that its fit was measured on.

use super::{Predicted, Price};
use crate::shape::{Parts, PhaseSums};
use crate::work::Op;

impl Predicted {
    /// How many times larger this operator is, in a step of these sums, than the largest problem that its fit was measured
    /// on: above one, it is extrapolated. Sizes are as calibration counts them; 0 where none is known.
    pub fn beyond(&self, op: &Op, parts: &Parts<'_>, part: &PhaseSums) -> f64 {
        let [prompts, answers] = match &self.price {
            Price::Gemm(_, kernel, rows) => {
                [kernel.batch * rows.of(part, op.reach) * kernel.n * kernel.k, 0.0]
            }
            Price::Attention(_, _, seen) => {
                let longest = parts.prefill.longest.min(seen.window);
                [parts.prefill.tokens * longest, parts.decode.reach[op.reach].keys]
            }
            Price::Expanded(..) => [part.tokens * part.longest, 0.0],
            Price::Absorbed(..) => [0.0, part.reach[op.reach].keys],
            Price::Experts(_, _, experts, kernel) => {
                let tokens = part.tokens * experts.at_once * experts.ranks;
                [tokens * kernel.hidden * kernel.inner, 0.0]
            }
            _ => [0.0, 0.0],
        };
        f64::max(prompts / self.largest[0], answers / self.largest[1])
    }
}
