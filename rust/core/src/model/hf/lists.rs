//! Lists of a configuration: values, texts and whole numbers, and one of each for every layer.

use serde_json::Value;

use super::keys::{Keys, kind};
use crate::error::Result;

impl<'a> Keys<'a> {
    /// A list, if the key is there.
    ///
    /// # Errors
    /// The value is no list.
    pub fn list(&self, key: &str) -> Result<Option<&'a [Value]>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(self.error(key, "must be a list", kind(other), "")),
        }
    }

    /// A list of texts, if the key is there.
    ///
    /// # Errors
    /// The value is no list, or holds something else.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let text = |value: &'a Value| {
            value.as_str().ok_or_else(|| self.error(key, "must hold texts only", kind(value), ""))
        };
        self.list(key)?.map(|values| values.iter().map(text).collect()).transpose()
    }

    /// A list of whole numbers, if the key is there.
    ///
    /// # Errors
    /// The value is no list, or holds something else.
    pub fn counts(&self, key: &str) -> Result<Option<Vec<u64>>> {
        self.list(key)?.map(|values| values.iter().map(|value| self.whole(key, value)).collect()).transpose()
    }

    /// One whole number a layer, if the key is there.
    ///
    /// # Errors
    /// The list is not as long as there are layers.
    pub fn counts_per_layer(&self, key: &str, layers: u64) -> Result<Option<Vec<u64>>> {
        let found = self.counts(key)?;
        self.check_length(key, found.as_ref().map(Vec::len), layers)?;
        Ok(found)
    }

    /// One text a layer, if the key is there.
    ///
    /// # Errors
    /// The list is not as long as there are layers.
    pub fn texts_per_layer(&self, key: &str, layers: u64) -> Result<Option<Vec<&'a str>>> {
        let found = self.texts(key)?;
        self.check_length(key, found.as_ref().map(Vec::len), layers)?;
        Ok(found)
    }

    /// Which layers have full attention and which linear, if `layer_types` is there.
    ///
    /// # Errors
    /// The list is not as long as there are layers, or names another kind.
    pub fn full_layers(&self, layers: u64) -> Result<Option<Vec<bool>>> {
        let is_full = |kind: &str| match kind {
            "full_attention" => Ok(true),
            "linear_attention" => Ok(false),
            other => {
                let must = "must hold full_attention or linear_attention here";
                Err(self.error("layer_types", must, other, ""))
            }
        };
        let types = self.texts_per_layer("layer_types", layers)?;
        types.map(|types| types.into_iter().map(is_full).collect()).transpose()
    }

    fn check_length(&self, key: &str, length: Option<usize>, layers: u64) -> Result<()> {
        match length {
            Some(length) if length as u64 != layers => {
                let must = format!("must have one entry for each of the {layers} layers");
                Err(self.error(key, must, format!("{length} entries"), ""))
            }
            _ => Ok(()),
        }
    }
}
