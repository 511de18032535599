//! Fits one group of rows, and says on rows it did not see how far off the numbers are.

use roofline_core::efficiency::band::Spread;
use roofline_core::efficiency::form::Device;

use super::check::Sound;
use super::errors::{Errors, Outcome, quantile};
use super::family::Fitted;
use super::least_squares::{Bounds, Pull, Search};

/// Rows a fit looks at; more change nothing that matters.
const MOST_USUAL: usize = 4000;
/// Rows of odd shapes beside them.
const MOST_ODD: usize = 1500;
/// Shares of rows read from the cache between which the cache's gain can be told from the bandwidth's share.
const TELLING: std::ops::RangeInclusive<f64> = 0.02..=0.95;
/// The most a loop can gain from the last-level cache.
const HOTTEST: f64 = 6.0;
/// Every how many rows of few are left out at a time.
pub const FOLDS: usize = 5;
/// How far off a row is that cannot be of this unit, though no gap tells it from the others.
const STRAY: f64 = 100.0;
/// How many rows of few the band of the nearest known numbers stands for.
const BORROWED: usize = 10;
/// By what share bands are wider for one row, in log half-widths: quantiles of few rows lie too near, the more so as the
/// numbers that judge each were found on almost the same rows. So widened, bands of twenty rows of a table held 81 % of the
/// others (of twelve 84, of forty 82), and those of all exchanges 82.
const SCARCE: f64 = 3.0;
/// Rows of usual shapes below which all rows are judged.
const LEAST_USUAL: usize = 5;

/// Numbers of a form with the nuisance they were fitted beside.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// The form's numbers.
    pub values: Vec<f64>,
    /// Gain of loops that read from the last-level cache.
    pub l2_hot: f64,
}

/// A fit with what is known of its errors.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitting {
    /// The numbers.
    pub numbers: Numbers,
    /// Rows they were fitted to.
    pub rows: u64,
    /// Errors on rows that were not fitted.
    pub errors: Errors,
    /// Errors of the pure roofline on the same rows.
    pub ideal: Errors,
    /// Measured over predicted at P05, P10, P50, P90, P95 on rows that were not fitted, of shapes that serving meets.
    pub quantiles: [f64; 5],
    /// The same on rows of odd shapes; `None` where there are too few.
    pub odd: Option<[f64; 5]>,
    /// Errors on rows of odd shapes that were not fitted; `None` where there are none.
    pub odd_errors: Option<Errors>,
    /// How much wider bands are for larger problems than any of the rows; `None` where too few tell.
    pub beyond: Option<f64>,
}

/// How a fit is made.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// What numbers are drawn to.
    pub prior: Option<Vec<f64>>,
    /// How many measurements the prior is worth.
    pub prior_weight: f64,
    /// Leaves out the largest quarter of the problems, and judges there.
    pub extrapolate: bool,
    /// How wide the band of the nearest known numbers is: a few rows agree with each other by chance.
    pub known: Option<Spread>,
}

impl Default for Options {
    fn default() -> Options {
        Options { prior: None, prior_weight: 1.0, extrapolate: false, known: None }
    }
}

/// Seconds of a row under these numbers, held above the datasheet.
pub fn seconds<F: Fitted>(form: &F, l2_hot: f64, device: &Device, row: &Sound) -> Option<f64> {
    let kernel = F::of_kernel(&row.measured.kernel)?;
    let seconds = form.seconds(&warm(device, row.hot, l2_hot), &kernel);
    Some(seconds.max(row.floor_s))
}

/// The device as a benchmark's loop meets it: memory is faster by `l2_hot` where the loop stays in the last-level cache.
fn warm(device: &Device, hot: bool, l2_hot: f64) -> Device {
    let gain = if hot { l2_hot } else { 1.0 };
    Device { bandwidth: device.bandwidth * gain, ..*device }
}

/// Numbers for `rows`; `None` where there are none to be had.
pub fn numbers<F: Fitted>(device: &Device, rows: &[&Sound], options: &Options) -> Option<Numbers> {
    let (rows, weights) = sample(rows, F::ODD);
    let kernels: Vec<F::Kernel> = rows.iter().filter_map(|row| F::of_kernel(&row.measured.kernel)).collect();
    if kernels.is_empty() || kernels.len() != rows.len() {
        return None;
    }
    let hot = rows.iter().filter(|row| row.hot).count() as f64 / rows.len() as f64;
    let hottest = if TELLING.contains(&hot) { HOTTEST } else { 1.0 };
    let gain = F::l2_hot(device)
        .map_or(Bounds { least: 1.0, most: hottest }, |gain| Bounds { least: gain, most: gain });
    let mut bounds: Vec<Bounds> =
        F::PARAMETERS.iter().map(|known| Bounds { least: known.least, most: known.most }).collect();
    bounds.push(gain);
    let logs: Vec<f64> = rows.iter().map(|row| row.measured.seconds.ln()).collect();
    let residuals = |values: &[f64], out: &mut [f64]| {
        let (l2_hot, values) = match values.split_last() {
            Some((last, values)) => (*last, values),
            None => return,
        };
        let form = F::of(values);
        let (cold, hot) = (*device, warm(device, true, l2_hot));
        for (((out, kernel), row), log) in out.iter_mut().zip(&kernels).zip(&rows).zip(&logs) {
            let device = if row.hot { &hot } else { &cold };
            *out = form.seconds(device, kernel).max(1e-12).ln() - log;
        }
    };
    let with_heat =
        |values: &[f64]| values.iter().copied().chain([f64::min(1.3, gain.most)]).collect::<Vec<f64>>();
    let prior = options.prior.iter().flat_map(|prior| with_heat(prior)).enumerate();
    let mut pulls: Vec<Pull> =
        prior.map(|(place, centre)| Pull { place, centre, weight: options.prior_weight }).collect();
    let counted: f64 = weights.iter().sum();
    pulls.extend(F::anchors(&kernels[0]).iter().map(|anchor| Pull {
        place: anchor.place,
        centre: anchor.centre,
        weight: anchor.share * counted,
    }));
    let mut starts: Vec<Vec<f64>> = F::STARTS.iter().map(|start| with_heat(start)).collect();
    starts.extend(options.prior.iter().map(|prior| with_heat(prior)));
    let search = Search { rows: rows.len(), weights: &weights, bounds: &bounds, residuals, pulls };
    let mut values = search.best(&starts)?.values;
    let l2_hot = values.pop()?;
    Some(Numbers { values, l2_hot })
}

/// Fits one half and judges on the other; few rows are fitted whole and judged by leaving parts out in turn.
pub fn fit<F: Fitted>(device: &Device, rows: &[Sound], few: usize, options: &Options) -> Option<Fitting> {
    let found = within::<F>(device, rows, few, options)?;
    if options.extrapolate {
        return Some(found);
    }
    let all: Vec<&Sound> = rows.iter().collect();
    let fitted = if rows.len() >= few { half(&all, true) } else { all };
    let beyond = beyond::<F>(device, &fitted, found.quantiles, options);
    Some(Fitting { beyond, ..found })
}

/// The fit with its errors over sizes that were measured, or on the largest quarter.
fn within<F: Fitted>(device: &Device, rows: &[Sound], few: usize, options: &Options) -> Option<Fitting> {
    let all: Vec<&Sound> = rows.iter().collect();
    if options.extrapolate {
        let (known, larger) = by_size(&all);
        let numbers = numbers::<F>(device, &half(&known, true), options)?;
        let part = Part { rows: larger, numbers: numbers.clone() };
        return judged::<F>(device, numbers, known.len() / 2, &[part], None);
    }
    if rows.len() >= few {
        let fitted = half(&all, true);
        let numbers = numbers::<F>(device, &fitted, options)?;
        let part = Part { rows: half(&all, false), numbers: numbers.clone() };
        return judged::<F>(device, numbers, fitted.len(), &[part], None);
    }
    let folds = FOLDS.min(rows.len());
    let mut parts = Vec::new();
    for fold in 0..folds {
        let (left_out, kept): (Vec<_>, Vec<_>) =
            all.iter().enumerate().partition(|(place, _)| place % folds == fold);
        let kept: Vec<&Sound> = kept.into_iter().map(|(_, row)| *row).collect();
        let rows = left_out.into_iter().map(|(_, row)| *row).collect();
        parts.push(Part { rows, numbers: numbers::<F>(device, &kept, options)? });
    }
    judged::<F>(device, numbers::<F>(device, &all, options)?, rows.len(), &parts, options.known)
}

/// Rows of one kind below which no quantiles are taken of them.
const LEAST_ODD: usize = 20;
/// Rows of the largest quarter below which they do not tell how much wider bands are there.
const LEAST_LARGER: usize = 20;
/// The share of rows that a band holds.
const INSIDE: f64 = 0.8;
/// The narrowest log half-width that a band can be compared with, and the most that one is widened.
const NARROWEST: f64 = 0.01;
const WIDEST: f64 = 6.0;

/// Rows that were not fitted, with the numbers that judge them.
struct Part<'a> {
    rows: Vec<&'a Sound>,
    numbers: Numbers,
}

/// The errors of `numbers` on rows of usual shapes, or on all where there are hardly any; `known` widens what few rows say.
fn judged<F: Fitted>(
    device: &Device,
    numbers: Numbers,
    rows: usize,
    parts: &[Part<'_>],
    known: Option<Spread>,
) -> Option<Fitting> {
    let counted = parts.iter().flat_map(|part| &part.rows).filter(|row| row.measured.usual).count();
    let (mut usual, mut odd, mut ideal) = (Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        let form = F::of(&part.numbers.values);
        for row in &part.rows {
            let ratio = seconds(&form, part.numbers.l2_hot, device, row)? / row.measured.seconds;
            if row.measured.usual || counted < LEAST_USUAL {
                usual.push(Outcome { ratio, inside: None });
                ideal.push(Outcome { ratio: row.ideal_s / row.measured.seconds, inside: None });
            } else {
                odd.push(Outcome { ratio, inside: None });
            }
        }
    }
    let few = 1.0 + SCARCE / rows.max(1) as f64;
    let quantiles = quantiles(&usual, known).map(|quantile| quantile.powf(few));
    let odd_errors = Errors::of(&odd);
    let odd = (odd.len() >= LEAST_ODD).then(|| self::quantiles(&odd, None));
    for outcome in &mut usual {
        outcome.inside = Some((quantiles[1]..=quantiles[3]).contains(&(1.0 / outcome.ratio)));
    }
    let (errors, ideal) = (Errors::of(&usual)?, Errors::of(&ideal)?);
    Some(Fitting { numbers, rows: rows as u64, errors, ideal, quantiles, odd, odd_errors, beyond: None })
}

/// How much wider a band of these quantiles, made as wide on both sides, must be to hold four fifths of the largest quarter
/// of the problems for numbers that were found without it.
fn beyond<F: Fitted>(
    device: &Device,
    rows: &[&Sound],
    quantiles: [f64; 5],
    options: &Options,
) -> Option<f64> {
    let usual: Vec<&Sound> = rows.iter().filter(|row| row.measured.usual).copied().collect();
    let (known, larger) = by_size(&usual);
    if larger.len() < LEAST_LARGER {
        return None;
    }
    let Numbers { values, l2_hot } = numbers::<F>(device, &known, options)?;
    let form = F::of(&values);
    let off = |row: &&Sound| Some((seconds(&form, l2_hot, device, row)? / row.measured.seconds).ln().abs());
    let mut off: Vec<f64> = larger.iter().filter_map(off).collect();
    off.sort_by(f64::total_cmp);
    let even = Spread { low: quantiles[1], high: quantiles[3] }.evenly().high.ln();
    Some((quantile(&off, INSIDE) / even.max(NARROWEST)).clamp(1.0, WIDEST))
}

/// Measured over predicted at P05, P10, P50, P90, P95, with rows from a `known` band among them.
fn quantiles(outcomes: &[Outcome], known: Option<Spread>) -> [f64; 5] {
    let mut measured: Vec<f64> = outcomes.iter().map(|outcome| 1.0 / outcome.ratio).collect();
    measured.extend(known.iter().flat_map(|known| borrowed(*known)));
    measured.sort_by(f64::total_cmp);
    [0.05, 0.1, 0.5, 0.9, 0.95].map(|share| quantile(&measured, share))
}

/// Rows as a band scatters them: evenly by their share, on both sides log-normal.
fn borrowed(known: Spread) -> impl Iterator<Item = f64> {
    // How many times the distance of P90 from the middle each of ten equally likely rows lies off it.
    const OFF: [f64; BORROWED / 2] = [0.098, 0.301, 0.526, 0.809, 1.283];
    OFF.into_iter().flat_map(move |off| [known.low.powf(off), known.high.powf(off)])
}

/// The rows whose time these numbers miss by a factor that only another unit explains.
pub fn strays<F: Fitted>(device: &Device, numbers: &Numbers, rows: &[Sound]) -> Vec<bool> {
    let form = F::of(&numbers.values);
    let ratio =
        |row: &Sound| seconds(&form, numbers.l2_hot, device, row).map(|due| row.measured.seconds / due);
    rows.iter().map(|row| ratio(row).is_some_and(|ratio| !(1.0 / STRAY..STRAY).contains(&ratio))).collect()
}

/// The rows a fit looks at and what each counts: usual shapes first, both thinned out evenly at random.
fn sample<'a>(rows: &[&'a Sound], odd: f64) -> (Vec<&'a Sound>, Vec<f64>) {
    let mut kept = Vec::new();
    let mut weights = Vec::new();
    for (usual, most, weight) in [(true, MOST_USUAL, 1.0), (false, MOST_ODD, odd)] {
        let mut some: Vec<&Sound> = rows.iter().filter(|row| row.measured.usual == usual).copied().collect();
        some.sort_by_key(|row| scatter(row.measured.row as u64 ^ 0x5eed));
        some.truncate(most);
        weights.extend(some.iter().map(|_| weight));
        kept.extend(some);
    }
    (kept, weights)
}

/// A half of the rows, drawn at random by their place.
fn half<'a>(rows: &[&'a Sound], first: bool) -> Vec<&'a Sound> {
    rows.iter().filter(|row| (scatter(row.measured.row as u64) & 1 == 0) == first).copied().collect()
}

/// The rows without the largest quarter of the problems, and that quarter.
fn by_size<'a>(rows: &[&'a Sound]) -> (Vec<&'a Sound>, Vec<&'a Sound>) {
    let mut sizes: Vec<f64> = rows.iter().map(|row| row.measured.kernel.size()).collect();
    sizes.sort_by(f64::total_cmp);
    let limit = quantile(&sizes, 0.75);
    rows.iter().partition(|row| row.measured.kernel.size() <= limit)
}

/// A number scattered over all bits (splitmix64).
pub fn scatter(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
