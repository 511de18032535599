//! What is shipped: the hardware and the models known by name, embedded from `rust/core/data/`.

mod model_files;
mod packed;
pub mod hardware;
pub mod models;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// The thing itself.
    pub item: T,
    /// How the name was understood, where it names a family and not one member: "`h100` taken as `h100-sxm`".
    pub note: Option<String>,
}
