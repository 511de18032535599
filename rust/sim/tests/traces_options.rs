//! What a user may say about reading: several files, mapped fields, lengths of turns, strictness, defaults.

use roofline_sim::error::Error;
use roofline_sim::trace::{
    FieldMap, Format, OnError, ReadOptions, Report, Trace, TurnLengths, paths, read, read_files,
};

fn reading(text: &str, options: ReadOptions) -> Result<(Trace, Report), Error> {
    read("t", text.as_bytes(), &options)
}

/// An empty folder of this test alone.
fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    folder
}

const HEADER: &str = "arrived_at,num_prefill_tokens,num_decode_tokens\n";

#[test]
fn fields_of_any_name_are_read_when_told_what_they_hold() {
    let text = "{\"ts\": 5, \"prompt\": 7, \"gen\": 2}\n{\"ts\": 6.5, \"prompt\": 8, \"gen\": 3}\n";
    let csv = "ts,prompt,gen\n5,7,2\n6.5,8,3\n";
    let map: Vec<FieldMap> =
        ["arrival=ts:s", "input=prompt", "output=gen"].map(|text| FieldMap::parse(text).unwrap()).to_vec();
    let options = ReadOptions { map, ..ReadOptions::default() };
    for text in [text, csv] {
        let (trace, report) = reading(text, options.clone()).unwrap();
        assert_eq!((trace.arrival_ns[1], trace.prompt_tokens[1]), (1_500_000_000, 8));
        assert_eq!(
            (report.format, report.why.as_str()),
            (Format::Native, "its fields are named with `--map`")
        );
        let broken = reading(&text.replace('7', "-7"), options.clone()).unwrap_err();
        assert!(broken.to_string().contains("prompt must be at least 0: -7"), "{broken}");
    }
}

#[test]
fn a_map_of_one_field_keeps_the_format_that_is_seen() {
    let text = "{\"timestamp\": 0, \"input_length\": 5, \"gen\": 2}\n{\"timestamp\": 9, \"input_length\": 5, \"gen\": -3}\n";
    let hint = "name the field: `--map output=FIELD`, or set `--default-output-tokens`";
    assert_eq!(reading(text, ReadOptions::default()).unwrap_err().hint(), hint);
    let map = vec![FieldMap::parse("output=gen").unwrap()];
    let options = ReadOptions { map, on_error: OnError::Skip, ..ReadOptions::default() };
    let (trace, report) = reading(text, options).unwrap();
    assert_eq!((report.format, trace.output_tokens.as_slice()), (Format::Mooncake, &[2][..]));
    assert_eq!(report.warnings[0].text, "left out: gen must be at least 0: -3");
}

#[test]
fn a_map_must_read_what_and_field() {
    let refused = |text: &str| FieldMap::parse(text).unwrap_err();
    assert_eq!(refused("arrival").to_string(), "map must read what=field: arrival");
    assert_eq!(refused("arrival=ts:h").hint(), "add :s, :ms, :us, :ns or :datetime");
    assert!(refused("inptu=x").hint().contains("input"), "{}", refused("inptu=x").hint());
}

#[test]
fn strict_refuses_what_would_be_repaired() {
    let text = format!("{HEADER}5,1,1\n0,1,1\n");
    assert_eq!(reading(&text, ReadOptions::default()).unwrap().1.warnings.len(), 1);
    let error = reading(&text, ReadOptions { strict: true, ..ReadOptions::default() }).unwrap_err();
    assert!(error.to_string().starts_with("t:3: nothing must need repair (`--strict`): arrivals"), "{error}");
    let sorted = format!("{HEADER}0,1,1\n");
    assert!(reading(&sorted, ReadOptions { strict: true, ..ReadOptions::default() }).is_ok());
}

#[test]
fn an_output_that_is_not_said_can_be_given() {
    let text = "{\"timestamp\": 0, \"input_length\": 5}\n\
                {\"timestamp\": 1000, \"input_length\": 5, \"output_length\": 9}\n";
    let options = ReadOptions { default_output_tokens: Some(64), ..ReadOptions::default() };
    let (trace, report) = reading(text, options).unwrap();
    assert_eq!(trace.output_tokens, [64, 9]);
    assert_eq!(
        report.information,
        ["1 requests do not say their output: 64 tokens (`--default-output-tokens`)"]
    );
    let most = ReadOptions { default_output_tokens: Some(u32::MAX), ..ReadOptions::default() };
    assert_eq!(
        reading(text, most).unwrap_err().to_string(),
        "default_output_tokens must be at most 2147483647: 4294967295"
    );
}

#[test]
fn turns_that_count_what_is_new_are_added_up() {
    let row = |arrival: u32, prompt: u32, ids: &str| {
        format!(
            "{{\"session_id\": \"s\", \"timestamp\": {arrival}, \"input_length\": {prompt}, \"output_length\": 10, \
             \"hash_ids\": {ids}}}\n"
        )
    };
    let text = row(0, 600, "[1, 2]") + &row(9, 100, "[7]") + &row(20, 50, "[8]");
    let delta = ReadOptions { turn_lengths: Some(TurnLengths::Delta), ..ReadOptions::default() };
    let (trace, report) = reading(&text, delta.clone()).unwrap();
    assert_eq!(trace.prompt_tokens, [600, 710, 770]);
    assert_eq!(trace.hashes.unwrap().path(2), [0, 1, 2, 3]);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    let (full, report) = reading(&text, ReadOptions::default()).unwrap();
    assert_eq!(full.prompt_tokens, [600, 100, 50]);
    assert!(report.warnings[0].hint.contains("--turn-lengths delta"), "{:?}", report.warnings);
    let much = row(0, 2_147_483_600, "[]") + &row(1, 100, "[]");
    let error = reading(&much, delta).unwrap_err();
    assert!(
        error.to_string().contains("input_length must be at most 2147483647 tokens with the turns"),
        "{error}"
    );
}

#[test]
fn several_files_are_one_trace_of_one_clock() {
    let folder = folder("several");
    std::fs::write(folder.join("b.csv"), format!("{HEADER}10,3,1\n")).unwrap();
    std::fs::write(folder.join("a.csv"), format!("{HEADER}4,1,1\n12,2,1\n")).unwrap();
    std::fs::write(folder.join(".hidden"), "no trace").unwrap();
    let pattern = folder.join("?.c*").display().to_string();
    for names in [vec![folder.display().to_string()], vec![pattern]] {
        let (trace, report) = read_files(&names, &ReadOptions::default()).unwrap();
        assert_eq!(trace.arrival_ns, [0, 6_000_000_000, 8_000_000_000]);
        assert_eq!(trace.prompt_tokens, [1, 3, 2]);
        assert!(report.origin.starts_with("2 files ("), "{}", report.origin);
    }
    let one = folder.join("a.csv").display().to_string();
    assert_eq!(read_files(std::slice::from_ref(&one), &ReadOptions::default()).unwrap().1.origin, one);
}

#[test]
fn several_files_must_be_good_and_of_one_format() {
    let folder = folder("mixed");
    let name = |file: &str| folder.join(file).display().to_string();
    std::fs::write(folder.join("a.csv"), format!("{HEADER}4,1,1\n")).unwrap();
    std::fs::write(folder.join("b.csv"), "TIMESTAMP,ContextTokens,GeneratedTokens\n").unwrap();
    std::fs::write(folder.join("c.csv"), format!("{HEADER}4,-1,1\n")).unwrap();
    let error = read_files(&[name("a.csv"), name("b.csv")], &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with("every file must be of one format (vidur): azure_llm"), "{error}");
    let error = read_files(&[name("a.csv"), name("c.csv")], &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("c.csv:2: num_prefill_tokens must be at least 0"), "{error}");
    let skip = ReadOptions { on_error: OnError::Skip, ..ReadOptions::default() };
    assert_eq!(read_files(&[name("a.csv"), name("c.csv")], &skip).unwrap().0.len(), 1);
}

#[test]
fn names_without_files_are_refused() {
    let folder = folder("nothing");
    let refused = |name: &str| paths(name).unwrap_err().to_string();
    assert!(refused(&folder.display().to_string()).ends_with("must stand for files: an empty folder"));
    let pattern = folder.join("*.csv").display().to_string();
    assert!(refused(&pattern).ends_with("must stand for files: a pattern that no file has"));
    let absent = folder.join("absent.csv").display().to_string();
    let error = read_files(&[absent], &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the file must be readable"), "{error}");
    let none = read_files(&[], &ReadOptions::default()).unwrap_err();
    assert_eq!(none.to_string(), "trace: at least one file must be named: none");
}

#[test]
fn a_file_without_arrivals_is_read_where_they_come_from_elsewhere() {
    let text = "num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n5,4,9,1.2\n6,1,7,6\n";
    assert!(reading(text, ReadOptions::default()).unwrap_err().hint().contains("--request-rate"));
    let options = ReadOptions { arrivals_elsewhere: true, ..ReadOptions::default() };
    let (trace, report) = reading(text, options).unwrap();
    assert_eq!(trace.arrival_ns, [0, 0]);
    assert!(report.information[0].starts_with("the file has no arrivals"), "{:?}", report.information);
}

#[test]
fn what_depends_on_a_row_that_is_left_out_is_left_out_with_it() {
    let row = |id: &str, wait: &str| {
        format!(
            "{{\"request_id\": \"{id}\", \"timestamp\": 0, \"input_length\": 5, \"output_length\": 5, \
             \"wait_for\": [{wait}]}}\n"
        )
    };
    let text = row("a", "") + &row("b", "\"z\"") + &row("c", "\"b\"") + &row("d", "\"a\"");
    let skip = ReadOptions { on_error: OnError::Skip, ..ReadOptions::default() };
    let (trace, report) = reading(&text, skip).unwrap();
    assert_eq!(trace.ids, ["a", "d"]);
    assert_eq!((report.rows, report.kept, report.dropped_broken), (4, 2, 2));
    assert_eq!(trace.sessions.unwrap().after, [0]);
}

#[test]
fn what_one_row_carries_must_fit_its_prompt_and_its_file() {
    let refused = |text: &str| reading(text, ReadOptions::default()).unwrap_err().to_string();
    let native =
        |rest: &str| format!("{{\"arrival_s\": 0, \"prompt_tokens\": 8, \"output_tokens\": 2, {rest}}}\n");
    let cached = refused(&native("\"cached_tokens\": 9"));
    assert!(cached.contains("cached_tokens must be at most the tokens of the prompt (8): 9"), "{cached}");
    let delays = refused(&native("\"id\": \"a\", \"after\": [\"b\"], \"delay_s\": [1, 2]"));
    assert!(delays.contains("must have as many delays as requests to wait for (1): 2"), "{delays}");
    let images = refused(&native("\"image_tokens\": [1, -2]"));
    assert!(images.contains("image_tokens must be a list of whole numbers: [1, -2]"), "{images}");
    let baseten = |size: u32| {
        format!(
            "{{\"timestamp_start_unix_ms\": 0, \"input_tokens\": 8, \"output_tokens\": 2, \"block_size\": {size}}}\n"
        )
    };
    let sizes = refused(&(baseten(16) + &baseten(32)));
    assert!(sizes.contains("block_size must be the same on every line (16): 32"), "{sizes}");
    let zero = refused(&baseten(0));
    assert!(zero.contains("block_size must be at least 1 token: 0"), "{zero}");
    let litellm =
        "startTime,endTime,prompt_tokens,completion_tokens\n2026-01-01 00:00:00,2025-01-01 00:00:00,1,1\n";
    let before = refused(litellm);
    assert!(before.contains("endTime must not lie before the arrival"), "{before}");
    let mixed = refused(&litellm.replace("2025-01-01 00:00:00", "7"));
    assert!(mixed.contains("endTime must be of one kind with the times before (dates): 7"), "{mixed}");
    let long = "session_id,arrival_time,prefix_len,input_len,output_len\n0,0,2147483647,5,1\n";
    assert!(refused(long).contains("input_len must be at most 2147483647 tokens with those before it"));
}
