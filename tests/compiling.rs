//! Compiling in a process of its own: what is sound comes back, and what takes too much harms nobody.

use std::fmt::Write;

use weir::wasm::{Bounds, Compiler, Runtime};

use crate::guest::Guest;
use crate::program::built;

const STACK: usize = 512 << 10;

fn runtime(bounds: Bounds) -> Runtime {
    Runtime::new(None).unwrap().with_compiler(Compiler::Child { program: env!("CARGO_BIN_EXE_weir").into(), bounds })
}

fn refusal(bounds: Bounds, component: &[u8]) -> String {
    format!("{:#}", runtime(bounds).load(component, STACK).err().expect("it is refused"))
}

/// A component with a function of so many additions, which is as long in compiling.
fn long(additions: usize) -> Vec<u8> {
    let mut body = String::new();
    (0..additions).for_each(|_| body.write_str("(local.set 0 (i32.add (local.get 0) (local.get 1)))").unwrap());
    wat::parse_str(format!("(component (core module (func (param i32 i32) (result i32) {body} (local.get 0))))")).unwrap()
}

#[test]
fn a_rule_that_is_compiled_elsewhere_is_the_same() {
    let rule = std::fs::read(built("validation")).unwrap();
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
    // It is address space that is bounded, of which threads take a lot.
    let bounds = Bounds { memory: 1 << 30, ..Bounds::default() };
    assert!(runtime(bounds).load(&std::fs::read(built("utc-enrichment")).unwrap(), STACK).is_ok());
}

#[test]
fn a_memory_limit_of_the_compiler_violated_ends_it() {
    let said = refusal(Bounds { memory: 96 << 20, ..Bounds::default() }, &long(200_000));
    assert!(said.contains("more than 100663296 bytes of memory") && said.contains("make it smaller"), "{said}");
}

#[test]
fn a_time_limit_of_the_compiler_violated_ends_it() {
    let said = refusal(Bounds { seconds: 1, ..Bounds::default() }, &long(1_000_000));
    assert!(said.contains("1 s") && said.contains("make it smaller"), "{said}");
}
