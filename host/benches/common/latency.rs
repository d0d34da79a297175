//! The time from the append of one login to its output, at a modest rate.
//!
//! The key of each login is the time at which it was handed to the producer, by a clock of this process. The reader, which sees
//! only what is committed, compares the key with the same clock. So the figure contains the producer's own way to the broker.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::broker::Broker;
use super::logins;
use super::process::{ChildProcess, eventually, go_on};
use super::task::{Contender, Task};
use super::topics::{self, PARTITIONS};

/// The number of logins per second.
pub const RATE: u32 = 1_000;
/// The most time until the first output, and from the last login to the last output.
pub const PATIENCE: Duration = Duration::from_secs(30);
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

/// How long logins are sent, and how long from the first one on they do not count.
pub struct Span {
    pub seconds: u32,
    pub uncounted: Duration,
}

/// A contender on topics of its own, with a producer for its input and a reader of its output.
pub struct Bench<'a, C> {
    task: Task<'a>,
    contender: &'a C,
    clock: Instant,
    producer: BaseProducer,
    reader: BaseConsumer,
}

impl<'a, C: Contender> Bench<'a, C> {
    pub fn new(broker: &'a Broker, contender: &'a C, purpose: &str) -> anyhow::Result<Bench<'a, C>> {
        let group = format!("{}-{purpose}", contender.prefix());
        let task = Task::new(broker, &format!("{group}-input"), group)?;
        topics::create(&broker.address, &[&task.input])?;
        task.create_outputs()?;
        let [output, ..] = task.outputs();
        let reader = topics::reader(&mut topics::client(&broker.address), &[&output])?;
        let producer = topics::client(&broker.address).set("linger.ms", "0").create()?;
        Ok(Bench { task, contender, clock: Instant::now(), producer, reader })
    }

    pub fn start(&self) -> anyhow::Result<ChildProcess> {
        ChildProcess::start(self.contender.command(&self.task)?, self.contender.name())
    }

    /// Hands a login to the producer, with the present time as its key.
    fn send(&self, partition: i32, value: &[u8]) -> anyhow::Result<()> {
        let key = self.clock.elapsed().as_nanos().to_string();
        let record = BaseRecord::to(&self.task.input).partition(partition).key(&key).payload(value);
        self.producer.send(record).map_err(|(error, _)| error)?;
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Sends a good login to each of the first `partitions` partitions, and waits until the broker has them.
    pub fn send_one_each(&self, partitions: i32) -> anyhow::Result<()> {
        let login = logins::good().next().and_then(|login| login.value).context("no login was made up")?;
        (0..partitions).try_for_each(|partition| self.send(partition, &login))?;
        Ok(self.producer.flush(ANSWER)?)
    }

    /// Returns when the login of the next output was sent, and the time that it took. Returns None if there is no output within
    /// `wait`.
    fn receive(&self, wait: Duration) -> anyhow::Result<Option<(Duration, Duration)>> {
        let Some(message) = self.reader.poll(wait).transpose()? else { return Ok(None) };
        let now = self.clock.elapsed();
        let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).context("an output has lost its key")?;
        let sent = Duration::from_nanos(key.parse()?);
        Ok(Some((sent, now.saturating_sub(sent))))
    }

    /// Waits for the next output.
    pub fn wait_for_output(&self, process: &mut ChildProcess) -> anyhow::Result<()> {
        eventually("an output comes", PATIENCE, process, |_| self.receive(Duration::from_millis(5)).ok().flatten()).map(drop)
    }

    /// Sends a login to each partition, and waits until all of them come out.
    pub fn warm_up(&self, process: &mut ChildProcess) -> anyhow::Result<()> {
        self.send_one_each(PARTITIONS)?;
        (0..PARTITIONS).try_for_each(|_| self.wait_for_output(process))
    }

    /// Sends logins at the rate, from a thread of its own, and measures the times of their outputs, in milliseconds.
    fn run(&self, span: &Span) -> anyhow::Result<Vec<f64>> {
        let count = (RATE * span.seconds) as usize;
        let values: Vec<Vec<u8>> = logins::good().take(count).filter_map(|login| login.value).collect();
        let until = Instant::now() + Duration::from_secs(span.seconds.into()) + PATIENCE;
        let counted_from = self.clock.elapsed() + span.uncounted;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| self.send_in_time(&values));
            let (mut seen, mut taken) = (0, Vec::with_capacity(count));
            while seen < count && Instant::now() < until && go_on().is_ok() {
                if let Some((sent, time)) = self.receive(Duration::from_millis(100))? {
                    seen += 1;
                    taken.extend((sent >= counted_from).then_some(time.as_secs_f64() * 1e3));
                }
            }
            sending.join().expect("the sender does not panic")?;
            ensure!(seen == count, "of {count} logins only {seen} came out in time");
            Ok(taken)
        })
    }

    fn send_in_time(&self, values: &[Vec<u8>]) -> anyhow::Result<()> {
        let begun = Instant::now();
        for (index, value) in values.iter().enumerate() {
            go_on()?;
            let due = Duration::from_secs(1) * index as u32 / RATE;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            self.send(index as i32 % PARTITIONS, value)?;
        }
        Ok(self.producer.flush(ANSWER)?)
    }
}

/// Returns the latency at [`RATE`]. `purpose` is in the names of the topics.
pub fn measure(broker: &Broker, contender: &impl Contender, purpose: &str, span: &Span) -> anyhow::Result<Latency> {
    let bench = Bench::new(broker, contender, purpose)?;
    let mut process = bench.start()?;
    bench.warm_up(&mut process)?;
    let mut taken = bench.run(span)?;
    process.stop()?;
    ensure!(!taken.is_empty(), "no login was sent late enough to count");
    taken.sort_by(f64::total_cmp);
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    Ok(Latency { median: at(0.5), p99: at(0.99), max: at(1.0) })
}
