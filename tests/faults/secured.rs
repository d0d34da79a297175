//! Brokers that want TLS, a password or permissions, and servers that are no brokers: each failure has its own error message.
//!
//! Certificates are made anew by `openssl` for each run. For tests of the handshake alone, `openssl s_server` takes the place of
//! a broker.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::cluster::{Cluster, Shape, port};
use crate::program::{Weir, within};
use crate::weir::{Job, SETTLING};

/// The password of all principals. It must never be shown.
const PASSWORD: &str = "hunter2-of-the-tests";
/// The guide with the commands that operators are told to run.
const GUIDE: &str = include_str!("../../docs/security.md");

/// Starts a broker with an authorizer. The tests, who are anonymous, may do anything; principals who log in may do nothing.
/// Returns the address for logging in as well.
fn guarded() -> (Cluster, String) {
    let sasl = port();
    let users = ["weir", "auditor", "simulator"].map(|user| format!("user_{user}=\"{PASSWORD}\"")).join(" ");
    let login = format!("org.apache.kafka.common.security.plain.PlainLoginModule required {users};");
    let settings = [
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("super.users", "User:ANONYMOUS"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("listener.name.sasl.plain.sasl.jaas.config", login.as_str()),
    ];
    let shape = Shape { brokers: 1, proxies: 0, settings: &settings, listeners: &[("SASL", "SASL_PLAINTEXT", sasl)] };
    (Cluster::start(&shape), format!("localhost:{}", sasl.port()))
}

/// Starts a broker with three listeners: one with TLS, one with a password, and one with neither. Returns the addresses of the
/// first two.
fn encrypted(folder: &Path) -> (Cluster, SocketAddr, SocketAddr) {
    let (tls, sasl) = (port(), port());
    let keystore = folder.join("good.keystore.pem").display().to_string();
    let settings = [
        ("listener.name.tls.ssl.keystore.type", "PEM"),
        ("listener.name.tls.ssl.keystore.location", keystore.as_str()),
        ("sasl.enabled.mechanisms", "PLAIN"),
        (
            "listener.name.sasl.plain.sasl.jaas.config",
            "org.apache.kafka.common.security.plain.PlainLoginModule required user_weir=\"x\";",
        ),
    ];
    let listeners = [("TLS", "SSL", tls), ("SASL", "SASL_PLAINTEXT", sasl)];
    (Cluster::start(&Shape { brokers: 1, proxies: 0, settings: &settings, listeners: &listeners }), tls, sasl)
}

/// Returns the ACL commands of the guide for `principal`, with the topics and the group of `job`.
fn commands(job: &Job, principal: &str) -> Vec<String> {
    let all = GUIDE.lines().filter(|line| line.starts_with("kafka-acls.sh") && !line.contains("CREATE"));
    let own = all.filter(|line| line.contains(&format!("User:{principal} ")));
    let names = [("user-login-rejected", "rejected"), ("processed-user-login", "out"), ("device_type_count", "counts")];
    own.map(|line| {
        let mut line = line.replace("localhost:9092", job.brokers());
        for (name, kind) in names {
            line = line.replace(&format!("--topic {name}"), &format!("--topic {}", job.topic(kind)));
        }
        line = line.replace("--topic user-login", &format!("--topic {}", job.topic("in")));
        line = line.replace("--group weir", &format!("--group {}", job.group()));
        line.replace("--transactional-id weir-", &format!("--transactional-id {}-", job.group()))
    })
    .collect()
}

/// Configures `job` to log in as `principal`.
fn logged_in(job: Job, principal: &str) -> Job {
    job.with("kafka.properties.security.protocol", "SASL_PLAINTEXT")
        .with("kafka.properties.sasl.mechanism", "PLAIN")
        .with("kafka.properties.sasl.username", principal)
        .with("kafka.properties.sasl.password", PASSWORD)
}

/// Returns the line of `lines` with the error that ended the process.
fn error(lines: &[String]) -> &str {
    assert!(!lines.iter().any(|line| line.contains(PASSWORD)), "the password is shown: {lines:#?}");
    lines.iter().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{lines:#?}"))
}

fn assert_says(lines: &[String], words: &[&str]) {
    let error = error(lines);
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in {error}"));
}

#[test]
fn the_documented_permissions_are_enough_and_each_is_needed() {
    let (cluster, sasl) = &guarded();
    let job = logged_in(Job::create(cluster, "granted"), "weir");
    job.load(30, 2_000, 300).finish();
    let grants = commands(&job, "weir");
    let (grants, recommended) = grants.split_at_checked(4).unwrap_or_else(|| panic!("{grants:#?}"));
    assert!(matches!(recommended, [only] if only.contains("DescribeConfigs")), "{recommended:#?}");
    grants.iter().for_each(|grant| drop(cluster.shell(grant)));
    job.work_off(job.engine_by(sasl, "a"));
    let id = format!("take up the transactional id ({})", job.transactional_id("a"));
    let missing = [
        &["READ on topic granted-in"][..],
        &["WRITE on topic granted-out"],
        &["READ on the group", "group granted"],
        &["WRITE on the transactional id", &id],
    ];
    for (grant, words) in grants.iter().zip(missing) {
        cluster.shell(&grant.replace(" --add ", " --remove --force "));
        let ended = job.engine_by(sasl, "a").end();
        assert_eq!(ended.code, Some(1), "{grant}: {:#?}", ended.lines);
        assert_says(&ended.lines, &[words, &["docs/security.md", "AUTHORIZATION_FAILED"]].concat());
        cluster.shell(grant);
    }
    recommended.iter().for_each(|grant| drop(cluster.shell(grant)));
    let job = logged_in(job, "auditor");
    let grants = commands(&job, "auditor");
    assert_eq!(grants.len(), 2, "{grants:#?}");
    cluster.shell(&grants[0]);
    // Permission to read the group's offsets is still missing.
    let ended = finished(job.command_by(sasl, "verify", &[]));
    assert_says(&ended.lines, &["DESCRIBE on group granted", "docs/security.md", "GROUP_AUTHORIZATION_FAILED"]);
    cluster.shell(&grants[1]);
    let ended = finished(job.command_by(sasl, "verify", &[]));
    assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
    assert!(!ended.lines.iter().any(|line| line.contains("not judged")), "{:#?}", ended.lines);
    cluster.shell(&grants[0].replace(" --add ", " --remove --force ").replace(" --operation READ", ""));
    let ended = finished(job.command_by(sasl, "verify", &[]));
    let untold = "counts add up; not judged: whether topics are compacted";
    assert!(ended.lines.iter().any(|line| line.ends_with(untold)), "{:#?}", ended.lines);
    let job = logged_in(job, "simulator");
    let ended = finished(job.command_by(sasl, "simulate --count 5 --rate 0", &[]));
    assert_says(&ended.lines, &["WRITE on topic granted-in", "docs/security.md"]);
    commands(&job, "simulator").iter().for_each(|grant| drop(cluster.shell(grant)));
    let ended = finished(job.command_by(sasl, "simulate --count 5 --rate 0", &[]));
    assert_eq!(ended.code, Some(0), "{:#?}", ended.lines);
}

/// Waits until the process ends by itself.
fn finished(mut weir: Weir) -> crate::program::Ended {
    within(SETTLING, "it ends", || (!weir.is_running()).then_some(()));
    weir.end()
}

/// Returns a folder of certificates that `openssl` makes.
fn certificates() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
set -e
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out "$1.key"; }
for ca in ca foreign; do key $ca; openssl req -x509 -new -key $ca.key -out $ca.pem -days 2 -subj /CN=$ca; done
leaf() {
  key "$1"; openssl req -new -key "$1.key" -out "$1.csr" -subj "/CN=$2"; printf 'subjectAltName=DNS:%s' "$2" > ext
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$3" -extfile ext -out "$1.pem"
}
leaf good localhost 2; leaf expired localhost -1; leaf other elsewhere.example 2
cat good.key good.pem > good.keystore.pem
"#;
    let made = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
}

/// An `openssl s_server` on its own port. It is killed when this value is dropped.
struct Server(Child, SocketAddr);

impl Server {
    fn start(folder: &Path, certificate: &str, more: &[&str]) -> Server {
        let address = port();
        let mut server = Command::new("openssl");
        server.args(["s_server", "-accept", &address.to_string(), "-quiet"]).args(more).current_dir(folder);
        server.args(["-cert", &format!("{certificate}.pem"), "-key", &format!("{certificate}.key")]);
        let child = server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Server(child, address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The server may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a web server that gives the same answer to any request.
fn web() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 256]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn each_trouble_of_connecting_has_words_of_its_own_in_every_command() {
    let folder = certificates();
    let certificate = |name: &str| folder.path().join(name).display().to_string();
    let ca = certificate("ca.pem");
    let tls = [("WEIR_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "SSL"), ("WEIR_KAFKA_PROPERTIES_SSL_CA_LOCATION", ca.as_str())];
    let foreign_ca = certificate("foreign.pem");
    let foreign = [tls[0], ("WEIR_KAFKA_PROPERTIES_SSL_CA_LOCATION", foreign_ca.as_str())];
    let expired = Server::start(folder.path(), "expired", &[]);
    let other = Server::start(folder.path(), "other", &[]);
    let good = Server::start(folder.path(), "good", &[]);
    let client = Server::start(folder.path(), "good", &["-Verify", "1", "-CAfile", "ca.pem", "-verify_return_error"]);
    let named = ["-servername", "elsewhere.example", "-servername_fatal", "-cert2", "other.pem", "-key2", "other.key"];
    let unnamed = Server::start(folder.path(), "good", &named);
    let (web, nobody) = (web(), port());
    let (cluster, kafka, sasl) = encrypted(folder.path());
    let at = |address: SocketAddr| format!("localhost:{}", address.port());
    let none: &[(&str, &str)] = &[];
    let login = [
        ("WEIR_KAFKA_PROPERTIES_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("WEIR_KAFKA_PROPERTIES_SASL_MECHANISM", "PLAIN"),
        ("WEIR_KAFKA_PROPERTIES_SASL_USERNAME", "weir"),
        ("WEIR_KAFKA_PROPERTIES_SASL_PASSWORD", PASSWORD),
    ];
    let cases = [
        ("a web server", at(web), none, "no Kafka but a web server"),
        ("TLS is wanted by Kafka", at(kafka), none, "wants TLS"),
        ("TLS is wanted by another", at(good.1), none, "wants TLS"),
        ("a password is wanted", at(sasl), none, "wants SASL"),
        ("no TLS is spoken", cluster.address(), &tls[..], "without backends, or by a listener that speaks no TLS"),
        ("no SASL is spoken", cluster.address(), &login[..], "the listener may speak no SASL"),
        ("another name is asked for", at(unnamed.1), &tls[..], "it knows no host of the name localhost"),
        ("an expired certificate", at(expired.1), &tls[..], "its certificate has expired: have it renewed"),
        (
            "another host's certificate",
            at(other.1),
            &tls[..],
            "its certificate names another host than localhost: take an address",
        ),
        ("a certificate of another CA", at(good.1), &foreign[..], "no CA in `ssl.ca.location` has signed its certificate: "),
        ("a certificate is wanted", at(client.1), &tls[..], "refuses this client's certificate, or misses one"),
        ("nobody is there", at(nobody), none, "Connection refused"),
    ];
    for (what, address, variables, words) in &cases {
        let mut variables = variables.to_vec();
        variables.push(("WEIR_KAFKA_BROKERS", address));
        for command in ["verify --timeout 3", "simulate --count 1", "run"] {
            let mut weir = Weir::start(command, &variables);
            let said = weir_says(&mut weir, words);
            let port = address.rsplit(':').next().unwrap();
            assert!(said.contains(&format!(":{port}")), "{what}, {command}: the address is not in {said}");
            assert!(!said.contains("the log of the topic is damaged"), "{what}, {command}: {said}");
            if command.starts_with("verify") {
                let ended = finished(weir);
                assert_eq!(ended.code, Some(1), "{what}: {:#?}", ended.lines);
                assert_says(&ended.lines, &[words]);
            }
        }
    }
}

/// Waits for a line with `words`, whether the process ends or not.
fn weir_says(weir: &mut Weir, words: &str) -> String {
    within(SETTLING, format_args!("`{words}` is said"), || weir.lines().into_iter().find(|line| line.contains(words)))
}
