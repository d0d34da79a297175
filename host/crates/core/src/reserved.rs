//! Names that belong to the engine: what it calls itself, and the reasons for which it rejects messages. No rule can take one.
//!
//! They stand beside the names of rules and their reasons in dead letters, metrics and the log, where a reader tells them apart
//! by name alone. The engine itself never does: it keeps a [`Cause`](crate::record::Cause). What is left out: the headers that
//! belong to the engine, which are in `kafka/writer.rs`, and the counter `__other__`, which is in `counts.rs`.

use std::fmt;

/// The name under which the engine's own rejections stand, where a rule's name stands otherwise.
pub const ENGINE: &str = "weir";
/// What a fault of a rule is called where the reason of a rejection stands.
pub const RULE_FAULT: &str = "rule_fault";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why the engine itself rejects a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Reason] = &[$(Reason::$name),*];

            /// Its name in dead letters, metrics and the log.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Reason::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// The message has no value.
    Tombstone = "tombstone",
    /// The value has no bytes.
    EmptyValue = "empty_value",
    /// Some bytes of it are not UTF-8.
    NotUtf8 = "not_utf8",
    /// It is not JSON.
    MalformedJson = "malformed_json",
    /// It is JSON, but no object.
    NotAnObject = "not_an_object",
    /// A member that is read or written stands in its object twice.
    DuplicateMember = "duplicate_member",
    /// It is nested too deep.
    TooDeep = "too_deep",
    /// A string that is read has half of a surrogate pair.
    LoneSurrogate = "lone_surrogate",
    /// A rule writes inside something that is no object.
    UnwritableMember = "unwritable_member",
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

/// Whether a rule can't have `reason`, because the engine has it.
pub fn is_reserved(reason: &str) -> bool {
    reason == RULE_FAULT || Reason::ALL.iter().any(|own| own.name() == reason)
}
