//! The services of the standard library that exist everywhere but in a rule: a clock, an output, threads, files, an environment.
//!
//! Calls of such services compile on `wasm32-unknown-unknown`. Some trap, some return errors, and printing goes nowhere. The
//! error texts of the standard library are known, and a component that makes such a call contains the text. This search does not
//! find calls that the compiler has found to be unreachable, calls that leave no trace, such as
//! `env::var("X").unwrap_or_default()` or a write to `io::stderr()`, and calls in languages other than Rust.

const NO_OUTPUT: &str = "a rule has no output, so what it prints is lost; use `weir_rule::log`";
const NO_CLOCK: &str = "a rule has no clock; use `row.processed_at()`, the time of the batch";
const NO_WAIT: &str = "a rule can't wait, and judges at once; leave the call out";
const NO_THREADS: &str = "a rule has no threads; do the work in `evaluate`";
const NO_WAKING: &str = "a rule has no threads, so nobody would wake it; do the work in `evaluate`";
const NO_SYSTEM: &str = "a rule has none of them; put what it needs into `[rule.NAME.config]`";
const NO_FILES: &str = "a rule has no files; put what it needs into `[rule.NAME.config]`";
const NO_PROCESS: &str = "a rule is no process; what tells messages apart is `@partition` and `@offset`";
const NO_ENVIRONMENT: &str = "a rule has no environment; put what it needs into `[rule.NAME.config]`";

/// The texts that a component contains if it makes such a call (all of them), the call, and the remedy. Where a text alone may be
/// the rule's own or says too little, it is combined with the file of the standard library, which a panic names.
const LACKING: [(&[&str], &str, &str); 11] = [
    (&["failed printing to"], "println!, eprintln! or dbg!", NO_OUTPUT),
    (&["time not implemented on this platform"], "SystemTime::now or Instant::now", NO_CLOCK),
    (&["failed to spawn thread"], "thread::spawn", NO_THREADS),
    (&["can't sleep", "/sys/thread/unsupported.rs"], "thread::sleep", NO_WAIT),
    (&["condvar wait not supported"], "Condvar::wait", NO_WAKING),
    (&["operation not supported on this platform"], "files, sockets, threads or processes", NO_SYSTEM),
    (&["no filesystem on this platform"], "env::temp_dir", NO_FILES),
    (&["no pids on this platform"], "process::id", NO_PROCESS),
    (&["not supported on this platform", "/sys/env/unsupported.rs"], "env::vars", NO_ENVIRONMENT),
    (&["environment variable not found"], "env::var", NO_ENVIRONMENT),
    // `unwrap` reports the same missing variable with these names. If both are there, it is the standard library's error, and not
    // one of the rule.
    (&["NotPresent", "NotUnicode"], "env::var", NO_ENVIRONMENT),
];

/// The texts of a rule's panic, and the remedy for each. Such a text in a component proves nothing: `NotPresent` may be a name of
/// the rule, and every use of a lock brings the other text.
const SAID: [(&str, &str); 2] = [
    ("NotPresent", "if that is from `env::var`: a rule has no environment; put what it needs into `[rule.NAME.config]`"),
    ("cannot recursively acquire mutex", "a rule has one thread, and that holds the lock already; let go of it first"),
];

/// Returns the calls that `component` seems to make although a rule can't use them, each with the remedy.
pub fn unsupported_calls(component: &[u8]) -> Vec<String> {
    let stands = |trace: &&str| memchr::memmem::find(component, trace.as_bytes()).is_some();
    let found = LACKING.iter().filter(|(traces, ..)| traces.iter().all(stands));
    let mut calls: Vec<String> = found.map(|(_, call, remedy)| format!("it seems to call {call}: {remedy}")).collect();
    calls.dedup();
    calls
}

/// Returns the remedy for `words` of the standard library, if they are about something that a rule lacks.
pub(super) fn remedy(words: &str) -> Option<&'static str> {
    let unsupported_calls = LACKING.iter().find(|(traces, ..)| traces.iter().all(|trace| words.contains(trace)));
    let said = || SAID.iter().find(|(said, _)| words.contains(said)).map(|(_, remedy)| *remedy);
    unsupported_calls.map(|(_, _, remedy)| *remedy).or_else(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a source path of the standard library, as panics name it.
    const STD: &str = "/rustc/59807616e1fa2540724bfbac14d7976d7e4a3860/library/std/src";

    #[test]
    fn what_the_standard_library_says_names_the_call_and_the_way_out() {
        let cases = [
            ("failed printing to ", "println!", "weir_rule::log"),
            ("time not implemented on this platform/sys/time/unsupported.rs", "SystemTime::now", "row.processed_at()"),
            ("failed to spawn thread", "thread::spawn", "no threads"),
            ("can't sleep, at {std}/sys/thread/unsupported.rs:45:5", "thread::sleep", "can't wait"),
            ("condvar wait not supported, at {std}/sys/sync/condvar/no_threads.rs", "Condvar::wait", "no threads"),
            ("operation not supported on this platform", "files", "[rule.NAME.config]"),
            ("no filesystem on this platform, at {std}/sys/pal/wasm/../unsupported/os.rs", "env::temp_dir", "no files"),
            ("no pids on this platform, at {std}/sys/pal/wasm/../unsupported/os.rs", "process::id", "`@offset`"),
            ("not supported on this platform, at {std}/sys/env/unsupported.rs:20:5", "env::vars", "no environment"),
            ("environment variable not found", "env::var:", "no environment"),
        ];
        for (words, call, way_out) in cases {
            let words = words.replace("{std}", STD);
            let calls = unsupported_calls(format!("\0asm{words}and more").as_bytes());
            assert_eq!(calls.len(), 1, "{words}: {calls:?}");
            assert!(calls[0].contains(call) && calls[0].contains(way_out), "{words}: {calls:?}");
            assert!(remedy(&words).is_some_and(|remedy| remedy.contains(way_out)), "{words}: {:?}", remedy(&words));
        }
    }

    #[test]
    fn a_call_that_leaves_two_traces_is_named_once() {
        assert_eq!(unsupported_calls(b"NotUnicodeNotPresent environment variable not found").len(), 1);
    }

    #[test]
    fn a_rule_is_not_blamed_for_a_name_of_its_own_nor_for_a_lock() {
        for text in ["MissingNotPresentExpired", "we can't sleep", "cannot recursively acquire mutex", "unsupported"] {
            assert_eq!(unsupported_calls(text.as_bytes()), [""; 0], "{text}");
        }
    }

    #[test]
    fn an_error_that_may_be_a_rules_own_is_not_called_the_environments() {
        let remedy = |words| remedy(words).unwrap_or_default();
        let words = "called `Result::unwrap()` on an `Err` value: NotPresent, at src/lib.rs:9:5";
        assert!(remedy(words).starts_with("if that is from `env::var`"), "{}", remedy(words));
        assert!(remedy("cannot recursively acquire mutex").contains("one thread"));
        assert_eq!(remedy("no such user"), "");
    }
}
