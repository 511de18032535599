//! What is deployed: a model on hardware, spread by a layout, run in a precision.

use pyo3::prelude::*;
use roofline_core::efficiency::Efficiency;
use roofline_core::layout::Layout as Spread;
use roofline_core::lower::Lowering;
use roofline_core::op::elementwise::Fusion;
use roofline_core::precision::{Precision as Formats, Request};
use roofline_core::step::Deployment as Deployed;
use roofline_core::technique::{self, Said, Technique, expand};

use crate::enter::enter;
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
    #[pyo3(signature = (model, hardware, layout, precision, *, fusion="full", flash_attention=true, overlap=0.0,
        techniques=vec![], spec_method=None), text_signature = "(model, hardware, layout, precision, *, fusion='full', \
        flash_attention=True, overlap=0.0, techniques=..., spec_method=None)")]
    fn new(
        py: Python<'_>,
        model: &Model,
        hardware: &Hardware,
        layout: &Layout,
        precision: &Precision,
        fusion: &str,
        flash_attention: bool,
        overlap: f64,
        techniques: Vec<String>,
        spec_method: Option<String>,
    ) -> PyResult<Deployment> {
        let deployed = enter(py, || {
            let techniques = Technique::parse_all(&techniques)?;
            let said = Said {
                quantization: precision.said(),
                kv_cache_dtype: precision.request.kv_cache_dtype.clone(),
                fusion: Some(fusion.to_string()),
                flash_attention: Some(flash_attention),
                overlap: Some(overlap),
                spec_method,
            };
            said.once(&techniques)?;
            Deployed {
                model: model.model.clone(),
                hardware: hardware.device.clone(),
                layout: layout.spread(),
                precision: Formats::resolve(&model.model, &precision.request)?,
                lowering: Lowering { fusion: Fusion::parse(fusion)?, flash_attention },
                overlap,
                efficiency: Efficiency::Ideal,
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
        let speculation = speculation.as_ref().map(|(method, tokens, accept)| (method.as_str(), *tokens, accept.as_str()));
        expand(quantization, kv_cache_dtype, speculation)
    }

    /// Every kind of technique, one row each; or one of them as rows of field and value.
    #[staticmethod]
    #[pyo3(signature = (name=None))]
    fn technique_catalog(py: Python<'_>, name: Option<&str>) -> PyResult<Table> {
        let rows = enter(py, || name.map_or_else(|| Ok(technique::catalog()), technique::page))?;
        Table::new(py, rows)
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

    /// Where predictions come from (`datasheet`, `fitted(h100-sxm)`).
    #[getter]
    fn source(&self) -> String {
        self.deployed.efficiency.source().to_string()
    }
}
