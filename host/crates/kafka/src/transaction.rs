//! Transactions: the records that are sent, and the offsets with their states, are committed together or not at all.
//!
//! The calls come in this order: begin, send, drain, offsets, commit. To add the offsets before the drain, or right after the
//! last commit, would each cost a wait of 100 ms (`ARCHITECTURE.md`).
//!
//! A producer is used again only after a commit that was clean and quick. After any other commit a request that was sent twice
//! could still be under way, and would end the *next* transaction (KAFKA-17754), or put old offsets into it. A new producer has a
//! new epoch, by which brokers refuse all that comes late from the old producer. It also ends the transaction that the old
//! producer left open. Hence the rule of this file: [`Transactions::clean`] is false unless proven.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer as _;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::failure::{self, Failure};
use super::producer::Producer;
use super::settings::Topics;
use super::settling::Settling;

/// The most time that one call waits before `cancelled` is asked whether to cancel. The calls can be resumed.
const SLICE: Duration = Duration::from_millis(100);
/// The most time that the call which adds offsets waits. It can't be resumed, and has to go to the coordinator and back twice in
/// this time.
const OFFSETS_SLICE: Duration = Duration::from_secs(2);
/// The pause between two calls, in case the client answers at once that it has no result yet.
const PAUSE: Duration = Duration::from_millis(5);
/// The time after which the client has lost the call that adds offsets.
const OFFSETS_STUCK: Duration = Duration::from_secs(3);
/// The time for which a call is resumed. After it the coordinator has ended the transaction (`transaction.timeout.ms`), or is
/// away.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most time that an abort may take. An abort only lets readers go on sooner: the next producer ends the transaction anyway.
const ABORT: Duration = Duration::from_secs(1);
/// The most time that an abort may take if the records are to be sent again at once. An abort takes no longer, but the client may
/// wait for half a second more, in order to use the producer again.
const QUICK_ABORT: Duration = Duration::from_millis(50);
/// The time that an abort waits before reports are served.
const ABORT_SLICE: Duration = Duration::from_millis(10);
/// The longest time of a call whose requests were surely not sent twice. The client sends a request again after
/// `retry.backoff.ms`, 250 ms, less a fifth.
const QUICK: Duration = Duration::from_millis(190);
/// The number of times that a producer is fenced within [`FENCED_WITHIN`] before the engine stops. A process that was paused is
/// fenced once. Two processes with the same transactional id fence each other forever.
const FENCED: usize = 5;
const FENCED_WITHIN: Duration = Duration::from_secs(60);

/// The remedy for a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Call again: the call goes on where it was.
    Resume,
    /// Abort the transaction, and do all of it again.
    Abort,
    /// The producer can't be used any more: replace it, and do all of it again.
    Replace,
}

fn remedy(error: &KafkaError) -> Remedy {
    match error {
        KafkaError::Transaction(error) if error.is_fatal() => Remedy::Replace,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Remedy::Abort,
        KafkaError::Transaction(error) if error.is_retriable() => Remedy::Resume,
        // Something is still unsent, so nothing is committed.
        KafkaError::Flush(_) => Remedy::Abort,
        _ => Remedy::Replace,
    }
}

/// Aborts the open transaction. The client's call waits until the reports about unsent records are served, so they are served
/// between two calls.
fn abort(producer: &Producer, patience: Duration) -> KafkaResult<()> {
    let begun = Instant::now();
    loop {
        let outcome = producer.inner().abort_transaction(ABORT_SLICE);
        producer.serve();
        match outcome {
            Err(error) if remedy(&error) == Remedy::Resume && begun.elapsed() < patience => {}
            outcome => return outcome,
        }
    }
}

/// The transactions of a sink, made by one producer after the other.
pub(super) struct Transactions {
    id: String,
    /// True if the producer is initialised, and every request of its last transaction is answered.
    clean: bool,
    open: bool,
    /// True if the offsets of the open transaction were added so quickly that no request was sent twice.
    quick: bool,
    settling: Settling,
    fenced: VecDeque<Instant>,
}

impl Transactions {
    /// Returns transactions under the id that the producer's settings have.
    pub(super) fn new(id: &str) -> Transactions {
        Transactions {
            id: id.to_owned(),
            clean: false,
            open: false,
            quick: false,
            settling: Settling::default(),
            fenced: VecDeque::new(),
        }
    }

    /// Makes sure that the producer can be used. A new producer ends the transaction that its predecessor left open, so offsets
    /// that are read after this are final.
    pub(super) fn prepare(&mut self, producer: &mut Producer, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        if self.clean {
            return Ok(());
        }
        producer.renew().map_err(Failure::Wait)?;
        self.retry("take up the transactional id", cancelled, |slice| {
            producer.serve();
            producer.inner().init_transactions(slice)
        })?;
        self.clean = true;
        Ok(())
    }

    /// Makes a new producer begin the next transaction. To be called while no transaction is open.
    pub(super) fn replace_producer(&mut self) {
        self.clean = false;
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self, producer: &mut Producer, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.prepare(producer, cancelled)?;
        self.clean = false;
        self.retry("begin a transaction", cancelled, |_| producer.inner().begin_transaction())?;
        self.open = true;
        self.settling.begin(Instant::now());
        Ok(())
    }

    /// Returns the time before which the next transaction should not begin, if there is one.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.settling.earliest()
    }

    /// Notes that the open transaction gets another chunk.
    pub(super) fn grow(&mut self) {
        self.settling.grow();
    }

    /// Notes that all records of the open transaction are delivered.
    pub(super) fn delivered(&mut self) {
        self.settling.delivered(Instant::now());
    }

    /// Adds `offsets` to the transaction, as the group's member `membership`.
    ///
    /// The client waits for the group's coordinator without a limit: if the coordinator dies at the wrong moment, nothing wakes
    /// the call. So the call is made on a thread of its own. If the call gets stuck, the thread is abandoned together with its
    /// producer.
    pub(super) fn add_offsets(
        &mut self,
        producer: &Producer,
        (offsets, topic): (&TopicPartitionList, &str),
        membership: &Arc<ConsumerGroupMetadata>,
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let mut denied = false;
        let add = |_| {
            producer.serve();
            let (answer, answered) = mpsc::channel();
            let (inner, offsets, membership) = (producer.inner(), offsets.clone(), membership.clone());
            let call = move || drop(answer.send(inner.send_offsets_to_transaction(&offsets, &membership, OFFSETS_SLICE)));
            let outcome = match thread::Builder::new().name("offsets".into()).spawn(call) {
                Ok(_) => answered.recv_timeout(OFFSETS_STUCK).unwrap_or(Err(KafkaError::Canceled)),
                Err(_) => Err(KafkaError::Canceled),
            };
            let code = outcome.as_ref().err().and_then(KafkaError::rdkafka_error_code);
            denied = code == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
            outcome
        };
        let what = format!("commit offsets of topic {topic}");
        let outcome = self.retry(&what, cancelled, add);
        if denied {
            // All records are delivered by now, so the topic that is denied is the topic of the offsets.
            return Err(Failure::of_offsets(RDKafkaErrorCode::TopicAuthorizationFailed, &what, topic));
        }
        self.quick = outcome?;
        Ok(())
    }

    /// Commits the transaction. If this fails, the outcome is unknown.
    pub(super) fn commit(&mut self, producer: &Producer, cancelled: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let quick = self.retry("commit a transaction", cancelled, |slice| {
            // Served events tell that no broker answers; the call itself does not.
            producer.serve();
            producer.inner().commit_transaction(slice)
        })?;
        self.open = false;
        self.clean = quick && self.quick;
        self.settling.ended(Instant::now());
        Ok(())
    }

    /// Returns the reason why the transaction has failed. To be called only if it has failed.
    pub(super) fn reason(&mut self, producer: &Producer, topics: &Topics) -> Failure {
        // This call is out of place, because a transaction is open. The client answers it with the earlier error.
        let answer = self.retry("write in a transaction", &mut || false, |_| producer.inner().begin_transaction());
        match answer {
            Err(Failure::Stop(error)) => {
                let written = [&topics.output, &topics.rejected, &topics.counts].map(String::as_str);
                failure::denied_writes(&producer.denied(&written)).unwrap_or(Failure::Stop(error))
            }
            Err(failure) => failure,
            Ok(_) => Failure::Wait(anyhow!("failed to write in a transaction ({}): it has failed", self.id)),
        }
    }

    /// Abandons the open transaction, if there is one. Waits only briefly if the next transaction is to follow `at_once`.
    pub(super) fn abandon(&mut self, producer: &Producer, at_once: bool) {
        let patience = if at_once { QUICK_ABORT } else { ABORT };
        if std::mem::take(&mut self.open)
            && let Err(error) = abort(producer, patience)
        {
            tracing::debug!(%error, "the transaction is left to its successor");
        }
        self.clean = false;
    }

    /// Repeats `call` until it succeeds, or can't succeed any more. Returns whether it was so quick that no request was sent
    /// twice.
    fn retry(
        &mut self,
        what: &str,
        cancelled: &mut dyn FnMut() -> bool,
        mut call: impl FnMut(Duration) -> KafkaResult<()>,
    ) -> Result<bool, Failure> {
        let what = format!("{what} ({})", self.id);
        let begun = Instant::now();
        loop {
            let Err(error) = call(SLICE) else { return Ok(begun.elapsed() < QUICK) };
            match remedy(&error) {
                Remedy::Resume if cancelled() => return Err(Failure::Cancelled),
                Remedy::Resume if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Remedy::Resume | Remedy::Abort => return Err(Failure::from_client(&error, &what)),
                Remedy::Replace => {
                    // A producer that is to be replaced can't abort.
                    self.open = false;
                    if matches!(error, KafkaError::Canceled) {
                        return Err(Failure::Wait(anyhow!(
                            "failed to {what}: the coordinator of the group gave no answer within {} s",
                            OFFSETS_STUCK.as_secs()
                        )));
                    }
                    return Err(self.fenced(&error).unwrap_or_else(|| Failure::from_client(&error, &what)));
                }
            }
        }
    }

    /// Takes note if `error` says that the producer was fenced. Returns the failure if this has happened too often.
    fn fenced(&mut self, error: &KafkaError) -> Option<Failure> {
        use RDKafkaErrorCode as Code;
        if !matches!(error.rdkafka_error_code()?, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) {
            return None;
        }
        self.fenced.push_back(Instant::now());
        self.fenced.retain(|at| at.elapsed() < FENCED_WITHIN);
        (self.fenced.len() >= FENCED).then(|| {
            Failure::Stop(anyhow!(
                "another process uses the transactional id {} as well: set another `kafka.transactional_id` for each",
                self.id
            ))
        })
    }
}
