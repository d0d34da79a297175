//! The topics: found, or created, before anything is read.
//!
//! Existing topics are left alone, whatever their partitions and settings. Where waiting can help, as with a broker that is
//! not up yet, it is tried again with growing pauses, and said once; where it cannot, the error names topic and operation.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::client;
use super::failure::{self, Failure};
use super::native;
use super::troubles::{Quiet, Troubles};
use crate::backoff::Backoff;
use crate::config::{self, Config};
use crate::events::Inbox;

/// How long a broker may take to answer one question.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a broker may take to create topics. Nothing else is looked at meanwhile, a shutdown neither.
const CREATION: Duration = Duration::from_secs(5);
/// Pauses between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// How long to listen for what the client has to say about a failed attempt.
const LISTEN: Duration = Duration::from_millis(20);

/// What is known of the topics once they are all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The largest batch of records that every topic takes (`max.message.bytes`), if the cluster tells.
    pub largest_batch: Option<u32>,
}

/// Reaches the cluster and sees that all topics exist. None if asked to stop before that.
///
/// # Errors
/// What waiting cannot help: a missing topic that is not to be created, a missing permission, settings that are refused.
pub fn prepare(config: &Config, brokers: &str, inbox: &mut Inbox) -> anyhow::Result<Option<Ready>> {
    let clients = Clients::open(&config.kafka, brokers)?;
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut told = None;
    loop {
        match clients.attempt(&config.topics) {
            Ok(ready) => {
                if told.is_some() {
                    tracing::info!(brokers, "kafka is reached and all topics are there");
                }
                return Ok(Some(ready));
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::GaveUp) => return Ok(None),
            Err(Failure::Wait(error) | Failure::Missing(error)) => {
                let line = format!("{error:#}");
                if told.as_ref() != Some(&line) {
                    tracing::warn!(brokers, "{line}; trying again until it works");
                    told = Some(line);
                }
            }
        }
        if !inbox.wait(backoff.pause()) {
            return Ok(None);
        }
    }
}

/// How many partitions `topic` has; none if it does not exist.
pub(super) fn partitions<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<Option<i32>, Failure> {
    let what = format!("describe topic {topic}");
    let metadata = client.fetch_metadata(Some(topic), ANSWER).map_err(|error| Failure::from_client(&error, &what))?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len() as i32)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(Failure::of(code, &what)),
    }
}

/// A client that looks, and hears of troubles, and one that creates.
struct Clients {
    brokers: String,
    probe: BaseConsumer<Quiet>,
    admin: AdminClient<Quiet>,
    troubles: Arc<Troubles>,
    runtime: tokio::runtime::Runtime,
    /// The embedded broker never answers what it does not know.
    embedded: bool,
}

impl ConsumerContext for Quiet {}

impl Clients {
    fn open(kafka: &config::Kafka, brokers: &str) -> anyhow::Result<Clients> {
        let settings = client::settings(kafka, brokers)?;
        let troubles = Arc::new(Troubles::silent());
        let refused = |error| client::refused(&error);
        Ok(Clients {
            brokers: brokers.to_string(),
            probe: settings.create_with_context(Quiet(troubles.clone())).map_err(refused)?,
            admin: settings.create_with_context(Quiet(troubles.clone())).map_err(refused)?,
            troubles,
            runtime: tokio::runtime::Builder::new_current_thread().build().context("failed to start a runtime")?,
            embedded: kafka.brokers.is_none(),
        })
    }

    fn attempt(&self, topics: &config::Topics) -> Result<Ready, Failure> {
        // Who may not describe a topic may not write to it either, and that is what is to be granted.
        let denied = |failure| match failure {
            Failure::Stop(_) => self.denied(topics).unwrap_or(failure),
            failure => failure,
        };
        let missing = self.missing(topics).map_err(denied)?;
        if !missing.is_empty() {
            self.create(topics, &missing)?;
            self.await_topics(&missing)?;
        }
        self.denied(topics).map_or(Ok(()), Err)?;
        Ok(Ready { largest_batch: self.largest_batch(topics) })
    }

    fn missing<'a>(&self, topics: &'a config::Topics) -> Result<Vec<&'a str>, Failure> {
        let mut missing = Vec::new();
        for topic in [&topics.input, &topics.output, &topics.rejected, &topics.counts] {
            let found = partitions(self.probe.client(), topic).map_err(|failure| self.explain(failure))?;
            if found.is_none() && !missing.contains(&topic.as_str()) {
                missing.push(topic.as_str());
            }
        }
        Ok(missing)
    }

    /// Says why no broker answers, instead of only that none does.
    fn explain(&self, failure: Failure) -> Failure {
        let until = Instant::now() + LISTEN;
        while Instant::now() < until {
            // What it returns are the errors that the context hears of.
            let _ = self.probe.poll(until.saturating_duration_since(Instant::now()));
        }
        match (failure, self.troubles.last()) {
            (Failure::Wait(_), Some((code, reason))) => match Failure::of(code, &format!("reach kafka at {}", self.brokers)) {
                Failure::Stop(error) => Failure::Stop(error.context(reason)),
                _ => Failure::Wait(anyhow!("failed to reach kafka at {}: {reason}", self.brokers)),
            },
            (failure, _) => failure,
        }
    }

    fn create(&self, topics: &config::Topics, missing: &[&str]) -> Result<(), Failure> {
        if !topics.create {
            let names = missing.join(", ");
            return Err(Failure::Stop(anyhow!("no such topic: {names}: create it, or start again with `topics.create = true`")));
        }
        let new: Vec<NewTopic<'_>> = missing.iter().map(|topic| new_topic(topic, topics)).collect();
        let options = AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
        let results = self.block_on(self.admin.create_topics(&new, &options));
        for result in results.map_err(|error| Failure::from_client(&error, &format!("create topics {}", missing.join(", "))))? {
            match result {
                Ok(topic) => {
                    let config::Topics { partitions, replication, .. } = topics;
                    tracing::info!(topic, partitions, replication, "topic created");
                    if topic == topics.input && !self.embedded {
                        self.doubt(topics);
                    }
                }
                // Another process was faster.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(Failure::of(code, &format!("create topic {topic}"))),
            }
        }
        Ok(())
    }

    /// Says that nobody has written to the input topic yet: its name may be misspelt.
    fn doubt(&self, topics: &config::Topics) {
        let ours = [&topics.input, &topics.output, &topics.rejected, &topics.counts];
        let metadata = self.probe.client().fetch_metadata(None, ANSWER);
        let names = metadata.iter().flat_map(|metadata| metadata.topics()).map(|topic| topic.name());
        let others = names.filter(|name| !ours.iter().any(|our| our == name));
        tracing::warn!(
            topic = topics.input,
            "the input topic was not there and is created: nobody has written to it; \
             if its name is misspelt, set `topics.input` and delete this one{}",
            config::suggestion(&topics.input, others)
        );
    }

    /// Waits until the brokers know the topics that their controller has created.
    fn await_topics(&self, created: &[&str]) -> Result<(), Failure> {
        let until = Instant::now() + CREATION;
        for topic in created {
            while partitions(self.probe.client(), topic)?.is_none() {
                if Instant::now() > until {
                    return Err(Failure::Wait(anyhow!("topic {topic} was created, but the brokers do not know it yet")));
                }
                std::thread::sleep(LISTEN);
            }
        }
        Ok(())
    }

    /// The topics that are written to and must not be. Otherwise this would come out with the first dead letter, or the first window.
    fn denied(&self, topics: &config::Topics) -> Option<Failure> {
        let written = [&topics.output, &topics.rejected, &topics.counts].map(String::as_str);
        let denied = (!self.embedded).then(|| native::denied(self.admin.inner(), &written, ANSWER));
        failure::denied_writes(&denied.unwrap_or_default())
    }

    /// The smallest `max.message.bytes` of the topics that are written to. A cluster may refuse to tell; then the default holds.
    fn largest_batch(&self, topics: &config::Topics) -> Option<u32> {
        if self.embedded {
            return None;
        }
        let written = [&topics.output, &topics.rejected, &topics.counts].map(|topic| ResourceSpecifier::Topic(topic));
        let options = AdminOptions::new().request_timeout(Some(ANSWER));
        let described = self.block_on(self.admin.describe_configs(&written, &options));
        let limits =
            described.ok()?.into_iter().map(|resource| resource.ok()?.get("max.message.bytes")?.value.as_ref()?.parse().ok());
        limits.collect::<Option<Vec<u32>>>()?.into_iter().min()
    }

    /// The admin client answers with futures, from a thread of its own: nothing here needs a real runtime.
    fn block_on<T>(&self, answer: impl Future<Output = KafkaResult<T>>) -> KafkaResult<T> {
        self.runtime.block_on(answer)
    }
}

fn new_topic<'a>(name: &'a str, topics: &'a config::Topics) -> NewTopic<'a> {
    let new = NewTopic::new(name, topics.partitions, TopicReplication::Fixed(topics.replication));
    topics.settings.iter().fold(new, |new, (name, value)| new.set(name, value))
}
