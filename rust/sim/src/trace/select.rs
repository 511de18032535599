//! Some rows of a trace, in any order.

use super::carried::pick;
use super::{BlockHashes, Sessions, Trace};

impl Trace {
    /// The requests `order`, in this order; what waited for a request that is not among them waits for it no more.
    pub(crate) fn select(&self, order: &[u32]) -> Trace {
        Trace {
            arrival_ns: pick(&self.arrival_ns, order),
            prompt_tokens: pick(&self.prompt_tokens, order),
            output_tokens: pick(&self.output_tokens, order),
            ids: pick(&self.ids, order),
            priority: pick(&self.priority, order),
            hashes: self.hashes.as_ref().map(|hashes| hashes.select(order)),
            sessions: self.sessions.as_ref().map(|sessions| sessions.select(order)),
            model: self.model.clone(),
            carried: self.carried.select(order),
        }
    }
}

impl BlockHashes {
    fn select(&self, order: &[u32]) -> BlockHashes {
        let mut chosen = BlockHashes { block_size: self.block_size, offsets: vec![0], ids: Vec::new() };
        for row in order {
            chosen.ids.extend_from_slice(self.path(*row as usize));
            chosen.offsets.push(chosen.ids.len() as u64);
        }
        chosen
    }
}

impl Sessions {
    fn select(&self, order: &[u32]) -> Sessions {
        let mut place = vec![Sessions::NONE; self.session.len()];
        for (now, before) in order.iter().enumerate() {
            place[*before as usize] = now as u32;
        }
        let mut chosen = Sessions {
            count: self.count,
            names: self.names.clone(),
            session: pick(&self.session, order),
            offsets: vec![0],
            ..Sessions::default()
        };
        for row in order {
            for (after, delay_ns) in self.waits_for(*row as usize) {
                if place[after as usize] != Sessions::NONE {
                    chosen.after.push(place[after as usize]);
                    chosen.delay_ns.push(delay_ns);
                }
            }
            chosen.offsets.push(chosen.after.len() as u64);
        }
        chosen
    }
}
