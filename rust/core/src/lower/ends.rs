//! The ends of a model: embedding in front, final norm and head behind.

use super::{Builder, multiplied};
use crate::format::Format;
use crate::model::Model;
use crate::op::{elementwise, vocabulary};
use crate::site::{Lane, Site};
use crate::work::{Collective, Family, Kernel, Op, Over, Rate, Work};

/// Times that choosing a token passes over the logits: scaling, sorting or masking, softmax, drawing.
const SAMPLING_PASSES: f64 = 4.0;

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
        let kernel = Kernel::Pass(work.weight_bytes + work.activation_bytes);
        self.push(Op::new("embedding", Family::Elementwise, self.activation, work).run_as(kernel));
        self.all_reduce();
        self.stage_share = share;
    }

    /// Final norm, and logits of the rows that are sampled, gathered from all ranks.
    pub(super) fn exit(&mut self, model: &Model) {
        self.repeat = 1.0;
        self.stage_share = 1.0;
        let (hidden, bytes) = (self.hidden, self.bytes);
        self.elementwise("final_norm", |fusion| elementwise::norm(hidden, bytes, fusion));
        if !model.head {
            return;
        }
        let vocab = model.vocab as f64;
        let linear = self.precision.vocabulary();
        let work = vocabulary::head(model.embedding_width as f64, vocab / self.tp, linear, self.bytes);
        let kernel = multiplied(Rate::logit(1.0), model.embedding_width as f64, vocab / self.tp, linear);
        let mut op = Op::new("lm_head", Family::Gemm, linear.activation, work).run_as(kernel);
        op.needs_logits = true;
        self.push(op);
        let bytes = Rate::logit(vocab * self.bytes);
        self.transfer("logits_all_gather", Collective::AllGather, self.layout.tp, 1, bytes);
    }
}

/// What an engine runs beside the model's own operators, in `activation`'s format: it chooses tokens from logits, and
/// its host schedules. No part of an ideal roofline.
pub fn beside_the_model(model: &Model, activation: Format) -> Vec<Op> {
    let nothing = Work { fused: true, ..Work::default() };
    let mut ops = Vec::new();
    if model.head {
        let bytes = Rate::logit(SAMPLING_PASSES * model.vocab as f64 * activation.bytes());
        let mut op =
            Op::new("sampling", Family::Elementwise, activation, nothing).run_as(Kernel::Pass(bytes));
        op.needs_logits = true;
        op.stage_repeat = 1.0;
        ops.push(op);
    }
    ops.push(Op::new("host", Family::Host, activation, nothing).run_as(Kernel::Host));
    ops
}

/// What launching the kernels of a step with prompts takes the host, of which the busiest pipeline stage has a share.
pub fn launching(activation: Format, stage_share: f64) -> Op {
    let nothing = Work { fused: true, ..Work::default() };
    let site = Site { lane: Lane::Launching, devices: 0.0, ..Site::default() };
    let op = Op::new("launching", Family::Host, activation, nothing).run_as(Kernel::Launching);
    Op { over: Over::WithPrompts, stage_repeat: stage_share, site, ..op }
}
