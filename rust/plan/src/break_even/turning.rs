//! The tokens from which linear layers and experts are bound by compute, by the rule b* = P·bits/(16·B).

use roofline_core::analysis::Analyst;
use roofline_core::error::Result;
use roofline_core::roof::Roof;
use roofline_core::site::{Lane, Limits};
use roofline_core::work::{Family, Op, Over};

use super::Answer;

/// Tokens from which the layers' dense multiplications are compute-bound, activations left out, with the techniques and
/// without; and how many sequences bring them where each brings several.
pub(super) fn answers(with: &Analyst, without: &Analyst) -> Result<Vec<Answer>> {
    let (here, there) = (tokens(with, Family::Gemm)?, tokens(without, Family::Gemm)?);
    let rule = "linear layers turn compute-bound: b* = P·bits/(16·B), activations left out";
    let mut all = vec![Answer::new("compute_bound_from", here, "tokens a step", rule)];
    let width = with.generation().width;
    if width > 1 {
        let about = format!("the same in sequences, each of which brings {width} tokens to verify");
        let sequences = here.map(|tokens| tokens / width as f64);
        all.push(Answer::new("compute_bound_from_batch", sequences, "sequences", about));
    }
    let close = |(here, there): (f64, f64)| (here / there - 1.0).abs() < 1e-9;
    if !here.zip(there).is_some_and(close) {
        let about = "the same without the techniques: P/B for 16-bit weights";
        all.push(Answer::new("compute_bound_from_without", there, "tokens a step", about));
    }
    if let Some(experts) = tokens(with, Family::MoeGemm)? {
        let about = "experts do, each of which gets a share of a step's tokens: E/k times the tokens of such a matrix";
        all.push(Answer::new("experts_compute_bound_from", Some(experts), "tokens a step", about));
    }
    Ok(all)
}

/// Σ W/B over Σ F/P of the device's own multiplications of that family by all of their weights, of every token: the rule
/// for their mean bits.
fn tokens(analyst: &Analyst, family: Family) -> Result<Option<f64>> {
    let roof = Roof::of(&analyst.deployment().hardware)?;
    // What drafts runs over sequences, not over the tokens that are verified.
    let decoding = |op: &Op| [Over::All, Over::DecodeAlone].contains(&op.over);
    // Of dense layers alone it is known which multiplications have a matrix.
    let multiplies = |op: &Op| op.family == family && (op.matrix.is_some() || family == Family::MoeGemm);
    let own = |op: &&Op| multiplies(op) && decoding(op) && op.site.lane == Lane::Device;
    let (mut bytes, mut seconds) = (0.0, 0.0);
    for op in analyst.pricer().ops().filter(own).filter(|op| op.work.flops.token > 0.0) {
        let (peak, bandwidth) = match op.site.limits {
            Limits::Device => (roof.peak(op.format)?, roof.bandwidth()),
            Limits::Faster(factor) => (factor * roof.peak(op.format)?, roof.bandwidth()),
            Limits::Other(rates) | Limits::Either(rates) => (rates.flops, rates.bandwidth),
        };
        bytes += op.repeat * op.work.weights_of_many() / bandwidth;
        seconds += op.repeat * op.work.flops.token / peak;
    }
    Ok((seconds > 0.0 && bytes > 0.0).then(|| bytes / seconds))
}
