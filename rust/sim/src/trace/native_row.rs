//! A request as a line of the native schema, which keeps all that a trace holds and adds nothing.

use rustc_hash::FxHashMap;

use super::finish::PREFIX_BLOCK;
use super::prefix_groups::{Adapters, paths};
use super::write::{Line, decimal, session_of};
use super::{BlockHashes, Sessions, Trace};

/// How the rows of a trace are written: what some of them say decides how all do.
pub(super) struct Native<'t> {
    trace: &'t Trace,
    /// The paths that are written.
    hashes: Option<&'t BlockHashes>,
    /// Whether any row waits for several others: then the delays of all rows are lists, a field being of one kind.
    several: bool,
    /// Whether each row must say what it waits for, as it is not the turn before it.
    tells: Vec<bool>,
    /// Whether requests need ids, because another names what it waits for.
    named: bool,
    /// Whether each column of counts is of zeros only, so that they stood in the file.
    zeros: [bool; COUNTS],
}

/// Columns of counts that are 0 where the file does not say.
const COUNTS: usize = 5;

impl<'t> Native<'t> {
    pub fn of(trace: &'t Trace, hashes: Option<&'t BlockHashes>) -> Native<'t> {
        let zeros = counts(trace).map(|(_, column)| column.iter().all(|count| *count == 0));
        let Some(sessions) = &trace.sessions else {
            return Native { trace, hashes, several: false, tells: Vec::new(), named: false, zeros };
        };
        let tells = untold(sessions);
        let named = (0..trace.len()).any(|row| tells[row] && sessions.waits_for(row).len() > 0);
        Native { trace, hashes, several: sessions.waits_for_several(), tells, named, zeros }
    }

    /// Appends a request.
    pub fn row(&self, row: usize, text: &mut String) {
        let trace = self.trace;
        let mut line = Line::of(text);
        if let Some(id) = self.id(row) {
            line.words("id", &id);
        }
        line.field("arrival_s", decimal(trace.arrival_ns[row], 9));
        line.field("prompt_tokens", trace.prompt_tokens[row]);
        line.field("output_tokens", trace.output_tokens[row]);
        if let Some(sessions) = &trace.sessions {
            self.turn(sessions, row, &mut line);
        }
        if let Some(hashes) = self.hashes {
            line.field("block_hashes", format_args!("{:?}", hashes.path(row)));
        }
        if let Some(model) = &trace.model {
            line.words("model", model);
        }
        if let Some(priority) = trace.priority.get(row) {
            line.field("priority", priority);
        }
        self.carried(row, &mut line);
        line.end();
    }

    /// The id of a request; its row where the trace has none and others must name it.
    fn id(&self, row: usize) -> Option<String> {
        self.trace.ids.get(row).cloned().or_else(|| self.named.then(|| (row + 1).to_string()))
    }

    /// The session, and what is waited for.
    fn turn(&self, sessions: &Sessions, row: usize, line: &mut Line) {
        if let Some(session) = session_of(self.trace, row) {
            line.words("session", &session);
        }
        line.count("turn", &self.trace.carried.turn, row);
        let (rows, delays): (Vec<u32>, Vec<u64>) = sessions.waits_for(row).unzip();
        if self.tells[row] {
            let ids: Vec<String> = rows.iter().filter_map(|row| self.id(*row as usize)).collect();
            line.field("after", serde_json::Value::from(ids));
        }
        if delays.iter().all(|delay| *delay == 0) {
            return;
        }
        let delays: Vec<String> = delays.into_iter().map(|delay| decimal(delay, 9)).collect();
        match delays.as_slice() {
            [delay] if !self.several => line.field("delay_s", delay),
            _ => line.field("delay_s", format_args!("[{}]", delays.join(", "))),
        }
    }

    fn carried(&self, row: usize, line: &mut Line) {
        let carried = &self.trace.carried;
        if let Some(prefixes) = &carried.prefixes
            && let Some(group) = prefixes.group.name(row)
        {
            line.words("prefix_group", group);
            line.count("prefix_tokens", &prefixes.tokens, row);
        }
        let names = [
            ("model", &carried.model),
            ("lora", &carried.lora),
            ("tenant", &carried.tenant),
            ("slo_class", &carried.slo_class),
        ];
        for (field, labels) in names {
            if let Some(name) = labels.as_ref().and_then(|labels| labels.name(row)) {
                line.words(field, name);
            }
        }
        line.count("max_output_tokens", &carried.max_output_tokens, row);
        line.count("reasoning_tokens", &carried.reasoning_tokens, row);
        self.counts(row, line);
        line.seconds("deadline_s", &carried.deadline_ns, row);
        line.seconds("timeout_s", &carried.timeout_ns, row);
        line.seconds("observed_ttft_s", &carried.ttft_ns, row);
        line.seconds("observed_e2e_s", &carried.e2e_ns, row);
        line.seconds("observed_tpot_s", &carried.tpot_ns, row);
    }

    /// The counts that are not 0, of images as the list that was read, which says how many they are.
    fn counts(&self, row: usize, line: &mut Line) {
        let carried = &self.trace.carried;
        let listed = carried.image_sizes.get(row).and_then(Option::as_deref);
        let listed = listed.filter(|sizes| Some(&sizes.iter().sum()) == carried.image_tokens.get(row));
        for ((field, column), zeros) in counts(self.trace).into_iter().zip(self.zeros) {
            let Some(count) = column.get(row) else { continue };
            match (field, listed) {
                ("image_tokens", Some(sizes)) => line.field(field, format_args!("{sizes:?}")),
                ("images", Some(sizes)) if *count as usize == sizes.len() => {}
                ("images", Some(_)) => line.field(field, count),
                _ if *count > 0 || zeros => line.field(field, count),
                _ => {}
            }
        }
    }
}

fn counts(trace: &Trace) -> [(&'static str, &[u32]); COUNTS] {
    let carried = &trace.carried;
    [
        ("cached_tokens", &carried.cached_tokens),
        ("images", &carried.images),
        ("image_tokens", &carried.image_tokens),
        ("audio_tokens", &carried.audio_tokens),
        ("video_tokens", &carried.video_tokens),
    ]
}

/// Whether each row waits for something else than its reader takes for granted: the turn before it, if there is one.
fn untold(sessions: &Sessions) -> Vec<bool> {
    let numbers = sessions.session.iter().filter(|session| **session != Sessions::NONE);
    let mut last = vec![None; numbers.max().map_or(0, |number| *number as usize + 1)];
    let tells = |(row, session): (usize, &u32)| {
        let before = last.get_mut(*session as usize).and_then(|last| last.replace(row as u32));
        !sessions.waits_for(row).map(|(after, _)| after).eq(before)
    };
    sessions.session.iter().enumerate().map(tells).collect()
}

/// Whether the paths of a trace are those that a reader makes of its prefix groups, but for the numbers of ids.
pub(super) fn are_of_groups(trace: &Trace) -> bool {
    let (Some(hashes), Some(prefixes)) = (&trace.hashes, &trace.carried.prefixes) else { return false };
    let mut made = paths(prefixes, PREFIX_BLOCK);
    if let Some(lora) = &trace.carried.lora {
        Adapters::default().part(&mut made, lora);
    }
    let (mut there, mut back) = (FxHashMap::default(), FxHashMap::default());
    let mut same = |(one, other): (&u32, &u32)| {
        there.entry(*one).or_insert(*other) == other && back.entry(*other).or_insert(*one) == one
    };
    hashes.block_size == PREFIX_BLOCK
        && hashes.offsets == made.offsets
        && hashes.ids.iter().zip(&made.ids).all(&mut same)
}
