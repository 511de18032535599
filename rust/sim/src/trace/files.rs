//! Several files, folders, patterns and the standard input as one trace, with one origin of time.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::Trace;
use super::options::ReadOptions;
use super::read::{read, read_all, unreadable};
use super::report::Report;
use crate::error::{Error, Result};

/// What a user calls the standard input.
const STDIN: &str = "-";

/// Reads what the user names: a file, a folder, a pattern (`day-*.jsonl.gz`), `-` for the standard input, or several of
/// these, as one trace. Times of several files are of one clock, and so are ids, sessions and hashes of one space.
///
/// # Errors
/// Those of [`read`], names that no file has, and files of different formats.
pub fn read_files(names: &[String], options: &ReadOptions) -> Result<(Trace, Report)> {
    let mut files = Vec::new();
    for name in names {
        if name == STDIN {
            files.push(("the standard input".to_string(), standard_input()?));
            continue;
        }
        for path in paths(name)? {
            let origin = path.display().to_string();
            let bytes = std::fs::read(&path).map_err(|error| unreadable(&origin, &error))?;
            files.push((origin, bytes));
        }
    }
    match files.as_slice() {
        [] => Err(Error::trace("trace", 0, "", "at least one file must be named", "none")),
        [(origin, bytes)] => read(origin, bytes, options),
        _ => read_all(&files, options),
    }
}

/// The files a name stands for, in the order of their names: itself, those of a folder, or those of a pattern.
///
/// In the last part of a pattern `*` stands for any characters and `?` for one.
///
/// # Errors
/// A folder or a pattern without files.
pub fn paths(name: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(name);
    let none = |what: &str| Error::trace(name, 0, "", "the name must stand for files", what);
    if path.is_dir() {
        let found = listed(path, "*")?;
        return if found.is_empty() { Err(none("an empty folder")) } else { Ok(found) };
    }
    let pattern = path.file_name().map(|last| last.to_string_lossy().into_owned()).unwrap_or_default();
    if path.exists() || !pattern.contains(['*', '?']) {
        return Ok(vec![path.to_path_buf()]);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let found = listed(folder, &pattern)?;
    if found.is_empty() { Err(none("a pattern that no file has")) } else { Ok(found) }
}

/// The visible files of a folder whose name fits the pattern.
fn listed(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let origin = folder.display().to_string();
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(&origin, &error))?;
    let fits_pattern = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.is_file() && !name.starts_with('.') && fits(pattern.as_bytes(), name.as_bytes())
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for entry in entries {
        found.push(entry.map_err(|error| unreadable(&origin, &error))?.path());
    }
    found.retain(fits_pattern);
    found.sort();
    Ok(found)
}

/// Whether a name fits a pattern of `*` and `?`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from, mut star) = (0, 0, None);
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[from] => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                from = taken + 1;
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

fn standard_input() -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable("the standard input", &error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_characters_and_question_marks_for_one() {
        for (pattern, name, expected) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.jsonl.gz", false),
            ("day-?.csv", "day-1.csv", true),
            ("day-?.csv", "day-11.csv", false),
            ("*a*b*", "xxaybz", true),
            ("a*b", "ab", true),
            ("a", "ab", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
