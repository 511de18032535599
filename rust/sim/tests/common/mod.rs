//! Where the shared traces lie, for tests that read real files.

use std::path::PathBuf;

/// The folder of that name among the shared traces; none, with the reason printed, where it is absent.
pub fn traces(folder: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/traces").join(folder);
    if root.is_dir() {
        return Some(root);
    }
    skip(&root.display().to_string());
    None
}

/// Says that a test, or a part of it, is skipped for lack of a file.
#[allow(clippy::print_stdout)]
pub fn skip(absent: &str) {
    println!("skipped: {absent} is absent");
}
