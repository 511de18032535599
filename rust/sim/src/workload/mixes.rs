//! Lengths of prompt and answer together: drawn apart, by class of a mix, or as pairs that occurred.

use roofline_core::error::Error;

use super::draws::{Draws, Purpose};
use super::lengths::{Length, with_deviation};
use super::text::{split, within};
use crate::error::Result;

/// How long the prompt and the answer of a request are, tokens.
#[derive(Debug, Clone, PartialEq)]
pub enum Lengths {
    /// Each from a distribution of its own.
    Apart(Length, Length),
    /// A class by weight (the weights are cumulative), then each from the class's distributions.
    Mixed(Vec<f64>, Vec<(Length, Length)>),
    /// Pairs as they occurred, each as likely.
    Joint(Vec<(u32, u32)>),
}

/// The streams that lengths are drawn from.
#[derive(Debug, Clone)]
pub(super) struct LengthStreams {
    mix: Draws,
    prompts: Draws,
    outputs: Draws,
}

impl LengthStreams {
    pub fn new(seed: u64) -> LengthStreams {
        let stream = |purpose| Draws::new(seed, purpose);
        LengthStreams {
            mix: stream(Purpose::Mix),
            prompts: stream(Purpose::Prompts),
            outputs: stream(Purpose::Outputs),
        }
    }
}

impl Lengths {
    /// Reads `256,128:40;512|20,256|10:60`: prompt and answer, each with a standard deviation if wanted, and percent;
    /// or a scenario of genai-bench: `D(100,1000)`, `N(480,240)/(300,150)`, `U(100,200)/(200,300)`.
    ///
    /// # Errors
    /// A class without two lengths and a share, shares that do not add up to 100, a scenario of another kind.
    pub fn mix(field: &str, text: &str) -> Result<Lengths> {
        if !text.contains(':') && text.trim().contains('(') {
            return scenario(field, text.trim());
        }
        let (mut cumulative, mut classes, mut sum) = (Vec::new(), Vec::new(), 0.0);
        for class in split(text, ';').into_iter().filter(|class| !class.trim().is_empty()) {
            let parts = class.rsplit_once(':').map(|(lengths, share)| (split(lengths, ','), share));
            let Some(([prompt, output], share)) = parts
                .as_ref()
                .map(|(lengths, share)| (&lengths[..], share))
                .and_then(|(lengths, share)| Some((<[&str; 2]>::try_from(lengths).ok()?, *share)))
            else {
                let hint = "for example `256,128:40;512,256:60`";
                return Err(
                    Error::spec(field, "must be classes of PROMPT,ANSWER:PERCENT", class, hint).into()
                );
            };
            sum += within(field, share, 0.0, 100.0)?;
            cumulative.push(sum);
            classes.push((with_deviation(field, prompt)?, with_deviation(field, output)?));
        }
        if (sum - 100.0).abs() > 1e-6 {
            return Err(Error::spec(field, "must have shares that add up to 100", sum, "").into());
        }
        Ok(Lengths::Mixed(cumulative, classes))
    }

    /// Draws a prompt and an answer.
    pub(super) fn draw(&self, streams: &mut LengthStreams) -> (u32, u32) {
        match self {
            Lengths::Apart(prompt, output) => {
                (prompt.draw(&mut streams.prompts), output.draw(&mut streams.outputs))
            }
            Lengths::Mixed(cumulative, classes) => {
                let (prompt, output) = &classes[streams.mix.weighted(cumulative)];
                (prompt.draw(&mut streams.prompts), output.draw(&mut streams.outputs))
            }
            Lengths::Joint(pairs) => pairs[streams.mix.below(pairs.len() as u64) as usize],
        }
    }
}

/// Reads a traffic scenario as genai-bench writes it.
fn scenario(field: &str, text: &str) -> Result<Lengths> {
    let pair = |inside: &str| -> Option<[String; 2]> {
        let inside = inside.strip_prefix('(')?.strip_suffix(')')?;
        let (one, other) = inside.split_once(',').filter(|(_, other)| !other.contains(','))?;
        Some([one, other].map(|number| number.trim().to_string()))
    };
    let texts = match (text.chars().next(), text.get(1..).unwrap_or_default().split_once('/')) {
        (Some('D'), None) => pair(&text[1..]),
        (Some(kind @ ('N' | 'U')), Some((prompt, output))) => {
            let name = if kind == 'N' { "normal" } else { "uniform" };
            let call = |text: &str| pair(text).map(|[one, other]| format!("{name}({one},{other})"));
            call(prompt.trim()).zip(call(output.trim())).map(|(prompt, output)| [prompt, output])
        }
        _ => None,
    };
    let Some([prompt, output]) = texts else {
        let must = "must be a scenario D(PROMPT,ANSWER), N(MEAN,STD)/(MEAN,STD) or U(LOW,HIGH)/(LOW,HIGH)";
        let hint = "for example `N(480,240)/(300,150)`: prompts first";
        return Err(Error::spec(field, must, text, hint).into());
    };
    Ok(Lengths::Apart(Length::parse(field, &prompt)?, Length::parse(field, &output)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_of_genai_bench_is_two_lengths() {
        let read = |text: &str| Lengths::mix("seq_dist", text).unwrap();
        let apart = |prompt: &str, output: &str| {
            let length = |text: &str| Length::parse("seq_dist", text).unwrap();
            Lengths::Apart(length(prompt), length(output))
        };
        assert_eq!(read("D(100,1000)"), apart("100", "1000"));
        assert_eq!(read("N(480, 240)/(300,150)"), apart("normal(480,240)", "normal(300,150)"));
        assert_eq!(read("U(100,200)/(200,300)"), apart("100:200", "200:300"));
        for text in ["E(1024)", "U(100,200)", "D(1)", "D(1,2,3)", "N(1,2)/3", "(1,2)"] {
            let must =
                "must be a scenario D(PROMPT,ANSWER), N(MEAN,STD)/(MEAN,STD) or U(LOW,HIGH)/(LOW,HIGH)";
            let error = Lengths::mix("seq_dist", text).unwrap_err().to_string();
            assert_eq!(error, format!("seq_dist {must}: {text}"));
        }
        let error = Lengths::mix("seq_dist", "U(200,100)/(1,2)").unwrap_err().to_string();
        assert!(error.contains("must be a range from the smaller to the larger"), "{error}");
    }

    #[test]
    fn classes_occur_by_their_shares() {
        let mix = Lengths::mix("seq_dist", "256,128:40; 100:200,normal(9,1):60").unwrap();
        let mut streams = LengthStreams::new(5);
        let drawn: Vec<(u32, u32)> = (0..10_000).map(|_| mix.draw(&mut streams)).collect();
        let first = drawn.iter().filter(|pair| **pair == (256, 128)).count();
        assert!((first as i64 - 4000).abs() < 200, "{first}");
        assert!(drawn.iter().all(|(prompt, _)| *prompt == 256 || (100..=200).contains(prompt)));
    }

    #[test]
    fn a_mix_must_be_written_as_classes_of_a_whole() {
        let refused = |text: &str| Lengths::mix("seq_dist", text).unwrap_err().to_string();
        assert_eq!(refused("256:40"), "seq_dist must be classes of PROMPT,ANSWER:PERCENT: 256:40");
        assert_eq!(refused("256,128"), "seq_dist must be classes of PROMPT,ANSWER:PERCENT: 256,128");
        assert_eq!(refused("256,128:90"), "seq_dist must have shares that add up to 100: 90");
        assert_eq!(refused("256,128:-1"), "seq_dist must be between 0 and 100: -1");
        assert_eq!(refused("256|x,128:100"), "seq_dist must be a number: x");
        assert_eq!(refused(""), "seq_dist must have shares that add up to 100: 0");
    }
}
