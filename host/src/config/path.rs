//! Keys as dotted paths, and the variables of the environment that stand for them.

/// How the names of our variables begin.
pub(super) const PREFIX: &str = "WEIR_";

/// The variable of a path, without its prefix.
pub(super) fn variable(path: &str) -> String {
    path.to_ascii_uppercase().replace(['.', '-'], "_")
}

/// What follows `table.` in `path`.
pub(super) fn below<'a>(path: &'a str, table: &str) -> Option<&'a str> {
    path.strip_prefix(table)?.strip_prefix('.')
}

/// Whether `path` is `rule.NAME.config`.
pub(super) fn is_rule_config(path: &str) -> bool {
    below(path, "rule").and_then(|rest| rest.strip_suffix(".config")).is_some_and(|rule| !rule.contains('.'))
}
