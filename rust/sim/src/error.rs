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
        must: Box<str>,
        /// What was.
        value: String,
        /// What to do about it, or empty.
        hint: Box<str>,
    },
    /// Several mistakes of one trace, all at once.
    #[error("{file} has mistakes of {} kinds:\n{}", errors.len(), list(errors))]
    Traces {
        /// The file as the user named it.
        file: String,
        /// One of each kind, in the order of their first lines.
        errors: Vec<Error>,
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
    /// A broken rule of a trace: file, line (0 where the whole file is meant), field (or empty), what must hold, what was.
    pub fn trace(
        file: impl Into<String>,
        line: u64,
        field: impl Into<String>,
        must: impl Into<Box<str>>,
        value: impl Into<String>,
    ) -> Error {
        Error::Trace {
            file: file.into(),
            line,
            field: field.into(),
            must: must.into(),
            value: value.into(),
            hint: Box::default(),
        }
    }

    /// The same with a remedy, where it is one that carries its own.
    #[must_use]
    pub fn hinted(mut self, remedy: impl Into<Box<str>>) -> Error {
        if let Error::Trace { hint, .. } = &mut self {
            *hint = remedy.into();
        }
        self
    }

    /// What to do about it; empty where nothing better can be said.
    pub fn hint(&self) -> String {
        match self {
            Error::Trace { hint, .. } => hint.to_string(),
            Error::Core(error) => error.hint(),
            Error::Traces { .. } | Error::Interrupted => String::new(),
        }
    }
}

fn place(file: &str, line: u64) -> String {
    if line == 0 { format!("{file}: ") } else { format!("{file}:{line}: ") }
}

fn list(errors: &[Error]) -> String {
    let line = |error: &Error| match error.hint() {
        hint if hint.is_empty() => format!("  {error}"),
        hint => format!("  {error} ({hint})"),
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}
