//! GuideLLM's `benchmarks.json`: the requests of each of its benchmarks that succeeded.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Place, Unfolding, layout};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

#[derive(Deserialize)]
struct Report<'a> {
    #[serde(borrow)]
    benchmarks: Vec<Benchmark<'a>>,
}

#[derive(Deserialize)]
struct Benchmark<'a> {
    #[serde(borrow)]
    requests: Requests<'a>,
}

#[derive(Deserialize)]
struct Requests<'a> {
    #[serde(borrow, default)]
    successful: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    incomplete: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    errored: Vec<&'a RawValue>,
}

/// A request by the names of any version.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow, alias = "request_start_time")]
    start_time: Option<&'a RawValue>,
    #[serde(borrow, alias = "request_end_time")]
    end_time: Option<&'a RawValue>,
    #[serde(borrow)]
    first_token_time: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<Info<'a>>,
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow)]
    timings: Option<Timings<'a>>,
}

#[derive(Deserialize, Default)]
struct Timings<'a> {
    #[serde(borrow)]
    request_start: Option<&'a RawValue>,
    #[serde(borrow)]
    request_end: Option<&'a RawValue>,
    #[serde(borrow)]
    first_iteration: Option<&'a RawValue>,
}

/// A row for each request that succeeded; the others are passed over.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    const FORMAT: &str = "a GuideLLM report";
    let mut place = Place::new(record);
    let report: Report = layout(record.text, FORMAT)?;
    for Benchmark { requests } in report.benchmarks {
        unfolding.passed_over += (requests.incomplete.len() + requests.errored.len()) as u64;
        for text in requests.successful {
            let request: Request = layout(text.get().as_bytes(), FORMAT)?;
            let timings = request.info.and_then(|info| info.timings).unwrap_or_default();
            let row = Fields::new(place.line(text))
                .with("start_time", request.start_time.or(timings.request_start))
                .with("prompt_tokens", request.prompt_tokens)
                .with("output_tokens", request.output_tokens)
                .with("request_id", request.request_id)
                .with("first_token_time", request.first_token_time.or(timings.first_iteration))
                .with("end_time", request.end_time.or(timings.request_end));
            unfolding.rows.push(row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn requests_that_succeeded_are_rows_by_the_names_of_any_version() {
        let report = |requests: &str| format!("{{\"benchmarks\": [{{\"requests\": {requests}}}]}}");
        let text = report(
            "{\"successful\": [{\"start_time\": 5, \"prompt_tokens\": 9, \"output_tokens\": 2, \"end_time\": 7},\n\
             {\"info\": {\"timings\": {\"request_start\": 6, \"request_end\": 8}}, \"prompt_tokens\": 3}], \
             \"errored\": [{}]}",
        );
        let expected = [
            "1: start_time=5 prompt_tokens=9 output_tokens=2 end_time=7",
            "2: start_time=6 prompt_tokens=3 end_time=8",
        ];
        assert_eq!(rows(unfold, &text).unwrap(), expected);
        assert!(rows(unfold, &report("{}")).unwrap().is_empty());
    }
}
