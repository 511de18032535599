//! Every figure of LLM-Viewer itself, as recorded by running it, against the reproduction.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may stop, and a skipped test says why")]

use std::path::Path;

use roofline_core::error::Error;
use roofline_core::llm_viewer::{Inputs, Version, analyze, analyze_generate_task, table};
use roofline_core::table::{Column, Table};
use serde_json::{Map, Value};

const TOLERANCE: f64 = 1e-9;

/// The recorded figures; `None`, with the reason on stderr, where they are not laid beside the repository.
fn golden() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/llm_viewer/golden.json");
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn close(ours: f64, theirs: f64) -> bool {
    (ours - theirs).abs() <= TOLERANCE * theirs.abs()
}

fn number(inputs: &Map<String, Value>, key: &str) -> u32 {
    inputs[key].as_u64().unwrap() as u32
}

fn inputs_of(inputs: &Map<String, Value>) -> Inputs {
    Inputs {
        batchsize: number(inputs, "batchsize"),
        seqlen: inputs.get("seqlen").map_or(1, |seqlen| seqlen.as_u64().unwrap() as u32),
        w_bit: number(inputs, "w_bit"),
        a_bit: number(inputs, "a_bit"),
        kv_bit: number(inputs, "kv_bit"),
        use_flashattention: inputs["use_flashattention"].as_bool().unwrap(),
        tp_size: number(inputs, "tp_size"),
    }
}

/// One row of a table as the tool would have written it.
fn row_of(table: &Table, row: usize) -> Map<String, Value> {
    let value = |column: &Column| match column {
        Column::F64(values) => Value::from(values[row]),
        Column::Str(values) => Value::from(values[row].as_str()),
        other => panic!("unexpected column {other:?}"),
    };
    table.columns().iter().map(|(name, column)| (name.clone(), value(column))).collect()
}

/// Where `ours` and `theirs` differ: a field missing, extra, or off.
fn differences(place: &str, ours: &Map<String, Value>, theirs: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
        found.push(format!("{place}: {key} is not the tool's"));
    }
    for (key, value) in theirs {
        let same = match (ours.get(key), value) {
            (Some(Value::String(ours)), Value::String(theirs)) => ours == theirs,
            (Some(Value::Number(ours)), Value::Number(theirs)) => {
                close(ours.as_f64().unwrap(), theirs.as_f64().unwrap())
            }
            _ => false,
        };
        if !same {
            found.push(format!("{place}.{key}: {:?} for {value}", ours.get(key)));
        }
    }
    found
}

/// The tool's answer in its own shape: phase, operator, fields, and `total_results`.
fn as_the_tool_writes(version: Version, config: &Value, case: &Value) -> Result<Value, Error> {
    let arguments = case["inputs"].as_object().unwrap();
    let hardware = case["hardware"].as_str().unwrap();
    let inputs = inputs_of(arguments);
    if case["call"] == "analyze_generate_task" {
        let (prompt, steps) = (number(arguments, "prompt_len"), number(arguments, "gen_len"));
        let generation = analyze_generate_task(version, config, hardware, &inputs, prompt, steps)?;
        return Ok(Value::Object(row_of(&generation.totals_table(), 0)));
    }
    assert_eq!(case["call"], "analyze");
    let analysis = analyze(version, config, hardware, &inputs)?;
    let mut answer = serde_json::json!({"decode": {}, "prefill": {}, "total_results": {}});
    let take =
        |row: &mut Map<String, Value>, key: &str| row.remove(key).unwrap().as_str().unwrap().to_string();
    for (table, is_op) in [(analysis.ops_table(), true), (analysis.totals_table(), false)] {
        for index in 0..table.len() {
            let mut row = row_of(&table, index);
            let phase = take(&mut row, "phase");
            if is_op {
                let op = take(&mut row, "op");
                assert!(answer[&phase].get(&op).is_none(), "{op} twice");
                answer[&phase][&op] = Value::Object(row);
            } else {
                answer["total_results"][&phase] = Value::Object(row);
            }
        }
    }
    Ok(answer)
}

fn compare(id: &str, ours: &Value, theirs: &Value) -> Vec<String> {
    let (ours, theirs) = (ours.as_object().unwrap(), theirs.as_object().unwrap());
    if !theirs.values().all(Value::is_object) {
        return differences(id, ours, theirs);
    }
    let mut found = Vec::new();
    for key in ours.keys().filter(|key| !theirs.contains_key(*key)) {
        found.push(format!("{id}.{key} is not the tool's"));
    }
    for (key, value) in theirs {
        match ours.get(key) {
            Some(mine) => found.extend(compare(&format!("{id}.{key}"), mine, value)),
            None => found.push(format!("{id}.{key} is missing")),
        }
    }
    found
}

#[test]
fn every_recorded_figure_of_the_tool_is_reproduced() {
    let Some(golden) = golden() else { return };
    let cases = golden["cases"].as_array().unwrap();
    assert!(!cases.is_empty(), "the golden file has no cases");
    let mut found = Vec::new();
    for case in cases {
        let id = case["id"].as_str().unwrap();
        let version: Version = format!("llm-viewer@{}", case["version"].as_str().unwrap()).parse().unwrap();
        let config = &golden["models"][case["model"].as_str().unwrap()];
        match (as_the_tool_writes(version, config, case), case.get("error")) {
            (Ok(ours), None) => found.extend(compare(id, &ours, &case["result"])),
            (Err(error), Some(expected)) => {
                let expected = expected.as_str().unwrap().trim();
                if !error.to_string().contains(expected) {
                    found.push(format!("{id}: `{error}` does not carry `{expected}`"));
                }
            }
            (ours, expected) => found.push(format!("{id}: {:?} where {expected:?}", ours.map(|_| "figures"))),
        }
    }
    assert!(
        found.is_empty(),
        "{} differences, the first:\n{}",
        found.len(),
        found[..found.len().min(20)].join("\n")
    );
}

#[test]
fn the_hardware_tables_are_those_of_the_tool() {
    let Some(golden) = golden() else { return };
    for version in Version::ALL {
        let theirs = golden["hardware_by_version"][version.id()].as_object().unwrap();
        let ours = table(version);
        assert_eq!(ours.len(), theirs.len(), "{version}: entries");
        for entry in ours {
            let fields = &theirs[entry.name];
            let same = |key: &str, value: Option<f64>| match (value, fields.get(key).and_then(Value::as_f64))
            {
                (Some(ours), Some(theirs)) => close(ours, theirs),
                (ours, theirs) => ours.is_none() && theirs.is_none(),
            };
            assert!(same("bandwidth", Some(entry.bandwidth)), "{version}: {}", entry.name);
            assert!(same("FP16", Some(entry.fp16)), "{version}: {}", entry.name);
            assert!(same("INT8", entry.int8) && same("INT4", entry.int4), "{version}: {}", entry.name);
            assert!(same("onchip_buffer", Some(entry.onchip_buffer)), "{version}: {}", entry.name);
        }
    }
}
