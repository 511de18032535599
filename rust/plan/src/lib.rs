//! Which configuration is best? Many points at once, over the same cost model as one.
//!
//! The order of the modules below is the reading order; a module imports only modules above it.

pub mod error;
pub mod results;
pub mod deployed;
pub mod evaluate;
pub mod sweep;
pub mod compare;
pub mod break_even;
pub mod calibrate;
pub mod validate;
