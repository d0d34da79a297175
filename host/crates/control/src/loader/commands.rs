//! The requests of operators to the loader, which are answered one after the other.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::activation::ActivationCause;
use super::{Live, Loader};
use crate::bootstrap::{prove_folder, prove_kept};
use crate::report::Deployed;
use crate::store::Saved;
use crate::{Answer, File, Request, update};
use weir_core::printable::escape_value;
use weir_engine::RuleInstances;
use weir_engine::protocol::{Command, LiveReason};
use weir_engine::shadow::{Candidate, ShadowReport, ShadowSampler};
use weir_system::clock::now;
use weir_wasm::Occasion;
use weir_wasm::definition::{Definition, RuleDefinition, read};
use weir_wasm::rule::Rule;
use weir_wasm::ruleset::RuleSet;

const NO_CANDIDATE: &str = "no candidate runs; `weir rules shadow` starts one";

impl Loader {
    pub(crate) fn answer(&mut self, request: Request) -> anyhow::Result<Answer> {
        self.handle_events();
        match request {
            Request::Deploy { files, dry_run } => self.deploy(&files, dry_run).map(Answer::Deployed),
            Request::Rollback { hash } => self.rollback(hash.as_deref()).map(Answer::Deployed),
            Request::Resume => self.resume().map(Answer::Deployed),
            Request::Shadow { files } => self.shadow(files),
            Request::EndShadow => self.end_shadow().map(Answer::Shadow),
            Request::Promote => self.promote().map(Answer::Deployed),
        }
    }

    fn deploy(&mut self, files: &[File], dry_run: bool) -> anyhow::Result<Deployed> {
        let began = Instant::now();
        let rules = self.prove(files)?;
        if dry_run {
            let next = Live::of(&rules, LiveReason::Folder);
            return Ok(Deployed { live: false, ..self.deployed(&next.set, began) });
        }
        self.go_live(&rules, ActivationCause::Deployed(self.places(files)?), began)
    }

    /// Makes the candidate live. Fails if the set is not the one that was compared.
    fn promote(&mut self) -> anyhow::Result<Deployed> {
        let began = Instant::now();
        let (candidate, files) = self.candidate.as_ref().context(NO_CANDIDATE)?;
        let (hash, files) = (candidate.report().candidate.hash, files.clone());
        let rules = self.prove(&files)?;
        ensure!(
            rules.hash() == hash,
            "the folder or the configuration has changed since the candidate {hash} began, and with it they are {}, which \
             nobody has compared; `weir rules shadow` it again, or `weir rules deploy` it",
            rules.hash()
        );
        let deployed = self.go_live(&rules, ActivationCause::Deployed(self.places(&files)?), began)?;
        self.end_shadow()?;
        Ok(deployed)
    }

    fn rollback(&mut self, hash: Option<&str>) -> anyhow::Result<Deployed> {
        let began = Instant::now();
        let saved = match hash {
            Some(hash) => self.store.find(hash)?,
            None => {
                let others =
                    |saved: &Saved| saved.set.hash != self.live.set.hash && self.store.taken_back(&saved.set.hash).is_none();
                let earlier = self.store.history().into_iter().find(others);
                earlier.context("no other set has been live; there is nothing to go back to")?
            }
        };
        let rules =
            prove_kept(&self.settings, &self.runtime, &self.store, &saved.set.hash).inspect_err(|_| self.count_refused())?;
        self.go_live(&rules, ActivationCause::Rollback, began)
    }

    /// Removes the pin, and makes the folder's set live.
    fn resume(&mut self) -> anyhow::Result<Deployed> {
        let began = Instant::now();
        self.reload()?;
        let stays = if self.store.pin()?.is_some() { "the pinned set stays" } else { "the set in force stays" };
        let rules = prove_folder(&self.runtime, &self.store, self.settings.definition()?)
            .inspect_err(|_| self.count_refused())
            .context(stays)?;
        self.go_live(&rules, ActivationCause::Resumed, began)
    }

    fn shadow(&mut self, files: Vec<File>) -> anyhow::Result<Answer> {
        self.reload()?;
        let rules = RuleSet::prove(&self.runtime, self.with(&files)?)?;
        let instances = RuleInstances::start(&rules, Occasion::Shadow)?;
        let (candidate, sampler) = Candidate::start(instances, rules.description(), self.settings.shadow_share, now())?;
        self.sample(Some(sampler))?;
        let report = candidate.report();
        tracing::info!(candidate = report.candidate.hash, "a candidate runs beside the live rules");
        update(&self.status, |status| status.shadow = Some(report.clone()));
        self.candidate = Some((candidate, files));
        Ok(Answer::Shadow(report))
    }

    fn end_shadow(&mut self) -> anyhow::Result<ShadowReport> {
        let (candidate, _) = self.candidate.take().context(NO_CANDIDATE)?;
        self.sample(None)?;
        update(&self.status, |status| status.shadow = None);
        Ok(candidate.report())
    }

    /// Makes all data loops hand samples to a candidate, or stop.
    fn sample(&self, sampler: Option<ShadowSampler>) -> anyhow::Result<()> {
        for id in self.loops.ids() {
            self.tell(id, Command::Sample(sampler.clone()))?;
        }
        Ok(())
    }

    /// Proves the set of the folder and the configuration, with `files` in place of the folder's.
    fn prove(&mut self, files: &[File]) -> anyhow::Result<RuleSet> {
        self.reload()?;
        RuleSet::prove(&self.runtime, self.with(files)?).inspect_err(|_| self.count_refused())
    }

    /// Returns the places into which `files` are put.
    fn places<'a>(&self, files: &'a [File]) -> anyhow::Result<Vec<(PathBuf, &'a [u8])>> {
        files.iter().map(|file| Ok((self.rule(&file.rule)?.file.clone(), &*file.bytes))).collect()
    }

    /// Returns the definition of the folder and the configuration, with `files` in place of the folder's.
    fn with(&self, files: &[File]) -> anyhow::Result<Definition> {
        ensure!(!files.is_empty(), "no file was given");
        for (index, file) in files.iter().enumerate() {
            self.rule(&file.rule)?;
            ensure!(files[..index].iter().all(|other| other.rule != file.rule), "the rule `{}` was given twice", file.rule);
        }
        let rules = self.settings.pipeline.iter().map(|rule| {
            let Some(given) = files.iter().find(|file| file.rule == rule.name) else {
                return Ok(RuleDefinition::new(rule.clone(), read(&rule.file)?));
            };
            // Error messages name the file, which is not the folder's here.
            let file = format!("{}.wasm as handed in", rule.name).into();
            Ok(RuleDefinition::new(Rule { file, ..rule.clone() }, given.bytes.clone()))
        });
        Ok(Definition { rules: rules.collect::<anyhow::Result<_>>()?, counted: self.settings.counted.clone() })
    }

    fn rule(&self, name: &str) -> anyhow::Result<&Rule> {
        let names = || self.settings.pipeline.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(", ");
        self.settings
            .pipeline
            .iter()
            .find(|rule| rule.name == name)
            .with_context(|| format!("there is no rule `{}`; `rules.pipeline` has {}", escape_value(name), names()))
    }
}
