//! From measurements to efficiencies: reads kernel timings, leaves out what cannot be right, fits the forms and says how far off they are.
//!
//! The order of the modules below is the reading order.

pub mod frame;
pub mod kernel;
pub mod routing;
pub mod devices;
pub mod vocabulary;
pub mod dimensions;
pub mod modules;
pub mod read;
pub mod check;
pub mod errors;
pub mod least_squares;
pub mod family;
pub mod fit;
pub mod whole;
pub mod file;
pub mod steps;
pub mod run;
