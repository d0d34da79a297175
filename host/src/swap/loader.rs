//! The loader: a thread that reads, compiles and proves sets of rules, and hands the data loop those that may run.
//!
//! It alone decides which set should run, by the precedence of docs/rules.md:
//!
//! 1. the set that an operator has pinned, if it proves;
//! 2. what the folder and the configuration have, if it proves and no trial has taken it back;
//! 3. the last set that was live, was not taken back, and is not on trial.
//!
//! A trial outlives the process: where the folder's set was on trial, a process begins with the set from before, and the
//! folder's takes its place at once, on trial.
//!
//! It decides anew whenever a file, the configuration or a decision in the state folder has changed. What is refused changes
//! nothing but the status, which says so until it is resolved. The data loop never waits for it.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};

use super::judge::{Judge, Note, Prepared, Taken};
use super::report::{Deployed, Entry, Refusal, Set, TakenBack, Why};
use super::shadow::Candidate;
use super::store::{OnTrial, Saved, Store, changes, describe};
use super::trial::Record;
use super::watch::Watch;
use super::{Answer, Asked, File, Handle, Request, SharedStatus, update};
use crate::config::{self, Config};
use crate::events::Event;
use crate::files;
use crate::ruleset::{Defined, Definition, RuleSet, read};
use crate::start::now;
use crate::wasm::Runtime;

/// How often files are looked at. A change is taken when it has been the same in two looks.
const LOOK: Duration = Duration::from_millis(150);
/// How long the data loop may take to take a set before whoever asked is told that it will come later.
const TAKING: Duration = Duration::from_secs(20);

/// Reads, proves and hands over sets of rules.
pub struct Loader {
    config: Config,
    /// The file of the configuration, as it was named.
    named: Option<PathBuf>,
    runtime: Runtime,
    store: Store,
    status: SharedStatus,
    live: Live,
    /// What ran before, for as long as a trial may bring it back.
    before: Option<Live>,
    /// Handed over, and not taken yet: the data loop waits for Kafka.
    pending: Option<Pending>,
    watch: Watch<Decisions>,
    candidate: Option<(Candidate, Vec<File>)>,
    /// What the first set usually does, if the folder's has to stand its trial against it anew.
    again: Option<Record>,
    /// The pin that the log calls unusable already.
    unusable: Option<String>,
    /// The data loop's.
    events: Sender<Event>,
    notes: (Sender<Note>, Receiver<Note>),
}

type Decisions = (Option<String>, std::collections::BTreeSet<String>);

/// A set, and why it runs.
struct Live {
    definition: Definition,
    set: Set,
    why: Why,
}

/// A set that the data loop has not taken yet.
struct Pending {
    next: Live,
    taken: Receiver<Taken>,
}

/// The set to begin with.
pub struct First {
    rules: RuleSet,
    why: Why,
    refusal: Option<Refusal>,
    /// What the folder has, where that does not run.
    folder: Option<String>,
    /// What this set usually does, if the folder's is to stand its trial against it anew.
    again: Option<Record>,
    /// The pin, if it can't be used.
    unusable: Option<String>,
}

impl First {
    /// Chooses it.
    ///
    /// # Errors
    /// If neither the pinned set, nor the folder's, nor an earlier one can be used: what is wrong with the folder's.
    pub fn choose(config: &Config, runtime: &Runtime, store: &Store) -> anyhow::Result<First> {
        let pin = store.pin();
        match pin.as_ref().map(|pin| prove_kept(config, runtime, store, pin)) {
            Some(Ok(rules)) => {
                let folder = beside(config, runtime, store, rules.hash());
                tracing::warn!(pinned = rules.hash(), "a pinned set of rules runs; `weir rules resume` follows the folder again");
                let refusal = folder.as_ref().err().map(refusal);
                return Ok(First {
                    rules,
                    why: Why::Pinned,
                    refusal,
                    folder: folder.ok().flatten(),
                    again: None,
                    unusable: None,
                });
            }
            Some(Err(error)) => warn_of_pin(pin.as_deref(), &error),
            None => {}
        }
        let folder = Definition::read(config).and_then(|definition| prove_folder(runtime, store, definition));
        let error = match folder {
            Ok(rules) => {
                let first = First { rules, why: Why::Folder, refusal: None, folder: None, again: None, unusable: pin };
                return Ok(first.or_before(config, runtime, store));
            }
            Err(error) => error,
        };
        let sound = |saved: &&Saved| store.taken_back(&saved.set.hash).is_none() && store.on_trial(&saved.set.hash).is_none();
        let kept = |saved: &Saved| prove_kept(config, runtime, store, &saved.set.hash).ok();
        let Some(rules) = store.history().iter().filter(sound).find_map(kept) else { return Err(error) };
        let refusal = refusal(&error);
        tracing::error!(running = rules.hash(), "an earlier set of rules runs: {}", refusal.message);
        Ok(First { rules, why: Why::LastGood, refusal: Some(refusal), folder: None, again: None, unusable: pin })
    }

    /// The set from before, if this one was on trial when a process ended: it has yet to show that it is sound.
    fn or_before(self, config: &Config, runtime: &Runtime, store: &Store) -> First {
        let hash = self.rules.hash().to_owned();
        let Some(OnTrial { before, usual }) = store.on_trial(&hash).filter(|_| config.trial.records > 0) else { return self };
        match prove_kept(config, runtime, store, &before) {
            Ok(rules) if store.taken_back(&before).is_none() => {
                tracing::warn!(running = before, folder = hash, "the folder's rules were on trial, and stand it anew");
                First { rules, why: Why::LastGood, folder: Some(hash), again: Some(usual), ..self }
            }
            // Nothing is there that could come back.
            _ => self,
        }
    }

    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }
}

/// The set of the history whose hash begins with `hash`.
fn prove_kept(config: &Config, runtime: &Runtime, store: &Store, hash: &str) -> anyhow::Result<RuleSet> {
    RuleSet::prove(runtime, store.definition(&store.find(hash)?.set, &config.counts.member)?)
}

/// What the folder has, if that is another set than `live`.
fn beside(config: &Config, runtime: &Runtime, store: &Store, live: &str) -> anyhow::Result<Option<String>> {
    let folder = Definition::read(config)?;
    if folder.hash() == live {
        return Ok(None);
    }
    prove_folder(runtime, store, folder).map(|rules| Some(rules.hash().to_owned()))
}

fn warn_of_pin(pin: Option<&str>, error: &anyhow::Error) {
    tracing::warn!(
        pin,
        "the pinned set can't be used, and the folder is followed: {error:#}; `weir rules resume` removes the pin"
    );
}

/// What the folder has, unless a trial has spoken against it.
fn prove_folder(runtime: &Runtime, store: &Store, definition: Definition) -> anyhow::Result<RuleSet> {
    if let Some(TakenBack { hash, reason, .. }) = store.taken_back(&definition.hash()) {
        bail!("the set {hash} was taken back by its trial: {reason}; `weir rules deploy` tries it once more");
    }
    RuleSet::prove(runtime, definition)
}

impl Loader {
    /// A loader for a process that begins with `first`. `named` is the file of the configuration, as it was named.
    pub fn new(config: Config, named: Option<PathBuf>, runtime: Runtime, store: Store, first: &First) -> Loader {
        let live = Live::of(&first.rules, first.why);
        let status = SharedStatus::default();
        update(&status, |status| {
            status.live = live.set.clone();
            (status.why, status.since, status.refusal) = (first.why, now(), first.refusal.clone());
            status.folder.clone_from(&first.folder);
            status.swaps.refused = u64::from(first.refusal.is_some());
        });
        Loader {
            config,
            named,
            runtime,
            store,
            status,
            live,
            before: None,
            pending: None,
            watch: Watch::default(),
            candidate: None,
            again: first.again,
            unusable: first.unusable.clone(),
            events: mpsc::channel().0,
            notes: mpsc::channel(),
        }
    }

    /// Starts its thread. Sets go to the data loop through `events`.
    ///
    /// # Errors
    /// If that can't be started.
    pub fn start(mut self, events: Sender<Event>) -> anyhow::Result<Handle> {
        let (handle, asked) = Handle::new(self.status.clone());
        self.events = events;
        self.save();
        let started = thread::Builder::new().name("weir-loader".into()).spawn(move || self.run(&asked));
        started.context("failed to start the loader")?;
        Ok(handle)
    }

    /// Until nobody has a handle any more.
    fn run(mut self, asked: &Receiver<Asked>) {
        if self.again.is_some() {
            self.review();
        }
        let mut looked = Instant::now();
        loop {
            match asked.recv_timeout(LOOK.saturating_sub(looked.elapsed())) {
                Ok(Asked { request, answer }) => {
                    let answered = self.answer(request).map_err(|error| refusal(&error));
                    if let Err(refusal) = &answered {
                        tracing::warn!("refused: {}", refusal.message);
                    }
                    // Whoever asked may have gone.
                    let _ = answer.send(answered);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if looked.elapsed() >= LOOK {
                self.look();
                looked = Instant::now();
            }
        }
    }

    fn answer(&mut self, request: Request) -> anyhow::Result<Answer> {
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

    fn end_shadow(&mut self) -> anyhow::Result<super::report::Shadow> {
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

    /// Looks after what may have changed by itself.
    fn look(&mut self) {
        self.listen();
        if let Some((candidate, _)) = &self.candidate {
            let report = candidate.report();
            update(&self.status, |status| status.shadow = Some(report));
        }
        if self.pending.is_some() || !self.config.swap.watch {
            return;
        }
        let (files, decisions) = (self.files(), self.store.decisions());
        if self.watch.look(files.into_iter(), decisions) {
            self.review();
        }
    }

    /// Decides which set should run. What is refused stands in the status.
    fn review(&mut self) {
        if let Err(error) = self.decide() {
            let refusal = refusal(&error);
            let mut known = false;
            update(&self.status, |status| known = status.refusal.as_ref().is_some_and(|last| last.message == refusal.message));
            if known {
                return; // It stands in the status until it is resolved; saying it again helps nobody.
            }
            if self.pending.is_some() {
                tracing::warn!(running = self.live.set.hash, "changed rules wait: {}", refusal.message);
                return update(&self.status, |status| status.refusal = Some(refusal));
            }
            self.count_refused();
            tracing::error!(running = self.live.set.hash, "changed rules are refused, nothing has changed: {}", refusal.message);
            update(&self.status, |status| status.refusal = Some(refusal));
        }
    }

    /// Makes the set live that should be. An error says why the folder's is not.
    fn decide(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let pin = self.store.pin();
        let is_live = pin.as_ref() == Some(&self.live.set.hash);
        match pin.as_ref().filter(|_| !is_live).map(|pin| prove_kept(&self.config, &self.runtime, &self.store, pin)) {
            // Another process on this folder went back.
            Some(Ok(rules)) => return self.go_live(&rules, Why::Pinned, began).map(drop),
            Some(Err(error)) if self.unusable != pin => warn_of_pin(pin.as_deref(), &error),
            _ => {}
        }
        if is_live {
            return self.look_beside();
        }
        self.unusable = pin;
        let folder = self.reload().and_then(|()| Definition::read(&self.config));
        let hash = folder.as_ref().ok().map(Definition::hash);
        if hash.as_ref() == Some(&self.live.set.hash) && self.store.taken_back(&self.live.set.hash).is_none() {
            let mut news = std::mem::replace(&mut self.live.why, Why::Folder) != Why::Folder;
            update(&self.status, |status| {
                news |= status.refusal.is_some();
                (status.why, status.refusal, status.folder) = (Why::Folder, None, None);
            });
            if news {
                tracing::info!(ruleset = self.live.set.hash, "the folder has the rules that run");
            }
            return Ok(());
        }
        match folder.and_then(|definition| prove_folder(&self.runtime, &self.store, definition)) {
            Ok(rules) => self.go_live(&rules, Why::Folder, began).map(drop),
            Err(error) => {
                self.live.why = Why::LastGood;
                update(&self.status, |status| status.why = Why::LastGood);
                self.leave_taken_back(began).context(format!("{error:#}")).and(Err(error))
            }
        }
    }

    /// Sees what waits in the folder while a set is pinned. An error says why that could not run.
    fn look_beside(&mut self) -> anyhow::Result<()> {
        (self.unusable, self.live.why) = (None, Why::Pinned);
        let folder = self.reload().and_then(|()| beside(&self.config, &self.runtime, &self.store, &self.live.set.hash));
        let (folder, failed) = match folder {
            Ok(folder) => (folder, Ok(())),
            Err(error) => (None, Err(error)),
        };
        update(&self.status, |status| {
            if let Some(folder) = folder.as_ref().filter(|_| folder != status.folder) {
                tracing::warn!(
                    pinned = self.live.set.hash,
                    folder,
                    "the folder's rules are others, and wait: `weir rules resume` takes them"
                );
            }
            (status.why, status.folder) = (Why::Pinned, folder);
            if failed.is_ok() {
                status.refusal = None;
            }
        });
        failed
    }

    /// If the set in force was taken back by another process, goes on with the last good one.
    fn leave_taken_back(&mut self, began: Instant) -> anyhow::Result<()> {
        if self.store.taken_back(&self.live.set.hash).is_none() {
            return Ok(());
        }
        let history = self.store.history();
        let sound = |saved: &&Saved| self.store.taken_back(&saved.set.hash).is_none();
        let saved = history.iter().find(sound).context("no other set has been live")?;
        let rules = RuleSet::prove(&self.runtime, self.store.definition(&saved.set, &self.config.counts.member)?)?;
        self.go_live(&rules, Why::LastGood, began).map(drop)
    }

    /// Hands `rules` to the data loop, and waits until they are live.
    fn go_live(&mut self, rules: &RuleSet, why: Why, began: Instant) -> anyhow::Result<Deployed> {
        ensure!(self.pending.is_none(), "another set waits for the data loop, which waits for Kafka; try again later");
        let next = Live::of(rules, why);
        let mut deployed = self.deployed(&next.set, began);
        if next.set.hash == self.live.set.hash {
            self.is_live(next, None);
            return Ok(deployed);
        }
        let (taken, live) = mpsc::channel();
        // What was live before has stood its trial, or never needed one.
        let trial = (why == Why::Folder && self.config.trial.records > 0).then_some(self.config.trial);
        let (notes, status, usual) = (self.notes.0.clone(), self.status.clone(), self.again.take().unwrap_or_default());
        let judge = Judge::new(rules)?;
        if trial.is_some() {
            // Before it judges anything: what happens next may be a crash. The data loop says later what it is held against.
            let before = self.before.as_ref().unwrap_or(&self.live).set.hash.clone();
            self.mark(&next.set.hash, &OnTrial { before, usual });
        }
        self.send(Event::Swap(Box::new(Prepared { judge, trial, usual, taken, notes, status })))?;
        match live.recv_timeout(TAKING) {
            Ok(taken) => {
                deployed.from.clone_from(&taken.from);
                deployed.took = began.elapsed().as_millis() as u64;
                self.is_live(next, Some(taken));
                Ok(deployed)
            }
            Err(RecvTimeoutError::Timeout) => {
                self.pending = Some(Pending { next, taken: live });
                bail!(
                    "the set is proven and handed over, and goes live as soon as the data loop has Kafka's answer; `weir rules status` tells"
                );
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the process is stopping"),
        }
    }

    /// Takes note that a set is live.
    fn is_live(&mut self, next: Live, taken: Option<Taken>) {
        let swapped = taken.is_some();
        let last = std::mem::replace(&mut self.live, next);
        let (set, why) = (self.live.set.clone(), self.live.why);
        if let Some(Taken { from, trial, .. }) = taken {
            // The data loop knows which one it has kept: the last one, or one from before a trial that was cut short.
            let known = [Some(last), self.before.take()].into_iter().flatten();
            self.before = known.into_iter().find(|known| trial.as_ref().is_some_and(|trial| trial.before == known.set.hash));
            match &trial {
                Some(trial) => self.mark(&set.hash, trial),
                None => self.store.end_trial(&set.hash),
            }
            tracing::info!(ruleset = set.hash, %why, ?from, "rules are live");
        }
        update(&self.status, |status| {
            if swapped {
                status.since = now();
                status.swaps.live += 1;
            }
            (status.live, status.why, status.taken_back) = (set, why, None);
            if why != Why::Pinned {
                // A pin does not mend the folder.
                (status.refusal, status.folder) = (None, None);
            }
        });
        self.save();
    }

    /// Hears what the data loop has to say.
    fn listen(&mut self) {
        if let Some(Pending { next, taken }) = self.pending.take() {
            match taken.try_recv() {
                Ok(taken) => self.is_live(next, Some(taken)),
                Err(mpsc::TryRecvError::Empty) => self.pending = Some(Pending { next, taken }),
                Err(mpsc::TryRecvError::Disconnected) => {}
            }
        }
        while let Ok(note) = self.notes.1.try_recv() {
            match note {
                Note::Passed { passed, retired } => {
                    drop(retired);
                    if passed == self.live.set.hash {
                        self.before = None;
                    }
                    self.store.end_trial(&passed);
                    tracing::info!(ruleset = passed, "the set has passed its trial");
                }
                Note::TakenBack { retired, reason, evidence } => self.taken_back(&retired, reason, evidence),
            }
        }
    }

    fn taken_back(&mut self, retired: &Judge, reason: String, evidence: Vec<String>) {
        let verdict = TakenBack { hash: retired.hash.clone(), at: now(), reason, evidence };
        match self.store.take_back(&verdict) {
            Ok(()) => self.store.end_trial(&verdict.hash),
            Err(error) => {
                tracing::error!("failed to keep the verdict of a trial; after a restart the set is tried again: {error:#}");
            }
        }
        // Unless another set has taken its place meanwhile.
        let back = self.before.take_if(|_| retired.hash == self.live.set.hash);
        if let Some(before) = back {
            self.live = Live { why: Why::LastGood, ..before };
        }
        let message = format!(
            "the set {} was taken back by its trial: {}; `weir rules deploy` tries it once more",
            verdict.hash, verdict.reason
        );
        update(&self.status, |status| {
            (status.live, status.why, status.since) = (self.live.set.clone(), self.live.why, now());
            status.swaps.live += 1;
            status.swaps.taken_back += 1;
            (status.trial, status.refusal) = (None, Some(Refusal { at: verdict.at, message }));
            status.taken_back = Some(verdict);
        });
        self.save();
        self.watch.expect(self.store.decisions());
    }

    /// Reads the configuration again. Only what is said of rules, trials and shadows is taken.
    fn reload(&mut self) -> anyhow::Result<()> {
        let read = Config::load(self.named.as_deref(), config::environment())?;
        let Config { rules, trial, shadow, .. } = read;
        (self.config.rules, self.config.trial, self.config.shadow) = (rules, trial, shadow);
        Ok(())
    }

    /// Keeps the set in force in the history.
    fn save(&self) {
        let Live { definition, set, why } = &self.live;
        let saved = Saved { set: set.clone(), at: now(), why: *why };
        let pin = self.store.pin();
        let needed = [Some(set.hash.as_str()), pin.as_deref(), self.before.as_ref().map(|before| before.set.hash.as_str())];
        let needed: Vec<&str> = needed.into_iter().flatten().collect();
        if let Err(error) = self.store.save(definition, &saved, &needed) {
            tracing::error!("failed to keep a set of rules in the history; nobody can go back to it: {error:#}");
        }
    }

    /// Keeps that a set is on trial.
    fn mark(&self, hash: &str, trial: &OnTrial) {
        if let Err(error) = self.store.put_on_trial(hash, trial) {
            tracing::error!("failed to keep that a set is on trial; a restart ends the trial: {error:#}");
        }
    }

    fn deployed(&self, next: &Set, began: Instant) -> Deployed {
        let old = &self.live.set;
        Deployed {
            live: true,
            old: old.hash.clone(),
            new: next.hash.clone(),
            from: Default::default(),
            changes: changes(old, next),
            took: began.elapsed().as_millis() as u64,
        }
    }

    fn count_refused(&self) {
        update(&self.status, |status| status.swaps.refused += 1);
    }

    /// What is looked at: the rules' files, and the configuration.
    fn files(&self) -> Vec<PathBuf> {
        let rules = self.config.rules.iter().map(|rule| rule.file.clone());
        rules.chain(config::locate(self.named.as_deref())).collect()
    }

    fn send(&self, event: Event) -> anyhow::Result<()> {
        self.events.send(event).map_err(|_| anyhow!("the process is stopping"))
    }
}

impl Live {
    fn of(rules: &RuleSet, why: Why) -> Live {
        let manifests: Vec<_> = rules.manifests().collect();
        Live { definition: rules.definition().clone(), set: describe(rules.definition(), &manifests), why }
    }
}

fn refusal(error: &anyhow::Error) -> Refusal {
    Refusal { at: now(), message: format!("{error:#}") }
}
