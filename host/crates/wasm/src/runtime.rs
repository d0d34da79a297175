//! Compiles components, and checks that they are rules.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::error::Context as _;
use wasmtime::{Engine, EngineWeak};

use super::bindings::{Rule, RulePre};
use super::cache::Cache;
use super::compiler::Compiler;
use super::engine::{MAX_COMPONENT_BYTES, engine_config};
use super::guest::Guest;
use weir_core::printable::escape_line;

/// The period of the clock with which deadlines are measured.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// The step to which stack depths are rounded up, in bytes. It keeps the number of engines small.
const STACK_STEP: usize = 64 << 10;
/// The longest part of a refused import's name, or of its version, that a message repeats, in bytes.
const MAX_IMPORT_BYTES: usize = 256;
/// The imports that a component may have: the log, and the types of the contract, which contain nothing to call.
const OFFERED: [&str; 2] = ["weir:rule/log", "weir:rule/types"];
/// The version of the contract `wit/rule.wit`. All versions that begin with `COMPATIBLE` are compatible with it.
pub const CONTRACT: &str = "0.1.0";
const COMPATIBLE: &str = "0.1.";

/// The meaning of an import's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Import<'a> {
    /// An import that the host offers, with its version, which is compatible with ours.
    Offered(&'a str),
    /// An import that the host does not offer.
    Refused,
}

/// Looks up an import by its name, such as `weir:rule/log@0.1.0`.
///
/// # Errors
/// If the import belongs to an incompatible version of the contract. The message names both versions.
pub fn import(name: &str) -> Result<Import<'_>, String> {
    let Some((_, version)) = name.split_once('@').filter(|(name, _)| OFFERED.contains(name)) else {
        return Ok(Import::Refused);
    };
    if version.starts_with(COMPATIBLE) {
        return Ok(Import::Offered(version));
    }
    let version = &version[..version.floor_char_boundary(MAX_IMPORT_BYTES)];
    Err(format!(
        "it is built for version {version} of the contract, and this is version {CONTRACT}; build it with a `weir-rule` of a \
         compatible version"
    ))
}

/// The compiler and linker of components. Clones share the engines.
#[derive(Clone)]
pub struct Runtime {
    /// One engine per stack depth, because wasmtime sets the depth for a whole engine. All engines produce the same machine code.
    engines: Arc<Mutex<Vec<Linked>>>,
    ticking: Ticking,
    cache: Option<Cache>,
    compiler: Compiler,
}

/// An engine for stacks of one depth, with the linker for its components.
#[derive(Clone)]
struct Linked {
    stack: usize,
    engine: Engine,
    linker: Linker<Guest>,
}

/// The engines whose epochs advance.
type Ticking = Arc<Mutex<Vec<EngineWeak>>>;

/// A compiled component that is known to be a rule. Clones share the machine code.
#[derive(Clone)]
pub struct Component {
    pub(super) engine: Engine,
    pub(super) pre: RulePre<Guest>,
    /// SHA-256 of the component's bytes.
    pub digest: [u8; 32],
}

impl Runtime {
    /// Creates a runtime that looks for compiled components in `cache` and stores them there.
    ///
    /// # Errors
    /// If the thread that advances the clock of the deadlines can't be started.
    pub fn new(cache: Option<Cache>) -> anyhow::Result<Runtime> {
        let ticking = Ticking::default();
        tick(ticking.clone()).context("failed to start the clock of the deadlines")?;
        Ok(Runtime { engines: Arc::default(), ticking, cache, compiler: Compiler::Here })
    }

    /// Returns this runtime, changed to compile with `compiler`.
    pub fn with_compiler(self, compiler: Compiler) -> Runtime {
        Runtime { compiler, ..self }
    }

    /// Returns the engine for stacks of `stack` bytes. Creates it if there is none yet.
    fn linked(&self, stack: usize) -> anyhow::Result<Linked> {
        let stack = stack.max(1).next_multiple_of(STACK_STEP);
        let mut engines = self.engines.lock();
        if let Some(known) = engines.iter().find(|known| known.stack == stack) {
            return Ok(known.clone());
        }
        let mut config = engine_config();
        config.max_wasm_stack(stack);
        let engine = Engine::new(&config).context("failed to set up wasmtime")?;
        let mut linker = Linker::new(&engine);
        Rule::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).context("failed to link the contract's imports")?;
        self.ticking.lock().push(engine.weak());
        let linked = Linked { stack, engine, linker };
        engines.push(linked.clone());
        Ok(linked)
    }

    /// Compiles the bytes of a component and checks that it is a rule. The stack of the rule may get `stack` bytes deep.
    ///
    /// # Errors
    /// If the bytes are no component, or if the component imports anything but `log` or lacks an export. The message says which.
    pub fn load(&self, bytes: &[u8], stack: usize) -> anyhow::Result<Component> {
        check_bytes(bytes)?;
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let Linked { engine, linker, .. } = self.linked(stack)?;
        let component = self.compile(&engine, bytes, &digest)?;
        for (import, item) in component.component_type().imports(&engine) {
            let offered = matches!(self::import(import).map_err(anyhow::Error::msg)?, Import::Offered(_));
            let known = offered && matches!(item.ty, ComponentItem::ComponentInstance(_));
            // An import's name that begins with `url=` may contain almost any text.
            let (import, log) = (escape_line(&import[..import.floor_char_boundary(MAX_IMPORT_BYTES)]), OFFERED[0]);
            ensure!(known, "it imports `{import}`, and a rule may import nothing but `{log}@{CONTRACT}`; remove what needs it");
        }
        let pre = linker.instantiate_pre(&component).context("its import `log` is not that of the contract wit/rule.wit")?;
        let pre =
            RulePre::new(pre).context("it is no rule: it must export `configure` and `evaluate` as wit/rule.wit has them")?;
        Ok(Component { engine, pre, digest })
    }

    fn compile(&self, engine: &Engine, bytes: &[u8], digest: &[u8; 32]) -> anyhow::Result<wasmtime::component::Component> {
        let compile = || self.compiler.compile(engine, bytes);
        let load = |compiled: &[u8]| {
            // SAFETY: these are exactly the bytes that the compiler has written. They come from the compiler directly, or from
            // the cache. The cache has checked their digest, and that its folder belongs to this user alone. The cache's key
            // covers the component's bytes and everything that shapes compiled code.
            unsafe { wasmtime::component::Component::deserialize(engine, compiled) }.context("failed to load machine code")
        };
        let Some(cache) = &self.cache else { return Ok(load(&compile()?)?) };
        let key = cache_key(engine, digest);
        if let Some(compiled) = cache.find(&key) {
            match load(&compiled) {
                Ok(component) => return Ok(component),
                Err(error) => tracing::debug!("compiling anew what the cache can't give: {error:#}"),
            }
        }
        let compiled = compile()?;
        if let Err(error) = cache.store(&key, &compiled) {
            tracing::debug!("compiled rules are not cached: {error:#}");
        }
        Ok(load(&compiled)?)
    }
}

/// Returns the name of a component in the cache. The name does not depend on the stack depth, because compiled code looks that
/// limit up when it runs.
fn cache_key(engine: &Engine, digest: &[u8; 32]) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.write(digest);
    hex(&hasher.0.finalize())
}

/// Returns `bytes` in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hasher that feeds wasmtime's compatibility hash into SHA-256.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        u64::from_le_bytes(self.0.clone().finalize()[..8].try_into().expect("8 of 32 bytes"))
    }
}

/// Refuses bytes that can be recognized as wrong without compiling them.
fn check_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    let size = bytes.len();
    let max = weir_core::units::size(MAX_COMPONENT_BYTES as u64);
    ensure!(size <= MAX_COMPONENT_BYTES, "it has {size} bytes, and at most {max} are allowed; make it smaller");
    ensure!(size > 0, "it is empty; copy it again, or build it with `weir build`");
    if Engine::detect_precompiled(bytes).is_some() {
        bail!("it is machine code that wasmtime compiled before, which is never trusted; hand in the .wasm component");
    }
    ensure!(bytes.starts_with(b"\0asm"), "it is no WebAssembly: it does not begin with \\0asm; build it with `weir build`");
    ensure!(!bytes.starts_with(CORE_MODULE), "it is a core module and no component; build it with `weir build`");
    Ok(())
}

/// Starts a thread that advances the epochs of all engines. The thread ends when the runtime and the engines are gone.
fn tick(ticking: Ticking) -> std::io::Result<()> {
    let ticker = move || {
        loop {
            let mut engines = ticking.lock();
            engines.retain(|engine| engine.upgrade().inspect(Engine::increment_epoch).is_some());
            if engines.is_empty() && Arc::strong_count(&ticking) == 1 {
                return;
            }
            drop(engines);
            thread::sleep(TICK);
        }
    };
    thread::Builder::new().name("weir-epoch".into()).spawn(ticker).map(|_detached| ())
}
