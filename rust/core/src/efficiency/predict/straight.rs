//! Prices of decode steps as straight lines over keys, where forms are made of them.

use super::{Predicted, Price, Seen};
use crate::efficiency::form::decode::DecodeKernel;
use crate::efficiency::form::mla::MlaDecodeKernel;
use crate::straight::{Greatest, Straight};

impl Predicted {
    /// The same where so many sequences decode alone and read all their keys, `ideal` being its ceilings; `None` where
    /// it is not made of straight lines.
    pub(crate) fn straight(&self, sequences: f64, ideal: &[Straight]) -> Option<Greatest> {
        let device = &self.device;
        let all = |seen: &Seen| *seen == Seen { window: f64::INFINITY, at_once: 1.0 };
        let form = match &self.price {
            Price::Nothing => Greatest::default(),
            Price::Attention(_, Some((form, kernel)), seen) if all(seen) => {
                form.straight(device, &DecodeKernel { sequences, ..*kernel })
            }
            Price::Absorbed(form, kernel, seen) if all(seen) => {
                form.straight(device, &MlaDecodeKernel { sequences, ..*kernel })
            }
            Price::Pass(form, bytes) => {
                let pass = bytes.over_keys(sequences).times(form.passes / device.bandwidth);
                Greatest(vec![vec![pass.plus(&Straight::fixed(form.t0_s))]])
            }
            _ => return None,
        };
        let floored = form.times(self.factor).or(Straight::fixed(self.floor));
        Some(ideal.iter().fold(floored, |greatest, line| greatest.or(*line)))
    }
}
