//! The written form of a partition's counts: the metadata that is committed with its offset.
//!
//! Offset and state stand in one commit, so they change together or not at all, and they move together when another process takes
//! over the partition. Kafka Streams keeps its partition time in the same place.
//!
//! The form is one JSON object, so that an operator can read it in any tool that shows offsets. It has a version. Metadata of any
//! other form is refused with the reason, because other tools commit offsets too, and some of them leave metadata of their own.
//! This module leaves out the bound on the size of a state, which [`crate::counts`] keeps, and the commit.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the form that is written. It is also the newest version that can be read.
const VERSION: u64 = 1;

/// The counts of one input partition up to its committed offset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    weir: u64,
    /// The id of the input topic; empty if the cluster has no topic ids. A topic that was deleted and created anew has another
    /// id.
    pub topic: String,
    /// The first offset that the totals cover.
    pub from: i64,
    /// The open window: its start and its exclusive end, in milliseconds since the epoch.
    pub window: (i64, i64),
    /// By device type: the number of records since `from`, and how many of these are in the open window.
    pub counts: BTreeMap<String, (u64, u64)>,
}

/// Metadata that can't be read as a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// Another program wrote the metadata.
    Foreign,
    /// A later version of this program wrote the metadata.
    Newer(u64),
    /// The metadata claims to be a state of this program, but is not well-formed.
    Damaged(String),
}

impl State {
    /// Returns the state of a partition that is counted from the offset `from` on. `topic` is the id of its topic.
    pub fn new(topic: &str, from: i64) -> State {
        State { weir: VERSION, topic: topic.to_owned(), from, ..State::default() }
    }

    /// Reads committed metadata. Returns None if the metadata is empty: then counting begins here.
    pub fn parse(metadata: &[u8]) -> Result<Option<State>, Unreadable> {
        #[derive(Deserialize)]
        struct StateVersion {
            weir: u64,
        }

        if metadata.is_empty() {
            return Ok(None);
        }
        let Ok(StateVersion { weir: version }) = serde_json::from_slice(metadata) else { return Err(Unreadable::Foreign) };
        if version > VERSION {
            return Err(Unreadable::Newer(version));
        }
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let state: State = serde_json::from_slice(metadata).map_err(damaged)?;
        let consistent = state.weir == VERSION && state.counts.values().all(|(total, window)| window <= total);
        if consistent { Ok(Some(state)) } else { Err(Unreadable::Damaged("its numbers contradict each other".into())) }
    }

    /// Returns the metadata to commit.
    pub fn to_metadata(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts can be written")
    }

    /// Returns the number of records that were counted since `from`.
    pub fn total(&self) -> u64 {
        self.counts.values().map(|(total, _)| total).sum()
    }

    /// Returns the number of records that were counted in the open window.
    pub fn open(&self) -> u64 {
        self.counts.values().map(|(_, window)| window).sum()
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Foreign => out.write_str("another program wrote it"),
            Unreadable::Newer(version) => write!(out, "a newer version of weir wrote it (form {version}, known is {VERSION})"),
            Unreadable::Damaged(reason) => write!(out, "it is damaged: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let mut state = State::new("bGh3Mm5vdA", 17);
        state.window = (60_000, 120_000);
        state.counts.insert("a \"b\" \u{1} ü".into(), (u64::MAX, 1));
        let metadata = state.to_metadata();
        assert_eq!(State::parse(metadata.as_bytes()), Ok(Some(state)));
    }

    #[test]
    fn the_form_is_pinned() {
        let mut state = State::new("id", 5);
        state.window = (60_000, 120_000);
        state.counts.insert("iOS".into(), (3, 2));
        let pinned = r#"{"weir":1,"topic":"id","from":5,"window":[60000,120000],"counts":{"iOS":[3,2]}}"#;
        assert_eq!(state.to_metadata(), pinned);
        assert_eq!((state.total(), state.open()), (3, 2));
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_reason() {
        assert_eq!(State::parse(b""), Ok(None));
        for foreign in [&b"AQAAAZ"[..], b"\xff\xfe", b"{}", b"17", b"{\"weir\":\"x\"}", b"null", b"\0"] {
            assert_eq!(State::parse(foreign), Err(Unreadable::Foreign), "{foreign:?}");
        }
        assert_eq!(State::parse(br#"{"weir":2,"what":1}"#), Err(Unreadable::Newer(2)));
        for damaged in [
            r#"{"weir":1}"#,
            r#"{"weir":0,"topic":"","from":0,"window":[0,1],"counts":{}}"#,
            r#"{"weir":1,"topic":"","from":0,"window":[0,1],"counts":{"iOS":[1,2]}}"#,
            r#"{"weir":1,"topic":"","from":0,"window":[0,1],"counts":{"iOS":[-1,0]}}"#,
            r#"{"weir":1,"topic":"","from":0,"window":[0,1],"counts":{},"more":1}"#,
        ] {
            assert!(matches!(State::parse(damaged.as_bytes()), Err(Unreadable::Damaged(_))), "{damaged}");
        }
    }
}
