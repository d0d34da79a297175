//! Apache Kafka in its own processes: one broker or three, which can be killed and started again.
//!
//! Each broker has a listener that clients reach directly, and some behind a [`Proxy`]. A listener behind a proxy advertises the
//! address of the proxy, so all traffic of its clients goes through the proxy. Ports are chosen below those that the kernel hands
//! out, so that no other process takes the port of a broker that is down.
//!
//! A broker never outlives the tests. It is started by a shell that waits for the end of a pipe, kills the broker by its id, and
//! removes its folder. This works even if the tests are killed.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::kafka::settings;
use crate::program::{show_last, within};
use crate::proxy::Proxy;

/// The time that brokers may take to start or to answer, on a busy machine.
const STARTING: Duration = Duration::from_secs(90);
/// The time that a broker may take to answer a request.
const ANSWER: Duration = Duration::from_secs(10);
/// The ports of brokers: below Linux's `ip_local_port_range`, from which the kernel takes the ports of outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;
/// The number of proxies that the shared broker has room for.
const SHARED_PROXIES: usize = 16;
/// Kafka's scripts that the documentation tells operators to run, and the class that each of them starts.
const SCRIPTS: [(&str, &str); 2] = [
    ("kafka-consumer-groups.sh", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand"),
];
/// Sixteen bytes in Kafka's notation.
const CLUSTER_ID: &str = "V2VpckZhdWx0c1Rlc3RzMQ";

/// Formats the folder unless this is done already, starts the broker, and waits. A line on the pipe kills the broker. The end of
/// the pipe kills the broker and removes its folder.
const SHELL: &str = r#"
cd "$1"; classpath=$2
[ -e data/meta.properties ] ||
  java -XX:TieredStopAtLevel=1 -cp "$classpath" kafka.tools.StorageTool format -t "$3" -c server.properties </dev/null >&2 || exit 1
java -Xms128m -Xmx384m -XX:+UseSerialGC -cp "$classpath" -Dlog4j2.configurationFile=log4j2.properties kafka.Kafka server.properties \
  </dev/null >&2 &
broker=$!
read -r _ || gone=1
kill -KILL "$broker"
wait
[ -z "${gone-}" ] || { rm -rf "$1"; rmdir "${1%/*}" 2>/dev/null; }
"#;

const LOGGING: &str = "\
appender.err.type = Console
appender.err.name = err
appender.err.target = SYSTEM_ERR
appender.err.layout.type = PatternLayout
appender.err.layout.pattern = %d %-5p %c{1} %m%n
rootLogger.level = info
rootLogger.appenderRef.err.ref = err
";

/// The properties of a cluster.
pub struct Shape<'a> {
    pub brokers: usize,
    /// The largest number of proxies.
    pub proxies: usize,
    /// Additional settings of brokers.
    pub settings: &'a [(&'a str, &'a str)],
    /// Additional listeners: the name, the protocol and the address of each.
    pub listeners: &'a [(&'a str, &'a str, SocketAddr)],
}

pub struct Cluster {
    nodes: Vec<Mutex<Node>>,
    proxies: Vec<Proxy>,
    taken: AtomicUsize,
    folder: PathBuf,
}

struct Node {
    folder: PathBuf,
    address: SocketAddr,
    /// The shell around the broker, while it runs.
    shell: Option<Child>,
}

impl Node {
    fn show_groups(&self) {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<String> = log.lines().filter(|line| line.contains("[GroupCoordinator")).map(str::to_owned).collect();
        show_last(format_args!("of groups, the broker at {}", self.address), &lines);
    }
}

/// Returns the single broker that tests share. It lives as long as the process.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&Shape { brokers: 1, proxies: SHARED_PROXIES, settings: &[], listeners: &[] }))
}

impl Cluster {
    pub fn start(shape: &Shape<'_>) -> Cluster {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let name = format!("kafka-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let voters: Vec<SocketAddr> = (0..shape.brokers).map(|_| port()).collect();
        // For each proxy the addresses at which the brokers listen for it.
        let behind: Vec<Vec<SocketAddr>> = (0..shape.proxies).map(|_| (0..shape.brokers).map(|_| port()).collect()).collect();
        let proxies: Vec<Proxy> = behind.iter().map(|brokers| Proxy::start(brokers)).collect();
        let mut nodes = Vec::new();
        for index in 0..shape.brokers {
            let folder = folder.join(format!("broker-{}", index + 1));
            fs::create_dir_all(&folder).unwrap();
            let address = port();
            let listeners: Vec<(SocketAddr, SocketAddr)> =
                behind.iter().zip(&proxies).map(|(brokers, proxy)| (brokers[index], proxy.fronts()[index])).collect();
            fs::write(folder.join("server.properties"), properties(shape, index, address, &voters, &listeners)).unwrap();
            fs::write(folder.join("log4j2.properties"), LOGGING).unwrap();
            nodes.push(Mutex::new(Node { folder, address, shell: None }));
        }
        let cluster = Cluster { nodes, proxies, taken: AtomicUsize::new(0), folder };
        (0..shape.brokers).for_each(|index| cluster.launch(index));
        cluster.await_all();
        cluster
    }

    /// Returns the bootstrap addresses of the brokers, without a proxy.
    pub fn address(&self) -> String {
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.lock().unwrap().address.to_string()).collect();
        addresses.join(",")
    }

    pub fn brokers(&self) -> usize {
        self.nodes.len()
    }

    /// Returns a proxy in front of the brokers that no other caller has.
    pub fn proxy(&self) -> &Proxy {
        let index = self.taken.fetch_add(1, Ordering::Relaxed);
        self.proxies.get(index).expect("there is room for another proxy: raise it in the cluster's shape")
    }

    /// Kills the broker of this index, as a power cut does.
    pub fn kill(&self, index: usize) {
        let mut node = self.nodes[index].lock().unwrap();
        let mut shell = node.shell.take().expect("it runs");
        shell.stdin.take().unwrap().write_all(b"\n").unwrap();
        shell.wait().unwrap();
    }

    /// Starts the broker of this index again, and does not wait for it.
    fn launch(&self, index: usize) {
        let mut node = self.nodes[index].lock().unwrap();
        assert!(node.shell.is_none(), "it was killed before");
        let log = File::options().create(true).append(true).open(node.folder.join("log")).unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", SHELL, "broker"]).arg(&node.folder).arg(classpath()).arg(CLUSTER_ID);
        node.shell = Some(shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Starts the brokers that are dead, and waits until all brokers and replicas are available again.
    pub fn revive(&self) {
        let dead = |index: &usize| self.nodes[*index].lock().unwrap().shell.is_none();
        (0..self.brokers()).filter(dead).for_each(|index| self.launch(index));
        self.await_all();
    }

    /// Waits until every broker is available and every partition has all its replicas.
    fn await_all(&self) {
        let client: BaseConsumer = settings(&self.address()).create().unwrap();
        within(STARTING, format_args!("all brokers of {} are up", self.folder.display()), || {
            let metadata = client.fetch_metadata(None, Duration::from_secs(2)).ok()?;
            let whole = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
                .all(|partition| partition.leader() >= 0 && partition.isr().len() == partition.replicas().len());
            (metadata.brokers().len() == self.brokers() && whole).then_some(())
        });
    }

    /// Returns the index of the broker that coordinates the group, or the transactions, of this name.
    pub fn coordinator(&self, internal: &str, name: &str) -> usize {
        let client: BaseConsumer = settings(&self.address()).create().unwrap();
        within(STARTING, format_args!("{internal} has a leader"), || {
            let metadata = client.fetch_metadata(Some(internal), ANSWER).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let index = java_hash(name).unsigned_abs() as usize % partitions.len().max(1);
            let leader = partitions.iter().find(|partition| partition.id() as usize == index)?.leader();
            usize::try_from(leader - 1).ok()
        })
    }

    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(self.brokers() as i32));
        let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
        let results = block_on(self.admin().create_topics([&new], &options())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
    }

    /// Deletes a topic, and waits until the brokers' metadata no longer lists it: the controller answers before that.
    pub fn delete_topic(&self, name: &str) {
        let admin = self.admin();
        let results = block_on(admin.delete_topics(&[name], &options())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
        within(STARTING, format_args!("{name} is deleted"), || {
            let metadata = admin.inner().fetch_metadata(None, ANSWER).ok()?;
            metadata.topics().iter().all(|topic| topic.name() != name).then_some(())
        });
    }

    /// Raises the number of partitions of the topic to `count`.
    pub fn add_partitions(&self, name: &str, count: usize) {
        let new = NewPartitions::new(name, count);
        let results = block_on(self.admin().create_partitions([&new], &options())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
    }

    /// Deletes all records of a partition before `offset`, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut before = rdkafka::TopicPartitionList::new();
        before.add_partition_offset(topic, partition, rdkafka::Offset::Offset(offset)).unwrap();
        let deleted = block_on(self.admin().delete_records(&before, &options())).unwrap();
        deleted.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Runs a class of Kafka's command line tools.
    pub fn tool(&self, class: &str, arguments: &[&str]) {
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-cp"]).arg(classpath()).arg(class);
        let ended = java.args(["--bootstrap-server", &self.address()]).args(arguments).output().unwrap();
        assert!(ended.status.success(), "{class}: {}", String::from_utf8_lossy(&ended.stderr));
    }

    /// Runs a command line as an operator does who copies it: in a shell that finds Kafka's scripts. Returns the output of the
    /// command.
    pub fn shell(&self, line: &str) -> String {
        // A broker's folder is removed with the broker, also that of the shared cluster.
        let scripts = self.nodes[0].lock().unwrap().folder.join("scripts");
        fs::create_dir_all(&scripts).unwrap();
        for (script, class) in SCRIPTS {
            let text = format!("#!/bin/sh\nexec java -XX:TieredStopAtLevel=1 -cp '{}' {class} \"$@\"\n", classpath());
            // Several tests may do this at a time: the rename makes sure that no test runs a script that is half written.
            let new = scripts.join(format!("{script}.{:?}", std::thread::current().id()));
            fs::write(&new, text).unwrap();
            fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
            fs::rename(&new, scripts.join(script)).unwrap();
        }
        let path = format!("{}:{}", scripts.display(), std::env::var("PATH").unwrap());
        let ended = Command::new("sh").args(["-c", line]).current_dir(&self.folder).env("PATH", path).output().unwrap();
        let written = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        // Some of Kafka's tools exit with 0 though they have failed.
        assert!(ended.status.success() && !written.contains("Error: "), "{line}: {written}");
        written
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        settings(&self.address()).create().unwrap()
    }
}

impl Drop for Cluster {
    /// After a failed test shows the brokers' last log lines about groups: the log files, the only trace of them, are removed.
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let node = node.get_mut().unwrap();
            if thread::panicking() {
                node.show_groups();
            }
            if let Some(mut shell) = node.shell.take() {
                drop(shell.stdin.take());
                // A failure cannot be reported to a caller here.
                let _ = shell.wait();
            }
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn properties(
    shape: &Shape<'_>,
    index: usize,
    address: SocketAddr,
    voters: &[SocketAddr],
    behind: &[(SocketAddr, SocketAddr)],
) -> String {
    let controller = voters[index];
    let named = |pick: fn(&(SocketAddr, SocketAddr)) -> SocketAddr| -> String {
        behind.iter().enumerate().map(|(number, pair)| format!(",PROXIED{number}://{}", pick(pair))).collect()
    };
    let (listening, advertised) = (named(|(listens, _)| *listens), named(|(_, front)| *front));
    let protocols: String = (0..behind.len()).map(|number| format!(",PROXIED{number}:PLAINTEXT")).collect();
    let quorum: Vec<String> = voters.iter().enumerate().map(|(index, voter)| format!("{}@{voter}", index + 1)).collect();
    let (replicas, insync) = (shape.brokers, shape.brokers.div_ceil(2));
    let own = |name: &str, address: &SocketAddr| format!(",{name}://localhost:{}", address.port());
    let own: String = shape.listeners.iter().map(|(name, _, address)| own(name, address)).collect();
    let (listening, advertised) = (listening + &own, advertised + &own);
    let spoken: String = shape.listeners.iter().map(|(name, protocol, _)| format!(",{name}:{protocol}")).collect();
    let protocols = protocols + &spoken;
    let more: String = shape.settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    format!(
        "\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={quorum}
controller.listener.names=CONTROLLER
inter.broker.listener.name=DIRECT
listeners=DIRECT://{address},CONTROLLER://{controller}{listening}
advertised.listeners=DIRECT://{address}{advertised}
listener.security.protocol.map=DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs=data
num.network.threads=1
num.io.threads=4
auto.create.topics.enable=false
min.insync.replicas={insync}
offsets.topic.num.partitions=3
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=3
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={insync}
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={insync}
# Quick where the defaults are for large clusters.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
replica.lag.time.max.ms=5000
log.segment.bytes=16777216
# What tests write with old timestamps is not to go with the first look at what is too old.
log.retention.ms=-1
log.cleaner.dedupe.buffer.size=4194304
{more}",
        id = index + 1,
        quorum = quorum.join(","),
    )
}

/// Returns a free port on loopback that was not given out before.
pub fn port() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = fastrand::u16(PORTS);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() && GIVEN.lock().unwrap().insert(port) {
            return address;
        }
    }
}

/// Returns the class path of all jars that `scripts/kafka` has fetched.
fn classpath() -> String {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let version = fs::read_dir(target.join("kafka")).ok().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let jars = version.filter(|folder| folder.extension().is_none_or(|extension| extension != "part")).max();
    let jars = jars.unwrap_or_else(|| panic!("Apache Kafka is not in {}: run `make test-kafka`", target.display()));
    format!("{}/*", jars.display())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER))
}

fn block_on<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(answer)
}

/// Computes Java's `String.hashCode`, by which a broker spreads groups and transactional ids over the partitions of its internal
/// topics.
fn java_hash(text: &str) -> i32 {
    // Kafka's `Utils.abs` clears the sign bit instead of negating the number.
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit))) & i32::MAX
}
