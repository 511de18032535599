//! Names of modules as quantization configurations write them: plain, with stars, or as expressions.

use regex_lite::Regex;

/// What may stand before `layers.N` in a checkpoint.
const PREFIXES: &[&str] = &[
    "",
    "model.",
    "model.language_model.",
    "language_model.model.",
    "model.text_model.",
    "model.decoder.",
    "backbone.",
    "transformer.",
];

/// The name of one or many modules.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// A run of whole segments anywhere in a module's path (`mlp.gate`, `model.layers.3`).
    Segments(String),
    /// A path with `*` for anything, the prefix before `layers.` taken off.
    Stars(String),
    /// A regular expression that must match from the start (`re:…`).
    Expression(Regex),
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        match (self, other) {
            (Pattern::Segments(a), Pattern::Segments(b)) | (Pattern::Stars(a), Pattern::Stars(b)) => a == b,
            (Pattern::Expression(a), Pattern::Expression(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What an expression must be, if it cannot be read.
    pub fn parse(text: &str) -> Result<Pattern, String> {
        if let Some(expression) = text.strip_prefix("re:") {
            let anchored = format!("^(?:{expression})");
            return Regex::new(&anchored)
                .map(Pattern::Expression)
                .map_err(|_| "must hold expressions that can be read".to_string());
        }
        let local = without_prefix(text);
        Ok(if local.contains('*') { Pattern::Stars(local.into()) } else { Pattern::Segments(local.into()) })
    }

    /// As it was written, but for a prefix of the model's layers.
    pub fn text(&self) -> &str {
        match self {
            Pattern::Segments(text) | Pattern::Stars(text) => text,
            Pattern::Expression(regex) => regex.as_str(),
        }
    }

    /// Whether the module at `path` (`layers.3.mlp.up_proj`) or one it lies in is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Pattern::Segments(segments) => has_segments(path, segments),
            Pattern::Stars(stars) => {
                let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
                ends.into_iter().any(|end| glob(stars.as_bytes(), &path.as_bytes()[..end]))
            }
            Pattern::Expression(regex) => {
                PREFIXES.iter().any(|prefix| regex.is_match(&format!("{prefix}{path}")))
            }
        }
    }
}

fn without_prefix(text: &str) -> &str {
    let local = PREFIXES.iter().find_map(|prefix| {
        let rest = text.strip_prefix(prefix)?;
        rest.starts_with("layers.").then_some(rest)
    });
    local.unwrap_or(text)
}

fn has_segments(path: &str, segments: &str) -> bool {
    path.match_indices(segments).any(|(at, _)| {
        let end = at + segments.len();
        (at == 0 || path.as_bytes()[at - 1] == b'.') && (end == path.len() || path.as_bytes()[end] == b'.')
    })
}

/// Whether `text` is `pattern` with each `*` standing for anything.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && pattern[p] == text[t] {
            p += 1;
            t += 1;
        } else if let Some((at, from)) = star {
            p = at + 1;
            t = from + 1;
            star = Some((at, from + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(path)
    }

    #[test]
    fn a_star_stands_for_anything_but_a_layer_is_no_beginning_of_another() {
        assert!(matches("model.layers.0*", "layers.0.mlp.up_proj"));
        assert!(!matches("model.layers.0*", "layers.10.mlp.up_proj"));
        assert!(matches("language_model.model.layers.7.self_attn*", "layers.7.self_attn.q_proj"));
        assert!(matches("model.layers.*.self_attn", "layers.12.self_attn.o_proj"));
        assert!(matches("*.mlp.shared_expert.*", "layers.3.mlp.shared_expert.up_proj"));
    }

    #[test]
    fn a_plain_name_means_whole_segments() {
        assert!(matches("gate", "layers.1.block_sparse_moe.gate"));
        assert!(!matches("gate", "layers.1.mlp.gate_proj"));
        assert!(matches("model.layers.3.mlp", "layers.3.mlp.down_proj"));
        assert!(!matches("model.layers.3", "layers.33.mlp.down_proj"));
    }

    #[test]
    fn an_expression_matches_from_the_start_under_any_prefix() {
        assert!(matches("re:.*self_attn.*", "layers.3.self_attn.q_proj"));
        assert!(matches(r"re:model\.layers\.3\..*", "layers.3.mlp.up_proj"));
        assert!(!matches(r"re:.*mlp\.(gate|up)_proj.*", "layers.3.mlp.experts.0.gate_proj"));
    }

    #[test]
    fn layers_of_another_module_are_not_ours() {
        assert!(!matches("mtp.layers.0*", "layers.0.self_attn.q_proj"));
        assert!(!matches("vision_tower*", "layers.0.self_attn.q_proj"));
    }

    #[test]
    fn an_expression_that_cannot_be_read_is_refused() {
        assert!(Pattern::parse("re:(").is_err());
    }
}
