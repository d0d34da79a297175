//! An Apache Kafka broker for the length of a benchmark: one node in KRaft mode, on free ports of the loopback interface.
//!
//! Its jars are in the folder of `scripts/kafka`. It keeps its data in a folder that is removed with it. It leaves out
//! replication, and the 3 s that a broker by default waits for more members of a new group. Kafka's own
//! `config/server.properties` leaves them out, too.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::process::{ChildProcess, eventually};
use super::topics;

/// The most memory of the Java heap.
const HEAP: &str = "-Xmx1g";
/// The most time in which the broker has to answer after its start.
const UP: Duration = Duration::from_secs(60);

/// A running broker. It ends when this value is dropped.
pub struct Broker {
    pub process: ChildProcess,
    /// The address for clients.
    pub address: String,
    _folder: TempDir,
}

impl Broker {
    /// Starts a broker and waits until it answers.
    pub fn start() -> anyhow::Result<Broker> {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let (port, controller) = (free_port()?, free_port()?);
        let properties = folder.path().join("server.properties");
        fs::write(&properties, settings(folder.path(), port, controller))?;
        let classpath = jars()?.join("*");
        let id = random_uuid(&classpath)?;
        let formatted = java(&classpath)
            .args(["kafka.tools.StorageTool", "format", "--cluster-id", &id, "--config"])
            .arg(&properties)
            .output()
            .context("failed to run java")?;
        ensure!(formatted.status.success(), "failed to format the storage: {}", String::from_utf8_lossy(&formatted.stderr));
        let mut command = java(&classpath);
        command.arg("kafka.Kafka").arg(&properties);
        let process = ChildProcess::start(command, "broker")?;
        let address = format!("127.0.0.1:{port}");
        let mut broker = Broker { process, address, _folder: folder };
        eventually("the broker answers", UP, &mut broker.process, |_| topics::answers(&broker.address).then_some(()))?;
        Ok(broker)
    }
}

fn settings(folder: &Path, port: u16, controller: u16) -> String {
    let logs = folder.join("data");
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         log.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         group.initial.rebalance.delay.ms=0\nlog.segment.delete.delay.ms=1000\n",
        logs.display()
    )
}

/// Returns the folder with the jars.
fn jars() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kafka");
    let versions = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = versions.filter(|path| path.extension().is_none_or(|part| part != "part")).max();
    found.with_context(|| format!("failed to find Apache Kafka in {}; run `scripts/kafka`", folder.display()))
}

fn java(classpath: &Path) -> Command {
    let mut command = Command::new("java");
    command.args([HEAP, "-Dlog4j2.level=WARN", "-cp"]).arg(classpath);
    command
}

fn random_uuid(classpath: &Path) -> anyhow::Result<String> {
    let output = java(classpath).args(["kafka.tools.StorageTool", "random-uuid"]).stderr(File::open("/dev/null")?).output();
    let id = String::from_utf8(output.context("failed to run java: Apache Kafka needs Java 17 or later")?.stdout)?;
    Ok(id.lines().last().unwrap_or_default().trim().to_owned())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
