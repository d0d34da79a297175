//! The time from the append of one login to its output, at a modest rate, and the cost of a start.
//!
//! The key of each login is the time at which it was handed to the producer, by a clock of this process. The reader, which sees
//! only what is committed, compares the key with the same clock. So the figure contains the producer's own way to the broker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::broker::Broker;
use super::process::{ChildProcess, eventually};
use super::topics::{self, PARTITIONS};
use super::{Contender, Task, logins, median};

/// The number of logins per second.
pub const RATE: u32 = 1_000;
/// The time for which logins are sent, in seconds.
const SECONDS: u32 = 30;
/// The most time until the first output, and from the last login to the last output.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time without a login after which a process is idle.
const IDLE: Duration = Duration::from_secs(5);
/// The number of times that the start is measured.
const STARTS: usize = 5;
/// The most time that an answer of the broker may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The times that logins took, in milliseconds.
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

/// A contender on topics of its own, with a producer for its input and a reader of its output.
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

    fn start(&self) -> anyhow::Result<ChildProcess> {
        ChildProcess::start(self.contender.command(&self.task)?, self.contender.name)
    }

    /// Hands a good login to the producer, with the present time as its key.
    fn send(&self, partition: i32, value: &[u8]) -> anyhow::Result<()> {
        let key = self.clock.elapsed().as_nanos().to_string();
        let record = BaseRecord::to(&self.task.input).partition(partition).key(&key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Returns the time since the login of the next output was sent. Returns None if there is no output within `wait`.
    fn receive(&self, wait: Duration) -> anyhow::Result<Option<Duration>> {
        let Some(message) = self.reader.poll(wait).transpose()? else { return Ok(None) };
        let now = self.clock.elapsed();
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).context("an output has lost its key")?;
        Ok(Some(now.saturating_sub(Duration::from_nanos(key.parse()?))))
    }

    /// Sends a login to each partition, and waits until all of them come out. Returns the time at which the first came out.
    fn warm_up(&self, process: &mut ChildProcess) -> anyhow::Result<Instant> {
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

    /// Sends logins at the rate, from a thread of its own, and measures the times of their outputs.
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

/// Returns the latency at [`RATE`].
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

/// Returns the resident memory of a process that has seen no login yet, in MiB.
pub fn idle_mebibytes(broker: &Broker, contender: &Contender) -> anyhow::Result<f64> {
    let bench = Bench::new(broker, contender, "idle")?;
    let process = bench.start()?;
    std::thread::sleep(IDLE);
    let found = process.mebibytes("VmRSS")?;
    process.stop()?;
    Ok(found)
}

/// Returns the seconds from the start of a process to its first output. The group exists already, and a login waits.
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
