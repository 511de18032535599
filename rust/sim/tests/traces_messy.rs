//! Every broken or odd file of the shared collection ends as it should, and says what it should.

mod common;

use roofline_sim::error::Error;
use roofline_sim::trace::{OnError, ReadOptions, Report, Trace, read};
use serde_json::Value;

/// Files whose outcome differs from what is expected of them, and why.
const DIFFERENT: &[(&str, &str, &str)] = &[
    (
        "over_context.jsonl",
        "ok",
        "whether a request is too long depends on a model, which reading does not know",
    ),
    ("bad_types.parquet", "error", "Parquet is read by the Python package, whose tests hold it to its words"),
    ("nulls.parquet", "error", "Parquet is read by the Python package, whose tests hold it to its words"),
    ("hash_u64.jsonl", "warning", "its two ids a 32-token prompt do not fit Mooncake's 512 tokens an id"),
];

/// What a user must be told of each file, in the error with its hint, or in the warnings or the information.
const TOLD: &[(&str, &[&str])] = &[
    ("bad_json_line.jsonl", &[":3: ", "EOF while parsing a string at column 52", "leaves out 1 of 4 rows"]),
    ("trailing_comma.jsonl", &[":2: ", "trailing comma"]),
    ("truncated_last_line.jsonl", &[":4: ", "cut off", "the writer was probably killed"]),
    ("json_array_named_jsonl.jsonl", &["one JSON array, not JSON Lines"]),
    ("wrapped_object.json", &["requests found under key `requests`"]),
    ("comment_lines.jsonl", &[":1: ", "no comments", "# exported"]),
    (
        "negative_length.jsonl",
        &[":2: input_length must be at least 0: -5", ":3: output_length must be at least 0: -1"],
    ),
    ("nan_inf.jsonl", &[":2: timestamp must be a finite number", "NaN", "-Infinity", "Python"]),
    (
        "null_fields.jsonl",
        &[":2: input_length must be given, not null", ":3: timestamp must be given, not null"],
    ),
    ("strings_as_numbers.jsonl", &["input_length", "thousands separator: \"1,024\"", "a text: \"n/a\""]),
    ("float_lengths.jsonl", &[":2: input_length must be a whole number of tokens: 512.5"]),
    ("bool_as_number.jsonl", &[":2: input_length must be a number, not a boolean: true"]),
    ("duplicate_keys.jsonl", &["input_length", "its last value is used"]),
    ("unsorted_arrivals.jsonl", &["2 of 4 lines go back in time, by at most 900 ms", "--require-sorted"]),
    ("negative_timestamp.jsonl", &["first arrival is at -500 ms"]),
    ("identical_timestamps.jsonl", &["all 6 requests arrive at once"]),
    ("missing_field_one_row.jsonl", &[":2: output_length must be given: missing"]),
    (
        "missing_field_all.jsonl",
        &["no output lengths", "looked for output_length", "found timestamp, input_length"],
    ),
    ("no_timestamp.jsonl", &["no arrival times", "--request-rate", "--concurrency", "--arrivals"]),
    ("unknown_schema.jsonl", &["foo, bar", "mooncake"]),
    ("typo_field.jsonl", &["did you mean `input_length` for `input_lenght`?"]),
    ("zero_output.jsonl", &["2 of 3 requests have 0 output tokens", "kept as prompts", "--zero-output"]),
    ("zero_input.jsonl", &[":2: input_length must be at least 1 token: 0", "--on-error skip"]),
    (
        "huge_values.jsonl",
        &[":2: timestamp must lie within 292 years", ":3: input_length must be at most 2147483647"],
    ),
    ("empty.jsonl", &["empty (0 bytes)"]),
    ("blank_lines_only.jsonl", &["4 blank lines"]),
    ("header_only.csv", &["a header (azure_llm) but no rows"]),
    ("utf16.csv", &["UTF-16", "iconv"]),
    ("invalid_utf8.jsonl", &[":2: the line must be valid UTF-8: byte 0xff"]),
    ("truncated.jsonl.gz", &["gzip", "ends early, after 992 lines"]),
    ("corrupt_crc.jsonl.gz", &["gzip", "checksum mismatch"]),
    ("not_gzip.jsonl.gz", &["named .gz but not compressed"]),
    ("truncated.jsonl.zst", &["zstd", "ends early"]),
    ("git_lfs_pointer.jsonl", &["Git LFS pointer", "git lfs pull"]),
    ("html_404.jsonl", &["HTML page", "raw"]),
    ("binary_garbage.jsonl", &["gzip, zstd or Parquet", "binary data"]),
    ("duplicate_ids.jsonl", &["\"a\"", "twice", "made unique"]),
    ("mixed_schema.jsonl", &[":3: ", "mooncake", "vidur", "units"]),
    ("extra_unknown_fields.jsonl", &["ignored fields: color, weight"]),
    ("epoch_seconds.jsonl", &["read as ms", "looks like seconds", "--time-unit s"]),
    ("epoch_ms.jsonl", &["shifted to 0 at 2023-11-16T18:17:03.980Z"]),
    ("ambiguous_unit.jsonl", &["1000 req/s", "1.00 req/s", "--time-unit s"]),
    ("azure2024_mixed_fraction.csv", &["by at most 1.163 ms"]),
    (
        "dst_or_bad_date.csv",
        &[":2: TIMESTAMP must be a date and time that exist: 2024-02-30", ":4: ", "05/12/2024 1:02"],
    ),
    (
        "hash_block_mismatch.jsonl",
        &["2 of 3 lines", "line 2: 1025 tokens need 3, has 2", "--trace-block-size"],
    ),
    ("hash_bad_values.jsonl", &[":1: hash_ids must hold whole numbers", "-1", "(1, 2, 3)"]),
    ("session_turns_out_of_order.jsonl", &["not in order", "the same turn twice"]),
    ("session_shrinking_context.jsonl", &["read as full prompts", "new tokens only"]),
    ("semicolon_delimiter.csv", &["`;`", "--csv-delimiter \";\" --csv-decimal \",\""]),
    ("no_header.csv", &["must name the columns: 0.0,374,44"]),
    ("quoted_thousands.csv", &[":2: num_prefill_tokens", "thousands separator: 1,024"]),
    ("ragged.csv", &[":3: ", "as many fields as the header (3): 2"]),
    ("duplicate_header.csv", &["num_prefill_tokens", "twice"]),
    ("burstgpt_failures.csv", &["2 of 3 requests have 0 output tokens", "failed calls", "--zero-output"]),
    ("deeply_nested.jsonl", &[":1: ", "nested"]),
    ("nul_bytes.jsonl", &[":2: ", "NUL bytes", "disk filled up"]),
    ("bailian_orphan_and_cycle.jsonl", &["does not have", "in a circle"]),
    ("dag_cycle.jsonl", &[":1: wait_for", "a -> b -> a", "(1, 2)"]),
    ("dag_unknown_dependency.jsonl", &[":2: wait_for must name a request of the trace: zzz"]),
    ("iso8601_offsets.csv", &["1 times have no zone: read as UTC"]),
    ("truncated.parquet", &["footer is missing"]),
];

type Outcome = Result<(Trace, Report), Error>;

fn outcome(result: &Outcome) -> &'static str {
    match result {
        Err(_) => "error",
        Ok((_, report)) if !report.warnings.is_empty() => "warning",
        Ok(_) => "ok",
    }
}

/// Everything a user would be told.
fn told(result: &Outcome) -> String {
    match result {
        Err(error) => format!("{error}\n{}", error.hint()),
        Ok((_, report)) => {
            let warnings = report.warnings.iter().map(|warning| format!("{} {}", warning.text, warning.hint));
            warnings.chain(report.information.iter().cloned()).collect::<Vec<_>>().join("\n")
        }
    }
}

fn lines_of(error: &Error) -> Vec<u64> {
    match error {
        Error::Trace { line, .. } => vec![*line],
        Error::Traces { errors, .. } => errors.iter().flat_map(lines_of).collect(),
        _ => Vec::new(),
    }
}

/// The problems of one case; none if it ends as expected.
fn problems(case: &Value, name: &str, bytes: &[u8]) -> Vec<String> {
    let result = read(name, bytes, &ReadOptions::default());
    let mut problems = Vec::new();
    let expected = DIFFERENT
        .iter()
        .find(|(file, _, _)| *file == name)
        .map_or_else(|| case["default_outcome"].as_str().unwrap_or_default(), |(_, outcome, _)| outcome);
    if outcome(&result) != expected {
        problems.push(format!("expected {expected}, was {}: {}", outcome(&result), told(&result)));
    }
    let phrases = TOLD.iter().find(|(file, _)| *file == name).map_or(&[][..], |(_, phrases)| phrases);
    let text = told(&result);
    let missing = phrases.iter().filter(|phrase| !text.contains(**phrase));
    problems.extend(missing.map(|phrase| format!("should say `{phrase}`: {text}")));
    let lines: Vec<u64> = case["lines"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
    let valid = case["valid_requests"].as_u64();
    match &result {
        Ok((trace, _)) if valid != Some(trace.len() as u64) => {
            problems.push(format!("expected {valid:?} requests, was {}", trace.len()));
        }
        Err(error) => {
            let told = lines_of(error);
            if !told.iter().all(|line| *line == 0 || lines.contains(line)) {
                problems.push(format!("expected lines {lines:?}, was {told:?}"));
            }
            problems.extend(problem_when_skipping(name, bytes, valid, told[0]));
        }
        Ok(_) => {}
    }
    problems
}

/// Skipping must keep just the valid rows, where the mistakes are those of rows.
fn problem_when_skipping(name: &str, bytes: &[u8], valid: Option<u64>, line: u64) -> Option<String> {
    let skip = ReadOptions { on_error: OnError::Skip, ..ReadOptions::default() };
    let kept = read(name, bytes, &skip).map(|(trace, report)| {
        assert_eq!(report.rows, report.kept + report.dropped_broken + report.dropped_zero_output, "{name}");
        trace.len() as u64
    });
    match (kept, valid) {
        (Ok(kept), Some(valid)) if kept == valid => None,
        (Err(_), _) if line == 0 || valid == Some(0) => None,
        (kept, valid) => Some(format!("skipping should keep {valid:?}: {kept:?}")),
    }
}

#[test]
fn every_messy_file_ends_as_expected_and_says_why() {
    let Some(folder) = common::traces("messy") else { return };
    let text = std::fs::read_to_string(folder.join("EXPECTED.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let cases = expected["cases"].as_array().unwrap();
    let mut failed = Vec::new();
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let bytes = std::fs::read(folder.join(name)).unwrap();
        failed.extend(problems(case, name, &bytes).into_iter().map(|problem| format!("{name}: {problem}")));
    }
    assert!(cases.len() >= 79, "only {} cases", cases.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn every_messy_file_that_is_refused_or_repaired_is_held_to_its_words() {
    let Some(folder) = common::traces("messy") else { return };
    let text = std::fs::read_to_string(folder.join("EXPECTED.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for case in expected["cases"].as_array().unwrap() {
        let (name, outcome) = (case["file"].as_str().unwrap(), case["default_outcome"].as_str().unwrap());
        let listed =
            TOLD.iter().any(|(file, _)| *file == name) || DIFFERENT.iter().any(|(file, _, _)| *file == name);
        assert!(outcome == "ok" || listed, "{name} has no words to be held to");
    }
}
