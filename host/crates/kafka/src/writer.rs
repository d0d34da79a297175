//! The records that are written about a step: outputs, dead letters and windows, with their headers and partitions.
//!
//! Outputs keep key, headers and timestamp. If input and output have equally many partitions, an output goes to the partition of
//! the same number. Otherwise a record with a key goes to the partition that Java clients choose for the key, and a record
//! without a key to the input partition's number modulo the number of output partitions. In each case records of one input
//! partition with one key stay in order.
//!
//! The headers listed here belong to this engine, and replace those that are already there. So in a chain of engines the last one
//! is named. A dead letter that is produced to the input again and rejected again has each header once. And no other producer can
//! forge one. All other headers stay where they are, and ours follow. Only if outputs get no headers of ours do they keep all
//! headers that they have.

use std::cell::Cell;

use super::native::{Headers, Outgoing, header_bytes};
use super::settings::{Settings, Topics};
use weir_core::counts::Window;
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::record::{Batch, Output, Rejection, Step};

/// The hash of the set in force.
pub const RULESET: &str = "weir-ruleset";
/// The position of the input record: `topic/partition/offset`.
pub const SOURCE: &str = "weir-source";
/// The reason why a record was rejected: one of a small fixed set.
pub const REASON: &str = "weir-reason";
/// The details of the reason, for operators.
pub const DETAIL: &str = "weir-detail";
/// The place in the rule where it failed, if it failed: functions, the innermost first, one per line.
pub const BACKTRACE: &str = "weir-backtrace";
/// The rule that rejected the record, or `weir`.
pub const RULE: &str = "weir-rule";
/// The version of the rule that rejected the record.
pub const RULE_VERSION: &str = "weir-rule-version";
/// On a shortened dead letter: the parts that are missing.
pub const SHORTENED: &str = "weir-shortened";

/// The headers that are replaced.
const OURS: [&str; 8] = [RULESET, SOURCE, REASON, DETAIL, BACKTRACE, RULE, RULE_VERSION, SHORTENED];
/// The most that a shortened dead letter keeps of the value, of the key, and of the headers, in bytes each. Together this is well
/// below any sensible `max.message.bytes`.
const SHORT_BYTES: usize = 16 * 1024;
/// The most that a record and its batch take beside key, value and the headers of the input record, in bytes. Our headers have a
/// hash and a position.
const ADDED: usize = 512;
/// The number of headers for which room is reserved: enough for those of most records, and ours.
const HEADERS: usize = 8;

/// A chunk of a transaction, with all that is needed to write about it.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The number of the chunk within the transaction.
    pub chunk: usize,
    /// The records that were read. Empty if only time has passed.
    pub batch: &'a Batch,
    /// The step: what became of the batch.
    pub step: &'a Step,
    /// The manifests of the rules, in the order to which `Rejection::rule` refers.
    pub manifests: &'a [Manifest],
    /// The hash of the set.
    pub ruleset: &'a str,
}

/// Makes the records to be written from a step and its batch.
pub(super) struct Writer {
    pub(super) topics: Topics,
    /// True if outputs get headers.
    headers: bool,
    pub(super) partitions: Partitions,
    /// A buffer for the position of the record at hand.
    position: Cell<String>,
}

/// The numbers of partitions of the topics.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Partitions {
    pub(super) input: i32,
    pub(super) output: i32,
    pub(super) rejected: i32,
    pub(super) counts: i32,
}

/// The kind of a written record. A tag has the kind, the chunk and the index of the record in one number. The tag goes through
/// librdkafka, and names the record in its delivery report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordKind {
    Output,
    DeadLetter,
    Shortened,
    Window,
}

const KINDS: [RecordKind; 4] = [RecordKind::Output, RecordKind::DeadLetter, RecordKind::Shortened, RecordKind::Window];

pub(super) fn tag(kind: RecordKind, chunk: usize, record: u32) -> usize {
    (chunk << 32 | record as usize) * KINDS.len() + kind as usize
}

/// Returns the kind, the chunk of the transaction, and the index of the record in that chunk.
pub(super) fn untag(tag: usize) -> (RecordKind, usize, u32) {
    let place = tag / KINDS.len();
    (KINDS[tag % KINDS.len()], place >> 32, place as u32)
}

impl Writer {
    pub(super) fn new(settings: &Settings) -> Writer {
        Writer {
            topics: settings.topics.clone(),
            headers: settings.client.headers,
            partitions: Partitions::default(),
            position: Cell::default(),
        }
    }

    /// Returns the topic that records of `kind` go to.
    pub(super) fn topic(&self, kind: RecordKind) -> &str {
        match kind {
            RecordKind::Output => &self.topics.output,
            RecordKind::DeadLetter | RecordKind::Shortened => &self.topics.rejected,
            RecordKind::Window => &self.topics.counts,
        }
    }

    /// Returns the output for a record that passed.
    pub(super) fn output<'a>(&'a self, work: Work<'a>, output: &Output) -> Outgoing<'a> {
        let Work { batch, step, ruleset, .. } = work;
        let index = output.record as usize;
        let value = step.value(output, batch);
        Outgoing {
            topic: &self.topics.output,
            partition: route(batch, index, self.partitions.input, self.partitions.output),
            key: batch.key(index),
            // The pipeline rejects every tombstone. If one passed, its value would stay None.
            value: (!value.is_empty() || batch.value(index).is_some()).then_some(value),
            arena: Some(step.arena(output, batch)),
            timestamp: batch.records()[index].timestamp,
            headers: self.output_headers(batch, index, ruleset),
            tag: tag(RecordKind::Output, work.chunk, output.record),
        }
    }

    /// Returns a bound on the size of the record of an output, in bytes. To compute it takes less time than to make the record.
    pub(super) fn output_at_most(&self, work: Work<'_>, output: &Output) -> usize {
        let Work { batch, step, .. } = work;
        let index = output.record as usize;
        let headers: usize = batch.headers(index).map(|(name, value)| header_bytes(name, value)).sum();
        step.value(output, batch).len() + batch.key(index).map_or(0, <[u8]>::len) + headers + ADDED
    }

    /// Returns the dead letter: the input record as it came, and the reason in headers. If the broker has `refused` the record,
    /// the dead letter has no timestamp, because the timestamp may be the cause.
    pub(super) fn dead_letter<'a>(&'a self, work: Work<'a>, rejection: &Rejection, refused: bool) -> Outgoing<'a> {
        let index = rejection.record as usize;
        let headers = original_headers(work.batch, index, is_foreign);
        Outgoing {
            topic: &self.topics.rejected,
            partition: route(work.batch, index, self.partitions.input, self.partitions.rejected),
            key: work.batch.key(index),
            value: work.batch.value(index),
            arena: Some(work.batch.arena()),
            timestamp: work.batch.records()[index].timestamp.filter(|_| !refused),
            headers: Some(self.dead_letter_headers(headers, work, rejection)),
            tag: tag(RecordKind::DeadLetter, work.chunk, rejection.record),
        }
    }

    /// Returns the shortened dead letter of a record that is too large for the topic of dead letters.
    pub(super) fn shortened<'a>(&'a self, work: Work<'a>, rejection: &Rejection) -> Outgoing<'a> {
        let index = rejection.record as usize;
        let whole = self.dead_letter(work, rejection, true);
        let (value, key) = (whole.value.map_or(0, <[u8]>::len), whole.key.map_or(0, <[u8]>::len));
        let headers: usize = work.batch.headers(index).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum();
        let note = shortening(value, key, headers);
        let headers = match headers <= SHORT_BYTES {
            true => original_headers(work.batch, index, is_foreign),
            false => Headers::new(HEADERS),
        };
        Outgoing {
            key: whole.key.map(cut),
            value: whole.value.map(cut),
            headers: Some(self.dead_letter_headers(add(headers, SHORTENED, &note), work, rejection)),
            tag: tag(RecordKind::Shortened, work.chunk, rejection.record),
            ..whole
        }
    }

    /// Returns the record of a window that has ended. Its value is `json`. If it is `timed`, its timestamp is the end of the
    /// window.
    pub(super) fn window<'a>(&'a self, window: &Window, json: &'a str, timed: bool) -> Outgoing<'a> {
        let first = window.partitions.first().copied().unwrap_or_default();
        Outgoing {
            topic: &self.topics.counts,
            // The windows of one process follow each other in one partition, as long as the process has the same partitions.
            partition: Some(first % self.partitions.counts.max(1)),
            key: None,
            value: Some(json.as_bytes()),
            arena: None,
            timestamp: Some(window.end).filter(|_| timed),
            headers: None,
            tag: tag(RecordKind::Window, 0, 0),
        }
    }

    fn output_headers(&self, batch: &Batch, index: usize, ruleset: &str) -> Option<Headers> {
        if self.headers {
            let headers = original_headers(batch, index, is_foreign);
            return Some(self.add_source(add(headers, RULESET, ruleset), batch, index));
        }
        batch.headers(index).next().is_some().then(|| original_headers(batch, index, |_| true))
    }

    fn dead_letter_headers(&self, headers: Headers, work: Work<'_>, rejection: &Rejection) -> Headers {
        let version = rejection.rule().and_then(|rule| work.manifests.get(rule));
        let version = version.map_or(env!("CARGO_PKG_VERSION"), |manifest| manifest.version.as_str());
        let mut headers = add(headers, REASON, reason_name(rejection, work.manifests));
        if let Some(detail) = &rejection.detail {
            headers = add(headers, DETAIL, detail);
        }
        if let Some(backtrace) = rejection.backtrace() {
            headers = add(headers, BACKTRACE, backtrace);
        }
        headers = add(headers, RULE, rule_name(rejection.rule(), work.manifests));
        headers = add(headers, RULE_VERSION, version);
        headers = add(headers, RULESET, work.ruleset);
        self.add_source(headers, work.batch, rejection.record as usize)
    }

    fn add_source(&self, headers: Headers, batch: &Batch, index: usize) -> Headers {
        let mut position = self.position.take();
        let headers = add(headers, SOURCE, batch.position_in(index, &mut position));
        self.position.set(position);
        headers
    }
}

/// Returns the partition for a record from a topic with `input` partitions in a topic with `own` partitions. None: the key
/// decides.
fn route(batch: &Batch, index: usize, input: i32, own: i32) -> Option<i32> {
    let partition = batch.records()[index].partition;
    if input == own && partition < own {
        return Some(partition);
    }
    batch.key(index).is_none().then(|| partition % own.max(1))
}

/// Returns whether a header is none of ours.
fn is_foreign(name: &str) -> bool {
    !OURS.contains(&name)
}

fn original_headers(batch: &Batch, index: usize, keep: impl Fn(&str) -> bool) -> Headers {
    header_list(batch.headers(index).filter(|(name, _)| keep(name)))
}

/// Returns headers in the form that the client takes.
pub(super) fn header_list<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Headers {
    let mut list = Headers::new(HEADERS);
    headers.for_each(|(name, value)| list.add(name, value));
    list
}

fn add(mut headers: Headers, name: &str, value: &str) -> Headers {
    headers.add(name, Some(value.as_bytes()));
    headers
}

/// Returns the text about what a shortened dead letter lacks, if value, key and headers have so many bytes.
fn shortening(value: usize, key: usize, headers: usize) -> String {
    let cut = |what, bytes| (bytes > SHORT_BYTES).then(|| format!("{what} of {bytes} bytes cut to {SHORT_BYTES}"));
    let dropped = (headers > SHORT_BYTES).then(|| format!("headers of {headers} bytes dropped"));
    let parts: Vec<String> = [cut("value", value), cut("key", key), dropped].into_iter().flatten().collect();
    if parts.is_empty() { "nothing had to be cut".to_owned() } else { parts.join(", ") }
}

fn cut(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(SHORT_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(partition: i32, key: Option<&[u8]>) -> Batch {
        let mut batch = Batch::new("user-login");
        batch.push(partition, 42, None, key, None);
        batch
    }

    #[test]
    fn equally_many_partitions_keep_the_number() {
        assert_eq!(route(&batch(2, Some(b"key")), 0, 3, 3), Some(2));
        assert_eq!(route(&batch(2, None), 0, 3, 3), Some(2));
    }

    #[test]
    fn another_number_goes_by_key_or_else_by_partition() {
        assert_eq!(route(&batch(2, Some(b"key")), 0, 3, 2), None);
        assert_eq!(route(&batch(2, Some(b"")), 0, 3, 2), None, "an empty key is a key");
        assert_eq!(route(&batch(2, None), 0, 3, 2), Some(0));
        assert_eq!(route(&batch(3, Some(b"key")), 0, 3, 3), None, "a partition that was added since");
    }

    #[test]
    fn a_shortened_dead_letter_says_only_what_was_cut() {
        assert_eq!(shortening(300_073, 1, 0), "value of 300073 bytes cut to 16384");
        assert_eq!(
            shortening(16_385, 20_000, 16_385),
            "value of 16385 bytes cut to 16384, key of 20000 bytes cut to 16384, headers of 16385 bytes dropped"
        );
        assert_eq!(shortening(16_384, 16_384, 16_384), "nothing had to be cut");
    }

    #[test]
    fn tags_go_there_and_back() {
        for kind in KINDS {
            assert_eq!(untag(tag(kind, 1_000_000, u32::MAX)), (kind, 1_000_000, u32::MAX));
        }
    }

    #[test]
    fn the_source_names_topic_partition_and_offset() {
        let (batch, mut text) = (batch(2, None), "what was there before".to_owned());
        assert_eq!(batch.position_in(0, &mut text), "user-login/2/42");
        assert_eq!(batch.position(0).to_string(), text);
    }
}
