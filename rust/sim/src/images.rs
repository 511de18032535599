//! Images in prompts: which of them pass through a model's vision tower, and what is said of those that do not.

use roofline_core::model::Model;

use crate::trace::Trace;

/// The images of a prompt whose tokens are known. They stand at its beginning, and are as large as each other but for a
/// token: a trace says how many they are and what they have together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Images {
    count: u32,
    tokens: u32,
}

/// Images of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alike {
    /// How many.
    pub count: u32,
    /// Tokens that the decoder reads of each.
    pub tokens: u32,
}

impl Images {
    /// Those of request `row`; none where a trace does not say their tokens.
    #[inline]
    pub fn of(trace: &Trace, row: usize) -> Images {
        let Some(&tokens) = trace.carried.image_tokens.get(row).filter(|&&tokens| tokens > 0) else {
            return Images::default();
        };
        let count = trace.carried.images.get(row).copied().unwrap_or(0);
        Images::new(count, tokens.min(trace.prompt_tokens[row]))
    }

    /// So many tokens of `count` images, which is one at least and an image a token at most.
    pub fn new(count: u32, tokens: u32) -> Images {
        Images { count: count.max(1).min(tokens), tokens }
    }

    /// Adds those that are not wholly among the first `cached` tokens of the prompt: the others left nothing to encode.
    #[inline]
    pub fn encoded_beyond(self, cached: u32, into: &mut Vec<Alike>) {
        let Images { count, tokens } = self;
        if count == 0 {
            return;
        }
        let (each, larger) = (tokens / count, tokens % count);
        let sizes =
            [(larger, each + 1, cached), (count - larger, each, cached.saturating_sub(larger * (each + 1)))];
        for (count, tokens, cached) in sizes {
            let count = count.saturating_sub(cached / tokens);
            if count > 0 {
                into.push(Alike { count, tokens });
            }
        }
    }
}

/// Sentences about the images of a trace, which `model` is to read; `priced` unless the price of a step is given without
/// one of its tower.
pub fn notes(trace: &Trace, model: &Model, priced: bool) -> Vec<String> {
    let carried = &trace.carried;
    let tokens = |row: usize| carried.image_tokens.get(row).copied().unwrap_or(0);
    let known = (0..trace.len()).filter(|&row| tokens(row) > 0).count();
    let bare =
        carried.images.iter().enumerate().filter(|&(row, &images)| images > 0 && tokens(row) == 0).count();
    let mut notes = Vec::new();
    let name = &model.name;
    match (&model.vision, priced) {
        _ if known + bare == 0 => {}
        (None, _) => notes
            .push(format!("images cost no more than their tokens in prompts: `{name}` has no vision tower")),
        (Some(_), false) => {
            notes.push(
                "images cost no more than their tokens in prompts: the step cost has no vision tower".into(),
            );
        }
        (Some(_), true) => {
            if known > 0 {
                notes.push(format!(
                    "images of {known} prompts pass the vision tower once, in the step that begins their prompt; taken as first in it and of one size"
                ));
            }
            if bare > 0 {
                notes.push(format!(
                    "no pass of the vision tower is priced for {bare} prompts: the trace counts their images, not image_tokens"
                ));
            }
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn beyond(count: u32, tokens: u32, cached: u32) -> Vec<(u32, u32)> {
        let mut list = Vec::new();
        Images::new(count, tokens).encoded_beyond(cached, &mut list);
        list.into_iter().map(|alike| (alike.count, alike.tokens)).collect()
    }

    #[test]
    fn images_of_a_prompt_share_its_image_tokens_out() {
        assert_eq!(beyond(2, 1152, 0), [(2, 576)]);
        assert_eq!(beyond(3, 11, 0), [(2, 4), (1, 3)]);
        assert_eq!(beyond(0, 7, 0), [(1, 7)]);
        assert_eq!(beyond(9, 4, 0), [(4, 1)]);
        assert_eq!(beyond(2, 0, 0), []);
    }

    #[test]
    fn an_image_that_is_cached_in_part_is_encoded_whole() {
        assert_eq!(beyond(2, 1152, 575), [(2, 576)]);
        assert_eq!(beyond(2, 1152, 576), [(1, 576)]);
        assert_eq!(beyond(2, 1152, 1152), []);
        assert_eq!(beyond(3, 11, 8), [(1, 3)]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_and_what_is_cached_are_all_images(count in 0u32..40, tokens in 0u32..5000, cached in 0u32..6000) {
            let all: u32 = beyond(count, tokens, 0).iter().map(|(count, tokens)| count * tokens).sum();
            prop_assert_eq!(all, tokens);
            let rest = beyond(count, tokens, cached);
            let (images, left): (u32, u32) =
                rest.iter().fold((0, 0), |(images, sum), (count, each)| (images + count, sum + count * each));
            prop_assert!(left + cached >= tokens);
            prop_assert!(images <= count.max(1));
            // No more than one image is encoded again.
            prop_assert!(left == 0 || left + cached < tokens + rest.iter().map(|(_, each)| each).max().unwrap_or(&0) + u32::from(cached > tokens) * cached);
        }
    }
}
