//! Traffic that nobody recorded: requests drawn from distributions, fitted to a trace, or scaled from one.
//!
//! A [`Spec`] is read from the words a user typed; [`Requests`] draws from it one request at a time, in constant memory,
//! and [`generate`] collects them into a [`Trace`](crate::trace::Trace). Arrivals, lengths and prefixes each draw from
//! a stream of their own: changing one leaves the others as they were.

mod stream;
mod text;
mod lengths;
mod empirical;
mod mixes;
mod arrivals;
mod rates;
mod prefixes;
mod fit;
mod spec;
mod generate;
mod arrive;
mod scale;

pub use arrivals::Process;
pub use fit::{Fitted, fit};
pub use generate::{Request, Requests, generate};
pub use lengths::Length;
pub use mixes::Lengths;
pub use prefixes::{Prefixes, Size};
pub use rates::{Rate, Stages};
pub use spec::Spec;
