//! From a model to its operators: the only place that knows what a layer consists of.

mod ends;
mod ffn;
mod mixer;
mod tower;

use crate::format::Format;
use crate::layout::Layout;
use crate::model::{LayerGroup, Linear, Model, Part};
use crate::op::elementwise::{self, Fusion};
use crate::precision::Precision;
use crate::shape::Reaches;
use crate::site::Matrix;
use crate::work::kernel::{self, Kernel};
use crate::work::{Collective, Family, Op, Over, Rate, Transfer, Work};

pub use ends::{beside_the_model, launching};
pub use tower::tower_ops;

/// What changes the operators besides model, layout and precision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lowering {
    /// How far elementwise operators are fused in the ideal roofline.
    pub fusion: Fusion,
    /// How far the engine fuses them: which kernels a prediction counts.
    pub kernels: Fusion,
    /// Whether scores, softmax and values are one kernel.
    pub flash_attention: bool,
}

impl Default for Lowering {
    fn default() -> Self {
        Lowering { fusion: Fusion::Full, kernels: Fusion::Engine, flash_attention: true }
    }
}

/// The operators of one step through `model`, as one device of `layout` runs them; equal ones are merged.
pub fn lower(
    model: &Model,
    layout: Layout,
    precision: &Precision,
    how: Lowering,
    reaches: &Reaches,
) -> Vec<Op> {
    let mut builder = Builder::new(model.hidden, layout, precision, how, reaches);
    builder.stage_share = stage_share(model, layout);
    builder.entry(model);
    for group in &model.layers {
        builder.layer(group);
    }
    builder.stages();
    builder.exit(model);
    builder.ops
}

/// Share of the layers that the busiest pipeline stage holds.
pub fn stage_share(model: &Model, layout: Layout) -> f64 {
    let layers: u64 = model.layers.iter().map(|group| group.count).sum();
    if layers == 0 { 1.0 } else { layout.busiest_stage_layers(layers) as f64 / layers as f64 }
}

/// `rows` times a resident weight of `inputs × outputs`, as an engine launches it.
pub(crate) fn multiplied(rows: Rate, inputs: f64, outputs: f64, linear: Linear) -> Kernel {
    let Linear { weight, activation: input, .. } = linear;
    Kernel::Gemm(kernel::Gemm { rows, inputs, outputs, heads: 0.0, weight, input })
}

/// Collects the operators of a stack of layers.
struct Builder<'a> {
    hidden: f64,
    layout: Layout,
    precision: &'a Precision,
    how: Lowering,
    reaches: &'a Reaches,
    activation: Format,
    /// Bytes of an activation.
    bytes: f64,
    /// Tensor parallelism as a number to divide by.
    tp: f64,
    /// Occurrences of what is being pushed in the whole model.
    repeat: f64,
    /// Share of them on the busiest stage.
    stage_share: f64,
    /// Share of the step's tokens that what is being pushed runs over on this device.
    token_share: f64,
    ops: Vec<Op>,
}

impl<'a> Builder<'a> {
    fn new(
        hidden: u64,
        layout: Layout,
        precision: &'a Precision,
        how: Lowering,
        reaches: &'a Reaches,
    ) -> Builder<'a> {
        Builder {
            hidden: hidden as f64,
            layout,
            precision,
            how,
            reaches,
            activation: precision.activation,
            bytes: precision.activation.bytes(),
            tp: layout.tp as f64,
            repeat: 1.0,
            stage_share: 1.0,
            token_share: 1.0,
            ops: Vec::new(),
        }
    }

    /// Adds an operator, or its occurrences to an equal one.
    fn push(&mut self, mut op: Op) {
        op.repeat = self.repeat;
        op.stage_repeat = self.repeat * self.stage_share;
        for rate in [&mut op.work.flops, &mut op.work.vector_flops, &mut op.work.activation_bytes] {
            rate.token *= self.token_share;
        }
        op.kernel = op.kernel.of_tokens(self.token_share);
        let same = |known: &&mut Op| {
            (&known.name, known.family, known.over, known.reach, known.format)
                == (&op.name, op.family, op.over, op.reach, op.format)
                && known.work == op.work
                && known.kernel == op.kernel
        };
        match self.ops.iter_mut().find(same) {
            Some(known) => {
                known.repeat += op.repeat;
                known.stage_repeat += op.stage_repeat;
            }
            None => self.ops.push(op),
        }
    }

    fn layer(&mut self, group: &LayerGroup) {
        self.repeat = group.count as f64;
        let parts = u64::from(group.mixer.is_some()) + u64::from(group.ffn.is_some());
        let added = if group.parallel { parts.min(1) } else { parts }.min(group.norms);
        let (hidden, bytes) = (self.hidden, self.bytes);
        for index in 0..group.norms {
            if index < added {
                self.elementwise("add_norm", |fusion| elementwise::add_norm(hidden, bytes, fusion));
            } else {
                self.elementwise("norm", |fusion| elementwise::norm(hidden, bytes, fusion));
            }
        }
        self.modulation(group);
        if let Some(mixer) = &group.mixer {
            self.mixer(group, mixer);
            if !(group.parallel && group.ffn.is_some()) {
                self.all_reduce();
            }
        }
        if let Some(ffn) = &group.ffn {
            self.ffn(group, ffn);
        }
    }

    /// A dense multiplication of `part`, `inputs × outputs` on this device.
    fn gemm(&mut self, name: &str, linear: Linear, inputs: f64, outputs: f64) {
        if inputs * outputs > 0.0 {
            self.quantize(name, linear, inputs);
            let work = crate::op::linear::gemm(inputs, outputs, linear, self.bytes);
            let kernel = multiplied(Rate::token(1.0), inputs, outputs, linear);
            let mut op = Op::new(name, Family::Gemm, linear.activation, work).run_as(kernel);
            op.matrix = Some(Matrix { inputs, outputs });
            self.push(op);
        }
    }

    /// Activations brought into the format `gemm` multiplies them in, where that is narrower than they are.
    fn quantize(&mut self, gemm: &str, linear: Linear, width: f64) {
        let narrow = linear.activation.bytes();
        if narrow < self.bytes {
            let of = |fusion| elementwise::quantize(width, narrow, self.bytes, fusion);
            let kernel = Kernel::Quantise(kernel::Quantise {
                bytes: of(Fusion::None).activation_bytes,
                weight: linear.weight,
                input: linear.activation,
            });
            let name = format!("quantize[{gemm}]");
            let work = of(self.how.fusion);
            self.push(Op::new(name, Family::Elementwise, self.activation, work).run_as(kernel));
        }
    }

    /// Scales and shifts of a diffusion layer's norms, made once an image from its time step and class.
    fn modulation(&mut self, group: &LayerGroup) {
        if group.modulation > 0 {
            let plain = Linear::plain(self.activation);
            let once =
                crate::op::linear::gemm(self.hidden, group.modulation as f64 / self.tp, plain, self.bytes);
            let work = Work {
                flops: Rate { sequence: once.flops.token, ..Rate::ZERO },
                activation_bytes: Rate { sequence: once.activation_bytes.token, ..Rate::ZERO },
                ..once
            };
            let columns = group.modulation as f64 / self.tp;
            let rows = Rate { sequence: 1.0, ..Rate::ZERO };
            let kernel = multiplied(rows, self.hidden, columns, plain);
            self.push(Op::new("modulation", Family::Gemm, plain.activation, work).run_as(kernel));
        }
    }

    fn linear(&self, group: &LayerGroup, part: Part) -> Linear {
        self.precision.of(group, part)
    }

    /// An elementwise operator, `of` a level of fusion: that of the roofline, and that of the engine's kernels.
    fn elementwise(&mut self, name: &str, of: impl Fn(Fusion) -> Work) {
        let launched = of(self.how.kernels);
        let kernel = if launched.fused { Kernel::Inside } else { Kernel::Pass(launched.activation_bytes) };
        let work = of(self.how.fusion);
        self.push(Op::new(name, Family::Elementwise, self.activation, work).run_as(kernel));
    }

    /// The sum over tensor-parallel ranks after a row-parallel multiplication.
    fn all_reduce(&mut self) {
        self.reduce("all_reduce", self.hidden);
    }

    /// The sum of `width` activations a token over tensor-parallel ranks.
    fn reduce(&mut self, name: &str, width: f64) {
        let bytes = Rate::token(width * self.bytes);
        self.transfer(name, Collective::AllReduce, self.layout.tp, 1, bytes);
    }

    fn transfer(&mut self, name: &str, collective: Collective, ranks: u64, stride: u64, bytes: Rate) {
        if ranks > 1 {
            let work =
                Work { transfer: Some(Transfer { collective, ranks, stride, bytes }), ..Work::default() };
            let mut op = Op::new(name, Family::Link, self.activation, work).run_as(Kernel::Transfer);
            op.needs_logits = bytes.logit > 0.0;
            op.over = Over::All;
            self.push(op);
        }
    }

    /// Activations handed from stage to stage.
    fn stages(&mut self) {
        if self.layout.pp > 1 {
            let bytes = Rate::token(self.hidden * self.bytes);
            let stride = (self.layout.tp * self.layout.pp).div_ceil(2);
            self.repeat = (self.layout.pp - 1) as f64;
            let share = std::mem::replace(&mut self.stage_share, 1.0 / (self.layout.pp - 1) as f64);
            self.transfer("send_recv", Collective::PointToPoint, 2, stride, bytes);
            self.stage_share = share;
        }
    }
}
