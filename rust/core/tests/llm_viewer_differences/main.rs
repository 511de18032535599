//! `docs/llm-viewer.md` against both sides it speaks of: the tool, as reproduced, and the cost model of this library.
//!
//! `tool` holds the tool's side of the hand figures, `ours` what this library says where a line claims more than a
//! figure; `page` computes the effects of all lines anew and compares them with the page, letter by letter.

#![allow(clippy::unwrap_used, reason = "a test may stop")]

mod case;
mod effects;
mod ours;
mod page;
mod tool;
