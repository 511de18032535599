//! Random numbers by purpose: one seed, and for each purpose a stream that no other purpose draws from.
//!
//! ChaCha8 gives the same bits everywhere, and `libm` the same logarithms: the same seed is the same traffic on every
//! machine.

use std::f64::consts::TAU;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// What a stream is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Arrivals = 1,
    Mix = 2,
    Prompts = 3,
    Outputs = 4,
    Prefixes = 5,
    PrefixLengths = 6,
    Sample = 7,
    Shift = 8,
    Loras = 9,
    Tenants = 10,
    Turns = 11,
    Delays = 12,
}

/// Random numbers for one purpose.
#[derive(Debug, Clone)]
pub(super) struct Draws(ChaCha8Rng);

impl Draws {
    pub fn new(seed: u64, purpose: Purpose) -> Draws {
        let mut bits = ChaCha8Rng::seed_from_u64(seed);
        bits.set_stream(purpose as u64);
        Draws(bits)
    }

    /// The stream of one of several that draw for a purpose alike.
    pub fn numbered(seed: u64, purpose: Purpose, number: u64) -> Draws {
        let mut bits = ChaCha8Rng::seed_from_u64(seed);
        bits.set_stream(((number + 1) << 8) | purpose as u64);
        Draws(bits)
    }

    /// Uniform in [0, 1), in steps of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `end`, which is at least 1; its bias is below `end`/2⁶⁴.
    pub fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(end)) >> 64) as u64
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(1.0 - self.uniform())
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * libm::cos(TAU * self.uniform())
    }

    /// Gamma with this shape and scale 1 (Marsaglia and Tsang, 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::exp(-self.exponential() / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && -self.exponential() < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }

    /// The place in `cumulative` weights, which rise to their sum, drawn by weight.
    pub fn weighted(&mut self, cumulative: &[f64]) -> usize {
        let sum = cumulative.last().copied().unwrap_or(0.0);
        let drawn = self.uniform() * sum;
        cumulative.partition_point(|weight| *weight <= drawn).min(cumulative.len().saturating_sub(1))
    }
}

/// The sums of 1/iᵃ for i = 1 ..= `count`: Zipf's weights as [`Draws::weighted`] takes them.
pub(super) fn zipf(count: usize, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let weights = (1..=count).map(|rank| libm::exp(-exponent * libm::log(rank as f64)));
    weights
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of `n` draws.
    fn moments(n: u32, mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n))
    }

    #[test]
    fn draws_have_the_mean_and_variance_of_their_distribution() {
        let mut stream = Draws::new(1, Purpose::Prompts);
        let n = 100_000;
        let (mean, variance) = moments(n, || stream.normal());
        assert!(mean.abs() < 0.013 && (variance - 1.0).abs() < 0.02, "normal: {mean}, {variance}");
        for shape in [0.1, 0.5, 1.0, 4.0, 30.0] {
            let (mean, variance) = moments(n, || stream.gamma(shape));
            let error = 4.0 * (shape / f64::from(n)).sqrt();
            assert!((mean - shape).abs() < error, "gamma({shape}): mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.15, "gamma({shape}): variance {variance}");
        }
    }

    #[test]
    fn purposes_share_no_draws() {
        let first = |purpose| Draws::new(7, purpose).uniform();
        assert_ne!(first(Purpose::Arrivals), first(Purpose::Prompts));
        assert_eq!(first(Purpose::Arrivals), first(Purpose::Arrivals));
    }

    #[test]
    fn the_bits_of_a_seed_never_change() {
        assert_eq!(Draws::new(0, Purpose::Arrivals).0.next_u64(), FIRST_BITS);
    }

    /// What seed 0 gives first; another value would change every generated trace of every user.
    const FIRST_BITS: u64 = 13_937_087_304_575_520_531;

    #[test]
    fn weights_are_drawn_in_proportion() {
        let (mut stream, cumulative) = (Draws::new(3, Purpose::Mix), zipf(3, 1.0));
        let mut counts = [0u32; 3];
        (0..11_000).for_each(|_| counts[stream.weighted(&cumulative)] += 1);
        for (count, expected) in counts.into_iter().zip([6000.0, 3000.0, 2000.0]) {
            assert!((f64::from(count) - expected).abs() < 4.0 * f64::sqrt(expected), "{counts:?}");
        }
    }
}
