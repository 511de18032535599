//! The decode steps of a long answer, each of a few standing for many.
//!
//! Of a stretch of steps seven are priced, and a polynomial of the context through what they take says what all of them
//! take: their weights are its sums. Three more steps are priced to see whether it holds; where it does not (a window
//! fills, another ceiling bounds an operator), the stretch is halved. Operators are straight lines over the context, or
//! quotients of them, so a stretch that no bend lies in is one polynomial to rounding.

use std::f64::consts::PI;

use crate::point::Point;
use crate::shape::Sums;
use crate::step::Pricer;
use crate::technique::Generation;

/// Steps of a stretch that stand for all.
const NODES: usize = 7;
/// Stretches up to so many steps are priced step by step.
const SHORT: u64 = 64;
/// How far, relative to the value, a step may lie beside the polynomial.
const CLOSE: f64 = 3e-13;

/// What must lie on the polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// What a step takes.
    Steps,
    /// And what each operator takes.
    Operators,
}

/// A run of decode steps.
pub(crate) struct Decodes<'a> {
    /// What prices a step.
    pub pricer: &'a Pricer,
    /// What all of them are steps of.
    pub point: &'a Point,
    /// Tokens a step takes and brings.
    pub generation: &'a Generation,
    /// What must lie on the polynomial.
    pub told: Told,
}

impl Decodes<'_> {
    /// Hands steps to `see`, each with the number of steps that it stands for (which need not be whole): those that bring
    /// all but the first token of the answers.
    pub(crate) fn each(&self, mut see: impl FnMut(&Sums, f64)) {
        let steps = self.generation.steps(self.point.output_len - 1);
        if steps > 0 {
            self.stretch(0, steps, &mut see);
        }
    }

    /// The same of `steps` steps from one on.
    fn stretch(&self, from: u64, steps: u64, see: &mut impl FnMut(&Sums, f64)) {
        if steps <= SHORT {
            (from..from + steps).for_each(|step| see(&self.sums(step), 1.0));
            return;
        }
        match self.weights(from, steps) {
            Some(nodes) => nodes.iter().for_each(|(sums, weight)| see(sums, *weight)),
            None => {
                self.stretch(from, steps / 2, see);
                self.stretch(from + steps / 2, steps - steps / 2, see);
            }
        }
    }

    /// The steps that stand for a stretch; `None` where they do not.
    fn weights(&self, from: u64, steps: u64) -> Option<[(Sums, f64); NODES]> {
        let last = (steps - 1) as f64;
        // Closer to each other towards the ends, so that the polynomial does not swing.
        let node = |at: usize| {
            from + (last * (1.0 - (PI * at as f64 / (NODES - 1) as f64).cos()) / 2.0).round() as u64
        };
        let nodes: [u64; NODES] = std::array::from_fn(node);
        let context = |step: u64| self.generation.tokens_after(step) as f64;
        let (begin, end) = (context(from), context(from + steps - 1));
        let place = |step: u64| (2.0 * context(step) - begin - end) / (end - begin);
        let powers = lagrange(nodes.map(place));
        let sums = nodes.map(|step| self.sums(step));
        let values = sums.each_ref().map(|sums| self.values(sums));
        for (left, right) in [(0, 1), (2, 3), (5, 6)] {
            let step = nodes[left].midpoint(nodes[right]);
            let shares = at(&powers, place(step));
            let priced = self.values(&self.sums(step));
            let on = |(value, &priced): (usize, &f64)| {
                let expected: f64 = values.iter().zip(shares).map(|(node, share)| node[value] * share).sum();
                (expected - priced).abs() <= CLOSE * priced.abs()
            };
            if values[0].len() != priced.len() || !priced.iter().enumerate().all(on) {
                return None;
            }
        }
        let moments = match self.generation.tokens == 1.0 {
            true => moments(steps as f64),
            false => {
                let each = (from..from + steps).map(|step| powers_of(place(step)));
                each.fold([0.0; NODES], |sum, powers| std::array::from_fn(|power| sum[power] + powers[power]))
            }
        };
        let mut weights = powers.iter().map(|powers| powers.iter().zip(moments).map(|(a, b)| a * b).sum());
        Some(sums.map(|sums| (sums, weights.next().unwrap_or(0.0))))
    }

    fn sums(&self, step: u64) -> Sums {
        let start = self.point.prefix_len + self.point.input_len;
        let context = start + self.generation.tokens_after(step);
        self.point.verify_step(self.pricer.reaches(), self.generation.width, context)
    }

    /// What must lie on the polynomial.
    fn values(&self, sums: &Sums) -> Vec<f64> {
        let time = self.pricer.seconds(sums);
        let step = time.step;
        let mut values =
            vec![step.seconds, step.low.unwrap_or(0.0), step.high.unwrap_or(0.0), time.ideal, time.stage];
        if self.told == Told::Operators {
            self.pricer.each(sums, |_, _, cost| {
                let a_byte = cost.seconds / cost.memory_bytes().max(1.0);
                let bound = f64::from(cost.bound as u8);
                values.extend([
                    bound,
                    cost.ideal,
                    cost.seconds,
                    a_byte * cost.kv_bytes,
                    a_byte * cost.weight_bytes,
                ]);
            });
        }
        values
    }
}

/// For each node the coefficients of the polynomial that is 1 there and 0 at the others.
fn lagrange(nodes: [f64; NODES]) -> [[f64; NODES]; NODES] {
    std::array::from_fn(|own| {
        let mut product = [0.0; NODES];
        product[0] = 1.0;
        for (degree, node) in
            nodes.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, node)| node).enumerate()
        {
            let scale = 1.0 / (nodes[own] - node);
            for power in (0..=degree + 1).rev() {
                let below = if power > 0 { product[power - 1] } else { 0.0 };
                product[power] = (below - node * product[power]) * scale;
            }
        }
        product
    })
}

/// What each of those polynomials is at a place.
fn at(polynomials: &[[f64; NODES]; NODES], place: f64) -> [f64; NODES] {
    let powers = powers_of(place);
    polynomials.map(|polynomial| polynomial.iter().zip(powers).map(|(a, b)| a * b).sum())
}

fn powers_of(place: f64) -> [f64; NODES] {
    std::array::from_fn(|power| place.powi(power as i32))
}

/// Sums of the powers of so many places, equally far from each other, from −1 to 1.
fn moments(steps: f64) -> [f64; NODES] {
    let square = steps * steps;
    let pairs = steps * (square - 1.0);
    let reach = (steps - 1.0) * (steps - 1.0);
    [
        steps,
        0.0,
        pairs / 3.0 / reach,
        0.0,
        pairs * (3.0 * square - 7.0) / 15.0 / (reach * reach),
        0.0,
        pairs * (3.0 * square * square - 18.0 * square + 31.0) / 21.0 / (reach * reach * reach),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_powers_are_those_of_the_places_added_up() {
        for steps in [2u64, 3, 10, 1001] {
            let places = (0..steps).map(|step| 2.0 * step as f64 / (steps - 1) as f64 - 1.0);
            let all = places
                .map(powers_of)
                .fold([0.0; NODES], |sum, powers| std::array::from_fn(|power| sum[power] + powers[power]));
            for (formula, sum) in moments(steps as f64).into_iter().zip(all) {
                assert!((formula - sum).abs() <= 1e-12 * steps as f64, "{steps}: {formula} {sum}");
            }
        }
    }

    #[test]
    fn polynomials_are_one_at_their_node_and_zero_at_the_others() {
        let nodes = [-1.0, -0.9, -0.4, 0.1, 0.5, 0.8, 1.0];
        let polynomials = lagrange(nodes);
        for (place, node) in nodes.into_iter().enumerate() {
            for (own, value) in at(&polynomials, node).into_iter().enumerate() {
                let expected = if own == place { 1.0 } else { 0.0 };
                assert!((value - expected).abs() < 1e-12, "{own} {place}: {value}");
            }
        }
    }
}
