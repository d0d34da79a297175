//! What one login waits, from its append to its output, at a modest rate; and what a start costs.
//!
//! The key of each login is the time at which it was handed to the producer, by a clock of this process. The reader, which sees
//! only what is committed, holds it against the same clock. The producer's own way to the broker is in the figure.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::broker::Broker;
use super::process::{Process, eventually};
use super::topics::{self, PARTITIONS};
use super::{Contender, Task, logins, median};

/// Logins a second.
pub const RATE: u32 = 1_000;
/// For how long they come, in seconds.
const SECONDS: u32 = 30;
/// How long the first output may take, and how long the last one after the last login.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this time without a login a process is idle.
const IDLE: Duration = Duration::from_secs(5);
/// How often the start is measured.
const STARTS: usize = 5;
/// How long an answer of the broker or a poll may take.
const ANSWER: Duration = Duration::from_secs(10);

/// How long logins took, in milliseconds.
pub struct Latency {
    pub median: f64,
    pub p99: f64,
    max: f64,
}

impl Latency {
    pub fn row(&self, name: &str) -> String {
        format!("| {name} | {:.1} | {:.1} | {:.1} |", self.median, self.p99, self.max)
    }
}

/// A contender on topics of its own, with a producer before it and a reader behind it.
struct Bench<'a> {
    task: Task<'a>,
    contender: &'a Contender,
    clock: Instant,
    producer: BaseProducer,
    reader: BaseConsumer,
}

impl<'a> Bench<'a> {
    fn new(broker: &'a Broker, contender: &'a Contender, purpose: &str) -> anyhow::Result<Bench<'a>> {
        let group = format!("{}-{purpose}", contender.letter);
        let task = Task { broker, input: format!("{group}-input"), group };
        let [output, rejected, counts] = task.outputs();
        topics::create(&broker.address, &[&task.input, &output, &rejected, &counts])?;
        let client = topics::client(&broker.address);
        let reader: BaseConsumer = client.clone().set("group.id", "reader").set("isolation.level", "read_committed").create()?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            partitions.add_partition_offset(&output, partition, Offset::Beginning)?;
        }
        reader.assign(&partitions)?;
        let producer = client.clone().set("linger.ms", "0").create()?;
        Ok(Bench { task, contender, clock: Instant::now(), producer, reader })
    }

    fn start(&self) -> anyhow::Result<Process> {
        Process::start(self.contender.command(&self.task)?, self.contender.name)
    }

    /// Hands a good login to the producer, with the time for its key.
    fn send(&self, partition: i32, value: &[u8]) -> anyhow::Result<()> {
        let key = self.clock.elapsed().as_nanos().to_string();
        let record = BaseRecord::to(&self.task.input).partition(partition).key(&key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// How long ago the login of the next output was sent, if there is one within `wait`.
    fn receive(&self, wait: Duration) -> anyhow::Result<Option<Duration>> {
        let Some(message) = self.reader.poll(wait).transpose()? else { return Ok(None) };
        let now = self.clock.elapsed();
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).context("an output has lost its key")?;
        Ok(Some(now.saturating_sub(Duration::from_nanos(key.parse()?))))
    }

    /// Sends a login to each partition, and sees them all come out. Returns when the first did.
    fn warm_up(&self, process: &mut Process) -> anyhow::Result<Instant> {
        let login = logins(0.0)?.next().and_then(|login| login.value).context("no login was made up")?;
        (0..PARTITIONS).try_for_each(|partition| self.send(partition, &login))?;
        self.producer.flush(ANSWER)?;
        let mut first = None;
        for _ in 0..PARTITIONS {
            eventually("an output comes", PATIENCE, process, || self.receive(Duration::from_millis(5)).ok().flatten())?;
            first.get_or_insert_with(Instant::now);
        }
        first.context("there are no partitions")
    }

    /// Sends logins at the rate, from a thread of its own, and takes the time of their outputs.
    fn run(&self) -> anyhow::Result<Vec<f64>> {
        let count = (RATE * SECONDS) as usize;
        let values: Vec<Vec<u8>> = logins(0.0)?.take(count).filter_map(|login| login.value).collect();
        let until = Instant::now() + Duration::from_secs(SECONDS.into()) + PATIENCE;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.send_in_time(&values));
            let mut taken = Vec::with_capacity(count);
            while taken.len() < count && Instant::now() < until {
                taken.extend(self.receive(Duration::from_millis(100))?.map(|taken| taken.as_secs_f64() * 1e3));
            }
            sending.join().expect("the sender does not panic")?;
            ensure!(taken.len() == count, "of {count} logins only {} came out in time", taken.len());
            Ok(taken)
        })
    }

    fn send_in_time(&self, values: &[Vec<u8>]) -> anyhow::Result<()> {
        let begun = Instant::now();
        for (index, value) in values.iter().enumerate() {
            let due = Duration::from_secs(1) * index as u32 / RATE;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            self.send(index as i32 % PARTITIONS, value)?;
        }
        Ok(self.producer.flush(ANSWER)?)
    }
}

/// The latency at [`RATE`].
pub fn measure(broker: &Broker, contender: &Contender) -> anyhow::Result<Latency> {
    let bench = Bench::new(broker, contender, "latency")?;
    let mut process = bench.start()?;
    bench.warm_up(&mut process)?;
    let mut taken = bench.run()?;
    process.stop()?;
    taken.sort_by(f64::total_cmp);
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    Ok(Latency { median: at(0.5), p99: at(0.99), max: at(1.0) })
}

/// The resident memory of a process that has seen no login yet.
pub fn idle_mebibytes(broker: &Broker, contender: &Contender) -> anyhow::Result<f64> {
    let bench = Bench::new(broker, contender, "idle")?;
    let process = bench.start()?;
    std::thread::sleep(IDLE);
    let found = process.mebibytes("VmRSS")?;
    process.stop()?;
    Ok(found)
}

/// Seconds from the start of a process to its first output, where the group is there and a login waits.
pub fn start_to_first_output(broker: &Broker, contender: &Contender) -> anyhow::Result<f64> {
    let bench = Bench::new(broker, contender, "start")?;
    let mut process = bench.start()?;
    bench.warm_up(&mut process)?;
    process.stop()?;
    let mut taken = Vec::new();
    for _ in 0..STARTS {
        let login = logins(0.0)?.next().and_then(|login| login.value).context("no login was made up")?;
        bench.send(0, &login)?;
        bench.producer.flush(ANSWER)?;
        let begun = Instant::now();
        let mut process = bench.start()?;
        eventually("an output comes", PATIENCE, &mut process, || bench.receive(Duration::from_millis(5)).ok().flatten())?;
        taken.push(begun.elapsed().as_secs_f64());
        process.stop()?;
    }
    Ok(median(taken))
}
