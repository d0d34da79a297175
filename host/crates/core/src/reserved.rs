//! Names that belong to the engine: its own name, and the reasons for which it rejects records. No rule can take one of them.
//!
//! In dead letters, metrics and the log these names appear beside the names of rules and their reasons, and a reader tells them
//! apart by name alone. The engine itself never does so: it keeps a [`Cause`](crate::record::Cause). This module leaves out the
//! headers that belong to the engine, which are in `weir_kafka::writer`, and the counter `__other__`, which is in `counts.rs`.

use std::fmt;

/// The engine's name: its own rejections have it in the place of a rule's name.
pub const ENGINE: &str = "weir";
/// The name of a rule's fault, in the place of the reason of a rejection.
pub const RULE_FAULT: &str = "rule_fault";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The reason for which the engine itself rejects a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// Returns the reason's name in dead letters, metrics and the log.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The record has no value.
    Tombstone = "tombstone",
    /// The value has no bytes.
    EmptyValue = "empty_value",
    /// Some bytes of the value are not UTF-8.
    NotUtf8 = "not_utf8",
    /// The value is not JSON.
    MalformedJson = "malformed_json",
    /// The value is JSON, but no object.
    NotAnObject = "not_an_object",
    /// A field that is read or written occurs twice in its object.
    DuplicateField = "duplicate_member",
    /// The value is nested too deep.
    TooDeep = "too_deep",
    /// A string that is read contains half of a surrogate pair.
    LoneSurrogate = "lone_surrogate",
    /// A rule writes inside something that is no object.
    UnwritableField = "unwritable_member",
    /// The broker refuses the output because it is too large.
    MessageTooLarge = "message_too_large",
    /// The broker refuses the output for its timestamp.
    TimestampRefused = "timestamp_refused",
    /// The broker refuses the output for another reason.
    RecordRefused = "record_refused",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Returns whether a rule can't have the reason `reason`, because the name belongs to the engine.
pub fn is_reserved(reason: &str) -> bool {
    reason == RULE_FAULT || Reason::ALL.iter().any(|own| own.name() == reason)
}
