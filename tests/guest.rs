//! Hostile rules, made from WAT: the smallest component that keeps the contract, `guest/prelude.wat`, with the changes that a
//! test needs. The corpus of hostile guests is in `guests/`.

use weir_core::pipeline::OnFault;
use weir_core::pipeline::{Pipeline, Stage};
use weir_wasm::{Instance, Limits, Occasion, Runtime};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

const PRELUDE: &str = include_str!("guest/prelude.wat");
/// The functions that a guest may define, and their default signatures and bodies.
const DEFAULTS: [(&str, &str); 4] = [
    ("$on_configure", ""),
    ("$on_batch", ""),
    ("$on_null", "(param $row i32)"),
    ("$on_realloc", "(param $address i32) (param $size i32) (result i32) (local.get $address)"),
];

/// A guest that traps on all rows, except in the probe, where the clock stands at 0.
pub const TRAP_IN_EARNEST: &str = "(func $on_batch (if (i64.ne (global.get $processed_at) (i64.const 0)) (then (unreachable))))";

/// A rule that reads the field `x`, may write `y` and may reject for the reason `bad`.
#[derive(Default)]
pub struct Guest {
    /// Items of the core module that are added to the prelude, or a whole component.
    items: String,
    /// The number of additional core instances in the component.
    spare_instances: usize,
}

impl Guest {
    /// Creates a guest with these items of the core module, or from this whole component.
    pub fn new(items: &str) -> Guest {
        Guest { items: items.to_owned(), ..Guest::default() }
    }

    /// Returns the guest with this number of additional core instances.
    pub fn with_spare_instances(self, spare_instances: usize) -> Guest {
        Guest { spare_instances, ..self }
    }

    /// Returns the compiled WAT: a component.
    pub fn component(&self) -> Vec<u8> {
        // Text that begins with a component is used as a whole.
        if self.items.lines().any(|line| line.starts_with("(component")) {
            return wat::parse_str(&self.items).unwrap_or_else(|error| panic!("the guest is no sound WAT: {error}"));
        }
        let mut items = self.items.clone();
        for (name, body) in DEFAULTS {
            if !items.contains(&format!("(func {name}")) {
                items += &format!("\n(func {name} {body})");
            }
        }
        let mut component = component(&PRELUDE.replace("{guest}", &items));
        append_instances(&mut component, self.spare_instances);
        component
    }

    /// Returns a pipeline of this rule alone.
    ///
    /// # Errors
    /// If the rule is refused or does not start.
    pub fn pipeline(&self, limits: Limits) -> anyhow::Result<Pipeline<Instance>> {
        let component = Runtime::new(None)?.load(&self.component(), limits.stack)?;
        let (rule, manifest) = Instance::new(&component, "guest", "{}", limits, Occasion::Live)?;
        let stage = Stage { manifest, drop: false, on_fault: OnFault::DeadLetter, rule };
        Ok(Pipeline::new(vec![stage], "x").expect("a rule alone fits itself"))
    }
}

/// Turns a core module in WAT into a component of the contract's world.
fn component(wat: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap_or_else(|error| panic!("the guest is no sound WAT: {error}"));
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../wit")).expect("the contract parses");
    let world = resolve.select_world(&[package], Some("rule")).expect("the contract has the world `rule`");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("metadata fits");
    ComponentEncoder::default()
        .module(&module)
        .and_then(|encoder| encoder.encode())
        .expect("the guest keeps the contract's types")
}

/// Appends an empty core module to a component, and `instances` instances of it. A component is a sequence of sections. Each
/// begins with its number and size. An index counts the earlier items of the same kind.
fn append_instances(component: &mut Vec<u8>, instances: usize) {
    const MODULE: u8 = 1;
    const INSTANCE: u8 = 2;
    const HEADER: usize = 8;
    let (mut at, mut modules) = (HEADER, 0);
    while at < component.len() {
        modules += u8::from(component[at] == MODULE);
        at += 1;
        let (mut size, mut shift) = (0, 0);
        loop {
            let byte = component[at];
            (size, shift, at) = (size | usize::from(byte & 0x7f) << shift, shift + 7, at + 1);
            if byte < 0x80 {
                break;
            }
        }
        at += size;
    }
    if instances > 0 {
        component.extend([MODULE, HEADER as u8]);
        component.extend(b"\0asm\x01\0\0\0");
    }
    for _ in 0..instances {
        // One instance: of a module, the one with this index, without arguments.
        component.extend([INSTANCE, 4, 1, 0, modules, 0]);
    }
}
