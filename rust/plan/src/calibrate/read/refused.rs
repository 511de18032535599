//! Why rows of measurements cannot be used, in words.

use roofline_core::catalog;

use super::super::frame::Words;
use super::super::vocabulary::{self, Numbers, Op};
use super::Reader;

/// Why a row is of no use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Refused {
    Op(u32),
    Device(u32),
    Time,
    NotAFormat(u32),
    NoPeak(&'static str),
    Missing(&'static str),
    Routing(u32),
    Links,
}

impl Reader<'_> {
    /// What stands where a row is wrong.
    pub(super) fn was(&self, refused: Refused, row: usize, time: f64) -> String {
        match refused {
            Refused::Time => time.to_string(),
            Refused::Missing(name) => self
                .frame
                .number(&[name])
                .map_or_else(|| "there is no such column".into(), |column| column[row].to_string()),
            Refused::Op(code) => self.ops.list[code as usize].clone(),
            Refused::Device(_) => self.device_words.map_or("", |words| words.at(row)).to_string(),
            Refused::NotAFormat(_) => self.dtypes.map_or("", |words| words.at(row)).to_string(),
            Refused::Routing(_) => self.routings.map_or("", |words| words.at(row)).to_string(),
            Refused::NoPeak(what) => what.to_string(),
            Refused::Links => self.ops.at(row).to_string(),
        }
    }

    pub(super) fn why(&self, refused: Refused) -> String {
        let word = |words: Option<&Words>, code: u32| {
            words.and_then(|words| words.list.get(code as usize)).cloned().unwrap_or_default()
        };
        match refused {
            Refused::Op(code) => Op::parse(&self.ops.list[code as usize]).err().unwrap_or_default(),
            Refused::Device(code) => {
                let name = word(self.device_words, code);
                if name.is_empty() {
                    return vocabulary::NO_DEVICE.into();
                }
                match catalog::hardware::hardware(&name) {
                    Err(error) => format!("{error} ({})", error.hint()),
                    Ok(_) => {
                        format!("device `{name}` lacks the peak, bandwidth or number of cores a form needs")
                    }
                }
            }
            Refused::Time => "time must be a positive number".into(),
            Refused::NotAFormat(code) => {
                format!("dtype must be one of {}: `{}`", Numbers::names().join(", "), word(self.dtypes, code))
            }
            Refused::NoPeak(what) => format!("the device's datasheet gives no rate for {what}"),
            Refused::Missing(name) => format!("`{name}` must be a positive number"),
            Refused::Routing(code) => {
                let name = word(self.routings, code);
                format!("distribution must be uniform, balanced or power_law_1.2 (an exponent): `{name}`")
            }
            Refused::Links => "links are not those of the catalogue's machine".into(),
        }
    }
}
