//! A point to price: a phase and its sizes, and the steps it consists of.

use crate::error::{Error, Result};
use crate::model::{Model, Task};
use crate::names;
use crate::shape::{Phase, Reaches, Sums};

/// What is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Question {
    /// Prompts of `input_len` new tokens.
    Prefill,
    /// One token for each of `batch_size` sequences of `input_len` tokens.
    Decode,
    /// A decode step that also carries a prompt chunk.
    Mixed,
    /// A whole request: prefill and every decode step.
    Chat,
    /// One pass of an encoder, a diffusion transformer, or a vision tower (one "token" a patch).
    Encode,
}

impl Question {
    /// Every question, by name.
    pub const ALL: [(&'static str, Question); 5] = [
        ("prefill", Question::Prefill),
        ("decode", Question::Decode),
        ("mixed", Question::Mixed),
        ("chat", Question::Chat),
        ("encode", Question::Encode),
    ];

    /// The question of that name.
    ///
    /// # Errors
    /// Another name, with the nearest.
    pub fn parse(name: &str) -> Result<Question> {
        Question::ALL
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, question)| question)
            .ok_or_else(|| names::unknown("phase", name, Question::ALL.iter().map(|(known, _)| *known)))
    }

    /// Whether sequences in it continue their answers.
    pub fn decodes(self) -> bool {
        matches!(self, Question::Decode | Question::Mixed | Question::Chat)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Question::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| *name)
    }
}

/// Sizes of one question; batch sizes are per data-parallel rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    /// What is asked about.
    pub question: Question,
    /// Sequences.
    pub batch_size: u64,
    /// New prompt tokens of a sequence; for decode the tokens already in its cache.
    pub input_len: u64,
    /// Tokens generated a sequence (chat).
    pub output_len: u64,
    /// Tokens cached in front of the input.
    pub prefix_len: u64,
    /// Largest prompt chunk of a sequence in one step; 0 takes prompts whole. The prompt chunk of a mixed step.
    pub chunk: u64,
}

impl Point {
    /// Tokens a sequence holds when the question is answered.
    pub fn context(&self) -> u64 {
        let after = match self.question {
            Question::Chat => self.input_len + self.output_len - 1,
            Question::Decode | Question::Mixed => self.input_len + 1,
            Question::Prefill | Question::Encode => self.input_len,
        };
        self.prefix_len + after
    }

    /// Tokens in the cache of a sequence before its first step of decoding.
    pub fn before(&self) -> u64 {
        self.input_len + if self.question == Question::Chat { self.prefix_len } else { 0 }
    }

    /// Checks the sizes, and the question against the model.
    ///
    /// # Errors
    /// Every rule that is broken, all at once.
    pub fn check(&self, model: &Model) -> Result<()> {
        let mut errors = Vec::new();
        let least = [("batch_size", self.batch_size), ("input_len", self.input_len)];
        for (field, value) in least {
            if value == 0 {
                errors.push(Error::spec(field, "must be at least 1", value, ""));
            }
        }
        if self.question == Question::Chat && self.output_len == 0 {
            errors.push(Error::spec("output_len", "must be at least 1 for phase `chat`", 0, ""));
        }
        if self.question == Question::Mixed && self.chunk == 0 {
            errors.push(Error::spec(
                "chunk",
                "must be at least 1 for phase `mixed`",
                0,
                "give the prompt tokens that ride along, for example chunk = 512",
            ));
        }
        const LONGEST: u64 = 1 << 40;
        for (field, value) in least.into_iter().chain([
            ("output_len", self.output_len),
            ("prefix_len", self.prefix_len),
            ("chunk", self.chunk),
        ]) {
            if value > LONGEST {
                errors.push(Error::spec(field, "must be at most 2^40", value, ""));
            }
        }
        let decodes = model.task == Task::Decoder;
        match self.question {
            Question::Encode if decodes && model.vision.is_none() => errors.push(Error::spec(
                "phase",
                format!(
                    "must be one of prefill, decode, mixed, chat for `{}`, which has no vision tower",
                    model.name
                ),
                "encode",
                "",
            )),
            Question::Decode | Question::Mixed | Question::Chat if !decodes => errors.push(Error::spec(
                "phase",
                format!("must be encode for `{}`, which generates no tokens", model.name),
                self.question.name(),
                "use phase = \"encode\"",
            )),
            _ => {}
        }
        Error::all("the question", errors)
    }

    /// The steps of the prompt: one, or as many as `chunk` cuts it into; the last one samples.
    pub fn prompt_steps(&self, reaches: &Reaches, samples: bool) -> Vec<Sums> {
        let most = if self.chunk == 0 { self.input_len } else { self.chunk };
        let mut steps = Vec::new();
        let mut done = 0;
        while done < self.input_len {
            let new = most.min(self.input_len - done);
            let last = done + new == self.input_len;
            let mut sums = reaches.empty();
            let rows = u64::from(samples && last);
            let context = self.prefix_len + done;
            reaches.add_item(&mut sums, Phase::Prefill, self.batch_size as f64, new, context, rows);
            steps.push(sums);
            done += new;
        }
        steps
    }

    /// One decode step of all sequences with `context` tokens in their cache and `new` tokens each: the last one, and
    /// drafts to verify.
    pub fn verify_step(&self, reaches: &Reaches, new: u64, context: u64) -> Sums {
        let mut sums = reaches.empty();
        reaches.add_item(&mut sums, Phase::Decode, self.batch_size as f64, new, context, new);
        sums
    }

    /// A decode step of all sequences, `new` tokens each, that carries a prompt chunk on top of `prefix_len`.
    pub fn mixed_step(&self, reaches: &Reaches, new: u64) -> Sums {
        let mut sums = self.verify_step(reaches, new, self.input_len);
        reaches.add_item(&mut sums, Phase::Prefill, 1.0, self.chunk, self.prefix_len, 1);
        sums
    }
}
