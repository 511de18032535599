//! Laws of reading: what is written is read back, however it is packed, and no bytes make the reader panic.

use std::io::Write;

use proptest::prelude::*;
use roofline_sim::trace::{
    BlockHashes, Carried, Format, Labels, NOT_OBSERVED, NOT_SAID, OnError, Prefixes, ReadOptions, Sessions,
    Trace, detect, inspect, read, write,
};

/// A trace in time order from 0, in whole milliseconds so that every format can hold it.
fn traces() -> impl Strategy<Value = Trace> {
    let row = (0u64..5_000, 1u32..200_000, 0u32..5_000, prop::collection::vec(0u32..50, 0..6));
    prop::collection::vec(row, 1..40).prop_map(|rows| {
        let mut trace = Trace {
            hashes: Some(BlockHashes { block_size: 512, offsets: vec![0], ids: vec![] }),
            ..Trace::default()
        };
        let (mut now, mut seen) = (0, Vec::new());
        for (row, (gap, prompt, output, path)) in rows.into_iter().enumerate() {
            now += if row == 0 { 0 } else { gap };
            trace.arrival_ns.push(now * 1_000_000);
            trace.prompt_tokens.push(prompt);
            trace.output_tokens.push(output);
            let hashes = trace.hashes.as_mut().expect("set above");
            for id in path {
                let dense = seen.iter().position(|known| *known == id).unwrap_or_else(|| {
                    seen.push(id);
                    seen.len() - 1
                });
                hashes.ids.push(dense as u32);
            }
            hashes.offsets.push(hashes.ids.len() as u64);
        }
        trace
    })
}

/// Names in the order of their first use, as reading numbers them.
fn labelled(picks: &[u8]) -> Labels {
    let mut labels = Labels::default();
    for pick in picks {
        if *pick == 0 {
            labels.of.push(Labels::NONE);
            continue;
        }
        let name = format!("\"{pick}\" é");
        let known = labels.names.iter().position(|known| *known == name);
        labels.of.push(known.unwrap_or(labels.names.len()) as u32);
        if known.is_none() {
            labels.names.push(name);
        }
    }
    labels
}

/// A trace with all that the native schema keeps, times to the nanosecond.
fn full_traces() -> impl Strategy<Value = Trace> {
    let row = (
        0u64..1 << 40,
        0u8..4,
        0u8..3,
        any::<i32>(),
        prop::collection::vec((any::<u32>(), 0u64..1 << 40), 0..3),
    );
    (traces(), prop::collection::vec(row, 40)).prop_map(|(mut trace, rows)| {
        let count = trace.len();
        let rows = &rows[..count];
        trace.arrival_ns = rows.iter().map(|row| row.0).collect();
        trace.arrival_ns.sort_unstable();
        trace.arrival_ns[0] = 0;
        trace.ids = (0..count).map(|row| format!("r{row}")).collect();
        trace.model = Some("a model".to_string());
        trace.priority = rows.iter().map(|row| row.3).collect();
        let picks: Vec<u8> = rows.iter().map(|row| row.1).collect();
        let named = labelled(&picks);
        let mut sessions = Sessions {
            count: named.names.len() as u32,
            session: named.of.clone(),
            offsets: vec![0],
            ..Sessions::default()
        };
        for (at, row) in rows.iter().enumerate() {
            for (on, delay_ns) in row.4.iter().filter(|_| at > 0) {
                sessions.after.push(on % at as u32);
                sessions.delay_ns.push(*delay_ns);
            }
            sessions.offsets.push(sessions.after.len() as u64);
        }
        trace.sessions = Some(sessions);
        let has = |row: usize| named.of[row] != Labels::NONE;
        let observed = |row: usize| if has(row) { rows[row].0 } else { NOT_OBSERVED };
        let several = named.names.len() > 1;
        // One model of all is told of the trace.
        trace.model = trace.model.filter(|_| !several);
        if (0..count).any(has) {
            let several = named.names.len() > 1;
            trace.model = trace.model.filter(|_| !several);
            trace.carried = Carried {
                model: several.then(|| named.clone()),
                prefixes: Some(Prefixes {
                    tokens: (0..count).map(|row| u32::from(has(row))).collect(),
                    group: named.clone(),
                }),
                cached_tokens: trace.prompt_tokens.iter().map(|prompt| prompt / 2).collect(),
                lora: Some(named.clone()),
                tenant: Some(named.clone()),
                images: picks.iter().map(|pick| u32::from(*pick)).collect(),
                image_tokens: vec![3; count],
                slo_class: Some(named.clone()),
                turn: picks.iter().map(|pick| u32::from(*pick)).collect(),
                max_output_tokens: trace.output_tokens.clone(),
                reasoning_tokens: (0..count).map(|row| if has(row) { 0 } else { NOT_SAID }).collect(),
                image_sizes: if picks.iter().any(|pick| *pick > 1) {
                    picks.iter().map(|pick| (*pick > 1).then(|| Box::from([1; 3]))).collect()
                } else {
                    Vec::new()
                },
                timeout_ns: (0..count).map(observed).collect(),
                audio_tokens: picks.iter().map(|pick| u32::from(*pick) * 5).collect(),
                video_tokens: vec![4; count],
                deadline_ns: (0..count).map(observed).collect(),
                ttft_ns: (0..count).map(observed).collect(),
                e2e_ns: (0..count).map(observed).collect(),
                tpot_ns: (0..count).map(observed).collect(),
            };
        }
        trace
    })
}

/// A trace as it is read: prefix groups are paths where there are none, and adapters share no ids.
fn as_read(trace: &Trace) -> Trace {
    let mut read = trace.clone();
    read.sessions = read.sessions.filter(|sessions| sessions.count > 0 || sessions.waiting() > 0);
    if let (None, Some(prefixes)) = (&trace.hashes, &trace.carried.prefixes) {
        assert!(prefixes.tokens.iter().all(|tokens| *tokens < 16), "no prefix of these traces fills a block");
        let offsets = vec![0; trace.len() + 1];
        read.hashes = Some(BlockHashes { block_size: 16, offsets, ids: Vec::new() });
    }
    if let (Some(hashes), Some(lora)) = (&mut read.hashes, &trace.carried.lora) {
        let mut seen: Vec<(u32, u32)> = Vec::new();
        for (row, adapter) in lora.of.iter().enumerate() {
            for at in hashes.offsets[row] as usize..hashes.offsets[row + 1] as usize {
                let of_adapter = (*adapter, hashes.ids[at]);
                let known = seen.iter().position(|other| *other == of_adapter);
                hashes.ids[at] = known.unwrap_or(seen.len()) as u32;
                if known.is_none() {
                    seen.push(of_adapter);
                }
            }
        }
    }
    read
}

/// Hashes of 64 bits in place of dense ids: equal for equal ids, never equal for different ones.
fn hash(id: u32) -> u64 {
    u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 63
}

fn written(trace: &Trace, format: Format) -> String {
    let mut text = String::new();
    if format == Format::Vidur {
        text.push_str("arrived_at,num_prefill_tokens,num_decode_tokens\n");
    }
    for row in 0..trace.len() {
        let (arrival, prompt) = (trace.arrival_ns[row], trace.prompt_tokens[row]);
        let (output, seconds) = (trace.output_tokens[row], arrival / 1_000_000_000);
        let fraction = format!("{:09}", arrival % 1_000_000_000);
        let path: Vec<u64> =
            trace.hashes.iter().flat_map(|hashes| hashes.path(row)).map(|id| hash(*id)).collect();
        text.push_str(&match format {
            Format::Vidur => format!("{seconds}.{fraction},{prompt},{output}\n"),
            Format::Mooncake => format!(
                "{{\"timestamp\": {}, \"input_length\": {prompt}, \"output_length\": {output}, \"hash_ids\": {path:?}}}\n",
                arrival / 1_000_000
            ),
            _ => format!(
                "{{\"arrival_s\": {seconds}.{fraction}, \"prompt_tokens\": {prompt}, \"output_tokens\": {output}, \
                 \"block_hashes\": {path:?}}}\n"
            ),
        });
    }
    text
}

fn gzipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

/// The same text in every packing: plain, one gzip member, two, one zstd frame, two.
fn packings(text: &[u8]) -> Vec<Vec<u8>> {
    let (head, tail) = text.split_at(text.len() / 2);
    let zstd = |part: &[u8]| zstd::stream::encode_all(part, 1).expect("memory takes all");
    vec![
        text.to_vec(),
        gzipped(text),
        [gzipped(head), gzipped(tail)].concat(),
        zstd(text),
        [zstd(head), zstd(tail)].concat(),
        [b"\xef\xbb\xbf", text].concat(),
        String::from_utf8_lossy(text).replace('\n', "\r\n").into_bytes(),
    ]
}

/// Reads in every way there is; only panics matter.
fn survives(bytes: &[u8]) {
    for on_error in [OnError::Stop, OnError::Skip] {
        for format in
            [None, Some(Format::Native), Some(Format::Mooncake), Some(Format::AzureLlm), Some(Format::Vidur)]
        {
            let options = ReadOptions { on_error, format, ..ReadOptions::default() };
            if let Ok((trace, report)) = read("bytes", bytes, &options) {
                assert!(trace.arrival_ns.is_sorted());
                assert_eq!(report.rows, report.kept + report.dropped_broken + report.dropped_zero_output);
                inspect(&trace, &report.warnings);
            }
        }
    }
    let _ = detect("bytes", bytes, &ReadOptions::default());
}

/// One record of each nested format.
const NESTED: &[&str] = &[
    r#"{"schema": "dynamo.request.trace.v1", "event_type": "request_end", "request": {"request_received_ms": 1, "input_tokens": 9, "output_tokens": 1, "ttft_ms": 2.5, "replay": {"trace_block_size": 4, "input_sequence_hashes": [1, 2]}}}"#,
    r#"{"id": "a", "created": 7, "previous_response_id": "b", "usage": {"prompt_tokens": 9, "completion_tokens": 2}}"#,
    r#"{"captureData": {"endpointOutput": {"data": "{\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}"}}, "eventMetadata": {"inferenceTime": "2026-04-29T00:03:18Z"}}"#,
    r#"{"spans": [{"span_id": "a", "start_time": 5, "end_time": 9, "attributes": {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 5}}]}"#,
    r#"{"format": "satf", "sessions": [{"nodes": [{"kind": "llm_infer", "id": "a", "payload": {"input_tokens_total": 8, "output_tokens": 2}}, {"kind": "tool_call", "id": "t"}, {"kind": "llm_infer", "id": "b", "payload": {"input_tokens_total": 8, "output_tokens": 2}}], "edges": [{"from": "a", "to": "t"}, {"from": "t", "to": "b"}]}]}"#,
    r#"{"id": "s", "block_size": 64, "requests": [{"t": 0, "in": 9, "out": 1}, {"t": 4, "requests": [{"t": 0, "in": 3, "out": 1}]}, {"t": 9, "in": 70, "out": 1, "hash_ids": [1]}]}"#,
    r#"{"session_id": "s", "prefix_tokens": 3, "newly_append_tokens": 4, "input_tokens_total": 7, "output_tokens": 1, "timing_events": [{"event_type": "user_message", "timestamp": "2026-06-01T05:40:20.151Z"}]}"#,
    r#"{"session_id": "s", "arrival_time_ns": 4, "sub_requests": [{"input_toks": 2, "output_toks": 1, "tool_duration_ns": 7}, {"input_toks": 3, "output_toks": 1}]}"#,
    r#"{"num_turns": 1, "input_prompt_length": 6, "assistant_response_length": [2], "tool_call_output_length": [2], "tool_call_latency": [0.1], "final_assistant_response_length": 2}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_back_however_it_is_packed(trace in traces()) {
        for format in [Format::Native, Format::Mooncake, Format::Vidur] {
            let mut expected = trace.clone();
            let options = ReadOptions { trace_block_size: Some(512), ..ReadOptions::default() };
            if format == Format::Vidur {
                expected.hashes = None;
            }
            for bytes in packings(written(&trace, format).as_bytes()) {
                let (read, report) = read("t", &bytes, &options).unwrap();
                prop_assert_eq!(report.format, format);
                prop_assert_eq!(&read, &expected);
            }
        }
    }

    #[test]
    fn a_trace_that_is_converted_and_read_has_the_same_columns(trace in full_traces()) {
        let written = write(&trace, Format::Native).unwrap();
        prop_assert!(written.left_out.is_empty());
        let (native, report) = read("t", &written.bytes, &ReadOptions::default()).unwrap();
        prop_assert_eq!(report.format, Format::Native);
        prop_assert_eq!(&native, &as_read(&trace));
        let again = write(&native, Format::Native).unwrap();
        prop_assert_eq!(&read("t", &again.bytes, &ReadOptions::default()).unwrap().0, &native);
        let lengths = Trace {
            arrival_ns: trace.arrival_ns.clone(),
            prompt_tokens: trace.prompt_tokens.clone(),
            output_tokens: trace.output_tokens.clone(),
            ..Trace::default()
        };
        for format in [Format::Vidur, Format::AzureLlm] {
            let written = write(&trace, format).unwrap();
            let (read, report) = read("t", &written.bytes, &ReadOptions::default()).unwrap();
            prop_assert_eq!(report.format, format);
            prop_assert_eq!(&read, &lengths);
        }
        let mut open = Trace { carried: Carried::default(), ..trace };
        if let Some(sessions) = &mut open.sessions {
            sessions.after.clear();
            sessions.delay_ns.clear();
            sessions.offsets.fill(0);
        }
        if open.sessions.as_ref().is_some_and(|sessions| sessions.count == 0) {
            open.sessions = None;
        }
        let written = write(&open, Format::Mooncake).unwrap();
        prop_assert!(written.left_out.is_empty());
        let (mooncake, report) = read("t", &written.bytes, &ReadOptions::default()).unwrap();
        prop_assert_eq!(report.format, Format::Mooncake);
        prop_assert_eq!(&mooncake, &open);
    }

    #[test]
    fn no_record_of_a_nested_format_makes_the_reader_panic(
        which in 0usize..NESTED.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 0..8),
    ) {
        let mut bytes = NESTED[which].as_bytes().to_vec();
        for (place, byte, kind) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = b"0123456789-e.,[]{}\"a"[usize::from(byte) % 20],
                1 => bytes.insert(place, b"{}[]\",:-.0\n9"[usize::from(byte) % 12]),
                _ => drop(bytes.remove(place)),
            }
        }
        survives(&bytes);
        let options = ReadOptions { arrivals_elsewhere: true, on_error: OnError::Skip, ..ReadOptions::default() };
        if let Ok((trace, report)) = read("bytes", &bytes, &options) {
            prop_assert!(trace.arrival_ns.is_sorted());
            prop_assert_eq!(report.rows, report.kept + report.dropped_broken + report.dropped_zero_output);
        }
    }

    #[test]
    fn rows_in_any_order_are_read_as_the_same_requests(trace in traces(), seed in any::<u64>()) {
        let text = written(&trace, Format::Vidur);
        let (header, rows) = text.split_once('\n').unwrap();
        let mut rows: Vec<&str> = rows.lines().collect();
        let count = rows.len();
        for place in 0..count {
            rows.swap(place, (seed.rotate_left(place as u32) % count as u64) as usize);
        }
        let shuffled = format!("{header}\n{}\n", rows.join("\n"));
        let (read, _) = read("t", shuffled.as_bytes(), &ReadOptions::default()).unwrap();
        let requests = |trace: &Trace| {
            let mut requests: Vec<_> = (0..trace.len())
                .map(|row| (trace.arrival_ns[row], trace.prompt_tokens[row], trace.output_tokens[row]))
                .collect();
            requests.sort_unstable();
            requests
        };
        prop_assert_eq!(requests(&read), requests(&trace));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&bytes);
        for magic in [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"PAR1", b"{\"", b"[{", b"a,b\n"] {
            survives(&[magic, &bytes].concat());
        }
    }

    #[test]
    fn no_change_to_a_good_file_makes_the_reader_panic(
        trace in traces(),
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..12),
    ) {
        let format = [Format::Native, Format::Mooncake, Format::Vidur][which];
        let mut bytes = written(&trace.limit(4), format).into_bytes();
        for (place, byte, kind) in changes {
            let place = place.index(bytes.len());
            match kind {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, b"{}[]\",:-.0\n\\"[usize::from(byte) % 12]),
                2 => bytes.truncate(place.max(1)),
                _ => drop(bytes.remove(place)),
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        survives(&bytes);
        survives(&gzipped(&bytes));
    }
}
