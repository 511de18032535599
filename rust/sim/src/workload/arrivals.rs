//! When requests arrive, as gaps of mean 1: a rate turns them into seconds.

use roofline_core::error::{Error, Result};
use roofline_core::names;

use super::draws::{Draws, Purpose};
use super::text::Call;

/// A process of arrivals; every one has one arrival a unit of time on average.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Process {
    /// Equal gaps.
    Constant,
    /// Exponential gaps: requests that know nothing of each other.
    Poisson,
    /// Gamma gaps of this shape: CV = 1/√shape, as `vllm bench serve --burstiness`.
    Gamma(f64),
    /// Weibull gaps.
    Weibull {
        /// Below 1 bursty, above 1 regular.
        shape: f64,
        /// So that the mean is 1.
        scale: f64,
    },
    /// A Poisson process that switches between a busy and a quiet state, each lasting an exponential time.
    Mmpp {
        /// Arrivals a unit of time while busy, and while quiet.
        rates: [f64; 2],
        /// Mean time busy, and quiet.
        stays: [f64; 2],
    },
}

const KNOWN: [&str; 5] = ["constant", "poisson", "gamma", "weibull", "mmpp"];

/// Coefficients of variation a Weibull distribution is found for.
const WEIBULL_CV: (f64, f64) = (0.05, 20.0);

impl Process {
    /// Reads `constant`, `poisson`, `gamma`, `weibull` or `mmpp(ratio=10,busy=0.2,cycle=200)`.
    ///
    /// `cv` is the coefficient of variation of the gaps, where it was said; without a process it chooses `gamma`. Under
    /// `mmpp` the busy state is `ratio` times as fast as the quiet one, holds for a share `busy` of the time, and both
    /// together last for `cycle` requests on average.
    ///
    /// # Errors
    /// A process that is not known; a `cv` where the process has its own, or beyond what it can have.
    pub(super) fn parse(text: Option<&str>, cv: Option<(&str, f64)>) -> Result<Process> {
        let Some(text) = text else {
            return Ok(cv.map_or(Process::Poisson, |(_, cv)| Process::of_gamma(cv)));
        };
        let call = Call::parse("arrivals", text)?;
        let own = |process: Process| match cv {
            None => Ok(process),
            Some((word, cv)) => {
                let must = format!("must be left out with {} arrivals", call.name);
                let given = if word == "burstiness" { cv.powi(-2) } else { cv };
                Err(Error::spec(word, must, given, "gamma and weibull take one"))
            }
        };
        let known: &[&'static str] = if call.name == "mmpp" { &["ratio", "busy", "cycle"] } else { &[] };
        let arguments = match call.name.as_str() {
            name if KNOWN.contains(&name) => call.arguments(known)?,
            name => return Err(names::unknown("arrival process", name, KNOWN)),
        };
        match call.name.as_str() {
            "constant" => own(Process::Constant),
            "poisson" => own(Process::Poisson),
            "gamma" => Ok(Process::of_gamma(cv.map_or(1.0, |(_, cv)| cv))),
            "weibull" => Process::weibull(cv.map_or(("cv", 1.0), |given| given)),
            _ => {
                let ratio = arguments.or("ratio", 10.0, 1.0, 1e6)?;
                let busy = arguments.or("busy", 0.2, 1e-6, 1.0 - 1e-6)?;
                let cycle = arguments.or("cycle", 200.0, f64::MIN_POSITIVE, 1e12)?;
                let quiet = 1.0 / (busy * ratio + 1.0 - busy);
                own(Process::Mmpp {
                    rates: [ratio * quiet, quiet],
                    stays: [busy * cycle, (1.0 - busy) * cycle],
                })
            }
        }
    }

    /// Gamma gaps with this coefficient of variation.
    pub(super) fn of_gamma(cv: f64) -> Process {
        Process::Gamma(1.0 / (cv * cv))
    }

    /// Weibull gaps with this coefficient of variation: CV² = Γ(1 + 2/k)/Γ(1 + 1/k)² − 1, solved for k by halving.
    fn weibull((word, cv): (&str, f64)) -> Result<Process> {
        let (least, most) = WEIBULL_CV;
        if !(least..=most).contains(&cv) {
            let must = format!(
                "must give a coefficient of variation between {least} and {most} with weibull arrivals"
            );
            return Err(Error::spec(word, must, cv, ""));
        }
        let squared = |k: f64| libm::tgamma(1.0 + 2.0 / k) / libm::tgamma(1.0 + 1.0 / k).powi(2) - 1.0;
        let (mut low, mut high) = (0.1f64, 100.0f64);
        for _ in 0..100 {
            let middle = (low * high).sqrt();
            if squared(middle) > cv * cv { low = middle } else { high = middle }
        }
        Ok(Process::Weibull { shape: low, scale: 1.0 / libm::tgamma(1.0 + 1.0 / low) })
    }
}

/// The gaps of a process, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Gaps {
    process: Process,
    stream: Draws,
    /// The state of an [`Process::Mmpp`], and how long it still lasts.
    state: usize,
    left: f64,
}

impl Gaps {
    /// A modulated process begins in either state, as likely as it is found in it.
    pub fn new(process: Process, seed: u64) -> Gaps {
        let mut gaps = Gaps { process, stream: Draws::new(seed, Purpose::Arrivals), state: 0, left: 0.0 };
        if let Process::Mmpp { stays, .. } = process {
            gaps.state = usize::from(gaps.stream.uniform() >= stays[0] / (stays[0] + stays[1]));
            gaps.left = stays[gaps.state] * gaps.stream.exponential();
        }
        gaps
    }

    /// The next gap.
    pub fn draw(&mut self) -> f64 {
        match self.process {
            Process::Constant => 1.0,
            Process::Poisson => self.stream.exponential(),
            Process::Gamma(shape) => self.stream.gamma(shape) / shape,
            Process::Weibull { shape, scale } => {
                scale * libm::exp(libm::log(self.stream.exponential()) / shape)
            }
            Process::Mmpp { rates, stays } => self.modulated(rates, stays),
        }
    }

    fn modulated(&mut self, rates: [f64; 2], stays: [f64; 2]) -> f64 {
        let mut passed = 0.0;
        loop {
            let gap = self.stream.exponential() / rates[self.state];
            if gap < self.left {
                self.left -= gap;
                return passed + gap;
            }
            // What is left of an exponential gap is exponential again: it is drawn anew in the other state.
            passed += self.left;
            self.state = 1 - self.state;
            self.left = stays[self.state] * self.stream.exponential();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(process: Process, count: usize) -> (f64, f64) {
        let mut gaps = Gaps::new(process, 3);
        let values: Vec<f64> = (0..count).map(|_| gaps.draw()).collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        let variance = values.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count as f64;
        (mean, variance.sqrt() / mean)
    }

    fn parsed(text: &str, cv: Option<f64>) -> Process {
        Process::parse(Some(text), cv.map(|cv| ("cv", cv))).unwrap()
    }

    #[test]
    fn gaps_have_mean_1_and_the_variation_asked_for() {
        let count = 100_000;
        for (text, cv) in [
            ("poisson", None),
            ("gamma", Some(0.3)),
            ("gamma", Some(3.0)),
            ("weibull", Some(0.4)),
            ("weibull", Some(2.0)),
            ("weibull", None),
        ] {
            let (mean, found) = moments(parsed(text, cv), count);
            let cv = cv.unwrap_or(1.0);
            assert!((mean - 1.0).abs() < 4.0 * cv / (count as f64).sqrt(), "{text} {cv}: mean {mean}");
            assert!((found / cv - 1.0).abs() < 0.05, "{text} {cv}: CV {found}");
        }
        assert_eq!(moments(Process::Constant, 10), (1.0, 0.0));
    }

    /// CV² of the gaps of a two-state MMPP: 1 + 2(λ₁ − λ₂)² r₁r₂/((r₁ + r₂)²(λ₁λ₂ + λ₁r₂ + λ₂r₁))
    /// (Fischer and Meier-Hellstern, "The Markov-modulated Poisson process (MMPP) cookbook", 1993).
    #[test]
    fn a_modulated_process_has_the_variation_of_its_formula() {
        let process = parsed("mmpp(ratio=20,busy=0.25,cycle=40)", None);
        let Process::Mmpp { rates: [l1, l2], stays } = process else { panic!("{process:?}") };
        let (r1, r2) = (1.0 / stays[0], 1.0 / stays[1]);
        let squared =
            1.0 + 2.0 * (l1 - l2).powi(2) * r1 * r2 / ((r1 + r2).powi(2) * (l1 * l2 + l1 * r2 + l2 * r1));
        let (mean, found) = moments(process, 400_000);
        assert!((mean - 1.0).abs() < 0.06, "mean {mean}");
        assert!((found / squared.sqrt() - 1.0).abs() < 0.05, "CV {found}, {}", squared.sqrt());
    }

    #[test]
    fn a_process_without_a_name_is_poisson_or_gamma() {
        assert_eq!(Process::parse(None, None).unwrap(), Process::Poisson);
        assert_eq!(Process::parse(None, Some(("cv", 2.0))).unwrap(), Process::Gamma(0.25));
    }

    #[test]
    fn every_mistake_says_what_must_hold() {
        let must = |text: &str, cv: Option<(&str, f64)>, message: &str| {
            assert_eq!(Process::parse(Some(text), cv).unwrap_err().to_string(), message);
        };
        must("poison", None, "no arrival process is called `poison`");
        must("poisson", Some(("burstiness", 2.0)), "burstiness must be left out with poisson arrivals: 0.25");
        must("constant", Some(("cv", 2.0)), "cv must be left out with constant arrivals: 2");
        must("gamma(2)", None, "arrivals: gamma must have no arguments: gamma(2)");
        must("mmpp(ratio=0.5)", None, "arrivals: mmpp: ratio must be between 1 and 1000000: 0.5");
        must(
            "weibull",
            Some(("cv", 50.0)),
            "cv must give a coefficient of variation between 0.05 and 20 with weibull arrivals: 50",
        );
    }
}
