//! Hostile rules, made from WAT for one test each: the smallest component that keeps the contract but for what the test is
//! about.

use weir::config::OnFault;
use weir::pipeline::{Pipeline, Stage};
use weir::wasm::{Instance, Limits, Runtime};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// Where the constants of a guest begin in its memory. Below is room for results.
const CONSTANTS: u32 = 1_024;
/// Where the memory begins that `cabi_realloc` hands out.
const HEAP: u32 = 65_536;

/// A rule that reads the member `x`, may write `y` and may reject for `bad`.
pub struct Guest {
    /// Body of `evaluate`: parameters `$rows`, `$columns` (24 bytes each: kinds, ends, bytes, as pointer and length); the
    /// result is the address of an outcome (rejections, columns, as pointer and length).
    pub evaluate: &'static str,
    /// Body of `configure`, run before the manifest is returned.
    pub configure: &'static str,
    /// Further items of the core module: functions, globals, tables, a start function.
    pub items: &'static str,
    /// Whether the manifest declares to write `y`.
    pub writes: bool,
    pub name: &'static str,
}

/// Body of `evaluate` that traps whatever it is given, except in the probe, where the clock stands at 0.
pub const TRAP_IN_EARNEST: &str = "(if (i64.ne (local.get $processed_at) (i64.const 0)) (then (unreachable))) (call $nothing)";

impl Default for Guest {
    fn default() -> Guest {
        Guest { evaluate: "(call $nothing)", configure: "", items: "", writes: false, name: "guest" }
    }
}

/// Little-endian bytes of 32-bit words.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Guest {
    /// The manifest in memory: `ok` of the result, then six pairs of pointer and length, then what they point to.
    fn constants(&self) -> Vec<u8> {
        let texts = [self.name, "1.0", "a guest of the tests", "x", "y", "bad"];
        let mut at = CONSTANTS + 4 + 48 + 24;
        let pointers: Vec<[u32; 2]> = texts
            .iter()
            .map(|text| {
                at += text.len() as u32;
                [at - text.len() as u32, text.len() as u32]
            })
            .collect();
        let lists = CONSTANTS + 4 + 48;
        let [name, version, description, reads, writes, reasons] = pointers[..] else { unreachable!("six texts") };
        let mut bytes = words(&[0]);
        bytes.extend(words(&[name, version, description].concat()));
        bytes.extend(words(&[lists, 1, lists + 8, u32::from(self.writes), lists + 16, 1]));
        bytes.extend(words(&[reads, writes, reasons].concat()));
        bytes.extend(texts.concat().bytes());
        bytes
    }

    fn wat(&self) -> String {
        let Guest { evaluate, configure, items, .. } = self;
        let constants: String = self.constants().iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!(
            r#"(module
                (import "weir:rule/log@0.1.0" "log" (func $log (param i32 i32 i32)))
                (memory (export "memory") 2)
                (global $heap (mut i32) (i32.const {HEAP}))
                (data (i32.const {CONSTANTS}) "{constants}")
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $start i32)
                    (local.set $start (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
                    (global.set $heap (i32.add (local.get $start) (local.get 3)))
                    (block $fits
                        (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                        (drop (memory.grow (i32.add (i32.shr_u (local.get 3) (i32.const 16)) (i32.const 1)))))
                    (local.get $start))
                (func $nothing (result i32)
                    (i64.store (i32.const 0) (i64.const 0))
                    (i64.store (i32.const 8) (i64.const 0))
                    (i32.const 0))
                (func $kind (param $columns i32) (param $row i32) (result i32)
                    (i32.load8_u (i32.add (i32.load (local.get $columns)) (local.get $row))))
                {items}
                (func (export "configure") (param i32 i32) (result i32)
                    {configure}
                    (i32.const {CONSTANTS}))
                (func (export "evaluate") (param $rows i32) (param $processed_at i64) (param $columns i32) (param $count i32) (result i32)
                    (local $row i32)
                    (global.set $heap (i32.const {HEAP}))
                    {evaluate})
            )"#
        )
    }

    /// The component.
    pub fn component(&self) -> Vec<u8> {
        component(&self.wat())
    }

    /// An instance with these limits.
    pub fn instance(&self, limits: Limits) -> anyhow::Result<Instance> {
        let component = Runtime::new(None)?.load(&self.component(), limits.stack)?;
        Ok(Instance::new(&component, self.name, "{}", limits)?.0)
    }

    /// A pipeline of this rule alone.
    pub fn pipeline(&self, limits: Limits) -> Pipeline<Instance> {
        let component = Runtime::new(None).unwrap().load(&self.component(), limits.stack).unwrap();
        let (rule, manifest) = Instance::new(&component, self.name, "{}", limits).unwrap();
        Pipeline::new(vec![Stage { manifest, drop: false, on_fault: OnFault::DeadLetter, rule }], "x").unwrap()
    }
}

/// A core module in WAT, turned into a component of the contract's world.
fn component(wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).expect("the guest is sound WAT");
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("rule")).expect("the contract has the world `rule`");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("metadata fits");
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .expect("the guest keeps the contract's types")
}
