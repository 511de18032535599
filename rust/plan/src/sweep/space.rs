//! A space of points: its axes, and the deployment that a point's settings describe.

use roofline_core::analysis::Analyst;
use roofline_core::catalog;
use roofline_core::efficiency::Efficiency;
use roofline_core::efficiency::switches::as_run_by;
use roofline_core::error::{Error, Result};
use roofline_core::hardware::Hardware;
use roofline_core::layout::Layout;
use roofline_core::lower::Lowering;
use roofline_core::memory::EngineMemory;
use roofline_core::model::Model;
use roofline_core::op::elementwise::Fusion;
use roofline_core::point::{Point, Question};
use roofline_core::precision::{Precision, Request};
use roofline_core::roof::Roof;
use roofline_core::step::Deployment;
use roofline_core::table::Table;
use roofline_core::technique::{Said, Technique};

use super::axis::{Axis, COUNT, Setting, Values};
use super::grid::{Grid, Stretch};
use super::runs::Runs;
use crate::deployed::Deployed;
use crate::evaluate::MODES;

/// Settings that only divide memory: their combinations are the engines of a device.
const ENGINE: std::ops::RangeInclusive<usize> =
    Setting::Engine as usize..=Setting::MaxNumBatchedTokens as usize;
/// A model to ask for formats by name.
const ANY_MODEL: &str = "llama-3.1-8b";
/// Settings of a point; those before them are of its deployment.
const FIRST_OF_POINT: usize = Setting::Phase as usize;

/// Every combination of the values of some axes.
#[derive(Debug, Clone)]
pub struct Space {
    models: Vec<Model>,
    devices: Vec<Hardware>,
    engines: Vec<EngineMemory>,
    /// What predicts under each engine.
    predicted: Vec<Efficiency>,
    /// One a setting, in order.
    values: Vec<Values>,
    /// Whether the user gave it.
    given: [bool; COUNT],
    questions: Vec<Question>,
    /// Whether the values of a setting are counts with a 0 among them.
    zeros: [bool; COUNT],
    grid: Grid,
}

impl Space {
    /// The space of these axes; a setting without one has its default value. `models` and `devices` are those that the
    /// axes of these names list; `engines` holds for each device every combination of the engine's settings, the last
    /// one changing fastest; `predicted` is what predicts under each engine.
    ///
    /// # Errors
    /// Every axis that is not possible, all at once; too many points.
    pub fn new(
        models: Vec<Model>,
        devices: Vec<Hardware>,
        engines: Vec<EngineMemory>,
        predicted: Vec<Efficiency>,
        axes: Vec<Axis>,
    ) -> Result<Space> {
        let mut errors: Vec<Error> = axes.iter().filter_map(|axis| axis.check().err()).collect();
        let mut values: Vec<Values> = Setting::ALL.into_iter().map(Setting::default).collect();
        let mut given = [false; COUNT];
        for Axis { setting, values: theirs } in axes {
            if std::mem::replace(&mut given[setting as usize], true) {
                errors.push(Error::spec(setting.name(), "must be given once", "twice", ""));
            }
            values[setting as usize] = theirs;
        }
        check_names(&values, &models, &mut errors);
        check_sizes(&values, &mut errors);
        Error::all("the space", errors)?;
        let lengths: Vec<u64> = values.iter().map(|values| values.len() as u64).collect();
        let combinations: u64 = lengths[ENGINE].iter().product();
        let lists = [
            ("model", models.len() as u64, lengths[Setting::Model as usize]),
            ("hw", devices.len() as u64, lengths[Setting::Hw as usize]),
            ("engine", engines.len() as u64, lengths[Setting::Hw as usize] * combinations),
            ("engine", predicted.len() as u64, lengths[Setting::Engine as usize]),
        ];
        for (name, length, expected) in lists {
            if length != expected {
                return Err(Error::spec(name, format!("must stand in a list of {expected}"), length, ""));
            }
        }
        let grid = Grid::new(lengths).ok_or_else(|| {
            Error::spec("the space", "must have fewer than 2^63 points", "more", "leave out some values")
        })?;
        let phases = &values[Setting::Phase as usize];
        let questions =
            (0..phases.len()).map(|at| Question::parse(phases.name(at))).collect::<Result<_>>()?;
        let zeros = std::array::from_fn(|setting| has_zero(&values[setting]));
        Ok(Space { models, devices, engines, predicted, values, given, questions, zeros, grid })
    }

    /// How many points there are.
    pub fn points(&self) -> u64 {
        self.grid.points()
    }

    /// Points that share one deployment: the first of them is a multiple of it.
    pub fn points_a_deployment(&self) -> u64 {
        self.grid.stride(FIRST_OF_POINT - 1)
    }

    /// Names of the axes that the user gave, in order.
    pub fn columns(&self) -> Vec<&'static str> {
        self.shown().map(Setting::name).collect()
    }

    /// How many values an axis has.
    pub fn length(&self, setting: Setting) -> usize {
        self.values[setting as usize].len()
    }

    fn shown(&self) -> impl Iterator<Item = Setting> {
        Setting::ALL.into_iter().filter(|setting| self.given[*setting as usize])
    }

    fn digit(&self, point: u64, setting: Setting) -> usize {
        self.grid.digit(point, setting as usize)
    }

    fn count(&self, point: u64, setting: Setting) -> u64 {
        self.values[setting as usize].count(self.digit(point, setting))
    }

    fn number(&self, point: u64, setting: Setting) -> f64 {
        self.values[setting as usize].number(self.digit(point, setting))
    }

    fn name(&self, point: u64, setting: Setting) -> &str {
        self.values[setting as usize].name(self.digit(point, setting))
    }

    /// The layout of a point's deployment.
    pub fn layout(&self, point: u64) -> Layout {
        Layout {
            tp: self.count(point, Setting::Tp),
            pp: self.count(point, Setting::Pp),
            dp: self.count(point, Setting::Dp),
            ep: self.count(point, Setting::Ep),
        }
    }

    /// Compiles a point's deployment.
    ///
    /// # Errors
    /// A combination that is not possible.
    pub fn deployed(&self, point: u64) -> Result<Deployed> {
        let model = self.model(point).clone();
        let device = self.digit(point, Setting::Hw);
        let bits = |setting| u32::try_from(self.count(point, setting)).ok().filter(|bits| *bits > 0);
        let request = Request {
            quantization: Some(self.name(point, Setting::Quantization).to_string()),
            kv_cache_dtype: Some(self.name(point, Setting::KvCacheDtype).to_string()),
            w_bits: bits(Setting::WBits),
            a_bits: bits(Setting::ABits),
        };
        let techniques = self.techniques(point, &request)?;
        let flash = Setting::FlashAttention;
        let mut lowering = Lowering {
            flash_attention: self.values[flash as usize].flag(self.digit(point, flash)),
            ..Lowering::default()
        };
        if let Some(level) = fusion(self.name(point, Setting::Fusion))? {
            (lowering.fusion, lowering.kernels) = (level, level);
        }
        let precision = Precision::resolve(&model, &request)?;
        let deployment = Deployment {
            precision: as_run_by(self.name(point, Setting::Engine), precision, &request),
            model,
            hardware: self.devices[device].clone(),
            layout: self.layout(point),
            lowering,
            overlap: self.number(point, Setting::Overlap),
            efficiency: match self.name(point, Setting::Mode) {
                "ideal" => Efficiency::Ideal,
                _ => self.predicted[self.digit(point, Setting::Engine)].clone(),
            },
            techniques: Default::default(),
        };
        let deployment = deployment.with(&techniques)?;
        let scale = |setting| self.number(point, setting);
        let roof = Roof::of(&deployment.hardware)?.faster(
            scale(Setting::ComputeScale),
            scale(Setting::BandwidthScale),
            scale(Setting::LinkScale),
        );
        let mut engine = device;
        for setting in ENGINE {
            engine = engine * self.values[setting].len() + self.grid.digit(point, setting);
        }
        Ok(Deployed::new(Analyst::on(&roof, deployment, &self.engines[engine])?))
    }

    /// The techniques of a point, those that axes of their own stand for among them.
    fn techniques(&self, point: u64, request: &Request) -> Result<Vec<Technique>> {
        let mut techniques = Technique::parse_all(&[self.name(point, Setting::Techniques)])?;
        let (method, drafts) =
            (self.name(point, Setting::SpecMethod), self.count(point, Setting::NumSpeculativeTokens));
        let drafting = method != "none" && drafts > 0;
        let bits = (request.w_bits, request.a_bits);
        let said = Said {
            quantization: match bits {
                (None, None) => request.quantization.clone(),
                _ => Some("w_bits".to_string()),
            },
            kv_cache_dtype: request.kv_cache_dtype.clone(),
            spec_method: drafting.then(|| method.to_string()),
            ..Said::default()
        };
        said.once(&techniques)?;
        if drafting {
            let accept = self.name(point, Setting::SpecAcceptance);
            let given = Some(accept).filter(|accept| *accept != "none");
            techniques.extend(Technique::parse_all(&[&speculation(method, drafts, given)])?);
        }
        Ok(techniques)
    }

    /// The model of a point.
    pub fn model(&self, point: u64) -> &Model {
        &self.models[self.digit(point, Setting::Model)]
    }

    /// The sizes of a point, and what is asked about it.
    pub fn point(&self, point: u64) -> Point {
        Point {
            question: self.questions[self.digit(point, Setting::Phase)],
            batch_size: self.count(point, Setting::BatchSize),
            input_len: self.count(point, Setting::InputLen),
            output_len: self.count(point, Setting::OutputLen),
            prefix_len: self.count(point, Setting::PrefixLen),
            chunk: self.count(point, Setting::Chunk),
        }
    }

    /// The size that changes fastest, its values, and whether 0 is among them: a run of so many points differs in nothing
    /// else.
    pub fn run(&self) -> (Setting, &[u64], bool) {
        const SIZES: [Setting; 5] =
            [Setting::InputLen, Setting::OutputLen, Setting::BatchSize, Setting::PrefixLen, Setting::Chunk];
        let varies = |setting: &Setting| self.length(*setting) > 1;
        let fastest = SIZES.into_iter().find(varies).unwrap_or(Setting::InputLen);
        match &self.values[fastest as usize] {
            Values::Counts(values) => (fastest, values, self.zeros[fastest as usize]),
            _ => (fastest, &[], false),
        }
    }

    /// Appends the columns of the axes named, or of all that the user gave, of some points.
    ///
    /// # Errors
    /// An axis that the space does not show.
    pub fn settings(&self, points: &Runs, names: Option<&[String]>, table: &mut Table) -> Result<()> {
        let known = self.columns();
        for name in names.unwrap_or_default() {
            if !known.contains(&name.as_str()) {
                return Err(roofline_core::names::unknown("axis", name, known));
            }
        }
        let asked =
            |setting: &Setting| names.is_none_or(|names| names.iter().any(|name| name == setting.name()));
        for setting in self.shown().filter(asked) {
            let stretches = |see: &mut dyn FnMut(Stretch)| {
                points.iter().for_each(|run| self.grid.stretches(run, setting as usize, &mut *see));
            };
            table.push(setting.name(), self.values[setting as usize].column(points.len(), &stretches));
        }
        Ok(())
    }

    /// The values of an axis, as a table of one column.
    ///
    /// # Errors
    /// An axis that the user did not give.
    pub fn values(&self, setting: Setting) -> Result<Table> {
        if !self.given[setting as usize] {
            return Err(roofline_core::names::unknown("axis", setting.name(), self.columns()));
        }
        let values = &self.values[setting as usize];
        let all = Stretch { digit: 0, rows: values.len(), ascending: true };
        Ok(Table::new().with(setting.name(), values.column(values.len(), &|see| see(all))))
    }

    /// The same axes with only some values of one, by place.
    ///
    /// # Errors
    /// A place that an axis does not have; no place at all.
    pub fn narrowed(&self, setting: Setting, places: &[usize]) -> Result<Space> {
        let values = &self.values[setting as usize];
        if places.is_empty() || places.iter().any(|place| *place >= values.len()) {
            let must = format!("must be narrowed to some of its {} values", values.len());
            return Err(Error::spec(setting.name(), must, places.len(), ""));
        }
        let mut space = self.clone();
        space.values[setting as usize] = match values {
            Values::Counts(values) => Values::Counts(places.iter().map(|place| values[*place]).collect()),
            Values::Numbers(values) => Values::Numbers(places.iter().map(|place| values[*place]).collect()),
            Values::Names(names) => Values::Names(places.iter().map(|place| names[*place].clone()).collect()),
            Values::Flags(values) => Values::Flags(places.iter().map(|place| values[*place]).collect()),
        };
        space.zeros[setting as usize] = has_zero(&space.values[setting as usize]);
        match setting {
            Setting::Model => space.models = places.iter().map(|place| self.models[*place].clone()).collect(),
            Setting::Engine => {
                space.predicted = places.iter().map(|place| self.predicted[*place].clone()).collect()
            }
            Setting::Phase => space.questions = places.iter().map(|place| self.questions[*place]).collect(),
            Setting::Hw => space.devices = places.iter().map(|place| self.devices[*place].clone()).collect(),
            _ => {}
        }
        space.engines = self.engines_of(setting, places);
        let lengths = space.values.iter().map(|values| values.len() as u64).collect();
        space.grid = Grid::new(lengths).unwrap_or_else(|| self.grid.clone());
        Ok(space)
    }

    /// The engines that are left when an axis is narrowed.
    fn engines_of(&self, setting: Setting, places: &[usize]) -> Vec<EngineMemory> {
        let mut lengths = vec![self.devices.len() as u64];
        lengths.extend(self.values[ENGINE].iter().map(|values| values.len() as u64));
        let axis = match setting as usize {
            at if at == Setting::Hw as usize => Some(0),
            at if ENGINE.contains(&at) => Some(at - ENGINE.start() + 1),
            _ => None,
        };
        let (Some(axis), Some(grid)) = (axis, Grid::new(lengths)) else { return self.engines.clone() };
        let kept = |engine: &u64| places.contains(&grid.digit(*engine, axis));
        (0..grid.points()).filter(kept).map(|engine| self.engines[engine as usize]).collect()
    }
}

fn has_zero(values: &Values) -> bool {
    matches!(values, Values::Counts(counts) if counts.contains(&0))
}

/// Drafts as one writes them.
fn speculation(method: &str, drafts: u64, accept: Option<&str>) -> String {
    let accept = accept.map(|accept| format!(",accept={accept}")).unwrap_or_default();
    format!("spec:method={method},gamma={drafts}{accept}")
}

/// The level that a name asks for; none for the mode's own choice.
fn fusion(name: &str) -> Result<Option<Fusion>> {
    if name == "auto" { Ok(None) } else { Fusion::parse(name).map(Some) }
}

/// Whether a name can be a value of a setting, whatever the others are.
///
/// # Errors
/// A name that nothing is known under, with the nearest.
pub fn check_name(setting: Setting, name: &str) -> Result<()> {
    let mut values: Vec<Values> = Setting::ALL.into_iter().map(Setting::default).collect();
    values[setting as usize] = Values::Names(vec![name.to_string()]);
    let mut errors = Vec::new();
    check_names(&values, &[catalog::models::model(ANY_MODEL)?], &mut errors);
    Error::all(setting.name(), errors)
}

/// Names that nothing is known under are mistakes, not points that are impossible.
fn check_names(values: &[Values], models: &[Model], errors: &mut Vec<Error>) {
    let axis = |setting: Setting| &values[setting as usize];
    let names = |setting: Setting| (0..axis(setting).len()).map(move |place| axis(setting).name(place));
    errors.extend(names(Setting::Phase).filter_map(|name| Question::parse(name).err()));
    errors.extend(names(Setting::Fusion).filter_map(|name| fusion(name).err()));
    errors.extend(names(Setting::Techniques).filter_map(|names| Technique::parse_all(&[names]).err()));
    for method in names(Setting::SpecMethod).filter(|method| *method != "none") {
        errors.extend(Technique::parse_all(&[&speculation(method, 1, Some("0.5"))]).err());
    }
    for accept in names(Setting::SpecAcceptance).filter(|accept| *accept != "none") {
        errors.extend(Technique::parse_all(&[&speculation("eagle", 1, Some(accept))]).err());
    }
    for mode in names(Setting::Mode).filter(|mode| !MODES.contains(mode)) {
        errors.push(roofline_core::names::unknown("mode", mode, MODES));
    }
    let Some(model) = models.first() else { return };
    let mut unknown = |request: Request| {
        if let Err(error @ Error::UnknownName { .. }) = Precision::resolve(model, &request) {
            errors.push(error);
        }
    };
    for name in names(Setting::Quantization) {
        unknown(Request { quantization: Some(name.to_string()), ..Request::default() });
    }
    for name in names(Setting::KvCacheDtype) {
        unknown(Request { kv_cache_dtype: Some(name.to_string()), ..Request::default() });
    }
}

/// Sizes that no question can have.
fn check_sizes(values: &[Values], errors: &mut Vec<Error>) {
    const LONGEST: u64 = 1 << 32;
    let least_one =
        [Setting::BatchSize, Setting::InputLen, Setting::Tp, Setting::Pp, Setting::Dp, Setting::Ep];
    for setting in Setting::ALL {
        let Values::Counts(counts) = &values[setting as usize] else { continue };
        let least = u64::from(least_one.contains(&setting));
        if counts.iter().any(|count| *count < least) {
            errors.push(Error::spec(setting.name(), "must be at least 1", 0, ""));
        }
        if let Some(count) = counts.iter().find(|count| **count >= LONGEST) {
            errors.push(Error::spec(setting.name(), "must be below 2^32", count, ""));
        }
    }
}
