//! What the standard library has everywhere but in a rule: a clock, an output, threads, files, an environment.
//!
//! On `wasm32-unknown-unknown` such calls compile. Some trap, some return errors, and printing goes nowhere. What the standard
//! library says then is known, and stands in the component of whoever calls it. What is left out: calls that the compiler has
//! found to be unreachable, and languages other than Rust.

/// What stands in a component, which call brings it, and what to do instead.
const LACKING: [(&str, &str, &str); 6] = [
    (
        "failed printing to",
        "println!, eprintln! or dbg!",
        "a rule has no output, so what it prints is lost; use `weir_rule::log`",
    ),
    (
        "time not implemented on this platform",
        "SystemTime::now or Instant::now",
        "a rule has no clock; use `row.processed_at()`, the time of the batch",
    ),
    ("failed to spawn thread", "thread::spawn", "a rule has no threads; do the work in `evaluate`"),
    (
        "operation not supported on this platform",
        "files, sockets, threads or processes",
        "a rule has none of them; put what it needs into `[rule.NAME.config]`",
    ),
    ("environment variable not found", "env::var", "a rule has no environment; put what it needs into `[rule.NAME.config]`"),
    // What `unwrap` says of the same.
    ("NotPresent", "env::var", "a rule has no environment; put what it needs into `[rule.NAME.config]`"),
];

/// The calls that `component` seems to make in vain, each with what to do instead.
pub(crate) fn lacking(component: &[u8]) -> Vec<String> {
    let found = LACKING.iter().filter(|(trace, ..)| memchr::memmem::find(component, trace.as_bytes()).is_some());
    found.map(|(_, call, remedy)| format!("it seems to call {call}: {remedy}")).collect()
}

/// What to do about the standard library's `words`, if they are about something that a rule lacks.
pub(super) fn remedy(words: &str) -> Option<&'static str> {
    LACKING.iter().find(|(trace, ..)| words.contains(trace)).map(|(_, _, remedy)| *remedy)
}
