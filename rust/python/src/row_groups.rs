//! Parquet files that are written part by part: each part is a row group, whose columns are compressed side by side.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use pyo3::prelude::*;
use rayon::prelude::*;
use roofline_core::error::Error as CoreError;
use roofline_core::table::Table as Rows;

use crate::errors::IntoPyErr;
use crate::files;
use crate::table::record_batch;

/// Rows of a part, about: a column of numbers is then half a megabyte.
pub const PART: usize = 1 << 16;

/// Why a file was not written.
pub enum Unwritten {
    /// There was nothing to write.
    Nothing(CoreError),
    /// The file could not be.
    File(PathBuf, io::Error),
}

impl From<CoreError> for Unwritten {
    fn from(error: CoreError) -> Unwritten {
        Unwritten::Nothing(error)
    }
}

impl IntoPyErr for Unwritten {
    fn into_py_err(self, py: Python<'_>) -> PyErr {
        match self {
            Unwritten::Nothing(error) => error.into_py_err(py),
            Unwritten::File(path, error) => files::failure(&path, &error),
        }
    }
}

/// A file under way; it is made with its first part.
pub struct RowGroups {
    path: PathBuf,
    open: Option<Open>,
}

struct Open {
    writer: SerializedFileWriter<BufWriter<File>>,
    columns: ArrowRowGroupWriterFactory,
    groups: usize,
    rows: usize,
}

impl RowGroups {
    /// Nothing is written yet.
    pub fn new(path: &Path) -> RowGroups {
        RowGroups { path: path.to_path_buf(), open: None }
    }

    /// Appends rows, which have the columns of those before.
    ///
    /// # Errors
    /// What the system says of the file.
    pub fn write(&mut self, rows: Rows) -> Result<(), Unwritten> {
        let appended = self.append(rows);
        appended.map_err(|error| Unwritten::File(self.path.clone(), error))
    }

    /// The file is whole; how many rows it has.
    ///
    /// # Errors
    /// What the system says of it.
    pub fn close(&mut self) -> Result<usize, Unwritten> {
        let Some(Open { writer, rows, .. }) = self.open.take() else { return Ok(0) };
        let closed = writer
            .into_inner()
            .map_err(of_parquet)
            .and_then(|buffer| buffer.into_inner().map_err(Into::into));
        closed.map(|_| rows).map_err(|error| Unwritten::File(self.path.clone(), error))
    }

    fn append(&mut self, rows: Rows) -> io::Result<()> {
        let batch = record_batch(rows.into_columns()).map_err(of_arrow)?;
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open::new(&self.path, batch.schema())?),
        };
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut leaves = Vec::with_capacity(batch.num_columns());
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            leaves.extend(compute_leaves(field, array).map_err(of_parquet)?);
        }
        let writers = open.columns.create_column_writers(open.groups).map_err(of_parquet)?;
        let compressed = writers.into_par_iter().zip(leaves).map(|(mut writer, leaf)| {
            writer.write(&leaf)?;
            writer.close()
        });
        let chunks = compressed.collect::<Result<Vec<_>, _>>().map_err(of_parquet)?;
        let mut group = open.writer.next_row_group().map_err(of_parquet)?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group).map_err(of_parquet)?;
        }
        group.close().map_err(of_parquet)?;
        open.groups += 1;
        open.rows += batch.num_rows();
        Ok(())
    }
}

impl Open {
    fn new(path: &Path, schema: SchemaRef) -> io::Result<Open> {
        let file = BufWriter::new(File::create(path)?);
        let properties = properties(&schema);
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(of_parquet)?;
        let (writer, columns) = writer.into_serialized_writer().map_err(of_parquet)?;
        Ok(Open { writer, columns, groups: 0, rows: 0 })
    }
}

/// How columns are kept: those whose values recur by a dictionary, times as they are.
fn properties(schema: &Schema) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_dictionary_enabled(false);
    for field in schema.fields() {
        let recurs = matches!(field.data_type(), DataType::UInt32 | DataType::Utf8View);
        let column = ColumnPath::from(field.name().as_str());
        properties = properties.set_column_dictionary_enabled(column, recurs);
    }
    properties.build()
}

fn of_parquet(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(system) => *system,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}

fn of_arrow(error: ArrowError) -> io::Error {
    io::Error::other(error)
}
