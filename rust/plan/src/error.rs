//! The error type of this crate: a mistake, and the row of the frame it stands in.

/// Why a frame of configurations could not be priced.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration that is not possible.
    #[error("row {row}: {source}")]
    Row {
        /// The row, counted from 0 as frames do.
        row: usize,
        /// What is wrong with it.
        source: roofline_core::error::Error,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// A column that is not possible.
    #[error(transparent)]
    Core(#[from] roofline_core::error::Error),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The mistake itself; none where the user stopped the work.
    pub fn source(&self) -> Option<&roofline_core::error::Error> {
        match self {
            Error::Row { source, .. } | Error::Core(source) => Some(source),
            Error::Interrupted => None,
        }
    }
}
