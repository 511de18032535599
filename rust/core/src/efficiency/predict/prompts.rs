//! What attention of prompts takes, through windows too: kernels of windows run where a window hides something.

use crate::efficiency::form::prefill::{Prefill, PrefillKernel};
use crate::efficiency::form::{Device, Form};
use crate::per_step::Part;
use crate::shape::PhaseSums;

/// Keys beyond its window that an item of prefill attention visits: one tile.
const TILE: f64 = 128.0;

/// The numbers of prompts' attention, with what is known of it before sums are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Prompts {
    pub(super) form: Prefill,
    /// Without the window; `None` where there is none, or nothing is known of it.
    pub(super) plain: Option<Prefill>,
    pub(super) kernel: PrefillKernel,
    /// Most keys of a query.
    pub(super) window: f64,
}

impl Prompts {
    /// Seconds that it takes however small it is.
    #[inline]
    pub(super) fn launch(&self) -> f64 {
        self.plain.map_or(self.form.t0_s, |plain| plain.t0_s.min(self.form.t0_s))
    }

    /// Seconds of a step of these sums.
    #[inline]
    pub(super) fn seconds(&self, device: &Device, sums: &PhaseSums, reach: usize) -> f64 {
        self.of(device, &prompts_of(&self.kernel, sums, reach, self.window))
    }

    /// Adds the seconds of each step's prompts.
    pub(super) fn add_each(&self, device: &Device, part: &Part, reach: usize, seconds: &mut [f64]) {
        prompts_of_each(&self.kernel, part, reach, self.window, seconds, |kernel| self.of(device, kernel));
    }

    /// One launch serves a step's prompts, so that its longest decides which kernel runs: up to the window masks are
    /// plain triangles. What hides keys takes no less than the plain kernel on those that are seen, so that nothing becomes
    /// cheaper by becoming longer than its window.
    #[inline]
    fn of(&self, device: &Device, kernel: &PrefillKernel) -> f64 {
        let Some(plain) = &self.plain else { return self.form.seconds(device, kernel) };
        let plain = plain.seconds(device, kernel);
        if kernel.longest <= self.window { plain } else { plain.max(self.form.seconds(device, kernel)) }
    }
}

/// Prompts' attention of these sums.
#[inline]
pub(super) fn prompts_of(
    kernel: &PrefillKernel,
    sums: &PhaseSums,
    reach: usize,
    window: f64,
) -> PrefillKernel {
    let seen = &sums.reach[reach];
    PrefillKernel {
        sequences: sums.sequences,
        tokens: sums.tokens,
        pairs: seen.pairs,
        keys: seen.keys,
        longest: sums.longest.min(window + TILE),
        ..*kernel
    }
}

/// Adds what `of` says of each step's prompts.
#[inline]
pub(super) fn prompts_of_each(
    kernel: &PrefillKernel,
    part: &Part,
    reach: usize,
    window: f64,
    seconds: &mut [f64],
    of: impl Fn(&PrefillKernel) -> f64,
) {
    let seen = &part.reach[reach];
    let counts = part.sequences.iter().zip(&part.tokens);
    let lanes = counts.zip(&seen.pairs).zip(&seen.keys).zip(&part.longest);
    for (out, ((((sequences, tokens), pairs), keys), longest)) in seconds.iter_mut().zip(lanes) {
        *out += of(&PrefillKernel {
            sequences: *sequences,
            tokens: *tokens,
            pairs: *pairs,
            keys: *keys,
            longest: longest.min(window + TILE),
            ..*kernel
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Span;
    use crate::shape::{Reach, ReachSums};

    const DEVICE: Device =
        Device { peak16: 1e15, bandwidth: 3e12, sm: 132.0, l2: 5e7, clocks: 2e11, exponential: 1.0 };
    const KERNEL: PrefillKernel = PrefillKernel {
        sequences: 0.0,
        tokens: 0.0,
        pairs: 0.0,
        keys: 0.0,
        longest: 0.0,
        heads: 32.0,
        kv_heads: 8.0,
        key_dim: 128.0,
        value_dim: 128.0,
        activation_bytes: 2.0,
        kv_bytes: 2.0,
        peak: 1e15,
    };

    /// Sums of prompts, each new tokens on top of cached ones, through a window.
    fn sums(prompts: &[(u64, u64)], window: u64) -> PhaseSums {
        let reach = Reach { span: Span::Window(window), causal: true };
        let mut sums = PhaseSums::NOBODY;
        for &(new, cached) in prompts {
            sums.sequences += 1.0;
            sums.tokens += new as f64;
            sums.longest = sums.longest.max((new + cached) as f64);
            let (pairs, keys) = reach.sums(new, cached);
            sums.reach[0] =
                ReachSums { pairs: sums.reach[0].pairs + pairs, keys: sums.reach[0].keys + keys, area: 0.0 };
        }
        sums
    }

    fn numbers() -> impl Strategy<Value = Prefill> {
        let bounds: Vec<_> = Prefill::PARAMETERS.iter().map(|known| known.least..known.most).collect();
        bounds.prop_map(|values| Prefill::of(&values))
    }

    fn any_prompts() -> impl Strategy<Value = Prompts> {
        (numbers(), numbers(), 64u64..2000).prop_map(|(form, plain, window)| Prompts {
            form,
            plain: Some(plain),
            kernel: KERNEL,
            window: window as f64,
        })
    }

    proptest! {
        #[test]
        fn prompts_no_longer_than_their_window_take_what_plain_ones_take(
            prompts in any_prompts(), new in 1u64..2000, cached in 0u64..2000,
        ) {
            let window = prompts.window as u64;
            let new = new.min(window);
            let cached = cached.min(window - new);
            let plain = Prompts { form: prompts.plain.unwrap(), plain: None, window: f64::INFINITY, ..prompts };
            let sums = sums(&[(new, cached)], window);
            prop_assert_eq!(prompts.seconds(&DEVICE, &sums, 0), plain.seconds(&DEVICE, &sums, 0));
        }

        #[test]
        fn nothing_is_cheaper_for_being_longer_than_its_window(
            prompts in any_prompts(), batch in prop::collection::vec((1u64..1500, 0u64..1500), 1..4),
            new in 0u64..1500, cached in 0u64..1500,
        ) {
            let at = |batch: &[(u64, u64)]| prompts.seconds(&DEVICE, &sums(batch, prompts.window as u64), 0);
            let mut longer = batch.clone();
            longer[0] = (longer[0].0 + new, longer[0].1 + cached);
            prop_assert!(at(&batch) <= at(&longer) * (1.0 + 1e-12), "{} {}", at(&batch), at(&longer));
            let mut more = longer.clone();
            more.push((new + 1, cached));
            prop_assert!(at(&longer) <= at(&more) * (1.0 + 1e-12), "{} {}", at(&longer), at(&more));
        }

        #[test]
        fn many_steps_at_once_take_what_each_takes(
            prompts in any_prompts(), batch in prop::collection::vec((1u64..1500, 0u64..1500), 1..20),
        ) {
            let mut part = Part::default();
            let window = prompts.window as u64;
            for (place, &one) in batch.iter().enumerate() {
                let sums = sums(&[one], window);
                part.sequences[place] = sums.sequences;
                part.tokens[place] = sums.tokens;
                part.longest[place] = sums.longest;
                part.reach[0].pairs[place] = sums.reach[0].pairs;
                part.reach[0].keys[place] = sums.reach[0].keys;
            }
            let mut seconds = vec![0.0; batch.len()];
            prompts.add_each(&DEVICE, &part, 0, &mut seconds);
            for (seconds, &one) in seconds.iter().zip(&batch) {
                prop_assert_eq!(*seconds, prompts.seconds(&DEVICE, &sums(&[one], window), 0));
            }
        }
    }

    #[test]
    fn the_longest_prompt_decides_which_kernel_serves_all() {
        let slow = Prefill::of(&[5e-5, 0.5, 100.0, 1.0, 1.0, 1.0, 1.0, 1e-7]);
        let quick = Prefill::of(&[1e-5, 0.8, 50.0, 0.5, 1.0, 1.0, 0.5, 1e-7]);
        let prompts = Prompts { form: slow, plain: Some(quick), kernel: KERNEL, window: 512.0 };
        let short = [(512, 0), (100, 300)];
        let beside = [(512, 0), (100, 413)];
        let of = |form: Prefill, batch: &[(u64, u64)]| {
            form.seconds(&DEVICE, &prompts_of(&KERNEL, &sums(batch, 512), 0, 512.0))
        };
        let at = |batch: &[(u64, u64)]| prompts.seconds(&DEVICE, &sums(batch, 512), 0);
        assert_eq!(at(&short), of(quick, &short));
        assert_eq!(at(&beside), of(slow, &beside));
    }
}
