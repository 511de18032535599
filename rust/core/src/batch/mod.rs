//! Many points of one deployment at once: columns of sizes in, columns of seconds and work out.
//!
//! [`Kernel::price`] says of each point what [`Analyst::outcome`] says of one, to rounding. It is quicker for three
//! reasons. Ideal operators are compiled to a few coefficients of a step's sums ([`program`]), and loops over a block of
//! points run one coefficient at a time, without branches. What depends on counts alone (every dense multiplication,
//! the experts a step visits) is priced once for the points of a block that share those counts. And the decode steps
//! of an ideal request have a closed form ([`run`]), because each of their operators is the greatest of a few straight
//! lines over the context. Predictions are neither lines nor maxima: their [`operators`] are evaluated operator by operator,
//! and those of a request's decode steps at the few contexts where lines bend ([`answer`]).

mod affine;
mod kind;
mod program;
mod rows;
mod shared;
mod steps;
mod run;
mod remembered;
mod tally;
mod operators;
mod answer;
mod linear;
mod kernel;

pub use affine::BLOCK;
pub use kernel::{Answers, Kernel, Scratch, Sizes, Want};

#[cfg(test)]
mod tests;
