//! SATF 2, Dynamo's session interchange: graphs of calls to a model and to tools, of which the calls to the model stay.

use std::borrow::Cow;

use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Place, Unfolding, layout, list, name_or, quoted};
use crate::trace::mistakes::{Mistake, shortened};
use crate::trace::records::Record;

const FORMAT: &str = "SATF 2";

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    time_base: Option<Cow<'a, str>>,
    #[serde(borrow)]
    block_size_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    sessions: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Session<'a> {
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    nodes: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    edges: Vec<Edge<'a>>,
}

#[derive(Deserialize)]
struct Node<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    duration_us: Option<u64>,
    min_start_delay_us: Option<u64>,
    #[serde(borrow, default)]
    payload: Payload<'a>,
}

#[derive(Deserialize, Default)]
struct Payload<'a> {
    #[serde(borrow)]
    input_tokens_total: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    kv_block_ids: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Edge<'a> {
    #[serde(borrow)]
    from: Cow<'a, str>,
    #[serde(borrow)]
    to: Cow<'a, str>,
    #[serde(default)]
    delay_after_predecessor_us: u64,
}

impl Node<'_> {
    fn calls_model(&self) -> bool {
        self.kind == "llm_infer"
    }
}

/// A row for each call to a model. Sessions have no arrival: all begin at 0.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let document: Document = layout(record.text, FORMAT)?;
    if let Some(base) = document.time_base.filter(|base| base != "us") {
        return Err(Mistake::new("time_base", "must be us", shortened(&base)));
    }
    let mut place = Place::new(record);
    for (number, text) in document.sessions.into_iter().enumerate() {
        let session: Session = layout(text.get().as_bytes(), FORMAT)?;
        let name = name_or(session.session_id, || number.to_string());
        rows_of(&session, &name, document.block_size_tokens, &mut place, unfolding)?;
    }
    Ok(())
}

fn rows_of<'a>(
    session: &Session<'a>,
    name: &str,
    block_size: Option<&'a RawValue>,
    place: &mut Place<'a>,
    unfolding: &mut Unfolding<'a>,
) -> Result<(), Mistake> {
    let parsed = session.nodes.iter().map(|text| layout(text.get().as_bytes(), FORMAT));
    let nodes: Vec<Node> = parsed.collect::<Result<_, _>>()?;
    let before = Before::new(&nodes, &session.edges)?;
    for (at, node) in nodes.iter().enumerate() {
        if !node.calls_model() {
            unfolding.passed_over += 1;
            continue;
        }
        let Start { after, from_start_us } = before.start(at)?;
        let mut row = Fields::new(place.line(session.nodes[at]))
            .made("id", quoted(&format!("{name}/{}", node.id)))
            .made("session_id", quoted(name))
            .with("payload.input_tokens_total", node.payload.input_tokens_total)
            .with("payload.output_tokens", node.payload.output_tokens)
            .with("payload.kv_block_ids", node.payload.kv_block_ids)
            .with("block_size_tokens", block_size);
        let earliest = node.min_start_delay_us.unwrap_or(0).max(from_start_us);
        if after.is_empty() || earliest > 0 {
            row = row.made("min_start_delay_us", earliest.to_string());
        }
        if let Some(duration) = node.duration_us {
            row = row.made("duration_us", duration.to_string());
        }
        let ids: Vec<String> = after.iter().map(|(on, _)| format!("{name}/{}", nodes[*on].id)).collect();
        let delays: Vec<String> = after.iter().map(|(_, delay)| delay.to_string()).collect();
        row = row.made("edges", list(&ids));
        if !delays.is_empty() {
            row = row.made("delay_after_predecessor_us", format!("[{}]", delays.join(",")));
        }
        unfolding.rows.push(row);
    }
    Ok(())
}

/// When a call starts: the calls it waits for, each with the microseconds in between, and what lies before any call.
#[derive(Debug, Default, PartialEq, Eq)]
struct Start {
    after: Vec<(usize, u64)>,
    from_start_us: u64,
}

/// The edges of a session by where they end.
struct Before<'n, 'a> {
    nodes: &'n [Node<'a>],
    edges: Vec<Vec<(usize, u64)>>,
}

impl<'n, 'a> Before<'n, 'a> {
    fn new(nodes: &'n [Node<'a>], edges: &[Edge]) -> Result<Before<'n, 'a>, Mistake> {
        let places: FxHashMap<&str, usize> =
            nodes.iter().enumerate().map(|(place, node)| (node.id.as_ref(), place)).collect();
        let find = |field: &str, id: &str| {
            let missing = || Mistake::new(field, "must be the id of a node of its session", shortened(id));
            places.get(id).copied().ok_or_else(missing)
        };
        let mut before = vec![Vec::new(); nodes.len()];
        for edge in edges {
            let (from, to) = (find("edges.from", &edge.from)?, find("edges.to", &edge.to)?);
            before[to].push((from, edge.delay_after_predecessor_us));
        }
        Ok(Before { nodes, edges: before })
    }

    /// Walks back from a call over tools, the longest way where there are several, to the calls before.
    fn start(&self, call: usize) -> Result<Start, Mistake> {
        let mut longest: FxHashMap<usize, u64> = FxHashMap::default();
        let mut start = Start::default();
        let mut open = vec![(call, 0u64, 0usize)];
        while let Some((node, delay, depth)) = open.pop() {
            if depth > self.nodes.len() {
                let id = shortened(&self.nodes[node].id);
                return Err(Mistake::new("edges", "must not lead back to the node itself", id));
            }
            if node != call && self.edges[node].is_empty() {
                start.from_start_us = start.from_start_us.max(delay);
            }
            for (from, gap) in &self.edges[node] {
                let tool = !self.nodes[*from].calls_model();
                let spent = if tool { self.nodes[*from].duration_us.unwrap_or(0) } else { 0 };
                let delay = delay.saturating_add(*gap).saturating_add(spent);
                if longest.get(from).is_some_and(|known| *known >= delay) {
                    continue;
                }
                longest.insert(*from, delay);
                if tool {
                    open.push((*from, delay, depth + 1));
                }
            }
        }
        start.after = longest.into_iter().filter(|(node, _)| self.nodes[*node].calls_model()).collect();
        start.after.sort_unstable();
        Ok(start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    fn document(nodes: &str, edges: &str) -> String {
        format!(
            "{{\"format\": \"satf\", \"time_base\": \"us\", \"sessions\": [{{\"session_id\": \"s\", \
             \"nodes\": [{nodes}], \"edges\": [{edges}]}}]}}"
        )
    }

    const CALLS: &str = "{\"kind\": \"llm_infer\", \"id\": \"a\"}, {\"kind\": \"llm_infer\", \"id\": \"b\"}, \
                         {\"kind\": \"tool_call\", \"id\": \"t\", \"duration_us\": 50}, \
                         {\"kind\": \"llm_infer\", \"id\": \"c\"}";

    #[test]
    fn a_call_waits_for_the_calls_before_it_and_for_the_tools_between() {
        let edges = "{\"from\": \"a\", \"to\": \"t\", \"delay_after_predecessor_us\": 1}, \
                     {\"from\": \"t\", \"to\": \"c\", \"delay_after_predecessor_us\": 2}, \
                     {\"from\": \"a\", \"to\": \"c\"}, {\"from\": \"b\", \"to\": \"c\"}";
        let rows = rows(unfold, &document(CALLS, edges)).unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows[0].ends_with("min_start_delay_us=0 edges=[]"), "{}", rows[0]);
        assert!(
            rows[2].ends_with("edges=[\"s/a\",\"s/b\"] delay_after_predecessor_us=[53,0]"),
            "{}",
            rows[2]
        );
    }

    #[test]
    fn edges_must_name_nodes_and_tools_must_not_wait_for_themselves() {
        let unknown = rows(unfold, &document(CALLS, "{\"from\": \"z\", \"to\": \"c\"}")).unwrap_err();
        assert_eq!((unknown.field.as_str(), unknown.value.as_str()), ("edges.from", "z"));
        let cycle = "{\"from\": \"t\", \"to\": \"t\"}, {\"from\": \"t\", \"to\": \"c\"}";
        let cycle = rows(unfold, &document(CALLS, cycle)).unwrap_err();
        assert_eq!(cycle.must, "must not lead back to the node itself");
        let base = rows(unfold, &document(CALLS, "").replace("\"us\"", "\"ms\"")).unwrap_err();
        assert_eq!((base.field.as_str(), base.value.as_str()), ("time_base", "ms"));
    }
}
