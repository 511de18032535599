//! The ends of a model: embedding in front, final norm and head behind.

use super::Builder;
use crate::model::Model;
use crate::op::{elementwise, vocabulary};
use crate::work::{Collective, Family, Op, Rate};

impl Builder<'_> {
    /// Embedding of the new tokens; its table is split by rows, so every rank gathers and the parts are summed.
    pub(super) fn entry(&mut self, model: &Model) {
        if model.vocab == 0 {
            return;
        }
        self.repeat = 1.0;
        let share = std::mem::replace(&mut self.stage_share, if self.layout.pp > 1 { 0.0 } else { 1.0 });
        let table = self.precision.vocabulary();
        let rows = model.vocab as f64 / self.tp;
        let mut work = vocabulary::embedding(model.embedding_width as f64, rows, table, self.bytes);
        if model.tied_embeddings && model.head && self.layout.pp == 1 {
            work.resident = Default::default();
        }
        self.push(Op::new("embedding", Family::Elementwise, self.activation, work));
        self.all_reduce();
        self.stage_share = share;
    }

    /// Final norm, and logits of the rows that are sampled, gathered from all ranks.
    pub(super) fn exit(&mut self, model: &Model) {
        self.repeat = 1.0;
        self.stage_share = 1.0;
        let fusion = self.how.fusion;
        self.elementwise("final_norm", elementwise::norm(self.hidden, self.bytes, fusion));
        if !model.head {
            return;
        }
        let vocab = model.vocab as f64;
        let linear = self.precision.vocabulary();
        let work = vocabulary::head(model.embedding_width as f64, vocab / self.tp, linear, self.bytes);
        let mut op = Op::new("lm_head", Family::Gemm, linear.activation, work);
        op.needs_logits = true;
        self.push(op);
        let bytes = Rate::logit(vocab * self.bytes);
        self.transfer("logits_all_gather", Collective::AllGather, self.layout.tp, 1, bytes);
    }
}
