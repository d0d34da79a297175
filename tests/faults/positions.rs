//! Positions that are lost: records expired, topics created anew, partitions added.

use std::collections::BTreeSet;

use crate::cluster::shared;
use crate::kafka::Record;
use crate::outages::is_ready;
use crate::program::{Ended, within};
use crate::weir::{Job, PARTITIONS, SETTLING};

/// A job that has done some work and was stopped.
fn paused(name: &str) -> Job {
    let job = Job::create(shared(), name);
    job.load(19, 1_000, 500).finish();
    job.work_off(job.engine("a"));
    job
}

/// Asserts that the process ended by itself with an error that contains all of `words`. Returns the error.
pub fn assert_refused<'a>(ended: &'a Ended, words: &[&str]) -> &'a str {
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    let error = ended.lines.iter().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in {error}"));
    error
}

/// Runs the command that an error message gives.
pub fn follow_remedy(error: &str) {
    follow(error, "");
}

/// Runs the first command of an error message that contains `option`.
fn follow(error: &str, option: &str) {
    let is_meant = |quoted: &&str| quoted.starts_with("kafka-consumer-groups.sh") && quoted.contains(option);
    let command = error.split('`').find(is_meant);
    shared().shell(command.unwrap_or_else(|| panic!("there is no command in {error}")));
}

#[test]
fn records_that_expired_unread_are_named_and_skipped_only_by_hand() {
    let job = paused("expired");
    let (offset, _) = job.committed().unwrap()[&0].clone();
    job.load(20, 1_000, 500).finish();
    shared().delete_records(&job.topic("in"), 0, offset + 5);
    let committed = job.committed();
    let ended = job.engine("a").end();
    assert_refused(&ended, &[&job.topic("in"), &offset.to_string(), &(offset + 5).to_string(), "--reset-offsets"]);
    assert_eq!(job.committed(), committed, "nothing was skipped");
}

/// Resetting the offset of another partition would write its messages a second time, which `weir verify` would report.
#[test]
fn the_remedy_for_records_that_expired_writes_nothing_twice() {
    let job = paused("remedied");
    job.load(26, 1_000, 500).finish();
    let offsets: Vec<i64> = job.committed().unwrap().values().map(|(offset, _)| *offset).collect();
    assert!(offsets.len() == 3 && offsets.iter().all(|offset| *offset > 0), "each partition has something done: {offsets:?}");
    for partition in [0, 2] {
        shared().delete_records(&job.topic("in"), partition, offsets[partition as usize] + 5);
    }
    let ended = job.engine("a").end();
    follow_remedy(assert_refused(&ended, &[":0,2 --reset-offsets --to-earliest"]));
    job.work_off(job.engine("a"));
    job.is_verified();
}

#[test]
fn the_remedy_for_a_state_that_cannot_be_read_writes_nothing_twice() {
    let job = paused("restated");
    let committed = job.committed().unwrap();
    job.commit(1, committed[&1].0, "of another tool");
    job.load(27, 1_000, 500).finish();
    let ended = job.engine("a").end();
    follow_remedy(assert_refused(&ended, &["partition 1", ":1 --reset-offsets --to-current"]));
    job.work_off(job.engine("a"));
    job.is_verified();
}

/// Returns a job whose group has lost its offsets, after an engine has worked it off, and the warning of this engine. `more`
/// logins came before the offsets were deleted.
fn forgotten(name: &str, start: &str, more: usize) -> (Job, String) {
    let job = paused(name).with("kafka.start", start);
    job.load(28, 1_000, more).finish();
    shared().tool("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &["--delete", "--group", job.group()]);
    let mut engine = job.engine("a");
    let warning = engine.weir().line("has no offset in topic");
    job.work_off(engine);
    assert!(warning.contains("WARN") && warning.contains(&job.topic("out")), "{warning}");
    (job, warning)
}

#[test]
fn a_group_whose_offsets_were_deleted_is_told_that_all_is_written_again() {
    let (job, warning) = forgotten("forgotten", "earliest", 0);
    assert!(warning.contains("read again and written a second time"), "{warning}");
    assert_eq!(job.outputs.all().len() + job.letters.all().len(), 1_000, "each of 500 is there twice");
}

#[test]
fn the_remedy_for_offsets_that_were_deleted_goes_on_where_the_group_was() {
    let (job, warning) = forgotten("resumed", "latest", 500);
    assert!(warning.contains("what came into the input since then is now skipped"), "{warning}");
    let written = || -> Vec<Record> { job.outputs.all().into_iter().chain(job.letters.all()).collect() };
    let before = written();
    assert_eq!(before.len(), 500, "the others are skipped");
    for partition in 0..PARTITIONS {
        let of_it = before.iter().map(Record::source).filter(|(of, _)| *of == partition);
        let next = of_it.map(|(_, offset)| offset + 1).max().unwrap_or(0);
        follow_remedy(&warning.replace(":P ", &format!(":{partition} ")).replace(" N ", &format!(" {next} ")));
    }
    job.work_off(job.engine("a"));
    let after = written();
    let done: BTreeSet<(i32, i64)> = after.iter().map(Record::source).collect();
    assert_eq!((done.len(), after.len()), (1_000, 1_000), "nothing is skipped, and nothing is there twice");
    job.is_verified();
}

#[test]
fn a_group_that_is_new_is_not_warned() {
    let job = Job::create(shared(), "new");
    job.load(29, 1_000, 100).finish();
    let mut engine = job.engine("a").assigned();
    job.settle();
    let lines = engine.weir().lines();
    assert!(!lines.iter().any(|line| line.contains("has no offset in topic")), "{lines:#?}");
    job.work_off(engine);
}

/// Returns a job whose input topic was deleted and created anew, and whose old offsets were committed again. A broker forgets the
/// offsets of a deleted topic, but a mirror or a backup may restore them.
fn made_anew(name: &str) -> Job {
    let job = paused(name);
    let committed = job.committed().unwrap();
    shared().delete_topic(&job.topic("in"));
    shared().create_topic(&job.topic("in"), PARTITIONS, &[]);
    // The new topic has more messages than the old one, so the offsets alone do not show the change.
    job.load(21, 1_000, 1_500).finish();
    committed.iter().for_each(|(partition, (offset, metadata))| job.commit(*partition, *offset, metadata));
    job
}

/// Follows the instructions of an error about a topic that was created anew and has `count` messages. Asserts that `weir verify`
/// finds nothing wrong afterwards.
fn begin_anew(mut job: Job, error: &str, count: &str) {
    assert!(error.contains("start them again with new topics for outputs, dead letters and counts"), "{error}");
    follow(error, "--delete-offsets");
    for (key, kind) in [("topics.output", "out"), ("topics.rejected", "rejected"), ("topics.counts", "counts")] {
        let topic = job.topic(kind) + "-2";
        shared().create_topic(&topic, PARTITIONS, &[]);
        job = job.with(key, &topic);
    }
    job.work_off(job.engine("a"));
    let verify = job.verify();
    assert_eq!(verify.code, Some(0), "{verify:#?}");
    let verified = format!("verified: {count} records, each exactly once");
    assert!(verify.lines.iter().any(|line| line.starts_with(&verified)), "{verify:#?}");
}

#[test]
fn the_remedy_for_a_topic_that_was_made_anew_leads_to_a_verdict() {
    let job = made_anew("anew-remedied");
    let verify = job.verify();
    begin_anew(job, assert_refused(&verify, &["was deleted and created anew"]), "1,500");
}

#[test]
fn the_warning_about_offsets_that_a_broker_forgot_with_their_topic_leads_to_a_verdict() {
    let job = paused("anew-forgotten");
    shared().delete_topic(&job.topic("in"));
    shared().create_topic(&job.topic("in"), PARTITIONS, &[]);
    within(SETTLING, "the offsets are forgotten", || job.committed()?.is_empty().then_some(()));
    job.load(32, 1_000, 1_500).finish();
    let mut engine = job.engine("a");
    let warning = engine.weir().line("has no offset in topic");
    engine.stop();
    begin_anew(job, &warning, "1,500");
}

#[test]
fn offsets_of_a_topic_that_was_made_anew_since_are_not_taken() {
    let job = made_anew("anew");
    let committed = job.committed().unwrap();
    // Each output belongs to an offset that the new topic has, so only the topic id in the states shows the change.
    let verify = job.verify();
    let named = committed.values().all(|(_, metadata)| !metadata.contains(r#""topic":"""#));
    assert!(named && verify.code == Some(1), "the oracle: states name no topic: {committed:?}\nweir verify: {verify:#?}");
    assert_refused(&verify, &[&job.topic("in"), "was deleted and created anew"]);
    let outputs = job.outputs.all();
    let ended = job.engine("a").end();
    let error = assert_refused(&ended, &[&job.topic("in"), "was deleted and created anew"]);
    assert_eq!(job.outputs.all(), outputs, "nothing was written");
    begin_anew(job, error, "1,500");
}

#[test]
fn a_topic_that_is_made_anew_while_it_is_read_is_noticed() {
    let job = Job::create(shared(), "swapped").with("kafka.properties.topic.metadata.refresh.interval.ms", "500");
    job.load(24, 1_000, 500).finish();
    let engine = job.engine("a");
    job.settle();
    let committed = job.committed().unwrap();
    let written = || (job.outputs.all(), job.letters.all());
    let before = written();
    shared().delete_topic(&job.topic("in"));
    shared().create_topic(&job.topic("in"), PARTITIONS, &[]);
    job.load(25, 1_000, 1_500).finish();
    let ended = engine.end();
    let error = assert_refused(&ended, &[&job.topic("in"), "was deleted and created anew"]);
    assert_eq!(written(), before, "nothing of the new topic was taken for what comes next in the old one");
    // The cluster forgets offsets with their topic. A window that ends at that moment commits the offsets of the old topic once
    // more.
    let since = job.committed().unwrap();
    let is_old = |(partition, (offset, _)): (&i32, &(i64, String))| committed[partition].0 == *offset;
    assert!(since.iter().all(is_old), "nothing of it is passed over: {since:?} after {committed:?}");
    begin_anew(job, error, "1,500");
}

#[test]
fn a_topic_that_has_become_shorter_is_noticed() {
    let job = paused("shorter");
    // Another tool has set the offset beyond the end, and kept its metadata.
    let (offset, metadata) = job.committed().unwrap()[&1].clone();
    job.commit(1, offset + 1_000, &metadata);
    let ended = job.engine("a").end();
    let error = assert_refused(&ended, &[&job.topic("in"), &(offset + 1_000).to_string(), ":1 --reset-offsets --to-earliest"]);
    follow(error, ":1 --reset-offsets --to-latest");
    job.load(30, 1_000, 500).finish();
    job.work_off(job.engine("a"));
    job.is_verified();
}

#[test]
fn a_partition_that_is_added_is_read_from_its_beginning() {
    let job = Job::create(shared(), "added").with("kafka.properties.topic.metadata.refresh.interval.ms", "500");
    job.load(22, 1_000, 500).finish();
    let engine = job.engine("a");
    job.settle();
    shared().add_partitions(&job.topic("in"), 5);
    job.load(23, 1_000, 1_000).finish();
    job.work_off(engine);
    job.check();
    let more = job.committed().unwrap();
    assert!(more.keys().any(|partition| *partition >= PARTITIONS), "the new ones have messages: {more:?}");
}

/// The state is the one that a clock an hour ahead would have produced when the open window began.
#[test]
fn the_remedy_for_a_clock_that_was_ahead_lets_counts_go_on() {
    let job = paused("ahead");
    let (offset, metadata) = job.committed().unwrap()[&1].clone();
    let mut state: serde_json::Value = serde_json::from_str(&metadata).unwrap();
    for edge in state["window"].as_array_mut().unwrap() {
        *edge = (edge.as_i64().unwrap() + 3_600_000).into();
    }
    job.commit(1, offset, &state.to_string());
    let mut engine = job.engine("a").assigned();
    let told = engine.weir().line("no counts are sent until then");
    is_ready(&mut engine, "200 OK", "ready, but no counts are sent until");
    engine.stop();
    assert!(told.contains("partitions=[1]") && told.contains(":1 --reset-offsets --to-current"), "{told}");
    follow_remedy(&told);
    job.load(28, 1_000, 500).finish();
    let mut engine = job.engine("a").assigned();
    within(SETTLING, "a window of partition 1 is sent", || {
        let of_all = |window: &Record| window.value.as_ref().is_some_and(|json| json.ends_with(br#""partitions":[0,1,2]}"#));
        job.windows.seen().iter().any(of_all).then_some(())
    });
    is_ready(&mut engine, "200 OK", "ready\n");
    job.work_off(engine);
    job.is_verified();
}
