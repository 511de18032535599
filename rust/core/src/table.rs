//! Columns of equal length with names: the shape in which every result leaves this library.

/// One column of a table; `Opt…` columns hold nulls as `None`.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 64-bit floats, some unknown.
    OptF64(Vec<Option<f64>>),
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
    /// Texts, some unknown.
    OptStr(Vec<Option<String>>),
}

impl Column {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        match self {
            Column::F64(rows) => rows.len(),
            Column::OptF64(rows) => rows.len(),
            Column::U64(rows) => rows.len(),
            Column::OptU64(rows) => rows.len(),
            Column::U32(rows) => rows.len(),
            Column::I64(rows) => rows.len(),
            Column::Bool(rows) => rows.len(),
            Column::Str(rows) => rows.len(),
            Column::OptStr(rows) => rows.len(),
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
