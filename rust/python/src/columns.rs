//! Columns on their way in: numpy arrays, polars columns, anything with the Arrow or the buffer interface.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use pyo3::buffer::{Element, PyBuffer};
use pyo3::prelude::*;
use pyo3_arrow::input::AnyArray;
use roofline_core::table::Lists;
use roofline_plan::calibrate::frame::Words;

use crate::errors;

/// Numbers as they came: whole ones exact, the others as floats.
enum Numbers {
    Signed(Vec<i64>),
    Unsigned(Vec<u64>),
    Floats(Vec<f64>),
}

/// A column of numbers, as floats.
///
/// # Errors
/// `SpecError` naming `field` if it is not a column of numbers, or holds nulls.
pub fn floats(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<f64>> {
    Ok(match numbers(value, field)? {
        Numbers::Signed(rows) => rows.into_iter().map(|row| row as f64).collect(),
        Numbers::Unsigned(rows) => rows.into_iter().map(|row| row as f64).collect(),
        Numbers::Floats(rows) => rows,
    })
}

/// A column of counts: whole numbers, none negative.
///
/// # Errors
/// `SpecError` naming `field` if it is not, or holds nulls.
pub fn counts(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<u64>> {
    match numbers(value, field)? {
        Numbers::Unsigned(rows) => Ok(rows),
        Numbers::Signed(rows) => not_negative(value.py(), rows, field),
        Numbers::Floats(_) => Err(not_whole(value.py(), field)),
    }
}

/// A column of whole numbers of either sign.
///
/// # Errors
/// `SpecError` naming `field` if it is not, or holds nulls.
pub fn integers(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<i64>> {
    match numbers(value, field)? {
        Numbers::Signed(rows) => Ok(rows),
        Numbers::Unsigned(rows) => rows
            .into_iter()
            .map(i64::try_from)
            .collect::<Result<_, _>>()
            .map_err(|_| errors::spec(value.py(), field, "must be below 2^63", "a larger number", "")),
        Numbers::Floats(_) => Err(not_whole(value.py(), field)),
    }
}

/// A column of texts.
///
/// # Errors
/// `SpecError` naming `field` if it is not, or holds nulls.
pub fn texts(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<String>> {
    let wrong = |what: String| {
        errors::spec(value.py(), field, "must be a column of texts", what, "pass a list or a polars column")
    };
    if let Ok(list) = value.extract::<Vec<String>>() {
        return Ok(list);
    }
    let mut rows = Vec::new();
    for chunk in arrow_chunks(value)?.ok_or_else(|| wrong(type_name(value)))? {
        refuse_nulls(value.py(), &chunk, field)?;
        match chunk.data_type() {
            DataType::Utf8 => rows.extend(chunk.as_string::<i32>().iter().flatten().map(str::to_string)),
            DataType::LargeUtf8 => rows.extend(chunk.as_string::<i64>().iter().flatten().map(str::to_string)),
            DataType::Utf8View => rows.extend(chunk.as_string_view().iter().flatten().map(str::to_string)),
            other => return Err(wrong(other.to_string())),
        }
    }
    Ok(rows)
}

/// A column of texts of which there are few: each row's place among the distinct ones, in the order of their first rows.
///
/// # Errors
/// `SpecError` naming `field` if it is not, or holds nulls.
pub fn names(value: &Bound<'_, PyAny>, field: &str) -> PyResult<(Vec<u32>, Vec<String>)> {
    let mut names = Distinct::default();
    if arrow_chunks(value)?.is_none() {
        texts(value, field)?.iter().for_each(|text| names.push(text));
        return Ok((names.places, names.names));
    }
    for chunk in arrow_chunks(value)?.unwrap_or_default() {
        refuse_nulls(value.py(), &chunk, field)?;
        match chunk.data_type() {
            DataType::Utf8View => chunk.as_string_view().iter().flatten().for_each(|text| names.push(text)),
            DataType::LargeUtf8 => {
                chunk.as_string::<i64>().iter().flatten().for_each(|text| names.push(text))
            }
            DataType::Utf8 => chunk.as_string::<i32>().iter().flatten().for_each(|text| names.push(text)),
            _ => texts(value, field)?.iter().for_each(|text| names.push(text)),
        }
    }
    Ok((names.places, names.names))
}

/// Distinct texts while they are found.
#[derive(Default)]
struct Distinct {
    places: Vec<u32>,
    names: Vec<String>,
    known: HashMap<String, u32>,
}

impl Distinct {
    fn push(&mut self, text: &str) {
        let last = self.places.last().copied();
        if let Some(last) = last.filter(|last| self.names[*last as usize] == text) {
            self.places.push(last);
            return;
        }
        let place = match self.known.get(text) {
            Some(place) => *place,
            None => {
                let place = self.names.len() as u32;
                self.known.insert(text.to_string(), place);
                self.names.push(text.to_string());
                place
            }
        };
        self.places.push(place);
    }
}

/// A column of texts as places in a list of words, nulls as the empty one.
///
/// # Errors
/// `SpecError` naming `field` if it is not a column of texts.
pub fn words(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Words> {
    let wrong = |what: String| errors::spec(value.py(), field, "must be a column of texts", what, "");
    let mut words = Interner::default();
    for chunk in arrow_chunks(value)?.ok_or_else(|| wrong(type_name(value)))? {
        match chunk.data_type() {
            DataType::Utf8 => chunk.as_string::<i32>().iter().for_each(|word| words.push(word)),
            DataType::LargeUtf8 => chunk.as_string::<i64>().iter().for_each(|word| words.push(word)),
            DataType::Utf8View => chunk.as_string_view().iter().for_each(|word| words.push(word)),
            other => return Err(wrong(other.to_string())),
        }
    }
    Ok(words.words)
}

/// Words while they are gathered.
#[derive(Default)]
struct Interner {
    words: Words,
    places: HashMap<String, u32>,
}

impl Interner {
    fn push(&mut self, word: Option<&str>) {
        let word = word.unwrap_or_default();
        let code = self.places.get(word).copied().unwrap_or_else(|| {
            let code = self.words.list.len() as u32;
            self.words.list.push(word.to_string());
            self.places.insert(word.to_string(), code);
            code
        });
        self.words.codes.push(code);
    }
}

/// A column of lists of counts: a list column, or a sequence of sequences (lists, arrays, columns).
///
/// # Errors
/// `SpecError` naming `field` if it is not, or holds nulls.
pub fn lists(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Lists<u64>> {
    let mut lists = Lists::default();
    match arrow_chunks(value)? {
        Some(chunks) => {
            for chunk in chunks {
                append_chunk(value.py(), &mut lists, &chunk, field)?;
            }
        }
        None => {
            let rows = value.try_iter().map_err(|_| not_lists(value.py(), field, type_name(value)))?;
            for row in rows {
                lists.push(list(&row?, field)?);
            }
        }
    }
    Ok(lists)
}

/// One row of a sequence of lists.
fn list(row: &Bound<'_, PyAny>, field: &str) -> PyResult<Vec<u64>> {
    if let Ok(counts) = row.extract::<Vec<u64>>() {
        return Ok(counts);
    }
    match numbers(row, field) {
        Ok(Numbers::Unsigned(counts)) => Ok(counts),
        Ok(Numbers::Signed(counts)) => not_negative(row.py(), counts, field),
        Ok(Numbers::Floats(none)) if none.is_empty() => Ok(Vec::new()),
        Ok(Numbers::Floats(_)) => Err(not_whole(row.py(), field)),
        Err(_) => {
            let shown = row.repr().map_or_else(|_| type_name(row), |text| text.to_string());
            let shown = if shown.chars().count() > 60 { type_name(row) } else { shown };
            Err(not_lists(row.py(), field, shown))
        }
    }
}

/// The rows of an Arrow list array of any kind.
fn append_chunk(py: Python<'_>, lists: &mut Lists<u64>, chunk: &ArrayRef, field: &str) -> PyResult<()> {
    refuse_nulls(py, chunk, field)?;
    let (values, ends): (ArrayRef, Vec<usize>) = match chunk.data_type() {
        DataType::List(_) => {
            let array = chunk.as_list::<i32>();
            (Arc::clone(array.values()), array.value_offsets().iter().map(|&end| end as usize).collect())
        }
        DataType::LargeList(_) => {
            let array = chunk.as_list::<i64>();
            (Arc::clone(array.values()), array.value_offsets().iter().map(|&end| end as usize).collect())
        }
        DataType::FixedSizeList(_, width) => {
            let (array, width) = (chunk.as_fixed_size_list(), *width as usize);
            (Arc::clone(array.values()), (0..=array.len()).map(|row| row * width).collect())
        }
        other => return Err(not_lists(py, field, other.to_string())),
    };
    let first = ends.first().copied().unwrap_or(0);
    let used = values.slice(first, ends.last().copied().unwrap_or(0) - first);
    let values = match from_arrow(py, &[used], field)? {
        Numbers::Unsigned(values) => values,
        Numbers::Signed(values) => not_negative(py, values, field)?,
        Numbers::Floats(_) => return Err(not_whole(py, field)),
    };
    for row in ends.windows(2) {
        lists.push(values[row[0] - first..row[1] - first].iter().copied());
    }
    Ok(())
}

fn numbers(value: &Bound<'_, PyAny>, field: &str) -> PyResult<Numbers> {
    match arrow_chunks(value)? {
        Some(chunks) => from_arrow(value.py(), &chunks, field),
        None => from_buffer(value).ok_or_else(|| not_numbers(value.py(), field, type_name(value))),
    }
}

/// Its chunks, if it speaks Arrow: both the array and the stream interface.
fn arrow_chunks(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<ArrayRef>>> {
    if !value.hasattr("__arrow_c_stream__")? && !value.hasattr("__arrow_c_array__")? {
        return Ok(None);
    }
    let chunked = value.extract::<AnyArray>()?.into_chunked_array()?;
    Ok(Some(chunked.chunks().to_vec()))
}

fn from_arrow(py: Python<'_>, chunks: &[ArrayRef], field: &str) -> PyResult<Numbers> {
    let Some(first) = chunks.first() else { return Ok(Numbers::Unsigned(Vec::new())) };
    for chunk in chunks {
        refuse_nulls(py, chunk, field)?;
    }
    match first.data_type() {
        DataType::Float64 => Ok(Numbers::Floats(gather::<Float64Type, f64>(chunks))),
        DataType::Float32 => Ok(Numbers::Floats(gather::<Float32Type, f64>(chunks))),
        DataType::Int64 => Ok(Numbers::Signed(gather::<Int64Type, i64>(chunks))),
        DataType::Int32 => Ok(Numbers::Signed(gather::<Int32Type, i64>(chunks))),
        DataType::Int16 => Ok(Numbers::Signed(gather::<Int16Type, i64>(chunks))),
        DataType::Int8 => Ok(Numbers::Signed(gather::<Int8Type, i64>(chunks))),
        DataType::UInt64 => Ok(Numbers::Unsigned(gather::<UInt64Type, u64>(chunks))),
        DataType::UInt32 => Ok(Numbers::Unsigned(gather::<UInt32Type, u64>(chunks))),
        DataType::UInt16 => Ok(Numbers::Unsigned(gather::<UInt16Type, u64>(chunks))),
        DataType::UInt8 => Ok(Numbers::Unsigned(gather::<UInt8Type, u64>(chunks))),
        DataType::Null if chunks.iter().all(|chunk| chunk.is_empty()) => Ok(Numbers::Unsigned(Vec::new())),
        other => Err(not_numbers(py, field, other.to_string())),
    }
}

/// The values of all chunks, widened.
fn gather<T: ArrowPrimitiveType, W: From<T::Native>>(chunks: &[ArrayRef]) -> Vec<W> {
    let mut rows = Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum());
    for chunk in chunks {
        rows.extend(chunk.as_primitive::<T>().values().iter().map(|value| W::from(*value)));
    }
    rows
}

/// The values behind the buffer interface (numpy arrays, `array.array`), strided or not.
fn from_buffer(value: &Bound<'_, PyAny>) -> Option<Numbers> {
    copy::<f64, f64>(value)
        .or_else(|| copy::<f32, f64>(value))
        .map(Numbers::Floats)
        .or_else(|| copy::<i64, i64>(value).or_else(|| copy::<i32, i64>(value)).map(Numbers::Signed))
        .or_else(|| copy::<i16, i64>(value).or_else(|| copy::<i8, i64>(value)).map(Numbers::Signed))
        .or_else(|| copy::<u64, u64>(value).or_else(|| copy::<u32, u64>(value)).map(Numbers::Unsigned))
        .or_else(|| copy::<u16, u64>(value).or_else(|| copy::<u8, u64>(value)).map(Numbers::Unsigned))
}

fn copy<T: Element, W: From<T>>(value: &Bound<'_, PyAny>) -> Option<Vec<W>> {
    let buffer = PyBuffer::<T>::get(value).ok().filter(|buffer| buffer.dimensions() == 1)?;
    Some(buffer.to_vec(value.py()).ok()?.into_iter().map(W::from).collect())
}

fn not_negative(py: Python<'_>, rows: Vec<i64>, field: &str) -> PyResult<Vec<u64>> {
    // One look at all signs together, without an early end, is vectorised.
    if rows.iter().fold(0, |signs, row| signs | row) < 0 {
        return Err(errors::spec(py, field, "must not be negative", "a negative number", ""));
    }
    Ok(rows.into_iter().map(i64::cast_unsigned).collect())
}

fn refuse_nulls(py: Python<'_>, chunk: &ArrayRef, field: &str) -> PyResult<()> {
    match chunk.null_count() {
        0 => Ok(()),
        nulls => Err(errors::spec(py, field, "must hold no nulls", nulls, "fill or drop them first")),
    }
}

fn not_whole(py: Python<'_>, field: &str) -> PyErr {
    let hint = "convert it first: `.astype(\"int64\")` or `.cast(pl.Int64)`";
    errors::spec(py, field, "must be a column of whole numbers", "floats", hint)
}

fn not_numbers(py: Python<'_>, field: &str, what: String) -> PyErr {
    let hint = "pass a numpy array, a polars column, or anything with the Arrow interface";
    errors::spec(py, field, "must be a column of numbers", what, hint)
}

fn not_lists(py: Python<'_>, field: &str, what: String) -> PyErr {
    let hint = "pass one list a request, or a polars column of lists";
    errors::spec(py, field, "must be a column of lists of whole numbers, none negative", what, hint)
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "an unnamed type".to_string(), |name| name.to_string())
}
