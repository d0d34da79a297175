//! The rules by which topics refuse records, and the records that were refused.
//!
//! A refusal ends the transaction, so each refusal costs a whole round. After the first one the sink asks for the settings of the
//! topic, and checks later records against them before it sends them. It asks again after a while, so that a change is noticed.
//! Where this client may not read the settings, refusals are found only by sending.
//!
//! What this module leaves out: which records are sent together (a broker accepts or refuses a batch as a whole), how large
//! records are once they are sent, and what becomes of refused records.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;

use super::source::end_offsets;
use weir_core::record::Chunk;

/// The time for which known settings of a topic are taken to be unchanged.
const HOLDS: Duration = Duration::from_secs(60);
/// The interval at which the number of refused records is logged.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The largest difference that is expected between a broker's clock and this one, in milliseconds. Records this near to a bound
/// are sent, and the broker decides.
const MAX_CLOCK_SKEW_MILLIS: i64 = 60_000;

/// The rules by which a topic refuses records, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TopicRules {
    /// The time at which the settings of the topic were last asked for.
    asked: Option<Instant>,
    known: Option<TopicLimits>,
}

#[derive(Clone, Copy, Debug)]
struct TopicLimits {
    /// True if the topic refuses records without a key.
    compacted: bool,
    /// The topic refuses records whose timestamp is older (`before`) or newer (`after`) by more than this many milliseconds.
    before: i64,
    after: i64,
    /// The largest batch that the topic takes, in bytes.
    largest: usize,
}

impl TopicLimits {
    fn new(settings: &BTreeMap<String, String>) -> TopicLimits {
        let get = |name| settings.get(name).map(String::as_str);
        let times = get("message.timestamp.type") != Some("LogAppendTime");
        let given = |name| get(name).and_then(|value| value.parse::<i64>().ok()).filter(|bound| times && *bound != i64::MAX);
        // Before Kafka 3.6 one setting bounded both directions. Until 4.0 it holds where the two newer settings are not set.
        let either = given("message.timestamp.difference.max.ms");
        let bound = |name| given(name).or(either).unwrap_or(i64::MAX);
        TopicLimits {
            compacted: get("cleanup.policy").is_some_and(|policy| policy.contains("compact")),
            before: bound("message.timestamp.before.max.ms"),
            after: bound("message.timestamp.after.max.ms"),
            largest: get("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(usize::MAX),
        }
    }

    fn bounds_time(&self) -> bool {
        self.before.min(self.after) < i64::MAX
    }

    fn refuses_time(&self, timestamp: i64, now: i64) -> bool {
        let age = now.saturating_sub(timestamp);
        // The client treats 0 as no timestamp.
        timestamp != 0
            && (age.saturating_sub(MAX_CLOCK_SKEW_MILLIS) > self.before
                || age.saturating_neg().saturating_sub(MAX_CLOCK_SKEW_MILLIS) > self.after)
    }
}

impl TopicRules {
    /// Returns whether no rule is known that records could be checked against.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_none()
    }

    /// Returns whether the settings have to be asked for: at the first refusal, and then once per `HOLDS`.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none_or(|asked| now.duration_since(asked) >= HOLDS)
    }

    /// Takes note of the topic's settings. `settings` is None if the cluster did not return them.
    pub(super) fn learn(&mut self, settings: Option<&BTreeMap<String, String>>, now: Instant) {
        *self = TopicRules { asked: Some(now), known: settings.map(TopicLimits::new) };
    }

    /// Returns the size of the largest batch that the topic takes, in bytes, or `usize::MAX` if it is not known.
    pub(super) fn largest(&self) -> usize {
        self.known.map_or(usize::MAX, |known| known.largest)
    }

    /// Returns whether the topic refuses a record with `timestamp` at `now`. Both are in milliseconds since the epoch.
    pub(super) fn refuses_time(&self, timestamp: Option<i64>, now: i64) -> bool {
        self.known.zip(timestamp).is_some_and(|(known, timestamp)| known.refuses_time(timestamp, now))
    }

    /// Returns the reason why the topic refuses a record with `key` and `timestamp` at `now`, if it refuses the record.
    pub(super) fn refuse(&self, key: Option<&[u8]>, timestamp: Option<i64>, now: i64) -> Option<RDKafkaErrorCode> {
        if key.is_none() && self.known.is_some_and(|known| known.compacted) {
            return Some(RDKafkaErrorCode::InvalidRecord);
        }
        self.refuses_time(timestamp, now).then_some(RDKafkaErrorCode::InvalidTimestamp)
    }

    /// Returns what `code` means for a record with `key`. If several records of a batch are refused, all of them get the same
    /// code. The code means the timestamp only if the missing key can't be the reason, and if the topic bounds timestamps, as far
    /// as that is known. Else the broker has another reason, such as a schema.
    pub(super) fn meaning(&self, code: RDKafkaErrorCode, key: Option<&[u8]>) -> RDKafkaErrorCode {
        let may_be_key = key.is_none() && self.known.is_none_or(|known| known.compacted);
        let may_be_time = self.known.is_none_or(|known| known.bounds_time());
        match code {
            RDKafkaErrorCode::InvalidRecord if may_be_time && !may_be_key => RDKafkaErrorCode::InvalidTimestamp,
            code => code,
        }
    }
}

/// The outputs and dead letters about one record that were refused.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecordRefusals {
    /// The reason why the output was refused, if it was.
    pub(super) output: Option<RDKafkaErrorCode>,
    /// True if the dead letter was refused for its timestamp. It is then sent without one.
    pub(super) dead_letter_time_refused: bool,
    /// True if the whole dead letter was refused.
    pub(super) dead_letter: bool,
}

/// The refusals that are known, until the records are committed as dead letters.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// The refusals by partition and offset of the input record.
    records: BTreeMap<(i32, i64), RecordRefusals>,
    /// The rules of the three topics: of outputs, of dead letters, and of counts.
    pub(super) outputs: TopicRules,
    pub(super) dead_letters: TopicRules,
    pub(super) windows: TopicRules,
    /// True if the topic of counts has refused a window for its timestamp. Windows are then sent without one.
    pub(super) window_time_refused: bool,
}

impl Refusals {
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the refusals about the record at `place`.
    pub(super) fn of(&self, place: (i32, i64)) -> RecordRefusals {
        self.records.get(&place).copied().unwrap_or_default()
    }

    /// Returns the refusals about the record at `place`, to be changed.
    pub(super) fn at(&mut self, place: (i32, i64)) -> &mut RecordRefusals {
        self.records.entry(place).or_default()
    }

    /// Forgets the refusals about records that are committed with `chunks`.
    pub(super) fn forget(&mut self, chunks: &[Chunk]) {
        self.window_time_refused &= chunks.iter().all(|chunk| chunk.step.counts.windows.is_empty());
        if !self.records.is_empty() {
            let done = end_offsets(chunks);
            self.records.retain(|(partition, offset), _| done.get(partition).is_none_or(|end| offset >= end));
        }
    }
}

/// The number of refused records that were not logged yet.
#[derive(Debug, Default)]
pub(super) struct Tally {
    count: usize,
    told: Option<Instant>,
}

impl Tally {
    /// Adds `count` refused records.
    pub(super) fn add(&mut self, count: usize) {
        self.count += count;
    }

    /// Returns the number of records to log now: at once for the first ones, then once per `TOLD_EVERY`.
    pub(super) fn due(&mut self, now: Instant) -> Option<usize> {
        let due = self.told.is_none_or(|told| now.duration_since(told) >= TOLD_EVERY);
        (due && self.count > 0).then(|| {
            self.told = Some(now);
            std::mem::take(&mut self.count)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use RDKafkaErrorCode as Code;

    const NOW: i64 = 1_700_000_000_000;

    fn rules(settings: &[(&str, &str)]) -> TopicRules {
        let mut rules = TopicRules::default();
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        rules.learn(Some(&settings), Instant::now());
        rules
    }

    #[test]
    fn a_compacted_topic_takes_no_record_without_a_key() {
        for (policy, refusal) in
            [("compact", Some(Code::InvalidRecord)), ("delete", None), ("compact,delete", Some(Code::InvalidRecord))]
        {
            assert_eq!(rules(&[("cleanup.policy", policy)]).refuse(None, None, NOW), refusal, "{policy}");
            assert_eq!(rules(&[("cleanup.policy", policy)]).refuse(Some(b""), None, NOW), None, "an empty key is a key");
        }
    }

    #[test]
    fn timestamps_near_a_bound_are_left_to_the_broker() {
        let rules = rules(&[("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "5000")]);
        for (timestamp, refused) in [(-61_001, true), (-61_000, false), (0, false), (65_000, false), (65_001, true)] {
            assert_eq!(rules.refuses_time(Some(NOW + timestamp), NOW), refused, "{timestamp}");
        }
        assert!(!rules.refuses_time(None, NOW) && !rules.refuses_time(Some(0), NOW), "they get the time of sending");
    }

    #[test]
    fn a_topic_with_its_own_timestamps_takes_all_and_an_older_broker_has_one_bound_for_both() {
        let (bound, logged) = (("message.timestamp.before.max.ms", "1000"), ("message.timestamp.type", "LogAppendTime"));
        assert!(!rules(&[bound, logged]).refuses_time(Some(1), NOW));
        let older = rules(&[("message.timestamp.difference.max.ms", "1000")]);
        assert!(older.refuses_time(Some(1), NOW) && older.refuses_time(Some(2 * NOW), NOW));
        let (unset, both) = ("9223372036854775807", ("message.timestamp.difference.max.ms", "1000"));
        let between = rules(&[("message.timestamp.before.max.ms", unset), ("message.timestamp.after.max.ms", unset), both]);
        assert!(between.refuses_time(Some(1), NOW) && between.refuses_time(Some(2 * NOW), NOW), "as brokers from 3.6 to 3.9");
        assert!(!rules(&[]).refuses_time(Some(1), NOW) && !rules(&[]).refuses_time(Some(i64::MAX), NOW));
    }

    #[test]
    fn what_is_held_against_a_record_among_several_follows_from_its_key_and_the_topic() {
        let bound = ("message.timestamp.after.max.ms", "3600000");
        let (compacted, plain) = (rules(&[("cleanup.policy", "compact"), bound]), rules(&[bound]));
        assert_eq!(compacted.meaning(Code::InvalidRecord, None), Code::InvalidRecord);
        assert_eq!(compacted.meaning(Code::InvalidRecord, Some(b"k")), Code::InvalidTimestamp);
        assert_eq!(plain.meaning(Code::InvalidRecord, None), Code::InvalidTimestamp);
        assert_eq!(plain.meaning(Code::InvalidTimestamp, None), Code::InvalidTimestamp);
        assert_eq!(TopicRules::default().meaning(Code::InvalidRecord, None), Code::InvalidRecord, "nothing is known");
    }

    #[test]
    fn a_topic_that_bounds_no_timestamps_refuses_none_for_its_timestamp() {
        let unbound = [
            rules(&[]),
            rules(&[("cleanup.policy", "compact"), ("message.timestamp.before.max.ms", "9223372036854775807")]),
            rules(&[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.after.max.ms", "3600000")]),
        ];
        for rules in unbound {
            assert_eq!(rules.meaning(Code::InvalidRecord, Some(b"k")), Code::InvalidRecord, "{rules:?}");
        }
    }

    #[test]
    fn settings_are_asked_for_again_after_a_while_whether_they_were_told_or_not() {
        let (mut rules, now) = (TopicRules::default(), Instant::now());
        assert!(rules.is_due(now));
        rules.learn(None, now);
        assert!(!rules.is_due(now) && rules.is_due(now + HOLDS) && rules.is_empty());
    }

    #[test]
    fn refusals_are_told_of_at_once_and_then_in_sum() {
        let (mut tally, now) = (Tally::default(), Instant::now());
        let mut tell = |count, now| {
            tally.add(count);
            tally.due(now)
        };
        assert_eq!(tell(2, now), Some(2));
        assert_eq!((tell(1, now), tell(3, now)), (None, None));
        assert_eq!(tell(1, now + TOLD_EVERY), Some(5));
        assert_eq!(tell(0, now + 2 * TOLD_EVERY), None);
    }
}
