//! LLMServingSim's workloads: requests alone, or sessions whose next request follows when a tool is done.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Fields, Place, Unfolding, layout, quoted};
use crate::trace::mistakes::Mistake;
use crate::trace::records::Record;

/// Tokens that one id of a prefix stands for here.
const BLOCK: usize = 16;
const FORMAT: &str = "an LLMServingSim workload";

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    arrival_time_ns: Option<&'a RawValue>,
    #[serde(borrow)]
    sub_requests: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    input_toks: Option<&'a RawValue>,
    #[serde(borrow)]
    output_toks: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_duration_ns: Option<&'a RawValue>,
    input_tok_ids: Option<Vec<u64>>,
}

/// A row for a request alone, or one for each of a session: each starts when the tool after the one before is done.
pub fn unfold<'a>(record: &Record<'a>, unfolding: &mut Unfolding<'a>) -> Result<(), Mistake> {
    let entry: Entry = layout(record.text, FORMAT)?;
    let Some(requests) = entry.sub_requests else {
        let (row, _) = row(record.line, record.text)?;
        let row = row.with("arrival_time_ns", entry.arrival_time_ns).with("session_id", entry.session_id);
        unfolding.rows.push(row);
        return Ok(());
    };
    let (mut place, mut tool) = (Place::new(record), None);
    for (number, text) in requests.into_iter().enumerate() {
        let (row, next) = row(place.line(text), text.get().as_bytes())?;
        let row = match entry.session_id {
            Some(session) => row.with("session_id", Some(session)),
            None => row.made("session_id", quoted(&format!("line {}", record.line))),
        };
        unfolding.rows.push(match number {
            0 => row.with("arrival_time_ns", entry.arrival_time_ns),
            _ => row.with("tool_duration_ns", tool),
        });
        tool = next;
    }
    Ok(())
}

/// The row of a request, and how long the tool after it takes.
fn row(line: u64, text: &[u8]) -> Result<(Fields<'_>, Option<&RawValue>), Mistake> {
    let request: Request = layout(text, FORMAT)?;
    let row =
        Fields::new(line).with("input_toks", request.input_toks).with("output_toks", request.output_toks);
    let row = match request.input_tok_ids {
        Some(tokens) => row.made("input_tok_ids", path(&tokens)),
        None => row,
    };
    Ok((row, request.tool_duration_ns))
}

/// The ids of a prompt's whole blocks as a JSON list; each is a hash of its tokens and of all before them.
fn path(tokens: &[u64]) -> String {
    let mut hash = 0u64;
    let ids = tokens.chunks_exact(BLOCK).map(|block| {
        hash = block.iter().fold(hash, |hash, token| mixed(hash ^ mixed(token.wrapping_add(1))));
        hash.to_string()
    });
    format!("[{}]", ids.collect::<Vec<_>>().join(","))
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): one to one on 64 bits.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn a_session_is_a_chain_with_its_tools_between() {
        let text = "{\"session_id\": \"s\", \"arrival_time_ns\": 7, \"sub_requests\": [\
                    {\"input_toks\": 1, \"output_toks\": 2, \"tool_duration_ns\": 30},\n\
                    {\"input_toks\": 4, \"output_toks\": 5, \"tool_duration_ns\": 0}]}";
        let expected = [
            "1: input_toks=1 output_toks=2 session_id=\"s\" arrival_time_ns=7",
            "2: input_toks=4 output_toks=5 session_id=\"s\" tool_duration_ns=30",
        ];
        assert_eq!(rows(unfold, text).unwrap(), expected);
    }

    #[test]
    fn prompts_share_the_blocks_up_to_their_first_other_token() {
        let one: Vec<u64> = (0..40).collect();
        let mut other = one.clone();
        other[20] = 99;
        let split =
            |tokens: &[u64]| path(tokens).trim_matches(['[', ']']).split(',').map(String::from).collect();
        let (one, other): (Vec<String>, Vec<String>) = (split(&one), split(&other));
        assert_eq!(one.len(), 2);
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
    }
}
