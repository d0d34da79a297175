//! Transactions: what is sent, and the offsets with their states, are committed together or not at all.
//!
//! The calls come in this order: begin, send, drain, offsets, commit. Draining before the offsets, and sending after the
//! beginning, keeps each of them from waiting for the one before (`ARCHITECTURE.md` has the figures).
//!
//! A producer is used again only after a commit that was clean and quick. Else a request that was sent twice could still be
//! under way, and would end the *next* transaction (KAFKA-17754), or put old offsets into it. A new producer has a new epoch,
//! with which brokers refuse whatever comes late from the old one, and it ends the transaction that the old one left. Hence
//! the rule of this file: [`Transactions::clean`] is false unless proven.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::TopicPartitionList;

use super::failure::{self, Failure};
use super::outbox::Outbox;
use super::settings::Topics;

/// How long one call waits before it is asked whether to go on. The calls can be resumed.
const SLICE: Duration = Duration::from_millis(100);
/// The same for adding offsets, which cannot be resumed: it has to go to the coordinator and back twice in this time.
const OFFSETS_SLICE: Duration = Duration::from_secs(2);
/// The shortest time between two calls, should the client answer at once that it cannot answer yet.
const PAUSE: Duration = Duration::from_millis(5);
/// Past this the client has lost the call.
const OFFSETS_STUCK: Duration = Duration::from_secs(3);
/// How long a call is resumed. Past it the coordinator has given the transaction up (`transaction.timeout.ms`), or is away.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long an abort may take. It only lets readers go on sooner: whoever comes next ends the transaction anyway.
const ABORT: Duration = Duration::from_secs(1);
/// The same where it is to be sent again at once. An abort takes no longer, but the client may wait for half a second more, in order
/// to use the producer again.
const QUICK_ABORT: Duration = Duration::from_millis(50);
/// How long an abort waits before reports are served.
const ABORT_SLICE: Duration = Duration::from_millis(10);
/// A call that took longer may have been sent twice: the client tries again after `retry.backoff.ms`, 250 ms, less a fifth.
const QUICK: Duration = Duration::from_millis(190);
/// So many times a producer may be fenced within [`FENCED_WITHIN`]. A process that was paused is fenced once; two with the same
/// transactional id fence each other for ever.
const FENCED: usize = 5;
const FENCED_WITHIN: Duration = Duration::from_secs(60);

/// What to do about a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Remedy {
    /// Call again: it goes on where it was.
    Resume,
    /// Abort, and do it all again.
    Abort,
    /// The producer is of no use any more; another one does it all again.
    Replace,
}

fn remedy(error: &KafkaError) -> Remedy {
    match error {
        KafkaError::Transaction(error) if error.is_fatal() => Remedy::Replace,
        KafkaError::Transaction(error) if error.txn_requires_abort() => Remedy::Abort,
        KafkaError::Transaction(error) if error.is_retriable() => Remedy::Resume,
        // Something is still unsent, and so nothing is committed.
        KafkaError::Flush(_) => Remedy::Abort,
        _ => Remedy::Replace,
    }
}

/// Aborts the open transaction. The call waits until the reports of what was not sent are served, which is done in between.
fn abort(outbox: &Outbox, patience: Duration) -> KafkaResult<()> {
    let begun = Instant::now();
    loop {
        let outcome = outbox.producer().abort_transaction(ABORT_SLICE);
        outbox.serve();
        match outcome {
            Err(error) if remedy(&error) == Remedy::Resume && begun.elapsed() < patience => {}
            outcome => return outcome,
        }
    }
}

/// The transactions of one producer after the other.
pub(super) struct Transactions {
    id: String,
    /// The producer is initialised, and every request of its last transaction is answered.
    clean: bool,
    open: bool,
    /// The offsets of the open transaction were added so quickly that nothing was sent twice.
    quick: bool,
    fenced: VecDeque<Instant>,
}

impl Transactions {
    /// Transactions under the id that the producer's settings have.
    pub(super) fn new(id: &str) -> Transactions {
        Transactions { id: id.to_owned(), clean: false, open: false, quick: false, fenced: VecDeque::new() }
    }

    /// Sees that the producer can be used. If it is a new one, what its predecessor left open is ended: offsets that are read
    /// after this are final.
    pub(super) fn prepare(&mut self, outbox: &mut Outbox, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        if self.clean {
            return Ok(());
        }
        outbox.renew().map_err(Failure::Wait)?;
        self.insist("take up the transactional id", give_up, |slice| {
            outbox.serve();
            outbox.producer().init_transactions(slice)
        })?;
        self.clean = true;
        Ok(())
    }

    /// Has the next transaction begun by a new producer. To be called while none is open.
    pub(super) fn replace_producer(&mut self) {
        self.clean = false;
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self, outbox: &mut Outbox, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        self.prepare(outbox, give_up)?;
        self.clean = false;
        self.insist("begin a transaction", give_up, |_| outbox.producer().begin_transaction())?;
        self.open = true;
        Ok(())
    }

    /// Adds `offsets` to the transaction, to which `membership` has the right.
    ///
    /// The client waits for the group's coordinator without an end: if that dies at the wrong moment, nothing wakes the call. So
    /// it is made on a thread of its own, which is given up with its producer.
    pub(super) fn add_offsets(
        &mut self,
        outbox: &Outbox,
        (offsets, topic): (&TopicPartitionList, &str),
        membership: &Arc<ConsumerGroupMetadata>,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<(), Failure> {
        let mut denied = false;
        let add = |_| {
            outbox.serve();
            let (answer, answered) = mpsc::channel();
            let (producer, offsets, membership) = (outbox.producer(), offsets.clone(), membership.clone());
            let call = move || drop(answer.send(producer.send_offsets_to_transaction(&offsets, &membership, OFFSETS_SLICE)));
            let outcome = match thread::Builder::new().name("offsets".into()).spawn(call) {
                Ok(_) => answered.recv_timeout(OFFSETS_STUCK).unwrap_or(Err(KafkaError::Canceled)),
                Err(_) => Err(KafkaError::Canceled),
            };
            let code = outcome.as_ref().err().and_then(KafkaError::rdkafka_error_code);
            denied = code == Some(RDKafkaErrorCode::TopicAuthorizationFailed);
            outcome
        };
        let what = format!("commit offsets of topic {topic}");
        let outcome = self.insist(&what, give_up, add);
        if denied {
            // All that was written is delivered, so it is the topic of the offsets.
            return Err(Failure::of_offsets(RDKafkaErrorCode::TopicAuthorizationFailed, &what, topic));
        }
        self.quick = outcome?;
        Ok(())
    }

    /// Commits the transaction. If it fails, the outcome is unknown.
    pub(super) fn commit(&mut self, outbox: &Outbox, give_up: &mut dyn FnMut() -> bool) -> Result<(), Failure> {
        let quick = self.insist("commit a transaction", give_up, |slice| {
            // The call itself does not hear that no broker is there.
            outbox.serve();
            outbox.producer().commit_transaction(slice)
        })?;
        self.open = false;
        self.clean = quick && self.quick;
        Ok(())
    }

    /// Why the transaction has failed, which it has.
    pub(super) fn reason(&mut self, outbox: &Outbox, topics: &Topics) -> Failure {
        // A call that is out of place, and that is answered with what was wrong before.
        let answer = self.insist("write in a transaction", &mut || false, |_| outbox.producer().begin_transaction());
        match answer {
            Err(Failure::Stop(error)) => {
                let written = [&topics.output, &topics.rejected, &topics.counts].map(String::as_str);
                failure::denied_writes(&outbox.denied(&written)).unwrap_or(Failure::Stop(error))
            }
            Err(failure) => failure,
            Ok(_) => Failure::Wait(anyhow!("failed to write in a transaction ({}): it has failed", self.id)),
        }
    }

    /// Gives up the transaction that is open, if there is one. Does not wait for long if the next one is to follow `at_once`.
    pub(super) fn abandon(&mut self, outbox: &Outbox, at_once: bool) {
        let patience = if at_once { QUICK_ABORT } else { ABORT };
        if std::mem::take(&mut self.open)
            && let Err(error) = abort(outbox, patience)
        {
            tracing::debug!(%error, "the transaction is left to its successor");
        }
        self.clean = false;
    }

    /// Calls until it is done, or cannot be. Returns whether it was done so quickly that nothing was sent twice.
    fn insist(
        &mut self,
        what: &str,
        give_up: &mut dyn FnMut() -> bool,
        mut call: impl FnMut(Duration) -> KafkaResult<()>,
    ) -> Result<bool, Failure> {
        let what = format!("{what} ({})", self.id);
        let begun = Instant::now();
        loop {
            let Err(error) = call(SLICE) else { return Ok(begun.elapsed() < QUICK) };
            match remedy(&error) {
                Remedy::Resume if give_up() => return Err(Failure::GaveUp),
                Remedy::Resume if begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
                Remedy::Resume | Remedy::Abort => return Err(Failure::from_client(&error, &what)),
                Remedy::Replace => {
                    // Aborting is of no use.
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

    /// The failure for a producer that was fenced again and again.
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
