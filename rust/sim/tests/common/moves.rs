//! A replica that is checked after every move.

use roofline_sim::client::{Client, Sender, Units};
use roofline_sim::engine::{Monitor, Replica};
use roofline_sim::metrics::requests::Requests;
use roofline_sim::metrics::sink::Sink;
use roofline_sim::metrics::steps::Record;
use roofline_sim::request::{Rows, Segments, Workload};
use roofline_sim::scheduler::config::EngineConfig;
use roofline_sim::step_cost::LinearCost;
use roofline_sim::time::FixedClock;
use roofline_sim::trace::Trace;

/// Serves the trace to its end; the law that is broken first, in words.
///
/// A simulation that is refused under way has nothing more to be checked.
pub fn conserved(
    trace: &Trace,
    segments: &Segments,
    config: &EngineConfig,
    cost: &LinearCost,
) -> Result<(), String> {
    let workload = Workload::new(trace, Some(segments)).unwrap();
    let monitor = Monitor::default();
    let client = Sender::new(&Client::default(), workload, &Units::of(trace), Rows::ALL, (0, 1));
    let told = (Record::Summary, Sink::Rows(Requests::expected(trace, false)));
    let mut replica =
        Replica::<FixedClock, _>::new(config, workload, Rows::ALL, client, 0, cost, told, &monitor).unwrap();
    for _ in 0..200_000 {
        if !replica.advance().unwrap_or(false) {
            return replica.check();
        }
        replica.check()?;
    }
    Err("a simulation must end".to_string())
}
