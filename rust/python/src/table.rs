//! Results on their way out: a table of the library as an Arrow stream.

use std::sync::Arc;

use arrow_array::builder::make_view;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeListArray, LargeStringArray, RecordBatch,
    RecordBatchOptions, StringViewArray, StructArray, UInt32Array, UInt64Array,
};
use arrow_buffer::{BooleanBuffer, BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;
use pyo3_arrow::ffi::{ArrayIterator, to_stream_pycapsule};
use rayon::prelude::*;
use roofline_core::table::{Column, Constant, Lists, Table as Rows, Texts};

use crate::errors;

/// Columns of equal length, read by anything that speaks Arrow: `polars.DataFrame(table)`.
#[pyclass(frozen, module = "roofline_fast._core")]
pub struct Table {
    /// Columns that differ from row to row; at least one, if there are any.
    varying: RecordBatch,
    /// The others: place among all columns, name, value.
    constants: Vec<(usize, String, Constant)>,
}

/// From so many rows on, values that all rows share are kept once.
const WORTH_KEEPING_ONCE: usize = 4096;

impl Table {
    /// Hands the columns over, without copying numbers.
    ///
    /// # Errors
    /// `InternalError` if the columns differ in length: [`Rows`] does not let that happen.
    pub fn new(py: Python<'_>, rows: Rows) -> PyResult<Table> {
        Table::checked(py, Table::of(rows))
    }

    /// The same without an interpreter: columns are converted side by side.
    ///
    /// # Errors
    /// Columns that differ in length.
    pub fn of(rows: Rows) -> Result<Table, ArrowError> {
        let mut varying = Rows::new();
        let mut constants = Vec::new();
        for (place, (name, column)) in rows.into_columns().into_iter().enumerate() {
            match column {
                Column::Constant(value, rows) if rows >= WORTH_KEEPING_ONCE => {
                    constants.push((place, name, value, rows));
                }
                _ => varying.push(name, column),
            }
        }
        if varying.columns().is_empty() && !constants.is_empty() {
            let (_, name, value, rows) = constants.remove(0);
            varying.push(name, Column::Constant(value, rows));
        }
        let constants = constants.into_iter().map(|(place, name, value, _)| (place, name, value)).collect();
        Ok(Table { varying: record_batch(varying)?, constants })
    }

    /// All columns in order, constants written out.
    fn whole(&self) -> Result<RecordBatch, ArrowError> {
        let rows = self.varying.num_rows();
        let mut columns: Vec<(FieldRef, ArrayRef)> =
            self.varying.schema_ref().fields().iter().cloned().zip(self.varying.columns().to_vec()).collect();
        for (place, name, value) in &self.constants {
            let (array, nullable) = arrow(Column::Constant(value.clone(), rows))?;
            let field = Arc::new(Field::new(name, array.data_type().clone(), nullable));
            columns.insert(*place, (field, array));
        }
        let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
    }

    /// What [`Table::of`] made.
    ///
    /// # Errors
    /// `InternalError` if it made none.
    pub fn checked(py: Python<'_>, table: Result<Table, ArrowError>) -> PyResult<Table> {
        table.map_err(|broken| errors::internal(py, &broken.to_string()))
    }
}

#[pymethods]
impl Table {
    /// How many rows it has.
    #[getter]
    fn num_rows(&self) -> usize {
        self.varying.num_rows()
    }

    /// The names of its columns, in order.
    #[getter]
    fn columns(&self) -> Vec<String> {
        let fields = self.varying.schema_ref().fields();
        let mut names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        self.constants.iter().for_each(|(place, name, _)| names.insert(*place, name.clone()));
        names
    }

    /// The columns that differ from row to row.
    #[getter]
    fn varying(&self) -> Table {
        Table { varying: self.varying.clone(), constants: Vec::new() }
    }

    /// Columns whose value all rows share: name, kind as polars calls it, value.
    #[getter]
    fn constants(&self, py: Python<'_>) -> PyResult<Vec<(String, &'static str, Py<PyAny>)>> {
        let each = |(_, name, value): &(usize, String, Constant)| {
            let (kind, value) = match value {
                Constant::F64(value) => ("Float64", value.into_py_any(py)),
                Constant::U64(value) => ("UInt64", value.into_py_any(py)),
                Constant::U32(value) => ("UInt32", value.into_py_any(py)),
                Constant::Bool(value) => ("Boolean", value.into_py_any(py)),
                Constant::Str(value) => ("String", value.into_py_any(py)),
            };
            Ok((name.clone(), kind, value?))
        };
        self.constants.iter().map(each).collect()
    }

    fn __len__(&self) -> usize {
        self.varying.num_rows()
    }

    fn __repr__(&self) -> String {
        format!("Table({} rows: {})", self.varying.num_rows(), self.columns().join(", "))
    }

    /// The Arrow PyCapsule interface: zero copy, any number of times.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let batch = self.whole().map_err(|broken| errors::internal(py, &broken.to_string()))?;
        let fields = DataType::Struct(batch.schema_ref().fields().clone());
        let rows: ArrayRef = Arc::new(StructArray::from(batch));
        let stream = ArrayIterator::new([Ok(rows)], Arc::new(Field::new("", fields, false)));
        Ok(to_stream_pycapsule(py, Box::new(stream), requested_schema)?)
    }
}

/// All columns in order, constants written out.
pub(crate) fn record_batch(rows: Rows) -> Result<RecordBatch, ArrowError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    let convert = |(name, column): (String, Column)| Ok((name, arrow(column)?));
    let columns: Vec<_> =
        rows.into_columns().into_par_iter().map(convert).collect::<Result<_, ArrowError>>()?;
    for (name, (array, nullable)) in columns {
        fields.push(Field::new(name, array.data_type().clone(), nullable));
        arrays.push(array);
    }
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}

/// The column as Arrow knows it, and whether it may hold nulls.
fn arrow(column: Column) -> Result<(ArrayRef, bool), ArrowError> {
    Ok(match column {
        Column::F64(rows) => (Arc::new(Float64Array::from(rows)), false),
        Column::OptF64(rows) => (Arc::new(Float64Array::from(rows)), true),
        Column::NanF64(rows) => {
            // No early end within a chunk: such a loop is vectorised.
            let any = |rows: &[f64]| rows.iter().fold(false, |any, row| any | row.is_nan());
            let unknown = rows.par_chunks(1 << 14).any(any);
            let known = || BooleanBuffer::collect_bool(rows.len(), |row| !rows[row].is_nan());
            let known = unknown.then(|| NullBuffer::new(known()));
            (Arc::new(Float64Array::try_new(rows.into(), known)?), true)
        }
        Column::U64(rows) => (Arc::new(UInt64Array::from(rows)), false),
        Column::OptU64(rows) => (Arc::new(UInt64Array::from(rows)), true),
        Column::U32(rows) => (Arc::new(UInt32Array::from(rows)), false),
        Column::I64(rows) => (Arc::new(Int64Array::from(rows)), false),
        Column::Bool(rows) => (Arc::new(BooleanArray::from(rows)), false),
        Column::Str(rows) => (Arc::new(LargeStringArray::from(rows)), false),
        Column::Texts(rows) => (texts(rows)?, false),
        Column::OptStr(rows) => (Arc::new(LargeStringArray::from(rows)), true),
        Column::Names(rows, names) => (names_column(&rows, &names)?, true),
        Column::NameRuns(runs, names) => (name_runs(&runs, &names)?, true),
        Column::Constant(value, rows) => (constant(value, rows)?, true),
        Column::ListU32(Lists { offsets, values }) => (lists(&offsets, UInt32Array::from(values))?, false),
        Column::ListU64(Lists { offsets, values }) => (lists(&offsets, UInt64Array::from(values))?, false),
    })
}

/// So many rows of one value.
fn constant(value: Constant, rows: usize) -> Result<ArrayRef, ArrowError> {
    Ok(match value {
        Constant::F64(Some(value)) => Arc::new(Float64Array::from(vec![value; rows])),
        Constant::F64(None) => Arc::new(Float64Array::try_new(vec![0.0; rows].into(), Some(no_rows(rows)))?),
        Constant::U64(Some(value)) => Arc::new(UInt64Array::from(vec![value; rows])),
        Constant::U64(None) => Arc::new(UInt64Array::try_new(vec![0; rows].into(), Some(no_rows(rows)))?),
        Constant::U32(value) => Arc::new(UInt32Array::from(vec![value; rows])),
        Constant::Bool(value) => Arc::new(BooleanArray::from(vec![value; rows])),
        Constant::Str(value) => name_runs(&[(0, rows)], value.as_slice())?,
    })
}

/// Rows of which none is known. Vectors of zeros are memory that nobody has to write.
fn no_rows(rows: usize) -> NullBuffer {
    NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(vec![0u8; rows.div_ceil(8)]), 0, rows))
}

/// One copy of each name, and a view of it.
fn views_of(names: &[String]) -> (Vec<u128>, Vec<u8>) {
    let mut texts = Vec::new();
    let mut views = Vec::with_capacity(names.len());
    for name in names {
        views.push(make_view(name.as_bytes(), 0, texts.len() as u32));
        texts.extend_from_slice(name.as_bytes());
    }
    (views, texts)
}

/// Rows whose views were made by [`views_of`] over these `texts`, or are the empty one.
#[expect(unsafe_code, reason = "checking every row again costs more than pricing it")]
fn of_views(views: ScalarBuffer<u128>, texts: Vec<u8>, nulls: Option<NullBuffer>) -> StringViewArray {
    // SAFETY: `views_of` makes views of whole texts, at the places where they stand in this buffer; texts are `String`s, so
    // they are UTF-8; the other view is 0, an empty text.
    unsafe { StringViewArray::new_unchecked(views, vec![Buffer::from_vec(texts)], nulls) }
}

/// Each row's name where equal ones stand together; null where there is no name at its place.
fn name_runs(runs: &[(u32, usize)], names: &[String]) -> Result<ArrayRef, ArrowError> {
    let (views, texts) = views_of(names);
    let rows = runs.iter().map(|(_, rows)| rows).sum();
    let known = |place: u32| (place as usize) < views.len();
    if !runs.iter().any(|(place, _)| known(*place)) {
        return Ok(Arc::new(of_views(vec![0; rows].into(), Vec::new(), Some(no_rows(rows)))));
    }
    let nulls = (!runs.iter().all(|(place, _)| known(*place))).then(|| {
        let mut bits = BooleanBufferBuilder::new(rows);
        runs.iter().for_each(|(place, rows)| bits.append_n(*rows, known(*place)));
        NullBuffer::new(bits.finish())
    });
    let mut each = Vec::with_capacity(rows);
    for (place, rows) in runs {
        each.resize(each.len() + rows, views.get(*place as usize).copied().unwrap_or(0));
    }
    Ok(Arc::new(of_views(each.into(), texts, nulls)))
}

/// Each row's name, as a view of the one copy of it; null where there is no name at its place.
fn names_column(rows: &[u32], names: &[String]) -> Result<ArrayRef, ArrowError> {
    let (views, texts) = views_of(names);
    let known = |row: &u32| (*row as usize) < views.len();
    let nulls = (!rows.iter().all(known)).then(|| NullBuffer::from_iter(rows.iter().map(known)));
    let each = rows.iter().map(|row| views.get(*row as usize).copied().unwrap_or(0));
    let views = ScalarBuffer::from_iter(each);
    Ok(Arc::new(of_views(views, texts, nulls)))
}

/// Texts as they lie in memory.
fn texts(rows: Texts) -> Result<ArrayRef, ArrowError> {
    let (offsets, bytes) = rows.into_parts();
    let offsets = ScalarBuffer::from_iter(offsets.into_iter().map(|offset| offset as i64));
    let texts =
        LargeStringArray::try_new(OffsetBuffer::new(offsets), Buffer::from_vec(bytes.into_bytes()), None)?;
    Ok(Arc::new(texts))
}

/// Lists of `values`; none of them is null, nor holds any.
fn lists(offsets: &[u64], values: impl Array + 'static) -> Result<ArrayRef, ArrowError> {
    let field = Arc::new(Field::new("item", values.data_type().clone(), false));
    let offsets = ScalarBuffer::from_iter(offsets.iter().map(|&offset| offset as i64));
    let lists = LargeListArray::try_new(field, OffsetBuffer::new(offsets), Arc::new(values), None)?;
    Ok(Arc::new(lists))
}
