//! What is deployed: a model on hardware, spread by a layout, run in a precision.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pyo3::prelude::*;
use roofline_core::catalog;
use roofline_core::efficiency::file::Set;
use roofline_core::efficiency::shipped;
use roofline_core::efficiency::switches::{
    ActQuant, HostTime, Launch, Switches, as_run_by, kernels_of, launch_time,
};
use roofline_core::efficiency::{Efficiency, Prediction};
use roofline_core::error::Error;
use roofline_core::layout::Layout as Spread;
use roofline_core::lower::Lowering;
use roofline_core::names;
use roofline_core::op::elementwise::Fusion;
use roofline_core::precision::{Precision as Formats, Request};
use roofline_core::step::Deployment as Deployed;
use roofline_core::technique::{self, Said, Technique, expand};

use crate::drafts::{self, Accepted, Drafts};
use crate::enter::enter;
use crate::files;
use crate::hardware::Hardware;
use crate::model::Model;
use crate::table::Table;

/// How a model is spread over devices.
#[pyclass(frozen, eq, get_all, module = "roofline_fast._core")]
#[derive(PartialEq, Clone)]
pub struct Layout {
    /// Tensor parallelism: devices that share every layer.
    tp: u64,
    /// Pipeline parallelism: stages of consecutive layers.
    pp: u64,
    /// Data parallelism: replicas.
    dp: u64,
    /// Expert parallelism: devices that share the experts.
    ep: u64,
}

#[pymethods]
impl Layout {
    #[new]
    #[pyo3(signature = (*, tp=1, pp=1, dp=1, ep=1))]
    fn new(tp: u64, pp: u64, dp: u64, ep: u64) -> Layout {
        Layout { tp, pp, dp, ep }
    }

    /// Devices in all.
    #[getter]
    fn gpus(&self) -> u64 {
        self.spread().gpus()
    }

    /// How it is pickled: nothing by position, everything by name.
    fn __getnewargs_ex__(&self) -> ((), HashMap<&'static str, u64>) {
        ((), HashMap::from([("tp", self.tp), ("pp", self.pp), ("dp", self.dp), ("ep", self.ep)]))
    }

    fn __repr__(&self) -> String {
        format!("Layout(tp={}, pp={}, dp={}, ep={})", self.tp, self.pp, self.dp, self.ep)
    }
}

impl Layout {
    fn spread(&self) -> Spread {
        Spread { tp: self.tp, pp: self.pp, dp: self.dp, ep: self.ep }
    }
}

/// In which formats a model is run; what is left out keeps the checkpoint's own choice.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Precision {
    request: Request,
}

#[pymethods]
impl Precision {
    #[new]
    #[pyo3(signature = (*, quantization=None, kv_cache_dtype=None, w_bits=None, a_bits=None))]
    fn new(
        quantization: Option<String>,
        kv_cache_dtype: Option<String>,
        w_bits: Option<u32>,
        a_bits: Option<u32>,
    ) -> Precision {
        Precision { request: Request { quantization, kv_cache_dtype, w_bits, a_bits } }
    }
}

impl Precision {
    /// What was said of weights and activations.
    fn said(&self) -> Option<String> {
        let bits = |letter: &str, bits: Option<u32>| bits.map(|bits| format!("{letter}{bits}"));
        let widths = bits("w", self.request.w_bits).into_iter().chain(bits("a", self.request.a_bits));
        self.request.quantization.clone().or_else(|| widths.reduce(|w, a| w + &a))
    }
}

/// A model on hardware, ready to be asked about.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Deployment {
    pub deployed: Deployed,
}

#[pymethods]
impl Deployment {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "keywords of a constructor, one a field")]
    #[pyo3(signature = (model, hardware, layout, precision, *, fusion=None, flash_attention=true, overlap=0.0,
        techniques=vec![], spec_method=None, speculation=None, engine="vllm", mode="predicted", efficiency=None,
        act_quant=None, launch=None, p2p=None, host=None), text_signature = "(model, hardware, layout, precision, *, fusion=None, \
        flash_attention=True, overlap=0.0, techniques=..., spec_method=None, speculation=None, engine='vllm', \
        mode='predicted', efficiency=None, act_quant=None, launch=None, p2p=None, host=None)")]
    fn new(
        py: Python<'_>,
        model: &Model,
        hardware: &Hardware,
        layout: &Layout,
        precision: &Precision,
        fusion: Option<&str>,
        flash_attention: bool,
        overlap: f64,
        techniques: Vec<String>,
        spec_method: Option<String>,
        speculation: Option<Drafts<'_>>,
        engine: &str,
        mode: &str,
        efficiency: Option<PathBuf>,
        act_quant: Option<&str>,
        launch: Option<&str>,
        p2p: Option<bool>,
        host: Option<(f64, f64, Option<f64>)>,
    ) -> PyResult<Deployment> {
        let sets = efficiency.map(|path| sets_of(py, &path)).transpose()?.unwrap_or_default();
        let (method, tokens, acceptance, drafter) = speculation.unwrap_or_default();
        let speculation = (method, tokens, acceptance, drafter.map(|drafter| drafter.model.clone()));
        let deployed = enter(py, || {
            let mut techniques = Technique::parse_all(&techniques)?;
            let (method, tokens, acceptance, drafter) = speculation;
            let drafts = drafts::technique(method.as_deref(), tokens, acceptance, drafter.as_ref())?;
            let said = Said {
                quantization: precision.said(),
                kv_cache_dtype: precision.request.kv_cache_dtype.clone(),
                fusion: fusion.map(str::to_string),
                flash_attention: Some(flash_attention),
                overlap: Some(overlap),
                spec_method: method.filter(|_| drafts.is_some()).or(spec_method),
            };
            said.once(&techniques)?;
            techniques.extend(drafts);
            let request = &precision.request;
            let resolved = Formats::resolve(&model.model, request)?;
            let mut lowering = Lowering { flash_attention, ..Lowering::default() };
            if let Some(level) = fusion.map(Fusion::parse).transpose()? {
                (lowering.fusion, lowering.kernels) = (level, level);
            }
            let efficiency = match mode {
                "ideal" => Efficiency::Ideal,
                "predicted" => predicted(engine, sets, act_quant, launch, p2p, host)?,
                _ => return Err(names::unknown("mode", mode, ["predicted", "ideal"])),
            };
            Deployed {
                model: model.model.clone(),
                hardware: hardware.device.clone(),
                layout: layout.spread(),
                precision: as_run_by(engine, resolved, request),
                lowering,
                overlap,
                efficiency,
                techniques: Default::default(),
            }
            .with(&techniques)
        })?;
        Ok(Deployment { deployed })
    }

    /// Devices in all, rounded up where a technique shares some of them.
    #[getter]
    fn gpus(&self) -> u64 {
        self.deployed.gpus().ceil() as u64
    }

    /// The techniques, in the order in which they are applied.
    #[getter]
    fn techniques(&self) -> Vec<String> {
        self.deployed.techniques.texts()
    }

    /// What flags stand for, in the grammar of techniques; speculation as (method, drafts, acceptance).
    #[staticmethod]
    #[pyo3(signature = (quantization=None, kv_cache_dtype=None, speculation=None))]
    fn expand(
        quantization: Option<&str>,
        kv_cache_dtype: Option<&str>,
        speculation: Option<(String, u64, String)>,
    ) -> Vec<String> {
        let speculation =
            speculation.as_ref().map(|(method, tokens, accept)| (method.as_str(), *tokens, accept.as_str()));
        expand(quantization, kv_cache_dtype, speculation)
    }

    /// Techniques in one text in which their order says nothing: as they are applied, joined by `+`; `none` for none.
    #[staticmethod]
    fn canonical(py: Python<'_>, techniques: Vec<String>) -> PyResult<String> {
        enter(py, || Technique::canonical(&techniques))
    }

    /// The technique that speculative flags stand for: method, drafts, acceptance, and the name of the model that drafts.
    #[staticmethod]
    #[pyo3(signature = (method=None, tokens=None, acceptance=None, model=None, *, priced=true))]
    fn drafts(
        py: Python<'_>,
        method: Option<&str>,
        tokens: Option<u32>,
        acceptance: Option<Accepted>,
        model: Option<&str>,
        priced: bool,
    ) -> PyResult<Option<String>> {
        enter(py, || drafts::text(method, tokens, acceptance, model, priced))
    }

    /// All mistakes of techniques that are applied together: which text, which of those it joins, the setting (or
    /// nothing), what must hold and what was, a hint.
    #[staticmethod]
    fn mistakes(techniques: Vec<String>) -> Vec<(usize, usize, String, String, String)> {
        let said = |error: &Error| match error {
            Error::UnknownName { kind, name, .. } => format!("must be a known {kind}: {name}"),
            Error::Spec { field, .. } if field.starts_with("techniques.") => "is not known".to_string(),
            Error::Spec { must, value, .. } => format!("{must}: {value}"),
            _ => error.to_string(),
        };
        let found = technique::mistakes(&techniques).into_iter();
        found.map(|one| (one.text, one.part, one.key, said(&one.error), one.error.hint())).collect()
    }

    /// Every kind of technique, one row each; or one of them as rows of field and value.
    #[staticmethod]
    #[pyo3(signature = (name=None))]
    fn technique_catalog(py: Python<'_>, name: Option<&str>) -> PyResult<Table> {
        let rows = enter(py, || name.map_or_else(|| Ok(technique::catalog()), technique::page))?;
        Table::new(py, rows)
    }

    /// The same where everything takes `factor` times as long as predicted.
    fn scaled(&self, factor: f64) -> Deployment {
        let mut deployed = self.deployed.clone();
        if let Efficiency::Predicted(prediction) = &deployed.efficiency {
            let mut slower = (**prediction).clone();
            slower.sets.insert(0, slower.scaled(&deployed.hardware, factor));
            deployed.efficiency = Efficiency::Predicted(Arc::new(slower));
        }
        Deployment { deployed }
    }

    /// What the weights are stored as, in words (`fp8`).
    #[getter]
    fn weights_format(&self) -> &str {
        &self.deployed.precision.weights_name
    }

    /// What the KV cache is stored as (`bf16`).
    #[getter]
    fn kv_format(&self) -> String {
        self.deployed.precision.kv.format.to_string()
    }

    /// Where predictions come from (`datasheet`, `fitted(h100-sxm/vllm)`): the fit of the matrix multiplications.
    #[getter]
    fn source(&self, py: Python<'_>) -> PyResult<String> {
        enter(py, || Ok::<_, Error>(self.deployed.compile()?.source().to_string()))
    }
}

/// The fits a user names, best first: one or several, apart by commas.
///
/// # Errors
/// A file that cannot be read, or is no efficiency file: every mistake.
pub fn sets_of(py: Python<'_>, path: &Path) -> PyResult<Vec<Set>> {
    match path.to_str().filter(|text| text.contains(',') && !path.exists()) {
        Some(several) => several.split(',').map(|one| set_of(py, Path::new(one.trim()))).collect(),
        None => Ok(vec![set_of(py, path)?]),
    }
}

/// The fits of a user's own file, or, where there is none of that name, those shipped for the device it names: they then
/// stand for the fits of any device.
///
/// # Errors
/// A file that cannot be read, or is no efficiency file: every mistake.
fn set_of(py: Python<'_>, path: &Path) -> PyResult<Set> {
    let shipped = path.to_str().filter(|_| !path.exists()).and_then(|name| {
        let device = catalog::hardware::hardware(name).ok()?.item.name;
        shipped::FILES.iter().find(|file| file.device == device)
    });
    if let Some(shipped) = shipped {
        return Ok(Set { stands_in: true, ..shipped.set().clone() });
    }
    let text = files::read(path)?;
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into());
    enter(py, || Ok::<_, Error>(Set { origin: Some(name.clone()), ..Set::parse(&name, &text)? }))
}

/// Predictions as an engine's defaults and what is switched otherwise make them.
///
/// # Errors
/// An unknown name of a switch, a host's time that is none.
pub fn predicted(
    engine: &str,
    sets: Vec<Set>,
    act_quant: Option<&str>,
    launch: Option<&str>,
    p2p: Option<bool>,
    host: Option<(f64, f64, Option<f64>)>,
) -> Result<Efficiency, Error> {
    let engine = kernels_of(engine);
    let switches = Switches {
        act_quant: act_quant.map(ActQuant::parse).transpose()?,
        launch: launch.map(Launch::parse).transpose()?.unwrap_or_default(),
        p2p,
        host: host.map(|(h0_s, h1_s, _)| HostTime::of(h0_s, h1_s)).transpose()?,
        launch_s: host.and_then(|(.., launch_s)| launch_s).map(launch_time).transpose()?,
        under_load: None,
    };
    let prediction = Prediction { engine: engine.to_string(), sets, switches };
    Ok(Efficiency::Predicted(Arc::new(prediction)))
}
