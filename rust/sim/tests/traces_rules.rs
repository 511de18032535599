//! Each rule of reading on a file of two or three lines: the option that sets it, and the words that refuse.

use roofline_sim::error::Error;
use roofline_sim::trace::{
    Format, OnError, PriorityOrder, ReadOptions, Report, TimeUnit, Trace, ZeroOutput, inspect, read,
};

fn reading(text: &str, options: ReadOptions) -> Result<(Trace, Report), Error> {
    read("t", text.as_bytes(), &options)
}

/// The trace, where reading must succeed.
fn trace(text: &str, options: ReadOptions) -> Trace {
    reading(text, options).expect("a good trace").0
}

/// The refusal with its hint, where reading must fail.
fn refusal(text: &str) -> String {
    let error = reading(text, ReadOptions::default()).expect_err("a broken trace");
    format!("{error} | {}", error.hint())
}

fn native(rest: &str) -> String {
    format!("{{\"arrival_s\": 0, \"prompt_tokens\": 8, \"output_tokens\": 2{rest}}}\n")
}

const MOONCAKE: &str = "{\"timestamp\": 0, \"input_length\": 8, \"output_length\": 0}\n\
                        {\"timestamp\": 1000, \"input_length\": 9, \"output_length\": 3}\n";

#[test]
fn zero_outputs_are_kept_dropped_or_made_one_as_asked() {
    let with = |zero_output| ReadOptions { zero_output: Some(zero_output), ..ReadOptions::default() };
    assert_eq!(trace(MOONCAKE, with(ZeroOutput::Prefill)).output_tokens, [0, 3]);
    assert_eq!(trace(MOONCAKE, with(ZeroOutput::One)).output_tokens, [1, 3]);
    assert_eq!(trace(MOONCAKE, with(ZeroOutput::Drop)).output_tokens, [3]);
    let nothing = "Timestamp,Request tokens,Response tokens\n1,2,0\n";
    assert_eq!(
        refusal(nothing),
        "t: the file must hold requests: 1 rows, all without output | `--zero-output prefill` keeps them"
    );
}

#[test]
fn the_time_unit_is_the_formats_unless_told_otherwise() {
    let seconds = ReadOptions { time_unit: Some(TimeUnit::Seconds), ..ReadOptions::default() };
    assert_eq!(trace(MOONCAKE, ReadOptions::default()).arrival_ns[1], 1_000_000_000);
    assert_eq!(trace(MOONCAKE, seconds.clone()).arrival_ns[1], 1_000_000_000_000);
    let (_, report) =
        reading(&native(""), ReadOptions { time_unit: Some(TimeUnit::Millis), ..seconds }).unwrap();
    assert_eq!(report.information, ["`--time-unit` has no effect: the name of the arrival field says s"]);
}

#[test]
fn every_unit_a_native_arrival_may_have_means_the_same() {
    let expected = [0, 1_500_000_000];
    for (field, first, second) in [
        ("arrival_s", "0", "1.5"),
        ("arrival_ms", "0", "1500"),
        ("arrival_us", "0", "1500000"),
        ("arrival_ns", "0", "1500000000"),
        ("arrival", "\"2026-01-01T00:00:00Z\"", "\"2026-01-01T00:00:01.5Z\""),
    ] {
        let row =
            |arrival| format!("{{\"{field}\": {arrival}, \"prompt_tokens\": 1, \"output_tokens\": 1}}\n");
        let text = [row(first), row(second)].concat();
        assert_eq!(trace(&text, ReadOptions::default()).arrival_ns, expected, "{field}");
        let csv = format!("{field},prompt_tokens,output_tokens\n{first},1,1\n{second},1,1\n");
        assert_eq!(trace(&csv, ReadOptions::default()).arrival_ns, expected, "{field} in CSV");
    }
}

#[test]
fn units_must_not_be_mixed() {
    let text = native("") + "{\"arrival_ms\": 5, \"prompt_tokens\": 8, \"output_tokens\": 2}\n";
    let refusal = refusal(&text);
    let must = "t:2: every line must give its arrival in the same field and unit (arrival_s): arrival_ms";
    assert!(refusal.starts_with(must), "{refusal}");
}

#[test]
fn a_native_csv_may_hold_lists_and_ids() {
    let csv = "id,arrival_s,prompt_tokens,output_tokens,block_hashes,priority\n\
               a,0,32,2,\"[7, 9]\",1\nb,1,16,2,[7],-1\n";
    let (trace, report) = reading(csv, ReadOptions::default()).unwrap();
    assert_eq!(trace.ids, ["a", "b"]);
    assert_eq!(trace.priority, [1, -1]);
    assert_eq!(trace.hashes.unwrap().path(0), [0, 1]);
    assert!(report.warnings.is_empty(), "{:?}", report.warnings);
}

#[test]
fn priorities_are_lower_first_whatever_the_file_means() {
    let with = |priority_order| ReadOptions { priority_order, ..ReadOptions::default() };
    let text = native(", \"priority\": 3") + &native("");
    assert_eq!(trace(&text, with(PriorityOrder::LowerFirst)).priority, [3, 0]);
    assert_eq!(trace(&text, with(PriorityOrder::HigherFirst)).priority, [-3, 0]);
    let strict = native(", \"strict_priority\": 3");
    assert_eq!(trace(&strict, with(PriorityOrder::LowerFirst)).priority, [-3]);
    let refusal = refusal(&native(", \"priority\": 3e12"));
    assert!(refusal.starts_with("t:1: priority must be a whole number of 32 bits: 3e12"), "{refusal}");
}

#[test]
fn dependencies_name_requests_that_are_unmistakable() {
    let row = |id: &str, after: &str| {
        format!(
            "{{\"id\": \"{id}\", \"arrival_s\": 0, \"prompt_tokens\": 8, \"output_tokens\": 2, \"after\": {after}}}\n"
        )
    };
    let good = row("a", "[]") + &row("b", "[\"a\"]");
    assert_eq!(trace(&good, ReadOptions::default()).sessions.unwrap().after, [0]);
    for (after, must) in [
        ("[\"z\"]", "after must name a request of the trace: z"),
        ("[\"b\"]", "after must not lead back to the request itself: none of a cycle can start: b -> b"),
        ("{}", "after must be a list of ids of other requests: {}"),
    ] {
        let refusal = refusal(&(row("a", "[]") + &row("b", after)));
        assert!(refusal.starts_with(&format!("t:2: {must}")), "{refusal}");
    }
    let refusal = refusal(&(row("a", "[]") + &row("a", "[]") + &row("b", "[\"a\"]")));
    assert!(refusal.starts_with("t:3: after must name an id that is used once: a"), "{refusal}");
}

#[test]
fn a_delay_is_a_time_that_is_not_negative() {
    let session = |delay: &str| {
        "{\"session_id\": \"s\", \"timestamp\": 0, \"input_length\": 8, \"output_length\": 2}\n".to_string()
            + &format!(
                "{{\"session_id\": \"s\", \"delay\": {delay}, \"input_length\": 9, \"output_length\": 2}}\n"
            )
    };
    assert_eq!(trace(&session("2.5"), ReadOptions::default()).arrival_ns, [0, 2_500_000]);
    let negative = refusal(&session("-1"));
    assert!(negative.starts_with("t:2: delay must be at least 0: -1"), "{negative}");
    let text = refusal(&session("\"soon\""));
    assert!(text.starts_with("t:2: delay must be a number of ms, not a text: \"soon\""), "{text}");
}

#[test]
fn two_names_for_one_thing_must_agree() {
    let equal = native(", \"input_tokens\": 8");
    assert_eq!(trace(&equal, ReadOptions::default()).prompt_tokens, [8]);
    let refusal = refusal(&native(", \"input_tokens\": 9"));
    let must = "t:1: input_tokens must equal prompt_tokens, which means the same: two different values";
    assert!(refusal.starts_with(must), "{refusal}");
}

#[test]
fn the_header_of_a_native_file_sets_the_block_and_must_be_understood() {
    let with = |header: &str| {
        format!("{{\"trace\": \"roofline-fast/1\"{header}}}\n") + &native(", \"block_hashes\": [1]")
    };
    let (trace, report) = reading(&with(", \"block_size\": 8"), ReadOptions::default()).unwrap();
    assert_eq!((trace.hashes.unwrap().block_size, report.warnings.len()), (8, 0));
    let floor = with(", \"block_rule\": \"floor\", \"block_size\": 5");
    assert_eq!(reading(&floor, ReadOptions::default()).unwrap().1.warnings.len(), 0);
    for (header, must) in [
        (", \"block_size\": 0", "block_size must be a whole number of tokens, at least 1: 0"),
        (", \"block_rule\": \"round\"", "block_rule must be `ceil`, `floor` or `leading`: round"),
        (", \"hash_scope\": \"local\"", "hash_scope must be `global`: local"),
        (", \"turn_lengths\": \"new\"", "turn_lengths must be `full` or `delta`: new"),
        (", \"time_unit\": \"h\"", "time_unit must be s, ms, us, ns or datetime: h"),
    ] {
        assert_eq!(refusal(&with(header)), format!("t:1: {must} | "));
    }
    let version = refusal(&with("").replace("fast/1", "fast/2"));
    assert_eq!(version, "t:1: trace must be `roofline-fast/1`: roofline-fast/2 | ");
}

#[test]
fn a_semicolon_file_with_decimal_commas_is_read_when_told() {
    let text = "arrived_at;num_prefill_tokens;num_decode_tokens\n0,0;374;44\n4,31;396;109\n";
    let options = ReadOptions { csv_delimiter: Some(b';'), decimal_comma: true, ..ReadOptions::default() };
    assert_eq!(trace(text, options).arrival_ns, [0, 4_310_000_000]);
    let clear = text.replace(',', ".");
    assert_eq!(trace(&clear, ReadOptions::default()).arrival_ns, [0, 4_310_000_000]);
}

#[test]
fn a_csv_cell_must_hold_text_and_something() {
    let empty = refusal("arrived_at,num_prefill_tokens,num_decode_tokens\n0,,44\n1,2,3\n");
    assert!(
        empty.starts_with("t:2: num_prefill_tokens must be given, not an empty cell: nothing"),
        "{empty}"
    );
    let bytes = b"arrived_at,num_prefill_tokens,num_decode_tokens\n0,\xff,44\n1,2,3\n";
    let error = read("t", bytes, &ReadOptions::default()).unwrap_err();
    assert!(error.to_string().starts_with("t:2: the row must be valid UTF-8"), "{error}");
}

#[test]
fn a_column_that_is_absent_is_asked_for_once() {
    let refusal = refusal("num_prefill_tokens,arrived_at,num_decode_tokenz\n1,0,3\n2,1,3\n");
    assert_eq!(
        refusal,
        "t: the file must have output lengths: no output lengths (looked for num_decode_tokens; found arrived_at, \
         num_prefill_tokens, num_decode_tokenz) | did you mean `num_decode_tokens` for `num_decode_tokenz`?"
    );
}

#[test]
fn some_dates_without_zone_among_others_are_told_of() {
    let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                2024-10-15T12:00:00.269Z,7,4\n2024-10-15T14:00:05.819+02:00,9,1\n2024-10-15T12:00:06.513,9,7\n";
    let (trace, report) = reading(text, ReadOptions::default()).unwrap();
    assert_eq!(trace.arrival_ns, [0, 5_550_000_000, 6_244_000_000]);
    let warnings: Vec<_> = report.warnings.iter().map(|w| (w.text.as_str(), w.count, w.first_line)).collect();
    assert_eq!(warnings, [("1 times have no zone: read as UTC", 1, 4)]);
}

#[test]
fn arrivals_out_of_order_are_refused_when_order_is_required() {
    let text = MOONCAKE.replace("\"timestamp\": 0", "\"timestamp\": 5000");
    let strict = ReadOptions { require_sorted: true, ..ReadOptions::default() };
    let error = reading(&text, strict).unwrap_err();
    assert_eq!(
        error.to_string(),
        "t:2: arrivals must not go back in time (`--require-sorted`): 1 lines do, first line 2"
    );
    assert_eq!(trace(&text, ReadOptions::default()).prompt_tokens, [9, 8]);
}

#[test]
fn window_speedup_and_limit_are_applied_in_this_order() {
    let rows = (0..10).map(|second| format!("{second},{},1\n", second + 1)).collect::<String>();
    let text = format!("arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}");
    let options =
        ReadOptions { window_s: Some((2.0, 8.0)), speedup: Some(2.0), limit: Some(3), ..Default::default() };
    let part = trace(&text, options);
    assert_eq!(part.prompt_tokens, [3, 4, 5]);
    assert_eq!(part.arrival_ns, [0, 500_000_000, 1_000_000_000]);
    let nothing = ReadOptions { window_s: Some((20.0, 30.0)), ..ReadOptions::default() };
    let error = reading(&text, nothing).unwrap_err();
    assert_eq!(error.to_string(), "t: `--window` and `--limit` must leave requests: none of 10");
}

#[test]
fn the_format_can_be_chosen_against_what_is_seen() {
    let text = "{\"timestamp\": 1, \"input_length\": 8, \"output_length\": 2, \"chat_id\": 1, \"parent_chat_id\": -1}\n";
    assert_eq!(reading(text, ReadOptions::default()).unwrap().1.format, Format::Bailian);
    let chosen = ReadOptions { format: Some(Format::Mooncake), ..ReadOptions::default() };
    let (_, report) = reading(text, chosen).unwrap();
    assert_eq!((report.format, report.why.as_str()), (Format::Mooncake, "chosen with `--trace-format`"));
}

#[test]
fn skipping_counts_what_it_leaves_out_and_says_why() {
    let text = native("") + "{\n" + &native("").replace(": 8", ": -8") + &native("");
    let skip = ReadOptions { on_error: OnError::Skip, ..ReadOptions::default() };
    let (trace, report) = reading(&text, skip).unwrap();
    assert_eq!((trace.len(), report.rows, report.kept, report.dropped_broken), (2, 4, 2, 2));
    assert!(report.information.contains(&"2 of 4 rows kept, 2 left out".to_string()));
    let told: Vec<_> = report.warnings.iter().map(|warning| (warning.text.as_str(), warning.count)).collect();
    assert_eq!(told[1], ("left out: prompt_tokens must be at least 0: -8", 1));
    assert_eq!(inspect(&trace, &report.warnings).warnings, report.warnings);
}

#[test]
fn a_mistake_of_fifty_lines_is_told_once_with_its_first_lines() {
    let row = |line: u32| {
        format!(
            "{{\"timestamp\": {line}, \"input_length\": 5, \"output_length\": 1, \"hash_ids\": {line}}}\n"
        )
    };
    let text: String = (0..50).map(row).collect();
    let refused = refusal(&text);
    assert!(refused.contains("50 lines (first: 1, 2, 3)"), "{refused}");
}

#[test]
fn times_without_lengths_and_lengths_without_times_are_told_apart() {
    let lengths = refusal("prompt_tokens,output_tokens\n1,2\n");
    assert!(
        lengths.starts_with("t: the file must have arrival times: no arrival times (looked for arrival_s"),
        "{lengths}"
    );
    let times = refusal("arrival_s,tokens\n1,2\n");
    assert!(
        times.starts_with("t:1: the fields must be those of a known format: arrival_s, tokens"),
        "{times}"
    );
}

#[test]
fn options_must_make_sense_by_themselves() {
    let error = |options| reading(MOONCAKE, options).unwrap_err().to_string();
    let block = ReadOptions { trace_block_size: Some(0), ..ReadOptions::default() };
    assert_eq!(error(block), "trace_block_size must be at least 1 token: 0");
    let delimiter = ReadOptions { csv_delimiter: Some(b'"'), ..ReadOptions::default() };
    assert_eq!(
        error(delimiter),
        "csv_delimiter must be one ASCII character that is no quote and no line end: 0x22"
    );
}

#[test]
fn a_delay_keeps_its_unit_where_arrivals_are_dates() {
    let text = "{\"session_id\": 1, \"timestamp\": \"2026-01-01 00:00:00\", \"input_length\": 8, \"output_length\": 2}\n\
                {\"session_id\": 1, \"delay\": 5, \"input_length\": 9, \"output_length\": 2}\n";
    let dates = ReadOptions { time_unit: Some(TimeUnit::DateTime), ..ReadOptions::default() };
    assert_eq!(trace(text, dates).sessions.unwrap().delay_ns, [5_000_000]);
}
