//! Which engine's rules a scheduler follows.

/// The rules by which steps are filled and results taken in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rules {
    /// vLLM 0.33.0, V1.
    Vllm,
}
