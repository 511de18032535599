//! What the page says, cell by cell, against what is measured.

use roofline_core::analysis::Analyst;
use roofline_core::llm_viewer::analyze_generate_task;
use roofline_core::point::{Point, Question};

use crate::case::{CASES, Case, ENGINE, M, MAIN};
use crate::effects::{self, Effect};

/// Three significant digits with an SI prefix, as the page writes them.
fn quantity(value: f64, unit: &str) -> String {
    let (scale, prefix) = match unit {
        "" => (1.0, ""),
        _ => [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")]
            .into_iter()
            .find(|(scale, _)| value >= 0.9995 * *scale)
            .unwrap_or((1.0, "")),
    };
    let scaled = value / scale;
    let decimals = if scaled == 0.0 || unit.is_empty() {
        0
    } else {
        (2 - scaled.log10().floor() as i32).clamp(0, 2) as usize
    };
    format!("{scaled:.decimals$} {prefix}{unit}").trim_end().to_string()
}

/// `ours X vs tool Y (+Z %)`.
fn comparison(unit: &str, ours: f64, tool: Option<f64>) -> String {
    let Some(tool) = tool else { return format!("ours {} vs tool refused", quantity(ours, unit)) };
    let share = match tool {
        0.0 => String::new(),
        _ => {
            let percent = 100.0 * (ours / tool - 1.0);
            let decimals = if percent.abs() < 1.0 { 2 } else { 1 };
            let number = match percent.abs() < 1000.0 {
                true => format!("{percent:+.decimals$}"),
                false => format!("{:+},{:03.0}", (percent / 1000.0).trunc(), percent.abs() % 1000.0),
            };
            format!(" ({number} %)").replace('-', "−")
        }
    };
    format!("ours {} vs tool {}{share}", quantity(ours, unit), quantity(tool, unit))
}

/// The cells of the page's tables, by the text of their first cell.
fn page() -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/llm-viewer.md");
    let text = std::fs::read_to_string(path).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
    text.lines().filter(|line| line.starts_with("| ")).map(cells).collect()
}

/// Fails with every cell that differs, so that a change can be read before it is written down.
fn compare(expected: &[(String, String)], found: impl Fn(&str) -> Option<String>) {
    let wrong: Vec<String> = expected
        .iter()
        .filter_map(|(key, cell)| {
            let written = found(key).unwrap_or_else(|| "nothing".to_string());
            (written != *cell).then(|| format!("{key}: measured `{cell}`, the page has `{written}`"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_effect_on_the_page_is_measured() {
    let effects = effects::all();
    let numbers: Vec<u32> = effects.iter().map(|effect| effect.0).collect();
    assert_eq!(numbers, (1..=33).collect::<Vec<u32>>(), "one effect a line");
    let rows = page();
    let lines = rows.iter().filter(|row| row.len() == 6 && row[0].parse::<u32>().is_ok()).count();
    assert_eq!(lines, effects.len(), "lines of the page");
    let expected: Vec<(String, String)> = effects
        .iter()
        .map(|Effect(number, what, unit, ours, tool)| {
            (number.to_string(), format!("{what}: {}", comparison(unit, *ours, *tool)))
        })
        .collect();
    compare(&expected, |number| {
        rows.iter().find(|row| row.len() == 6 && row[0] == number).and_then(|row| row.last().cloned())
    });
}

/// The first cell of a case's row, and what prefill and decode take on both sides.
fn phases() -> Vec<(String, [String; 2])> {
    let whole = |case: &Case| {
        let tool = case.tool();
        let ours = |question| case.ours(question).outcome.times.step.ideal;
        let prefill = comparison("s", ours(Question::Prefill), Some(tool.prefill_totals.inference_time));
        let decode = comparison("s", ours(Question::Decode), Some(tool.decode_totals.inference_time));
        (case.letter.to_string(), [prefill, decode])
    };
    let mut rows: Vec<_> = CASES.iter().map(whole).collect();
    let tool = analyze_generate_task(MAIN, &M.config(), M.device.0, &M.inputs(), M.tokens, 128).unwrap();
    let chat = Point { output_len: 128, ..M.point(Question::Chat) };
    let times = Analyst::new(M.deployment(), &ENGINE).unwrap().times(&chat).unwrap();
    let prefill = times.ttft.unwrap();
    let generated = tool.inference_time - tool.prefill_time;
    rows.push((
        "M, all steps".to_string(),
        [
            comparison("s", prefill, Some(tool.prefill_time)),
            comparison("s", times.step.ideal - prefill, Some(generated)),
        ],
    ));
    rows
}

#[test]
fn every_whole_phase_on_the_page_is_measured() {
    let (rows, measured) = (page(), phases());
    for phase in [0, 1] {
        let expected: Vec<(String, String)> =
            measured.iter().map(|(case, cells)| (case.clone(), cells[phase].clone())).collect();
        compare(&expected, |case| {
            rows.iter().find(|row| row.len() == 3 && row[0] == case).map(|row| row[phase + 1].clone())
        });
    }
}
