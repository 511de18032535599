//! The axes of a sweep: their names, their order, and the values they may have.

use roofline_core::error::{Error, Result};
use roofline_core::names;
use roofline_core::table::{Column, Constant};

use super::grid::Stretch;

/// Hands out stretches of neighbours, in order.
pub type Stretches<'a> = dyn Fn(&mut dyn FnMut(Stretch)) + 'a;

/// The values of an axis.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Counts.
    Counts(Vec<u64>),
    /// Numbers.
    Numbers(Vec<f64>),
    /// Names; of models and devices, in the order of the lists that stand beside them.
    Names(Vec<String>),
    /// Yes and no.
    Flags(Vec<bool>),
}

/// One setting that a sweep varies.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// Which.
    pub setting: Setting,
    /// Its values.
    pub values: Values,
}

/// Everything that a sweep can vary, in the order of points: the last one changes fastest. What a deployment is compiled
/// from comes first, so that its points stand together; the sizes of a step come last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Setting {
    /// The model.
    Model,
    /// The device.
    Hw,
    /// Peaks of tensor and vector unit, times the device's.
    ComputeScale,
    /// Bandwidth of the device's memory, times the device's.
    BandwidthScale,
    /// Bandwidth of links, times the device's.
    LinkScale,
    /// Scheme of weights and activations.
    Quantization,
    /// Format of the KV cache.
    KvCacheDtype,
    /// Bits of a weight, instead of a scheme; 0 says nothing.
    WBits,
    /// Bits of an activation, instead of a scheme; 0 says nothing.
    ABits,
    /// Techniques, joined by `+`.
    Techniques,
    /// Where drafts come from.
    SpecMethod,
    /// Drafts a step; 0 for none.
    NumSpeculativeTokens,
    /// The chance that a draft is accepted, or one a position with `/` between them.
    SpecAcceptance,
    /// How far elementwise operators are fused; `auto` is the mode's own choice.
    Fusion,
    /// Whether attention is one operator.
    FlashAttention,
    /// Share of the computing time that hides communication.
    Overlap,
    /// Tensor parallelism.
    Tp,
    /// Pipeline stages.
    Pp,
    /// Data-parallel ranks.
    Dp,
    /// Devices that share the experts.
    Ep,
    /// Whose division of the memory is meant.
    Engine,
    /// Share of the device the engine may use.
    GpuMemoryUtilization,
    /// Tokens of a KV block.
    BlockSize,
    /// Sequences of the largest step.
    MaxNumSeqs,
    /// Tokens of the largest step.
    MaxNumBatchedTokens,
    /// Whether operators are predicted, or bounded by the datasheet.
    Mode,
    /// What is asked about.
    Phase,
    /// Largest prompt chunk.
    Chunk,
    /// Tokens cached in front of the input.
    PrefixLen,
    /// Sequences a rank.
    BatchSize,
    /// Tokens generated.
    OutputLen,
    /// Prompt tokens, or context for decode.
    InputLen,
}

/// How many there are.
pub const COUNT: usize = 32;

impl Setting {
    /// Every setting, in the order of points.
    pub const ALL: [Setting; COUNT] = [
        Setting::Model,
        Setting::Hw,
        Setting::ComputeScale,
        Setting::BandwidthScale,
        Setting::LinkScale,
        Setting::Quantization,
        Setting::KvCacheDtype,
        Setting::WBits,
        Setting::ABits,
        Setting::Techniques,
        Setting::SpecMethod,
        Setting::NumSpeculativeTokens,
        Setting::SpecAcceptance,
        Setting::Fusion,
        Setting::FlashAttention,
        Setting::Overlap,
        Setting::Tp,
        Setting::Pp,
        Setting::Dp,
        Setting::Ep,
        Setting::Engine,
        Setting::GpuMemoryUtilization,
        Setting::BlockSize,
        Setting::MaxNumSeqs,
        Setting::MaxNumBatchedTokens,
        Setting::Mode,
        Setting::Phase,
        Setting::Chunk,
        Setting::PrefixLen,
        Setting::BatchSize,
        Setting::OutputLen,
        Setting::InputLen,
    ];

    /// Its name in files, flags and columns.
    pub const fn name(self) -> &'static str {
        match self {
            Setting::Model => "model",
            Setting::Hw => "hw",
            Setting::ComputeScale => "compute_scale",
            Setting::BandwidthScale => "bandwidth_scale",
            Setting::LinkScale => "link_scale",
            Setting::Quantization => "quantization",
            Setting::KvCacheDtype => "kv_cache_dtype",
            Setting::WBits => "w_bits",
            Setting::ABits => "a_bits",
            Setting::Techniques => "techniques",
            Setting::SpecMethod => "spec_method",
            Setting::NumSpeculativeTokens => "num_speculative_tokens",
            Setting::SpecAcceptance => "spec_acceptance",
            Setting::Fusion => "fusion",
            Setting::FlashAttention => "flash_attention",
            Setting::Overlap => "overlap",
            Setting::Tp => "tp",
            Setting::Pp => "pp",
            Setting::Dp => "dp",
            Setting::Ep => "ep",
            Setting::Engine => "engine",
            Setting::GpuMemoryUtilization => "gpu_memory_utilization",
            Setting::BlockSize => "block_size",
            Setting::MaxNumSeqs => "max_num_seqs",
            Setting::MaxNumBatchedTokens => "max_num_batched_tokens",
            Setting::Mode => "mode",
            Setting::Phase => "phase",
            Setting::Chunk => "chunk",
            Setting::PrefixLen => "prefix_len",
            Setting::BatchSize => "batch_size",
            Setting::OutputLen => "output_len",
            Setting::InputLen => "input_len",
        }
    }

    /// The setting of that name.
    ///
    /// # Errors
    /// Another name, with the nearest.
    pub fn parse(name: &str) -> Result<Setting> {
        let known = Setting::ALL.into_iter().find(|setting| setting.name() == name);
        known.ok_or_else(|| names::unknown("axis", name, Setting::ALL.map(Setting::name)))
    }

    /// Its only value where nothing is said.
    pub fn default(self) -> Values {
        match self {
            Setting::Model | Setting::Hw => Values::Names(vec![String::new()]),
            Setting::ComputeScale | Setting::BandwidthScale | Setting::LinkScale => {
                Values::Numbers(vec![1.0])
            }
            Setting::Overlap | Setting::GpuMemoryUtilization => Values::Numbers(vec![0.0]),
            Setting::Quantization | Setting::KvCacheDtype | Setting::Fusion => {
                Values::Names(vec!["auto".to_string()])
            }
            Setting::Techniques | Setting::SpecMethod | Setting::SpecAcceptance => {
                Values::Names(vec!["none".to_string()])
            }
            Setting::WBits | Setting::ABits | Setting::NumSpeculativeTokens => Values::Counts(vec![0]),
            Setting::Mode => Values::Names(vec!["predicted".to_string()]),
            Setting::FlashAttention => Values::Flags(vec![true]),
            Setting::Engine => Values::Names(vec!["vllm".to_string()]),
            Setting::Phase => Values::Names(vec!["decode".to_string()]),
            Setting::Chunk | Setting::PrefixLen => Values::Counts(vec![0]),
            Setting::BlockSize | Setting::MaxNumSeqs | Setting::MaxNumBatchedTokens => {
                Values::Counts(vec![0])
            }
            Setting::InputLen => Values::Counts(vec![2048]),
            Setting::OutputLen => Values::Counts(vec![256]),
            Setting::Tp | Setting::Pp | Setting::Dp | Setting::Ep | Setting::BatchSize => {
                Values::Counts(vec![1])
            }
        }
    }
}

impl Values {
    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Values::Counts(values) => values.len(),
            Values::Numbers(values) => values.len(),
            Values::Names(values) => values.len(),
            Values::Flags(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What kind they are, in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Values::Counts(_) => "whole numbers, none negative",
            Values::Numbers(_) => "numbers",
            Values::Names(_) => "names",
            Values::Flags(_) => "true or false",
        }
    }

    /// The first value that occurs again, as text.
    pub fn twice(&self) -> Option<String> {
        fn find<T: PartialEq + ToString>(values: &[T]) -> Option<String> {
            let again = |(at, value): &(usize, &T)| values[..*at].contains(value);
            // Ascending counts, by far the longest axes, need no search.
            values.iter().enumerate().find(again).map(|(_, value)| value.to_string())
        }
        match self {
            Values::Counts(values) if values.windows(2).all(|pair| pair[0] < pair[1]) => None,
            Values::Counts(values) => {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0].to_string())
            }
            Values::Numbers(values) => find(values),
            Values::Names(values) => find(values),
            Values::Flags(values) => find(values),
        }
    }

    /// The value at a place, if these are counts.
    pub fn count(&self, place: usize) -> u64 {
        match self {
            Values::Counts(values) => values[place],
            _ => 0,
        }
    }

    /// The value at a place, if these are numbers.
    pub fn number(&self, place: usize) -> f64 {
        match self {
            Values::Numbers(values) => values[place],
            _ => 0.0,
        }
    }

    /// The value at a place, if these are names.
    pub fn name(&self, place: usize) -> &str {
        match self {
            Values::Names(values) => &values[place],
            _ => "",
        }
    }

    /// The value at a place, if these are yes and no.
    pub fn flag(&self, place: usize) -> bool {
        match self {
            Values::Flags(values) => values[place],
            _ => false,
        }
    }

    /// A column of the values of `rows` rows, by stretches of neighbours.
    pub fn column(&self, rows: usize, stretches: &Stretches<'_>) -> Column {
        fn gather<T: Copy, W: Copy>(
            values: &[T],
            rows: usize,
            stretches: &Stretches<'_>,
            of: impl Fn(T) -> W,
        ) -> Vec<W> {
            let mut column = Vec::with_capacity(rows);
            stretches(&mut |Stretch { digit, rows, ascending }| match ascending {
                true => column.extend(values[digit..digit + rows].iter().map(|value| of(*value))),
                false => column.resize(column.len() + rows, of(values[digit])),
            });
            column
        }
        match self {
            Values::Counts(values) if values.len() == 1 => {
                Column::Constant(Constant::U32(values[0] as u32), rows)
            }
            Values::Numbers(values) if values.len() == 1 => {
                Column::Constant(Constant::F64(Some(values[0])), rows)
            }
            Values::Flags(values) if values.len() == 1 => Column::Constant(Constant::Bool(values[0]), rows),
            // A space has no larger ones.
            Values::Counts(values) => Column::U32(gather(values, rows, stretches, |value| value as u32)),
            Values::Numbers(values) => Column::F64(gather(values, rows, stretches, |value| value)),
            Values::Flags(values) => Column::Bool(gather(values, rows, stretches, |value| value)),
            Values::Names(names) => {
                let mut runs: Vec<(u32, usize)> = Vec::new();
                stretches(&mut |Stretch { digit, rows, ascending }| match (ascending, runs.last_mut()) {
                    (true, _) => runs.extend((0..rows).map(|row| ((digit + row) as u32, 1))),
                    (false, Some((last, more))) if *last as usize == digit => *more += rows,
                    (false, _) => runs.push((digit as u32, rows)),
                });
                Column::name_runs(runs, names.clone())
            }
        }
    }
}

impl Axis {
    /// Checks that there are values, of the kind the setting has, none twice.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<()> {
        let (name, expected) = (self.setting.name(), self.setting.default());
        if std::mem::discriminant(&expected) != std::mem::discriminant(&self.values) {
            let must = format!("must be {}", expected.kind());
            return Err(Error::spec(name, must, self.values.kind(), ""));
        }
        if self.values.is_empty() {
            let hint = "give at least one value, or leave the axis out";
            return Err(Error::spec(name, "must have values", "none", hint));
        }
        if let Some(value) = self.values.twice() {
            return Err(Error::spec(name, "must have each value once", value, ""));
        }
        if let Values::Numbers(values) = &self.values {
            let (most, must) = match self.setting {
                Setting::Overlap => (1.0, "must be from 0 to 1"),
                _ => (f64::MAX, "must be above 0 and finite"),
            };
            let least = if self.setting == Setting::Overlap { 0.0 } else { f64::MIN_POSITIVE };
            if let Some(wrong) = values.iter().find(|value| !(least..=most).contains(*value)) {
                return Err(Error::spec(name, must, wrong, ""));
            }
        }
        Ok(())
    }
}
