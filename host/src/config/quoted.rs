//! The part of a value that an error message shows. It never shows a secret, or a value that may be one.

use serde_json::Value;

use super::keys::SECRETS;
use super::path::child_key;

/// The longest text that an error message quotes, in characters.
const MAX_QUOTED: usize = 60;

/// Returns the value found at `path`, for an error message. Of a secret, and of a value with an `@`, which may follow a password,
/// only the type is shown.
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

/// Returns whether `path` is the path of a secret, or lies above or below one.
fn is_secret(path: &str) -> bool {
    SECRETS.iter().any(|secret| path == *secret || child_key(path, secret).is_some() || child_key(secret, path).is_some())
}
