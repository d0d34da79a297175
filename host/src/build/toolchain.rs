//! Finds a compiler that can build for [`TARGET`], and installs one if there is none.
//!
//! There are three ways, tried in this order. The target is installed already. rustup adds it. Debian's packages of the compiler
//! and of the standard library's sources build it, on machines that can reach Debian's servers but not those of rustup. Anything
//! that changes the machine is announced before it is done. On other distributions the error tells the operator what to do.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// The target that rules are compiled for: WebAssembly without an operating system.
pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler, and the packages that install it and its sources. Debian's own compiler is needed because a standard
/// library compiles only with the release that it belongs to.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "rust-web-src"];

/// A compiler that can build for [`TARGET`].
pub(super) struct Toolchain {
    rustc: OsString,
    sysroot: PathBuf,
    /// The linker, if the standard library is built from its sources. Debian's compiler has no linker for this target.
    linker: Option<PathBuf>,
}

impl Toolchain {
    /// Returns the toolchain for the workspace in `folder`. Installs the target if it is missing.
    ///
    /// # Errors
    /// If there is no toolchain, and none can be installed. The message names the remedy.
    pub(super) fn find(folder: &Path) -> Result<Toolchain> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = ask(folder, &rustc, &["--print", "sysroot"]).context("failed to ask the Rust compiler where it is")?;
        let toolchain = Toolchain { rustc, sysroot: sysroot.into(), linker: None };
        if toolchain.has_target() || (add_with_rustup(folder) && toolchain.has_target()) {
            return Ok(toolchain);
        }
        toolchain.debian(folder)
    }

    fn has_target(&self) -> bool {
        self.sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
    }

    /// Returns the folder of the standard library's sources, if they are installed.
    pub(super) fn sources(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib/src/rust")
    }

    /// Returns Debian's compiler and sources, with the linker of the present toolchain.
    fn debian(&self, folder: &Path) -> Result<Toolchain> {
        let host = ask(folder, &self.rustc, &["--print", "host-tuple"])?;
        let linker = self.sysroot.join("lib/rustlib").join(host).join("bin/rust-lld");
        let debian = Toolchain { rustc: DEBIAN_RUSTC.into(), sysroot: "/usr".into(), linker: Some(linker) };
        let complete = || Path::new(DEBIAN_RUSTC).exists() && debian.sources().join("library/std").is_dir();
        if !complete() {
            add_with_apt();
        }
        if complete() && debian.linker.as_ref().is_some_and(|linker| linker.exists()) {
            eprintln!("building the standard library for {TARGET} from Debian's sources");
            return Ok(debian);
        }
        bail!(
            "the compiler cannot build for {TARGET}; run `rustup target add {TARGET}`, or on Debian `apt-get install {}`",
            DEBIAN_PACKAGES.join(" ")
        )
    }

    /// Makes `command`, which is a cargo build, use this toolchain.
    pub(super) fn prepare(&self, command: &mut Command) {
        let Some(linker) = &self.linker else { return };
        command.env("RUSTC", &self.rustc).env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        // Building the standard library is not stable yet. These settings allow it without a nightly compiler.
        command.env("RUSTC_BOOTSTRAP", "1").arg("-Zbuild-std=std,panic_abort");
    }
}

/// Returns the line that `rustc` prints for `arguments`. It runs in `folder`, because the workspace may demand a certain release.
fn ask(folder: &Path, rustc: &OsString, arguments: &[&str]) -> Result<String> {
    let output = Command::new(rustc).args(arguments).current_dir(folder).stderr(Stdio::inherit()).output();
    let output = output.context("failed to start rustc; it comes with Rust, from https://rustup.rs")?;
    Ok(String::from_utf8(output.stdout).context("rustc answered something that is no text")?.trim_end().to_owned())
}

/// Returns whether rustup exists and has added the target.
fn add_with_rustup(folder: &Path) -> bool {
    eprintln!("adding {TARGET}: rustup target add {TARGET}");
    succeeds(Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder))
}

/// Installs a compiler and its sources with Debian's package manager. The caller has to check whether they are there afterwards.
fn add_with_apt() {
    if Path::new("/usr/bin/apt-get").exists() && rustix::process::geteuid().is_root() {
        eprintln!("adding {TARGET}: apt-get install {}", DEBIAN_PACKAGES.join(" "));
        let mut install = Command::new("apt-get");
        install
            .args(["install", "--yes", "--no-install-recommends"])
            .args(DEBIAN_PACKAGES)
            .env("DEBIAN_FRONTEND", "noninteractive");
        let _ = succeeds(Command::new("apt-get").args(["update", "--quiet"])) && succeeds(&mut install);
    }
}

/// Runs `command` with its output on standard error. Returns whether it succeeds.
fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(std::io::stderr()).status().is_ok_and(|status| status.success())
}
