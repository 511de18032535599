//! Which requests belong to one session, and which waits for which, while rows are read.

use rustc_hash::{FxHashMap, FxHashSet};

use super::Sessions;
use super::links::{Links, Resolved};

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
    session: Vec<u32>,
    names: FxHashMap<String, u32>,
    last: Vec<Last>,
    turns: FxHashSet<(u32, u32)>,
    pub links: Links,
    pub noticed: Noticed,
}

/// The last row of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub row: u32,
    turn: u32,
    /// Tokens of its prompt.
    pub prompt: u32,
    output: u32,
    /// Nanoseconds that pass between its completion and the next turn.
    pub wait_after_ns: u64,
}

impl Last {
    /// The tokens that a next turn finds in its context.
    pub fn context(&self) -> u64 {
        u64::from(self.prompt) + u64::from(self.output)
    }
}

/// What a row says about its session.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turn<'a> {
    pub line: u64,
    pub session: Option<&'a str>,
    pub turn: Option<u32>,
    pub wait_after_ns: u64,
    pub prompt: u32,
    pub output: u32,
}

impl SessionColumns {
    /// For `requests` that said nothing of sessions.
    pub fn after(requests: usize) -> SessionColumns {
        SessionColumns { session: vec![Sessions::NONE; requests], ..SessionColumns::default() }
    }

    /// The last row of a session.
    pub fn last_of(&self, session: &str) -> Option<Last> {
        self.names.get(session).map(|session| self.last[*session as usize])
    }

    /// Appends a row.
    pub fn push(&mut self, turn: &Turn) {
        let row = self.session.len() as u32;
        let session = turn.session.map_or(Sessions::NONE, |name| self.follow(name, row, turn));
        self.session.push(session);
    }

    /// The number of a session, of which `row` is now the last.
    fn follow(&mut self, name: &str, row: u32, turn: &Turn) -> u32 {
        let now = Last {
            row,
            turn: turn.turn.unwrap_or(0),
            prompt: turn.prompt,
            output: turn.output,
            wait_after_ns: turn.wait_after_ns,
        };
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

    /// Whether the rows name sessions.
    pub fn named(&self) -> bool {
        !self.last.is_empty()
    }

    /// Takes what was said of waiting.
    pub fn take_links(&mut self) -> Links {
        std::mem::take(&mut self.links)
    }

    /// The sessions of who waits for whom; where the rows name none, `by_parents` makes one of all that wait for one.
    pub fn finish(mut self, resolved: &mut Resolved, by_parents: bool) -> (Sessions, Noticed) {
        let mut count = self.last.len() as u32;
        if by_parents && count == 0 {
            count = self.name_by_parents(resolved);
        }
        let sessions = Sessions {
            count,
            session: self.session,
            offsets: std::mem::take(&mut resolved.offsets),
            after: std::mem::take(&mut resolved.after),
            delay_ns: std::mem::take(&mut resolved.delay_ns),
        };
        (sessions, self.noticed)
    }

    /// Gives each request the session of what it waits for, however long the chain; how many sessions there are.
    fn name_by_parents(&mut self, resolved: &Resolved) -> u32 {
        let parent = |row: u32| {
            let range = resolved.offsets[row as usize] as usize..resolved.offsets[row as usize + 1] as usize;
            resolved.after[range].first().copied()
        };
        let (mut count, mut path) = (0, Vec::new());
        for start in 0..self.session.len() as u32 {
            let mut row = start;
            let session = loop {
                if self.session[row as usize] != Sessions::NONE {
                    break self.session[row as usize];
                }
                path.push(row);
                match parent(row) {
                    Some(next) => row = next,
                    None => {
                        count += 1;
                        break count - 1;
                    }
                }
            };
            for row in path.drain(..) {
                self.session[row as usize] = session;
            }
        }
        count
    }
}
