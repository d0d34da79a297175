//! What operators ask of the loader, one after the other.

use std::time::Instant;

use anyhow::{Context as _, anyhow, ensure};

use super::{Live, Loader};
use crate::config;
use crate::events::Event;
use crate::files;
use crate::ruleset::{Defined, Definition, RuleSet, read};
use crate::start::now;
use crate::swap::first::{prove_folder, prove_kept};
use crate::swap::judge::Judge;
use crate::swap::report::{Deployed, Entry, Shadow, Why};
use crate::swap::shadow::Candidate;
use crate::swap::store::{Saved, changes};
use crate::swap::{Answer, File, Request, update};

impl Loader {
    pub(super) fn answer(&mut self, request: Request) -> anyhow::Result<Answer> {
        self.listen();
        match request {
            Request::Deploy { files, dry_run } => self.deploy(&files, dry_run).map(Answer::Deployed),
            Request::Rollback { hash } => self.rollback(hash.as_deref()).map(Answer::Deployed),
            Request::Resume => self.resume().map(Answer::Deployed),
            Request::History => Ok(Answer::History(self.history())),
            Request::Diff { a, b } => Ok(Answer::Changes(changes(&self.store.find(&a)?.set, &self.store.find(&b)?.set))),
            Request::Shadow { files } => self.shadow(files),
            Request::EndShadow => self.end_shadow().map(Answer::Shadow),
            Request::Promote => {
                let (_, files) = self.candidate.as_ref().context("no candidate runs; `weir rules shadow` starts one")?;
                let deployed = self.deploy(&files.clone(), false)?;
                self.end_shadow()?;
                Ok(Answer::Deployed(deployed))
            }
        }
    }

    fn deploy(&mut self, files: &[File], dry_run: bool) -> anyhow::Result<Deployed> {
        let began = Instant::now();
        self.reload()?;
        let definition = self.with(files)?;
        let rules = RuleSet::prove(&self.runtime, definition).inspect_err(|_| self.count_refused())?;
        if dry_run {
            let next = Live::of(&rules, Why::Folder);
            return Ok(Deployed { live: false, ..self.deployed(&next.set, began) });
        }
        let places = files.iter().map(|file| Ok((self.rule(&file.rule)?.file.as_path(), &*file.bytes)));
        files::replace_all(&places.collect::<anyhow::Result<Vec<_>>>()?)
            .map_err(|error| anyhow!("{error:#}; make its folder writable for this process, or put the file there yourself"))?;
        self.store.pardon(rules.hash());
        self.store.set_pin(None)?;
        self.watch.expect(self.store.decisions());
        self.go_live(&rules, Why::Folder, began)
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
            prove_kept(&self.config, &self.runtime, &self.store, &saved.set.hash).inspect_err(|_| self.count_refused())?;
        // With the next look it is told what of the folder waits now.
        self.store.set_pin(Some(rules.hash()))?;
        self.go_live(&rules, Why::Pinned, began)
    }

    /// Follows the folder again.
    fn resume(&mut self) -> anyhow::Result<Deployed> {
        let began = Instant::now();
        self.reload()?;
        let stays = if self.store.pin().is_some() { "the pinned set stays" } else { "the set in force stays" };
        let rules = prove_folder(&self.runtime, &self.store, Definition::read(&self.config)?)
            .inspect_err(|_| self.count_refused())
            .context(stays)?;
        self.store.set_pin(None)?;
        self.watch.expect(self.store.decisions());
        self.go_live(&rules, Why::Folder, began)
    }

    fn history(&self) -> Vec<Entry> {
        let entry = |saved: Saved| Entry {
            live: saved.set.hash == self.live.set.hash,
            taken_back: self.store.taken_back(&saved.set.hash).map(|verdict| verdict.reason),
            rules: saved.set.rules.iter().map(|rule| format!("{} {}", rule.name, rule.version)).collect(),
            hash: saved.set.hash,
            at: saved.at,
            why: saved.why,
        };
        self.store.history().into_iter().map(entry).collect()
    }

    fn shadow(&mut self, files: Vec<File>) -> anyhow::Result<Answer> {
        self.reload()?;
        let rules = RuleSet::prove(&self.runtime, self.with(&files)?)?;
        let set = Live::of(&rules, Why::Folder).set;
        let (candidate, tap) = Candidate::start(Judge::new(&rules)?, set, self.config.shadow.share, now())?;
        self.send(Event::Shadow(Some(tap)))?;
        let report = candidate.report();
        tracing::info!(candidate = report.candidate.hash, "a candidate runs beside the live rules");
        update(&self.status, |status| status.shadow = Some(report.clone()));
        self.candidate = Some((candidate, files));
        Ok(Answer::Shadow(report))
    }

    fn end_shadow(&mut self) -> anyhow::Result<Shadow> {
        let (candidate, _) = self.candidate.take().context("no candidate runs; `weir rules shadow` starts one")?;
        self.send(Event::Shadow(None))?;
        update(&self.status, |status| status.shadow = None);
        Ok(candidate.report())
    }

    /// What the folder and the configuration have, with `files` in their places.
    fn with(&self, files: &[File]) -> anyhow::Result<Definition> {
        ensure!(!files.is_empty(), "no file was given");
        for (index, file) in files.iter().enumerate() {
            self.rule(&file.rule)?;
            ensure!(files[..index].iter().all(|other| other.rule != file.rule), "the rule `{}` was given twice", file.rule);
        }
        let rules = self.config.rules.iter().map(|rule| {
            let Some(given) = files.iter().find(|file| file.rule == rule.name) else {
                return Ok(Defined::new(rule.clone(), read(&rule.file)?));
            };
            // Messages name the file: this one is not the folder's.
            let file = format!("{}.wasm as handed in", rule.name).into();
            Ok(Defined::new(config::Rule { file, ..rule.clone() }, given.bytes.clone()))
        });
        Ok(Definition { rules: rules.collect::<anyhow::Result<_>>()?, counted: self.config.counts.member.clone() })
    }

    fn rule(&self, name: &str) -> anyhow::Result<&config::Rule> {
        let names = || self.config.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>().join(", ");
        self.config
            .rules
            .iter()
            .find(|rule| rule.name == name)
            .with_context(|| format!("there is no rule `{}`; `rules.pipeline` has {}", name.escape_debug(), names()))
    }
}
