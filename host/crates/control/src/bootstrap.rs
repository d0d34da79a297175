//! The set of rules that a process begins with: the precedence of docs/rules.md, before there is a data loop.
//!
//! The loader later uses the same checks: whether a kept set, or the folder's, can still be proven.

use anyhow::bail;

use super::decision::{Decision, Folder, Pin, Standing, decide};
use super::report::{SetRefusal, TakenBack};
use super::store::{Saved, Store};
use crate::settings::Settings;
use weir_engine::protocol::{LiveReason, OnTrial};
use weir_engine::trial::TrackRecord;
use weir_wasm::Runtime;
use weir_wasm::definition::Definition;
use weir_wasm::ruleset::RuleSet;

/// The set to begin with.
pub struct Bootstrap {
    pub(crate) rules: RuleSet,
    pub(crate) why: LiveReason,
    pub(crate) refusal: Option<SetRefusal>,
    /// The hash of the folder's set, if another set runs.
    pub(crate) folder: Option<String>,
    /// The baseline of this set, if the folder's set has to stand its trial against it anew.
    pub(crate) again: Option<TrackRecord>,
    /// The pin, if it can't be used.
    pub(crate) unusable: Option<String>,
}

impl Bootstrap {
    /// Chooses the set to begin with.
    ///
    /// # Errors
    /// If neither the pinned set, nor the folder's, nor an earlier one can be used; the error is that of the folder's set. Also
    /// if it can't be read whether a set is pinned.
    pub fn choose(settings: &Settings, runtime: &Runtime, store: &Store) -> anyhow::Result<Bootstrap> {
        let pinned = store.pin()?;
        let pin = match pinned.as_ref().map(|pin| prove_kept(settings, runtime, store, pin)) {
            None => Pin::None,
            Some(Ok(rules)) => Pin::Other(rules),
            Some(Err(error)) => {
                warn_of_pin(pinned.as_deref(), &error);
                Pin::None
            }
        };
        let unusable = if let Pin::None = pin { pinned } else { None };
        let folder = || match settings.definition().and_then(|definition| prove_folder(runtime, store, definition)) {
            Ok(rules) => Folder::Other(rules),
            Err(error) => Folder::Nothing(error),
        };
        let (rules, why, refusal) = match decide(pin, folder, Standing::None) {
            Decision::Activate(rules, why) => (rules, why, None),
            Decision::FallBack(error) => {
                let Some(rules) = last_good(settings, runtime, store) else { return Err(error) };
                tracing::error!(running = rules.hash(), "an earlier set of rules runs: {error:#}");
                (rules, LiveReason::LastGood, Some(SetRefusal::of(&error)))
            }
            // No set is in force that could stay, and the folder is read only once.
            Decision::Wait | Decision::Keep(_) | Decision::Refuse(_) => bail!("no set of rules can run"),
        };
        let begun = Bootstrap { rules, why, refusal, folder: None, again: None, unusable };
        match why {
            LiveReason::Pinned => Ok(begun.with_pending_folder(settings, runtime, store)),
            LiveReason::Folder => Ok(begun.or_previous(settings, runtime, store)),
            LiveReason::LastGood => Ok(begun),
        }
    }

    /// Adds the folder's set that waits while a set is pinned, or the reason why the folder's set could not run.
    fn with_pending_folder(self, settings: &Settings, runtime: &Runtime, store: &Store) -> Bootstrap {
        let folder = pending_in_folder(settings, runtime, store, self.rules.hash());
        tracing::warn!(pinned = self.rules.hash(), "a pinned set of rules runs; `weir rules resume` follows the folder again");
        Bootstrap { refusal: folder.as_ref().err().map(SetRefusal::of), folder: folder.ok().flatten(), ..self }
    }

    /// Returns the set from before instead, if this one has yet to show that it is sound: it was on trial when a process ended,
    /// or it has never been live. In the second case, files were changed while no process ran, or a process was killed while it
    /// put them in place.
    fn or_previous(self, settings: &Settings, runtime: &Runtime, store: &Store) -> Bootstrap {
        let hash = self.rules.hash().to_owned();
        let trial = store.on_trial(&hash).or_else(|| (!store.knows(&hash)).then(OnTrial::default));
        let Some(OnTrial { before, baseline }) = trial.filter(|_| settings.trial.records > 0) else { return self };
        let sound = Some(before).filter(|before| store.taken_back(before).is_none());
        let before = sound.and_then(|before| prove_kept(settings, runtime, store, &before).ok());
        let Some(rules) = before.or_else(|| last_good(settings, runtime, store)) else {
            return self; // No other set could come back.
        };
        tracing::warn!(running = rules.hash(), folder = hash, "the folder's rules are new or were on trial, and stand it first");
        Bootstrap { rules, why: LiveReason::LastGood, folder: Some(hash), again: Some(baseline), ..self }
    }

    /// Returns the set.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Returns the reason why this set was chosen.
    pub fn why(&self) -> LiveReason {
        self.why
    }
}

/// Proves the set of the history whose hash begins with `hash`.
pub(crate) fn prove_kept(settings: &Settings, runtime: &Runtime, store: &Store, hash: &str) -> anyhow::Result<RuleSet> {
    RuleSet::prove(runtime, store.definition(&store.find(hash)?.set, &settings.counted)?)
}

/// Returns the last set that was live, was not taken back, is not on trial, and can still be proven.
pub(crate) fn last_good(settings: &Settings, runtime: &Runtime, store: &Store) -> Option<RuleSet> {
    let sound = |saved: &&Saved| store.taken_back(&saved.set.hash).is_none() && store.on_trial(&saved.set.hash).is_none();
    store.history().iter().filter(sound).find_map(|saved| prove_kept(settings, runtime, store, &saved.set.hash).ok())
}

/// Proves the folder's set and returns its hash. Returns None if the folder has the set `live`.
pub(crate) fn pending_in_folder(
    settings: &Settings,
    runtime: &Runtime,
    store: &Store,
    live: &str,
) -> anyhow::Result<Option<String>> {
    let folder = settings.definition()?;
    if folder.hash() == live {
        return Ok(None);
    }
    prove_folder(runtime, store, folder).map(|rules| Some(rules.hash().to_owned()))
}

pub(crate) fn warn_of_pin(pin: Option<&str>, error: &anyhow::Error) {
    tracing::warn!(
        pin,
        "the pinned set can't be used, and the folder is followed: {error:#}; `weir rules resume` removes the pin"
    );
}

/// Proves the folder's set, unless it was taken back by a trial.
pub(crate) fn prove_folder(runtime: &Runtime, store: &Store, definition: Definition) -> anyhow::Result<RuleSet> {
    if let Some(TakenBack { hash, reason, .. }) = store.taken_back(&definition.hash()) {
        bail!("the set {hash} was taken back by its trial: {reason}; `weir rules deploy` tries it once more");
    }
    RuleSet::prove(runtime, definition)
}
