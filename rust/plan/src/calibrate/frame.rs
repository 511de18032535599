//! Columns of measurements as they arrive: numbers with NaN for what is missing, words as codes.

use roofline_core::error::{Error, Result};

/// A column of words: each row is a place in a list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Words {
    /// For each row its place in `list`.
    pub codes: Vec<u32>,
    /// The words; the empty one stands for what is missing.
    pub list: Vec<String>,
}

impl Words {
    /// The column of these words.
    pub fn of<S: AsRef<str>>(rows: &[S]) -> Words {
        let mut words = Words::default();
        let mut places = std::collections::HashMap::new();
        for row in rows {
            let word = row.as_ref();
            let next = words.list.len() as u32;
            let code = *places.entry(word.to_string()).or_insert(next);
            if code == next {
                words.list.push(word.to_string());
            }
            words.codes.push(code);
        }
        words
    }

    /// The word of a row.
    pub fn at(&self, row: usize) -> &str {
        self.codes.get(row).and_then(|code| self.list.get(*code as usize)).map_or("", String::as_str)
    }
}

/// Columns of equal length, by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Frame {
    rows: usize,
    numbers: Vec<(String, Vec<f64>)>,
    words: Vec<(String, Words)>,
}

impl Frame {
    /// A frame of so many rows, without columns.
    pub fn new(rows: usize) -> Frame {
        Frame { rows, ..Frame::default() }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a column of numbers, NaN where one is missing.
    ///
    /// # Errors
    /// A column of another length.
    pub fn push_numbers(&mut self, name: &str, column: Vec<f64>) -> Result<()> {
        self.same_length(name, column.len())?;
        self.numbers.push((name.to_string(), column));
        Ok(())
    }

    /// Adds a column of words.
    ///
    /// # Errors
    /// A column of another length.
    pub fn push_words(&mut self, name: &str, column: Words) -> Result<()> {
        self.same_length(name, column.codes.len())?;
        self.words.push((name.to_string(), column));
        Ok(())
    }

    fn same_length(&self, name: &str, length: usize) -> Result<()> {
        if length == self.rows {
            return Ok(());
        }
        Err(Error::spec(name, format!("must have one value for each of the {} rows", self.rows), length, ""))
    }

    /// The first of these columns of numbers that there is.
    pub fn number(&self, names: &[&str]) -> Option<&[f64]> {
        let find = |name: &&str| self.numbers.iter().find(|(known, _)| known == name);
        names.iter().find_map(find).map(|(_, column)| column.as_slice())
    }

    /// The first of these columns of words that there is.
    pub fn word(&self, names: &[&str]) -> Option<&Words> {
        let find = |name: &&str| self.words.iter().find(|(known, _)| known == name);
        names.iter().find_map(find).map(|(_, column)| column)
    }

    /// Names of all columns, numbers first.
    pub fn names(&self) -> Vec<&str> {
        let numbers = self.numbers.iter().map(|(name, _)| name.as_str());
        numbers.chain(self.words.iter().map(|(name, _)| name.as_str())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_the_first_name_there_is() {
        let mut frame = Frame::new(2);
        frame.push_numbers("M", vec![1.0, 2.0]).unwrap();
        frame.push_words("op", Words::of(&["gemm", "gemm"])).unwrap();
        assert_eq!(frame.number(&["m", "M"]), Some(&[1.0, 2.0][..]));
        assert_eq!(frame.word(&["op"]).unwrap().at(1), "gemm");
        assert_eq!((frame.number(&["k"]), frame.names()), (None, vec!["M", "op"]));
        assert_eq!(Words::of(&["a", "b", "a"]).codes, [0, 1, 0]);
    }

    #[test]
    fn a_column_of_another_length_is_refused() {
        let error = Frame::new(2).push_numbers("m", vec![1.0]).unwrap_err().to_string();
        assert_eq!(error, "m must have one value for each of the 2 rows: 1");
        assert!(Frame::new(2).push_words("op", Words::default()).is_err());
    }
}
