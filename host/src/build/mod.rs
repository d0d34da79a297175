//! `weir build`: makes the component that the engine runs from the crate of a rule.
//!
//! cargo compiles the crate for `wasm32-unknown-unknown` ([`cargo`], with a suitable [`toolchain`]). The module then becomes a
//! component, which is checked against the contract ([`component`]). The file is put in place in one step, so that a process that
//! watches the folder never reads a half-written file.
//!
//! Two builds of the same sources with the same compiler produce the same bytes, regardless of where the workspace is and of what
//! was built before or at the same time. Deliberately left out: running the rule, which `weir check` does, and languages other
//! than Rust.

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
use weir_wasm::unsupported_calls;

/// Builds the rule crates in `paths` and writes `out/NAME.wasm` for each, where NAME is the name of the package. Prints the
/// written files on standard output. cargo writes to standard error.
///
/// # Errors
/// If a folder contains no rule, or its rule does not compile or breaks the contract. Stops at the first such folder. Files that
/// were written before remain.
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
        unsupported_calls(&bytes).iter().for_each(|call| eprintln!("warning: {}: {call}", package.name));
        files.push(file.display().to_string());
    }
    eprintln!("check with: weir check {}", files.join(" "));
    Ok(())
}

/// Returns the component of one package.
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
