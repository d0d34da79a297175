//! Calls cargo to find the package in a folder, and to compile it to a core module.
//!
//! A module is made with `cargo rustc --crate-type cdylib`, one package at a time. So a rule can be an ordinary library crate. If
//! it were declared as both `cdylib` and `rlib`, as its unit tests and the benchmark need, cargo would silently skip link-time
//! optimisation. Building one package at a time also keeps the features of one rule's dependencies out of other rules.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::toolchain::{TARGET, Toolchain};

/// The optimisation settings of rules, which replace those of the workspace's release profile. Function names are kept, because a
/// trap's backtrace consists of them.
const PROFILE: [(&str, &str); 8] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
];

/// A library crate that is to become a rule.
pub(super) struct Package {
    pub(super) name: String,
    /// The absolute path of the workspace's root. cargo runs there, so that the settings of the workspace apply.
    pub(super) workspace: PathBuf,
    id: String,
    manifest: PathBuf,
}

/// The parts of `cargo metadata` that are used.
#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    dependencies: Vec<Dependency>,
    id: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
}

#[derive(Deserialize)]
struct Target {
    kind: Vec<String>,
}

impl Target {
    fn is_library(&self) -> bool {
        self.kind.iter().any(|kind| matches!(kind.as_str(), "lib" | "rlib" | "cdylib"))
    }
}

/// The parts of a line of `cargo --message-format json` that are used.
#[derive(Deserialize)]
struct CargoMessage {
    reason: String,
    #[serde(default)]
    package_id: String,
    target: Option<Target>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

impl Package {
    /// Returns the package in `folder`.
    ///
    /// # Errors
    /// If there is no `Cargo.toml`, if cargo can't read it, if the package has no library, or if it is no rule.
    pub(super) fn at(folder: &Path) -> Result<Package> {
        let manifest = folder.join("Cargo.toml");
        let manifest = manifest.canonicalize().with_context(|| format!("failed to find a crate in {}", folder.display()))?;
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(&manifest);
        let metadata: CargoMetadata = serde_json::from_slice(&run(command)?).context("failed to understand `cargo metadata`")?;
        let Some(package) = metadata.packages.into_iter().find(|package| package.manifest_path == manifest) else {
            bail!("{} is no package but a workspace; give the folder of one rule", manifest.display());
        };
        ensure!(package.targets.iter().any(Target::is_library), "{} has no library; put the rule into src/lib.rs", package.name);
        // A rule without the SDK may generate the bindings itself.
        let makes_rules = |dependency: &Dependency| matches!(dependency.name.as_str(), "weir-rule" | "wit-bindgen");
        let is_rule = package.dependencies.iter().any(makes_rules);
        ensure!(is_rule, "{} is no rule: it does not depend on `weir-rule`; add that to its Cargo.toml", package.name);
        Ok(Package { name: package.name, workspace: metadata.workspace_root, id: package.id, manifest })
    }

    /// Compiles the package with `toolchain`. Returns the path of the module.
    ///
    /// # Errors
    /// If the package does not compile. cargo has printed the reason on standard error.
    pub(super) fn compile(&self, toolchain: &Toolchain) -> Result<PathBuf> {
        self.fetch()?;
        let mut command = cargo();
        command.current_dir(&self.workspace).args(["rustc", "--release", "--lib", "--crate-type", "cdylib", "--target", TARGET]);
        // The SDK and the rule itself run for every row, and are optimised for speed. For all other code size counts more.
        for name in ["weir-rule", &self.name] {
            command.args(["--config", &format!("profile.release.package.{name:?}.opt-level=3")]);
        }
        command.args(["--message-format", "json-render-diagnostics", "--manifest-path"]).arg(&self.manifest);
        command.envs(PROFILE).env("CARGO_ENCODED_RUSTFLAGS", self.flags(toolchain));
        toolchain.prepare(&mut command);
        let output = run(command).with_context(|| format!("failed to compile {}{}", self.name, self.suspects()))?;
        let messages = output.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<CargoMessage>(line).ok());
        let files = messages.filter(|message| self.made(message)).flat_map(|message| message.filenames);
        files.last().with_context(|| format!("cargo made no module of {}", self.name))
    }

    /// Returns the dependencies that need services which a rule lacks, as the end of an error message.
    pub(super) fn suspects(&self) -> String {
        const SUSPECTS: [(&str, &str); 2] =
            [("getrandom", "a rule has no randomness"), ("js-sys", "a rule has neither JavaScript nor its clock")];
        let mut command = cargo();
        command.current_dir(&self.workspace).args(["tree", "--offline", "--edges", "normal", "--prefix", "none"]);
        command.args(["--format", "{p}", "--target", TARGET, "--manifest-path"]).arg(&self.manifest);
        let tree = run(command).unwrap_or_default();
        let tree = String::from_utf8_lossy(&tree);
        let wanted = SUSPECTS.iter().filter(|(name, _)| tree.lines().any(|line| line.split(' ').next() == Some(name)));
        let words = wanted.map(|(name, why)| {
            format!("; {why}: `cargo tree --target {TARGET} --invert {name}` shows who wants it, do without or set default-features = false")
        });
        words.collect()
    }

    /// Fetches the sources of the dependencies, so that `flags` finds their folders even at the first build.
    fn fetch(&self) -> Result<()> {
        let mut command = cargo();
        command
            .current_dir(&self.workspace)
            .args(["fetch", "--quiet", "--target", TARGET, "--manifest-path"])
            .arg(&self.manifest);
        run(command).with_context(|| format!("failed to fetch what {} depends on", self.name)).map(drop)
    }

    fn made(&self, message: &CargoMessage) -> bool {
        message.reason == "compiler-artifact"
            && message.package_id == self.id
            && message.target.as_ref().is_some_and(Target::is_library)
    }

    /// Returns the compiler's flags, which replace those of the environment. They hide the folders of the sources on this
    /// machine, which would otherwise be in the component, in the texts of panics.
    fn flags(&self, toolchain: &Toolchain) -> OsString {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
        let registries = home.iter().filter_map(|home| fs::read_dir(home.join("registry/src")).ok()).flatten().flatten();
        // If several flags fit a path, the last one counts.
        let general = [(self.workspace.clone(), "/rule"), (toolchain.sources(), "/rust")].into_iter();
        let hidden = home.iter().map(|home| (home.clone(), "/cargo")).chain(general);
        let mut flags = OsString::new();
        for (from, to) in hidden.chain(registries.map(|registry| (registry.path(), "/crates"))) {
            flags.push(if flags.is_empty() { "--remap-path-prefix=" } else { "\x1f--remap-path-prefix=" });
            flags.push(from);
            flags.push("=");
            flags.push(to);
        }
        flags
    }
}

/// Returns the cargo that started this program, or otherwise the one on the path.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs `command` and returns its standard output. Its standard error is that of this process.
fn run(mut command: Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("failed to start cargo; it comes with Rust, from https://rustup.rs")?;
    ensure!(output.status.success(), "cargo failed ({})", output.status);
    Ok(output.stdout)
}
