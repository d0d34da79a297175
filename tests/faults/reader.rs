//! Readers that see committed messages only: one that is attached all the time, and one that reads everything at the end.
//!
//! Both must have seen the same messages: a message that was visible once must stay visible, and no message may appear before
//! others that were read already.

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

/// The time that a broker may take to answer a request.
const ANSWER: Duration = Duration::from_secs(10);
/// The time that a transaction may stay open, and the time that a reader may take to see all messages.
const CATCHING_UP: Duration = Duration::from_secs(60);

/// A reader of a topic, in a thread of its own. It reads until it is dropped.
pub struct Reader {
    brokers: String,
    topic: String,
    seen: Arc<Mutex<Vec<Record>>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Attaches a reader to `topic`, which must exist.
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

    /// Returns all messages of the topic, which are read anew. Waits for open transactions to end. No process may write to the
    /// topic any more.
    ///
    /// # Panics
    ///
    /// If the attached reader has seen other messages.
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

/// Returns all committed messages of `topic`, up to its present end. Waits for open transactions to end.
pub fn everything(brokers: &str, topic: &str) -> Vec<Record> {
    let ends = Ends::of(brokers).settled(topic);
    // The consumer is created only now: it takes an open transaction for the end of the partition, and would report that.
    let consumer = consumer(brokers, topic);
    let mut records = Vec::new();
    // A set of partitions, not a count: the end of a partition may be reported twice, before and after the marker that ends a
    // transaction.
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

/// A client that asks for the ends of topics.
pub struct Ends {
    committed: BaseConsumer,
    all: BaseConsumer,
}

impl Ends {
    pub fn of(brokers: &str) -> Ends {
        let client = |isolation| settings(brokers).set("isolation.level", isolation).create().unwrap();
        Ends { committed: client("read_committed"), all: client("read_uncommitted") }
    }

    /// Returns the next offset of each partition. `None` while there is no answer.
    pub fn all(&self, topic: &str) -> Option<Vec<i64>> {
        ends(&self.all, topic)
    }

    /// Waits until no transaction is open in the topic. Returns the next offset of each partition.
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

/// Returns a consumer of all partitions of `topic` from their beginning.
fn consumer(brokers: &str, topic: &str) -> BaseConsumer {
    let mut settings: ClientConfig = settings(brokers);
    settings.set("group.id", "tests").set("enable.auto.commit", "false").set("fetch.message.max.bytes", LARGEST_MESSAGE);
    settings.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    // This setting also bounds the size of an unpacked batch.
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
        // Errors are ignored: tests make brokers unavailable. The comparison at the end finds missing messages.
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            seen.lock().unwrap().push(record(&message));
        }
    }
}

fn sort(records: &mut [Record]) {
    records.sort_by_key(Record::place);
}
