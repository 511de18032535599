//! Columns of equal length with names: the shape in which every result leaves this library.

/// Lists of values, one a row: `values[offsets[i]..offsets[i + 1]]` is the list of row `i`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists<T> {
    /// Where each list begins, and where the last one ends: one more than there are rows.
    pub offsets: Vec<u64>,
    /// The lists, one after another.
    pub values: Vec<T>,
}

impl<T> Default for Lists<T> {
    fn default() -> Lists<T> {
        Lists { offsets: vec![0], values: Vec::new() }
    }
}

impl<T> Lists<T> {
    /// Appends a list.
    pub fn push(&mut self, list: impl IntoIterator<Item = T>) {
        self.values.extend(list);
        self.offsets.push(self.values.len() as u64);
    }

    /// How many lists there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The list of a row.
    pub fn row(&self, row: usize) -> &[T] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// Appends the lists of `other`.
    pub fn append(&mut self, other: &Lists<T>)
    where
        T: Clone,
    {
        let shift = self.values.len() as u64;
        self.values.extend_from_slice(&other.values);
        self.offsets.extend(other.offsets[1..].iter().map(|offset| offset + shift));
    }
}

/// Texts, one a row, in one piece of memory: `bytes[offsets[i]..offsets[i + 1]]` is the text of row `i`.
///
/// A text of 7 bytes costs 15 here, and 56 as a `String`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    offsets: Vec<u64>,
    bytes: String,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts { offsets: vec![0], bytes: String::new() }
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Texts {
        let mut all = Texts::default();
        texts.into_iter().for_each(|text| all.push(text.as_ref()));
        all
    }
}

impl Texts {
    /// The numbers from 0 to below `end`, as texts.
    ///
    /// ```
    /// use roofline_core::table::Texts;
    /// let rows = Texts::numbers(11);
    /// assert_eq!((rows.len(), rows.row(0), rows.row(10)), (11, "0", "10"));
    /// ```
    pub fn numbers(end: usize) -> Texts {
        use std::fmt::Write as _;
        let mut all = Texts::default();
        for number in 0..end {
            // A text in memory takes whatever is written.
            let _ = write!(all.bytes, "{number}");
            all.offsets.push(all.bytes.len() as u64);
        }
        all
    }

    /// Appends a text.
    pub fn push(&mut self, text: &str) {
        self.bytes.push_str(text);
        self.offsets.push(self.bytes.len() as u64);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of a row.
    pub fn row(&self, row: usize) -> &str {
        &self.bytes[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }

    /// Where each text begins, and where the last one ends; and all of them, one after another.
    pub fn into_parts(self) -> (Vec<u64>, String) {
        (self.offsets, self.bytes)
    }
}

/// A value that every row has; unknown where it is `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum Constant {
    /// A 64-bit float.
    F64(Option<f64>),
    /// An unsigned integer.
    U64(Option<u64>),
    /// An unsigned 32-bit integer.
    U32(u32),
    /// A truth value.
    Bool(bool),
    /// A text.
    Str(Option<String>),
}

/// One column of a table; `Opt…` columns hold nulls as `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 64-bit floats, some unknown.
    OptF64(Vec<Option<f64>>),
    /// 64-bit floats, NaN where unknown: no number of this library is NaN.
    NanF64(Vec<f64>),
    /// Unsigned integers.
    U64(Vec<u64>),
    /// Unsigned integers, some unknown.
    OptU64(Vec<Option<u64>>),
    /// Unsigned 32-bit integers.
    U32(Vec<u32>),
    /// Signed integers.
    I64(Vec<i64>),
    /// Truth values.
    Bool(Vec<bool>),
    /// Texts.
    Str(Vec<String>),
    /// Texts of many rows.
    Texts(Texts),
    /// Texts, some unknown.
    OptStr(Vec<Option<String>>),
    /// Texts of which there are few: each row's place among them; unknown where there is none.
    Names(Vec<u32>, Vec<String>),
    /// The same, neighbours that are equal together: a place among the names, and how often it occurs.
    NameRuns(Vec<(u32, usize)>, Vec<String>),
    /// So many rows of one value.
    Constant(Constant, usize),
    /// Lists of unsigned 32-bit integers.
    ListU32(Lists<u32>),
    /// Lists of unsigned integers.
    ListU64(Lists<u64>),
}

impl Column {
    /// Texts of which there are few, neighbours that are equal together, as [`Column::NameRuns`].
    pub fn name_runs(runs: Vec<(u32, usize)>, names: Vec<String>) -> Column {
        match *runs {
            [(place, rows)] => Column::Constant(Constant::Str(names.get(place as usize).cloned()), rows),
            _ => Column::NameRuns(runs, names),
        }
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        match self {
            Column::F64(rows) => rows.len(),
            Column::OptF64(rows) => rows.len(),
            Column::NanF64(rows) => rows.len(),
            Column::U64(rows) => rows.len(),
            Column::OptU64(rows) => rows.len(),
            Column::U32(rows) => rows.len(),
            Column::I64(rows) => rows.len(),
            Column::Bool(rows) => rows.len(),
            Column::Str(rows) => rows.len(),
            Column::Texts(rows) => rows.len(),
            Column::OptStr(rows) => rows.len(),
            Column::Names(rows, _) => rows.len(),
            Column::NameRuns(runs, _) => runs.iter().map(|(_, rows)| rows).sum(),
            Column::Constant(_, rows) => *rows,
            Column::ListU32(rows) => rows.len(),
            Column::ListU64(rows) => rows.len(),
        }
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Named columns of equal length, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    columns: Vec<(String, Column)>,
}

impl Table {
    /// A table without columns.
    pub fn new() -> Table {
        Table::default()
    }

    /// Appends a column.
    ///
    /// # Panics
    /// If its length differs from the columns already there: a mistake of the program, not of its input.
    pub fn push(&mut self, name: impl Into<String>, column: Column) {
        assert!(self.columns.is_empty() || self.len() == column.len(), "columns must have equal length");
        self.columns.push((name.into(), column));
    }

    /// The same, for building a table in one expression.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, column: Column) -> Table {
        self.push(name, column);
        self
    }

    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.len())
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its columns in order.
    pub fn columns(&self) -> &[(String, Column)] {
        &self.columns
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|(known, _)| known == name).map(|(_, column)| column)
    }

    /// Its columns, handed over.
    pub fn into_columns(self) -> Vec<(String, Column)> {
        self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_stay_in_their_rows() {
        let mut lists = Lists::default();
        lists.push([1, 2]);
        let mut others = Lists::default();
        others.push([]);
        others.push([3]);
        lists.append(&others);
        assert_eq!((lists.row(0), lists.row(1), lists.row(2)), (&[1, 2][..], &[][..], &[3][..]));
        assert_eq!((lists.len(), lists.is_empty(), Lists::<u64>::default().is_empty()), (3, false, true));
        assert_eq!(Table::new().with("lists", Column::ListU32(lists)).len(), 3);
    }
}
