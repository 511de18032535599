//! Tables of a simulation on their way to files, a part at a time.

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use roofline_core::names;
use roofline_core::table::Table as Rows;
use roofline_sim::error::{Error as SimError, Result as SimResult};
use roofline_sim::metrics::band::{self, Band};
use roofline_sim::metrics::requests::Requests;
use roofline_sim::metrics::tally::TakeRequests;
use roofline_sim::metrics::times;
use roofline_sim::report::Mark;
use roofline_sim::run::Simulation;

use crate::row_groups::{PART, RowGroups, Unwritten};

/// Requests with the band of their latencies.
pub fn of_requests(requests: &Requests, band: Option<Band>) -> Rows {
    band::of_table(requests.to_table(), &["ttft_s", "tpot_s", "e2e_s"], band)
}

/// Writes the table of that name; how many rows it has.
///
/// # Errors
/// An unknown name, a table that was not recorded, what the system says of the file.
pub fn write(
    mut out: RowGroups,
    served: &Simulation,
    band: Option<Band>,
    table: &str,
    interval_s: f64,
) -> Result<usize, Unwritten> {
    let requests = served.requests.len();
    // A table without rows has columns all the same.
    let parts = |rows: usize| (0..rows.max(1)).step_by(PART).map(move |first| first..rows.min(first + PART));
    match table {
        "requests" => {
            write_parts(&mut out, parts(requests), |rows| of_requests(&served.requests.part(rows), band))?;
        }
        "times" => {
            let divider = served.divider()?;
            write_parts(&mut out, parts(requests), |rows| {
                times::to_table(served.requests.ids_of(rows.clone()), &divider.of(rows))
            })?;
        }
        "stretches" => {
            let mut mark = Mark::default();
            for rows in parts(served.count_stretches()) {
                let (part, next) = served.stretches_from(mark, rows.len())?;
                out.write(part)?;
                mark = next;
            }
        }
        "steps" => out.write(band::of_steps(served.steps.to_table(), band))?,
        "timeline" => out.write(served.timeline(interval_s)?.to_table())?,
        _ => return Err(unknown(table).into()),
    }
    out.close()
}

/// Makes as many parts at a time as there are processors, and writes them in order.
fn write_parts(
    out: &mut RowGroups,
    parts: impl Iterator<Item = Range<usize>>,
    make: impl Fn(Range<usize>) -> Rows + Sync,
) -> Result<(), Unwritten> {
    let parts: Vec<_> = parts.collect();
    for some in parts.chunks(rayon::current_num_threads()) {
        let made: Vec<Rows> = some.par_iter().cloned().map(&make).collect();
        made.into_iter().try_for_each(|part| out.write(part))?;
    }
    Ok(())
}

fn unknown(table: &str) -> roofline_core::error::Error {
    names::unknown("table", table, ["requests", "times", "stretches", "steps", "timeline"])
}

/// Requests that are appended to a Parquet file as they end.
pub struct Appended {
    under_way: Mutex<(RowGroups, Option<Unwritten>)>,
}

impl Appended {
    /// To that file, which is made with the first of them.
    pub fn to(path: &Path) -> Appended {
        Appended { under_way: Mutex::new((RowGroups::new(path), None)) }
    }

    /// All of them are there.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn finish(&self) -> Result<(), Unwritten> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.1.take() {
            Some(failure) => Err(failure),
            None => under_way.0.close().map(|_| ()),
        }
    }
}

impl TakeRequests for Appended {
    fn take(&self, requests: Requests) -> SimResult<()> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let written = under_way.0.write(requests.to_table());
        written.map_err(|failure| {
            under_way.1 = Some(failure);
            SimError::Interrupted
        })
    }
}
