//! Dense decoders that are Llama but for a few switches: biases, norms, gates, what a layer sees.

use super::block::{Draft, Sizes, decoder, layer};
use super::keys::Keys;
use crate::error::Result;
use crate::model::{Attention, Dense, Ffn, LayerGroup, Mixer, Span};

/// How a family's layer differs from Llama's.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Biases on q, k and v.
    pub qkv_bias: bool,
    /// A bias on o.
    pub output_bias: bool,
    /// Biases in the network.
    pub mlp_bias: bool,
    /// Three matrices in the network, or two.
    pub gated: bool,
    /// Parameters of norms on queries and keys.
    pub qk_norm: u64,
    /// Norms of a layer.
    pub norms: u64,
    /// Parameters of one norm.
    pub norm: u64,
    /// Both parts behind one norm.
    pub parallel: bool,
    /// Head and embedding one tensor where the configuration is silent.
    pub tied: bool,
}

impl Style {
    /// Llama's own.
    pub fn llama(sizes: &Sizes) -> Style {
        Style {
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            gated: true,
            qk_norm: 0,
            norms: 2,
            norm: sizes.hidden,
            parallel: false,
            tied: false,
        }
    }

    /// The same with biases on all attention projections or on none.
    pub fn attention_bias(self, bias: bool) -> Style {
        Style { qkv_bias: bias, output_bias: bias, ..self }
    }

    /// A layer of this style.
    pub fn layer(&self, sizes: &Sizes, intermediate: u64, span: Span, rope: bool) -> LayerGroup {
        let attention = Attention {
            span,
            rope,
            qkv_bias: self.qkv_bias,
            output_bias: self.output_bias,
            qk_norm_parameters: self.qk_norm,
            ..sizes.attention()
        };
        let network = Dense { intermediate, gated: self.gated, bias: self.mlp_bias };
        let mixer = Some(Mixer::Attention(attention));
        let group = layer(mixer, Some(Ffn::Dense(network)), self.norms, self.norms * self.norm);
        LayerGroup { parallel: self.parallel, ..group }
    }
}

/// A decoder of this style whose layers all see everything.
///
/// # Errors
/// No width of the network is given.
pub fn uniform(keys: &Keys<'_>, sizes: &Sizes, style: Style) -> Result<Draft> {
    spanned(keys, sizes, style, |_| (Span::Full, true))
}

/// A decoder of this style; `see` says of each layer what it sees and whether it has rotary positions.
///
/// # Errors
/// No width of the network is given.
pub fn spanned(
    keys: &Keys<'_>,
    sizes: &Sizes,
    style: Style,
    see: impl Fn(u64) -> (Span, bool),
) -> Result<Draft> {
    let intermediate = keys.size("intermediate_size")?;
    let layers = sizes.each(|index| {
        let (span, rope) = see(index);
        Ok(style.layer(sizes, intermediate, span, rope))
    })?;
    Ok(decoder(keys, sizes, style.tied, layers)?.with_other(style.norm))
}
