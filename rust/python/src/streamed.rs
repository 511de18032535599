//! Traffic that is drawn as it is served: any number of requests, of which none is kept.

use roofline_core::error::Error as CoreError;
use roofline_sim::client::Client;
use roofline_sim::engine::Monitor;
use roofline_sim::error::Result;
use roofline_sim::metrics::steps::Record;
use roofline_sim::metrics::tally::Asked;
use roofline_sim::run::{self, Pace, Simulation};
use roofline_sim::serve::Server;
use roofline_sim::step_cost::LinearCost;
use roofline_sim::stream::{CountedCuts, Cut};
use roofline_sim::time::FixedClock;
use roofline_sim::trace::{OverContext, Trace};
use roofline_sim::workload::{Generated, Spec};

/// Requests of a stream that memory holds at once.
const MOST_UNDER_WAY: u64 = 8 << 20;

/// What is to be drawn, and what is asked of it.
pub struct Streamed<'a> {
    pub spec: &'a Spec,
    /// The first part of it.
    pub first: &'a Trace,
    pub over_context: OverContext,
    pub asked: &'a Asked,
    pub step_cost: Option<&'a str>,
}

impl Streamed<'_> {
    /// Serves all of it.
    ///
    /// # Errors
    /// What only requests in memory can have: steps that are kept, a technique by which they share prefixes; and those of
    /// [`run::stream`].
    pub fn serve(
        &self,
        server: &mut Server,
        client: &Client,
        record: Record,
        monitor: &Monitor,
    ) -> Result<Simulation> {
        if record != Record::Summary {
            let must = "must be summary where requests are drawn as they are served";
            let hint =
                "steps and requests are kept of traffic that fits memory: fewer requests (num_prompts)";
            return Err(CoreError::spec("record", must, "another", hint).into());
        }
        if server.held.prefix > 0 {
            let must = "must be left out where requests are drawn as they are served";
            let hint = "prefix_len says the same of generated requests";
            return Err(CoreError::spec("prefix-sharing", must, server.held.prefix, hint).into());
        }
        let cost = self.step_cost.map(LinearCost::parse).transpose()?;
        let engine = &server.engine;
        let longest = engine.max_model_len.unwrap_or(u32::MAX);
        let drawn = Generated::new(self.spec, &monitor.cancel);
        let counted = CountedCuts::default();
        let source = Cut { source: &drawn, longest, over_context: self.over_context, counted };
        let (pace, asked) = (Pace::default(), (self.asked, MOST_UNDER_WAY));
        let served = match cost {
            Some(cost) => run::stream::<FixedClock, _>(pace, &source, asked, client, engine, &cost, monitor)?,
            None => {
                run::stream::<FixedClock, _>(pace, &source, asked, client, engine, &server.cost, monitor)?
            }
        };
        server.notes.extend(source.counted.notes(longest));
        server.notes.extend(client.notes(self.first, server.engine.data_parallel));
        server.notes.extend(served.notes());
        let note = "requests are drawn as they are served, and forgotten when they are answered";
        server.notes.push(note.to_string());
        Ok(served)
    }
}
