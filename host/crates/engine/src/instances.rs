//! Running instances of the rules of a set, with the description of the set.

use std::fmt;
use std::sync::Arc;

use anyhow::Context as _;
use weir_core::counts::Counts;
use weir_core::pipeline::{Evaluate, Manifest, Pipeline};
use weir_core::record::{Batch, Step};
use weir_wasm::Occasion;
use weir_wasm::description::SetDescription;
use weir_wasm::ruleset::RuleSet;

/// Processes batches. Implemented by a pipeline of rules, and by closures.
pub trait ProcessBatch: Send {
    /// Processes `batch` into `step`; see [`Pipeline::process`].
    fn process(&mut self, counts: &Counts, batch: &Batch, step: &mut Step);
}

impl<R: Evaluate + Send> ProcessBatch for Pipeline<R> {
    fn process(&mut self, counts: &Counts, batch: &Batch, step: &mut Step) {
        Pipeline::process(self, counts, batch, step);
    }
}

impl<F: FnMut(&Counts, &Batch, &mut Step) + Send> ProcessBatch for F {
    fn process(&mut self, counts: &Counts, batch: &Batch, step: &mut Step) {
        self(counts, batch, step);
    }
}

/// Instances of the rules of a set. Each data loop has its own, and replaces them as a whole.
pub struct RuleInstances {
    process: Box<dyn ProcessBatch>,
    /// The manifests of the rules, in their order.
    pub manifests: Vec<Manifest>,
    /// The description of the set.
    pub set: Arc<SetDescription>,
}

impl RuleInstances {
    /// Starts fresh instances of the rules of a set.
    ///
    /// # Errors
    /// If an instance does not start.
    pub fn start(rules: &RuleSet, occasion: Occasion) -> anyhow::Result<RuleInstances> {
        let pipeline = rules.instantiate_for(occasion).context("failed to start the rules")?;
        let manifests = pipeline.manifests().to_vec();
        Ok(RuleInstances::new(pipeline, manifests, Arc::clone(rules.description())))
    }

    /// Returns a set whose batches are processed by `process`: a pipeline, or another implementation of [`ProcessBatch`].
    pub fn new(process: impl ProcessBatch + 'static, manifests: Vec<Manifest>, set: Arc<SetDescription>) -> RuleInstances {
        RuleInstances { process: Box::new(process), manifests, set }
    }

    /// Processes a batch.
    pub fn process(&mut self, counts: &Counts, batch: &Batch, step: &mut Step) {
        self.process.process(counts, batch, step);
    }

    /// Returns the hash of the set.
    pub fn hash(&self) -> &str {
        &self.set.hash
    }
}

impl fmt::Debug for RuleInstances {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("RuleInstances").field(&self.set.hash).finish()
    }
}

/// Returns a description of a set of which only the hash is known.
#[cfg(test)]
pub(crate) fn set(hash: &str) -> Arc<SetDescription> {
    Arc::new(SetDescription { hash: hash.into(), rules: Vec::new() })
}
