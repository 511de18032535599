//! What makes drafts: a head of one layer, or a model of its own, and the memory that it takes.

use roofline_core::error::Result;
use roofline_core::layout::Layout;
use roofline_core::memory::{KvLayout, weight_bytes};
use roofline_core::model::{LayerGroup, Model};
use roofline_core::precision::{Precision, Request};
use roofline_core::step::Deployment;
use roofline_core::technique::Techniques;

use crate::scheduler::speculation::{DraftMethod, Speculation};

/// What drafts beside a deployment; `None` where drafts are looked up, a technique makes them, or nobody said which model
/// does.
///
/// An EAGLE head or a multi-token-prediction module is one layer of the model's last kind with the model's head; a draft
/// model is itself, in its own format, spread like the model but for experts and stages.
///
/// # Errors
/// A draft model whose format is not understood.
pub fn drafter(
    deployment: &Deployment,
    speculation: &Speculation,
    draft_model: Option<&Model>,
) -> Result<Option<Deployment>> {
    // A technique that drafts has put its passes among the operators already.
    if deployment.techniques.drafting().is_some() {
        return Ok(None);
    }
    Ok(match (speculation.method, draft_model) {
        (DraftMethod::Eagle | DraftMethod::Mtp, _) => head(&deployment.model).map(|model| Deployment {
            model,
            layout: Layout { pp: 1, ..deployment.layout },
            techniques: Techniques::default(),
            ..deployment.clone()
        }),
        (DraftMethod::DraftModel, Some(model)) => Some(Deployment {
            model: model.clone(),
            precision: Precision::resolve(model, &Request::default())?,
            layout: Layout { pp: 1, ep: 1, ..deployment.layout },
            techniques: Techniques::default(),
            ..deployment.clone()
        }),
        _ => None,
    })
}

/// One layer of a model's last kind, and its head.
fn head(model: &Model) -> Option<Model> {
    let last = model.layers.iter().rev().find(|group| group.mixer.is_some() && group.ffn.is_some())?;
    let layers = vec![LayerGroup { count: 1, ..last.clone() }];
    Some(Model { layers, vision: None, ..model.clone() })
}

/// Bytes on the busiest device.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Footprint {
    /// Weights.
    pub weights: f64,
    /// Cache of a token.
    pub kv_per_token: f64,
}

impl Footprint {
    /// What a drafter takes beside the model. Embedding and head are the model's own, unless it is a model of its own.
    ///
    /// # Errors
    /// A draft model that cannot be spread as the model is.
    pub fn of(drafter: &Deployment, method: DraftMethod) -> Result<Footprint> {
        let all = weight_bytes(drafter)?;
        let weights = if method == DraftMethod::DraftModel {
            all
        } else {
            // Twice the layer, less it once: what it shares falls out.
            let mut twice = drafter.clone();
            twice.model.layers.iter_mut().for_each(|group| group.count = 2);
            weight_bytes(&twice)? - all
        };
        let kv = KvLayout::of(&drafter.model, drafter.layout, &drafter.precision);
        Ok(Footprint { weights, kv_per_token: kv.bytes_per_token() })
    }
}
