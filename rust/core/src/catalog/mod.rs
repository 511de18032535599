//! What is shipped: the hardware and the models known by name, embedded from `rust/core/data/`.

mod model_files;
pub mod models;
