//! Which requests belong to one session, and which waits for which, while rows are read.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Sessions;

/// What is noticed about sessions on the way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Noticed {
    /// Turns that come after a later turn of their session.
    pub out_of_order: u64,
    /// Turns that a session has twice.
    pub repeated: u64,
    /// Prompts shorter than the one before them in their session.
    pub shrinking: u64,
    /// The first line of each.
    pub first_line: u64,
}

/// The sessions of the rows read so far.
#[derive(Default)]
pub(super) struct SessionColumns {
    columns: Sessions,
    names: FxHashMap<String, u32>,
    last: Vec<Last>,
    turns: FxHashSet<(u32, u32)>,
    pub noticed: Noticed,
}

/// The last row of a session.
#[derive(Clone, Copy)]
struct Last {
    row: u32,
    turn: u32,
    prompt: u32,
}

/// What a row says about its session.
pub(super) struct Turn<'a> {
    pub line: u64,
    pub session: Option<&'a str>,
    pub turn: Option<u32>,
    pub after: u32,
    pub delay_ns: u64,
    pub prompt: u32,
}

impl SessionColumns {
    /// For `requests` that said nothing of sessions.
    pub fn after(requests: usize) -> SessionColumns {
        let mut sessions = SessionColumns::default();
        sessions.columns.session.resize(requests, Sessions::NONE);
        sessions.columns.after.resize(requests, Sessions::NONE);
        sessions.columns.delay_ns.resize(requests, 0);
        sessions
    }

    /// The last row of a session, or [`Sessions::NONE`].
    pub fn last_of(&self, session: &str) -> u32 {
        self.names.get(session).map_or(Sessions::NONE, |session| self.last[*session as usize].row)
    }

    /// Appends a row.
    pub fn push(&mut self, turn: &Turn) {
        let row = self.columns.session.len() as u32;
        let session = turn.session.map_or(Sessions::NONE, |name| self.follow(name, row, turn));
        self.columns.session.push(session);
        self.columns.after.push(turn.after);
        self.columns.delay_ns.push(turn.delay_ns);
    }

    /// The number of a session, of which `row` is now the last.
    fn follow(&mut self, name: &str, row: u32, turn: &Turn) -> u32 {
        let now = Last { row, turn: turn.turn.unwrap_or(0), prompt: turn.prompt };
        let Some(&session) = self.names.get(name) else {
            let session = self.last.len() as u32;
            self.names.insert(name.to_string(), session);
            self.last.push(now);
            self.turns.extend(turn.turn.map(|number| (session, number)));
            return session;
        };
        let last = std::mem::replace(&mut self.last[session as usize], now);
        let repeated = turn.turn.is_some_and(|number| !self.turns.insert((session, number)));
        let out_of_order = turn.turn.is_some() && now.turn < last.turn;
        let shrinking = now.prompt < last.prompt && !out_of_order;
        let noticed = &mut self.noticed;
        noticed.repeated += u64::from(repeated);
        noticed.out_of_order += u64::from(out_of_order);
        noticed.shrinking += u64::from(shrinking);
        if (repeated || out_of_order || shrinking) && noticed.first_line == 0 {
            noticed.first_line = turn.line;
        }
        session
    }

    /// The columns, and what was noticed.
    pub fn finish(mut self) -> (Sessions, Noticed) {
        self.columns.count = self.last.len() as u32;
        (self.columns, self.noticed)
    }
}
