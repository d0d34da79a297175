//! `weir rules`: asks the admin interface of a running `weir run` for its rules, and requests changes of them.
//!
//! [`mod@client`] sends requests, and [`show`] makes text of the answers. Nothing is decided here: the running process decides
//! what is proven, refused or taken back.

mod client;
mod show;

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::{self, ConfigFile, Interface, RulesCommand, RulesShadow};
use crate::config::{self, InvalidConfig, Salvaged};
use crate::progress::Progress;
use client::{Client, Reply};
use weir_admin::Settings;
use weir_control::report::{Change, Deployed, Entry, ShadowReport, Status};
use weir_system::shutdown::Shutdown;
use weir_wasm::definition;

/// The most components in one request: more than any pipeline has, and few enough to be held in memory.
const MAX_FILES: usize = 64;
/// The interval at which the state of a candidate is requested.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The interval between lines of progress where a line can't be overwritten.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// If the request is refused, if its set is not live yet, if no admin interface answers, or if a file can't be read.
pub fn rules(command: &RulesCommand) -> anyhow::Result<()> {
    match command {
        RulesCommand::Status(args) => look::<Status>(&args.interface, "", &[], show::status),
        RulesCommand::History(args) => look::<Vec<Entry>>(&args.interface, "/history", &[], |history| show::history(history)),
        RulesCommand::Diff(args) => {
            let sets = [("a", args.a.as_str()), ("b", args.b.as_str())];
            look::<Vec<Change>>(&args.interface, "/diff", &sets, |changes| show::changes(changes))
        }
        RulesCommand::Deploy(args) => {
            let files = files(&args.files)?;
            change(&args.interface, "/deploy", &json!({"files": files, "dry_run": args.dry_run}))
        }
        RulesCommand::Rollback(args) => change(&args.interface, "/rollback", &json!({"hash": args.hash})),
        RulesCommand::Resume(args) => change(&args.interface, "/resume", &json!({})),
        RulesCommand::Promote(args) => change(&args.interface, "/promote", &json!({})),
        RulesCommand::Shadow(args) if args.report => look::<ShadowReport>(&args.interface, "/shadow", &[], show::shadow),
        RulesCommand::Shadow(args) if args.end => {
            let ended = client(&args.interface)?.post::<ShadowReport>("/shadow/end", &json!({}))?;
            print(&args.interface, &ended, show::shadow)
        }
        RulesCommand::Shadow(args) => shadow(args),
    }
}

fn client(interface: &Interface) -> anyhow::Result<Client> {
    let named = interface.admin.as_deref();
    match interface.file.load() {
        Ok(config) => Client::new(named, &config.admin),
        Err(error) => client_without(named, &interface.file, error),
    }
}

/// Returns a client although the configuration can't be used. In that state an operator may need to change rules.
fn client_without(named: Option<&str>, file: &ConfigFile, error: InvalidConfig) -> anyhow::Result<Client> {
    let file = config::locate(file.config.as_deref());
    let Salvaged { listen, token } = config::salvage(file.as_deref(), |name| env::var(name).ok());
    let Some(address) = named.or(listen.as_deref()) else {
        return Err(
            anyhow::Error::new(error).context("failed to find the admin interface: give its address by --admin HOST:PORT")
        );
    };
    // A failed write is ignored: standard error may be closed.
    let _ = writeln!(io::stderr(), "warning: {error}; {address} is asked all the same");
    Client::new(Some(address), &Settings { listen: None, token })
}

fn look<T: DeserializeOwned>(
    interface: &Interface,
    path: &str,
    query: &[(&str, &str)],
    show: impl Fn(&T) -> String,
) -> anyhow::Result<()> {
    print(interface, &client(interface)?.get(path, query)?, show)
}

fn change(interface: &Interface, path: &str, body: &Value) -> anyhow::Result<()> {
    let answer = client(interface)?.post::<Deployed>(path, body)?;
    print(interface, &answer, show::deployed)?;
    ensure!(!answer.content.waiting, "it is not live yet; `weir rules status` tells when it is");
    Ok(())
}

fn print<T>(interface: &Interface, answer: &Reply<T>, show: impl Fn(&T) -> String) -> anyhow::Result<()> {
    cli::print(&if interface.json { format!("{}\n", answer.json) } else { show(&answer.content) })
}

/// Starts a candidate, watches it, shows its report, and ends it unless it is to be kept.
fn shadow(args: &RulesShadow) -> anyhow::Result<()> {
    let client = client(&args.interface)?;
    let files = files(&args.files)?;
    // From here on Ctrl-C ends the candidate too, not only this process.
    let shutdown = Shutdown::default();
    shutdown.request_on_signals()?;
    let started = client.post::<ShadowReport>("/shadow", &json!({"files": files}))?.content;
    let last = watch(&client, &started, args.seconds, &shutdown)?;
    let report = if args.keep { last } else { client.post("/shadow/end", &json!({}))? };
    print(&args.interface, &report, show::shadow)
}

/// Watches a candidate until its time is over, or until a signal comes. Returns its last report.
fn watch(
    client: &Client,
    started: &ShadowReport,
    seconds: Option<u32>,
    shutdown: &Shutdown,
) -> anyhow::Result<Reply<ShadowReport>> {
    let begun = Instant::now();
    let time = seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let mut progress = Progress::overwritten(TELL_EVERY);
    loop {
        let rest = time.map_or(ASK_EVERY, |time| time.saturating_sub(begun.elapsed()).min(ASK_EVERY));
        let go_on = shutdown.wait(rest);
        let now = client.get::<ShadowReport>("/shadow", &[]);
        let now = now.context("lost sight of the candidate; `weir rules status` tells whether it still runs")?;
        let same = (&now.content.candidate.hash, now.content.since) == (&started.candidate.hash, started.since);
        ensure!(same, "another candidate has taken its place");
        if !go_on || time.is_some_and(|time| begun.elapsed() >= time) {
            return Ok(now);
        }
        progress.show(|_| show::progress(&now.content));
    }
}

/// Returns the components of files and folders in the form that the admin interface accepts.
fn files(named: &[PathBuf]) -> anyhow::Result<Vec<Value>> {
    let found = definition::files(named)?;
    ensure!(found.len() <= MAX_FILES, "failed to take {} files: at most {MAX_FILES} can be handed in at once", found.len());
    found.iter().map(|file| Ok(json!({"rule": stem(file)?, "wasm": BASE64_STANDARD.encode(definition::read(file)?)}))).collect()
}

/// Returns the name of the rule that a file contains.
fn stem(file: &Path) -> anyhow::Result<&str> {
    let stem = file.file_stem().and_then(|stem| stem.to_str());
    stem.with_context(|| format!("the name of {} is no name for a rule", file.display()))
}
