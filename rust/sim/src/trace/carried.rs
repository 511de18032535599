//! What some traces carry besides arrivals and lengths: shared prefixes by name, recorded hits, adapters, measurements.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

/// A count that the file does not give, where none and 0 are not the same.
pub const NOT_SAID: u32 = u32::MAX;

/// A duration that was not observed.
pub const NOT_OBSERVED: u64 = u64::MAX;

/// A name for some of the requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels {
    /// The names, in the order in which they are first seen.
    pub names: Vec<String>,
    /// The name of each request, as its place in `names`, or [`Labels::NONE`].
    pub of: Vec<u32>,
}

impl Labels {
    /// No name.
    pub const NONE: u32 = u32::MAX;

    /// The name of a request, if it has one.
    pub fn name(&self, request: usize) -> Option<&str> {
        self.names.get(self.of[request] as usize).map(String::as_str)
    }
}

/// Prompts that begin alike, without hashes: those of one group share their leading tokens.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefixes {
    /// The group of each request.
    pub group: Labels,
    /// How many leading tokens of the prompt are the group's; 0 without a group.
    pub tokens: Vec<u32>,
}

/// What some formats carry besides arrivals and lengths; an empty column was not in the file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Carried {
    /// Shared prefixes by name.
    pub prefixes: Option<Prefixes>,
    /// Prompt tokens that a cache held when the trace was recorded; 0 where the file does not say.
    pub cached_tokens: Vec<u32>,
    /// The model that each request asks for, where they ask for several.
    pub model: Option<Labels>,
    /// The adapter that each request asks for.
    pub lora: Option<Labels>,
    /// Who asks.
    pub tenant: Option<Labels>,
    /// The class of service that each request is promised.
    pub slo_class: Option<Labels>,
    /// Which turn of its session each request is, or [`NOT_SAID`].
    pub turn: Vec<u32>,
    /// Tokens that each answer was allowed, or [`NOT_SAID`].
    pub max_output_tokens: Vec<u32>,
    /// Tokens of each answer that were thoughts, or [`NOT_SAID`].
    pub reasoning_tokens: Vec<u32>,
    /// Images of each prompt; 0 where the file does not say.
    pub images: Vec<u32>,
    /// Tokens of the images, counted in the prompt; 0 where the file does not say.
    pub image_tokens: Vec<u32>,
    /// Tokens of each image, where the file lists them.
    pub image_sizes: Vec<Option<Box<[u32]>>>,
    /// Tokens of sound, counted in the prompt; 0 where the file does not say.
    pub audio_tokens: Vec<u32>,
    /// Tokens of moving pictures, counted in the prompt; 0 where the file does not say.
    pub video_tokens: Vec<u32>,
    /// Nanoseconds from the arrival within which the answer must be there, or [`NOT_OBSERVED`].
    pub deadline_ns: Vec<u64>,
    /// Nanoseconds from the arrival after which its sender gives up, or [`NOT_OBSERVED`].
    pub timeout_ns: Vec<u64>,
    /// Measured nanoseconds to the first token, or [`NOT_OBSERVED`].
    pub ttft_ns: Vec<u64>,
    /// Measured nanoseconds to the last token, or [`NOT_OBSERVED`].
    pub e2e_ns: Vec<u64>,
    /// Measured mean nanoseconds between tokens after the first, or [`NOT_OBSERVED`].
    pub tpot_ns: Vec<u64>,
}

impl Carried {
    /// Its columns for the requests `order`, in this order.
    pub(super) fn select(&self, order: &[u32]) -> Carried {
        let labels = |labels: &Labels| Labels { names: labels.names.clone(), of: pick(&labels.of, order) };
        Carried {
            prefixes: self.prefixes.as_ref().map(|prefixes| Prefixes {
                group: labels(&prefixes.group),
                tokens: pick(&prefixes.tokens, order),
            }),
            cached_tokens: pick(&self.cached_tokens, order),
            model: self.model.as_ref().map(labels),
            lora: self.lora.as_ref().map(labels),
            tenant: self.tenant.as_ref().map(labels),
            slo_class: self.slo_class.as_ref().map(labels),
            turn: pick(&self.turn, order),
            max_output_tokens: pick(&self.max_output_tokens, order),
            reasoning_tokens: pick(&self.reasoning_tokens, order),
            images: pick(&self.images, order),
            image_sizes: pick(&self.image_sizes, order),
            image_tokens: pick(&self.image_tokens, order),
            audio_tokens: pick(&self.audio_tokens, order),
            video_tokens: pick(&self.video_tokens, order),
            deadline_ns: pick(&self.deadline_ns, order),
            timeout_ns: pick(&self.timeout_ns, order),
            ttft_ns: pick(&self.ttft_ns, order),
            e2e_ns: pick(&self.e2e_ns, order),
            tpot_ns: pick(&self.tpot_ns, order),
        }
    }
}

/// The rows `order` of a column; an empty column stays empty.
pub(super) fn pick<T: Clone>(column: &[T], order: &[u32]) -> Vec<T> {
    let all = if column.is_empty() { &[] } else { order };
    all.iter().map(|row| column[*row as usize].clone()).collect()
}

/// What one row carries.
#[derive(Debug, Default)]
pub(super) struct CarriedRow<'a> {
    pub group: Option<Cow<'a, str>>,
    pub prefix_tokens: Option<u32>,
    pub cached_tokens: Option<u32>,
    pub lora: Option<Cow<'a, str>>,
    pub tenant: Option<Cow<'a, str>>,
    pub slo_class: Option<Cow<'a, str>>,
    pub turn: Option<u32>,
    pub max_output_tokens: Option<u32>,
    pub reasoning_tokens: Option<u32>,
    pub images: Option<u32>,
    pub image_sizes: Option<Box<[u32]>>,
    pub image_tokens: Option<u32>,
    pub audio_tokens: Option<u32>,
    pub video_tokens: Option<u32>,
    pub deadline_ns: Option<u64>,
    pub timeout_ns: Option<u64>,
    pub ttft_ns: Option<u64>,
    pub e2e_ns: Option<u64>,
    pub tpot_ns: Option<u64>,
}

/// The columns of the rows read so far.
#[derive(Debug, Default)]
pub(super) struct CarriedColumns {
    columns: Carried,
    groups: FxHashMap<String, u32>,
    models: FxHashMap<String, u32>,
    loras: FxHashMap<String, u32>,
    tenants: FxHashMap<String, u32>,
    classes: FxHashMap<String, u32>,
}

impl CarriedColumns {
    /// Sets what request `row` carries; rows before it that were not set carry nothing.
    pub fn set(&mut self, row: usize, carried: &CarriedRow) {
        let columns = &mut self.columns;
        put(&mut columns.cached_tokens, row, carried.cached_tokens, 0);
        put(&mut columns.images, row, carried.images, 0);
        put(&mut columns.image_tokens, row, carried.image_tokens, 0);
        put(&mut columns.audio_tokens, row, carried.audio_tokens, 0);
        put(&mut columns.video_tokens, row, carried.video_tokens, 0);
        put(&mut columns.deadline_ns, row, carried.deadline_ns, NOT_OBSERVED);
        put(&mut columns.turn, row, carried.turn, NOT_SAID);
        put(&mut columns.max_output_tokens, row, carried.max_output_tokens, NOT_SAID);
        put(&mut columns.reasoning_tokens, row, carried.reasoning_tokens, NOT_SAID);
        put(&mut columns.image_sizes, row, carried.image_sizes.clone().map(Some), None);
        put(&mut columns.timeout_ns, row, carried.timeout_ns, NOT_OBSERVED);
        put(&mut columns.ttft_ns, row, carried.ttft_ns, NOT_OBSERVED);
        put(&mut columns.e2e_ns, row, carried.e2e_ns, NOT_OBSERVED);
        put(&mut columns.tpot_ns, row, carried.tpot_ns, NOT_OBSERVED);
        if let Some(name) = &carried.lora {
            label(columns.lora.get_or_insert_default(), &mut self.loras, row, name);
        }
        if let Some(name) = &carried.tenant {
            label(columns.tenant.get_or_insert_default(), &mut self.tenants, row, name);
        }
        if let Some(name) = &carried.slo_class {
            label(columns.slo_class.get_or_insert_default(), &mut self.classes, row, name);
        }
        if let Some(name) = &carried.group {
            let prefixes = columns.prefixes.get_or_insert_default();
            label(&mut prefixes.group, &mut self.groups, row, name);
            put(&mut prefixes.tokens, row, carried.prefix_tokens, 0);
        }
    }

    /// Sets the model that request `row` asks for.
    pub fn set_model(&mut self, row: usize, name: &str) {
        let labels = self.columns.model.get_or_insert_default();
        let before = labels.of.last().copied();
        match before.filter(|last| labels.names.get(*last as usize).is_some_and(|last| last == name)) {
            // Most rows ask for the model of the row before.
            Some(same) => put(&mut labels.of, row, Some(same), Labels::NONE),
            None => label(labels, &mut self.models, row, name),
        }
    }

    /// How many requests ask for each model, in the order in which they are first seen.
    pub fn models(&self) -> Vec<(&str, usize)> {
        let Some(labels) = &self.columns.model else { return Vec::new() };
        let mut counts = vec![0; labels.names.len()];
        for label in labels.of.iter().filter(|label| **label != Labels::NONE) {
            counts[*label as usize] += 1;
        }
        labels.names.iter().map(String::as_str).zip(counts).collect()
    }

    /// The columns of all `requests`; one model alone is told of the whole trace instead.
    pub fn finish(mut self, requests: usize) -> Carried {
        fn pad<T: Clone>(column: &mut Vec<T>, requests: usize, none: T) {
            if !column.is_empty() {
                column.resize(requests, none);
            }
        }
        let columns = &mut self.columns;
        columns.model = columns.model.take().filter(|models| models.names.len() > 1);
        let counts = [
            &mut columns.cached_tokens,
            &mut columns.images,
            &mut columns.image_tokens,
            &mut columns.audio_tokens,
            &mut columns.video_tokens,
        ];
        for column in counts {
            pad(column, requests, 0);
        }
        let told = [&mut columns.turn, &mut columns.max_output_tokens, &mut columns.reasoning_tokens];
        for column in told {
            pad(column, requests, NOT_SAID);
        }
        pad(&mut columns.image_sizes, requests, None);
        let times = [
            &mut columns.deadline_ns,
            &mut columns.timeout_ns,
            &mut columns.ttft_ns,
            &mut columns.e2e_ns,
            &mut columns.tpot_ns,
        ];
        for column in times {
            pad(column, requests, NOT_OBSERVED);
        }
        let names = [&mut columns.model, &mut columns.lora, &mut columns.tenant, &mut columns.slo_class];
        for labels in names.into_iter().flatten() {
            pad(&mut labels.of, requests, Labels::NONE);
        }
        if let Some(prefixes) = &mut columns.prefixes {
            pad(&mut prefixes.group.of, requests, Labels::NONE);
            pad(&mut prefixes.tokens, requests, 0);
        }
        self.columns
    }
}

fn put<T: Clone>(column: &mut Vec<T>, row: usize, value: Option<T>, none: T) {
    if let Some(value) = value {
        column.resize(row, none);
        column.push(value);
    }
}

fn label(labels: &mut Labels, known: &mut FxHashMap<String, u32>, row: usize, name: &str) {
    let label = match known.get(name) {
        Some(label) => *label,
        None => {
            let label = labels.names.len() as u32;
            labels.names.push(name.to_string());
            known.insert(name.to_string(), label);
            label
        }
    };
    put(&mut labels.of, row, Some(label), Labels::NONE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_say_nothing_carry_nothing() {
        let mut columns = CarriedColumns::default();
        columns.set(1, &CarriedRow { lora: Some("a".into()), ttft_ns: Some(5), ..CarriedRow::default() });
        columns
            .set(2, &CarriedRow { lora: Some("b".into()), cached_tokens: Some(7), ..CarriedRow::default() });
        let carried = columns.finish(4);
        let lora = carried.lora.as_ref().unwrap();
        assert_eq!((0..4).map(|row| lora.name(row)).collect::<Vec<_>>(), [None, Some("a"), Some("b"), None]);
        assert_eq!(carried.ttft_ns, [NOT_OBSERVED, 5, NOT_OBSERVED, NOT_OBSERVED]);
        assert_eq!(carried.cached_tokens, [0, 0, 7, 0]);
        assert_eq!(carried.select(&[2, 0]).cached_tokens, [7, 0]);
        assert!(carried.images.is_empty());
    }
}
