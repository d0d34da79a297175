//! Readers that see committed messages only: one that is attached all the time, and one that reads everything at the end.
//!
//! What the two saw has to be the same: what was shown once must not be taken back, and nothing may appear in the past.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::{LARGEST_MESSAGE, Record, record, settings};
use crate::program::within;

/// How long a broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);
/// How long an open transaction may stay so, and how long a reader may take to see all that is there.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// Reads a topic as long as it is there, in a thread of its own.
pub struct Reader {
    brokers: String,
    topic: String,
    seen: Arc<Mutex<Vec<Record>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Attaches a reader to `topic`, which is there.
    pub fn attach(brokers: &str, topic: &str) -> Reader {
        let (seen, done) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let (consumer, sink, end) = (consumer(brokers, topic), Arc::clone(&seen), done.clone());
        let thread = thread::spawn(move || read_on(&consumer, &sink, &end));
        Reader { brokers: brokers.to_owned(), topic: topic.to_owned(), seen, done, thread: Some(thread) }
    }

    pub fn seen(&self) -> Vec<Record> {
        self.seen.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Everything that is there, once it is certain that no more comes: read anew, and found equal to what was seen meanwhile.
    /// Nobody may write any more; transactions that were left open are waited for.
    pub fn all(&self) -> Vec<Record> {
        let mut now = everything(&self.brokers, &self.topic);
        sort(&mut now);
        within(CATCHING_UP, format_args!("the attached reader of {} has seen all", self.topic), || {
            (self.count() >= now.len()).then_some(())
        });
        let mut seen = self.seen();
        sort(&mut seen);
        if let Some((seen, now)) = seen.iter().zip(&now).find(|(seen, now)| seen != now) {
            panic!("the attached reader of {} saw {seen:?} where there is {now:?} now", self.topic);
        }
        assert_eq!(seen.len(), now.len(), "the attached reader of {} saw messages that are not there now", self.topic);
        now
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// All committed messages of `topic`, up to its end now. Open transactions are waited for.
pub fn everything(brokers: &str, topic: &str) -> Vec<Record> {
    let ends = Ends::of(brokers).settled(topic);
    // Not earlier: before an open transaction a partition ends too, and tells so.
    let consumer = consumer(brokers, topic);
    let mut records = Vec::new();
    // By partition: the end of one may be told twice, before and after the mark that ends a transaction.
    let mut left: BTreeSet<i32> = (0..ends.len() as i32).collect();
    let until = Instant::now() + CATCHING_UP;
    while !left.is_empty() {
        assert!(Instant::now() < until, "the end of {topic} was not reached");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(left.remove(&partition)),
            Some(Err(_)) | None => {}
        }
    }
    records
}

/// Asks for the ends of topics.
pub struct Ends {
    committed: BaseConsumer,
    all: BaseConsumer,
}

impl Ends {
    pub fn of(brokers: &str) -> Ends {
        let client = |isolation| settings(brokers).set("isolation.level", isolation).create().unwrap();
        Ends { committed: client("read_committed"), all: client("read_uncommitted") }
    }

    /// The next offset of each partition. None while there is no answer.
    pub fn all(&self, topic: &str) -> Option<Vec<i64>> {
        ends(&self.all, topic)
    }

    /// The same, once no transaction is open.
    pub fn settled(&self, topic: &str) -> Vec<i64> {
        within(CATCHING_UP, format_args!("{topic} has no open transaction"), || {
            let committed = ends(&self.committed, topic)?;
            (Some(&committed) == self.all(topic).as_ref()).then_some(committed)
        })
    }
}

fn ends(client: &BaseConsumer, topic: &str) -> Option<Vec<i64>> {
    let partitions = partitions(client, topic)?;
    (0..partitions).map(|partition| Some(client.fetch_watermarks(topic, partition, ANSWER).ok()?.1)).collect()
}

fn partitions(client: &BaseConsumer, topic: &str) -> Option<i32> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER).ok()?;
    metadata.topics().first().map(|topic| topic.partitions().len() as i32).filter(|partitions| *partitions > 0)
}

/// A consumer of all partitions of `topic` from their beginning.
fn consumer(brokers: &str, topic: &str) -> BaseConsumer {
    let mut settings: ClientConfig = settings(brokers);
    settings.set("group.id", "tests").set("enable.auto.commit", "false").set("fetch.message.max.bytes", LARGEST_MESSAGE);
    settings.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    // It bounds what a batch may unpack to as well.
    settings.set("receive.message.max.bytes", "2147483647");
    let consumer: BaseConsumer = settings.create().unwrap();
    let partitions = within(CATCHING_UP, format_args!("{topic} is there"), || partitions(&consumer, topic));
    let mut all = TopicPartitionList::new();
    for partition in 0..partitions {
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    consumer
}

fn read_on(consumer: &BaseConsumer, seen: &Mutex<Vec<Record>>, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        // Errors are the brokers' absences, which tests bring about; what is missing in the end is told then.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            seen.lock().unwrap().push(record(&message));
        }
    }
}

fn sort(records: &mut [Record]) {
    records.sort_by_key(Record::place);
}
