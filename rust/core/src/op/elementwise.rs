//! Elementwise operators, whose cost is a question of fusion.

use crate::error::Result;
use crate::names;
use crate::work::{Rate, Work};

/// How far elementwise operators are fused into their neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fusion {
    /// They run in their neighbours' prologue or epilogue: no traffic of their own.
    #[default]
    Full,
    /// As engines do: add and norm one kernel, activation and product one kernel, RoPE with the KV write.
    Engine,
    /// Every tensor is read and written once by every operator.
    None,
}

impl Fusion {
    /// The level of that name: `full`, `engine` or `none`.
    ///
    /// # Errors
    /// Another name.
    pub fn parse(name: &str) -> Result<Fusion> {
        match name {
            "full" => Ok(Fusion::Full),
            "engine" => Ok(Fusion::Engine),
            "none" => Ok(Fusion::None),
            _ => Err(names::unknown("fusion", name, ["full", "engine", "none"])),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Fusion::Full => "full",
            Fusion::Engine => "engine",
            Fusion::None => "none",
        }
    }
}

/// An operator that does `ops` vector operations a token and passes `elements` activations a token through memory.
pub fn pass(ops: f64, elements: f64, activation_bytes: f64, fusion: Fusion) -> Work {
    let fused = fusion == Fusion::Full;
    let moved = if fused { 0.0 } else { elements * activation_bytes };
    Work { vector_flops: Rate::token(ops), activation_bytes: Rate::token(moved), fused, ..Work::default() }
}

/// Residual add and norm over `width`: fused 2 reads and 2 writes; apart 3 + 2 passes. RMS norm is 4 operations an
/// element, the add one.
pub fn add_norm(width: f64, activation_bytes: f64, fusion: Fusion) -> Work {
    let passes = if fusion == Fusion::None { 5.0 } else { 4.0 };
    pass(5.0 * width, passes * width, activation_bytes, fusion)
}

/// A norm alone over `width`: one read, one write.
pub fn norm(width: f64, activation_bytes: f64, fusion: Fusion) -> Work {
    pass(4.0 * width, 2.0 * width, activation_bytes, fusion)
}

/// Activation of `width` channels, times the gate's partner where there is one: SiLU is 4 operations an element.
pub fn activation(width: f64, gated: bool, activation_bytes: f64, fusion: Fusion) -> Work {
    let (ops, passes) = if gated { (5.0, 3.0) } else { (4.0, 2.0) };
    pass(ops * width, passes * width, activation_bytes, fusion)
}

/// Bringing `width` activations into the `narrow` bytes they are multiplied in: one read, one write; scaling and
/// rounding are 2 operations an element.
pub fn quantize(width: f64, narrow: f64, activation_bytes: f64, fusion: Fusion) -> Work {
    pass(2.0 * width, width * (1.0 + narrow / activation_bytes), activation_bytes, fusion)
}

/// Rotary embedding of `width` query and key channels: 3 operations an element, one read, one write.
pub fn rope(width: f64, activation_bytes: f64, fusion: Fusion) -> Work {
    pass(3.0 * width, 2.0 * width, activation_bytes, fusion)
}
