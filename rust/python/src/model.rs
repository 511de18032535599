//! Models: by name, from a `config.json`, and the catalogue of those that are shipped.

use std::path::PathBuf;

use pyo3::prelude::*;
use roofline_core::catalog::models as catalog;
use roofline_core::model::{Model as Layers, Task, hf};

use crate::enter::enter;
use crate::files;
use crate::table::Table;

/// A model as groups of equal layers.
#[pyclass(frozen, eq, module = "roofline_fast._core")]
#[derive(PartialEq)]
pub struct Model {
    pub model: Layers,
}

#[pymethods]
impl Model {
    #[new]
    fn new(py: Python<'_>, name: &str) -> PyResult<Model> {
        Ok(Model { model: enter(py, || catalog::model(name))? })
    }

    /// The model a Hugging Face `config.json`, or the folder that holds it, describes.
    #[staticmethod]
    fn from_config(py: Python<'_>, path: PathBuf) -> PyResult<Model> {
        let file = if path.is_dir() { path.join("config.json") } else { path };
        let text = files::read(&file)?;
        let name = file.display().to_string();
        Ok(Model { model: enter(py, || hf::model_from_json(&name, &text))? })
    }

    /// The model the text of a `config.json` describes; `name` is what messages call it.
    #[staticmethod]
    fn from_json(py: Python<'_>, name: &str, text: &str) -> PyResult<Model> {
        Ok(Model { model: enter(py, || hf::model_from_json(name, text))? })
    }

    /// The configuration of a shipped model, as the text of a `config.json`.
    #[staticmethod]
    fn shipped_config(py: Python<'_>, name: &str) -> PyResult<String> {
        enter(py, || catalog::model_config(name))
    }

    /// Where the facts of a shipped model come from.
    #[staticmethod]
    fn shipped_source(py: Python<'_>, name: &str) -> PyResult<String> {
        enter(py, || catalog::model_source(name))
    }

    /// Every shipped model, one row each.
    #[staticmethod]
    fn catalog(py: Python<'_>) -> PyResult<Table> {
        Table::new(py, enter(py, catalog::model_table)?)
    }

    /// The names of all shipped models.
    #[staticmethod]
    fn names() -> Vec<&'static str> {
        catalog::model_names()
    }

    /// Catalogue name, or the file it was read from.
    #[getter]
    fn name(&self) -> &str {
        &self.model.name
    }

    /// As printed on screens (`Llama-3.1-8B`).
    #[getter]
    fn title(&self) -> &str {
        &self.model.title
    }

    /// `model_type` of its configuration.
    #[getter]
    fn family(&self) -> &str {
        &self.model.family
    }

    /// Every parameter of the decoder; vision tower and multi-token-prediction layers apart.
    #[getter]
    fn parameters(&self) -> u64 {
        self.model.parameters()
    }

    /// The parameters a token meets: all but the routed experts it does not visit.
    #[getter]
    fn active_parameters(&self) -> u64 {
        self.model.active_parameters()
    }

    /// Every parameter of the vision tower; 0 where there is none.
    #[getter]
    fn vision_parameters(&self) -> u64 {
        self.model.vision_parameters()
    }

    /// How many layers there are, of any kind.
    #[getter]
    fn layers(&self) -> u64 {
        self.model.layers.iter().map(|group| group.count).sum()
    }

    /// Longest context it was made for, tokens.
    #[getter]
    fn max_context(&self) -> Option<u64> {
        self.model.max_context
    }

    /// Format of everything that is not quantized.
    #[getter]
    fn dtype(&self) -> String {
        self.model.dtype.to_string()
    }

    /// Name of the checkpoint's quantization, or `None`.
    #[getter]
    fn quantization(&self) -> Option<&str> {
        self.model.quantization.as_deref()
    }

    /// Whether it makes tokens one by one.
    #[getter]
    fn generates(&self) -> bool {
        self.model.task == Task::Decoder
    }

    /// Sentences about what was assumed or left out in reading it.
    #[getter]
    fn notes(&self) -> Vec<String> {
        self.model.notes.clone()
    }

    fn __repr__(&self) -> String {
        format!("Model({:?})", self.model.name)
    }
}
