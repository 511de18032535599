//! Forgiving names: how a name is normalised, and which known names are nearest to an unknown one.

use crate::error::Error;

/// Lower case, with spaces, underscores and slashes as dashes: `NVIDIA H100_SXM` → `nvidia-h100-sxm`.
pub fn normalise(name: &str) -> String {
    let dashed: String = name
        .trim()
        .chars()
        .map(|c| if matches!(c, ' ' | '_' | '/') { '-' } else { c.to_ascii_lowercase() })
        .collect();
    dashed.split('-').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-")
}

/// The error for a name that is not among `known`, with the nearest three.
pub fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    Error::UnknownName { kind, name: name.to_string(), nearest: nearest(name, known, 3) }
}

/// The `count` names of `known` nearest to `name`, best first.
///
/// A shared beginning counts for more than edit distance, so that `h10` finds `h100-sxm` before `t4`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, count: usize) -> Vec<String> {
    let name = normalise(name);
    let mut scored: Vec<(i64, &str)> = known
        .into_iter()
        .map(|candidate| {
            let prefix = candidate.chars().zip(name.chars()).take_while(|(a, b)| a == b).count() as i64;
            let contained = if candidate.contains(&name) || name.contains(candidate) { 3 } else { 0 };
            (edit_distance(&name, candidate) as i64 - 2 * prefix - contained, candidate)
        })
        .collect();
    scored.sort();
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(count).map(|(_, candidate)| candidate.to_string()).collect()
}

/// Levenshtein distance in characters.
pub fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_found_before_a_far_one() {
        assert_eq!(nearest("h10", ["t4", "h100-sxm", "a100-pcie"], 1), ["h100-sxm"]);
        assert_eq!(
            nearest("lama-3.1-8b", ["llama-3.1-70b", "llama-3.1-8b", "opt-125m"], 1),
            ["llama-3.1-8b"]
        );
    }

    #[test]
    fn names_are_compared_in_one_spelling() {
        assert_eq!(normalise(" NVIDIA H100_SXM "), "nvidia-h100-sxm");
    }
}
