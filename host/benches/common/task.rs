//! What a contender is given: an input, a group, topics for its outputs, and an empty folder for its state.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::broker::Broker;
use super::topics;

/// A program that is compared with others.
pub trait Contender: Sync {
    /// The name in errors.
    fn name(&self) -> &str;
    /// The beginning of the names of its groups.
    fn prefix(&self) -> &str;
    /// Returns the command that starts it.
    fn command(&self, task: &Task<'_>) -> anyhow::Result<Command>;
}

/// The input and the group of a process. The names of its output topics begin with the name of the group.
pub struct Task<'a> {
    pub broker: &'a Broker,
    pub input: String,
    pub group: String,
    state: TempDir,
}

impl<'a> Task<'a> {
    pub fn new(broker: &'a Broker, input: &str, group: String) -> anyhow::Result<Task<'a>> {
        let state = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(Task { broker, input: input.to_owned(), group, state })
    }

    /// Returns the topics for outputs, dead letters and counts.
    pub fn outputs(&self) -> [String; 3] {
        ["output", "rejected", "counts"].map(|topic| format!("{}-{topic}", self.group))
    }

    pub fn create_outputs(&self) -> anyhow::Result<()> {
        topics::create(&self.broker.address, &self.outputs().each_ref().map(String::as_str))
    }

    /// Deletes the outputs, so that the disk does not fill with records that are not read any more.
    pub fn delete_outputs(&self) -> anyhow::Result<()> {
        topics::delete(&self.broker.address, &self.outputs().each_ref().map(String::as_str))
    }

    /// Returns the command that starts the real program with this delivery.
    pub fn weir(&self, delivery: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").env("WEIR_KAFKA_DELIVERY", delivery);
        self.tell(&mut command);
        command
    }

    /// Passes the task to `command`, in the variables of Weir's configuration.
    pub fn tell(&self, command: &mut Command) {
        let [output, rejected, counts] = self.outputs();
        command
            .env("WEIR_KAFKA_BROKERS", &self.broker.address)
            .env("WEIR_KAFKA_GROUP", &self.group)
            .env("WEIR_TOPICS_INPUT", &self.input)
            .env("WEIR_TOPICS_OUTPUT", output)
            .env("WEIR_TOPICS_REJECTED", rejected)
            .env("WEIR_TOPICS_COUNTS", counts)
            .env("WEIR_RULES_FOLDER", rules())
            .env("XDG_STATE_HOME", self.state.path())
            .env("WEIR_ADMIN_LISTEN", "127.0.0.1:0")
            // In this folder there is no `weir.toml`, so the settings are the defaults.
            .current_dir(env!("CARGO_TARGET_TMPDIR"));
    }
}

/// Returns the folder of the compiled rules.
pub fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/dist")
}
