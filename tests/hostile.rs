//! A bad rule harms one record, not the stream: traps, loops, bombs and broken promises of guests.

use std::time::Duration;

use weir::counts::Counts;
use weir::pipeline::RULE_FAULT;
use weir::record::{Batch, Step};
use weir::wasm::{Limits, Runtime};

use crate::guest::Guest;

const LIMITS: Limits = Limits {
    memory: 4 << 20,
    tables: 20_000,
    instances: 10,
    stack: 512 << 10,
    result: 64 << 20,
    deadline: Duration::from_secs(1),
};

/// Traps on rows in which `x` is null, and keeps the others.
const TRAP_ON_NULL: &str = "
    (block $end
        (loop $next
            (br_if $end (i32.eq (local.get $row) (local.get $rows)))
            (if (i32.eq (call $kind (local.get $columns) (local.get $row)) (i32.const 1)) (then (unreachable)))
            (local.set $row (i32.add (local.get $row) (i32.const 1)))
            (br $next)))
    (call $nothing)";

fn batch(values: &[&str]) -> Batch {
    let mut batch = Batch::new("user-login");
    for (offset, value) in values.iter().enumerate() {
        batch.push(0, offset as i64, None, None, Some(format!("{{\"x\":{value}}}").as_bytes()));
    }
    batch
}

/// The records that passed, and those that were rejected with reason and detail.
fn judge(guest: &Guest, values: &[&str]) -> (Vec<u32>, Vec<(u32, String, String)>) {
    let mut pipeline = guest.pipeline(LIMITS);
    let (batch, mut step) = (batch(values), Step::default());
    // Twice: what a fault leaves behind must not be seen by the next batch.
    for _ in 0..2 {
        pipeline.process(&Counts::new(60_000, false), &batch, &mut step);
    }
    let rejections = step.rejections.iter().map(|rejection| {
        assert_eq!(rejection.rule, Some(0));
        (rejection.record, rejection.reason.to_string(), rejection.detail.clone().unwrap_or_default())
    });
    (step.outputs.iter().map(|output| output.record).collect(), rejections.collect())
}

/// The detail with which a rule is blamed that does `evaluate` on every row.
fn fault(evaluate: &'static str, items: &'static str, writes: bool) -> String {
    let (passed, rejected) = judge(&Guest { evaluate, items, writes, ..Guest::default() }, &["1"]);
    let [(0, reason, detail)] = &rejected[..] else { panic!("one record is rejected, not {rejected:?}, and {passed:?} passed") };
    assert_eq!(reason, RULE_FAULT);
    detail.clone()
}

#[test]
fn only_the_rows_that_a_rule_traps_on_are_rejected() {
    let mut values = vec!["1"; 1_000];
    [0, 499, 500, 999].iter().for_each(|row| values[*row] = "null");
    let (passed, rejected) = judge(&Guest { evaluate: TRAP_ON_NULL, ..Guest::default() }, &values);
    assert_eq!(passed.len(), 996);
    assert_eq!(rejected.iter().map(|(record, ..)| *record).collect::<Vec<_>>(), [0, 499, 500, 999]);
    for (_, reason, detail) in &rejected {
        assert_eq!(reason, RULE_FAULT);
        assert!(detail.contains("unreachable"), "{detail}");
    }
}

#[test]
fn a_trap_is_named() {
    assert!(fault("(i32.div_u (i32.const 1) (i32.const 0))", "", false).contains("divide by zero"));
    assert!(fault("(i32.load (i32.const -4))", "", false).contains("out of bounds"));
    assert!(
        fault("(call $deeper)", "(func $deeper (result i32) (i32.add (call $deeper) (i32.const 1)))", false).contains("stack")
    );
}

#[test]
fn the_last_words_of_a_rule_are_kept() {
    let last_words = "(call $log (i32.const 4) (i32.const 2048) (i32.const 5)) (unreachable)";
    let detail = fault(last_words, "(data (i32.const 2048) \"alas!\")", false);
    assert!(detail.starts_with("alas! (") && detail.contains("unreachable"), "{detail}");
}

#[test]
fn a_deadline_obeyed_is_not_felt() {
    let (passed, rejected) = judge(&Guest { evaluate: TRAP_ON_NULL, ..Guest::default() }, &["1"; 100]);
    assert_eq!((passed.len(), rejected.len()), (100, 0));
}

#[test]
fn a_deadline_violated_ends_the_call() {
    assert!(fault("(loop $ever (br $ever)) (unreachable)", "", false).contains("the 1s of rule.guest.deadline"));
}

#[test]
fn a_memory_limit_obeyed_is_not_felt() {
    let grow = "(if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then (unreachable))) (call $nothing)";
    let guest = Guest { evaluate: grow, ..Guest::default() };
    let mut pipeline = guest.pipeline(LIMITS);
    let mut step = Step::default();
    pipeline.process(&Counts::new(60_000, false), &batch(&["1"]), &mut step);
    assert_eq!((step.outputs.len(), step.rejections.len()), (1, 0));
}

#[test]
fn a_memory_limit_violated_ends_the_call() {
    let bomb = "(loop $ever (drop (memory.grow (i32.const 16))) (br $ever)) (unreachable)";
    let detail = fault(bomb, "", false);
    assert!(detail.contains("more memory than the 4194304 bytes of rule.guest.memory"), "{detail}");
    let detail = fault(
        "(loop $ever (drop (table.grow $t (ref.null func) (i32.const 10000))) (br $ever)) (unreachable)",
        "(table $t 1 funcref)",
        false,
    );
    assert!(detail.contains("table"), "{detail}");
}

/// Writes an outcome of `$rejections` and `$columns` (pointer, length), with what stands at 256 and 512.
const OUTCOME: &str = "
    (func $outcome (param $rejections i32) (param $columns i32) (result i32)
        (i32.store (i32.const 0) (i32.const 256)) (i32.store (i32.const 4) (local.get $rejections))
        (i32.store (i32.const 8) (i32.const 512)) (i32.store (i32.const 12) (local.get $columns))
        (i32.const 0))
    (func $column (param $kinds i32) (param $end i32) (param $bytes i32)
        (i32.store (i32.const 512) (i32.const 600)) (i32.store (i32.const 516) (i32.const 1))
        (i32.store (i32.const 520) (i32.const 604)) (i32.store (i32.const 524) (i32.const 1))
        (i32.store (i32.const 528) (i32.const 608)) (i32.store (i32.const 532) (local.get $bytes))
        (i32.store8 (i32.const 600) (local.get $kinds)) (i32.store (i32.const 604) (local.get $end)))";

#[test]
fn broken_promises_are_faults_that_name_what_was_broken() {
    let cases = [
        ("(call $outcome (i32.const 0) (i32.const 0))", true, "0 columns"),
        ("(call $outcome (i32.const 0) (i32.const 1))", true, "`y` breaks the contract"),
        (
            "(call $column (i32.const 4) (i32.const 9) (i32.const 1)) (call $outcome (i32.const 0) (i32.const 1))",
            true,
            "ends at 9",
        ),
        (
            "(call $column (i32.const 9) (i32.const 0) (i32.const 0)) (call $outcome (i32.const 0) (i32.const 1))",
            true,
            "kind is 9",
        ),
        (
            "(call $column (i32.const 3) (i32.const 1) (i32.const 1)) (call $outcome (i32.const 0) (i32.const 1))",
            true,
            "JSON number",
        ),
        (
            "(i32.store8 (i32.const 608) (i32.const 255)) (call $column (i32.const 4) (i32.const 1) (i32.const 1)) (call $outcome (i32.const 0) (i32.const 1))",
            true,
            "UTF-8",
        ),
        ("(i32.store (i32.const 256) (i32.const 7)) (call $outcome (i32.const 1) (i32.const 0))", false, "row 7 of 1"),
        ("(i32.store (i32.const 260) (i32.const 7)) (call $outcome (i32.const 1) (i32.const 0))", false, "reason 7"),
        ("(call $outcome (i32.const 2) (i32.const 0))", false, "twice"),
        ("(call $outcome (i32.const 50000000) (i32.const 0))", false, "out of bounds"),
        ("(i32.const -16)", false, "out of bounds"),
    ];
    for (evaluate, writes, named) in cases {
        let detail = fault(evaluate, OUTCOME, writes);
        assert!(detail.contains(named), "{evaluate}: {detail}");
    }
}

#[test]
fn what_is_no_rule_is_refused_with_the_reason() {
    let runtime = Runtime::new(None).unwrap();
    let refusal = |bytes: &[u8]| format!("{:#}", runtime.load(bytes, LIMITS.stack).err().expect("this is no rule"));
    let core = wat::parse_str("(module)").unwrap();
    let sound = Guest::default().component();
    assert!(refusal(b"").contains("empty"));
    assert!(refusal(b"MZ garbage").contains("no WebAssembly"));
    assert!(refusal(&core).contains("core module") && refusal(&core).contains("weir build"));
    assert!(refusal(&sound[..sound.len() / 2]).contains("no sound WebAssembly component"));
    assert!(refusal(&vec![0; 9 << 20]).contains("at most"));
    let wasi = wat::parse_str(r#"(component (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#).unwrap();
    assert!(refusal(&wasi).contains("wasi:clocks/wall-clock@0.2.0"));
    assert!(refusal(&wat::parse_str("(component)").unwrap()).contains("`configure` and `evaluate`"));
    let precompiled = wasmtime_precompiled(&sound);
    assert!(refusal(&precompiled).contains("compiled before"));
}

/// `component`, compiled: what the cache keeps.
fn wasmtime_precompiled(component: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let cache = weir::wasm::Cache::in_folder(folder.path().join("cache")).unwrap();
    Runtime::new(Some(cache)).unwrap().load(component, LIMITS.stack).unwrap();
    let entry = std::fs::read_dir(folder.path().join("cache")).unwrap().next().unwrap().unwrap();
    std::fs::read(entry.path()).unwrap()
}

#[test]
fn loops_and_bombs_end_at_the_start_too() {
    let started = |guest: Guest| format!("{:#}", guest.instance(LIMITS).err().expect("the guest does not start"));
    let ever = "(loop $ever (br $ever))";
    assert!(started(Guest { configure: ever, ..Guest::default() }).contains("deadline"));
    let start = "(func $start (loop $ever (br $ever))) (start $start)";
    assert!(started(Guest { items: start, ..Guest::default() }).contains("failed to instantiate"));
    let large = "(memory 1000)";
    assert!(started(Guest { items: large, ..Guest::default() }).contains("memory"), "a second memory is limited too");
    assert!(started(Guest { name: "Not A Name", ..Guest::default() }).contains("manifest breaks the contract"));
}

#[test]
fn a_guest_of_the_tests_is_a_rule() {
    assert!(Guest::default().instance(LIMITS).is_ok());
}
