//! How fast traces are read: rows a second on one core, from text in memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use roofline_sim::trace::{ReadOptions, read};

const ROWS: u64 = 100_000;

/// Mooncake rows with `blocks` hash ids each, of which the first half is shared.
fn jsonl(rows: u64, blocks: u64) -> Vec<u8> {
    let mut text = String::new();
    for row in 0..rows {
        let (prompt, output) = (blocks.max(2) * 512 - row % 512, 1 + row % 900);
        text.push_str(&format!(
            "{{\"timestamp\": {}, \"input_length\": {prompt}, \"output_length\": {output}",
            row * 294
        ));
        if blocks > 0 {
            let shared = (0..blocks / 2).map(|block| row % 97 * blocks + block);
            let own = (blocks / 2..blocks).map(|block| (row + 97) * blocks + block);
            text.push_str(&format!(", \"hash_ids\": {:?}", shared.chain(own).collect::<Vec<_>>()));
        }
        text.push_str("}\n");
    }
    text.into_bytes()
}

/// Azure's columns, ten requests a second.
fn csv(rows: u64) -> Vec<u8> {
    let mut text = String::from("TIMESTAMP,ContextTokens,GeneratedTokens\r\n");
    for row in 0..rows {
        let (seconds, tick) = (row / 10, row % 10);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        let (prompt, output) = (1 + row % 7_000, 1 + row % 900);
        text.push_str(&format!(
            "2023-11-16 {hour:02}:{minute:02}:{second:02}.{tick}799600,{prompt},{output}\r\n"
        ));
    }
    text.into_bytes()
}

fn rows_a_second(criterion: &mut Criterion) {
    let cases = [
        ("jsonl with 24 hashes", jsonl(ROWS / 10, 24), ROWS / 10),
        ("slim jsonl", jsonl(ROWS, 0), ROWS),
        ("csv", csv(ROWS), ROWS),
    ];
    let mut group = criterion.benchmark_group("trace_read");
    for (name, text, rows) in &cases {
        group.throughput(Throughput::Elements(*rows));
        group.bench_function(*name, |bencher| {
            bencher.iter(|| read("bench", text, &ReadOptions::default()).map(|(trace, _)| trace.len()));
        });
    }
    let conversation = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../shared/data/traces/mooncake/conversation_trace.jsonl.zst"
    );
    if let Ok(bytes) = std::fs::read(conversation) {
        group.throughput(Throughput::Elements(12_031));
        group.bench_function("the Mooncake conversation trace, zstd", |bencher| {
            bencher.iter(|| read("bench", &bytes, &ReadOptions::default()).map(|(trace, _)| trace.len()));
        });
    }
    group.finish();
}

criterion_group!(benches, rows_a_second);
criterion_main!(benches);
