//! What happens when real traffic meets a serving engine? A deterministic discrete-event simulation.
//!
//! Same input and seed, same bytes out, on any number of threads. The order of the modules below is the reading
//! order; a module imports only modules above it.

pub mod error;
pub mod trace;
