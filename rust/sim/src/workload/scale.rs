//! More or less of a trace: copies side by side, a sample of its sessions, another rate.

use roofline_core::error::Error;
use rustc_hash::FxHashMap;

use super::draws::{Draws, Purpose};
use crate::error::Result;
use crate::trace::{Sessions, Trace};

/// Copies are shifted by at most this share of the span: bursts part, the peaks of a day stay where they are.
const SHIFT_SHARE: f64 = 0.01;

impl Trace {
    /// `copies` of the trace side by side: each after the first is shifted by up to 1 % of the span, and shares neither
    /// sessions nor prefixes with the others.
    ///
    /// Superposing keeps the burstiness of each client, where a faster clock would sharpen it.
    ///
    /// # Errors
    /// No copies, or more requests or hash ids than 32 bits can number.
    pub fn upsample(&self, copies: u32, seed: u64) -> Result<Trace> {
        let distinct =
            self.hashes.iter().flat_map(|hashes| &hashes.ids).max().map_or(0, |id| u64::from(*id) + 1);
        let sessions = self.sessions.as_ref().map_or(0, |sessions| u64::from(sessions.count));
        let most = [self.len() as u64, distinct, sessions].into_iter().max().unwrap_or(0);
        if copies == 0 || u64::from(copies) * most >= u64::from(u32::MAX) {
            let must = "must be at least 1, and keep fewer than 4,294,967,295 requests and hash ids";
            return Err(Error::spec("upsample", must, copies, "").into());
        }
        let span =
            self.arrival_ns.last().zip(self.arrival_ns.first()).map_or(0, |(last, first)| last - first);
        let mut stream = Draws::new(seed, Purpose::Shift);
        let longest = (span as f64 * SHIFT_SHARE) as u64 + 1;
        let shifts: Vec<u64> =
            (0..copies).map(|copy| if copy == 0 { 0 } else { stream.below(longest) }).collect();
        let mut order: Vec<(u64, u32, u32)> = Vec::with_capacity(self.len() * copies as usize);
        for (copy, shift) in (0u32..).zip(&shifts) {
            order.extend((0u32..).zip(&self.arrival_ns).map(|(row, arrival)| (arrival + shift, copy, row)));
        }
        order.sort_unstable();
        let mut grown = self.select(&order.iter().map(|(_, _, row)| *row).collect::<Vec<_>>());
        grown.arrival_ns = order.iter().map(|(arrival, _, _)| *arrival).collect();
        for (place, (_, copy, _)) in order.iter().enumerate().filter(|(_, (_, copy, _))| *copy > 0) {
            if let Some(id) = grown.ids.get_mut(place) {
                id.push_str(&format!("~{copy}"));
            }
            if let Some(hashes) = &mut grown.hashes {
                let path = hashes.offsets[place] as usize..hashes.offsets[place + 1] as usize;
                hashes.ids[path].iter_mut().for_each(|id| *id += copy * distinct as u32);
            }
        }
        grown.sessions = self.sessions.as_ref().map(|sessions| part_sessions(sessions, &order, self.len()));
        Ok(grown)
    }

    /// The sessions, and the requests of none, that a draw with probability `share` keeps.
    ///
    /// # Errors
    /// A share that is not between 0 (excluded) and 1; nothing kept.
    pub fn sample(&self, share: f64, seed: u64) -> Result<Trace> {
        if !(share > 0.0 && share <= 1.0) {
            return Err(
                Error::spec("sample", "must be above 0, at most 1", share, "0.1 keeps a tenth").into()
            );
        }
        let mut stream = Draws::new(seed, Purpose::Sample);
        let mut sessions: FxHashMap<u32, bool> = FxHashMap::default();
        let mut kept = Vec::new();
        for row in 0..self.len() as u32 {
            let session =
                self.sessions.as_ref().map_or(Sessions::NONE, |sessions| sessions.session[row as usize]);
            let stays = match session {
                Sessions::NONE => stream.uniform() < share,
                session => *sessions.entry(session).or_insert_with(|| stream.uniform() < share),
            };
            if stays {
                kept.push(row);
            }
        }
        if kept.is_empty() {
            let must = format!("must keep requests: of {} it keeps none", self.len());
            return Err(Error::spec("sample", must, share, "take a larger share, or another seed").into());
        }
        Ok(self.select(&kept))
    }

    /// The same requests at `rate` requests a second on average, every time stretched alike.
    ///
    /// # Errors
    /// A rate that is not positive and finite; requests that all arrive at once.
    pub fn at_rate(self, rate: f64) -> Result<Trace> {
        if !(rate.is_finite() && rate > 0.0) {
            return Err(Error::spec("target_rps", "must be positive", rate, "").into());
        }
        let span =
            self.arrival_ns.last().zip(self.arrival_ns.first()).map_or(0, |(last, first)| last - first);
        if span == 0 {
            let must = "must be left out where all requests arrive at once";
            return Err(Error::spec("target_rps", must, rate, "").into());
        }
        // There is one gap fewer than there are requests.
        let now = (self.len() - 1) as f64 / (span as f64 / 1e9);
        self.speedup(rate / now)
    }
}

/// Sessions of its own for each copy, in which requests wait for requests of the same copy.
fn part_sessions(original: &Sessions, order: &[(u64, u32, u32)], rows: usize) -> Sessions {
    let copies = order.len() / rows.max(1);
    let mut place = vec![Sessions::NONE; order.len()];
    for (new, (_, copy, row)) in (0u32..).zip(order) {
        place[*copy as usize * rows + *row as usize] = new;
    }
    let mut parted =
        Sessions { count: original.count * copies as u32, offsets: vec![0], ..Sessions::default() };
    for (_, copy, row) in order {
        let session = original.session[*row as usize];
        let own = session.checked_add(copy * original.count).filter(|_| session != Sessions::NONE);
        parted.session.push(own.unwrap_or(Sessions::NONE));
        for (after, delay_ns) in original.waits_for(*row as usize) {
            parted.after.push(place[*copy as usize * rows + after as usize]);
            parted.delay_ns.push(delay_ns);
        }
        parted.offsets.push(parted.after.len() as u64);
    }
    parted
}
