//! Small text files named by the user: a device's TOML, a model's `config.json`.

use std::io;
use std::path::Path;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

/// Its text.
///
/// # Errors
/// `OSError` (in the kind that fits: `FileNotFoundError`, …) carrying the file's name.
pub fn read(path: &Path) -> PyResult<String> {
    std::fs::read_to_string(path).map_err(|error| failure(path, &error))
}

/// The `OSError` of what the system reports about a file.
pub fn failure(path: &Path, error: &io::Error) -> PyErr {
    let name = path.to_path_buf();
    match error.raw_os_error() {
        // Python picks the subclass by the number, and its text by the same table as the system.
        Some(number) => PyOSError::new_err((number, without_number(error), name)),
        None => PyOSError::new_err(format!("{}: {error}", path.display())),
    }
}

/// `No such file or directory (os error 2)` without its end, which Python writes itself.
fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_string()
}
