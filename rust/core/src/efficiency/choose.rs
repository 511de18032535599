//! Which fit an operator is priced with: the device's own, or the nearest that was measured, with wider bars.

use super::band::Spread;
use super::file::{Fit, Set};
use super::form::Form;
use super::switches::Launch;
use super::{Prediction, Source, shipped};
use crate::catalog;
use crate::hardware::Hardware;
use crate::work::Family;

/// Half-widths of a band where nothing was measured: twice too fast or slow is not ruled out.
const UNKNOWN: Spread = Spread { low: 0.8, high: 1.3 };

/// Families that were also measured outside graphs, and the longest that a kernel of a graph takes to begin: whatever
/// takes longer was launched by the host and waited for it.
const LONGEST_LAUNCH_S: [(&str, f64); 3] = [("gemm", 25e-6), ("mla_decode", 60e-6), ("mla_prefill", 60e-6)];

/// Architectures that share kernels with another.
const KIN: [(&str, &str); 1] = [("blackwell-ultra", "blackwell")];

/// Whose kernels of a family stand for another engine's that were not measured, if there are any: vLLM reads latent caches
/// by kernels like TensorRT-LLM's, as modules of latent attention show that were measured whole (H100, a cache in FP8,
/// long contexts: 10 % off with them, 550 % with SGLang's, which bring the cache into 16 bits first).
const LENDERS: [(&str, &str, &str); 2] =
    [("mla_decode", "vllm", "trtllm"), ("mla_prefill", "vllm", "trtllm")];

/// How much wider bands of odd shapes are where none were measured, below and above: the middle of those that were, by
/// family. Kernels are tuned for usual shapes, so the others take longer than forms say and hardly ever less.
const ODD: [(&str, [f64; 2]); 5] = [
    ("gemm", [1.1, 1.3]),
    ("decode", [1.0, 5.0]),
    ("prefill", [1.0, 4.0]),
    ("mla_prefill", [1.0, 5.0]),
    ("moe", [1.2, 2.0]),
];

/// How much wider a band is outside the ranges that were measured, and for larger problems than any where a table did
/// not tell how much.
const BEYOND: f64 = 1.5;

/// By how much more for each doubling of the largest size that was measured, from the first where a table did not tell, else
/// from what its own largest quarter reaches. Tables fitted without their largest quarter, half and three quarters were four
/// fifths inside with bands 1.1 to 1.5, 1.2 to 2.5 and 1.5 to 4 times as wide up to 2, 16 and 500 times as large.
const PER_DOUBLING: f64 = 0.25;
const TOLD_DOUBLINGS: f64 = 4.0;

/// The dimension that tells how large a problem is altogether: products of the others lie in fewer of them.
pub const SIZE: &str = "size";

/// A fit, and how far it is trusted.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen<F> {
    /// The form.
    pub form: F,
    /// How much faster a benchmark loop reads what stays in the last-level cache; serving does not.
    pub l2_hot: f64,
    /// Its 80 % band, over the shapes that serving meets.
    pub spread: Spread,
    /// Its 80 % band over odd ones.
    pub odd: Spread,
    /// The range of each dimension that was measured.
    pub valid: Vec<(String, [f64; 2])>,
    /// How much wider bands are for larger problems than any that was measured; `None` where a table did not tell.
    pub beyond: Option<f64>,
    /// Where it is from.
    pub source: Source,
    /// What this device's datasheet stands for beside that of the device that was measured.
    pub like: Like,
}

/// By what a device's datasheet is multiplied before another's fit is applied to it.
///
/// Within an architecture chips are alike but for what makers switch off or on. Error correction in line with the data
/// takes a share of the traffic that the printed bandwidth does not show, so a fit of a corrected memory holds a share
/// that an uncorrected one does not lose. And where products summed in 32 bits run at half rate, whatever held kernels
/// below the full rate (power, operands from the cache) leaves them at the half rate's roof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Like {
    /// Of the bandwidth.
    pub bandwidth: f64,
    /// Of the peak of products of floating-point numbers.
    pub peak: f64,
}

impl Like {
    /// The same device, or no reason to tell them apart.
    pub const SAME: Like = Like { bandwidth: 1.0, peak: 1.0 };

    /// From the device that was measured to another.
    pub fn between(from: &Hardware, to: &Hardware) -> Like {
        let free = |device: &Hardware| 1.0 - device.ecc.value.unwrap_or(0.0);
        let reached = |device: &Hardware| device.accumulation.value.unwrap_or(1.0);
        Like { bandwidth: free(to) / free(from), peak: reached(from) / reached(to) }
    }
}

impl<F> Chosen<F> {
    /// The 80 % band of a kernel: of a usual shape or an odd one, wider outside what was measured. Of larger problems than
    /// any that was measured nobody knows which way they are off: their band is as wide on both sides.
    pub fn spread_of(&self, usual: bool, dimensions: &[(&str, f64)]) -> Spread {
        let spread = if usual { self.spread } else { self.odd };
        let is_beyond = |(name, [least, most]): &(String, [f64; 2])| {
            dimensions
                .iter()
                .any(|(known, value)| known == name && *known != SIZE && !(*least..=*most).contains(value))
        };
        let spread = spread.widened(if self.valid.iter().any(is_beyond) { BEYOND } else { 1.0 });
        let size = dimensions.iter().find(|(name, _)| *name == SIZE).map_or(0.0, |(_, size)| *size);
        let largest = self.largest();
        if size <= largest {
            return spread;
        }
        let doublings = (size / largest).log2();
        let (wider, untold) = match self.beyond {
            Some(told) => (told, (doublings - TOLD_DOUBLINGS).max(0.0)),
            None => (BEYOND, doublings),
        };
        spread.evenly().widened(wider + PER_DOUBLING * untold)
    }

    /// The largest problem that was measured; infinite where that is not known.
    pub fn largest(&self) -> f64 {
        self.valid.iter().find(|(name, _)| name == SIZE).map_or(f64::INFINITY, |(_, [_, most])| *most)
    }

    /// The same fit for such kernels alone.
    #[must_use]
    pub fn held(mut self, usual: bool, dimensions: &[(&str, f64)]) -> Chosen<F> {
        self.spread = self.spread_of(usual, dimensions);
        self
    }
}

/// How near a fit is to a device and an engine, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Near {
    Own,
    SameArchitecture,
    OtherEngine,
    KindredEngine,
    Vendor,
    Any,
}

/// Every nearness with the factor of its band's log half-widths: measured over transfers between devices of one
/// architecture 1.3, to another one 2 to 2.5.
const NEARNESS: [(Near, f64); 6] = [
    (Near::Own, 1.0),
    (Near::SameArchitecture, 1.3),
    (Near::OtherEngine, 1.6),
    (Near::KindredEngine, 1.8),
    (Near::Vendor, 2.0),
    (Near::Any, 2.5),
];

/// Looks fits up for one device.
#[derive(Debug, Clone, Copy)]
pub struct Chooser<'a> {
    prediction: &'a Prediction,
    hardware: &'a Hardware,
}

impl<'a> Chooser<'a> {
    /// For `hardware` under the engine of `prediction`.
    pub fn new(prediction: &'a Prediction, hardware: &'a Hardware) -> Chooser<'a> {
        Chooser { prediction, hardware }
    }

    /// The nearest fit of the first of `dtypes` of which there is any; `engine` stands for the prediction's own where
    /// kernels are of a library.
    pub fn choose<F: Form>(&self, dtypes: &[&str], engine: Option<&str>) -> Option<Chosen<F>> {
        let engine = engine.unwrap_or(&self.prediction.engine);
        dtypes.iter().find_map(|dtype| self.nearest::<F>(dtype, engine))
    }

    /// What whole steps or requests say of a family of operators on this device: by what to multiply its time, and what
    /// error is left.
    pub fn factor(&self, family: Family) -> Option<(f64, Option<Spread>)> {
        let own = self.prediction.sets.iter().filter(|set| set.device == self.hardware.name);
        let found = own.filter_map(|set| set.factor(&self.prediction.engine, family)).next()?;
        Some((found.factor, found.spread))
    }

    /// The fit of a set that stands for every device, with the bars of its real distance.
    fn standing_in<F: Form>(&self, dtype: &str, engine: &str) -> Option<Chosen<F>> {
        let sets = self.prediction.sets.iter().filter(|set| set.stands_in);
        let (set, fit) =
            sets.flat_map(|set| set.fits.iter().map(move |fit| (set, fit))).find(|(_, fit)| {
                fit.family == F::FAMILY
                    && fit.dtype == dtype
                    && (fit.engine == engine || fit.engine == "any")
                    && (self.prediction.switches.launch == Launch::Eager || !is_host_bound::<F>(fit))
            })?;
        let near = if set.device == self.hardware.name {
            Near::Own
        } else if kindred(self.hardware, &set.architecture) {
            Near::SameArchitecture
        } else {
            Near::Vendor
        };
        Some(self.chosen(near, set, fit))
    }

    fn chosen<F: Form>(&self, near: Near, set: &Set, fit: &Fit) -> Chosen<F> {
        let factor = NEARNESS.iter().find(|(known, _)| *known == near).map_or(1.0, |(_, factor)| *factor);
        let alike = set.device != self.hardware.name && kindred(self.hardware, &set.architecture);
        let from = if alike { catalog::hardware::known(&set.device) } else { None };
        let spread = fit.spread.unwrap_or(UNKNOWN);
        Chosen {
            form: F::of(&fit.values),
            l2_hot: fit.l2_hot,
            spread: spread.widened(factor),
            odd: fit.odd.unwrap_or_else(|| odd::<F>(spread)).widened(factor),
            valid: fit.valid.clone(),
            beyond: fit.beyond,
            source: self.source(near, set, fit),
            like: from.map_or(Like::SAME, |from| Like::between(from, self.hardware)),
        }
    }

    fn nearest<F: Form>(&self, dtype: &str, engine: &str) -> Option<Chosen<F>> {
        if let Some(chosen) = self.standing_in(dtype, engine) {
            return Some(chosen);
        }
        NEARNESS.iter().find_map(|&(near, _)| {
            let mut near_enough = self
                .sets(near)
                .flat_map(|set| set.fits.iter().map(move |fit| (set, fit)))
                .filter(|(set, fit)| {
                    fit.family == F::FAMILY
                        && fit.dtype == dtype
                        && self.is_near(near, set, fit, engine)
                        && (self.prediction.switches.launch == Launch::Eager || !is_host_bound::<F>(fit))
                });
            let first = near_enough.next()?;
            let lent = |fit: &Fit| LENDERS.contains(&(F::FAMILY, engine, fit.engine.as_str()));
            let borrowed = matches!(near, Near::OtherEngine | Near::KindredEngine) && !lent(first.1);
            // Within the set that comes first: a user's own comes before the shipped.
            let better =
                borrowed.then(|| near_enough.find(|(set, fit)| set.device == first.0.device && lent(fit)));
            let (set, fit) = better.flatten().unwrap_or(first);
            Some(self.chosen(near, set, fit))
        })
    }

    /// The sets that may hold a fit so near: a user's first, then the shipped, devices of like bandwidth first.
    fn sets(&self, near: Near) -> impl Iterator<Item = &'a Set> + use<'a> {
        let hardware = self.hardware;
        let mut files: Vec<_> = shipped::FILES
            .iter()
            .filter(|file| match near {
                Near::Own | Near::OtherEngine => file.device == hardware.name,
                Near::SameArchitecture | Near::KindredEngine => kindred(hardware, file.architecture),
                Near::Vendor | Near::Any => file.device == "any",
            })
            .collect();
        files.sort_by_key(|file| u8::from(file.architecture != hardware.architecture));
        self.prediction.sets.iter().chain(files.into_iter().map(|file| file.set()))
    }

    fn is_near(&self, near: Near, set: &Set, fit: &Fit, engine: &str) -> bool {
        let same_device = set.device == self.hardware.name;
        let same_engine = fit.engine == engine || fit.engine == "any";
        let alike = kindred(self.hardware, &set.architecture);
        let anywhere = set.device == "any" || set.origin.is_some();
        match near {
            Near::Own => same_device && same_engine,
            Near::SameArchitecture => alike && same_engine,
            Near::OtherEngine => same_device,
            Near::KindredEngine => alike,
            Near::Vendor => anywhere && self.hardware.vendor == "nvidia",
            Near::Any => anywhere,
        }
    }

    fn source(&self, near: Near, set: &Set, fit: &Fit) -> Source {
        let name = match (&set.origin, fit.engine.as_str()) {
            (Some(origin), _) => origin.clone(),
            (None, "any") => set.device.clone(),
            (None, engine) => format!("{}/{engine}", set.device),
        };
        match near {
            Near::Own => Source::Fitted(name),
            Near::Any => Source::Assumed,
            Near::Vendor if set.device == "any" => Source::Assumed,
            _ => Source::Transferred(name),
        }
    }
}

/// The band of odd shapes beside that of usual ones.
fn odd<F: Form>(spread: Spread) -> Spread {
    let [low, high] =
        ODD.iter().find(|(family, _)| *family == F::FAMILY).map_or([1.2, 1.5], |(_, wider)| *wider);
    Spread { low: spread.widened(low).low, high: spread.widened(high).high }
}

/// Whether a fit is of kernels that waited for the host.
fn is_host_bound<F: Form>(fit: &Fit) -> bool {
    let most = LONGEST_LAUNCH_S.iter().find(|(family, _)| *family == F::FAMILY);
    let launch = F::PARAMETERS.iter().position(|parameter| parameter.name == "t0_s");
    most.zip(launch).is_some_and(|((_, most), place)| fit.values[place] > *most)
}

/// Whether a device runs the kernels of that architecture, or of one near it.
fn kindred(hardware: &Hardware, architecture: &str) -> bool {
    let own = hardware.architecture.as_str();
    own == architecture || KIN.contains(&(own, architecture)) || KIN.contains(&(architecture, own))
}

#[cfg(test)]
mod tests {
    use super::super::Efficiency;
    use super::super::form::gemm::Gemm;
    use super::super::form::mla::MlaDecode;
    use super::*;
    use crate::catalog;

    fn chosen(hardware: &str, engine: &str, dtypes: &[&str]) -> Chosen<Gemm> {
        let Efficiency::Predicted(prediction) = Efficiency::predicted(engine) else { panic!() };
        let hardware = catalog::hardware::hardware(hardware).unwrap().item;
        Chooser::new(&prediction, &hardware).choose(dtypes, None).unwrap()
    }

    #[test]
    fn bars_widen_from_the_devices_own_fit_to_what_is_assumed() {
        let own = chosen("h100-sxm", "vllm", &["bf16"]);
        assert_eq!(own.source, Source::Fitted("h100-sxm/vllm".into()));
        let same = chosen("h20", "vllm", &["bf16"]);
        assert!(
            matches!(&same.source, Source::Transferred(from) if from.ends_with("/vllm")),
            "{:?}",
            same.source
        );
        let assumed = chosen("mi300x", "vllm", &["bf16"]);
        assert_eq!(assumed.source, Source::Assumed);
        let wide = |chosen: &Chosen<Gemm>| chosen.spread.high / chosen.spread.low;
        assert!(wide(&own) < wide(&assumed), "{own:?} {assumed:?}");
    }

    #[test]
    fn bands_are_wider_for_odd_shapes_and_outside_what_was_measured() {
        let own = chosen("h100-sxm", "vllm", &["bf16"]);
        let wide = |usual, n| {
            let spread = own.spread_of(usual, &[("n", n)]);
            spread.high / spread.low
        };
        assert!(wide(true, 4096.0) < wide(false, 4096.0));
        assert!(wide(true, 4096.0) < wide(true, 1e9) && wide(false, 4096.0) < wide(false, 1e9));
        assert_eq!(own.clone().held(false, &[("n", 64.0)]).spread, own.odd);
    }

    #[test]
    fn bands_of_larger_problems_than_any_measured_are_wider_the_larger_they_are_on_both_sides() {
        let mut own = chosen("h100-sxm", "vllm", &["bf16"]);
        own.valid = vec![("m".into(), [1.0, 64.0]), (SIZE.into(), [1e6, 1e9])];
        own.beyond = Some(2.0);
        let told = own.clone();
        let at = |size: f64| told.spread_of(true, &[("m", 8.0), (SIZE, size)]);
        assert_eq!((at(1e3), at(1e9)), (own.spread, own.spread));
        let even = own.spread.evenly();
        assert!((even.low * even.high - 1.0).abs() < 1e-12);
        assert!(even.low <= own.spread.low && even.high >= own.spread.high);
        assert_eq!((at(1.1e9), at(16e9)), (even.widened(2.0), even.widened(2.0)));
        assert_eq!(at(1e9 * 256.0), even.widened(3.0));
        own.beyond = None;
        assert_eq!(own.spread_of(true, &[(SIZE, 4e9)]), even.widened(BEYOND + 0.5));
        let outside = own.spread_of(true, &[("m", 128.0), (SIZE, 1e8)]);
        assert_eq!(outside, own.spread.widened(BEYOND));
    }

    #[test]
    fn kernels_that_waited_for_the_host_are_not_taken_for_those_of_a_graph() {
        let hardware = catalog::hardware::hardware("h200-sxm").unwrap().item;
        let Efficiency::Predicted(graph) = Efficiency::predicted("vllm") else { panic!() };
        let mut eager = (*graph).clone();
        eager.switches.launch = Launch::Eager;
        let of = |prediction: &Prediction| {
            Chooser::new(prediction, &hardware).choose::<MlaDecode>(&["bf16"], None).unwrap().form.t0_s
        };
        assert!(of(&graph) < 60e-6 && of(&graph) <= of(&eager));
        let block = Chooser::new(&graph, &hardware).choose::<Gemm>(&["fp8_block"], None).unwrap();
        assert!(block.form.t0_s < 25e-6, "{block:?}");
    }

    #[test]
    fn a_fit_of_a_corrected_memory_or_of_the_full_rate_counts_for_more_where_there_is_none() {
        let near = chosen("rtx-4090", "vllm", &["bf16"]);
        assert!((near.like.bandwidth - 16.0 / 15.0).abs() < 1e-12, "{near:?}");
        assert!((near.like.peak - 2.0).abs() < 1e-12, "{near:?}");
        assert_eq!(chosen("l40s", "vllm", &["bf16"]).like, Like::SAME);
        assert_eq!(chosen("h200-sxm", "vllm", &["bf16"]).like, Like::SAME);
        assert_eq!(chosen("l40", "vllm", &["bf16"]).like, Like::SAME);
    }

    #[test]
    fn a_set_that_stands_in_comes_before_a_devices_own_with_the_bars_of_its_distance() {
        let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
        let b200 = shipped::FILES.iter().find(|file| file.device == "b200-sxm").unwrap();
        let set = Set { stands_in: true, ..b200.set().clone() };
        let prediction = Prediction { engine: "vllm".into(), sets: vec![set], ..Prediction::default() };
        let other = Chooser::new(&prediction, &hardware).choose::<Gemm>(&["bf16"], None).unwrap();
        assert_eq!(other.source, Source::Transferred("b200-sxm/vllm".into()));
        let own = chosen("b200-sxm", "vllm", &["bf16"]);
        assert_eq!(other.form, own.form);
        assert!(other.spread.high > own.spread.high && other.spread.low < own.spread.low);
    }

    #[test]
    fn everything_takes_as_many_times_as_long_as_a_scaled_set_says() {
        let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
        let mut prediction = Prediction { engine: "vllm".into(), ..Prediction::default() };
        for _ in 0..2 {
            let slower = prediction.scaled(&hardware, 1.5);
            prediction.sets.insert(0, slower);
        }
        let factor = Chooser::new(&prediction, &hardware).factor(Family::Attention).unwrap().0;
        assert!((factor - 2.25).abs() < 1e-12);
    }

    #[test]
    fn latent_attention_that_was_not_measured_is_lent_by_the_engine_whose_kernels_are_alike() {
        let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
        let prediction = Prediction { engine: "vllm".into(), ..Prediction::default() };
        let chosen = Chooser::new(&prediction, &hardware).choose::<MlaDecode>(&["fp8"], None).unwrap();
        assert_eq!(chosen.source, Source::Transferred("h100-sxm/trtllm".into()));
    }

    #[test]
    fn a_users_own_fit_comes_first() {
        let mut set = shipped::FILES[6].set().clone();
        set.origin = Some("mine.toml".into());
        let hardware = catalog::hardware::hardware("h100-sxm").unwrap().item;
        let prediction = Prediction { engine: "vllm".into(), sets: vec![set], ..Prediction::default() };
        let chosen = Chooser::new(&prediction, &hardware).choose::<Gemm>(&["bf16"], None).unwrap();
        assert_eq!(chosen.source, Source::Fitted("mine.toml".into()));
    }
}
