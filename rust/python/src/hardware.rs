//! Devices: by name, from a file, and the catalogue of those that are shipped.

use std::path::PathBuf;

use pyo3::prelude::*;
use roofline_core::catalog::hardware as catalog;
use roofline_core::hardware::{self, Hardware as Device};

use crate::enter::enter;
use crate::files;
use crate::table::Table;

/// A device and the machine around it.
#[pyclass(frozen, eq, module = "roofline_fast._core")]
#[derive(PartialEq)]
pub struct Hardware {
    pub device: Device,
    note: Option<String>,
}

#[pymethods]
impl Hardware {
    #[new]
    fn new(py: Python<'_>, name: &str) -> PyResult<Hardware> {
        let found = enter(py, || catalog::hardware(name))?;
        Ok(Hardware { device: found.item, note: found.note })
    }

    /// The device a TOML file describes.
    #[staticmethod]
    fn from_toml(py: Python<'_>, path: PathBuf) -> PyResult<Hardware> {
        let text = files::read(&path)?;
        let origin = path.display().to_string();
        let device = enter(py, || hardware::hardware_from_toml(&origin, &text))?;
        Ok(Hardware { device, note: None })
    }

    /// Every shipped device, one row each.
    #[staticmethod]
    fn catalog(py: Python<'_>) -> PyResult<Table> {
        Table::new(py, enter(py, catalog::hardware_table)?)
    }

    /// The names of all shipped devices.
    #[staticmethod]
    fn names() -> Vec<&'static str> {
        catalog::hardware_names().collect()
    }

    /// Every field with its unit and source, one row each.
    fn facts(&self, py: Python<'_>) -> PyResult<Table> {
        Table::new(py, hardware::facts(&self.device))
    }

    /// Its name (`h100-sxm`).
    #[getter]
    fn name(&self) -> &str {
        &self.device.name
    }

    /// As printed on screens (`H100-SXM`).
    #[getter]
    fn title(&self) -> &str {
        &self.device.title
    }

    /// How its name was understood, where it named a family and not one member.
    #[getter]
    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn __repr__(&self) -> String {
        format!("Hardware({:?})", self.device.name)
    }
}
