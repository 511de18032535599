//! Who asks, and with which adapter: names drawn for requests, equally or by Zipf's law.

use roofline_core::error::{Error, Result};

use super::draws::{Draws, Purpose, zipf};
use super::text::within;

/// Names to draw from.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    /// How many there are.
    pub count: u32,
    /// Name `i` is drawn in proportion to 1/iᵃ; 0 is equally.
    pub zipf: f64,
}

/// More names than anybody serves.
const NAMES_MOST: u32 = 10_000_000;

impl Names {
    /// Reads how many there are, and how they are drawn: `uniform`, or `zipf:1.5`.
    ///
    /// # Errors
    /// No name or too many; another distribution.
    pub(super) fn parse(field: &str, count: u64, how: (&str, Option<&str>)) -> Result<Names> {
        if count == 0 || count > u64::from(NAMES_MOST) {
            return Err(Error::spec(field, format!("must be between 1 and {NAMES_MOST}"), count, ""));
        }
        let (word, text) = how;
        let zipf = match text.map(str::trim) {
            None | Some("uniform") => 0.0,
            Some(text) => match text.split_once(':') {
                Some(("zipf", exponent)) => within(word, exponent, 0.0, 100.0)?,
                _ => {
                    return Err(Error::spec(
                        word,
                        "must be uniform or zipf:EXPONENT",
                        text,
                        "for example `zipf:1.5`",
                    ));
                }
            },
        };
        Ok(Names { count: count as u32, zipf })
    }

    pub(super) fn stream(&self, seed: u64, purpose: Purpose) -> NameDraws {
        let cumulative = if self.zipf > 0.0 { zipf(self.count as usize, self.zipf) } else { Vec::new() };
        NameDraws { stream: Draws::new(seed, purpose), cumulative, count: self.count }
    }
}

/// Draws names by their number.
#[derive(Debug, Clone)]
pub(super) struct NameDraws {
    stream: Draws,
    /// Zipf's weights; empty where names are as likely.
    cumulative: Vec<f64>,
    count: u32,
}

impl NameDraws {
    pub fn draw(&mut self) -> u32 {
        if self.cumulative.is_empty() {
            return self.stream.below(u64::from(self.count)) as u32;
        }
        self.stream.weighted(&self.cumulative) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_drawn_equally_or_by_zipf() {
        let share = |text: &str| {
            let names = Names::parse("loras", 3, ("lora_dist", Some(text))).unwrap();
            let mut stream = names.stream(5, Purpose::Loras);
            (0..9000).filter(|_| stream.draw() == 0).count()
        };
        assert!(share("uniform").abs_diff(3000) < 200, "{}", share("uniform"));
        assert!(share("zipf:1").abs_diff(4909) < 200, "{}", share("zipf:1"));
    }

    #[test]
    fn mistakes_say_what_must_hold() {
        let must = |count, text, message: &str| {
            let error = Names::parse("loras", count, ("lora_dist", Some(text))).unwrap_err();
            assert_eq!(error.to_string(), message);
        };
        must(0, "uniform", "loras must be between 1 and 10000000: 0");
        must(3, "normal", "lora_dist must be uniform or zipf:EXPONENT: normal");
        must(3, "zipf:-1", "lora_dist must be between 0 and 100: -1");
    }
}
