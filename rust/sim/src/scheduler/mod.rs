//! How an engine chooses what each step processes.

pub mod config;
pub mod preset;
pub mod speculation;
pub mod queue;
pub mod vllm;
