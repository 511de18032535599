//! What mixes channels: dense networks and mixtures of experts, with the exchange behind them.

use super::Builder;
use crate::model::{Ffn, LayerGroup, Linear, Moe, Part};
use crate::op::elementwise;
use crate::op::moe::{Placement, experts};
use crate::work::kernel::Experts;
use crate::work::{Collective, Family, Kernel, Op, Rate};

impl Builder<'_> {
    pub(super) fn ffn(&mut self, group: &LayerGroup, ffn: &Ffn) {
        match ffn {
            Ffn::Dense(dense) => {
                self.dense(group, Part::Dense, "", dense.intermediate, dense.gated);
                self.all_reduce();
            }
            Ffn::Moe(moe) => self.moe(group, moe),
        }
    }

    /// Gate and up in one multiplication, activation, down.
    fn dense(&mut self, group: &LayerGroup, part: Part, prefix: &str, intermediate: u64, gated: bool) {
        let linear = self.linear(group, part);
        let inner = intermediate as f64 / self.tp;
        let (up, matrices) = if gated { ("gate_up_proj", 2.0) } else { ("up_proj", 1.0) };
        self.gemm(&format!("{prefix}{up}"), linear, self.hidden, matrices * inner);
        let bytes = self.bytes;
        let act = |fusion| elementwise::activation(inner, gated, bytes, fusion);
        self.elementwise(&format!("{prefix}act_mul"), act);
        self.gemm(&format!("{prefix}down_proj"), linear, inner, self.hidden);
    }

    /// A network that runs for every token beside the experts. Where experts are shared beyond the tensor-parallel
    /// group its tokens are split over the group, so each rank holds the whole network and runs its own tokens.
    fn beside_experts(
        &mut self,
        group: &LayerGroup,
        part: Part,
        prefix: &str,
        intermediate: u64,
        gated: bool,
    ) {
        if self.layout.ep > self.layout.tp {
            let tp = std::mem::replace(&mut self.tp, 1.0);
            self.token_share = 1.0 / tp;
            self.dense(group, part, prefix, intermediate, gated);
            (self.tp, self.token_share) = (tp, 1.0);
        } else {
            self.dense(group, part, prefix, intermediate, gated);
        }
    }

    fn moe(&mut self, group: &LayerGroup, moe: &Moe) {
        let layout = self.layout;
        let router = self.linear(group, Part::Router);
        self.gemm("router", router, self.hidden, moe.experts as f64);
        if moe.dense_intermediate > 0 {
            self.beside_experts(group, Part::Dense, "", moe.dense_intermediate, moe.gated);
        }
        if moe.shared_intermediate > 0 {
            self.beside_experts(group, Part::Shared, "shared_", moe.shared_intermediate, moe.gated);
        }
        if moe.shared_gate {
            self.gemm("shared_gate", router, self.hidden, 1.0);
        }
        let linear = self.linear(group, Part::Experts);
        let width = moe.latent.map_or(self.hidden, |latent| latent as f64);
        if moe.latent.is_some() {
            let shared = self.linear(group, Part::Shared);
            self.gemm("latent_down_proj", shared, self.hidden, width);
            self.gemm("latent_up_proj", shared, width, self.hidden);
        }
        self.exchange("dispatch", moe, width);
        let place = Placement {
            ep: layout.ep as f64,
            expert_tp: layout.expert_tp() as f64,
            ranks: layout.ranks_sharing_experts() as f64,
        };
        let inner = moe.intermediate as f64 / place.expert_tp;
        let (up, matrices) = if moe.gated { ("experts_gate_up", 2.0) } else { ("experts_up", 1.0) };
        let first = experts(moe, matrices, width, inner, linear, self.bytes, place);
        let second = experts(moe, 1.0, inner, width, linear, self.bytes, place);
        let visits = moe.top_k as f64 * place.ranks / place.ep;
        let kernel = |share: f64| {
            Kernel::Experts(Experts {
                share: share / (matrices + 1.0),
                at_once: 1.0,
                experts: moe.experts as f64 / place.ep,
                missed: 1.0 - moe.top_k as f64 / moe.experts as f64,
                ranks: place.ranks,
                visits,
                width,
                inner,
                matrices: matrices + 1.0,
                weight: linear.weight,
                input: linear.activation,
            })
        };
        self.inside_experts(up, linear, visits * width);
        self.push(Op::new(up, Family::MoeGemm, linear.activation, first).run_as(kernel(matrices)));
        let act = elementwise::activation(visits * inner, moe.gated, self.bytes, self.how.fusion);
        let act = Op::new("experts_act_mul", Family::Elementwise, self.activation, act);
        self.push(act.run_as(Kernel::Inside));
        self.inside_experts("experts_down", linear, visits * inner);
        self.push(Op::new("experts_down", Family::MoeGemm, linear.activation, second).run_as(kernel(1.0)));
        self.exchange("combine", moe, width);
        self.gather_tokens();
    }

    /// Activations quantised for the experts: measured with their multiplications.
    fn inside_experts(&mut self, gemm: &str, linear: Linear, width: f64) {
        self.quantize(gemm, linear, width);
        if let Some(op) = self.ops.last_mut().filter(|op| matches!(op.kernel, Kernel::Quantise(_))) {
            op.kernel = Kernel::Inside;
        }
    }

    /// Tokens sent to the ranks of their experts, or back: only where experts are shared beyond the tensor-parallel
    /// group. Within it every rank already holds every token, and one all-reduce joins the parts, as vLLM does.
    fn exchange(&mut self, name: &str, moe: &Moe, width: f64) {
        let layout = self.layout;
        if layout.ep > layout.tp {
            let sent = moe.top_k as f64 * width * self.bytes / self.tp;
            self.transfer(name, Collective::AllToAll, layout.ep, layout.pp, Rate::token(sent));
        }
    }

    /// After the experts every tensor-parallel rank needs the whole hidden state again.
    fn gather_tokens(&mut self) {
        if self.layout.ep > self.layout.tp {
            let bytes = Rate::token(self.hidden * self.bytes);
            self.transfer("all_gather", Collective::AllGather, self.layout.tp, 1, bytes);
        } else {
            self.all_reduce();
        }
    }
}
