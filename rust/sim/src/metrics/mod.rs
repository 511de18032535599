//! What is measured of a simulation.

pub mod sketch;
pub mod percentiles;
pub mod slo;
pub mod requests;
pub mod gaps;
pub mod journal;
pub mod account;
pub mod times;
pub mod timeline;
pub mod load;
pub mod at_once;
pub mod tally;
pub mod sink;
pub mod steps;
pub mod records;
pub mod explain;
pub mod perfetto;
pub mod summary;
pub mod band;
