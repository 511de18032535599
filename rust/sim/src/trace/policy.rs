//! The choices that a format makes about reading, and a user may make against it.

/// What one unit of a number that stands for time is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
    /// No number at all: a date with a time of day.
    DateTime,
}

impl TimeUnit {
    /// Its short name: `s`, `ms`, `us`, `ns` or `datetime`.
    pub fn name(self) -> &'static str {
        match self {
            TimeUnit::Seconds => "s",
            TimeUnit::Millis => "ms",
            TimeUnit::Micros => "us",
            TimeUnit::Nanos => "ns",
            TimeUnit::DateTime => "datetime",
        }
    }

    /// The unit of that short name.
    pub fn named(name: &str) -> Option<TimeUnit> {
        [TimeUnit::Seconds, TimeUnit::Millis, TimeUnit::Micros, TimeUnit::Nanos, TimeUnit::DateTime]
            .into_iter()
            .find(|unit| unit.name() == name)
    }

    /// The power of ten that turns it into nanoseconds; a date has none and gives 0.
    pub(super) fn nanos_exponent(self) -> i32 {
        match self {
            TimeUnit::Seconds => 9,
            TimeUnit::Millis => 6,
            TimeUnit::Micros => 3,
            TimeUnit::Nanos | TimeUnit::DateTime => 0,
        }
    }
}

/// What happens to a row that breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnError {
    /// The file is refused.
    #[default]
    Stop,
    /// The row is left out, and counted.
    Skip,
}

/// What a request that generates no token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZeroOutput {
    /// A failed call: left out, and counted.
    Drop,
    /// A prompt that is processed and answered with nothing.
    Prefill,
    /// One token.
    One,
}

/// Which blocks of a prompt have a hash id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum BlockRule {
    /// All, the last one also where it is not full.
    #[default]
    Ceil,
    /// Those that are full.
    Floor,
    /// The first ones: what follows is the prompt's own.
    Leading,
}

impl BlockRule {
    /// Its name in the header of a native file.
    pub fn name(self) -> &'static str {
        match self {
            BlockRule::Ceil => "ceil",
            BlockRule::Floor => "floor",
            BlockRule::Leading => "leading",
        }
    }

    /// The rule by which all the given numbers of ids, each of a prompt so many tokens long, were made.
    pub fn of(block_size: u32, mut prompts: impl Iterator<Item = (u64, u32)> + Clone) -> BlockRule {
        let size = block_size.max(1);
        let full = |(ids, prompt): (u64, u32)| ids == 0 || ids == u64::from(prompt.div_ceil(size));
        let whole = |(ids, prompt): (u64, u32)| ids == 0 || ids == u64::from(prompt / size);
        if prompts.clone().all(full) {
            BlockRule::Ceil
        } else if prompts.all(whole) {
            BlockRule::Floor
        } else {
            BlockRule::Leading
        }
    }
}

/// What the prompt lengths of a session's turns count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TurnLengths {
    /// The whole prompt, with all that was said before.
    #[default]
    Full,
    /// What is new: the turns before, prompts and outputs, come on top.
    Delta,
}

/// What becomes of requests that an engine's context cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverContext {
    /// The engine rejects prompts that leave no room for an answer, and ends answers at its longest context.
    #[default]
    Reject,
    /// Prompts are cut at their end so that the whole answer has room.
    Truncate,
    /// The trace is refused.
    Fail,
}

/// Which end of the file's priorities is served first; a [`Trace`](super::Trace) holds lower first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PriorityOrder {
    /// Lower first, as in vLLM: taken as written.
    #[default]
    LowerFirst,
    /// Higher first, as in SGLang and Dynamo: negated.
    HigherFirst,
}
