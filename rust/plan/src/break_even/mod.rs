//! Where a technique begins or ceases to pay: solved on the exact cost, in closed form or by halving.

mod halving;
mod turning;
mod pays;
mod cache;
mod map;

use roofline_core::analysis::Analyst;
use roofline_core::error::Result;
use roofline_core::memory::EngineMemory;
use roofline_core::point::{Point, Question};
use roofline_core::step::Deployment;
use roofline_core::table::{Column, Table};
use roofline_core::technique::Technique;

pub use map::bound_map;

/// Batches and contexts beyond which nothing is looked for.
const MOST: u64 = 1 << 24;

/// An answer: what it is, of which technique, the number, its unit, and what it means; `None` where that never happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its name (`speculation_pays_from`).
    pub name: &'static str,
    /// The technique that is compared with the same without it; empty where none is.
    pub technique: String,
    /// The number.
    pub value: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
    /// What it says, in a sentence.
    pub about: String,
}

impl Answer {
    fn new(name: &'static str, value: Option<f64>, unit: &'static str, about: impl Into<String>) -> Answer {
        Answer { name, technique: String::new(), value, unit, about: about.into() }
    }
}

/// What a deployment is made of, and what of it can be left out.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    /// With nothing but its layout, in the formats of the checkpoint.
    pub base: &'a Deployment,
    /// The same in the formats that flags ask for, without techniques.
    pub stem: &'a Deployment,
    /// The techniques.
    pub techniques: &'a [Technique],
}

/// Where the formats and techniques of a deployment begin and cease to pay for decode steps such as `point` asks about.
///
/// Each is compared with the same deployment without it alone; weights and activations of fewer bits are one. Where there
/// are several, all together are compared with `base` as well.
///
/// # Errors
/// A deployment that cannot be priced.
pub fn answers(made: &Made<'_>, point: &Point, engine: &EngineMemory) -> Result<Vec<Answer>> {
    let point = Point { question: Question::Decode, ..*point };
    let with = Analyst::new(made.stem.clone().with(made.techniques)?, engine)?;
    let without = Analyst::new(made.base.clone(), engine)?;
    let mut all = turning::answers(&with, &without)?;
    all.extend(pays::answers(made, &with, &without, &point, engine)?);
    all.extend(cache::answers(&with, &point)?);
    Ok(all)
}

/// The answers as columns.
pub fn table(answers: &[Answer]) -> Table {
    let text =
        |of: fn(&Answer) -> &str| Column::Str(answers.iter().map(|answer| of(answer).to_string()).collect());
    Table::new()
        .with("name", text(|answer| answer.name))
        .with("technique", text(|answer| &answer.technique))
        .with("value", Column::OptF64(answers.iter().map(|answer| answer.value).collect()))
        .with("unit", text(|answer| answer.unit))
        .with("about", text(|answer| &answer.about))
}
