//! What happens when real traffic meets a serving engine? A deterministic discrete-event simulation.
//!
//! Same input and seed, same bytes out, on any number of threads. The order of the modules below is the reading
//! order; a module imports only modules above it.

pub mod error;
pub mod trace;
pub mod stream;
pub mod workload;
pub mod time;
pub mod images;
pub mod request;
pub mod assemble;
pub mod client;
pub mod step_cost;
pub mod step;
mod living;
mod pages;
pub mod kv;
pub mod scheduler;
pub mod metrics;
pub mod engine;
pub mod fast;
pub mod lockstep;
pub mod run;
pub mod report;
pub mod knobs;
pub mod techniques;
mod sizing;
pub mod serve;
