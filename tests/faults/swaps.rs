//! Rules that are replaced while messages flow and transactions are open: hundreds of times, with broken and bad rules among
//! them, with processes that are killed meanwhile, and with two processes that swap at different times.
//!
//! The log of the engine and the headers of the messages must agree on the swaps: each set is in force from the offset on that
//! the log names.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crate::auditor::{Auditor, Evidence};
use crate::cluster::shared;
use crate::kafka::Record;
use crate::operator::{Operator, assert_as_said, blamed, is_live, says, seen};
use crate::program::{field, within};
use crate::weir::{Engine, Job, SETTLING};

/// The number of sets that go live in one test.
const SWAPS: usize = 200;
/// The number of times that an engine is killed.
const KILLS: usize = 20;
/// The number of swaps of each of two engines.
const ROUNDS: usize = 10;
/// The number of logins per second.
const RATE: u32 = 500;

/// A job whose partitions stay with their process, however busy the machine is. A set that goes live while a process has no
/// partitions has no offsets to name in the log.
pub fn settled(name: &str) -> Job {
    Job::create(shared(), name).with("kafka.properties.session.timeout.ms", "45000")
}

/// Returns all outputs and dead letters.
fn written(evidence: &Evidence) -> impl Iterator<Item = &Record> {
    evidence.outputs.iter().chain(&evidence.letters)
}

/// Swaps the rules of an engine `swaps` times under load, and checks that nothing is lost or repeated, and that messages bear the
/// sets that the log names. `joined` waits until the engine is in the group.
pub fn swap_under_load(job: &Job, swaps: usize, joined: impl FnOnce(Engine) -> Engine) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut operator = Operator::new(seed);
    let first = operator.folder.hash();
    let load = job.load(seed, RATE, usize::MAX);
    let mut engine = joined(job.engine_in(&operator.folder, "a"));
    // The first rules give the baseline for later ones.
    within(SETTLING, "some messages are judged", || (job.outputs.count() > RATE as usize).then_some(()));
    let refused = operator.swap(engine.weir(), swaps);
    job.takes_all(SETTLING);
    let sent = load.stop();
    job.settle();
    let lines = engine.weir().lines();
    engine.stop();
    assert!(lines.iter().filter(|line| line.contains("rules are live")).count() >= swaps);
    let mut evidence = job.evidence();
    assert_as_said(&first, &lines, written(&evidence));
    let seen = seen(written(&evidence));
    assert!(operator.bad.is_subset(&seen) && seen.len() > swaps / 2, "{} sets were seen", seen.len());
    evidence.blamed = blamed(&evidence.letters, &operator.bad);
    job.check_on(Auditor { swaps: true, ..Auditor::default() }, &evidence);
    println!("{swaps} swaps, {refused} refused, {} taken back, {} hashes in {sent} messages", operator.bad.len(), seen.len());
}

#[test]
fn two_hundred_swaps_under_load_lose_and_repeat_nothing() {
    swap_under_load(&settled("swaps"), SWAPS, Engine::assigned);
}

#[test]
fn killed_at_any_moment_of_a_swap_it_goes_on_with_a_sound_set() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let job = Job::create(shared(), "swap-killed")
        .with("kafka.properties.session.timeout.ms", "1500")
        .with("kafka.properties.transaction.timeout.ms", "60000");
    let mut operator = Operator::new(seed);
    let load = job.load(seed, RATE, usize::MAX);
    let (mut sets, mut sound) = (BTreeSet::from([operator.folder.hash()]), true);
    for round in 0..KILLS {
        let mut engine = job.engine_in(&operator.folder, "a");
        let began = field(&says(engine.weir(), "rules: ", 0), "ruleset");
        assert!(sets.contains(&began), "round {round}: it begins with a set that was in the folder");
        if sound && began != operator.folder.hash() {
            // The set was on trial when the engine was killed, so its trial begins anew.
            is_live(engine.weir(), &operator.folder.hash());
        }
        job.goes_on(SETTLING);
        sound = round % 4 != 3;
        if sound {
            sets.insert(operator.improve(&began));
        } else {
            operator.break_a_rule();
        }
        thread::sleep(Duration::from_millis(operator.random.u64(..900)));
        engine.kill();
    }
    operator.improve("");
    let engine = job.engine_in(&operator.folder, "a").assigned();
    job.goes_on(SETTLING);
    load.stop();
    job.work_off(engine);
    job.check_by(Auditor { swaps: true, ..Auditor::default() });
}

#[test]
fn two_engines_swap_at_different_times() {
    let job = settled("swap-pair");
    let mut operators = [Operator::new(1), Operator::new(2)];
    let first = operators[0].folder.hash();
    let mut engines = [job.engine_in(&operators[0].folder, "a").assigned(), job.engine_in(&operators[1].folder, "b").assigned()];
    let load = job.load(9, RATE, usize::MAX);
    job.takes_all(SETTLING);
    let mut lives = [first.clone(), first.clone()];
    for round in 0..2 * ROUNDS {
        let mut improve = |index: usize| lives[index] = operators[index].improve(&lives[index]);
        // First one engine, then the other, then both.
        let changed: &[usize] = [&[0][..], &[1], &[0, 1]][round % 3];
        changed.iter().for_each(|index| improve(*index));
        changed.iter().for_each(|index| is_live(engines[*index].weir(), &lives[*index]));
        job.takes_all(SETTLING);
    }
    load.stop();
    job.settle();
    let lines: Vec<String> = engines.iter_mut().flat_map(|engine| engine.weir().lines()).collect();
    engines.into_iter().for_each(|engine| engine.stop());
    let evidence = job.evidence();
    assert_as_said(&first, &lines, written(&evidence));
    job.check_on(Auditor { swaps: true, ..Auditor::default() }, &evidence);
}
