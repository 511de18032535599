//! What a user may say about reading: several files, mapped fields, lengths of turns, strictness, defaults.

use roofline_sim::error::Error;
use roofline_sim::trace::{
    FieldMap, Format, OnError, ReadOptions, Report, TimeFormat, TimeUnit, Trace, TurnLengths, paths, read,
    read_files,
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

fn mapped(maps: &[&str]) -> ReadOptions {
    let map = maps.iter().map(|text| FieldMap::parse(text).expect("a map")).collect();
    ReadOptions { map, ..ReadOptions::default() }
}

#[test]
fn a_map_of_a_field_that_is_not_there_is_refused() {
    let text = format!("{HEADER}5,7,1\n");
    let error = reading(&text, mapped(&["output=num_decode_tokenz"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "t: `--map` must name a field of the file: num_decode_tokenz (found arrived_at, num_prefill_tokens, \
         num_decode_tokens)"
    );
    assert_eq!(error.hint(), "did you mean `num_decode_tokens`?");
    let json = "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 2}\n";
    let error = reading(json, mapped(&["input=nosuch"])).unwrap_err();
    assert!(error.to_string().contains("`--map` must name a field of the file: nosuch (found"), "{error}");
}

#[test]
fn a_map_of_what_a_format_does_not_hold_is_refused() {
    let text = format!("{HEADER}5,7,1\n");
    let error = reading(&text, mapped(&["session=num_decode_tokens"])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "t: `--map` must name what the format holds: session (vidur has no such thing)"
    );
    let twice = reading(&text, mapped(&["input=num_decode_tokens", "output=num_decode_tokens"])).unwrap_err();
    assert_eq!(twice.to_string(), "map must name a field once: num_decode_tokens");
}

#[test]
fn a_mapped_field_stands_in_for_the_one_of_the_format() {
    let csv = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n\
               5,ChatGPT,472,18,490,Conversation log\n";
    let (trace, report) = reading(csv, mapped(&["output=Total tokens"])).unwrap();
    assert_eq!((report.format, trace.output_tokens[0]), (Format::BurstGpt, 490));
    assert!(report.information.contains(&"ignored fields: Response tokens".to_string()), "{report:?}");
    let json = "{\"timestamp\": 1, \"input_length\": 100, \"output_length\": 5}\n\
                {\"timestamp\": 2, \"input_length\": 100, \"output_length\": 5}\n";
    let (trace, report) = reading(json, mapped(&["arrival=timestamp:s"])).unwrap();
    assert_eq!((report.format, report.time_unit), (Format::Mooncake, TimeUnit::Seconds));
    assert_eq!(trace.arrival_ns, [0, 1_000_000_000]);
}

#[test]
fn native_rows_may_use_the_names_of_other_formats() {
    let row = "{\"arrival_s\": 1, \"input_length\": 32, \"output_length\": 4, \"hash_ids\": [1, 2]}\n";
    let second = row.replace("_s\": 1", "_s\": 3");
    for header in ["{\"trace\": \"roofline-fast/1\"}\n", ""] {
        let (trace, report) = reading(&format!("{header}{row}{second}"), ReadOptions::default()).unwrap();
        assert_eq!(report.format, Format::Native);
        assert_eq!(trace.arrival_ns, [0, 2_000_000_000]);
        assert_eq!((trace.prompt_tokens[1], trace.output_tokens[1]), (32, 4));
        assert_eq!(trace.hashes.unwrap().path(0).len(), 2);
    }
    for (prompt, output) in [
        ("ContextTokens", "GeneratedTokens"),
        ("prompt_tokens", "completion_tokens"),
        ("input_toks", "output_toks"),
        ("num_prefill_tokens", "num_decode_tokens"),
        ("prompt_size", "token_size"),
    ] {
        let json = format!("{{\"arrival_ms\": 5, \"{prompt}\": 7, \"{output}\": 2}}\n");
        let csv = format!("arrival_ms,{prompt},{output}\n5,7,2\n");
        for text in [json, csv] {
            let (trace, report) = reading(&text, ReadOptions::default()).unwrap();
            assert_eq!(report.format, Format::Native, "{text}");
            assert_eq!((report.origin_ns, trace.prompt_tokens[0]), (5_000_000, 7), "{text}");
            assert_eq!(trace.output_tokens[0], 2, "{text}");
        }
    }
}

#[test]
fn a_timestamp_beside_prompt_tokens_is_an_arrival() {
    let rows: String = [0, 1500]
        .map(|at| format!("{{\"timestamp\":{at},\"prompt_tokens\":5,\"completion_tokens\":4}}\n"))
        .concat();
    let (trace, report) = reading(&rows, ReadOptions::default()).unwrap();
    assert_eq!((report.format, report.time_unit), (Format::Mooncake, TimeUnit::Millis));
    assert_eq!(trace.arrival_ns, [0, 1_500_000_000]);
}

#[test]
fn the_header_tells_the_unit_of_times_whose_name_does_not() {
    let rows = "{\"timestamp\":0,\"input_length\":5,\"output_length\":4}\n\
                {\"timestamp\":1500,\"input_length\":5,\"output_length\":4}\n";
    for (unit, span) in [("ms", 1_500_000_000), ("s", 1_500_000_000_000)] {
        let header = format!("{{\"trace\": \"roofline-fast/1\", \"time_unit\": \"{unit}\"}}\n");
        let (trace, _) = reading(&format!("{header}{rows}"), ReadOptions::default()).unwrap();
        assert_eq!(trace.arrival_ns[1], span);
    }
}

#[test]
fn an_arrival_that_names_its_unit_goes_before_a_timestamp() {
    let told = "\"arrival_s\": 2, \"prompt_tokens\": 5, \"output_tokens\": 4";
    for row in [
        format!("{{\"timestamp\": \"2026-01-01\", {told}}}\n"),
        format!("{{{told}, \"timestamp\": \"2026-01-01\"}}\n"),
    ] {
        let (_, report) = reading(&row, ReadOptions::default()).unwrap();
        assert_eq!((report.format, report.origin_ns), (Format::Native, 2_000_000_000));
    }
}

#[test]
fn a_misspelling_after_the_first_rows_is_told() {
    let row = "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 2}\n";
    let text = row.repeat(70) + &row.replace("input_length", "input_lenght");
    let error = reading(&text, ReadOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "t:71: input_length must be given: missing");
    assert_eq!(error.hint(), "did you mean `input_length` for `input_lenght`?");
}

#[test]
fn a_quote_that_never_ends_is_told_where_it_begins() {
    let text =
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,\"5,5\n2024-05-10 00:00:01,5,5\n";
    let error = reading(text, ReadOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "t:2: a quoted cell must end with a quote: the file ends within it");
}

#[test]
fn dates_without_a_header_ask_for_one() {
    let error = reading("2024-05-10 00:00:00.01,5,5\n", ReadOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "t:1: the first line must name the columns: 2024-05-10 00:00:00.01,5,5");
}

#[test]
fn what_is_left_out_does_not_count_among_those_that_arrive_at_once() {
    let text = "{\"id\":\"a\",\"arrival_s\":0,\"after\":[\"zz\"],\"prompt_tokens\":5,\"output_tokens\":5}\n\
                {\"id\":\"b\",\"arrival_s\":1,\"prompt_tokens\":5,\"output_tokens\":5}\n";
    let options = ReadOptions { on_error: OnError::Skip, ..ReadOptions::default() };
    let (trace, report) = reading(text, options).unwrap();
    assert_eq!(trace.len(), 1);
    assert!(!report.information.iter().any(|told| told.contains("at once")), "{report:?}");
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

fn with_columns(text: &str) -> ReadOptions {
    ReadOptions::default().with_columns(text).expect("columns")
}

#[test]
fn columns_name_a_file_without_a_header_in_their_order() {
    let text = "5,7,x,2\n6.5,8,y,3\n";
    let (trace, report) =
        reading(text, with_columns("arrived_at,num_prefill_tokens,who,num_decode_tokens")).unwrap();
    assert_eq!((report.format, report.rows), (Format::Vidur, 2));
    assert_eq!((trace.arrival_ns[1], trace.output_tokens), (1_500_000_000, vec![2, 3]));
    assert!(report.information.iter().any(|told| told == "ignored fields: who"), "{:?}", report.information);
    let quoted =
        reading("5,7,\"x,z\",2\n", with_columns("arrived_at,num_prefill_tokens,who,num_decode_tokens"));
    assert_eq!(quoted.unwrap().0.prompt_tokens, [7]);
}

#[test]
fn columns_that_map_are_maps() {
    let columns = with_columns("arrival=ts:s, input=n_in,output=n_out");
    let maps: Vec<FieldMap> =
        ["arrival=ts:s", "input=n_in", "output=n_out"].map(|text| FieldMap::parse(text).unwrap()).to_vec();
    assert_eq!((columns.map, columns.columns), (maps, vec![]));
}

#[test]
fn columns_must_fit_the_file() {
    let refused = |text: &str, columns: &str| reading(text, with_columns(columns)).unwrap_err();
    let header = refused("ts,n_in,n_out\n1,2,3\n", "arrival_s,prompt_tokens,output_tokens");
    assert_eq!(
        header.to_string(),
        "t:1: the first line must be a request where `--columns` names the columns: ts,n_in,n_out"
    );
    assert!(header.hint().contains("arrival=COLUMN:s"), "{}", header.hint());
    assert_eq!(
        refused("1,2,3\n", "arrival_s,prompt_tokens").to_string(),
        "t:1: `--columns` must name every column (3 in the first line): 2 names"
    );
    assert_eq!(
        refused("{\"a\": 1}\n", "arrival_s,prompt_tokens").to_string(),
        "t: `--columns` must read WHAT=FIELD for rows that name their fields: arrival_s,prompt_tokens"
    );
    assert!(refused("1,2,3\n", "a,b,c").to_string().contains("must be those of a known format: a, b, c"));
    let refused = |text: &str| ReadOptions::default().with_columns(text).unwrap_err().to_string();
    assert_eq!(refused("a,,b"), "columns must name every column: a,,b");
    assert_eq!(refused("a,b,a"), "columns must name a column once: a");
    assert_eq!(refused("arrival=a:s,b"), "columns must all be WHAT=COLUMN, or all be names: arrival=a:s,b");
    assert_eq!(refused("arrival=a,input=b"), "map must tell the unit of arrivals: arrival=a");
}

#[test]
fn dates_are_read_as_the_user_says_they_are_written() {
    let format = |text: &str| Some(TimeFormat::parse(text).unwrap());
    let options = ReadOptions { time_format: format("%d/%m/%Y %H:%M:%S%.f"), ..ReadOptions::default() };
    let text = "timestamp,input_tokens,output_tokens\n16/11/2023 18:17:03.5,7,2\n16/11/2023 18:17:05,8,3\n";
    let (trace, report) = reading(text, options.clone()).unwrap();
    assert_eq!((trace.arrival_ns[1], report.time_unit), (1_500_000_000, TimeUnit::DateTime));
    let broken = reading(&text.replace("16/11/2023 18:17:05", "5"), options.clone()).unwrap_err();
    assert!(
        broken.to_string().contains("timestamp must be a date and time as %d/%m/%Y %H:%M:%S%.f: 5"),
        "{broken}"
    );
    let clash = ReadOptions { time_unit: Some(TimeUnit::Millis), ..options.clone() };
    let error = reading(text, clash).unwrap_err();
    assert_eq!(error.to_string(), "time_unit must be datetime, or be left out, with time_format: ms");
    let map = vec![FieldMap::parse("arrival=timestamp:s").unwrap()];
    let error = reading(text, ReadOptions { map, ..options }).unwrap_err();
    assert_eq!(error.to_string(), "time_unit must be datetime, or be left out, with time_format: s");
    let hint = reading("arrival,prompt_tokens,output_tokens\n1/2/2024,1,1\n", ReadOptions::default());
    assert!(hint.unwrap_err().hint().contains("`--time-format`"));
}

#[test]
fn a_table_is_known_by_its_columns_in_whatever_container() {
    for (row, format) in [
        (
            "{\"TIMESTAMP\": \"2023-11-16 18:17:03\", \"ContextTokens\": 7, \"GeneratedTokens\": 2}",
            "azure_llm",
        ),
        (
            "{\"timestamp\": \"2023-11-16 18:17:03\", \"contexttokens\": 7, \"generatedtokens\": 2}",
            "azure_llm",
        ),
        ("{\"Timestamp\": 5, \"Model\": \"m\", \"Request tokens\": 7, \"Response tokens\": 2}", "burstgpt"),
        ("{\"arrived_at\": 5, \"num_prefill_tokens\": 7, \"num_decode_tokens\": 2}", "vidur"),
        ("{\"arrival_timestamp\": 5, \"prompt_size\": 7, \"token_size\": 2}", "splitwise_sim"),
        (
            "{\"session_id\": \"s\", \"arrival_time\": 5, \"prefix_len\": 3, \"input_len\": 4, \"output_len\": 2}",
            "tracelab_session_csv",
        ),
        (
            "{\"arrival_time_us\": 5, \"slo_class\": \"a\", \"input_tokens\": 7, \"output_tokens\": 2}",
            "blis_tracev2",
        ),
    ] {
        let (trace, report) = reading(row, ReadOptions::default()).unwrap();
        assert_eq!(report.format.name(), format, "{row}");
        assert_eq!((trace.prompt_tokens[0], trace.output_tokens[0]), (7, 2), "{row}");
    }
}

#[test]
fn turns_find_what_they_repeat_where_lengths_tell() {
    let turns = "{\"session_id\": \"a\", \"timestamp\": 0, \"input_length\": 40, \"output_length\": 10}\n\
                 {\"session_id\": \"a\", \"timestamp\": 9, \"input_length\": 66, \"output_length\": 10}\n\
                 {\"session_id\": \"b\", \"timestamp\": 9, \"input_length\": 64, \"output_length\": 1}\n";
    let paths = |options: ReadOptions| {
        let (trace, report) = reading(turns, options).unwrap();
        let paths =
            trace.hashes.map(|hashes| (0..3).map(|row| hashes.path(row).to_vec()).collect::<Vec<_>>());
        (paths, report.information)
    };
    let (none, told) = paths(ReadOptions::default());
    assert_eq!(none, None);
    let untold = "the file does not tell what turns of a conversation share: they find nothing in a prefix cache; \
                  `--turn-lengths full` if each prompt repeats all that was said before";
    assert!(told.iter().any(|text| text == untold), "{told:?}");
    let said = |lengths| ReadOptions { turn_lengths: Some(lengths), ..ReadOptions::default() };
    let (full, told) = paths(said(TurnLengths::Full));
    assert_eq!(full, Some(vec![vec![0, 1], vec![0, 1, 2, 3], vec![4, 5, 6, 7]]));
    let repeats = "turns repeat what their conversation said before, in whole blocks of 16 tokens; answers are computed \
                   again";
    assert!(told.iter().any(|text| text == repeats), "{told:?}");
    let (delta, _) = paths(said(TurnLengths::Delta));
    assert_eq!(delta.unwrap()[1], [0, 1, 2, 3, 4, 5, 6]);
    let coarse = ReadOptions { trace_block_size: Some(32), ..said(TurnLengths::Full) };
    assert_eq!(paths(coarse).0, Some(vec![vec![0], vec![0, 1], vec![2, 3]]));
}

#[test]
fn a_turn_repeats_what_its_recorded_prefix_says() {
    let text = "session_id,arrival_time,round_idx,prefix_len,input_len,output_len\n\
                a,0,0,32,32,16\na,0,1,64,32,16\na,0,2,16,32,16\n";
    let (trace, report) = reading(text, ReadOptions::default()).unwrap();
    let hashes = trace.hashes.unwrap();
    assert_eq!(trace.prompt_tokens, [64, 96, 48]);
    let paths: Vec<_> = (0..3).map(|row| hashes.path(row).to_vec()).collect();
    assert_eq!(paths, [vec![0, 1, 2, 3], vec![0, 1, 2, 3, 4, 5], vec![0, 6, 7]]);
    let told = "1 prompts begin with recorded tokens that no turn of their session said before: these hit nothing \
                (`--use-recorded-cache` counts what was recorded)";
    assert!(report.information.iter().any(|text| text == told), "{:?}", report.information);
}

#[test]
fn a_native_file_says_or_is_told_what_a_hash_stands_for() {
    let text = "{\"arrival_s\": 0, \"prompt_tokens\": 1024, \"output_tokens\": 1, \"hash_ids\": [1, 2]}\n";
    let (_, report) = reading(text, ReadOptions::default()).unwrap();
    let told = "hash ids stand for 16 tokens each (default of native files; `block_size` in the header, or \
                `--trace-block-size`, says otherwise)";
    assert!(report.information.iter().any(|text| text == told), "{:?}", report.information);
    assert_eq!(report.warnings[0].hint, "`--trace-block-size 512` fits every line");
    let told = ReadOptions { trace_block_size: Some(512), ..ReadOptions::default() };
    let (_, report) = reading(text, told).unwrap();
    assert!(report.information.is_empty() && report.warnings.is_empty());
    let header = format!("{{\"trace\": \"roofline-fast/1\", \"block_size\": 512}}\n{text}");
    assert!(reading(&header, ReadOptions::default()).unwrap().1.information.is_empty());
}

#[test]
fn what_benchmarks_measured_is_read_with_its_times() {
    let vllm = "{\"backend\": \"vllm\", \"input_lens\": [9, 8, 7], \"output_lens\": [3, 0, 2], \"start_times\": [5, 6, 8], \
                \"ttfts\": [0.5, 0, 0.25], \"itls\": [[0.25, 0.25], [], [0.125]]}";
    let (trace, report) = reading(vllm, ReadOptions::default()).unwrap();
    assert_eq!((report.format.name(), trace.prompt_tokens), ("bench_result", vec![9, 7]));
    assert_eq!(
        (trace.arrival_ns, trace.carried.ttft_ns),
        (vec![0, 3_000_000_000], vec![500_000_000, 250_000_000])
    );
    assert_eq!(trace.carried.e2e_ns, [1_000_000_000, 375_000_000]);
    let without = vllm.replace("\"start_times\": [5, 6, 8], ", "");
    let error = reading(&without, ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("the file must have arrival times"), "{error}");
    let summary = reading("{\"request_throughput\": 1, \"total_input_tokens\": 5}", ReadOptions::default());
    assert!(summary.unwrap_err().hint().contains("--save-detailed"));
    let aiperf = "{\"metadata\": {\"request_start_ns\": 5000000000, \"x_correlation_id\": \"c\", \"turn_index\": 0}, \
                  \"metrics\": {\"input_sequence_length\": {\"value\": 9, \"unit\": \"tokens\"}, \
                  \"output_sequence_length\": {\"value\": 2, \"unit\": \"tokens\"}, \"request_latency\": {\"value\": 20.5, \
                  \"unit\": \"ms\"}}, \"error\": null}";
    let (trace, report) = reading(aiperf, ReadOptions::default()).unwrap();
    assert_eq!((report.format.name(), trace.carried.e2e_ns[0]), ("aiperf_records", 20_500_000));
    let guidellm = "{\"benchmarks\": [{\"requests\": {\"successful\": [{\"start_time\": 5.5, \"prompt_tokens\": 9, \
                    \"output_tokens\": 2, \"first_token_time\": 6, \"end_time\": 7}], \"errored\": [{}]}}]}";
    let (trace, report) = reading(guidellm, ReadOptions::default()).unwrap();
    assert_eq!((report.format.name(), trace.carried.ttft_ns[0]), ("guidellm_benchmarks", 500_000_000));
    assert!(
        report.information.iter().any(|told| told.starts_with("1 entries that are no answered requests"))
    );
    let text = "{\"experiments\": [{\"requests\": [{\"timestamp\": 1, \"response_timestamps\": [2]}]}]}";
    let error = reading(text, ReadOptions::default()).unwrap_err();
    assert!(error.to_string().contains("a GenAI-Perf export, which holds none"), "{error}");
}

#[test]
fn the_nearest_format_is_told_with_what_it_lacks() {
    let hint = |text: &str| reading(text, ReadOptions::default()).unwrap_err().hint();
    let near = hint("{\"timestamp\": 0, \"q\": 5, \"output_length\": 2}");
    assert!(
        near.starts_with("the nearest format is native, which has also `prompt_tokens`; name its"),
        "{near}"
    );
    assert!(hint("{\"q\": 0, \"r\": 5}").starts_with("name its fields: `--map arrival=FIELD:s"));
}

#[test]
fn a_line_that_names_the_schema_of_agents_is_no_request() {
    let rows = "{\"request_id\": \"a\", \"timestamp\": 0, \"input_length\": 5, \"output_length\": 2, \"wait_for\": []}\n";
    let text = format!("{{\"schema\": \"agentic_mooncake\", \"version\": 2}}\n{rows}");
    let (trace, report) = reading(&text, ReadOptions::default()).unwrap();
    assert_eq!((trace.len(), report.format), (1, Format::AgenticMooncake));
    assert!(report.information.iter().any(|told| told.starts_with("the first line names a schema")));
}

#[test]
fn files_put_one_behind_the_other_repeat_their_header() {
    let file = "{\"trace\": \"roofline-fast/1\", \"time_unit\": \"s\"}\n\
                {\"timestamp\": 5, \"prompt_tokens\": 7, \"output_tokens\": 2}\n";
    let (trace, report) = reading(&file.repeat(3), ReadOptions::default()).unwrap();
    assert_eq!((trace.len(), report.rows), (3, 3));
    let other = file.to_string() + &file.replace("\"s\"", "\"ms\"");
    assert!(reading(&other, ReadOptions::default()).is_err());
}

#[test]
fn an_archive_is_named_and_an_adapter_has_two_names() {
    let mut archive = vec![b'a'; 257];
    archive.extend_from_slice(b"ustar\x0000");
    let error = read("t.tar", &archive, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().ends_with(": an archive (tar)"), "{error}");
    assert!(error.hint().contains("--servegen FOLDER"), "{}", error.hint());
    let row = "{\"arrival_s\": 0, \"prompt_tokens\": 5, \"output_tokens\": 1, \"lora_id\": \"a\"}";
    assert_eq!(reading(row, ReadOptions::default()).unwrap().0.carried.lora.unwrap().names, ["a"]);
}
