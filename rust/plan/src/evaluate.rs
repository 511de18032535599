//! A frame of configurations in, the same rows with results out.

use std::collections::HashMap;

use rayon::prelude::*;
use roofline_core::analysis::Analyst;
use roofline_core::batch::{BLOCK, Sizes};
use roofline_core::efficiency::Efficiency;
use roofline_core::efficiency::switches::as_run_by;
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::model::Model;
use roofline_core::names;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::table::Table;
use roofline_core::technique::{Said, Technique};

use crate::deployed::{Deployed, Desk, at_desk};
use crate::error::{Error, Result};
use crate::results::{Block, Measure, Results, Wanted};

/// What `mode` may be.
pub const MODES: [&str; 2] = ["predicted", "ideal"];

/// One value for every row, or one a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Values<T> {
    /// The same everywhere.
    All(T),
    /// One a row.
    Each(Vec<T>),
}

impl<T: Copy> Values<T> {
    /// The value of a row.
    pub fn at(&self, row: usize) -> T {
        match self {
            Values::All(value) => *value,
            Values::Each(values) => values[row],
        }
    }
}

/// A column of names, of which there are few: each row's place among them.
#[derive(Debug, Clone, PartialEq)]
pub struct Names {
    /// Place of a row's name.
    pub places: Values<u32>,
    /// The names.
    pub names: Vec<String>,
}

impl Names {
    /// The name of a row.
    pub fn at(&self, row: usize) -> &str {
        &self.names[self.places.at(row) as usize]
    }
}

/// The configurations of a frame, column by column. Models and devices are places in the lists beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct Configurations {
    /// Rows.
    pub rows: usize,
    /// The distinct models.
    pub models: Vec<Model>,
    /// The distinct devices.
    pub devices: Vec<Hardware>,
    /// How each device's memory is divided by the engine.
    pub engines: Vec<EngineMemory>,
    /// Model of a row.
    pub model: Values<u64>,
    /// Device of a row.
    pub hw: Values<u64>,
    /// Tensor parallelism.
    pub tp: Values<u64>,
    /// Pipeline stages.
    pub pp: Values<u64>,
    /// Data-parallel ranks.
    pub dp: Values<u64>,
    /// Devices that share the experts.
    pub ep: Values<u64>,
    /// Scheme by name, or `auto`.
    pub quantization: Names,
    /// KV cache format by name, or `auto`.
    pub kv_cache_dtype: Names,
    /// Sequences a rank.
    pub batch_size: Values<u64>,
    /// Prompt tokens, or context for decode.
    pub input_len: Values<u64>,
    /// Tokens generated.
    pub output_len: Values<u64>,
    /// Tokens cached in front of the input.
    pub prefix_len: Values<u64>,
    /// Largest prompt chunk.
    pub chunk: Values<u64>,
    /// What is asked about.
    pub phase: Names,
    /// Techniques, joined by `+`; `none` where there is none.
    pub techniques: Names,
    /// `predicted` or `ideal`.
    pub mode: Names,
    /// The engine's preset.
    pub engine: String,
    /// What predicts where `mode` says so.
    pub predicted: Efficiency,
}

impl Configurations {
    fn compile(&self, row: usize) -> roofline_core::error::Result<Deployed> {
        let model = self.models[self.model.at(row) as usize].clone();
        let device = self.hw.at(row) as usize;
        let request = Request {
            quantization: Some(self.quantization.at(row).to_string()),
            kv_cache_dtype: Some(self.kv_cache_dtype.at(row).to_string()),
            ..Request::default()
        };
        let techniques = Technique::parse_all(&[self.techniques.at(row)])?;
        let said = Said {
            quantization: request.quantization.clone(),
            kv_cache_dtype: request.kv_cache_dtype.clone(),
            ..Said::default()
        };
        said.once(&techniques)?;
        let precision = as_run_by(&self.engine, Precision::resolve(&model, &request)?, &request);
        let efficiency = match self.mode.at(row) {
            "predicted" => self.predicted.clone(),
            "ideal" => Efficiency::Ideal,
            other => return Err(names::unknown("mode", other, MODES)),
        };
        let deployment = Deployment {
            precision,
            model,
            hardware: self.devices[device].clone(),
            layout: Layout {
                tp: self.tp.at(row),
                pp: self.pp.at(row),
                dp: self.dp.at(row),
                ep: self.ep.at(row),
            },
            lowering: Lowering::default(),
            overlap: 0.0,
            efficiency,
            techniques: Default::default(),
        };
        Ok(Deployed::new(Analyst::new(deployment.with(&techniques)?, &self.engines[device])?))
    }

    /// The columns of sizes, in the order of [`Sizes`].
    fn sizes(&self) -> [&Values<u64>; 5] {
        [&self.batch_size, &self.input_len, &self.output_len, &self.prefix_len, &self.chunk]
    }

    fn point(&self, row: usize, question: Question) -> Point {
        Point {
            question,
            batch_size: self.batch_size.at(row),
            input_len: self.input_len.at(row),
            output_len: self.output_len.at(row),
            prefix_len: self.prefix_len.at(row),
            chunk: self.chunk.at(row),
        }
    }
}

/// Rows of one deployment under one question.
struct Group {
    deployed: Deployed,
    question: Question,
    rows: Rows,
}

/// Which rows.
enum Rows {
    /// Every row of the frame.
    All(usize),
    /// These, in order.
    Some(Vec<u32>),
}

impl Rows {
    fn len(&self) -> usize {
        match self {
            Rows::All(count) => *count,
            Rows::Some(rows) => rows.len(),
        }
    }

    fn at(&self, place: usize) -> usize {
        match self {
            Rows::All(_) => place,
            Rows::Some(rows) => rows[place] as usize,
        }
    }
}

/// Prices every row; only `columns` are returned (all results if empty), in tables that follow one another.
///
/// # Errors
/// An unknown column; the first row that is not possible, with its number; more than 2^32 rows.
pub fn evaluate(configurations: &Configurations, columns: &[String]) -> Result<Vec<Table>> {
    let wanted = Wanted::named(columns)?;
    let groups = grouped(configurations)?;
    let table = |results: Results| {
        let mut table = Table::new();
        results.into_table(wanted, &mut table);
        table
    };
    // Pieces are whole blocks, so that what a block shares is shared on any number of threads.
    const PIECE: usize = 64 * BLOCK;
    let priced = |group: &Group| -> Result<Vec<Results>> {
        let starts: Vec<usize> = (0..group.rows.len()).step_by(PIECE).collect();
        let price = |start: usize| {
            let places = start..(start + PIECE).min(group.rows.len());
            at_desk(|desk, block| piece(configurations, group, wanted, places, (desk, block)))
        };
        starts.into_par_iter().map(price).collect()
    };
    if let [group] = &*groups {
        return Ok(priced(group)?.into_par_iter().map(table).collect());
    }
    let mut lanes: Vec<(Measure, Vec<f64>)> =
        wanted.each().map(|measure| (measure, vec![0.0; configurations.rows])).collect();
    for group in &groups {
        let parts = priced(group)?;
        lanes.par_iter_mut().for_each(|(measure, lane)| {
            let values = parts.iter().flat_map(|part| part.lane(*measure));
            values.enumerate().for_each(|(place, value)| lane[group.rows.at(place)] = value);
        });
    }
    Ok(vec![table(Results::of(wanted, lanes))])
}

/// Tells the rows apart by what must be compiled for them, in the order in which it first occurs.
fn grouped(configurations: &Configurations) -> Result<Vec<Group>> {
    let rows = configurations.rows;
    if rows == 0 {
        return Ok(Vec::new());
    }
    if u32::try_from(rows).is_err() {
        return Err(
            roofline_core::error::Error::spec("frame", "must have fewer than 2^32 rows", rows, "").into()
        );
    }
    let mut ids = Ids::new(rows);
    for column in [
        &configurations.model,
        &configurations.hw,
        &configurations.tp,
        &configurations.pp,
        &configurations.dp,
        &configurations.ep,
    ] {
        if let Values::Each(values) = column {
            ids.refine(values.iter().copied());
        }
    }
    let named = [
        &configurations.quantization,
        &configurations.kv_cache_dtype,
        &configurations.phase,
        &configurations.mode,
        &configurations.techniques,
    ];
    for column in named {
        if let Values::Each(places) = &column.places {
            ids.refine(places.iter().map(|place| u64::from(*place)));
        }
    }
    let compile = |(first, rows): (usize, Rows)| {
        let at = |source| Error::Row { row: first, source };
        Ok(Group {
            deployed: configurations.compile(first).map_err(at)?,
            question: Question::parse(configurations.phase.at(first)).map_err(at)?,
            rows,
        })
    };
    ids.into_groups().into_iter().map(compile).collect()
}

/// A number for each row: equal where all columns seen so far are.
struct Ids {
    rows: usize,
    ids: Option<Vec<u32>>,
}

impl Ids {
    fn new(rows: usize) -> Ids {
        Ids { rows, ids: None }
    }

    fn refine(&mut self, values: impl Iterator<Item = u64>) {
        let mut known: HashMap<(u32, u64), u32> = HashMap::new();
        let mut last = None;
        let ids = self.ids.get_or_insert_with(|| vec![0; self.rows]);
        for (id, value) in ids.iter_mut().zip(values) {
            let pair = (*id, value);
            *id = match last {
                Some((same, found)) if same == pair => found,
                _ => {
                    let next = known.len() as u32;
                    *known.entry(pair).or_insert(next)
                }
            };
            last = Some((pair, *id));
        }
    }

    /// The first row of each group, and all of them, by first row.
    fn into_groups(self) -> Vec<(usize, Rows)> {
        let Some(ids) = self.ids else { return vec![(0, Rows::All(self.rows))] };
        let count = ids.iter().max().map_or(0, |most| *most as usize + 1);
        if count == 1 {
            return vec![(0, Rows::All(self.rows))];
        }
        let mut groups = vec![Vec::new(); count];
        for (row, id) in ids.iter().enumerate() {
            groups[*id as usize].push(row as u32);
        }
        groups.into_iter().map(|rows| (rows[0] as usize, Rows::Some(rows))).collect()
    }
}

/// Prices some rows of a group, by their places in it.
fn piece(
    configurations: &Configurations,
    group: &Group,
    wanted: Wanted,
    places: std::ops::Range<usize>,
    (desk, block): (&mut Desk, &mut Block),
) -> Result<Results> {
    let mut results = Results::room(wanted, places.len());
    let model = &group.deployed.analyst().deployment().model;
    let unknown = group.deployed.unknown(group.question).both(wanted);
    let mut start = places.start;
    let mut columns = [[0u64; BLOCK]; 5];
    while start < places.end {
        let count = BLOCK.min(places.end - start);
        let all = configurations.sizes();
        match &group.rows {
            Rows::All(_) => {
                for (column, values) in columns.iter_mut().zip(all) {
                    match values {
                        Values::All(value) => column[..count].fill(*value),
                        Values::Each(each) => column[..count].copy_from_slice(&each[start..start + count]),
                    }
                }
            }
            Rows::Some(rows) => {
                for (column, values) in columns.iter_mut().zip(all) {
                    let rows = rows[start..start + count].iter();
                    column.iter_mut().zip(rows).for_each(|(size, row)| *size = values.at(*row as usize));
                }
            }
        }
        // Rules about sizes are rules about the least and the greatest of them: one look tells whether any row breaks one.
        let ends = columns.each_ref().map(|column| {
            let ends = |(least, most): (u64, u64), size: &u64| (least.min(*size), most.max(*size));
            column[..count].iter().fold((u64::MAX, 0), ends)
        });
        let possible = |[batch_size, input_len, output_len, prefix_len, chunk]: [u64; 5]| {
            let question = group.question;
            Point { question, batch_size, input_len, output_len, prefix_len, chunk }.check(model).is_ok()
        };
        if !possible(ends.map(|(least, _)| least)) || !possible(ends.map(|(_, most)| most)) {
            for at in 0..count {
                let row = group.rows.at(start + at);
                let point = configurations.point(row, group.question);
                point.check(model).map_err(|source| Error::Row { row, source })?;
            }
        }
        let [batch_size, input_len, output_len, prefix_len, chunk] =
            columns.each_ref().map(|column| &column[..count]);
        let sizes = Sizes { batch_size, input_len, output_len, prefix_len, chunk };
        group.deployed.price(group.question, &sizes, wanted, desk, block);
        unknown.each().for_each(|measure| block.lane_mut(measure)[..count].fill(f64::NAN));
        results.push(block, count);
        start += count;
    }
    Ok(results)
}
