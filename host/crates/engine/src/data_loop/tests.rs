//! The data loop on the embedded broker, with a closure in place of the rules.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use super::*;
use crate::instances::set;
use crate::process_snapshot::ProcessSnapshot;
use crate::protocol::{self, Activated, Activation, LiveReason, LoopId, Loops, OnTrial};
use crate::shared_trial::SharedTrial;
use crate::snapshot::{LoopState, Snapshot};
use crate::trial::TrackRecord;
use crate::{LoopStart, Setup, Threads, TrialBounds};
use weir_core::pipeline::Manifest;
use weir_core::record::{Batch, Cause, Rejection, Step};
use weir_core::reserved::Reason;
use weir_kafka::testing::{Broker, Code, Input, Received, Request, eventually, settings};
use weir_kafka::writer;

/// A stand-in for the rules. It rejects `bad…`, drops `drop…`, stops at `stop…`, writes `+…` as `added…`, and passes all other
/// records unchanged. Records that pass are counted under their first word. `slow…` takes all the time that there is, so the
/// records after it are left for later.
fn judge(counts: &Counts, batch: &Batch, step: &mut Step) {
    judge_with(["stop", "slow"], counts, batch, step);
}

/// The same stand-in, with other words for the records that stop and that take all the time.
fn judge_with([stop, slow]: [&str; 2], counts: &Counts, batch: &Batch, step: &mut Step) {
    step.clear();
    let mut passed = Vec::new();
    for record in 0..batch.len() as u32 {
        let value = batch.value(record as usize).map(|value| std::str::from_utf8(value).unwrap());
        let reject = |drop| {
            let detail = Some("why".into());
            Rejection { record, cause: Cause::Rejected { rule: 0, reason: 0 }, detail, drop }
        };
        if let Some(refusal) = batch.refusal(record as usize) {
            let (cause, detail) = (Cause::Engine(refusal.reason), Some(refusal.detail.clone()));
            step.rejections.push(Rejection { cause, detail, ..reject(false) });
            continue;
        }
        match value {
            Some(value) if value.starts_with("bad") => step.rejections.push(reject(false)),
            Some(value) if value.starts_with("drop") => step.rejections.push(reject(true)),
            Some(value) if value.starts_with(stop) => {
                step.stop = Some(format!("a rule failed on {}", batch.position(record as usize)));
            }
            None => step.rejections.push(Rejection { cause: Cause::Engine(Reason::Tombstone), ..reject(false) }),
            Some(value) => {
                passed.push((batch.records()[record as usize].partition, value.split(' ').next()));
                if value.starts_with(slow) {
                    step.outputs_mut().pass(record);
                    step.processed_records = Some(record as usize + 1);
                    break;
                }
                match value.strip_prefix('+') {
                    Some(rest) => step
                        .outputs_mut()
                        .pass_with(record, |out| {
                            out.extend_from_slice(format!("added{rest}").as_bytes());
                            Ok::<(), ()>(())
                        })
                        .unwrap(),
                    None => step.outputs_mut().pass(record),
                }
            }
        }
    }
    step.counts = counts.count(batch.processed_at, passed.into_iter());
}

/// Returns a set with this stand-in.
fn rules(hash: &str) -> RuleInstances {
    rules_that(hash, judge)
}

fn rules_that(hash: &str, process: impl FnMut(&Counts, &Batch, &mut Step) + Send + 'static) -> RuleInstances {
    let manifest = Manifest { name: "rule".into(), version: "1.2.3".into(), reasons: vec!["bad".into()], ..Manifest::default() };
    RuleInstances::new(process, vec![manifest], set(hash))
}

/// The rules' end of a gate, at which they wait until the test has done something.
struct Gate {
    reached: mpsc::Sender<()>,
    open: mpsc::Receiver<()>,
}

/// The test's end of a gate.
struct Keeper {
    reached: mpsc::Receiver<()>,
    open: mpsc::Sender<()>,
}

fn gate() -> (Gate, Keeper) {
    let ((reached, is_reached), (open, is_open)) = (mpsc::channel(), mpsc::channel());
    (Gate { reached, open: is_open }, Keeper { reached: is_reached, open })
}

impl Gate {
    fn wait(&self) {
        self.reached.send(()).unwrap();
        self.open.recv_timeout(Duration::from_secs(30)).unwrap();
    }
}

impl Keeper {
    /// Produces `message` while the rules process the first chunk of a transaction, and lets the broker refuse that chunk's
    /// output once.
    fn let_come(&self, broker: &Broker, message: Input<'_>) {
        self.reached.recv_timeout(Duration::from_secs(30)).unwrap();
        broker.produce(&[message]);
        broker.fail(Request::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
        // A fetch takes 10 ms. The next poll must find the record, or else the record is part of the next transaction.
        thread::sleep(Duration::from_millis(300));
        self.open.send(()).unwrap();
    }
}

/// Returns a broker whose consumers fetch all the time.
fn quick_broker() -> Broker {
    let mut settings = settings();
    settings.client.properties.insert("fetch.wait.max.ms".into(), "10".into());
    Broker::start(settings)
}

const COUNTS: CountSettings = CountSettings { every: Duration::from_secs(60), emit_empty: false, reset_bad_state: false };

/// A run in a thread of its own. Dropping it requests a shutdown, so that a failed test ends.
pub(super) struct Running<'scope> {
    loops: Loops,
    shutdown: Shutdown,
    pub(super) snapshot: ProcessSnapshot,
    thread: Option<ScopedJoinHandle<'scope, anyhow::Result<()>>>,
}

impl<'scope> Running<'scope> {
    pub(super) fn start<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        broker: &'env Broker,
        clock: &'env AtomicI64,
    ) -> Running<'scope> {
        Running::at(scope, &broker.settings, &broker.address, clock)
    }

    fn with<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        broker: &'env Broker,
        clock: &'env AtomicI64,
        rules: RuleInstances,
    ) -> Running<'scope> {
        Running::judging(scope, &broker.settings, &broker.address, clock, rules)
    }

    fn at<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        settings: &'env weir_kafka::Settings,
        address: &'env str,
        clock: &'env AtomicI64,
    ) -> Running<'scope> {
        Running::judging(scope, settings, address, clock, rules("cafe"))
    }

    fn judging<'env>(
        scope: &'scope thread::Scope<'scope, 'env>,
        settings: &'env weir_kafka::Settings,
        address: &'env str,
        clock: &'env AtomicI64,
        rules: RuleInstances,
    ) -> Running<'scope> {
        let (loops, mut ends) = protocol::connect(1);
        let start = LoopStart { rules, why: LiveReason::Folder, control: ends.remove(0) };
        let (snapshot, shutdown) = (ProcessSnapshot::new(1), Shutdown::default());
        let (shared, stop) = (snapshot.clone(), shutdown.clone());
        let thread = scope.spawn(move || {
            let clock = || clock.load(Ordering::Relaxed);
            let (kafka, brokers, counts, shutdown, threads) = (settings, address, &COUNTS, &stop, Threads::Number(1));
            Setup { kafka, brokers, counts, threads, shutdown, snapshot: &shared, clock }.run(vec![start]).map(drop)
        });
        Running { loops, shutdown, snapshot, thread: Some(thread) }
    }

    pub(super) fn until(&self, what: &str, condition: impl Fn(&Snapshot) -> bool) {
        eventually(what, || condition(&self.snapshot.get()));
    }

    /// Activates a set, and waits until it is live.
    fn swap(&self, hash: &str, trial: Option<TrialBounds>, baseline: TrackRecord) -> Activated {
        self.swap_to(rules(hash), trial, baseline)
    }

    fn swap_to(&self, rules: RuleInstances, trial: Option<TrialBounds>, baseline: TrackRecord) -> Activated {
        let hash = rules.hash().to_owned();
        let trial = trial.map(SharedTrial::new);
        let activation = Activation { rules, why: LiveReason::Folder, trial, baseline };
        assert!(self.loops.tell(LoopId(0), Command::Activate(Box::new(activation))));
        loop {
            match self.loops.events.recv_timeout(Duration::from_secs(30)).unwrap() {
                (_, Event::Activated(activated)) if activated.hash == hash => return activated,
                _ => {}
            }
        }
    }

    pub(super) fn stop(mut self) -> anyhow::Result<Snapshot> {
        self.shutdown.request();
        self.join()
    }

    /// Waits for a run that ends by itself, and returns its last snapshot or its error.
    pub(super) fn join(&mut self) -> anyhow::Result<Snapshot> {
        eventually("it ends", || self.thread.as_ref().unwrap().is_finished());
        self.thread.take().unwrap().join().unwrap().map(|()| self.snapshot.get())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.shutdown.request();
    }
}

fn text(message: &Received) -> (i32, &str) {
    (message.partition, message.text())
}

#[test]
fn messages_arrive_with_key_headers_timestamp_and_partition() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(1_000);
    broker.produce_with(
        &[
            (2, Some("k"), Some(b"+x")),
            (2, None, Some(b"plain")),
            (1, Some("k"), Some(b"bad")),
            (0, None, None),
            (0, None, Some(b"drop")),
        ],
        &[("a", b"1"), ("a", b"2"), (writer::SOURCE, b"elsewhere/0/7")],
        Some(1_700_000_000_123),
    );
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("all five are committed", |snapshot| snapshot.read == 5);
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.written, snapshot.rejections()), (2, 3));
    });
    let output = broker.read("processed-user-login", 2);
    assert_eq!(output.iter().map(text).collect::<Vec<_>>(), [(2, "addedx"), (2, "plain")]);
    assert_eq!(output[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(output[1].key, None);
    assert_eq!(output[0].timestamp, Some(1_700_000_000_123));
    let names: Vec<_> = output[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "a", writer::RULESET, writer::SOURCE], "ours replace their namesakes");
    assert_eq!((output[0].header(writer::RULESET), output[0].header(writer::SOURCE)), (Some("cafe"), Some("user-login/2/0")));

    let letters = broker.read("user-login-rejected", 2);
    let [tombstone, bad] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((bad.partition, bad.text(), bad.key.as_deref()), (1, "bad", Some(&b"k"[..])));
    let names: Vec<_> = bad.headers.iter().map(|(name, _)| name.as_str()).collect();
    let ours = [writer::REASON, writer::DETAIL, writer::RULE, writer::RULE_VERSION, writer::RULESET, writer::SOURCE];
    assert_eq!(names, [&["a", "a"][..], &ours].concat(), "ours replace their namesakes here too");
    let header = |name| bad.header(name);
    assert_eq!((header(writer::REASON), header(writer::DETAIL), header(writer::RULE)), (Some("bad"), Some("why"), Some("rule")));
    assert_eq!((header(writer::RULE_VERSION), header(writer::RULESET)), (Some("1.2.3"), Some("cafe")));
    assert_eq!(header(writer::SOURCE), Some("user-login/1/0"));
    assert_eq!((tombstone.value.as_ref(), tombstone.header(writer::RULE)), (None, Some("weir")));
}

#[test]
fn a_dead_letter_that_is_replayed_again_and_again_does_not_grow() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(1_000);
    let mut headers = vec![("trace".to_owned(), b"t-1".to_vec())];
    for round in 1..4 {
        let sent: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
        broker.produce_with(&[(0, None, Some(b"bad"))], &sent, None);
        thread::scope(|scope| {
            let running = Running::start(scope, &broker, &clock);
            running.until("it is rejected", |snapshot| snapshot.read == 1);
            running.stop().unwrap();
        });
        let letters = broker.read("user-login-rejected", round);
        let letter = &letters[round - 1];
        assert_eq!((letter.headers.len(), letter.header("trace")), (7, Some("t-1")));
        assert_eq!(letter.header(writer::SOURCE), Some(format!("user-login/0/{}", round - 1).as_str()));
        headers = letter.headers.iter().map(|(name, value)| (name.clone(), value.clone().unwrap_or_default())).collect();
    }
}

#[test]
fn what_rules_had_no_time_for_is_judged_again_in_order() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    let words: Vec<String> = (0..40).map(|index| format!("{} {index}", ["fine", "slow", "bad"][index % 3])).collect();
    let messages: Vec<_> =
        words.iter().enumerate().map(|(index, word)| (index as i32 % 2, None, Some(word.as_bytes()))).collect();
    broker.produce(&messages);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("all are committed", |snapshot| snapshot.read >= 40);
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.read, snapshot.written, snapshot.rejections()), (40, 27, 13));
        assert!(snapshot.batches >= 13, "each slow one ends a batch");
        assert_eq!(snapshot.totals, BTreeMap::from([("fine".into(), 14), ("slow".into(), 13)]));
    });
    let output = broker.read("processed-user-login", 27);
    for partition in 0..2 {
        let found: Vec<&str> = output.iter().filter(|output| output.partition == partition).map(Received::text).collect();
        let sent = words.iter().enumerate().filter(|(index, word)| *index as i32 % 2 == partition && !word.starts_with("bad"));
        assert_eq!(found, sent.map(|(_, word)| word.as_str()).collect::<Vec<_>>());
    }
    assert_eq!(broker.read("user-login-rejected", 13).len(), 13);
}

/// Returns whether a record of a batch has this text as its value.
fn contains(batch: &Batch, text: &str) -> bool {
    (0..batch.len()).any(|record| batch.value(record) == Some(text.as_bytes()))
}

#[test]
fn what_rules_have_no_time_for_when_it_is_sent_again_is_read_again_as_well() {
    let broker = quick_broker();
    let clock = AtomicI64::new(60_000);
    let (gate, keeper) = gate();
    let mut judged = 0;
    let slow_at_the_second_time = rules_that("cafe", move |counts, batch, step| {
        judged += usize::from(contains(batch, "late"));
        match judged {
            1 if contains(batch, "late") => gate.wait(),
            2 if contains(batch, "late") => return judge_with(["stop", "late"], counts, batch, step),
            _ => {}
        }
        judge(counts, batch, step);
    });
    broker.produce(&[(0, None, Some(b"late")), (0, None, Some(b"after it"))]);
    thread::scope(|scope| {
        let running = Running::with(scope, &broker, &clock, slow_at_the_second_time);
        // The fetch that brings this record also brings the end of partition 0.
        keeper.let_come(&broker, (1, None, Some(b"beside it")));
        running.until("all three are committed", |snapshot| snapshot.read == 3);
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.written, snapshot.totals["after"]), (3, 1));
    });
}

#[test]
fn what_was_read_when_a_set_is_taken_back_is_read_again_though_something_was_refused_before() {
    let broker = quick_broker();
    let clock = AtomicI64::new(60_000);
    let (gate, keeper) = gate();
    let escape_line = |counts: &Counts, batch: &Batch, step: &mut Step| judge_with(["none", "none"], counts, batch, step);
    let stops = move |counts: &Counts, batch: &Batch, step: &mut Step| {
        if contains(batch, "first") {
            gate.wait();
        }
        judge(counts, batch, step);
    };
    thread::scope(|scope| {
        let running = Running::with(scope, &broker, &clock, rules_that("cafe", escape_line));
        let trial = Some(TrialBounds::default());
        running.swap_to(rules_that("beef", stops), trial, TrackRecord::default());
        broker.produce(&[(0, None, Some(b"first"))]);
        keeper.let_come(&broker, (1, None, Some(b"stop")));
        running.until("both are committed by the set before", |snapshot| snapshot.read == 2 && snapshot.live.hash == "cafe");
        running.stop().unwrap();
    });
    assert!(broker.read("processed-user-login", 2).iter().any(|output| output.text() == "stop"));
}

#[test]
fn a_restart_goes_on_where_the_last_run_stopped() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(1_000);
    for round in 1..=3_u64 {
        broker.produce(&[(0, None, Some(format!("round {round}").as_bytes()))]);
        thread::scope(|scope| {
            let running = Running::start(scope, &broker, &clock);
            running.until("the message is committed", |snapshot| snapshot.read == 1);
            assert_eq!(running.stop().unwrap().read, 1, "in round {round}");
        });
    }
    let output = broker.read("processed-user-login", 3);
    assert_eq!(output.iter().map(Received::text).collect::<Vec<_>>(), ["round 1", "round 2", "round 3"]);
}

#[test]
fn a_window_is_sent_after_its_end_though_nothing_arrives() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS a")), (1, None, Some(b"android b")), (2, None, Some(b"iOS c"))]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("all are committed", |snapshot| snapshot.read == 3);
        assert_eq!(running.snapshot.get().closed, None, "the window is still open");
        clock.store(120_000, Ordering::Relaxed);
        running.until("the window is closed", |snapshot| snapshot.closed.is_some());
        let snapshot = running.stop().unwrap();
        assert!(snapshot.open.is_empty());
        assert_eq!(snapshot.totals, BTreeMap::from([("android".into(), 1), ("iOS".into(), 2)]));
    });
    let windows = broker.read("device_type_count", 1);
    assert_eq!(windows[0].timestamp, Some(120_000));
    assert!(windows[0].text().contains(r#""counts":{"android":1,"iOS":2}"#), "{}", windows[0].text());
}

/// Lets the broker refuse the timestamps of the records about an ended window, `refusals` times. Returns the error that ends the
/// run or, if the run goes on, the windows that were sent.
fn window_after(refusals: usize) -> Result<Vec<Received>, String> {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS a"))]);
    thread::scope(|scope| {
        let mut running = Running::start(scope, &broker, &clock);
        running.until("it is committed", |snapshot| snapshot.read == 1);
        broker.fail(Request::Produce, &vec![Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP; refusals]);
        clock.store(120_000, Ordering::Relaxed);
        if refusals > 1 {
            return Err(running.join().unwrap_err().to_string());
        }
        running.until("the window is closed", |snapshot| snapshot.closed.is_some());
        running.stop().unwrap();
        Ok(broker.read("device_type_count", 1))
    })
}

#[test]
fn a_window_whose_timestamp_is_refused_is_sent_with_the_time_of_sending() {
    let windows = window_after(1).unwrap();
    assert!(windows.len() == 1 && windows[0].timestamp > Some(120_000), "{windows:?}");
    assert!(windows[0].text().contains(r#""end":"1970-01-01T00:02:00Z""#), "{}", windows[0].text());
}

#[test]
fn a_window_whose_time_of_sending_is_refused_too_ends_the_run_with_topic_and_setting() {
    let error = window_after(2).unwrap_err();
    for words in ["topic device_type_count", "`message.timestamp.after.max.ms`", "clock"] {
        assert!(error.contains(words), "{words}: {error}");
    }
}

#[test]
fn a_clock_that_leaps_ahead_and_back_is_told_and_forgotten_once_it_has_caught_up() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        clock.store(3_600_000, Ordering::Relaxed);
        broker.produce(&[(0, None, Some(b"iOS a"))]);
        running.until("it is committed", |snapshot| snapshot.read == 1);
        assert_eq!(running.snapshot.get().counts_wait, None);
        clock.store(70_000, Ordering::Relaxed);
        running.until("it is told", |snapshot| snapshot.counts_wait == Some(3_660_000));
        clock.store(3_660_000, Ordering::Relaxed);
        running.until("the window is sent", |snapshot| snapshot.closed.is_some() && snapshot.counts_wait.is_none());
        running.stop().unwrap();
    });
}

#[test]
fn a_failed_commit_is_read_again_and_counted_once() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.fail(Request::OffsetCommit, &[Code::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE; 2]);
    broker.produce(&[(0, None, Some(b"iOS a")), (0, None, Some(b"iOS b"))]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("both are committed", |snapshot| snapshot.read >= 2);
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.read, snapshot.written), (2, 2));
        assert_eq!(snapshot.totals["iOS"], 2);
    });
    let written = broker.read("processed-user-login", 6);
    let texts: Vec<_> = written.iter().map(Received::text).collect();
    assert_eq!(texts, ["iOS a", "iOS b", "iOS a", "iOS b", "iOS a", "iOS b"], "at least once, and in order");
}

/// Lets the broker refuse the output and the dead letters about one record, `refusals` times in all, and returns the dead letter.
fn letter_after(refusals: usize) -> Received {
    let mut settings = settings();
    // Each record is sent in a batch of its own, so the broker refuses it for its own size.
    settings.client.properties.insert("batch.size".into(), "1".into());
    let broker = Broker::start(settings);
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, Some("k"), Some(b"iOS large"))]);
    broker.fail(Request::Produce, &vec![Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; refusals]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("the message is committed", |snapshot| snapshot.read == 1);
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.written, snapshot.rejections()), (0, 1));
    });
    broker.read("user-login-rejected", 1).remove(0)
}

#[test]
fn what_the_broker_finds_too_large_becomes_a_dead_letter() {
    let letter = letter_after(1);
    assert_eq!((letter.text(), letter.header(writer::REASON)), ("iOS large", Some("message_too_large")));
    assert_eq!((letter.header(writer::RULE), letter.header(writer::SOURCE)), (Some("weir"), Some("user-login/0/0")));
    assert_eq!(letter.header(writer::SHORTENED), None);
}

#[test]
fn a_batch_that_the_broker_finds_too_large_is_sent_in_smaller_ones() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS a")), (0, None, Some(b"iOS b"))]);
    broker.fail(Request::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("both are committed", |snapshot| snapshot.read == 2);
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.written, snapshot.rejections()), (2, 0));
    });
}

#[test]
fn a_message_that_stops_the_process_is_not_committed() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"stop"))]);
    for round in 0..2 {
        let error = thread::scope(|scope| Running::start(scope, &broker, &clock).join().unwrap_err());
        assert_eq!(error.to_string(), "a rule failed on user-login/0/0", "in round {round}");
    }
}

#[test]
fn a_dead_letter_that_is_too_large_is_shortened() {
    let letter = letter_after(2);
    assert_eq!(letter.header(writer::REASON), Some("message_too_large"));
    assert_eq!(letter.header(writer::SHORTENED), Some("nothing had to be cut"));
}

#[test]
fn what_the_client_finds_too_large_is_shortened() {
    let mut settings = settings();
    settings.client.properties.insert("message.max.bytes".into(), "20000".into());
    let broker = Broker::start(settings);
    let clock = AtomicI64::new(60_000);
    let large = [b"iOS ", &[b'x'; 30_000][..]].concat();
    broker.produce(&[(0, None, Some(b"iOS a")), (0, Some("k"), Some(&large)), (0, None, Some(b"iOS b"))]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("all are committed", |snapshot| snapshot.read == 3);
        running.stop().unwrap();
    });
    let letter = broker.read("user-login-rejected", 1).remove(0);
    assert_eq!((letter.key.as_deref(), letter.value.map(|value| value.len())), (Some(&b"k"[..]), Some(16 * 1024)));
    let texts = broker.read("processed-user-login", 4);
    let texts: Vec<_> = texts.iter().map(Received::text).collect();
    assert_eq!(texts, ["iOS a", "iOS b", "iOS a", "iOS b"], "the batch was read again");
}

#[test]
fn a_header_name_that_is_not_utf8_is_converted() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce_with_raw_header(0, b"iOS a", c"caf\xe9");
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("the message is committed", |snapshot| snapshot.read == 1);
        running.stop().unwrap();
    });
    assert_eq!(broker.read("processed-user-login", 1)[0].header("caf\u{fffd}"), Some("1"));
}

#[test]
fn a_shutdown_takes_less_than_ten_seconds_though_the_broker_is_gone() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS a"))]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("the first is committed", |snapshot| snapshot.read == 1);
        broker.cluster().broker_down(-1).unwrap();
        // A window that has ended must be sent, which is impossible now: the loop waits for the broker.
        clock.store(120_000, Ordering::Relaxed);
        // The run must end whether the shutdown is requested before that wait or during it. The pause makes the latter likely.
        thread::sleep(Duration::from_millis(300));
        let asked = Instant::now();
        running.stop().unwrap();
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    });
}

#[test]
fn a_missing_permission_ends_the_run_with_the_topic_named() {
    let broker = Broker::start(settings());
    broker.cluster().topic_error("processed-user-login", Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let clock = AtomicI64::new(0);
    thread::scope(|scope| {
        let error = Running::start(scope, &broker, &clock).join().unwrap_err().to_string();
        assert!(error.contains("processed-user-login") && error.contains("AUTHORIZATION"), "{error}");
    });
}

#[test]
fn a_missing_topic_that_is_not_to_be_created_is_named() {
    let mut broker = Broker::start(settings());
    broker.settings.topics.rejected = "nowhere".into();
    broker.settings.topics.create = false;
    let clock = AtomicI64::new(0);
    thread::scope(|scope| {
        let error = Running::start(scope, &broker, &clock).join().unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("topics.create"), "{error}");
    });
}

#[test]
fn an_unreachable_broker_is_waited_for_until_a_shutdown() {
    let settings = settings();
    let clock = AtomicI64::new(0);
    thread::scope(|scope| {
        let running = Running::at(scope, &settings, "127.0.0.1:1", &clock);
        let asked = Instant::now();
        let snapshot = running.stop().unwrap();
        assert_eq!((snapshot.state, snapshot.read), (LoopState::Stopped, 0));
        assert!(asked.elapsed() < Duration::from_secs(10));
    });
}

#[test]
fn a_trial_that_is_cut_short_is_not_shown_any_more() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    let trial = TrialBounds::default();
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.swap("beef", Some(trial), TrackRecord::default());
        broker.produce(&[(0, None, Some(b"iOS a"))]);
        eventually("the trial is shown", || running.snapshot.get().trial.is_some());
        running.swap("cafe", None, TrackRecord::default());
        assert_eq!(running.snapshot.get().trial, None);
        running.stop().unwrap();
    });
}

#[test]
fn the_newest_set_that_was_not_at_fault_comes_back() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    let trial = Some(TrialBounds::default());
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        let usual = TrackRecord { records: 1_000, rejected: 10, faults: 0 };
        assert_eq!(running.swap("beef", trial, usual).replaced, None);
        let taken = running.swap("dead", trial, usual);
        let on_trial = OnTrial { before: "cafe".into(), baseline: usual };
        assert_eq!((taken.trial, taken.replaced.as_deref()), (Some(on_trial), Some("beef")));
        broker.produce(&vec![(0, None, Some(&b"bad"[..])); 30]);
        let previous = || running.snapshot.get().trial.map(|trial| trial.previous);
        running.until("the last one is taken back", |snapshot| snapshot.live.hash == "beef");
        assert_eq!(previous().as_deref(), Some("cafe"), "and the one that is back is on trial");
        broker.produce(&vec![(0, None, Some(&b"bad"[..])); 30]);
        running.until("it is taken back as well", |snapshot| snapshot.live.hash == "cafe");
        let swaps = running.snapshot.get().swaps;
        assert_eq!((swaps.live, swaps.taken_back), (4, 2), "two were activated, and two rolled back");
        assert_eq!(previous(), None);
        running.stop().unwrap();
    });
}

#[test]
fn a_trial_that_begins_anew_knows_what_an_earlier_process_has_seen() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    let trial = TrialBounds::default();
    let usual = TrackRecord { records: 1_000, rejected: 10, faults: 0 };
    broker.produce(&vec![(0, None, Some(&b"bad"[..])); 150]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        let taken = running.swap("beef", Some(trial), usual);
        assert_eq!(taken.trial, Some(OnTrial { before: "cafe".into(), baseline: usual }));
        running.until("it is taken back", |snapshot| snapshot.read == 150 && snapshot.live.hash == "cafe");
        running.stop().unwrap();
    });
}

#[test]
fn an_outage_of_kafka_is_seen_whether_there_is_something_to_write_or_not() {
    let broker = Broker::start(settings());
    let clock = AtomicI64::new(60_000);
    broker.produce(&[(0, None, Some(b"iOS a"))]);
    thread::scope(|scope| {
        let running = Running::start(scope, &broker, &clock);
        running.until("the first is committed", |snapshot| snapshot.read == 1);
        let waits = |snapshot: &Snapshot| match &snapshot.state {
            LoopState::Waiting(why) => why.contains("no broker answers"),
            _ => false,
        };
        for now in [60_000, 120_000] {
            broker.cluster().broker_down(-1).unwrap();
            // From the second round on there is a window to be sent.
            clock.store(now, Ordering::Relaxed);
            running.until("that is seen", waits);
            broker.cluster().broker_up(-1).unwrap();
            running.until("that it is over is seen", |snapshot| snapshot.state == LoopState::Running);
        }
        running.until("the window is sent", |snapshot| snapshot.closed.is_some());
        running.stop().unwrap();
    });
}
