//! Techniques: hand-calculated cases of every class, laws, published effects, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod toy;
mod quantization;
mod sparsity;
mod cache;
mod generation;
mod systems;
mod laws;
mod layouts;
mod published;
mod refusals;
