//! Where what came of requests goes as they end: a row each, or a tally of all.

use super::gaps::Gaps;
use super::journal::Journal;
use super::requests::{One, Requests};
use super::tally::Tally;
use crate::error::Result;
use crate::request::{Rows, Workload};
use crate::scheduler::sequence::Status;
use crate::time::Clock;

/// What is kept of requests.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one a replica")]
pub enum Sink {
    /// A row each.
    Rows(Requests),
    /// Sums and sketches.
    Tally(Box<Tally>),
}

impl Default for Sink {
    fn default() -> Sink {
        Sink::Rows(Requests::default())
    }
}

impl Sink {
    /// No gaps yet, kept as long as what is kept of requests.
    pub fn gaps(&self) -> Gaps {
        match self {
            Sink::Rows(_) => Gaps::default(),
            Sink::Tally(tally) => Gaps::within(tally.asked().most),
        }
    }

    /// A journal that keeps what is needed beside, and stretches if it `writes`.
    pub fn journal(&self, writes: bool) -> Journal {
        match self {
            Sink::Rows(_) => Journal::new(writes),
            Sink::Tally(_) => Journal::forgetting(),
        }
    }

    /// Passes on why what was told was not taken, if that is so.
    ///
    /// # Errors
    /// That.
    pub fn check_taken(&self) -> Result<()> {
        match self {
            Sink::Rows(_) => Ok(()),
            Sink::Tally(tally) => tally.check_taken(),
        }
    }

    /// A request is sent at that second; `accepted` unless the engine refuses it.
    #[inline]
    pub fn sent(&mut self, row: u32, at_s: impl FnOnce() -> f64, accepted: bool) {
        if let Sink::Tally(tally) = self {
            tally.sent(row, at_s(), accepted);
        }
    }

    /// What came of the request of that number, a row of the workload, which will not change any more.
    #[inline]
    pub fn tell(&mut self, number: u32, row: u32, one: &One, journal: &mut Journal) {
        match self {
            Sink::Rows(requests) => requests.set(number as usize, one),
            Sink::Tally(tally) => {
                let interruptions = if one.preemptions > 0 { journal.take(number) } else { Vec::new() };
                tally.add(row, one, &interruptions);
            }
        }
    }

    /// All that were not sent, from that number on where they are sent in order, would have come at their arrivals.
    ///
    /// # Errors
    /// Why a stream ended early.
    pub fn expect_others<C: Clock>(
        &mut self,
        workload: Workload<'_>,
        rows: Rows<'_>,
        sent: u32,
    ) -> Result<()> {
        let expected = |row: u32| {
            let row = row as usize;
            One::expected(C::seconds(workload.arrival::<C>(row)), workload.prompt_tokens(row))
        };
        match self {
            Sink::Rows(requests) => {
                for (number, row) in rows.iter(workload.len()).enumerate() {
                    if requests.status[number] == Status::Expected {
                        requests.set(number, &expected(row));
                    }
                }
            }
            Sink::Tally(tally) => {
                let left = (sent..).map_while(|number| rows.row(number));
                for row in left.take_while(|&row| workload.has(row as usize)) {
                    tally.add(row, &expected(row), &[]);
                    workload.forget(|| Some(row));
                }
                tally.hand_on()?;
            }
        }
        workload.check_whole()
    }
}
