//! The declarations of a rule, and the handles by which it then names its fields and reasons.
//!
//! A handle is an index: to use it on a row costs no comparison of names. Names work as well, for tests and first drafts.

use crate::About;

/// The most entries that each of `reads`, `writes` and `reasons` may have: the bound of the contract.
const MAX_ENTRIES: usize = 64;
/// The name by which the engine refers to itself. No rule can have this name.
pub const RESERVED_NAME: &str = "weir";
/// The reasons of the engine itself. No rule can reject for one of them. The list is that of `host/crates/core/src/reserved.rs`;
/// a test compares the two.
pub const RESERVED_REASONS: [&str; 13] = [
    "rule_fault",
    "tombstone",
    "empty_value",
    "not_utf8",
    "malformed_json",
    "not_an_object",
    "duplicate_member",
    "too_deep",
    "lone_surrogate",
    "unwritable_member",
    "message_too_large",
    "timestamp_refused",
    "record_refused",
];

/// The fields that a rule reads and writes, and its reasons. [`Rule::configure`](crate::Rule::configure) fills it.
///
/// Declaring a name twice gives the same handle twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    #[doc(hidden)]
    pub name: String,
    #[doc(hidden)]
    pub version: String,
    #[doc(hidden)]
    pub description: String,
    #[doc(hidden)]
    pub reads: Vec<String>,
    #[doc(hidden)]
    pub writes: Vec<String>,
    #[doc(hidden)]
    pub reasons: Vec<String>,
}

/// The handle of a field that the rule reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(u32);

/// The handle of a field that the rule may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output(u32);

/// The handle of a reason for which the rule may reject a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reason(pub(crate) u32);

impl Manifest {
    pub(crate) fn new(about: About) -> Manifest {
        Manifest {
            name: about.name.to_owned(),
            version: about.version.to_owned(),
            description: about.description.to_owned(),
            reads: Vec::new(),
            writes: Vec::new(),
            reasons: Vec::new(),
        }
    }

    /// Declares that the rule reads a field: `device_type`, nested as JSON Pointer `/device/os`, or metadata such as `@key` or
    /// `@header/trace-id`.
    pub fn reads(&mut self, name: &str) -> Field {
        Field(declare(&mut self.reads, name))
    }

    /// Declares that the rule may write a field. Metadata can't be written.
    pub fn writes(&mut self, name: &str) -> Output {
        Output(declare(&mut self.writes, name))
    }

    /// Declares a reason for rejections. It consists of lower-case letters, digits and underscores, because it labels metrics.
    /// The engine has some reasons of its own, such as `rule_fault` and `malformed_json`, which a rule can't declare.
    pub fn rejects(&mut self, reason: &str) -> Reason {
        Reason(declare(&mut self.reasons, reason))
    }

    /// Checks what the host would refuse, so that the harness refuses it too. Some checks are left to the host, and so to `weir
    /// check`: the length of names, that they are printable, and that no field is written inside another.
    ///
    /// # Errors
    /// A text that says which declaration breaks which bound.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.name == RESERVED_NAME {
            return Err(format!("its name `{RESERVED_NAME}` is the engine's own; call it otherwise"));
        }
        for (what, names) in [("reads", &self.reads), ("writes", &self.writes), ("reasons", &self.reasons)] {
            if names.len() > MAX_ENTRIES {
                return Err(format!("the rule declares {} {what}, at most {MAX_ENTRIES} are allowed", names.len()));
            }
            if names.iter().any(String::is_empty) {
                return Err(format!("the rule declares an empty name in its {what}, give it a name"));
            }
        }
        if let Some(name) = self.writes.iter().find(|name| name.starts_with('@')) {
            return Err(format!("the rule declares that it writes `{name}`, but metadata can't be written"));
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if let Some(reason) = self.reasons.iter().find(|reason| !reason.bytes().all(allowed)) {
            return Err(format!("the rule declares the reason `{reason}`, use lower-case letters, digits and underscores"));
        }
        if let Some(reason) = self.reasons.iter().find(|reason| RESERVED_REASONS.contains(&reason.as_str())) {
            return Err(format!("its reason `{reason}` is one of the engine's own; call it otherwise"));
        }
        Ok(())
    }
}

/// Returns the index of `name` in `names`. Adds `name` if it is new.
fn declare(names: &mut Vec<String>, name: &str) -> u32 {
    let index = names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    index as u32
}

/// Names a field: by a handle, which is fast, or by its name, which is looked up in the manifest.
pub trait Key<Handle>: Copy {
    /// Returns the index of the named field.
    ///
    /// # Panics
    /// If the manifest declares no such name.
    #[doc(hidden)]
    #[track_caller]
    fn index(self, manifest: &Manifest) -> usize;
}

impl Key<Field> for Field {
    #[inline]
    fn index(self, _: &Manifest) -> usize {
        self.0 as usize
    }
}

impl Key<Output> for Output {
    #[inline]
    fn index(self, _: &Manifest) -> usize {
        self.0 as usize
    }
}

impl Key<Field> for &str {
    #[track_caller]
    fn index(self, manifest: &Manifest) -> usize {
        find("reads", &manifest.reads, self)
    }
}

impl Key<Output> for &str {
    #[track_caller]
    fn index(self, manifest: &Manifest) -> usize {
        find("writes", &manifest.writes, self)
    }
}

/// Returns the index of `name` among the names that were declared with `manifest.METHOD(..)`.
#[track_caller]
pub(crate) fn find(method: &str, declared: &[String], name: &str) -> usize {
    // No closure is used here: `track_caller` would take it for the caller.
    match declared.iter().position(|known| known == name) {
        Some(index) => index,
        None => panic!("{}", undeclared(method, declared, name)),
    }
}

/// Returns the text for a `name` that is not among the names that were declared with `manifest.METHOD(..)`.
#[cold]
pub(crate) fn undeclared(method: &str, declared: &[String], name: &str) -> String {
    format!("`{name}` is not declared: call manifest.{method}(\"{name}\") in configure; declared are {declared:?}")
}
