//! The place where a value was written, for error messages.

use std::fmt;

/// The place that a value comes from. It is displayed as the end of "`KEY` in …".
#[derive(Clone, Debug)]
pub(super) enum Origin {
    Default,
    File { name: String, line: usize },
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => out.write_str("the defaults"),
            Origin::File { name, line } => write!(out, "{name} line {line}"),
            Origin::Variable(name) => write!(out, "the environment variable {name}"),
        }
    }
}
