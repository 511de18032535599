//! The one error type of this crate: what must hold, what was, and what to do about it.

/// Why a question could not be answered.
///
/// The text of each variant reads *what must hold: what was*; [`Error::hint`] carries the remedy apart from it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A value breaks a rule of its field.
    #[error("{field} {must}: {value}")]
    Spec {
        /// The field as the user wrote it, with its path (`layout.tp`, `config.json: num_hidden_layers`).
        field: String,
        /// What must hold (`must be at least 1`).
        must: String,
        /// What was.
        value: String,
        /// What to do about it, or empty.
        hint: String,
    },
    /// A name that nothing is known under.
    #[error("no {kind} is called `{name}`")]
    UnknownName {
        /// What was looked for (`model`, `hardware`, `format`).
        kind: &'static str,
        /// The name as given.
        name: String,
        /// The nearest known names, best first, at most three.
        nearest: Vec<String>,
    },
    /// A deployment that does not fit in the memory it is given.
    #[error("{what} must fit in {available_gib:.1} GiB: {needed_gib:.1} GiB")]
    DoesNotFit {
        /// What was to be placed.
        what: String,
        /// What it needs, GiB.
        needed_gib: f64,
        /// What there is, GiB.
        available_gib: f64,
        /// What to do about it, or empty.
        hint: String,
    },
    /// Several mistakes of one document, all at once.
    #[error("{origin} has {} mistakes:\n{}", errors.len(), list(errors))]
    Many {
        /// The document (`my-gpu.toml`).
        origin: String,
        /// Its mistakes, in document order.
        errors: Vec<Error>,
    },
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A broken rule: `spec("layout.tp", "must be at least 1", 0, "")`.
    pub fn spec(
        field: impl Into<String>,
        must: impl Into<String>,
        value: impl std::fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        Error::Spec { field: field.into(), must: must.into(), value: value.to_string(), hint: hint.into() }
    }

    /// What to do about it; empty where nothing better can be said.
    pub fn hint(&self) -> String {
        match self {
            Error::Spec { hint, .. } | Error::DoesNotFit { hint, .. } => hint.clone(),
            Error::UnknownName { nearest, .. } if !nearest.is_empty() => {
                format!("nearest: {}", nearest.join(", "))
            }
            Error::UnknownName { kind, .. } => format!("`roofline-fast catalog` lists every {kind}"),
            Error::Many { .. } => String::new(),
        }
    }

    /// The field as the user wrote it; empty where there is none.
    pub fn field(&self) -> String {
        match self {
            Error::Spec { field, .. } => field.clone(),
            Error::UnknownName { kind, .. } => (*kind).to_string(),
            Error::DoesNotFit { what, .. } => what.clone(),
            Error::Many { origin, .. } => origin.clone(),
        }
    }

    /// The offending value as text.
    pub fn value(&self) -> String {
        match self {
            Error::Spec { value, .. } => value.clone(),
            Error::UnknownName { name, .. } => name.clone(),
            Error::DoesNotFit { needed_gib, .. } => format!("{needed_gib:.1} GiB"),
            Error::Many { errors, .. } => errors.len().to_string(),
        }
    }

    /// One error as it is, several bundled under the document they come from; `Ok` if there are none.
    ///
    /// # Errors
    /// The mistakes handed in.
    pub fn all(origin: &str, mut errors: Vec<Error>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Many { origin: origin.to_string(), errors }),
        }
    }
}

fn list(errors: &[Error]) -> String {
    let line = |error: &Error| match error.hint() {
        hint if hint.is_empty() => format!("  {error}"),
        hint => format!("  {error} ({hint})"),
    };
    errors.iter().map(line).collect::<Vec<_>>().join("\n")
}
