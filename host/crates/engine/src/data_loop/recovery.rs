//! The start of a data loop, and its new start after a failure: both begin with what is committed.
//!
//! Offsets and the state of the counts are committed together, and are restored together. This module also finds the reasons not
//! to go on: a topic that was deleted and created anew, and a state that can't be read.

use std::time::Duration;

use anyhow::anyhow;
use weir_core::state::State;
use weir_kafka::offsets::Committed;
use weir_kafka::reset::ResetTo;
use weir_kafka::{Failure, Polled, Restored};

use super::{DataLoop, Phase, waiting};

impl<C: Fn() -> i64> DataLoop<'_, C> {
    /// Begins anew with the committed offsets and counts. While these can't be had, handles the assignments and revocations of
    /// the group, because the group waits for an answer.
    pub(super) fn recover(&mut self) -> Result<(), Failure> {
        let recovered = self.begin_anew();
        match recovered {
            Ok(()) => self.phase = Phase::Reading,
            Err(_) => self.serve_group()?,
        }
        recovered
    }

    fn begin_anew(&mut self) -> Result<(), Failure> {
        self.committed.clear();
        let restored = self.session.restore(&mut waiting(self.shutdown, self.session.client_log().clone(), self.snapshot))?;
        let Restored { committed, topic } = restored;
        self.transaction.forget();
        self.counts.clear();
        if committed.is_empty() {
            if self.missing.is_some() {
                self.session.find_topic()?;
            }
            self.missing = None;
            return Ok(());
        }
        for found in &committed {
            let (state, now, partition) = (self.state(found, &committed, &topic)?, (self.clock)(), found.partition);
            self.counts.restore(partition, now, &state);
            self.committed.insert(partition, state.to_metadata());
        }
        self.is_still(topic)?;
        self.missing = None;
        self.session.client_log().clear_outage();
        Ok(())
    }

    /// Handles assignments and revocations of the group while nothing can be recovered. Records that arrive are read again after
    /// the recovery.
    fn serve_group(&mut self) -> Result<(), Failure> {
        self.transaction.forget();
        match self.poll(Duration::ZERO)? {
            Polled::Revoked => self.revoked(),
            Polled::Assigned(partitions) => self.assigned(partitions),
            Polled::Nothing | Polled::Messages => {}
        }
        Ok(())
    }

    /// Checks now and then whether the input topic was deleted and created anew while it is read.
    pub(super) fn check_topic(&mut self) -> Result<(), Failure> {
        if !self.same_topic.is_due() || self.session.client_log().outage().is_some() {
            return Ok(());
        }
        self.check_topic_id()
    }

    /// Returns the reason why reading ends: `failure`, or that the input topic was created anew. In a new topic, offsets that are
    /// gone are no loss.
    pub(super) fn or_another_topic(&mut self, failure: Failure) -> Failure {
        match failure {
            Failure::Stop(_) => self.check_topic_id().err().unwrap_or(failure),
            failure => failure,
        }
    }

    /// Returns the error for a topic that stays missing. If it is the input topic, the error says what must be done once the
    /// topic is created anew.
    pub(super) fn or_input_is_gone(&self, error: anyhow::Error) -> anyhow::Error {
        if !matches!(self.session.find_topic(), Err(Failure::Missing(_))) {
            return error;
        }
        let fresh_start = self.session.reset().fresh_start();
        anyhow!(
            "{error:#}; once it is created anew, stop all other processes of the group and {fresh_start}: headers of what was \
             written name records of the topic that is gone"
        )
    }

    /// Asks for the id of the input topic. Fails if the topic is not the one that was read before.
    fn check_topic_id(&mut self) -> Result<(), Failure> {
        let found = self.session.topic_id();
        self.is_still(found)
    }

    /// Fails if the input topic, whose current id is `found`, is not the one that was read before.
    fn is_still(&mut self, found: String) -> Result<(), Failure> {
        if self.same_topic.is_still(found) {
            return Ok(());
        }
        let (topic, remedy) = (self.session.topic(), self.session.reset().renewal());
        Err(Failure::Stop(anyhow!("failed to read on in topic {topic}: it was deleted and created anew; {remedy}")))
    }

    /// Returns the state to go on with in the partition of `found`, which is one of `all`.
    fn state(&self, found: &Committed, all: &[Committed], topic: &str) -> Result<State, Failure> {
        let (partition, name) = (found.partition, self.session.topic());
        let fresh = || State::new(topic, found.offset.unwrap_or_default());
        match State::parse(&found.metadata) {
            Ok(None) => {
                if found.offset.is_some_and(|offset| offset > 0) {
                    tracing::info!(
                        partition,
                        offset = found.offset,
                        "no counts were committed with this offset: they begin there"
                    );
                }
                Ok(fresh())
            }
            Ok(Some(state)) if !state.topic.is_empty() && !topic.is_empty() && state.topic != topic => {
                let remedy = self.session.reset().renewal();
                Err(Failure::Stop(anyhow!(
                    "failed to go on with partition {partition} of topic {name}: the topic was deleted and created anew since \
                     its offset was committed; {remedy}"
                )))
            }
            Ok(Some(mut state)) => {
                // If no broker has told the id, the known one is kept.
                if !topic.is_empty() {
                    topic.clone_into(&mut state.topic);
                }
                Ok(state)
            }
            Err(unreadable) if self.reset_bad_state => {
                tracing::warn!(partition, "the state in the committed offset cannot be read, {unreadable}: counts begin anew");
                Ok(fresh())
            }
            Err(unreadable) => {
                // The offset itself is as good as any: if it is kept, nothing is written twice.
                let is_unreadable = |found: &&Committed| State::parse(&found.metadata).is_err();
                let partitions: Vec<i32> = all.iter().filter(is_unreadable).map(|found| found.partition).collect();
                let remedy = self.session.reset().remedy(&partitions, ResetTo::Current);
                Err(Failure::Stop(anyhow!(
                    "failed to go on with partition {partition} of topic {name}: the state in its committed offset cannot be \
                     read, {unreadable}; `counts.on_bad_state = \"reset\"` counts anew from there, or, {remedy}"
                )))
            }
        }
    }
}
