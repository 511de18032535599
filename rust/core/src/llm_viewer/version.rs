//! Which LLM-Viewer is meant: the versions differ in formulas and in hardware.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::names;

/// A version of LLM-Viewer whose figures are reproduced.
///
/// Reads from `llm-viewer@1893e4b`, from the bare version `1893e4b`, or from `llm-viewer` alone, which means
/// the newest published one.
///
/// ```
/// use roofline_core::llm_viewer::Version;
/// assert_eq!("llm-viewer".parse(), Ok(Version::Main1893e4b));
/// assert_eq!(Version::Main472f71f.to_string(), "llm-viewer@472f71f");
/// assert!("llm-viewer@1893e4c".parse::<Version>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `1893e4b`, the main branch of 2024-09-11: tensor parallelism.
    Main1893e4b,
    /// `472f71f`, the main branch of 2024-07-30: no tensor parallelism, flash attention reads the KV cache
    /// once per query head, the KV projections have a fractional width where the heads do not divide.
    Main472f71f,
    /// `pr27-df2cba9-reconstructed`, an open proposal on top of `1893e4b`: flash attention stores its output
    /// by head width, peaks for INT4, a fallback where a narrow peak is missing.
    Pr27Df2cba9,
}

impl Version {
    /// All of them, the default first.
    pub const ALL: [Version; 3] = [Version::Main1893e4b, Version::Main472f71f, Version::Pr27Df2cba9];

    /// The version after the `@`.
    pub fn id(self) -> &'static str {
        match self {
            Version::Main1893e4b => "1893e4b",
            Version::Main472f71f => "472f71f",
            Version::Pr27Df2cba9 => "pr27-df2cba9-reconstructed",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "llm-viewer@{}", self.id())
    }
}

impl FromStr for Version {
    type Err = Error;

    /// # Errors
    /// [`Error::UnknownName`] with the nearest versions.
    fn from_str(text: &str) -> Result<Version, Error> {
        let name = names::normalise(text);
        let id = name.strip_prefix("llm-viewer").map_or(name.as_str(), |rest| rest.trim_start_matches('@'));
        if name == "llm-viewer" {
            return Ok(Version::Main1893e4b);
        }
        Version::ALL.into_iter().find(|version| version.id() == id).ok_or_else(|| {
            let known: Vec<String> = Version::ALL.iter().map(Version::to_string).collect();
            names::unknown("compat version", text, known.iter().map(String::as_str))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_back_from_its_own_spelling() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse(), Ok(version));
            assert_eq!(version.id().parse(), Ok(version));
        }
        assert_eq!("LLM-Viewer".parse(), Ok(Version::Main1893e4b));
    }

    #[test]
    fn an_unknown_version_is_answered_with_the_nearest() {
        let error = "llm-viewer@472f".parse::<Version>().unwrap_err();
        assert_eq!(error.to_string(), "no compat version is called `llm-viewer@472f`");
        assert!(error.hint().starts_with("nearest: llm-viewer@472f71f"), "{}", error.hint());
        for text in ["", "llm-viewer@", "llm-viewer1893e4c", "vidur"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
