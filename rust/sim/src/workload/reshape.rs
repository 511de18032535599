//! Longer or shorter requests of a trace, and shorter pauses between them.

use roofline_core::error::Error;

use crate::error::Result;
use crate::trace::{TOKENS_MAX, Trace};

/// What becomes of the requests of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Reshape {
    /// Prompts and answers are as many times as long.
    pub scales: (Option<f64>, Option<f64>),
    /// What prompts share is as many times as long, before that.
    pub prefix_scale: Option<f64>,
    /// Tokens a prompt and an answer have at most, after both.
    pub most: (Option<u32>, Option<u32>),
    /// Seconds without an arrival, at most: longer ones are cut to this.
    pub idle_gap_cap_s: Option<f64>,
    /// Seconds between an answer and the turn that waits for it, at most.
    pub turn_delay_cap_s: Option<f64>,
}

impl Trace {
    /// The same requests, reshaped. Prompts keep what they share, as far as it reaches; a prompt keeps a token, and an
    /// answer that is not empty, too.
    ///
    /// # Errors
    /// Scales and caps that are not above 0, a scale of prefixes where none are known.
    pub fn reshaped(&self, reshape: &Reshape) -> Result<Trace> {
        let Reshape { scales, prefix_scale, most, idle_gap_cap_s, turn_delay_cap_s } = *reshape;
        let positive = [
            ("isl_scale", scales.0),
            ("osl_scale", scales.1),
            ("prefix_scale", prefix_scale),
            ("idle_gap_cap", idle_gap_cap_s),
            ("turn_delay_cap", turn_delay_cap_s),
        ];
        for (field, value) in positive {
            if value.is_some_and(|value| !(value > 0.0 && value.is_finite())) {
                let value = value.unwrap_or_default();
                return Err(Error::spec(field, "must be above 0 and finite", value, "").into());
            }
        }
        for (field, value) in [("max_isl", most.0), ("max_osl", most.1)] {
            if value == Some(0) {
                return Err(Error::spec(field, "must be at least 1", 0, "").into());
            }
        }
        let mut reshaped = self.clone();
        if let Some(scale) = prefix_scale {
            reshaped.scale_prefixes(scale)?;
        }
        lengths(&mut reshaped.prompt_tokens, scales.0, most.0);
        lengths(&mut reshaped.output_tokens, scales.1, most.1);
        if let Some(prefixes) = &mut reshaped.carried.prefixes {
            let prompts = prefixes.tokens.iter_mut().zip(&reshaped.prompt_tokens);
            prompts.for_each(|(shared, prompt)| *shared = (*shared).min(*prompt));
        }
        let cached = reshaped.carried.cached_tokens.iter_mut().zip(&reshaped.prompt_tokens);
        cached.for_each(|(cached, prompt)| *cached = (*cached).min(*prompt));
        if let Some(hashes) = &mut reshaped.hashes {
            let (mut ids, mut offsets) = (Vec::with_capacity(hashes.ids.len()), vec![0]);
            for (row, prompt) in reshaped.prompt_tokens.iter().enumerate() {
                let path = hashes.path(row);
                let reach = prompt.div_ceil(hashes.block_size.max(1)) as usize;
                ids.extend_from_slice(&path[..path.len().min(reach)]);
                offsets.push(ids.len() as u64);
            }
            (hashes.ids, hashes.offsets) = (ids, offsets);
        }
        let nanos = |seconds: f64| (seconds * 1e9).min(u64::MAX as f64) as u64;
        if let (Some(cap_s), Some(sessions)) = (turn_delay_cap_s, &mut reshaped.sessions) {
            sessions.delay_ns.iter_mut().for_each(|delay| *delay = (*delay).min(nanos(cap_s)));
        }
        if let Some(cap_s) = idle_gap_cap_s {
            let cap = nanos(cap_s);
            let (mut before, mut cut) = (0, 0);
            for arrival in &mut reshaped.arrival_ns {
                cut += (*arrival - before).saturating_sub(cap);
                before = *arrival;
                *arrival -= cut;
            }
        }
        Ok(reshaped)
    }
}

fn lengths(tokens: &mut [u32], scale: Option<f64>, most: Option<u32>) {
    for length in tokens.iter_mut().filter(|length| **length > 0) {
        let scaled = scale.map_or(f64::from(*length), |scale| (f64::from(*length) * scale).round());
        *length = scaled.clamp(1.0, f64::from(most.unwrap_or(TOKENS_MAX).min(TOKENS_MAX))) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::BlockHashes;

    fn trace() -> Trace {
        Trace {
            arrival_ns: vec![1_000_000_000, 2_000_000_000, 12_000_000_000],
            prompt_tokens: vec![100, 50, 8],
            output_tokens: vec![10, 0, 30],
            hashes: Some(BlockHashes { block_size: 16, offsets: vec![0, 6, 9, 9], ids: (0..9).collect() }),
            ..Trace::default()
        }
    }

    #[test]
    fn longer_waits_for_a_turn_are_cut_and_shorter_ones_stay() {
        let sessions = crate::trace::Sessions {
            count: 1,
            session: vec![0, 0, 0],
            offsets: vec![0, 0, 1, 2],
            after: vec![0, 1],
            delay_ns: vec![9_000_000_000, 1],
        };
        let trace = Trace {
            arrival_ns: vec![0, 1, 2],
            prompt_tokens: vec![1, 2, 3],
            output_tokens: vec![1, 1, 1],
            sessions: Some(sessions),
            ..Trace::default()
        };
        let capped = Reshape { turn_delay_cap_s: Some(2.0), ..Reshape::default() };
        assert_eq!(trace.reshaped(&capped).unwrap().sessions.unwrap().delay_ns, [2_000_000_000, 1]);
        let never = Reshape { turn_delay_cap_s: Some(0.0), ..Reshape::default() };
        let error = trace.reshaped(&never).unwrap_err().to_string();
        assert_eq!(error, "turn_delay_cap must be above 0 and finite: 0");
    }

    #[test]
    fn requests_get_longer_and_shorter_and_keep_what_they_share() {
        let reshape =
            Reshape { scales: (Some(0.5), Some(3.0)), most: (Some(40), None), ..Reshape::default() };
        let reshaped = trace().reshaped(&reshape).unwrap();
        assert_eq!(reshaped.prompt_tokens, [40, 25, 4]);
        assert_eq!(reshaped.output_tokens, [30, 0, 90]);
        assert_eq!(reshaped.hashes.unwrap().offsets, [0, 3, 5, 5]);
        assert_eq!(trace().reshaped(&Reshape::default()).unwrap(), trace());
    }

    #[test]
    fn pauses_are_cut() {
        let cut = trace().reshaped(&Reshape { idle_gap_cap_s: Some(2.0), ..Reshape::default() }).unwrap();
        assert_eq!(cut.arrival_ns, [1_000_000_000, 2_000_000_000, 4_000_000_000]);
    }

    #[test]
    fn mistakes_say_what_must_hold() {
        let must = |reshape: Reshape, message: &str| {
            assert_eq!(trace().reshaped(&reshape).unwrap_err().to_string(), message);
        };
        let none = Reshape::default();
        must(Reshape { scales: (Some(0.0), None), ..none }, "isl_scale must be above 0 and finite: 0");
        must(Reshape { scales: (None, Some(-1.0)), ..none }, "osl_scale must be above 0 and finite: -1");
        must(Reshape { most: (Some(0), None), ..none }, "max_isl must be at least 1: 0");
        must(Reshape { most: (None, Some(0)), ..none }, "max_osl must be at least 1: 0");
        must(
            Reshape { idle_gap_cap_s: Some(f64::INFINITY), ..none },
            "idle_gap_cap must be above 0 and finite: inf",
        );
    }
}
