//! A job on a cluster: its own topics and group, engines that work on it, messages for them, and the verdict of the judge at the
//! end.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rustix::process::Signal;
use weir::simulate::{Logins, Options};

use crate::auditor::{Auditor, Evidence};
use crate::cluster::Cluster;
use crate::folder::Folder;
use crate::kafka::settings;
use crate::program::{Ended, Weir, within};
use crate::proxy::Proxy;
use crate::reader::{Ends, Reader, everything};

/// The number of partitions of each topic.
pub const PARTITIONS: i32 = 3;
/// The time that engines may take to work off their input, faults included.
pub const SETTLING: Duration = Duration::from_secs(120);
/// The time that a broker may take to answer a request.
const ANSWER: Duration = Duration::from_secs(10);
/// The time that messages may take to reach the broker: longer than any outage of the tests.
const DELIVERING_MILLIS: &str = "240000";
/// The share of bad messages.
const BAD_SHARE: f64 = 0.2;
/// One in this number of logins has headers of its own.
const HEADERS_EVERY: usize = 5;

/// The pause between two checks whether work is done.
const PAUSE: Duration = Duration::from_millis(100);

/// The committed offsets by partition, with their metadata.
pub type Committed = BTreeMap<i32, (i64, String)>;

/// Returns the size of a fault: `small` in the checks, which must not take long, and `full` where `FULL=1` asks for it.
pub fn scaled<T>(small: T, full: T) -> T {
    if std::env::var_os("FULL").is_some_and(|value| value == "1") { full } else { small }
}

/// Topics, a group, and readers of the outputs.
pub struct Job {
    name: String,
    input: String,
    brokers: String,
    variables: Vec<(String, String)>,
    started: AtomicUsize,
    /// A client with the id of the group that never joins the group.
    client: BaseConsumer,
    pub ends: Ends,
    pub outputs: Reader,
    pub letters: Reader,
    pub windows: Reader,
}

impl Job {
    /// Creates the topics of a job. No other job may have its name.
    pub fn create(cluster: &Cluster, name: &str) -> Job {
        Job::with_topics(cluster, name, |_| Vec::new())
    }

    /// Creates the topics with the settings that `special` gives for `in`, `out`, `rejected` and `counts`.
    pub fn with_topics<'a>(cluster: &Cluster, name: &str, special: impl Fn(&str) -> Vec<(&'a str, &'a str)>) -> Job {
        static NAMES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        assert!(NAMES.lock().unwrap().insert(name.to_owned()), "two jobs are called {name}: they would share their logs");
        for topic in ["in", "out", "rejected", "counts"] {
            cluster.create_topic(&format!("{name}-{topic}"), PARTITIONS, &special(topic));
        }
        let brokers = cluster.address();
        let attach = |topic: &str| Reader::attach(&brokers, &format!("{name}-{topic}"));
        let (outputs, letters, windows) = (attach("out"), attach("rejected"), attach("counts"));
        let client = settings(&brokers).set("group.id", name).create().unwrap();
        let (name, input, ends) = (name.to_owned(), format!("{name}-in"), Ends::of(&brokers));
        Job { name, input, brokers, variables: Vec::new(), started: 0.into(), client, ends, outputs, letters, windows }.basics()
    }

    /// Sets the configuration that all engines of a job share: windows that end while a test runs, and clients that notice
    /// failures soon.
    fn basics(self) -> Job {
        let topic = |kind: &str| format!("{}-{kind}", self.name);
        let (group, input, output, rejected, counts) =
            (self.name.clone(), topic("in"), topic("out"), topic("rejected"), topic("counts"));
        self.with("kafka.group", &group)
            .with("topics.input", &input)
            .with("topics.output", &output)
            .with("topics.rejected", &rejected)
            .with("topics.counts", &counts)
            .with("counts.every", "2s")
            .with("batch.rows", "500")
            // Which loop has which partition would depend on the cores of the machine.
            .with("engine.threads", "1")
            .with("kafka.properties.session.timeout.ms", "6000")
            .with("kafka.properties.heartbeat.interval.ms", "500")
    }

    /// Lets the job read another topic, which has the same number of partitions.
    pub fn reading(mut self, topic: String) -> Job {
        self.input = topic;
        let input = self.input.clone();
        self.with("topics.input", &input)
    }

    /// Sets a key of the configuration.
    pub fn with(mut self, key: &str, value: &str) -> Job {
        let variable = format!("WEIR_{}", key.to_uppercase().replace(['.', '-'], "_"));
        self.variables.retain(|(known, _)| *known != variable);
        self.variables.push((variable, value.to_owned()));
        self
    }

    pub fn topic(&self, kind: &str) -> String {
        if kind == "in" { self.input.clone() } else { format!("{}-{kind}", self.name) }
    }

    pub fn group(&self) -> &str {
        &self.name
    }

    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Returns the transactional id of an instance.
    pub fn transactional_id(&self, instance: &str) -> String {
        format!("{}-{instance}", self.name)
    }

    /// Starts an engine that reaches the brokers directly. An instance keeps its transactional id over restarts.
    pub fn engine(&self, instance: &str) -> Engine {
        self.engine_at(&self.brokers, instance, |variables| Weir::start("run", variables))
    }

    /// Starts an engine with further variables, which override those of the job.
    pub fn engine_with(&self, instance: &str, more: &[(&str, &str)]) -> Engine {
        self.engine_at(&self.brokers, instance, |variables| Weir::start("run", &[variables, more].concat()))
    }

    /// Starts an engine that reaches the brokers at `brokers`.
    pub fn engine_by(&self, brokers: &str, instance: &str) -> Engine {
        self.engine_at(brokers, instance, |variables| Weir::start("run", variables))
    }

    /// Starts another command that reaches the brokers at `brokers`.
    pub fn command_by(&self, brokers: &str, arguments: &str, more: &[(&str, &str)]) -> Weir {
        let mut variables = self.variables();
        variables.push(("WEIR_KAFKA_BROKERS", brokers));
        variables.extend(more);
        Weir::start(arguments, &variables)
    }

    /// Starts an engine that has the rules of `folder`.
    pub fn engine_in(&self, folder: &Folder, instance: &str) -> Engine {
        self.engine_at(&self.brokers, instance, |variables| folder.start("run", variables))
    }

    /// Starts an engine that reaches the brokers through `proxy`.
    pub fn engine_through(&self, proxy: &Proxy, instance: &str) -> Engine {
        self.engine_at(&proxy.address(), instance, |variables| Weir::start("run", variables))
    }

    fn engine_at(&self, brokers: &str, instance: &str, start: impl Fn(&[(&str, &str)]) -> Weir) -> Engine {
        let id = self.transactional_id(instance);
        let mut variables = self.variables();
        variables.extend([("WEIR_KAFKA_BROKERS", brokers), ("WEIR_KAFKA_TRANSACTIONAL_ID", &id)]);
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        let log = self.logs().join(format!("{number:03}-{instance}.log"));
        Engine { weir: Some(start(&variables)), log }
    }

    /// Begins to send `count` logins, `rate` per second.
    pub fn load(&self, seed: u64, rate: u32, count: usize) -> Load {
        Load::start(&self.brokers, &self.topic("in"), seed, rate, count)
    }

    /// Ends a job: stops the load, waits until the engine has worked off all logins, and judges.
    pub fn finish(&self, load: Load, engine: Engine) {
        load.stop();
        self.work_off(engine);
        self.check();
    }

    /// Waits until the engine has worked off everything in the input, and stops the engine.
    pub fn work_off(&self, engine: Engine) {
        self.settle();
        engine.stop();
    }

    /// Waits until everything in the input is committed.
    pub fn settle(&self) {
        let input = self.topic("in");
        let mut seen = (None, None);
        let until = Instant::now() + SETTLING;
        while !is_worked_off(&seen) {
            let logs = self.logs();
            assert!(Instant::now() < until, "{input} is not worked off: (ends, committed) are {seen:?}; see {}", logs.display());
            thread::sleep(PAUSE);
            seen = (self.ends.all(&input), self.committed());
        }
    }

    /// Waits until the coordinator aborts the open transaction because its timeout has passed. Nothing more may be written in
    /// this transaction, and no other process may be able to end it. The marker of its end takes an offset in each partition.
    pub fn is_given_up(&self) {
        let out = self.topic("out");
        let before = within(ANSWER, "the ends are told", || self.ends.all(&out));
        within(SETTLING, format_args!("a transaction of {} is given up", self.name), || {
            (self.ends.settled(&out) > before).then_some(())
        });
    }

    /// Waits until the engines keep up with a load of `rate` logins per second: fewer than `rate` records are not committed.
    pub fn keeps_up(&self, rate: u32) {
        let input = self.topic("in");
        let lag = || {
            let (ends, committed) = (self.ends.all(&input)?, self.committed()?);
            let lag = |(partition, end): (usize, &i64)| end - committed.get(&(partition as i32)).map_or(0, |(offset, _)| *offset);
            Some(ends.iter().enumerate().map(lag).sum::<i64>())
        };
        within(SETTLING, format_args!("{} keeps up again; see {}", self.name, self.logs().display()), || {
            lag().filter(|lag| *lag < i64::from(rate))
        });
    }

    /// Returns the same job with a new reader of dead letters, after their topic was deleted and created anew.
    pub fn reattached(mut self) -> Job {
        self.letters = Reader::attach(&self.brokers, &self.topic("rejected"));
        self
    }

    /// Waits until readers see more outputs than now.
    pub fn goes_on(&self, patience: Duration) {
        let before = self.outputs.count();
        within(patience, format_args!("{} goes on; see {}", self.name, self.logs().display()), || {
            (self.outputs.count() > before).then_some(())
        });
    }

    /// Waits until readers see more outputs of each input partition than now.
    pub fn takes_all(&self, patience: Duration) {
        let before = self.outputs.count();
        within(patience, format_args!("{} goes on in all partitions; see {}", self.name, self.logs().display()), || {
            let seen = self.outputs.seen();
            let since: BTreeSet<i32> = seen[before..].iter().map(|output| output.source().0).collect();
            (since.len() == PARTITIONS as usize).then_some(())
        });
    }

    /// Commits an offset of the input as another tool would. No engine may run.
    pub fn commit(&self, partition: i32, offset: i64, metadata: &str) {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.topic("in"), partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        self.client.commit(&list, CommitMode::Sync).unwrap();
    }

    /// Returns the committed offsets of those partitions of the input that have one, with their metadata. `None` if a broker does
    /// not answer.
    pub fn committed(&self) -> Option<Committed> {
        let input = self.topic("in");
        let mut asked = TopicPartitionList::new();
        let partitions = self.ends.all(&input)?.len();
        asked.add_partition_range(&input, 0, partitions as i32 - 1);
        let answer = self.client.committed_offsets(asked, ANSWER).ok()?;
        let elements = answer.elements();
        let offsets = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), (offset, element.metadata().to_owned()))),
            _ => None,
        });
        elements.iter().all(|element| element.error().is_ok()).then(|| offsets.collect())
    }

    /// Judges the job. All engines must have ended.
    pub fn check(&self) {
        self.check_by(Auditor::default());
    }

    pub fn check_by(&self, check: Auditor) {
        self.check_on(check, &self.evidence());
    }

    pub fn check_on(&self, check: Auditor, evidence: &Evidence) {
        // `weir verify` reports duplicates as violations, so it is left out where they are allowed.
        let (violations, verify) = (check.violations(evidence), (!check.repeats).then(|| self.verify()));
        let well = violations.is_empty() && verify.as_ref().is_none_or(|verify| verify.code == Some(0));
        let (name, logs) = (&self.name, self.logs());
        assert!(well, "{name}: the oracle: {violations:#?}\nweir verify: {verify:#?}\nthe logs are in {}", logs.display());
    }

    /// Asserts that `weir verify` finds nothing wrong. For jobs whose records were deleted, which the judge cannot check.
    pub fn is_verified(&self) {
        let verify = self.verify();
        assert_eq!(verify.code, Some(0), "{verify:#?}");
    }

    /// Runs `weir verify` on this job.
    pub fn verify(&self) -> Ended {
        end(self.verifier("verify"), format_args!("{} is verified", self.name))
    }

    /// Starts a `weir verify` that checks this job again and again.
    pub fn follower(&self) -> Follower {
        Follower(self.verifier("verify --follow --every 1"))
    }

    fn verifier(&self, arguments: &str) -> Weir {
        let mut variables = self.variables();
        variables.push(("WEIR_KAFKA_BROKERS", &self.brokers));
        Weir::start(arguments, &variables)
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    pub fn evidence(&self) -> Evidence {
        let topic = self.topic("in");
        Evidence {
            input: everything(&self.brokers, &topic),
            outputs: self.outputs.all(),
            letters: self.letters.all(),
            windows: self.windows.all(),
            blamed: BTreeMap::new(),
            committed: within(ANSWER, "the committed offsets are told", || self.committed()),
            topic,
        }
    }

    /// Returns the folder of the engines' logs.
    fn logs(&self) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("faults").join(&self.name)
    }
}

/// Returns whether every offset before the ends is committed. False if the ends or the committed offsets are not known.
fn is_worked_off((ends, committed): &(Option<Vec<i64>>, Option<Committed>)) -> bool {
    let (Some(ends), Some(committed)) = (ends, committed) else { return false };
    let done = |(partition, end): (usize, &i64)| {
        *end == 0 || committed.get(&(partition as i32)).is_some_and(|(offset, _)| offset == end)
    };
    ends.iter().enumerate().all(done)
}

/// An engine at work. It is killed when this value is dropped; its log is saved in a file.
pub struct Engine {
    weir: Option<Weir>,
    log: PathBuf,
}

impl Engine {
    pub fn weir(&mut self) -> &mut Weir {
        self.weir.as_mut().expect("it has not ended")
    }

    /// Waits until the engine has partitions to read.
    pub fn assigned(mut self) -> Engine {
        let what = format!("it has partitions to read; see {}", self.log.display());
        within(SETTLING, what, || {
            let lines = self.weir().lines();
            assert!(self.weir().is_running(), "it ended without partitions: {lines:#?}");
            lines.iter().any(|line| line.contains("partitions assigned")).then_some(())
        });
        self
    }

    pub fn kill(mut self) -> Ended {
        self.weir().signal(Signal::KILL);
        self.end()
    }

    pub fn freeze(&mut self) {
        self.weir().signal(Signal::STOP);
    }

    pub fn thaw(&mut self) {
        self.weir().signal(Signal::CONT);
    }

    /// Asks the engine to end, and asserts that it ends without an error and in time.
    pub fn stop(mut self) {
        // Before the engine listens to signals, a signal would end it as it ends any process.
        self.weir().line("rules: ");
        let weir = self.weir.take().expect("it has not ended");
        let ended = weir.stop();
        self.save(&ended.lines);
        assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
        // The end of a partition is not an error and must not be logged.
        assert!(!ended.lines.iter().any(|line| line.contains("_PARTITION_EOF")), "{:#?}", ended.lines);
    }

    /// Waits until the engine ends by itself.
    pub fn end(mut self) -> Ended {
        let weir = self.weir.take().expect("it has not ended");
        let ended = end(weir, format_args!("it ends; see {}", self.log.display()));
        self.save(&ended.lines);
        ended
    }

    fn save(&self, lines: &[String]) {
        fs::create_dir_all(self.log.parent().unwrap()).unwrap();
        fs::write(&self.log, lines.join("\n")).unwrap();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(weir) = &self.weir {
            self.save(&weir.lines());
        }
    }
}

/// A running `weir verify --follow`.
pub struct Follower(Weir);

impl Follower {
    /// Waits until one more check has succeeded.
    pub fn goes_on(&mut self) {
        let verdicts = |lines: Vec<String>| lines.iter().filter(|line| line.contains("Z  verified: ")).count();
        let before = verdicts(self.0.lines());
        within(SETTLING, "weir verify goes on", || {
            let running = self.0.is_running();
            assert!(running, "it ended: {:#?}", self.0.lines());
            (verdicts(self.0.lines()) > before).then_some(())
        });
    }

    /// Asks the command to end, and asserts that it has found nothing wrong.
    pub fn stop(self) {
        let ended = self.0.stop();
        assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
    }
}

/// Waits until `weir` ends by itself.
fn end(mut weir: Weir, what: impl fmt::Display) -> Ended {
    within(SETTLING, what, || (!weir.is_running()).then_some(()));
    weir.end()
}

/// Logins on their way to the input.
pub struct Load {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Load {
    fn start(brokers: &str, topic: &str, seed: u64, rate: u32, count: usize) -> Load {
        let mut settings = settings(brokers);
        settings.set("enable.idempotence", "true").set("partitioner", "murmur2_random").set("linger.ms", "5");
        settings.set("message.timeout.ms", DELIVERING_MILLIS);
        let producer: BaseProducer = settings.create().unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let (topic, stop) = (topic.to_owned(), enough.clone());
        let thread = thread::spawn(move || {
            let logins = Logins::new(&Options { seed, bad_share: BAD_SHARE, ..Options::default() });
            let begun = Instant::now();
            let mut sent = 0;
            for login in logins.take(count).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let due = Duration::from_secs(sent as u64) / rate;
                while begun.elapsed() < due {
                    producer.poll(due.saturating_sub(begun.elapsed()).min(Duration::from_millis(10)));
                }
                let mut record = BaseRecord::<[u8], [u8]>::to(&topic).key(&login.key);
                record.payload = login.value.as_deref();
                record.headers = (sent % HEADERS_EVERY == 0).then(|| headers(sent));
                // While brokers are away, the queue fills up.
                while let Err((error, unsent)) = producer.send(record) {
                    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
                    producer.poll(PAUSE);
                    record = unsent;
                }
                sent += 1;
            }
            producer.flush(SETTLING).unwrap();
            sent
        });
        Load { enough, thread }
    }

    /// Waits until all logins are sent. Returns their number.
    pub fn finish(self) -> usize {
        self.thread.join().unwrap()
    }

    /// Stops sending. Returns the number of logins that were sent.
    pub fn stop(self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        self.finish()
    }
}

/// Returns the headers of a login: two with the same name, one of them with an empty value, and one without a value.
fn headers(number: usize) -> OwnedHeaders {
    let number = number.to_string();
    OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some(&number) })
        .insert(Header { key: "trace", value: Some("") })
        .insert(Header::<&str> { key: "origin", value: None })
}
