//! Results of `vllm bench serve` and SGLang's `bench_serving` with their details: a run as lists, one value a request.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Unfolding, layout};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Run<'a> {
    #[serde(borrow)]
    input_lens: Vec<&'a RawValue>,
    #[serde(borrow)]
    output_lens: Vec<&'a RawValue>,
    #[serde(borrow)]
    start_times: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    ttfts: Option<Vec<&'a RawValue>>,
    itls: Option<Vec<Vec<f64>>>,
}

/// A row for each request of the run; an answer took its time to the first token, and the gaps after it.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let run: Run = layout(record.text, "a result of vLLM's or SGLang's benchmark")?;
    let count = run.input_lens.len();
    let lengths = [
        ("output_lens", Some(run.output_lens.len())),
        ("start_times", run.start_times.as_ref().map(Vec::len)),
        ("ttfts", run.ttfts.as_ref().map(Vec::len)),
        ("itls", run.itls.as_ref().map(Vec::len)),
    ];
    let other = lengths.into_iter().find_map(|(name, length)| Some((name, length.filter(|l| *l != count)?)));
    if let Some((name, length)) = other {
        let must = format!("must have a value for each of the {count} input_lens");
        return Err(Mistake::new(name, must, length.to_string()));
    }
    for (place, (prompt, output)) in run.input_lens.iter().zip(&run.output_lens).enumerate() {
        let start = run.start_times.as_ref().map(|times| times[place]);
        let row = Fields::new(record.line)
            .with("start_times", start)
            .with("input_lens", Some(prompt))
            .with("output_lens", Some(output));
        // A request that failed has neither an answer nor times.
        let first = run.ttfts.as_ref().map(|ttfts| ttfts[place]).filter(|_| output.get() != "0");
        let last = first.zip(run.itls.as_ref()).and_then(|(first, gaps)| {
            Some(first.get().parse::<f64>().ok()? + gaps[place].iter().sum::<f64>())
        });
        let row = row.with("ttfts", first);
        unfolding.rows.push(match last {
            Some(seconds) => row.made("itls", seconds.to_string()),
            None => row,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn a_run_is_as_many_requests_as_its_lists_have_values() {
        let text = "{\"input_lens\": [9, 8], \"output_lens\": [3, 0], \"start_times\": [5.5, 6], \"ttfts\": [0.5, 0], \
                    \"itls\": [[0.25, 0.125], []]}";
        let expected = [
            "1: start_times=5.5 input_lens=9 output_lens=3 ttfts=0.5 itls=0.875",
            "1: start_times=6 input_lens=8 output_lens=0",
        ];
        assert_eq!(rows(unfold, text).unwrap(), expected);
        let short = rows(unfold, &text.replace("[5.5, 6]", "[5.5]")).unwrap_err();
        assert_eq!(
            (short.field.as_str(), short.must.as_str(), short.value.as_str()),
            ("start_times", "must have a value for each of the 2 input_lens", "1")
        );
    }
}
