//! The topics, which are found or created before anything is read.
//!
//! Existing topics are left as they are, whatever their partitions and settings. If waiting can help, for example because a
//! broker is not up yet, the attempt is repeated with growing pauses, and the failure is logged once. If waiting can't help, the
//! error names topic and operation.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use super::client;
use super::client_log::{ClientLog, Quiet};
use super::failure::{self, Failure, Operation};
use super::native;
use super::settings::{ClientSettings, Settings, Topics};
use weir_core::suggestion::suggestion;
use weir_system::backoff::Backoff;
use weir_system::shutdown::Shutdown;

/// The most time in which a broker has to answer one question.
const ANSWER: Duration = Duration::from_secs(2);
/// The most time in which a broker has to create topics. Nothing else is noticed meanwhile, not even a shutdown.
const CREATION: Duration = Duration::from_secs(5);
/// The shortest and the longest pause between attempts.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// The time for which errors of the client about a failed attempt are awaited.
const LISTEN: Duration = Duration::from_millis(20);
/// The remedy that names another input topic in the configuration.
pub const SET_INPUT: &str = "set `topics.input`";

/// The facts about the topics that are known once all of them exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The largest batch of records that every topic takes (`max.message.bytes`), in bytes. None if the cluster does not tell it.
    pub largest_batch: Option<u32>,
    /// The number of partitions of the input topic.
    pub input_partitions: usize,
}

/// Connects to the cluster and makes sure that all topics exist. Returns None if a shutdown is requested before that.
///
/// # Errors
/// If waiting can't help: a topic is missing and is not to be created, a permission is missing, or settings are refused.
pub fn prepare(settings: &Settings, brokers: &str, shutdown: &Shutdown) -> anyhow::Result<Option<Ready>> {
    let Topics { input, output, rejected, counts, .. } = &settings.topics;
    let written = [output, rejected, counts].map(|topic| (topic.as_str(), Operation::Write));
    let clients = Clients::open(&settings.client, brokers, SET_INPUT)?;
    prepare_these(settings, &[&[(input.as_str(), Operation::Read)], &written[..]].concat(), &clients, shutdown)
}

/// Connects to the cluster and makes sure that the input topic exists, for a producer to that topic. Needs no permission for
/// other topics. `other` is the remedy that names another input topic.
///
/// # Errors
/// As for [`prepare`].
pub fn prepare_input(
    settings: &Settings,
    brokers: &str,
    other: &'static str,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Ready>> {
    let clients = Clients::open(&settings.client, brokers, other)?;
    prepare_these(settings, &[(&settings.topics.input, Operation::Write)], &clients, shutdown)
}

fn prepare_these(
    settings: &Settings,
    wanted: &[(&str, Operation)],
    clients: &Clients,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Ready>> {
    let brokers = clients.brokers.as_str();
    let mut backoff = Backoff::new(PAUSES.0, PAUSES.1);
    let mut told = None;
    loop {
        match clients.attempt(&settings.topics, wanted) {
            Ok(ready) => {
                if told.is_some() {
                    tracing::info!(brokers, "kafka is reached and all topics are there");
                }
                return Ok(Some(ready));
            }
            Err(Failure::Stop(error)) => return Err(error),
            Err(Failure::Cancelled) => return Ok(None),
            Err(Failure::Wait(error) | Failure::Missing(error)) => {
                let line = format!("{error:#}");
                if told.as_ref() != Some(&line) {
                    tracing::warn!(brokers, "{line}; trying again until it works");
                    told = Some(line);
                }
            }
        }
        if !shutdown.wait(backoff.pause()) {
            return Ok(None);
        }
    }
}

/// Returns how many partitions `topic` has, or None if it does not exist. `wanted` is the operation that is to be done on the
/// topic.
pub(super) fn partitions<C: ClientContext>(client: &Client<C>, topic: &str, wanted: Operation) -> Result<Option<i32>, Failure> {
    let failed = |error| Failure::of_topic_from_client(&error, Operation::Describe, topic);
    let metadata = client.fetch_metadata(Some(topic), ANSWER).map_err(failed)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len() as i32)),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        // A client that has the permission for `wanted` may describe the topic too, so the permission for `wanted` is missing.
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            Err(Failure::of_topic(RDKafkaErrorCode::TopicAuthorizationFailed, wanted, topic))
        }
        Some(code) => Err(Failure::of_topic(code, Operation::Describe, topic)),
    }
}

/// Two clients: `probe` looks for topics and hears of troubles, and `admin` creates topics.
struct Clients {
    brokers: String,
    probe: BaseConsumer<Quiet>,
    admin: AdminClient<Quiet>,
    client_log: Arc<ClientLog>,
    runtime: tokio::runtime::Runtime,
    /// True for the embedded broker, which never answers requests that it does not know.
    embedded: bool,
    /// The remedy that names another input topic.
    other: &'static str,
}

impl ConsumerContext for Quiet {}

impl Clients {
    fn open(kafka: &ClientSettings, brokers: &str, other: &'static str) -> anyhow::Result<Clients> {
        let settings = client::settings(kafka, brokers)?;
        let client_log = Arc::new(ClientLog::silent_with(kafka, settings.clone()));
        let refused = |error| client::refused(&error);
        Ok(Clients {
            brokers: brokers.to_string(),
            probe: client::probe_settings(kafka, brokers)?.create_with_context(Quiet(client_log.clone())).map_err(refused)?,
            admin: settings.create_with_context(Quiet(client_log.clone())).map_err(refused)?,
            client_log,
            runtime: tokio::runtime::Builder::new_current_thread().build().context("failed to start a runtime")?,
            embedded: kafka.brokers.is_none(),
            other,
        })
    }

    fn attempt(&self, topics: &Topics, wanted: &[(&str, Operation)]) -> Result<Ready, Failure> {
        let mut found = self.find(wanted)?;
        let mut missing = Vec::new();
        for (topic, partitions) in &found {
            if partitions.is_none() && !missing.contains(topic) {
                missing.push(*topic);
            }
        }
        if !missing.is_empty() {
            self.create(topics, &missing)?;
            self.await_topics(&missing)?;
            found = self.find(wanted)?;
        }
        self.denied(wanted).map_or(Ok(()), Err)?;
        let input = found.iter().find(|(topic, _)| *topic == topics.input).and_then(|(_, partitions)| *partitions);
        Ok(Ready { largest_batch: self.largest_batch(topics), input_partitions: input.unwrap_or_default() as usize })
    }

    /// Returns how many partitions each topic has, in the order of `wanted`. A topic that does not exist has None.
    fn find<'a>(&self, wanted: &[(&'a str, Operation)]) -> Result<Vec<(&'a str, Option<i32>)>, Failure> {
        let find = |(topic, operation): &(&'a str, Operation)| {
            let found = partitions(self.probe.client(), topic, *operation).map_err(|failure| self.explain(failure))?;
            Ok((*topic, found))
        };
        wanted.iter().map(find).collect()
    }

    /// Replaces a failure that only says that no broker answers with one that gives the reason.
    fn explain(&self, failure: Failure) -> Failure {
        let until = Instant::now() + LISTEN;
        while Instant::now() < until {
            // The result is ignored: it is an error that the context hears of, too.
            let _ = self.probe.poll(until.saturating_duration_since(Instant::now()));
        }
        match (failure, self.client_log.unreachable(&self.brokers)) {
            (Failure::Wait(_), Some(unreachable)) => unreachable,
            (failure, _) => failure,
        }
    }

    fn create(&self, topics: &Topics, missing: &[&str]) -> Result<(), Failure> {
        if !topics.create {
            return Err(Failure::Stop(anyhow!(self.refusal(topics, missing))));
        }
        let new: Vec<NewTopic<'_>> = missing.iter().map(|topic| new_topic(topic, topics)).collect();
        let options = AdminOptions::new().request_timeout(Some(CREATION)).operation_timeout(Some(CREATION));
        let results = self.block_on(self.admin.create_topics(&new, &options));
        for result in results.map_err(|error| Failure::from_client(&error, &format!("create topics {}", missing.join(", "))))? {
            match result {
                Ok(topic) => {
                    let Topics { partitions, replication, .. } = topics;
                    tracing::info!(topic, partitions, replication, "topic created");
                    if topic == topics.input && !self.embedded {
                        tracing::warn!(topic, "{}", self.doubt(topics));
                    }
                }
                // Another process has created it meanwhile.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(Failure::of_topic(code, Operation::Create, &topic)),
            }
        }
        Ok(())
    }

    /// Returns the message that topics are missing. It suggests similar names, because names may be misspelt.
    fn refusal(&self, topics: &Topics, missing: &[&str]) -> String {
        let (others, mut remedy) = (self.others(topics), "create it");
        let named = |topic: &&str| match similar(topic, &others).strip_prefix("; ") {
            Some(similar) => {
                remedy = "correct its name, create it";
                format!("{topic} ({similar})")
            }
            None => (*topic).to_owned(),
        };
        let names = missing.iter().map(named).collect::<Vec<_>>().join(", ");
        format!("no such topic: {names}: {remedy}, or start again with `topics.create = true`")
    }

    /// Returns the warning that the input topic was only just created, so that it is empty and its name may be misspelt.
    fn doubt(&self, topics: &Topics) -> String {
        format!(
            "the input topic was not there and is created: nobody has written to it; if its name is misspelt, {} and delete this \
             one{}",
            self.other,
            similar(&topics.input, &self.others(topics))
        )
    }

    /// Returns the names of the cluster's topics, without those of the configuration.
    fn others(&self, topics: &Topics) -> Vec<String> {
        let ours = [&topics.input, &topics.output, &topics.rejected, &topics.counts];
        let metadata = self.probe.client().fetch_metadata(None, ANSWER);
        let names = metadata.iter().flat_map(|metadata| metadata.topics()).map(|topic| topic.name());
        names.filter(|name| !ours.iter().any(|our| our == name)).map(str::to_owned).collect()
    }

    /// Waits until the brokers know the topics that their controller has created.
    fn await_topics(&self, created: &[&str]) -> Result<(), Failure> {
        let until = Instant::now() + CREATION;
        for topic in created {
            while partitions(self.probe.client(), topic, Operation::Describe)?.is_none() {
                if Instant::now() > until {
                    return Err(Failure::Wait(anyhow!("topic {topic} was created, but the brokers do not know it yet")));
                }
                std::thread::sleep(LISTEN);
            }
        }
        Ok(())
    }

    /// Returns the failure if some of the topics that are to be written to may not be written to. Without this check only the
    /// first dead letter, or the first window, would show that.
    fn denied(&self, wanted: &[(&str, Operation)]) -> Option<Failure> {
        let written = wanted.iter().filter(|(_, operation)| *operation == Operation::Write);
        let written: Vec<&str> = written.map(|(topic, _)| *topic).collect();
        let denied = (!self.embedded).then(|| native::denied(self.admin.inner(), &written, ANSWER));
        failure::denied_writes(&denied.unwrap_or_default())
    }

    /// Returns the smallest `max.message.bytes` of the topics that are written to. Returns None if the cluster does not tell it;
    /// then the default holds.
    fn largest_batch(&self, topics: &Topics) -> Option<u32> {
        if self.embedded {
            return None;
        }
        let written = [&topics.output, &topics.rejected, &topics.counts].map(String::as_str);
        let described = native::settings_of(self.admin.inner(), &written, ANSWER);
        let limits = described.into_iter().map(|settings| settings?.get("max.message.bytes")?.parse().ok());
        limits.collect::<Option<Vec<u32>>>()?.into_iter().min()
    }

    /// Waits for an answer of the admin client. The client completes its futures on a thread of its own, so no real runtime is
    /// needed.
    fn block_on<T>(&self, answer: impl Future<Output = KafkaResult<T>>) -> KafkaResult<T> {
        self.runtime.block_on(answer)
    }
}

/// Returns "; did you mean `…`?" if one of `others` has a name like `topic`.
fn similar(topic: &str, others: &[String]) -> String {
    suggestion(topic, others.iter().map(String::as_str))
}

fn new_topic<'a>(name: &'a str, topics: &'a Topics) -> NewTopic<'a> {
    let new = NewTopic::new(name, topics.partitions, TopicReplication::Fixed(topics.replication));
    topics.settings.iter().fold(new, |new, (name, value)| new.set(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Broker};

    /// Returns a cluster that has the default topics, and a configuration whose input topic is misspelt.
    fn misspelt() -> (Broker, Topics) {
        let broker = Broker::start(testing::settings());
        let topics = Topics { input: "user-logn".into(), create: false, ..broker.settings.topics.clone() };
        (broker, topics)
    }

    #[test]
    fn a_missing_topic_is_refused_with_the_one_that_its_name_is_like() {
        let (broker, topics) = misspelt();
        let clients = Clients::open(&broker.settings.client, &broker.address, SET_INPUT).unwrap();
        let refused = |missing: &[&str]| match clients.create(&topics, missing) {
            Err(Failure::Stop(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(&["user-logn", "other"]),
            "no such topic: user-logn (did you mean `user-login`?), other: correct its name, create it, or start again with \
             `topics.create = true`"
        );
        assert_eq!(refused(&["other"]), "no such topic: other: create it, or start again with `topics.create = true`");
    }

    #[test]
    fn whoever_named_the_input_topic_is_told_how_to_name_another() {
        let (broker, topics) = misspelt();
        for other in [SET_INPUT, "give another --topic"] {
            let clients = Clients::open(&broker.settings.client, &broker.address, other).unwrap();
            let said = clients.doubt(&topics);
            assert!(said.ends_with(&format!("misspelt, {other} and delete this one; did you mean `user-login`?")), "{said}");
        }
    }
}
