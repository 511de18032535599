//! Every combination of some axes: which there are, which are possible, what they cost, and which are best.
//!
//! A point of a [`Space`] is a number; its settings are that number's digits in mixed radix ([`grid`]), so that nothing
//! is ever listed. [`read`] prices a range of points: deployments are compiled once each, their points go through
//! `roofline_core::batch` in blocks, and what is dropped on the way is counted by reason.

pub mod grid;
pub mod runs;
pub mod axis;
pub mod space;
pub mod keep;
pub mod dropped;
pub mod ask;
mod part;
pub mod read;

pub use ask::{Ask, Limit, Limits};
pub use axis::{Axis, Setting, Values};
pub use dropped::Dropped;
pub use keep::{Keep, Objective};
pub use part::Part;
pub use read::{Swept, next_possible, read};
pub use runs::Runs;
pub use space::{Space, check_name};
