//! Makes a component of a core module, and checks a component against the contract in `wit/rule.wit`.
//!
//! Only types are checked here. `weir check` and the engine run the rule, and check its behaviour.

use anyhow::{Context, Result, bail, ensure};
use wit_component::ComponentEncoder;
use wit_parser::decoding::{DecodedWasm, decode};
use wit_parser::{Resolve, WorldId};

use weir_wasm::{CONTRACT, Import};

/// The contract in the form that rule authors read.
const TEXT: &str = include_str!("../../../wit/rule.wit");

/// Makes a component from a core module that was compiled with the bindings of `weir-rule`.
pub(super) fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(module).context("failed to read what `weir_rule::export!` left in the module")?;
    encoder
        .encode()
        .context("a rule may import nothing but `weir:rule/log`; does a dependency need a clock, files or JavaScript?")
}

/// Checks that `component` is a rule: it imports nothing but what the contract offers, and exports all that the contract
/// requires.
///
/// # Errors
/// If an import or export is missing, superfluous, or of another type. The message names it.
pub(super) fn check(component: &[u8]) -> Result<()> {
    let DecodedWasm::Component(resolve, found) = decode(component)? else { bail!("it is no component") };
    let imports = names(&resolve, resolve.worlds[found].imports.keys());
    let mut version = CONTRACT;
    for import in &imports {
        if let Import::Offered(compatible) = weir_wasm::import(import).map_err(anyhow::Error::msg)? {
            version = compatible;
        }
    }
    let (contract, world) = contract(version)?;
    let offered = names(&contract, contract.worlds[world].imports.keys());
    if let Some(import) = imports.iter().find(|name| !offered.contains(name)) {
        bail!("it imports `{import}`; a rule may import nothing but `weir:rule/log`");
    }
    let exported = names(&resolve, resolve.worlds[found].exports.keys());
    ensure!(!exported.is_empty(), "it exports nothing; add `weir_rule::export!(YourRule);` to its lib.rs");
    if let Some(missing) =
        names(&contract, contract.worlds[world].exports.keys()).into_iter().find(|name| !exported.contains(name))
    {
        bail!("it does not export `{missing}`");
    }
    wit_component::targets(&contract, world, component, false)
        .context("its types are not those of the contract; build it with the `weir-rule` of this version")
}

/// Returns the contract with the version number `version`, which is compatible with `CONTRACT`.
fn contract(version: &str) -> Result<(Resolve, WorldId)> {
    let mut resolve = Resolve::default();
    let text = TEXT.replacen(&format!("package weir:rule@{CONTRACT};"), &format!("package weir:rule@{version};"), 1);
    let package = resolve.push_str("rule.wit", &text).context("failed to read the contract")?;
    let world = resolve.select_world(&[package], Some("rule"))?;
    Ok((resolve, world))
}

fn names<'a>(resolve: &Resolve, keys: impl Iterator<Item = &'a wit_parser::WorldKey>) -> Vec<String> {
    keys.map(|key| resolve.name_world_key(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the component that is written as `text`, and returns the error message.
    fn complaint(text: &str) -> String {
        format!("{:#}", check(&wat::parse_str(text).unwrap()).unwrap_err())
    }

    #[test]
    fn the_version_is_the_one_that_the_contract_names() {
        assert!(TEXT.contains(&format!("\npackage weir:rule@{CONTRACT};\n")));
    }

    #[test]
    fn without_exports_the_remedy_is_told() {
        assert!(complaint("(component)").contains("weir_rule::export!(YourRule);"));
    }

    #[test]
    fn an_import_that_the_contract_does_not_offer_is_named() {
        let complaint = complaint(r#"(component (import "wasi:cli/environment@0.2.0" (instance)))"#);
        assert!(complaint.contains("imports `wasi:cli/environment@0.2.0`"), "{complaint}");
    }

    #[test]
    fn a_rule_for_a_compatible_version_of_the_contract_is_one_and_for_another_is_none() {
        let built = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../rules/dist/validation.wasm")).unwrap();
        let of_version = |version: &[u8; 5]| {
            let mut component = built.clone();
            for at in (0..built.len()).filter(|at| built[*at..].starts_with(b"@0.1.0")) {
                component[at + 1..at + 6].copy_from_slice(version);
            }
            check(&component).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(of_version(b"0.1.7"), Ok(()));
        let complaint = of_version(b"0.2.0").unwrap_err();
        assert!(complaint.contains("version 0.2.0 of the contract, and this is version 0.1.0"), "{complaint}");
    }

    #[test]
    fn an_export_that_is_missing_is_named() {
        let complaint = complaint(&exporting(&["configure"]));
        assert!(complaint.contains("does not export `evaluate`"), "{complaint}");
    }

    #[test]
    fn exports_of_another_type_are_refused() {
        let complaint = complaint(&exporting(&["configure", "evaluate"]));
        assert!(complaint.contains("not those of the contract"), "{complaint}");
    }

    #[test]
    fn a_core_module_is_refused() {
        assert!(check(&wat::parse_str("(module)").unwrap()).is_err());
    }

    /// Returns a component that exports functions without parameters and results.
    fn exporting(names: &[&str]) -> String {
        let lifted: String =
            names.iter().map(|name| format!(r#"(func (export "{name}") (canon lift (core func $i "f")))"#)).collect();
        format!(r#"(component (core module $m (func (export "f"))) (core instance $i (instantiate $m)) {lifted})"#)
    }
}
