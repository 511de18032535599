//! Distillation: a smaller student in place of the model.

use std::sync::Arc;

use super::{Effect, Kind, Parameter, Slot, Target};
use crate::catalog;
use crate::error::Result;
use crate::model::Model;
use crate::precision::{Precision, Request};

/// What the catalogue says.
pub static KIND: Kind = Kind {
    name: "distill",
    aliases: &["distillation", "student"],
    class: "knowledge distillation",
    about: "runs a smaller student in place of the model",
    parameters: &[Parameter {
        key: "student",
        default: "",
        about: "catalogue name of the model that is run",
    }],
    changes: "every shape: F, W, A, KV, capacity",
    formula: "those of the student",
    source: "Hinton et al. 2015 (arXiv 1503.02531); the survey",
    pays: "everywhere: fewer weights to read and to multiply, a smaller cache",
    loses: "nowhere in time; answers are the student's",
    slots: &[Slot::Model],
    read: |settings| {
        let student = settings.get("student").map(catalog::models::model).transpose()?;
        let student =
            student.ok_or_else(|| settings.wrong("student", "must be given", "a name of the catalogue"))?;
        Ok(Arc::new(Distill { student }))
    },
};

#[derive(Debug)]
struct Distill {
    student: Model,
}

impl Effect for Distill {
    fn apply(&self, target: &mut Target<'_>) -> Result<()> {
        if target.precision.is_the_checkpoints() {
            let asked = target.precision.kv;
            let own = Precision::resolve(target.model, &Request::default())?.kv;
            *target.precision = Precision::resolve(&self.student, &Request::default())?;
            if asked != own {
                target.precision.kv = asked;
            }
        }
        *target.model = self.student.clone();
        Ok(())
    }

    fn notes(&self) -> Vec<String> {
        vec![format!("{} answers in place of its teacher", self.student.title)]
    }
}
