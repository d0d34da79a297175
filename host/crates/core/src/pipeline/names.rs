//! The names of rejections in dead letters, metrics and the log.

use super::Manifest;
use crate::record::{Cause, Rejection};
use crate::reserved::{ENGINE, RULE_FAULT};

/// Returns the name of the rule at `index` of the pipeline, or the engine's name.
pub fn rule_name(index: Option<usize>, manifests: &[Manifest]) -> &str {
    index.and_then(|index| manifests.get(index)).map_or(ENGINE, |manifest| manifest.name.as_str())
}

/// Returns the reason of a rejection, as it appears in dead letters and metrics.
pub fn reason_name<'a>(rejection: &Rejection, manifests: &'a [Manifest]) -> &'a str {
    match rejection.cause {
        Cause::Rejected { rule, reason } => {
            manifests.get(rule).and_then(|manifest| manifest.reasons.get(reason)).map_or("", String::as_str)
        }
        Cause::Fault { .. } | Cause::Skipped { .. } => RULE_FAULT,
        Cause::Engine(reason) => reason.name(),
    }
}
