//! The pure core: a batch in, a step out.

use crate::counts::Counts;
use crate::record::{Batch, Step};

/// What a rule says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub description: String,
    pub reads: Vec<String>,
    pub writes: Vec<String>,
    pub reasons: Vec<String>,
}

/// Rules in their order, and what to read from messages for them. `R` is how a rule is run: in Wasm or natively.
pub struct Pipeline<R> {
    rules: Vec<R>,
    manifests: Vec<Manifest>,
}

impl<R> Pipeline<R> {
    /// What the rules say of themselves, in the order of the pipeline. `Rejection::rule` is an index into this.
    pub fn manifests(&self) -> &[Manifest] {
        &self.manifests
    }

    /// Judges `batch`. `step` is cleared first; its buffers are used again. Changes nothing but scratch buffers: the caller
    /// commits the step and then applies `step.counts` to `counts`.
    pub fn process(&mut self, _counts: &Counts, _batch: &Batch, _step: &mut Step) {
        let _ = &mut self.rules;
    }
}
