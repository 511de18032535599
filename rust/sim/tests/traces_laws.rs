//! Laws of reading: what is written is read back, however it is packed, and no bytes make the reader panic.

use std::io::Write;

use proptest::prelude::*;
use roofline_sim::trace::{BlockHashes, Format, OnError, ReadOptions, Trace, detect, inspect, read};

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
