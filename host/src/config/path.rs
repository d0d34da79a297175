//! Keys as dotted paths, and the environment variables that stand for them.

/// The beginning of the names of Weir's variables.
pub(super) const PREFIX: &str = "WEIR_";

/// Returns the variable of a path, without its prefix.
pub(super) fn variable(path: &str) -> String {
    path.to_ascii_uppercase().replace(['.', '-'], "_")
}

/// Returns the part of `path` that follows `table.`, if any.
pub(super) fn child_key<'a>(path: &'a str, table: &str) -> Option<&'a str> {
    path.strip_prefix(table)?.strip_prefix('.')
}

/// Returns whether `path` has the form `rule.NAME.config`.
pub(super) fn is_rule_config(path: &str) -> bool {
    child_key(path, "rule").and_then(|rest| rest.strip_suffix(".config")).is_some_and(|rule| !rule.contains('.'))
}
