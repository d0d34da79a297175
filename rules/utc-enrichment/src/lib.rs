//! Adds the time of the event as text in UTC, and the time of processing in milliseconds since the epoch.
//!
//! The rule reads the timestamp as `validation` does, and rejects a message whose timestamp can't be read. With `validation`
//! before it there is no such message. If the message has a field of the name that is written, the field is replaced where it
//! stands.

mod format;

use serde::Deserialize;
use weir_rule::{About, Field, Manifest, Output, Reason, Row, Rule, Verdict, time};

use crate::format::Format;

/// The settings of the rule.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The format of the time, in the notation of strftime.
    pub format: String,
    /// The field that holds seconds since the epoch.
    pub timestamp: String,
    /// The field that gets the time as text.
    pub timestamp_in_utc: String,
    /// The field that gets the time of processing.
    pub processed_time: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            format: "%Y-%m-%d %H:%M:%S".to_owned(),
            timestamp: "timestamp".to_owned(),
            timestamp_in_utc: "timestamp_in_utc".to_owned(),
            processed_time: "processed_time".to_owned(),
        }
    }
}

/// The rule.
pub struct UtcEnrichment {
    format: Format,
    timestamp: Field,
    timestamp_in_utc: Output,
    processed_time: Output,
    malformed_timestamp: Reason,
}

impl Rule for UtcEnrichment {
    const ABOUT: About = weir_rule::about!();
    type Config = Config;

    fn configure(config: Config, manifest: &mut Manifest) -> Result<UtcEnrichment, String> {
        if config.timestamp_in_utc == config.processed_time {
            return Err(format!("`timestamp_in_utc` and `processed_time` are both to be written to `{}`", config.processed_time));
        }
        Ok(UtcEnrichment {
            format: Format::parse(&config.format)?,
            timestamp: manifest.reads(&config.timestamp),
            timestamp_in_utc: manifest.writes(&config.timestamp_in_utc),
            processed_time: manifest.writes(&config.processed_time),
            malformed_timestamp: manifest.rejects("malformed_timestamp"),
        })
    }

    #[inline]
    fn evaluate(&self, row: &mut Row<'_>) -> Verdict {
        let Some(seconds) = time::epoch_seconds(row, self.timestamp) else {
            return time::reject_seconds(row, self.malformed_timestamp, self.timestamp);
        };
        self.format.write(seconds, row.text_writer(self.timestamp_in_utc));
        row.set_integer(self.processed_time, row.processed_at());
        Verdict::Keep
    }
}

weir_rule::export!(UtcEnrichment);

#[cfg(test)]
mod tests {
    use weir_rule::serde_json::{Value, json};
    use weir_rule::test::{Harness, Judged, Record};

    use super::*;

    fn judge(config: Value, timestamp: &str) -> Judged {
        Harness::<UtcEnrichment>::new(config).unwrap().judge(Record::new(json!({})).raw("timestamp", timestamp))
    }

    fn formatted(format: &str, timestamp: &str) -> Value {
        judge(json!({ "format": format }), timestamp).written("timestamp_in_utc").unwrap()
    }

    #[test]
    fn adds_both_times() {
        let rule = Harness::<UtcEnrichment>::new(json!({})).unwrap().processed_at(1_700_000_001_234);
        let judged = rule.judge(json!({ "timestamp": 1_700_000_000 }));
        assert!(judged.is_kept());
        assert_eq!(judged.written("timestamp_in_utc"), Some(json!("2023-11-14 22:13:20")));
        assert_eq!(judged.written("processed_time"), Some(json!(1_700_000_001_234_i64)));
    }

    #[test]
    fn reads_the_whole_range_in_every_spelling() {
        let cases = [
            ("0", "1970-01-01 00:00:00"),
            ("-0", "1970-01-01 00:00:00"),
            ("-0.5", "1970-01-01 00:00:00"),
            ("59.999", "1970-01-01 00:00:59"),
            ("951782400", "2000-02-29 00:00:00"),
            ("4107542399", "2100-02-28 23:59:59"),
            ("4107542400", "2100-03-01 00:00:00"),
            ("1.7e9", "2023-11-14 22:13:20"),
            ("\"1700000000\"", "2023-11-14 22:13:20"),
            ("253402300799", "9999-12-31 23:59:59"),
            ("253402300799.9", "9999-12-31 23:59:59"),
        ];
        for (timestamp, text) in cases {
            assert_eq!(judge(json!({}), timestamp).written("timestamp_in_utc"), Some(json!(text)), "{timestamp}");
        }
    }

    #[test]
    fn days_can_come_in_any_order() {
        let rule = Harness::<UtcEnrichment>::new(json!({})).unwrap();
        let day = |day: i64| json!({ "timestamp": day * 86_400 + 3_723 });
        let judged = rule.judge_all([0, 0, 19_675, 2_932_896, 19_675, 1, 0].map(day));
        let dates = ["1970-01-01", "1970-01-01", "2023-11-14", "9999-12-31", "2023-11-14", "1970-01-02", "1970-01-01"];
        for (judged, date) in judged.iter().zip(dates) {
            assert_eq!(judged.written("timestamp_in_utc"), Some(json!(format!("{date} 01:02:03"))));
        }
    }

    #[test]
    fn rejects_what_it_cannot_read() {
        let cases = [
            ("-1", "-1"),
            ("\"now\"", "now"),
            ("null", "null"),
            ("[1]", "[1]"),
            ("1e30", "1e30"),
            ("1695298422000", "1695298422000: seconds are expected; milliseconds?"),
            ("\"1695298422000\"", "1695298422000: seconds are expected; milliseconds?"),
            ("1695298422000000", "1695298422000000: seconds are expected; microseconds?"),
            ("1695298422000000000", "1695298422000000000: seconds are expected; nanoseconds?"),
        ];
        for (timestamp, detail) in cases {
            let judged = judge(json!({}), timestamp);
            assert_eq!((judged.reason(), judged.detail()), (Some("malformed_timestamp"), Some(detail)));
            assert_eq!(judged.written("timestamp_in_utc"), None);
        }
    }

    #[test]
    fn a_timestamp_that_is_not_there_is_named() {
        let rule = Harness::<UtcEnrichment>::new(json!({ "timestamp": "/event/ts" })).unwrap();
        for event in [json!([{ "ts": 0 }]), json!({}), json!("2024")] {
            let judged = rule.judge(json!({ "event": event }));
            assert_eq!((judged.reason(), judged.detail()), (Some("malformed_timestamp"), Some("`/event/ts` is missing")));
        }
    }

    #[test]
    fn every_format_of_strftime_can_be_written() {
        assert_eq!(formatted("%FT%TZ", "1700000000"), "2023-11-14T22:13:20Z");
        assert_eq!(formatted("%d.%m.%Y", "1700000000"), "14.11.2023");
        assert_eq!(
            formatted("%A, %-d %B %Y, %I %p, %Z %z – %%", "1700000000"),
            "Tuesday, 14 November 2023, 10 PM, UTC +0000 – %"
        );
    }

    #[test]
    fn members_can_have_other_names() {
        let config = json!({ "timestamp": "/event/at", "timestamp_in_utc": "/event/utc", "processed_time": "seen" });
        let rule = Harness::<UtcEnrichment>::new(config).unwrap().processed_at(5);
        let judged = rule.judge(json!({ "event": { "at": 0 } }));
        assert_eq!(judged.written("/event/utc"), Some(json!("1970-01-01 00:00:00")));
        assert_eq!(judged.written("seen"), Some(json!(5)));
    }

    #[test]
    fn refuses_a_configuration_that_cannot_be_meant() {
        let cases = [
            (json!({ "format": "%Y-%Q" }), "`%Y-%Q` is no strftime format"),
            (json!({ "formt": "%Y" }), "`formt`"),
            (json!({ "processed_time": "timestamp_in_utc" }), "both"),
            (json!({ "processed_time": "@timestamp" }), "metadata"),
        ];
        for (config, named) in cases {
            let error = Harness::<UtcEnrichment>::new(config).err().unwrap();
            assert!(error.contains(named), "{error}");
        }
    }
}
