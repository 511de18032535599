//! Traffic that nobody recorded: requests drawn from distributions, fitted to a trace, or scaled from one.
//!
//! A [`Spec`] is read from the words a user typed; [`Requests`] draws from it one request at a time, in constant memory,
//! and [`generate`] collects them into a [`Trace`](crate::trace::Trace). Arrivals, lengths and prefixes each draw from
//! a stream of their own: changing one leaves the others as they were.

mod draws;
mod text;
mod lengths;
mod empirical;
mod mixes;
mod arrivals;
mod rates;
mod prefixes;
mod labels;
mod servegen;
mod fit;
mod request;
mod conversations;
mod spec;
mod generate;
mod arrive;
mod scale;
mod prefix_scale;
mod reshape;

pub use arrivals::Process;
pub use conversations::Conversations;
pub use fit::{Fitted, fit};
pub use generate::{Generated, Parts, Requests, generate};
pub use labels::Names;
pub use lengths::Length;
pub use mixes::Lengths;
pub use prefixes::{Prefixes, Size};
pub use rates::{Rate, Stages};
pub use request::Request;
pub use reshape::Reshape;
pub use servegen::Clients;
pub use spec::Spec;
