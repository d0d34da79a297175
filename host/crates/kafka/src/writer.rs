//! What is written about a step: outputs, dead letters and windows, with their headers and partitions.
//!
//! Outputs keep key, headers and timestamp. They go to the partition of the same number where input and output have equally
//! many, else by key as Java clients would choose, else, without a key, to the input partition modulo their number: in each
//! case messages of one input partition with one key stay in order.
//!
//! The headers listed here belong to this engine. Ones that are already there are replaced: in a chain of engines the last one is
//! named, a dead letter that is produced to the input again and rejected again has each of them once, and nobody can forge one.
//! All other headers stay where they are, and ours follow. Only where outputs get no headers of ours do they keep all they have.

use super::native::{Headers, Outgoing, header_bytes};
use super::settings::{Settings, Topics};
use weir_core::counts::Window;
use weir_core::pipeline::{Manifest, reason_name, rule_name};
use weir_core::record::{Batch, Output, Rejection, Step};

/// Hash of the rules in force.
pub const RULESET: &str = "weir-ruleset";
/// `topic/partition/offset` of the input message.
pub const SOURCE: &str = "weir-source";
/// Why a message was rejected: one of a small fixed set.
pub const REASON: &str = "weir-reason";
/// What exactly, for a person.
pub const DETAIL: &str = "weir-detail";
/// Where in the rule, if it failed: functions, the innermost first, one a line.
pub const BACKTRACE: &str = "weir-backtrace";
/// The rule that rejected it, or `weir`.
pub const RULE: &str = "weir-rule";
/// That rule's version.
pub const RULE_VERSION: &str = "weir-rule-version";
/// On a shortened dead letter: what is missing.
pub const SHORTENED: &str = "weir-shortened";

/// Headers that are replaced.
const OURS: [&str; 8] = [RULESET, SOURCE, REASON, DETAIL, BACKTRACE, RULE, RULE_VERSION, SHORTENED];
/// How much of a value, a key and the headers a shortened dead letter keeps, in bytes each: together well below any sensible
/// `max.message.bytes`.
const SHORT_BYTES: usize = 16 * 1024;
/// What a record and its batch take beside key, value and the headers that came, at most, in bytes: ours name a set and a place.
const ADDED: usize = 512;
/// Room for what most messages have, and ours.
const HEADERS: usize = 8;

/// A part of a transaction, with all that is written about it.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// Which part of the transaction it is.
    pub part: usize,
    /// What was read; empty where only time has passed.
    pub batch: &'a Batch,
    /// What became of it.
    pub step: &'a Step,
    /// The rules, as `Rejection::rule` names them.
    pub manifests: &'a [Manifest],
    /// The hash of the rules.
    pub ruleset: &'a str,
}

/// Where step and batch are written to, and how.
pub(super) struct Writer {
    pub(super) topics: Topics,
    /// Add headers to outputs.
    headers: bool,
    pub(super) partitions: Partitions,
}

/// How many partitions the topics have.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Partitions {
    pub(super) input: i32,
    pub(super) output: i32,
    pub(super) rejected: i32,
    pub(super) counts: i32,
}

/// What a delivery report is about, as a number that goes through librdkafka: the kind, and the index of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Output,
    Letter,
    Shortened,
    Window,
}

const KINDS: [Kind; 4] = [Kind::Output, Kind::Letter, Kind::Shortened, Kind::Window];

pub(super) fn tag(kind: Kind, part: usize, record: u32) -> usize {
    (part << 32 | record as usize) * KINDS.len() + kind as usize
}

/// The kind, the part of the transaction, and the index of the record in it.
pub(super) fn untag(tag: usize) -> (Kind, usize, u32) {
    let place = tag / KINDS.len();
    (KINDS[tag % KINDS.len()], place >> 32, place as u32)
}

impl Writer {
    pub(super) fn new(settings: &Settings) -> Writer {
        Writer { topics: settings.topics.clone(), headers: settings.client.headers, partitions: Partitions::default() }
    }

    /// The topic that messages of `kind` go to.
    pub(super) fn topic(&self, kind: Kind) -> &str {
        match kind {
            Kind::Output => &self.topics.output,
            Kind::Letter | Kind::Shortened => &self.topics.rejected,
            Kind::Window => &self.topics.counts,
        }
    }

    /// A message that passed.
    pub(super) fn output<'a>(&'a self, work: Work<'a>, output: &Output) -> Outgoing<'a> {
        let Work { batch, step, ruleset, .. } = work;
        let index = output.record as usize;
        let value = step.value(output, batch);
        Outgoing {
            topic: &self.topics.output,
            partition: route(batch, index, self.partitions.input, self.partitions.output),
            key: batch.key(index),
            // A tombstone that passed stays one.
            value: (!value.is_empty() || batch.value(index).is_some()).then_some(value),
            timestamp: batch.records()[index].timestamp,
            headers: self.output_headers(batch, index, ruleset),
            tag: tag(Kind::Output, work.part, output.record),
        }
    }

    /// A bound of how large the record of an output is, in bytes, that takes less time than to make it.
    pub(super) fn output_at_most(&self, work: Work<'_>, output: &Output) -> usize {
        let Work { batch, step, .. } = work;
        let index = output.record as usize;
        let headers: usize = batch.headers(index).map(|(name, value)| header_bytes(name, value)).sum();
        step.value(output, batch).len() + batch.key(index).map_or(0, <[u8]>::len) + headers + ADDED
    }

    /// The dead letter: the message as it came, and what is held against it. Without its timestamp if the broker refused the
    /// message, since that may be why.
    pub(super) fn letter<'a>(&'a self, work: Work<'a>, rejection: &Rejection, refused: bool) -> Outgoing<'a> {
        let index = rejection.record as usize;
        let headers = original_headers(work.batch, index, is_foreign);
        Outgoing {
            topic: &self.topics.rejected,
            partition: route(work.batch, index, self.partitions.input, self.partitions.rejected),
            key: work.batch.key(index),
            value: work.batch.value(index),
            timestamp: work.batch.records()[index].timestamp.filter(|_| !refused),
            headers: Some(letter_headers(headers, work, rejection)),
            tag: tag(Kind::Letter, work.part, rejection.record),
        }
    }

    /// The dead letter of a message that is too large for the topic of dead letters.
    pub(super) fn shortened<'a>(&'a self, work: Work<'a>, rejection: &Rejection) -> Outgoing<'a> {
        let index = rejection.record as usize;
        let whole = self.letter(work, rejection, true);
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
            headers: Some(letter_headers(add(headers, SHORTENED, &note), work, rejection)),
            tag: tag(Kind::Shortened, work.part, rejection.record),
            ..whole
        }
    }

    /// A window that has ended; `json` is what it says. Its end is its timestamp, if it is `timed`.
    pub(super) fn window<'a>(&'a self, window: &Window, json: &'a str, timed: bool) -> Outgoing<'a> {
        let first = window.partitions.first().copied().unwrap_or_default();
        Outgoing {
            topic: &self.topics.counts,
            // Windows of one process follow each other in one partition, for as long as it has the same partitions.
            partition: Some(first % self.partitions.counts.max(1)),
            key: None,
            value: Some(json.as_bytes()),
            timestamp: Some(window.end).filter(|_| timed),
            headers: None,
            tag: tag(Kind::Window, 0, 0),
        }
    }

    fn output_headers(&self, batch: &Batch, index: usize, ruleset: &str) -> Option<Headers> {
        if self.headers {
            let headers = original_headers(batch, index, is_foreign);
            return Some(add(add(headers, RULESET, ruleset), SOURCE, &batch.place(index)));
        }
        batch.headers(index).next().is_some().then(|| original_headers(batch, index, |_| true))
    }
}

fn letter_headers(headers: Headers, work: Work<'_>, rejection: &Rejection) -> Headers {
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
    add(headers, SOURCE, &work.batch.place(rejection.record as usize))
}

/// The partition for a message from a topic with `input` partitions in one with `own`; none leaves it to the key.
fn route(batch: &Batch, index: usize, input: i32, own: i32) -> Option<i32> {
    let partition = batch.records()[index].partition;
    if input == own && partition < own {
        return Some(partition);
    }
    batch.key(index).is_none().then(|| partition % own.max(1))
}

/// Whether a header is none of ours.
fn is_foreign(name: &str) -> bool {
    !OURS.contains(&name)
}

fn original_headers(batch: &Batch, index: usize, keep: impl Fn(&str) -> bool) -> Headers {
    header_list(batch.headers(index).filter(|(name, _)| keep(name)))
}

/// Headers as the client takes them.
pub(super) fn header_list<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Headers {
    let mut list = Headers::new(HEADERS);
    headers.for_each(|(name, value)| list.add(name, value));
    list
}

fn add(mut headers: Headers, name: &str, value: &str) -> Headers {
    headers.add(name, Some(value.as_bytes()));
    headers
}

/// What a shortened dead letter lacks of a value, a key and headers of so many bytes.
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
        assert_eq!(batch(2, None).place(0), "user-login/2/42");
    }
}
