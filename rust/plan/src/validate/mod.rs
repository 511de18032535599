//! Known measurements beside what is predicted for them: how far off, where, and what was not priced.

pub mod report;
pub mod modules;
pub mod kernels;
pub mod pairs;
pub mod serving;
pub mod servers;
pub mod driven;
pub mod points;
