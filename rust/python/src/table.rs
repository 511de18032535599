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
    /// Columns that differ from row to row, in batches that follow one another; at least one, if there are any.
    varying: Vec<RecordBatch>,
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
        Table::checked(py, Table::of(vec![rows]))
    }

    /// Tables of the same columns, one behind the other, without an interpreter: they are converted side by side.
    ///
    /// # Errors
    /// Columns that differ in length or kind.
    pub fn of(tables: Vec<Rows>) -> Result<Table, ArrowError> {
        let mut constants = shared_by_all(&tables);
        if tables.first().is_some_and(|first| constants.len() == first.columns().len())
            && !constants.is_empty()
        {
            constants.remove(0);
        }
        let kept_once: Vec<usize> = constants.iter().map(|(place, ..)| *place).collect();
        let convert = |rows: Rows| {
            let columns = rows.into_columns().into_iter().enumerate();
            let varying = columns.filter(|(place, _)| !kept_once.contains(place)).map(|(_, column)| column);
            record_batch(varying.collect())
        };
        let varying = tables.into_par_iter().map(convert).collect::<Result<_, ArrowError>>()?;
        Ok(Table { varying, constants })
    }

    fn rows(&self) -> usize {
        self.varying.iter().map(RecordBatch::num_rows).sum()
    }

    fn fields(&self) -> &[FieldRef] {
        self.varying.first().map_or(&[], |batch| batch.schema_ref().fields())
    }

    /// All columns of a batch in order, constants written out.
    fn whole(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let rows = batch.num_rows();
        let mut columns: Vec<(FieldRef, ArrayRef)> =
            batch.schema_ref().fields().iter().cloned().zip(batch.columns().to_vec()).collect();
        for (place, name, value) in &self.constants {
            columns.insert(*place, column(name, Column::Constant(value.clone(), rows))?);
        }
        batch_of(columns, rows)
    }

    /// What [`Table::of`] made.
    ///
    /// # Errors
    /// `InternalError` if it made none.
    pub fn checked(py: Python<'_>, table: Result<Table, ArrowError>) -> PyResult<Table> {
        table.map_err(|broken| errors::internal(py, &broken.to_string()))
    }
}

/// Columns whose value all rows of all tables share, if there are enough rows: place, name, value.
fn shared_by_all(tables: &[Rows]) -> Vec<(usize, String, Constant)> {
    let Some(first) = tables.first() else { return Vec::new() };
    if tables.iter().map(Rows::len).sum::<usize>() < WORTH_KEEPING_ONCE {
        return Vec::new();
    }
    let shared = |(place, (name, column)): (usize, &(String, Column))| {
        let Column::Constant(value, _) = column else { return None };
        let same =
            |table: &Rows| matches!(&table.columns()[place].1, Column::Constant(other, _) if other == value);
        tables.iter().all(same).then(|| (place, name.clone(), value.clone()))
    };
    first.columns().iter().enumerate().filter_map(shared).collect()
}

#[pymethods]
impl Table {
    /// How many rows it has.
    #[getter]
    fn num_rows(&self) -> usize {
        self.rows()
    }

    /// The names of its columns, in order.
    #[getter]
    fn columns(&self) -> Vec<String> {
        let mut names: Vec<String> = self.fields().iter().map(|field| field.name().clone()).collect();
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
        self.rows()
    }

    fn __repr__(&self) -> String {
        format!("Table({} rows: {})", self.rows(), self.columns().join(", "))
    }

    /// The Arrow PyCapsule interface: zero copy, any number of times.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        let batches = self.varying.iter().map(|batch| self.whole(batch)).collect::<Result<Vec<_>, _>>();
        let batches = batches.map_err(|broken| errors::internal(py, &broken.to_string()))?;
        let fields = batches.first().map(|batch| batch.schema_ref().fields().clone()).unwrap_or_default();
        let field = Arc::new(Field::new("", DataType::Struct(fields), false));
        let rows: Vec<_> =
            batches.into_iter().map(|batch| Ok(Arc::new(StructArray::from(batch)) as ArrayRef)).collect();
        let stream = ArrayIterator::new(rows, field);
        Ok(to_stream_pycapsule(py, Box::new(stream), requested_schema)?)
    }
}

/// Columns in order, constants written out.
pub(crate) fn record_batch(columns: Vec<(String, Column)>) -> Result<RecordBatch, ArrowError> {
    let rows = columns.first().map_or(0, |(_, column)| column.len());
    let convert = |(name, values): (String, Column)| column(&name, values);
    batch_of(columns.into_par_iter().map(convert).collect::<Result<_, ArrowError>>()?, rows)
}

fn batch_of(columns: Vec<(FieldRef, ArrayRef)>, rows: usize) -> Result<RecordBatch, ArrowError> {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
}

/// A column and its field. Any column may hold nulls: one without them may stand beside one with some in another batch.
fn column(name: &str, column: Column) -> Result<(FieldRef, ArrayRef), ArrowError> {
    let array = arrow(column)?;
    Ok((Arc::new(Field::new(name, array.data_type().clone(), true)), array))
}

/// The column as Arrow knows it.
fn arrow(column: Column) -> Result<ArrayRef, ArrowError> {
    Ok(match column {
        Column::F64(rows) => Arc::new(Float64Array::from(rows)),
        Column::OptF64(rows) => Arc::new(Float64Array::from(rows)),
        Column::NanF64(rows) => {
            // No early end within a chunk: such a loop is vectorised.
            let any = |rows: &[f64]| rows.iter().fold(false, |any, row| any | row.is_nan());
            let unknown = rows.par_chunks(1 << 14).any(any);
            let known = || BooleanBuffer::collect_bool(rows.len(), |row| !rows[row].is_nan());
            let known = unknown.then(|| NullBuffer::new(known()));
            Arc::new(Float64Array::try_new(rows.into(), known)?)
        }
        Column::U64(rows) => Arc::new(UInt64Array::from(rows)),
        Column::OptU64(rows) => Arc::new(UInt64Array::from(rows)),
        Column::U32(rows) => Arc::new(UInt32Array::from(rows)),
        Column::I64(rows) => Arc::new(Int64Array::from(rows)),
        Column::Bool(rows) => Arc::new(BooleanArray::from(rows)),
        Column::Str(rows) => Arc::new(LargeStringArray::from(rows)),
        Column::Texts(rows) => texts(rows)?,
        Column::OptStr(rows) => Arc::new(LargeStringArray::from(rows)),
        Column::Names(rows, names) => names_column(&rows, &names)?,
        Column::NameRuns(runs, names) => name_runs(&runs, &names)?,
        Column::Constant(value, rows) => constant(value, rows)?,
        Column::ListU32(Lists { offsets, values }) => lists(&offsets, UInt32Array::from(values))?,
        Column::ListU64(Lists { offsets, values }) => lists(&offsets, UInt64Array::from(values))?,
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
