//! What a complaint shows of a value: never a secret, nor what may be one.

use serde_json::Value;

use super::keys::SECRETS;
use super::path::below;

/// Longest text that a complaint quotes, in characters.
const MAX_QUOTED: usize = 60;

/// What was found at `path`, for a complaint: of a secret its type alone, and of what may have one before an `@`.
pub(super) fn found(path: &str, value: &Value) -> String {
    match value {
        value if is_secret(path) => kind(value).to_owned(),
        value if value.to_string().contains('@') => format!("{} with an `@`", kind(value)),
        Value::String(text) if text.chars().count() > MAX_QUOTED => {
            format!("{:?}…", text.chars().take(MAX_QUOTED).collect::<String>())
        }
        Value::Object(_) => "a table".to_owned(),
        Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_object()) => "a list".to_owned(),
        other => other.to_string(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// Whether a secret is at `path`, above or below it.
fn is_secret(path: &str) -> bool {
    SECRETS.iter().any(|secret| path == *secret || below(path, secret).is_some() || below(secret, path).is_some())
}
