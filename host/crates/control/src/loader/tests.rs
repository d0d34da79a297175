//! The decisions, refusals and writes of the loader, with a data loop that the test plays. The effects in a whole process are
//! tested in `tests/swaps.rs` and `tests/operating.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::report::{Deployed, TakenBack};
use crate::store::Saved;
use crate::{Answer, Request};
use weir_core::pipeline::Manifest;
use weir_engine::RuleInstances;
use weir_engine::TrialBounds;
use weir_engine::protocol::{Activated, Activation, Command, Event, Judgement, LoopEnd, OnTrial};
use weir_wasm::rule::Rule;

const RULE: &str = "device-filter";

/// Settings that the test changes, and a file beside them whose change is noticed.
#[derive(Clone, Debug)]
struct Written {
    settings: Arc<Mutex<Settings>>,
    file: PathBuf,
}

impl Written {
    fn get(&self) -> Settings {
        self.settings.lock().unwrap().clone()
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.lock().unwrap();
        change(&mut settings);
        fs::write(&self.file, format!("{settings:?}")).unwrap();
    }
}

impl SettingsSource for Written {
    fn file(&self) -> Option<PathBuf> {
        Some(self.file.clone())
    }

    fn read(&mut self) -> anyhow::Result<(Settings, Vec<String>)> {
        Ok((self.get(), Vec::new()))
    }
}

/// A loader, the data loop's end, and the folder in which the loader works.
struct Field {
    loader: Loader,
    end: LoopEnd,
    folder: TempDir,
    written: Written,
}

/// Returns the shipped rule with a further custom section, which is ignored: another file with the same behaviour.
fn variant(number: u8) -> Vec<u8> {
    let file = format!("{}/../../../rules/dist/{RULE}.wasm", env!("CARGO_MANIFEST_DIR"));
    let mut component = fs::read(&file).unwrap_or_else(|_| panic!("{file} is missing: run `make rules`"));
    // The parts of a custom section: kind, size, length of the name, name, contents.
    component.extend([0, 3, 1, b'v', number]);
    component
}

fn files(number: u8) -> Vec<File> {
    vec![File { rule: RULE.into(), bytes: variant(number) }]
}

fn activated(hash: &str, trial: Option<OnTrial>, replaced: Option<String>) -> Event {
    let (hash, from, retired) = (hash.to_owned(), BTreeMap::new(), Vec::new());
    Event::Activated(Activated { hash, from, retired, trial, replaced })
}

impl Field {
    /// Returns a loader with variant 0 in the rules folder, live, and with a history.
    fn new() -> Field {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("rules")).unwrap();
        fs::write(folder.path().join(format!("rules/{RULE}.wasm")), variant(0)).unwrap();
        let rules = folder.path().join("rules");
        let settings = Settings {
            pipeline: vec![Rule { file: rules.join(format!("{RULE}.wasm")), ..Rule::with_defaults(RULE) }],
            folder: rules,
            counted: "device_type".into(),
            watch: true,
            state: Some(folder.path().join("state")),
            history: 20,
            trial: TrialBounds::default(),
            shadow_share: 0.1,
        };
        let written = Written { settings: Arc::new(Mutex::new(settings)), file: folder.path().join("weir.toml") };
        written.change(|_| ());
        Field::begin(folder, written)
    }

    fn begin(folder: TempDir, written: Written) -> Field {
        let settings = written.get();
        let runtime = Runtime::new(None).unwrap();
        let store = Store::open(settings.state.as_deref(), settings.history, "group").unwrap();
        let first = Bootstrap::choose(&settings, &runtime, &store).unwrap();
        let (loops, mut ends) = protocol::connect(1);
        let source = Box::new(written.clone());
        // No data loop activates a set while the loader waits.
        let mut loader = Loader { patience: Duration::ZERO, ..Loader::new(settings, source, runtime, store, &first) };
        loader.loops = loops;
        loader.save(&loader.live);
        let mut field = Field { loader, end: ends.remove(0), folder, written };
        field.look();
        field
    }

    /// Returns a new loader on the same folder, as if the process was killed and another one began.
    fn restart(self) -> Field {
        Field::begin(self.folder, self.written)
    }

    /// Makes the loader see every change. A change is taken at the second look.
    fn look(&mut self) {
        self.loader.look();
        self.loader.look();
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(format!("rules/{RULE}.wasm"))
    }

    fn put(&self, number: u8) {
        fs::write(self.file(), variant(number)).unwrap();
    }

    fn state(&self, file: &str) -> PathBuf {
        self.folder.path().join("state").join(file)
    }

    /// Returns the hash of the folder's set.
    fn hash(&self) -> String {
        self.written.get().definition().unwrap().hash()
    }

    fn ask(&mut self, request: Request) -> anyhow::Result<Deployed> {
        match self.loader.answer(request)? {
            Answer::Deployed(deployed) => Ok(deployed),
            Answer::Shadow(_) => Ok(Deployed::default()),
        }
    }

    fn is_refused(&mut self, request: Request) -> String {
        format!("{:#}", self.ask(request).expect_err("it is refused"))
    }

    /// Returns the activation that was handed to the data loop.
    fn handed_over(&self) -> Option<Box<Activation>> {
        let activation = |command| if let Command::Activate(next) = command { Some(next) } else { None };
        self.end.commands.try_iter().find_map(activation)
    }

    /// Activates the set that was handed over, as the data loop does. Returns its hash.
    fn take(&mut self) -> String {
        let Activation { rules, trial, baseline, .. } = *self.handed_over().expect("something was handed over");
        let before = self.loader.before.as_ref().unwrap_or(&self.loader.live).set.hash.clone();
        let trial = trial.map(|_| OnTrial { before, baseline });
        let replaced = self.loader.before.as_ref().filter(|_| trial.is_some()).map(|_| self.loader.live.set.hash.clone());
        self.end.tell(activated(rules.hash(), trial, replaced));
        self.loader.handle_events();
        rules.hash().to_owned()
    }

    /// Deploys a variant, and activates it. Returns its hash.
    fn deploy(&mut self, number: u8) -> String {
        assert!(self.ask(Request::Deploy { files: files(number), dry_run: false }).unwrap().waiting);
        self.take()
    }

    fn passes(&mut self, hash: &str) {
        let retired = vec![self.judge(hash)];
        self.end.tell(Event::Judged(Judgement::Passed { hash: hash.into(), retired }));
        self.loader.handle_events();
    }

    /// Sends the event that the data loop has taken a set back. The loader has not handled it yet.
    fn takes_back(&mut self, hash: &str) {
        let kept = [&self.loader.replaced, &self.loader.before].into_iter().flatten().next();
        let back = kept.unwrap_or(&self.loader.live).set.hash.clone();
        self.end.tell(Event::Judged(Judgement::TakenBack {
            retired: self.judge(hash),
            back,
            reason: "bad".into(),
            evidence: Vec::new(),
        }));
    }

    fn judge(&self, hash: &str) -> RuleInstances {
        let set = SetDescription { hash: hash.into(), rules: Vec::new() };
        RuleInstances::new(|_: &_, _: &_, _: &mut _| (), Vec::new(), Arc::new(set))
    }

    fn live(&self) -> (String, LiveReason) {
        let status = self.loader.status.lock();
        assert_eq!(status.live, self.loader.live.set.hash);
        (status.live.clone(), status.why)
    }

    fn unkept(&self) -> Option<String> {
        self.loader.status.lock().unkept.clone()
    }

    fn refusal(&self) -> Option<String> {
        self.loader.status.lock().refusal.clone().map(|refusal| refusal.message)
    }
}

#[test]
fn what_is_asked_while_another_set_waits_is_refused_and_changes_nothing() {
    let mut field = Field::new();
    let first = field.hash();
    let waits = field.ask(Request::Deploy { files: files(1), dry_run: false }).unwrap();
    assert!(waits.waiting && !waits.live, "{waits:?}");
    let second = field.hash();
    assert_eq!(waits.new, second);
    for request in
        [Request::Deploy { files: files(2), dry_run: false }, Request::Rollback { hash: Some(first.clone()) }, Request::Resume]
    {
        let said = field.is_refused(request);
        assert!(said.contains("another set waits"), "{said}");
    }
    assert!(!field.ask(Request::Deploy { files: files(2), dry_run: true }).unwrap().waiting, "nothing hinders a dry run");
    assert_eq!((field.hash(), field.loader.store.pin().unwrap()), (second.clone(), None));
    assert_eq!((field.live(), field.refusal()), ((first, LiveReason::Folder), None), "that it waits is no refusal");
    let waiting = |field: &Field| field.loader.status.lock().folder.clone();
    assert_eq!(waiting(&field), Some(second.clone()));
    assert_eq!(field.take(), second);
    field.look();
    assert_eq!((field.live(), field.refusal(), waiting(&field)), ((second, LiveReason::Folder), None, None));
    assert!(field.handed_over().is_none(), "and nothing that was refused comes after all");
}

#[test]
fn what_changes_by_itself_and_waits_is_no_refusal() {
    let mut field = Field::new();
    field.put(1);
    field.look();
    assert_eq!(field.refusal(), None);
    assert_eq!((field.take(), field.live()), (field.hash(), (field.hash(), LiveReason::Folder)));
}

#[test]
fn a_deployment_whose_pin_can_not_be_removed_changes_nothing() {
    let mut field = Field::new();
    let first = field.hash();
    // Removing a folder takes another call than removing a file, so removing the pin fails.
    fs::create_dir(field.state("pin")).unwrap();
    let said = field.is_refused(Request::Deploy { files: files(1), dry_run: false });
    assert!(said.contains("failed to remove the pin"), "{said}");
    fs::remove_dir(field.state("pin")).unwrap();
    field.look();
    assert_eq!((field.hash(), field.live().0), (first.clone(), first));
    assert!(field.handed_over().is_none());
    assert_eq!(fs::read_dir(field.state("on-trial")).unwrap().count(), 0, "no mark of a trial is left");
}

/// Makes every write to this part of the state folder fail, as on a full disk.
fn fill(part: PathBuf) {
    fs::remove_dir_all(&part).unwrap();
    fs::write(part, "").unwrap();
}

/// Makes writes to this part of the state folder succeed again.
fn clear(part: PathBuf) {
    fs::remove_file(&part).unwrap();
    fs::create_dir(part).unwrap();
}

#[test]
fn a_deployment_that_can_not_be_kept_changes_nothing() {
    for part in ["sets", "on-trial", "components"] {
        let mut field = Field::new();
        let first = field.hash();
        fill(field.state(part));
        let said = field.is_refused(Request::Deploy { files: files(1), dry_run: false });
        assert!(said.contains("so it does not go live") && said.contains("make room in the state folder"), "{said}");
        assert!(field.handed_over().is_none() && field.state("pin").metadata().is_err());
        assert_eq!((field.hash(), field.live().0), (first.clone(), first), "{part}");
        clear(field.state(part));
        assert_eq!(fs::read_dir(field.state("on-trial")).unwrap().count(), 0, "{part}: no mark of a trial is left");
        assert!(field.loader.store.history().len() < 2, "{part}: nor is it in the history");
        let second = field.deploy(1);
        assert_eq!((field.live().0, field.unkept()), (second, None), "{part}");
    }
}

#[test]
fn what_changes_by_itself_and_can_not_be_kept_goes_live_and_is_told() {
    let mut field = Field::new();
    fill(field.state("sets"));
    field.put(1);
    field.look();
    assert_eq!((field.take(), field.refusal()), (field.hash(), None));
    let told = field.unkept().expect("it is told");
    assert!(told.contains("sets") && told.contains("make room"), "{told}");
    clear(field.state("sets"));
    field.ask(Request::Deploy { files: files(1), dry_run: false }).unwrap();
    assert_eq!((field.unkept(), field.loader.store.knows(&field.hash())), (None, true));
}

#[test]
fn whoever_deploys_the_set_in_force_is_told_where_it_can_not_be_kept() {
    for part in ["sets", "components"] {
        let mut field = Field::new();
        let first = field.hash();
        fill(field.state(part));
        for request in [Request::Deploy { files: files(0), dry_run: false }, Request::Resume] {
            let said = field.is_refused(request);
            assert!(said.contains(&format!("failed to keep the set {first}, which is live all the same")), "{part}: {said}");
            assert!(said.contains("make room in the state folder"), "{part}: {said}");
            assert!(field.unkept().is_some_and(|told| told.contains(part)), "{part}");
        }
        assert_eq!(field.live(), (first.clone(), LiveReason::Folder), "{part}");
        clear(field.state(part));
        assert!(field.ask(Request::Deploy { files: files(0), dry_run: false }).unwrap().live);
        assert_eq!((field.unkept(), field.loader.store.knows(&first)), (None, true), "{part}");
    }
}

#[test]
fn whoever_deploys_a_set_is_told_where_there_is_no_room_any_more_once_it_is_live() {
    let field = Field::new();
    let (first, sets) = (field.hash(), field.state("sets"));
    let Field { mut loader, end, folder, written } = field;
    loader.patience = TAKING;
    let before = first.clone();
    let (answer, end) = thread::scope(|scope| {
        let data_loop = scope.spawn(move || {
            let Ok(Command::Activate(next)) = end.commands.recv_timeout(TAKING) else { panic!("a set is handed over") };
            let trial = Some(OnTrial { before, baseline: next.baseline });
            fill(sets);
            end.tell(activated(next.rules.hash(), trial, None));
            end
        });
        (loader.answer(Request::Deploy { files: files(1), dry_run: false }), data_loop.join().unwrap())
    });
    let mut field = Field { loader, end, folder, written };
    let (second, said) = (field.hash(), format!("{:#}", answer.expect_err("that is no success")));
    assert!(said.contains(&format!("failed to keep the set {second}, which is live all the same")), "{said}");
    assert!(said.contains("make room in the state folder") && said.contains("sets"), "{said}");
    assert_eq!((field.live(), field.loader.store.knows(&second)), ((second.clone(), LiveReason::Folder), false));
    assert!(field.unkept().is_some());
    clear(field.state("sets"));
    assert!(field.ask(Request::Deploy { files: files(1), dry_run: false }).unwrap().live);
    assert_eq!((field.unkept(), field.loader.store.knows(&second)), (None, true));
    assert_eq!(field.loader.store.on_trial(&second).map(|trial| trial.before), Some(first), "and its trial goes on");
}

#[test]
fn to_deploy_a_set_again_keeps_that_it_is_on_trial_too() {
    let mut field = Field::new();
    let first = field.hash();
    fill(field.state("on-trial"));
    field.put(1);
    field.look();
    let second = field.take();
    assert!(field.unkept().is_some_and(|told| told.contains("on-trial") && told.contains("make room")));
    clear(field.state("on-trial"));
    field.ask(Request::Deploy { files: files(1), dry_run: false }).unwrap();
    assert_eq!((field.unkept(), field.loader.store.knows(&second)), (None, true));
    assert_eq!(field.restart().live(), (first, LiveReason::LastGood), "a restart does not end the trial");
}

#[test]
fn a_file_that_is_copied_slowly_is_refused_once() {
    let mut field = Field::new();
    let whole = variant(1);
    for length in [1_000, 2_000, 3_000] {
        // `cp` also writes into the same file.
        fs::write(field.file(), &whole[..length]).unwrap();
        field.look();
        assert!(field.refusal().is_some());
    }
    assert_eq!(field.loader.status.lock().refused, 1);
    fs::write(field.file(), &whole[..500]).unwrap();
    field.look();
    assert_eq!(field.loader.status.lock().refused, 2, "that is another one");
    field.put(1);
    field.look();
    assert_eq!((field.take(), field.refusal()), (field.hash(), None));
}

#[test]
fn a_pin_on_the_set_that_is_on_trial_ends_the_trial() {
    let mut field = Field::new();
    let hash = field.deploy(1);
    assert!(field.loader.store.on_trial(&hash).is_some());
    field.ask(Request::Rollback { hash: Some(hash.clone()) }).unwrap();
    let next = field.handed_over().expect("the data loop is told");
    assert_eq!((next.rules.hash(), next.trial.is_none()), (hash.as_str(), true));
    // The set had failed its trial a moment before.
    field.takes_back(&hash);
    field.end.tell(activated(&hash, None, None));
    field.look();
    assert_eq!((field.live(), field.loader.store.on_trial(&hash)), ((hash, LiveReason::Pinned), None));
}

#[test]
fn a_set_that_is_put_back_stands_no_trial_against_itself() {
    let mut field = Field::new();
    let (first, _) = field.live();
    field.deploy(1);
    assert!(field.ask(Request::Deploy { files: files(0), dry_run: false }).unwrap().waiting);
    assert!(field.handed_over().is_some_and(|next| next.trial.is_none()));
    assert!(field.loader.store.on_trial(&first).is_none(), "it would never be a last good one again");
}

#[test]
fn another_process_that_pins_the_set_on_trial_ends_the_trial_too() {
    let mut field = Field::new();
    let hash = field.deploy(1);
    fs::write(field.state("pin"), &hash).unwrap();
    field.look();
    assert_eq!((field.take(), field.live()), (hash.clone(), (hash, LiveReason::Pinned)));
    field.look();
    assert!(field.handed_over().is_none(), "once is enough");
}

#[test]
fn a_set_that_is_taken_back_when_its_successor_is_live_is_no_refusal_of_that() {
    let mut field = Field::new();
    let bad = field.deploy(1);
    field.ask(Request::Deploy { files: files(2), dry_run: false }).unwrap();
    field.takes_back(&bad);
    let mended = field.take();
    field.look();
    let status = field.loader.status.lock().clone();
    assert_eq!((status.live, status.refusal, status.taken_back), (mended, None, None));
    assert!(field.loader.store.taken_back(&bad).is_some(), "it is not forgotten");
}

#[test]
fn a_set_that_was_replaced_during_its_trial_comes_back_where_its_successor_fails() {
    let mut field = Field::new();
    let (first, _) = field.live();
    let second = field.deploy(1);
    let third = field.deploy(2);
    field.takes_back(&third);
    field.look();
    assert_eq!(field.live(), (second.clone(), LiveReason::LastGood));
    let told = field.loader.status.lock().taken_back.clone().expect("it is told");
    assert_eq!((told.hash, told.back), (third, Some(second.clone())));
    assert!(field.loader.store.on_trial(&second).is_some(), "it has its own trial before it");
    field.takes_back(&second);
    field.look();
    assert_eq!(field.live(), (first.clone(), LiveReason::LastGood));
    let told = field.loader.status.lock().taken_back.clone().expect("it is told");
    assert_eq!((told.hash, told.back), (second, Some(first)));
}

#[test]
fn a_candidate_is_not_promoted_with_what_it_was_not_compared_with() {
    let mut field = Field::new();
    let first = field.hash();
    field.ask(Request::Shadow { files: files(1) }).unwrap();
    field.written.change(|settings| settings.pipeline[0].drop = true);
    let said = field.is_refused(Request::Promote);
    assert!(said.contains("nobody has compared") && said.contains("weir rules shadow"), "{said}");
    field.written.change(|settings| settings.pipeline[0].drop = false);
    assert_eq!(field.hash(), first);
    assert!(field.ask(Request::Promote).unwrap().waiting, "the candidate still runs");
    assert_ne!(field.take(), first);
}

#[test]
fn what_a_restart_finds_in_the_folder_and_was_never_live_is_tried_first() {
    let field = Field::new();
    let first = field.hash();
    // A process that is killed between two files leaves this state.
    field.put(1);
    let mut field = field.restart();
    assert_eq!(field.live(), (first, LiveReason::LastGood));
    field.loader.review();
    let next = field.handed_over().expect("it takes its place at once");
    assert_eq!((next.rules.hash(), next.trial.is_some()), (field.hash().as_str(), true));
}

#[test]
fn what_a_damaged_mark_is_about_is_on_trial() {
    let mut field = Field::new();
    let first = field.hash();
    let second = field.deploy(1);
    fs::write(field.state(&format!("on-trial/{second}.json")), "{").unwrap();
    assert_eq!(field.restart().live(), (first, LiveReason::LastGood));
}

#[test]
fn a_set_is_kept_and_marked_before_the_data_loop_has_it_and_in_the_history_from_then_on() {
    let mut field = Field::new();
    let first = field.hash();
    field.ask(Request::Deploy { files: files(1), dry_run: false }).unwrap();
    let second = field.hash();
    assert!(field.loader.store.saved(&second).is_some() && !field.loader.store.knows(&second));
    field.take();
    assert!(field.loader.store.knows(&second));
    let field = field.restart();
    assert_eq!(field.live(), (first, LiveReason::LastGood), "and it has to show that it is sound");
}

/// A second set has been live. A third one was kept when the process was killed, before its files were in place. The restart
/// finds the file `found` instead. Also returns the hash of the second set.
fn killed_before_a_third_set_was_live(mut field: Field, found: &[u8]) -> (Field, String) {
    let second = field.deploy(1);
    field.passes(&second);
    field.look();
    field.ask(Request::Deploy { files: files(2), dry_run: false }).unwrap();
    fs::write(field.file(), found).unwrap();
    (field.restart(), second)
}

#[test]
fn to_go_back_without_a_hash_leads_to_no_set_that_was_kept_and_never_ran() {
    let field = Field::new();
    let first = field.hash();
    let (mut field, second) = killed_before_a_third_set_was_live(field, &variant(1));
    assert_eq!(field.live(), (second, LiveReason::Folder));
    assert_eq!(field.ask(Request::Rollback { hash: None }).unwrap().new, first);
}

#[test]
fn the_last_good_set_is_none_that_was_kept_and_never_ran() {
    let field = Field::new();
    // Without a trial, no mark shows that the third set has yet to prove sound.
    field.written.change(|settings| settings.trial.records = 0);
    let (field, second) = killed_before_a_third_set_was_live(field.restart(), b"broken");
    assert_eq!(field.live(), (second, LiveReason::LastGood));
}

#[test]
fn what_another_process_decides_meanwhile_is_seen() {
    let mut field = Field::new();
    let second = field.deploy(1);
    field.passes(&second);
    let third = field.deploy(2);
    field.look();
    // Another process pins a set, and at the same moment the trial fails.
    let first = field.loader.store.history().last().unwrap().set.hash.clone();
    fs::write(field.state("pin"), &first).unwrap();
    field.takes_back(&third);
    field.look();
    assert_eq!((field.take(), field.live()), (first.clone(), (first, LiveReason::Pinned)));
}

#[test]
fn while_nobody_can_say_whether_a_set_is_pinned_nothing_changes() {
    let mut field = Field::new();
    let first = field.hash();
    fs::create_dir(field.state("pin")).unwrap();
    field.put(1);
    field.look();
    let refusal = field.refusal().expect("it is told");
    assert!(refusal.contains("failed to read whether a set is pinned") && field.handed_over().is_none(), "{refusal}");
    assert_eq!(field.live().0, first);
    fs::remove_dir(field.state("pin")).unwrap();
    field.look();
    assert_eq!((field.take(), field.refusal()), (field.hash(), None));
}

#[test]
fn whoever_leaves_a_set_that_was_taken_back_elsewhere_goes_on_with_one_that_is_not_on_trial() {
    let mut field = Field::new();
    let first = field.hash();
    let second = field.deploy(1);
    field.passes(&second);
    field.look();
    // Another process tries a third set, and takes the second one back.
    let rule = Rule { file: field.file(), ..field.loader.settings.pipeline[0].clone() };
    let third = Definition {
        rules: vec![weir_wasm::definition::RuleDefinition::new(rule, variant(3))],
        ..field.loader.live.definition.clone()
    };
    let store = &field.loader.store;
    let set = SetDescription::of(&third, &[Manifest::default()]);
    store.save(&third, &Saved { set, at: now() + 1_000, why: LiveReason::Folder, live: true }, &[]).unwrap();
    store.put_on_trial(&third.hash(), &OnTrial::default()).unwrap();
    let verdict = TakenBack { hash: second, at: 0, reason: "bad".into(), evidence: Vec::new(), back: None };
    store.take_back(&verdict).unwrap();
    field.look();
    assert_eq!((field.take(), field.live()), (first.clone(), (first, LiveReason::LastGood)));
}

#[test]
fn what_changes_while_it_is_read_is_read_again_before_it_goes_live() {
    let mut field = Field::new();
    field.put(1);
    // The change happens between the last look and this review.
    field.loader.review();
    assert!(field.handed_over().is_none());
    field.look();
    assert_eq!(field.take(), field.hash());
}

#[test]
fn a_loader_that_fails_says_so() {
    let status = SharedStatus::default();
    let alarm = Alarm(status.clone());
    let failed = thread::spawn(move || {
        let _alarm = alarm;
        panic!("on purpose");
    });
    assert!(failed.join().is_err());
    let refusal = status.lock().refusal.clone().expect("it stands in the status");
    assert!(refusal.message.contains("the loader of rules has failed"), "{}", refusal.message);
}

/// Connects the loader with two loops, and deploys variant 1, which neither of them has activated yet. Returns the loops and the set.
fn deployed_to_two(field: &mut Field) -> ([LoopEnd; 2], String) {
    let (loops, ends) = protocol::connect(2);
    field.loader.loops = loops;
    let deployed = field.ask(Request::Deploy { files: files(1), dry_run: false }).unwrap();
    assert!(deployed.waiting);
    (ends.try_into().unwrap(), deployed.new)
}

fn on_trial_after(before: &str) -> Option<OnTrial> {
    Some(OnTrial { before: before.into(), baseline: TrackRecord::default() })
}

#[test]
fn a_set_is_live_once_every_loop_has_it_and_a_verdict_that_came_earlier_counts() {
    let mut field = Field::new();
    let first = field.hash();
    let ([one, other], second) = deployed_to_two(&mut field);
    let shared = [&one, &other].map(|end| match end.commands.try_recv() {
        Ok(Command::Activate(next)) => next.trial.unwrap(),
        command => panic!("{command:?}"),
    });
    assert!(Arc::ptr_eq(&shared[0], &shared[1]), "both loops add to one trial");
    one.tell(activated(&second, on_trial_after(&first), None));
    one.tell(Event::Judged(Judgement::Passed { hash: second.clone(), retired: Vec::new() }));
    field.loader.handle_events();
    assert_eq!(field.live().0, first, "one loop still processes by it");
    other.tell(activated(&second, on_trial_after(&first), None));
    other.tell(Event::Retired(vec![field.judge(&first)]));
    field.loader.handle_events();
    assert_eq!((field.live(), field.loader.before.is_none()), ((second.clone(), LiveReason::Folder), true));
    assert_eq!(field.loader.store.on_trial(&second), None, "it has passed");
}

#[test]
fn a_set_that_fails_before_every_loop_has_it_is_taken_back_in_the_end() {
    let mut field = Field::new();
    let first = field.hash();
    let ([one, other], second) = deployed_to_two(&mut field);
    one.tell(activated(&second, on_trial_after(&first), None));
    let (retired, back) = (field.judge(&second), first.clone());
    one.tell(Event::Judged(Judgement::TakenBack { retired, back, reason: "bad".into(), evidence: Vec::new() }));
    other.tell(activated(&second, on_trial_after(&first), None));
    other.tell(Event::Retired(vec![field.judge(&second)]));
    field.loader.handle_events();
    assert_eq!(field.live(), (first, LiveReason::LastGood));
    assert!(field.loader.store.taken_back(&second).is_some());
    assert!(field.refusal().is_some_and(|said| said.contains("was taken back by its trial: bad")));
}

#[test]
fn a_loop_for_which_there_is_no_partition_is_not_waited_for() {
    let mut field = Field::new();
    let first = field.hash();
    let ([one, other], second) = deployed_to_two(&mut field);
    one.tell(activated(&second, on_trial_after(&first), None));
    other.dismiss();
    field.loader.handle_events();
    assert_eq!(field.live().0, second);
    one.tell(Event::Judged(Judgement::Passed { hash: second, retired: Vec::new() }));
    field.loader.handle_events();
    assert!(field.ask(Request::Deploy { files: files(2), dry_run: false }).unwrap().waiting);
    let third = field.hash();
    one.tell(activated(&third, None, None));
    field.loader.handle_events();
    assert_eq!(field.live().0, third, "nor is it told of the next set");
}
