//! The vision tower: a bidirectional stack over patches, run once an image.

use super::{Builder, Lowering, multiplied};
use crate::layout::Layout;
use crate::model::{Linear, Tower};
use crate::op::linear;
use crate::precision::Precision;
use crate::shape::Reaches;
use crate::work::{Family, Op, Rate};

/// The operators of `tower` over the patches of a step (one "token" a patch), replicated on every device of a
/// tensor-parallel group, as vLLM runs towers by default unless they are sharded explicitly.
pub fn tower_ops(tower: &Tower, precision: &Precision, how: Lowering, reaches: &Reaches) -> Vec<Op> {
    let alone = Layout::default();
    let mut builder = Builder::new(tower.hidden, alone, precision, how, reaches);
    let plain = Linear::plain(precision.activation);
    let patches = tower.patch_parameters as f64 / builder.hidden;
    builder.gemm("patch_embed", plain, patches, builder.hidden);
    for group in &tower.layers {
        builder.layer(group);
    }
    builder.repeat = 1.0;
    if tower.projector_parameters > 0 {
        let outputs = tower.projector_parameters as f64 / builder.hidden;
        let mut work = linear::gemm(builder.hidden, outputs, plain, builder.bytes);
        let per_patch = 1.0 / tower.patches_per_token.max(1) as f64;
        work.flops = work.flops.times(per_patch);
        work.activation_bytes = work.activation_bytes.times(per_patch);
        let kernel = multiplied(Rate::token(per_patch), builder.hidden, outputs, plain);
        builder.push(Op::new("projector", Family::Gemm, plain.activation, work).run_as(kernel));
    }
    builder.ops
}
