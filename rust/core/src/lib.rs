//! What does a step of a language model cost on given hardware, and what bounds it?
//!
//! Pure functions from (model, hardware, layout, precision, batch shape) to FLOPs, bytes, seconds and memory:
//! no clock, no randomness, no files, no Python. The order of the modules below is the reading order; a module
//! imports only modules above it.

pub mod units;
pub mod fixed;
pub mod error;
pub mod names;
pub mod format;
pub mod table;
pub mod hardware;
pub mod model;
pub mod catalog;
pub mod layout;
pub mod precision;
pub mod shape;
pub mod straight;
pub mod per_step;
pub mod site;
pub mod work;
pub mod op;
pub mod network;
pub mod collective;
pub mod roof;
pub mod cause;
pub mod efficiency;
pub mod lower;
pub mod technique;
pub mod step;
pub mod memo;
pub mod accumulate;
pub mod kv;
pub mod groups;
pub mod memory;
pub mod point;
mod decodes;
pub mod analysis;
pub mod batch;
pub mod llm_viewer;
