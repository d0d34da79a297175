//! What the loader and the data loop hand each other: sets that are ready to judge, and what became of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::mpsc::Sender;

use anyhow::Context as _;

use super::SharedStatus;
use super::store::OnTrial;
use super::trial::Record;
use crate::run::TrialBounds;
use crate::snapshot::Snapshot;
use weir_core::counts::Counts;
use weir_core::pipeline::Manifest;
use weir_core::record::{Batch, Step};
use weir_wasm::Occasion;
use weir_wasm::ruleset::RuleSet;

/// A set of rules at work, with what is said about it. Replaced as a whole.
pub struct Judge {
    /// Judges a batch.
    pub process: Box<Process>,
    /// What the rules say of themselves, in their order.
    pub manifests: Vec<Manifest>,
    /// The hash of the set.
    pub hash: String,
}

/// See [`weir_core::pipeline::Pipeline::process`].
pub type Process = dyn FnMut(&Counts, &Batch, &mut Step) + Send;

impl Judge {
    /// Fresh instances of the rules of a set, to judge live messages or copies of them.
    ///
    /// # Errors
    /// If one does not start.
    pub fn new(rules: &RuleSet, occasion: Occasion) -> anyhow::Result<Judge> {
        let mut pipeline = rules.instantiate_for(occasion).context("failed to start the rules")?;
        let manifests = pipeline.manifests().to_vec();
        let process = move |counts: &Counts, batch: &Batch, step: &mut Step| pipeline.process(counts, batch, step);
        Ok(Judge { process: Box::new(process), manifests, hash: rules.hash().to_owned() })
    }

    /// Tells observers which rules are in force.
    pub fn introduce(&self, snapshot: &mut Snapshot) {
        snapshot.ruleset.clone_from(&self.hash);
        snapshot.rules = self.manifests.iter().map(|manifest| manifest.name.clone()).collect();
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Judge").field(&self.hash).finish()
    }
}

/// A set that is to take the place of the present one.
#[derive(Debug)]
pub struct Prepared {
    pub judge: Judge,
    /// Its trial, if it has to stand one.
    pub trial: Option<TrialBounds>,
    /// What the set before it has done lately, where an earlier process has seen that.
    pub usual: Record,
    /// Where to say that it is live.
    pub taken: Sender<Taken>,
    /// Where to say how the trial ends.
    pub notes: Sender<Note>,
    /// Where to say how it goes.
    pub status: SharedStatus,
}

/// That a set is live.
#[derive(Debug)]
pub struct Taken {
    /// By partition, the first offset that it judges.
    pub from: BTreeMap<i32, i64>,
    /// What is not needed any more, to be put away: that takes time which the data loop does not have.
    pub retired: Vec<Judge>,
    /// The trial of the new one, if it stands one.
    pub trial: Option<OnTrial>,
    /// The set that comes back first if it fails, where that was on trial itself when it was replaced.
    pub replaced: Option<String>,
}

/// How a trial has ended.
#[derive(Debug)]
pub enum Note {
    /// The set stays.
    Passed {
        /// Its hash.
        passed: String,
        /// The sets before, to be put away.
        retired: Vec<Judge>,
    },
    /// Another set is in force again.
    TakenBack {
        /// The set that failed, to be put away.
        retired: Judge,
        /// The one that is in force.
        back: String,
        /// Which bound was passed, and by how much.
        reason: String,
        /// Some of the messages that spoke against it.
        evidence: Vec<String>,
    },
}
