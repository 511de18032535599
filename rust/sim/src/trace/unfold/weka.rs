//! Sessions of coding agents as Weka and cc-traces record them: one a record, subagents nested inside.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Place, Unfolding, layout, list, name_or, quoted};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

const FORMAT: &str = "a Weka session";

/// Slack within which a subagent counts as done when its parent goes on: stamps are rounded to a tenth of a second.
const SLACK_S: f64 = 0.1;

#[derive(Deserialize)]
struct Session<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    block_size: Option<&'a RawValue>,
    #[serde(borrow)]
    requests: Vec<&'a RawValue>,
}

/// A request, or a subagent with requests of its own.
#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(default)]
    t: f64,
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, rename = "in")]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    out: Option<&'a RawValue>,
    #[serde(borrow)]
    hash_ids: Option<&'a RawValue>,
    #[serde(borrow)]
    ttft: Option<&'a RawValue>,
    api_time: Option<f64>,
    think_time: Option<f64>,
    #[serde(borrow)]
    agent_id: Option<&'a RawValue>,
    duration_ms: Option<f64>,
    #[serde(borrow)]
    requests: Option<Vec<&'a RawValue>>,
}

/// What has been read of a session.
struct Reading<'a, 'u> {
    block_size: Option<&'a RawValue>,
    place: Place<'a>,
    unfolding: &'u mut Unfolding<'a>,
}

/// What the next request waits for.
#[derive(Clone, Default)]
struct Before {
    ids: Vec<String>,
    /// When the last of them was done as recorded, if that is known.
    done_s: Option<f64>,
}

/// One row a request. Times count from the start of the session, which is at 0: sessions have no arrival.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let session: Session = layout(record.text, FORMAT)?;
    let name = name_or(session.id, || format!("line {}", record.line));
    let mut reading = Reading { block_size: session.block_size, place: Place::new(record), unfolding };
    reading.follow(&name, &session.requests, 0.0, Before::default()).map(|_| ())
}

impl<'a> Reading<'a, '_> {
    /// Reads the requests of an agent, `offset_s` seconds after those of the session; the id of its last one.
    fn follow(
        &mut self,
        agent: &str,
        requests: &[&'a RawValue],
        offset_s: f64,
        mut before: Before,
    ) -> Result<Option<String>, Mistake> {
        let mut done: Vec<(f64, String)> = Vec::new();
        let mut last = None;
        for (number, text) in requests.iter().enumerate() {
            let entry: Entry = layout(text.get().as_bytes(), FORMAT)?;
            let start_s = entry.t + offset_s;
            if let Some(nested) = &entry.requests {
                let name = name_or(entry.agent_id, || number.to_string());
                let offset_s = start_s_of(nested, start_s)?;
                let end = self.follow(&format!("{agent}/{name}"), nested, offset_s, before.clone())?;
                let end_s = entry.duration_ms.map_or(f64::INFINITY, |ms| start_s + ms / 1e3);
                done.extend(end.map(|end| (end_s, end)));
                continue;
            }
            if entry.kind.as_deref() == Some("subagent") {
                self.unfolding.passed_over += 1;
                continue;
            }
            // Its parent waits for a subagent that was done when the parent went on; others run beside it.
            done.retain(|(end_s, id)| {
                let joins = *end_s <= start_s + SLACK_S;
                if joins {
                    before.ids.push(id.clone());
                    before.done_s = before.done_s.map(|known| known.max(*end_s));
                }
                !joins
            });
            let id = format!("{agent}/{number}");
            self.row(agent, &id, text, &entry, start_s, &before);
            let done_s = entry.api_time.map(|api_s| start_s + api_s);
            before = Before { ids: vec![id.clone()], done_s };
            last = Some(id);
        }
        Ok(last)
    }

    fn row(
        &mut self,
        agent: &str,
        id: &str,
        text: &RawValue,
        entry: &Entry<'a>,
        start_s: f64,
        before: &Before,
    ) {
        let mut row = Fields::new(self.place.line(text))
            .made("t", format!("{start_s:.9}"))
            .made("id", quoted(id))
            .made("session", quoted(agent))
            .made("requests", list(&before.ids))
            .with("in", entry.input)
            .with("out", entry.out)
            .with("hash_ids", entry.hash_ids)
            .with("block_size", self.block_size)
            .with("model", entry.model)
            .with("ttft", entry.ttft);
        if let Some(api_s) = entry.api_time {
            row = row.made("api_time", format!("{api_s:.9}"));
        }
        let gap_s = entry.think_time.or(before.done_s.map(|done_s| start_s - done_s));
        if let Some(gap_s) = gap_s.filter(|gap_s| *gap_s > 0.0 && !before.ids.is_empty()) {
            row = row.made("think_time", format!("{gap_s:.9}"));
        }
        self.unfolding.rows.push(row);
    }
}

/// When a subagent's clock begins: with the subagent where its first request lies before it, else with the session.
fn start_s_of(requests: &[&RawValue], start_s: f64) -> Result<f64, Mistake> {
    let Some(first) = requests.first() else { return Ok(0.0) };
    let first: Entry = layout(first.get().as_bytes(), FORMAT)?;
    Ok(if first.t + SLACK_S < start_s { start_s } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    fn session(subagent: &str, next_t: f64) -> Vec<String> {
        let text = format!(
            "{{\"id\": \"s\", \"block_size\": 64, \"requests\": [{{\"t\": 0.0, \"type\": \"n\", \"in\": 9, \"out\": 1, \
             \"api_time\": 2.0}}, {subagent}, {{\"t\": {next_t}, \"type\": \"n\", \"in\": 12, \"out\": 1}}]}}"
        );
        rows(unfold, &text).unwrap()
    }

    fn subagent(t: f64) -> String {
        format!(
            "{{\"t\": 9.0, \"type\": \"subagent\", \"agent_id\": \"x\", \"duration_ms\": 3000, \
             \"requests\": [{{\"t\": {t}, \"type\": \"n\", \"in\": 5, \"out\": 2}}]}}"
        )
    }

    #[test]
    fn nested_times_may_count_from_the_subagent_or_from_the_session() {
        for t in [0.5, 9.5] {
            let rows = session(&subagent(t), 13.0);
            let expected = "1: t=9.500000000 id=\"s/x/0\" session=\"s/x\" requests=[\"s/0\"] in=5 out=2 block_size=64 \
                            think_time=7.500000000";
            assert_eq!(rows[1], expected);
        }
    }

    #[test]
    fn a_parent_waits_for_a_subagent_that_was_done_before_it_went_on() {
        let joined = &session(&subagent(0.0), 13.0)[2];
        assert!(joined.contains("requests=[\"s/0\",\"s/x/0\"]"), "{joined}");
        assert!(joined.ends_with("think_time=1.000000000"), "{joined}");
        let beside = &session(&subagent(0.0), 11.0)[2];
        assert!(beside.contains("requests=[\"s/0\"]"), "{beside}");
    }
}
