//! What a step of a block consists of: prompts, decoding sequences, or both.

use crate::work::{Op, Over};

/// What a step consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Prompt chunks; the last ones of their prompts sample.
    Prompt {
        /// Whether logits are needed.
        samples: bool,
    },
    /// New tokens for each sequence: one, or those that are verified together.
    Decode,
    /// New tokens for each sequence, and one prompt chunk.
    Mixed,
}

impl Kind {
    /// Whether decoding sequences are among those an operator runs over.
    pub(super) fn decodes(self, over: Over) -> bool {
        match over {
            Over::All | Over::Decode => matches!(self, Kind::Decode | Kind::Mixed),
            Over::DecodeAlone => self == Kind::Decode,
            Over::WithPrompts => self == Kind::Mixed,
            Over::Prefill => false,
        }
    }

    /// Whether prompts are.
    pub(super) fn prompts(self, over: Over) -> bool {
        let any = matches!(self, Kind::Prompt { .. } | Kind::Mixed);
        any && !matches!(over, Over::Decode | Over::DecodeAlone)
    }

    /// Whether the operator runs at all.
    pub(super) fn runs(self, op: &Op) -> bool {
        let idle = op.needs_logits && self == Kind::Prompt { samples: false };
        (self.decodes(op.over) || self.prompts(op.over)) && !idle
    }

    /// Its place where what depends on counts alone is kept by kind; what samples is priced alike.
    pub(super) fn index(self) -> usize {
        match self {
            Kind::Prompt { samples: false } => 0,
            Kind::Prompt { samples: true } => 1,
            Kind::Decode | Kind::Mixed => 2,
        }
    }
}
