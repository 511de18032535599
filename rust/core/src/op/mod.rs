//! The operators: one formula family a file, each returning its work as coefficients.

pub mod linear;
pub mod attention;
pub mod mla;
pub mod moe;
pub mod state;
pub mod elementwise;
pub mod vocabulary;
