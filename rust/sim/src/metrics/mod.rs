//! What is measured of a simulation.

pub mod percentiles;
pub mod slo;
pub mod journal;
pub mod records;
pub mod steps;
pub mod summary;
pub mod band;
