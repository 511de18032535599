//! Which configuration is best? Many points at once, over the same cost model as one.
//!
//! The order of the modules below is the reading order; a module imports only modules above it.

pub mod error;
pub mod evaluate;
pub mod calibrate;
pub mod validate;
