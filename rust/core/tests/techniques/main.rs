//! Techniques: hand-calculated cases of every class, laws, published effects, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

#[path = "../random/mod.rs"]
mod random;
mod toy;
mod quantization;
mod sparsity;
mod cache;
mod generation;
mod systems;
mod latent;
mod laws;
mod neutral;
mod far_ends;
mod order;
mod bytes;
mod routing;
mod layouts;
mod published;
mod refusals;
