//! Compiling in a separate process: valid rules are compiled, and a rule that takes too much memory or time affects no other part
//! of the process.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use weir_wasm::{Bounds, COMPILING, Compiler, MAX_COMPONENT_BYTES, Runtime};

use crate::guest::Guest;
use crate::program::{built, eventually};

const STACK: usize = 512 << 10;

fn runtime(bounds: Bounds) -> Runtime {
    Runtime::new(None).unwrap().with_compiler(Compiler::Child { program: env!("CARGO_BIN_EXE_weir").into(), bounds })
}

fn refusal(bounds: Bounds, component: &[u8]) -> String {
    format!("{:#}", runtime(bounds).load(component, STACK).err().expect("it is refused"))
}

/// A component with a function of `additions` additions, whose compilation takes long.
fn long(additions: usize) -> Vec<u8> {
    let mut body = String::new();
    (0..additions).for_each(|_| body.write_str("(local.set 0 (i32.add (local.get 0) (local.get 1)))").unwrap());
    wat::parse_str(format!("(component (core module (func (param i32 i32) (result i32) {body} (local.get 0))))")).unwrap()
}

#[test]
fn a_rule_that_is_compiled_elsewhere_is_the_same() {
    let rule = fs::read(built("validation")).unwrap();
    let runtime = runtime(Bounds::default());
    assert_eq!(runtime.load(&rule, STACK).unwrap().digest, Runtime::new(None).unwrap().load(&rule, STACK).unwrap().digest);
    assert!(runtime.load(&Guest::default().component(), STACK).is_ok());
}

#[test]
fn what_is_no_component_is_refused_with_the_compilers_words() {
    let rule = Guest::default().component();
    let said = refusal(Bounds::default(), &rule[..rule.len() / 2]);
    assert!(said.contains("no sound WebAssembly component") && said.contains("out of bounds"), "{said}");
}

#[test]
fn a_memory_limit_of_the_compiler_obeyed_is_not_felt() {
    // The limit is on address space, of which threads take a lot. This is the smallest limit, for a small cgroup.
    let bounds = Bounds { memory: 256 << 20, ..Bounds::default() };
    assert!(runtime(bounds).load(&fs::read(built("utc-enrichment")).unwrap(), STACK).is_ok());
}

#[test]
fn a_memory_limit_of_the_compiler_violated_ends_it() {
    let said = refusal(Bounds { memory: 96 << 20, seconds: 300 }, &long(200_000));
    assert!(said.contains("more than 96MiB of memory") && said.contains("make it smaller"), "{said}");
}

#[test]
fn a_time_limit_of_the_compiler_violated_ends_it() {
    let said = refusal(Bounds { seconds: 1, ..Bounds::default() }, &long(1_000_000));
    assert!(said.contains("1 s") && said.contains("make it smaller"), "{said}");
}

#[test]
fn the_compiler_goes_first_where_memory_runs_out_and_ends_with_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    // The compiler waits for a component that never comes.
    let line = format!("set +m; sleep 60 | {} {COMPILING} --memory 1073741824 --seconds 30 & wait", env!("CARGO_BIN_EXE_weir"));
    let mut shell = Command::new("bash").args(["-c", &line]).current_dir(folder.path()).stdout(Stdio::piped()).spawn().unwrap();
    let children = || fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.id())).unwrap_or_default();
    let of = |child: &str, file: &str| fs::read_to_string(format!("/proc/{child}/{file}")).unwrap_or_default();
    let first_to_go = || {
        let children = children();
        let mut children = children.split_whitespace();
        children
            .find(|child| of(child, "cmdline").contains(COMPILING) && of(child, "oom_score_adj").trim() == "1000")
            .map(str::to_owned)
    };
    let compiler = eventually("the compiler is the first to go", first_to_go);
    let sleeper = children().split_whitespace().find(|child| **child != compiler).map(str::to_owned);
    shell.kill().unwrap();
    shell.wait().unwrap();
    eventually("it is gone", || ["", "Z"].contains(&state(&compiler).as_str()).then_some(()));
    let sleeper = sleeper.and_then(|child| rustix::process::Pid::from_raw(child.parse().ok()?));
    sleeper.map(|sleeper| rustix::process::kill_process(sleeper, rustix::process::Signal::KILL));
}

/// Returns the letter of the state of a process; an empty string if the process is gone.
fn state(process: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next()).unwrap_or_default().to_owned()
}

/// A component that does nothing and has these items.
fn core(items: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {items}))")).unwrap()
}

#[test]
fn globals_and_functions_obeyed_and_violated() {
    let globals = |count| refusal(Bounds::default(), &core(&"(global i32 (i32.const 0))".repeat(count)));
    // The component is no rule, but it was compiled.
    assert!(globals(10_000).contains("must export"), "{}", globals(10_000));
    assert!(globals(10_001).contains("10001 globals, and at most 10000"));
    assert!(globals(1_000_000).contains("1000000 globals"));
    let functions = |count| refusal(Bounds::default(), &core(&"(func)".repeat(count)));
    assert!(functions(50_000).contains("must export"), "{}", functions(50_000));
    assert!(functions(50_001).contains("50001 functions, and at most 50000"));
}

#[test]
fn the_name_of_a_function_obeyed_and_violated() {
    let named = |length: usize| refusal(Bounds::default(), &core(&format!("(func (@name \"{}\"))", "a".repeat(length))));
    assert!(named(64 << 10).contains("must export"), "{}", named(64 << 10));
    assert!(named((64 << 10) + 1).contains("name has 65537 bytes, and at most 65536"));
}

#[test]
fn the_size_of_a_component_obeyed_and_violated() {
    // Compilers skip a custom section. Its name and the sizes before it take sixteen bytes.
    let sized = |size: usize| {
        let head = b"\0asm\x0d\0\x01\0".to_vec();
        let length = size - head.len() - 5;
        let digits: Vec<u8> =
            (0..4).map(|index| (length >> (7 * index)) as u8 & 0x7f | if index < 3 { 0x80 } else { 0 }).collect();
        let mut component = [head, vec![0], digits].concat();
        component.resize(size, 0);
        component
    };
    assert!(refusal(Bounds::default(), &sized(MAX_COMPONENT_BYTES)).contains("must export"));
    assert!(refusal(Bounds::default(), &sized(MAX_COMPONENT_BYTES + 1)).contains("at most 8MiB are allowed"));
}

#[test]
fn machine_code_of_a_compiler_that_failed_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("compiler");
    fs::write(&program, format!("#!/bin/sh\n{} \"$@\"\nexit 3\n", env!("CARGO_BIN_EXE_weir"))).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let runtime = Runtime::new(None).unwrap().with_compiler(Compiler::Child { program, bounds: Bounds::default() });
    let refused = runtime.load(&Guest::default().component(), STACK).err().expect("it may be a part of it");
    assert!(refused.to_string().contains("exit status: 3"), "{refused:#}");
}
