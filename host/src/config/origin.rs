//! The place where a value was written, for error messages.

use std::fmt;

/// The place that a value comes from. It is displayed as the end of "`KEY` in …".
#[derive(Clone, Debug)]
pub(super) enum ValueOrigin {
    Default,
    File { name: String, line: usize },
    Variable(String),
}

impl fmt::Display for ValueOrigin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueOrigin::Default => out.write_str("the defaults"),
            ValueOrigin::File { name, line } => write!(out, "{name} line {line}"),
            ValueOrigin::Variable(name) => write!(out, "the environment variable {name}"),
        }
    }
}
