//! Parallel decoding without a draft: Jacobi iterations, lookahead, skeleton of thought.

use std::sync::Arc;

use super::{Drafting, Effect, Generation, Kind, Parameter, Slot};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "parallel-decoding",
    aliases: &["lookahead", "jacobi", "skeleton-of-thought"],
    class: "parallel decoding",
    about: "computes several tokens of a sequence at once, of which some hold",
    parameters: &[
        Parameter { key: "method", default: "jacobi", about: "jacobi, lookahead or skeleton" },
        Parameter {
            key: "width",
            default: "1",
            about: "jacobi: tokens iterated together; lookahead: window W; skeleton: points written at once",
        },
        Parameter { key: "ngram", default: "5", about: "length N of lookahead's n-grams" },
        Parameter {
            key: "guesses",
            default: "",
            about: "n-grams G verified a step (lookahead); the window unless said",
        },
        Parameter {
            key: "serial",
            default: "0.1",
            about: "share of an answer that its skeleton is, written token by token (skeleton); 0.1 is assumed, \
                    nobody has published it: measure yours",
        },
        Parameter {
            key: "tokens",
            default: "",
            about: "tokens that hold of a step, measured; skeleton: of its share and the points unless said",
        },
    ],
    changes: "tokens a step; F, A and KV of its new tokens",
    formula: "new tokens a sequence: jacobi n; lookahead (W + G)·(N − 1); skeleton one a point, 1/(s + (1−s)/points) tokens a step with a share s written before",
    source: "Jacobi decoding (arXiv 2305.10427), Lookahead (arXiv 2402.02057), Skeleton-of-Thought (arXiv 2307.15337); the survey",
    pays: "single sequences, which leave the tensor unit idle",
    loses: "batches: the tokens that do not hold are computed in earnest",
    slots: &[Slot::Generation],
    read: |settings| {
        let width = settings.count("width", 1, 65_536)?;
        let method = settings.choice("method", &[("jacobi", 0), ("lookahead", 1), ("skeleton", 2)])?;
        settings.only_where(method == 1, "method=lookahead", &["ngram", "guesses"])?;
        settings.only_where(
            method == 2 && !settings.said("tokens"),
            "method=skeleton and no tokens",
            &["serial"],
        )?;
        let serial = settings.share("serial")?;
        let new = match method {
            1 => {
                let guesses = settings.maybe_count("guesses", 0, 65_536)?.unwrap_or(width);
                (width + guesses) * (settings.count("ngram", 2, 1024)? - 1)
            }
            _ => width,
        };
        let given = settings.maybe("tokens", 1.0, new as f64)?;
        let tokens = match (given, method) {
            (Some(tokens), _) => tokens,
            (None, 2) => 1.0 / (serial + (1.0 - serial) / width as f64),
            (None, _) if new == 1 => 1.0,
            (None, _) => {
                return Err(settings.wrong(
                    "tokens",
                    "must be given",
                    "tokens that hold of a step, for example 2.1",
                ));
            }
        };
        let assumed = method == 2 && given.is_none() && !settings.said("serial") && width > 1;
        Ok(Arc::new(Parallel { width: new, tokens, assumed: assumed.then_some(serial) }))
    },
};

#[derive(Debug)]
struct Parallel {
    width: u64,
    tokens: f64,
    /// Share of a skeleton that nobody has measured.
    assumed: Option<f64>,
}

impl Effect for Parallel {
    fn generation(&self) -> Option<Generation> {
        (self.width > 1).then_some(Generation { width: self.width, tokens: self.tokens })
    }

    fn drafting(&self) -> Option<Drafting> {
        let tokens = u32::try_from(self.width - 1).unwrap_or(u32::MAX);
        // As many tokens on average: the first ones hold for certain, the next by chance, the rest never.
        let more = self.tokens - 1.0;
        let acceptance = (0..self.width - 1).map(|place| (more - place as f64).clamp(0.0, 1.0)).collect();
        (self.width > 1).then_some(Drafting { method: "ngram", tokens, acceptance })
    }

    fn notes(&self) -> Vec<String> {
        let note = |share: f64| {
            let percent = 100.0 * share;
            format!(
                "{percent:.0}% of an answer are taken to be its skeleton, written token by token (parallel-decoding:serial)"
            )
        };
        self.assumed.map(note).into_iter().collect()
    }
}
