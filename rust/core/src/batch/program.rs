//! A compiled deployment's operators as rows of coefficients, for one kind of step.

use super::affine::{
    Affine, COLUMNS, DECODE_KEYS, DECODES, PROMPT_AREA, PROMPT_KEYS, PROMPT_PAIRS, PROMPT_TOKENS, PROMPTS,
    VISITED, grows,
};
use super::kind::Kind;
use crate::roof::{Bound, Priced};
use crate::shape::Reach;
use crate::step::Pricer;
use crate::work::{Op, Rate};

/// Seconds of an operator: the greatest of its forms.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// One occurrence by each ceiling that can bind, in the order in which ties are settled.
    pub(super) forms: Vec<(Bound, Affine)>,
    /// Occurrences in the whole model.
    pub(super) repeat: f64,
    /// Occurrences on the busiest pipeline stage.
    pub(super) stage_repeat: f64,
}

/// A column of the share of experts that so many tokens visit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Visited {
    /// Logarithm of the chance that one token of this rank leaves an expert alone.
    pub(super) rate: f64,
    /// Tokens.
    pub(super) tokens: Affine,
}

/// One kind of step, compiled.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Program {
    /// Operators that cost the same whatever the contexts.
    pub(super) counted: Vec<Row>,
    /// Operators that cost more with longer contexts.
    pub(super) growing: Vec<Row>,
    /// Columns made of others, from [`VISITED`] on.
    pub(super) visited: Vec<Visited>,
    /// FLOPs of the tensor unit of the busiest device.
    pub(super) flops: Affine,
    /// Bytes its memory moves.
    pub(super) bytes: Affine,
    /// Whether a stage is the whole model.
    pub(super) one_stage: bool,
    /// What each reach sees.
    pub(super) reaches: Vec<Reach>,
    used: [bool; COLUMNS],
}

impl Program {
    /// Compiles the operators that run in steps of `kind`; `None` where columns cannot express them.
    pub(super) fn of(pricer: &Pricer, kind: Kind) -> Option<Program> {
        let mut compiler = Compiler { kind, visited: Vec::new() };
        let (mut counted, mut growing) = (Vec::new(), Vec::new());
        let (mut flops, mut bytes) = (Affine::default(), Affine::default());
        let reaches: Vec<Reach> = pricer.reaches().iter().copied().collect();
        for line in &pricer.lines {
            let priced = &line.priced;
            let op = priced.op();
            if !kind.runs(op) {
                continue;
            }
            if kind.decodes(op.over) && !reaches[op.reach].causal && op.work_grows_with_context() {
                return None;
            }
            let work = compiler.work(priced)?;
            flops.plus(&work.flops, op.stage_repeat);
            bytes.plus(&work.bytes, op.stage_repeat);
            let row = Row { forms: work.forms, repeat: op.repeat, stage_repeat: op.stage_repeat };
            if op.work.fused || row.forms.is_empty() {
                continue;
            }
            let grows = row.forms.iter().any(|(_, form)| form.grows());
            if grows { &mut growing } else { &mut counted }.push(row);
        }
        let one_stage = counted.iter().chain(&growing).all(|row| row.repeat == row.stage_repeat);
        let mut used = [false; COLUMNS];
        let forms = growing.iter().flat_map(|row: &Row| row.forms.iter().map(|(_, form)| form));
        for (column, _) in forms.chain([&flops, &bytes]).flat_map(|form| &form.terms) {
            used[*column] = true;
        }
        Some(Program { counted, growing, visited: compiler.visited, flops, bytes, one_stage, reaches, used })
    }
}

impl Program {
    /// Whether anything depends on the column.
    pub(super) fn uses(&self, column: usize) -> bool {
        self.used[column]
    }
}

struct Compiler {
    kind: Kind,
    visited: Vec<Visited>,
}

/// One occurrence of an operator.
struct Work {
    forms: Vec<(Bound, Affine)>,
    flops: Affine,
    bytes: Affine,
}

impl Compiler {
    fn work(&mut self, priced: &Priced) -> Option<Work> {
        let (op, per) = (priced.op(), priced.ceilings());
        let form = |rate: &Rate| self.kind.form(rate, op);
        let work = &op.work;
        let flops = form(&work.flops);
        let mut vector = form(&work.vector_flops);
        let mut bytes = form(&work.weight_bytes);
        bytes.plus(&form(&work.activation_bytes), 1.0);
        bytes.plus(&form(&work.kv_bytes), 1.0);
        let link = work.transfer.map(|transfer| form(&transfer.bytes));
        if let Some(touched) = &work.touched {
            let column =
                self.visited(touched.missed.ln() * touched.ranks, self.kind.form(&Rate::token(1.0), op))?;
            bytes.add(column, touched.bytes_per_expert * touched.local);
            vector.add(column, touched.conversions_per_expert * touched.local);
        }
        let mut forms = vec![
            (Bound::Memory, bytes.times(per.byte)),
            (Bound::Compute, flops.times(per.flop)),
            (Bound::Vector, vector.times(per.vector_flop)),
        ];
        if let Some(link) = link {
            forms.push((Bound::Link, link.times(per.link_byte)));
            forms.iter_mut().for_each(|(bound, _)| *bound = Bound::Link);
        }
        Some(Work { forms: binding(forms), flops, bytes })
    }

    /// The column of the share of experts visited.
    fn visited(&mut self, rate: f64, tokens: Affine) -> Option<usize> {
        let column = Visited { rate, tokens };
        let known = self.visited.iter().position(|known| *known == column);
        let index = known.unwrap_or_else(|| {
            self.visited.push(column);
            self.visited.len() - 1
        });
        (VISITED + index < COLUMNS).then_some(VISITED + index)
    }
}

impl Kind {
    /// The quantity as a form over the columns of this kind of step.
    fn form(self, rate: &Rate, op: &Op) -> Affine {
        let mut form = Affine { fixed: rate.fixed, ..Affine::default() };
        if self.decodes(op.over) {
            form.add(DECODES, rate.token + rate.logit + rate.sequence);
            form.add(DECODE_KEYS + op.reach, rate.pair + rate.key);
            // A decoding token scores its whole context: as many as the first reach, which is full.
            form.add(DECODE_KEYS, rate.area);
        }
        if self.prompts(op.over) {
            let logits = if self == (Kind::Prompt { samples: false }) { 0.0 } else { rate.logit };
            match self {
                Kind::Mixed => form.fixed += rate.sequence + logits,
                _ => form.add(PROMPTS, rate.sequence + logits),
            }
            form.add(PROMPT_TOKENS, rate.token);
            form.add(PROMPT_PAIRS + op.reach, rate.pair);
            form.add(PROMPT_KEYS + op.reach, rate.key);
            form.add(PROMPT_AREA, rate.area);
        }
        form
    }
}

/// The forms that can be the greatest: one that another covers never is.
fn binding(forms: Vec<(Bound, Affine)>) -> Vec<(Bound, Affine)> {
    let covered = |index: usize| {
        let form = &forms[index].1;
        let by = |(other, (_, rival)): (usize, &(Bound, Affine))| {
            other != index && rival.covers(form) && (other < index || !form.covers(rival))
        };
        form.is_zero() || forms.iter().enumerate().any(by)
    };
    let kept: Vec<bool> = (0..forms.len()).map(|index| !covered(index)).collect();
    forms.into_iter().zip(kept).filter_map(|(form, kept)| kept.then_some(form)).collect()
}

/// Which reach the context of a growing row of decodes is counted by, the first one apart.
pub(super) fn decode_reach(row: &Row) -> usize {
    let columns = row.forms.iter().flat_map(|(_, form)| &form.terms).map(|(column, _)| *column);
    columns.filter(|column| grows(*column)).max().map_or(0, |column| column.saturating_sub(DECODE_KEYS))
}
