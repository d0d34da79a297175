//! A port that accepts connections and never answers, as if another kind of server listened there: each command names the address
//! and the possible causes.

use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use crate::program::{Weir, within};

/// The time that a command may take to report the silence, on a busy machine.
const SEEN: Duration = Duration::from_secs(60);
const SILENCE: &str = "the connection is accepted, and nothing was answered within";

/// A listener that keeps all connections open and writes nothing.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || listener.incoming().flatten().collect::<Vec<_>>());
    address
}

#[test]
fn a_port_that_accepts_and_never_answers_is_named_by_every_command() {
    let address = silent().to_string();
    for protocol in ["PLAINTEXT", "SSL"] {
        let variables = [("WEIR_KAFKA_BROKERS", address.as_str()), ("WEIR_KAFKA_PROPERTIES_SECURITY_PROTOCOL", protocol)];
        let commands = ["verify --timeout 8", "simulate --count 1", "run"];
        let started: Vec<Weir> = commands.iter().map(|command| Weir::start(command, &variables)).collect();
        for (command, mut weir) in commands.iter().zip(started) {
            let line = within(SEEN, format_args!("{command} says that nothing is answered"), || {
                weir.lines().into_iter().find(|line| line.contains(SILENCE))
            });
            assert!(line.contains(&format!("failed to reach kafka at {address}: ")), "{command}, {protocol}: {line}");
            assert!(line.contains("security.protocol"), "{command}, {protocol}: {line}");
            if command.starts_with("verify") {
                within(SEEN, "it ends", || (!weir.is_running()).then_some(()));
                let ended = weir.end();
                assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
                assert!(ended.lines.last().unwrap().starts_with("error: ") && ended.lines.last().unwrap().contains(SILENCE));
            }
        }
    }
}
