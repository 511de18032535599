//! The error type of this crate: what must hold in a trace or a simulation, and what was.

/// Why a trace could not be read or a simulation not run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A trace that breaks a rule, with the place where it does.
    #[error("{}{field}{}{must}: {value}", place(file, *line), if field.is_empty() { "" } else { " " })]
    Trace {
        /// The file as the user named it.
        file: String,
        /// The line, counted from 1; 0 where the whole file is meant.
        line: u64,
        /// The field, or empty.
        field: String,
        /// What must hold.
        must: String,
        /// What was.
        value: String,
        /// What to do about it, or empty.
        hint: String,
    },
    /// A rule of the cost model or of a specification.
    #[error(transparent)]
    Core(#[from] roofline_core::error::Error),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// What to do about it; empty where nothing better can be said.
    pub fn hint(&self) -> String {
        match self {
            Error::Trace { hint, .. } => hint.clone(),
            Error::Core(error) => error.hint(),
            Error::Interrupted => String::new(),
        }
    }
}

fn place(file: &str, line: u64) -> String {
    if line == 0 { format!("{file}: ") } else { format!("{file}:{line}: ") }
}
