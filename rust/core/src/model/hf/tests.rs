//! What the importer makes of published configurations.

use super::*;
use std::path::PathBuf;

fn published() -> Option<Vec<(String, String)>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/models");
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(_) => return None,
    };
    let mut found: Vec<(String, String)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".json")?.to_string();
            Some((name, std::fs::read_to_string(&path).ok()?))
        })
        .collect();
    found.sort();
    Some(found)
}

#[test]
#[allow(clippy::print_stdout)]
fn every_published_configuration_loads() {
    let Some(files) = published() else {
        println!("skipped: shared/data/models is not here");
        return;
    };
    let mut failures = Vec::new();
    for (name, text) in &files {
        match model_from_json(name, text) {
            Ok(model) => println!(
                "{name}: {:.3} B, {:.3} B active, vision {:.3} B, {} groups, {:?} {:?}",
                model.parameters() as f64 / 1e9,
                model.active_parameters() as f64 / 1e9,
                model.vision_parameters() as f64 / 1e9,
                model.layers.len(),
                model.quantization,
                model.notes
            ),
            Err(error) => failures.push(format!("{name}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
