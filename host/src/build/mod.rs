//! `weir build`: from the crate of a rule to the component that the engine runs.
//!
//! cargo compiles the crate for `wasm32-unknown-unknown` ([`cargo`], with a [`toolchain`] that can), the module becomes a
//! component and is held against the contract ([`component`]), and the file is put in place in one step, so that whoever
//! watches the folder never sees half of it.
//!
//! Two builds of the same sources by the same compiler give the same bytes, wherever their workspace is and whatever was
//! built before or beside them. What this deliberately leaves out: running the rule (`weir check` does), and any language
//! but Rust.

mod cargo;
mod component;
mod toolchain;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use self::cargo::Package;
use self::toolchain::Toolchain;
use weir_wasm::lacking;

/// Builds the rule crates in `paths` and writes `out/NAME.wasm` for each, where NAME is the package's name. Says on standard
/// output what it wrote; cargo speaks on standard error.
///
/// # Errors
/// The first folder that holds no rule, does not compile or breaks the contract. Files written until then stay.
pub fn build(paths: &[PathBuf], out: &Path) -> Result<()> {
    let packages = paths.iter().map(|path| Package::at(path)).collect::<Result<Vec<_>>>()?;
    fs::create_dir_all(out).with_context(|| format!("failed to create folder {}", out.display()))?;
    let (mut toolchains, mut files) = (BTreeMap::new(), Vec::new());
    for package in packages {
        let started = Instant::now();
        let file = out.join(format!("{}.wasm", package.name));
        let toolchain = match toolchains.entry(package.workspace.clone()) {
            Entry::Occupied(found) => found.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(Toolchain::find(&package.workspace)?),
        };
        let bytes = build_one(&package, toolchain)?;
        weir_system::files::replace(&file, &bytes).with_context(|| format!("failed to write {}", file.display()))?;
        println!("{}  {:.1} KB  {:.1} s", file.display(), bytes.len() as f64 / 1e3, started.elapsed().as_secs_f64());
        lacking(&bytes).iter().for_each(|call| eprintln!("warning: {}: {call}", package.name));
        files.push(file.display().to_string());
    }
    eprintln!("check with: weir check {}", files.join(" "));
    Ok(())
}

/// The component of one package.
fn build_one(package: &Package, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let module = package.compile(toolchain)?;
    let module = fs::read(&module).with_context(|| format!("failed to read {}", module.display()))?;
    let component = component::encode(&module)
        .with_context(|| format!("failed to make a component of {}{}", package.name, package.suspects()))?;
    if let Err(error) = component::check(&component) {
        bail!("{} is no rule: {error:#}", package.name);
    }
    Ok(component)
}
