//! The interface over real sockets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::snapshot;
use crate::swap::report::{Deployed, Refusal};
use crate::swap::{self, Answer, Asked, Request, SharedStatus};

/// A handle, and what is asked by it. The state folder is empty, and gone when the test is over.
fn handle() -> (Handle, mpsc::Receiver<Asked>, SharedStatus) {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Swap { state: Some(folder.path().to_owned()), ..config::Config::default().swap };
    let (status, store) = (SharedStatus::default(), swap::Store::open(&config, "group").unwrap());
    swap::update(&status, |status| status.live.hash = "cafe".into());
    let (handle, asked) = Handle::new(status.clone(), store);
    (handle, asked, status)
}

/// An interface whose loader answers deployments of the rule `a`, keeps those of `b` waiting, and refuses all else.
fn start(config: &config::Admin) -> (Server, Shared) {
    let (snapshot, (handle, asked, _)) = (Shared::default(), handle());
    snapshot.sign(crate::start::now());
    snapshot.update(|snapshot| snapshot.ruleset = "cafe".into());
    thread::spawn(move || {
        for Asked { request, answer } in asked {
            let _ = answer.send(match request {
                Request::Deploy { files, dry_run } if files[0].rule == "a" => Ok(Answer::Deployed(Deployed {
                    live: !dry_run,
                    waiting: false,
                    old: "cafe".into(),
                    new: format!("{:?}", files[0].bytes),
                    from: [(1, 2)].into(),
                    changes: Vec::new(),
                    took: 3,
                })),
                Request::Deploy { .. } => Ok(Answer::Deployed(Deployed { waiting: true, ..Deployed::default() })),
                other => Err(Refusal { at: 0, message: format!("refused {other:?}") }),
            });
        }
    });
    (serve(config, snapshot.clone(), handle).unwrap().expect("it listens"), snapshot)
}

fn loopback() -> config::Admin {
    config::Admin { listen: Some("127.0.0.1:0".into()), token: None }
}

/// Status and body of the answer to a request with these lines in its head.
fn ask(server: &Server, request: &str, lines: &[&str], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    // What is too large is answered before it is read, and the rest not taken.
    let _ = write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{lines}\r\n{body}");
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request} was not answered: {answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

const JSON: &str = "content-type: application/json";

#[test]
fn health_and_readiness_are_told_apart() {
    let (server, snapshot) = start(&loopback());
    assert_eq!(ask(&server, "GET /healthz", &[], "").0, 200);
    let (code, body) = ask(&server, "GET /readyz", &[], "");
    assert!(code == 503 && body.contains("connecting"), "{body}");
    snapshot.update(|snapshot| snapshot.state = snapshot::State::Running);
    assert_eq!(ask(&server, "GET /readyz", &[], "").0, 200);
    snapshot.sign(crate::start::now() - 200_400);
    let (code, body) = ask(&server, "GET /healthz", &[], "");
    assert!(code == 503 && body.contains("200 s"), "{body}");
}

#[test]
fn rules_are_shown_and_deployed() {
    let (server, _) = start(&loopback());
    let (code, body) = ask(&server, "GET /api/rules", &[], "");
    assert!(code == 200 && body.contains("\"hash\":\"cafe\""), "{body}");
    let (code, body) = ask(&server, "POST /api/rules/deploy", &[JSON], r#"{"files":[{"rule":"a","wasm":"AQI="}]}"#);
    assert!(code == 200 && body.contains("\"new\":\"[1, 2]\"") && body.contains("\"live\":true"), "{body}");
    let (code, body) = ask(&server, "POST /api/rules/deploy", &[JSON], r#"{"files":[{"rule":"b","wasm":""}]}"#);
    assert!(code == 202 && body.contains("\"live\":false"), "{body}");
    let (code, body) = ask(&server, "POST /api/rules/rollback", &[JSON], r#"{"hash":"beef"}"#);
    assert!(code == 409 && body.contains("refused Rollback"), "{body}");
    assert_eq!(ask(&server, "GET /api/rules/shadow", &[], "").0, 404);
    assert!(ask(&server, "GET /metrics", &[], "").1.contains("weir_ruleset_info{hash=\"cafe\""));
}

#[test]
fn what_makes_no_sense_is_answered_with_the_reason() {
    let (server, _) = start(&loopback());
    for (body, said) in [
        ("{", "can't be read"),
        (r#"{"files":[{"rule":"a","wasm":"*"}]}"#, "no base64"),
        (r#"{"files":[],"force":true}"#, "unknown field `force`"),
    ] {
        let (code, answer) = ask(&server, "POST /api/rules/deploy", &[JSON], body);
        assert!(code == 400 && answer.contains(said), "{body}: {answer}");
    }
    assert_eq!(ask(&server, "GET /nowhere", &[], "").0, 404);
    for (request, body, status) in [
        ("DELETE /api/rules", "", 405),
        ("GET /api/rules/diff?a=cafe", "", 400),
        ("POST /api/rules/resume", &*format!("{{{}}}", " ".repeat(100_000)), 413),
    ] {
        let (code, answer) = ask(&server, request, &[JSON], body);
        assert!(code == status && answer.starts_with("{\"error\":\""), "{request}: {code} {answer}");
    }
}

#[test]
fn strangers_change_nothing() {
    let (server, _) = start(&loopback());
    assert_eq!(ask(&server, "POST /api/rules/resume", &["content-type: text/plain"], "{}").0, 415);
    assert_eq!(ask(&server, "POST /api/rules/resume", &[JSON, "origin: https://evil.example"], "{}").0, 403);
    let locked = config::Admin { token: Some(config::Token::Text("secret".into())), ..loopback() };
    let (server, _) = start(&locked);
    assert_eq!(ask(&server, "POST /api/rules/resume", &[JSON], "{}").0, 401);
    assert_eq!(ask(&server, "POST /api/rules/resume", &[JSON, "authorization: Bearer secret"], "{}").0, 409);
    assert_eq!(ask(&server, "GET /api/rules", &[], "").0, 200);
}

#[test]
fn bodies_are_bounded() {
    let (server, _) = start(&loopback());
    let long = format!("{{\"hash\":\"{}\"}}", "a".repeat(100_000));
    assert_eq!(ask(&server, "POST /api/rules/rollback", &[JSON], &long).0, 413);
    let components = format!(r#"{{"files":[{{"rule":"a","wasm":"{}"}}]}}"#, "AAAA".repeat(100_000));
    assert_eq!(ask(&server, "POST /api/rules/deploy", &[JSON], &components).0, 200);
}

/// Begins a change whose body does not end.
fn begin(server: &Server, path: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{JSON}\r\ncontent-length: {length}\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn components_are_read_of_no_more_than_have_a_place_and_whoever_is_slow_gives_way() {
    let (server, _) = start(&loopback());
    let deploy = || ask(&server, "POST /api/rules/deploy", &[JSON], r#"{"files":[{"rule":"a","wasm":"AQI="}]}"#).0;
    let began = Instant::now();
    let slow: Vec<TcpStream> = (0..body::PLACES).map(|_| begin(&server, "/api/rules/deploy", 10_000_000)).collect();
    while deploy() != 429 {
        assert!(began.elapsed() < body::FILES_TIME, "their bodies have the places");
    }
    for looking in ["/healthz", "/metrics", "/api/rules", "/api/rules/history"] {
        assert_eq!(ask(&server, &format!("GET {looking}"), &[], "").0, 200, "{looking}");
    }
    while deploy() == 429 {
        assert!(began.elapsed() < body::FILES_TIME, "one of them gives way long before its time is up");
    }
    assert_eq!(deploy(), 200, "and the place is free again");
    drop(slow);
}

#[test]
fn slow_bodies_keep_no_operator_from_a_change() {
    let (server, _) = start(&loopback());
    let slow: Vec<TcpStream> = (0..4 * routes::MAX_WAITING).map(|_| begin(&server, "/api/rules/resume", 60_000)).collect();
    for _ in 0..20 {
        let (code, said) = ask(&server, "POST /api/rules/rollback", &[JSON], "{}");
        assert!(code == 409 && said.contains("refused Rollback"), "{code} {said}");
    }
    drop(slow);
}

#[test]
fn what_is_announced_to_be_too_large_is_refused_and_the_client_is_told() {
    let (server, _) = start(&loopback());
    let (code, said) = ask(&server, "POST /api/rules/deploy", &[JSON], &" ".repeat(60 << 20));
    assert!(code == 413 && said.contains("more than"), "{code} {said}");
}

#[test]
fn a_loader_that_is_busy_keeps_nobody_from_looking() {
    let (snapshot, (handle, asked, status)) = (Shared::default(), handle());
    let server = serve(&loopback(), snapshot.clone(), handle).unwrap().expect("it listens");
    // The data loop has taken a set back; nobody has told the loader, who does not listen.
    snapshot.update(|snapshot| snapshot.ruleset = "beef".into());
    swap::update(&status, |status| status.why = swap::report::Why::LastGood);
    assert!(ask(&server, "GET /metrics", &[], "").1.contains("weir_ruleset_info{hash=\"beef\",why=\"last-good\"}"));
    assert_eq!(ask(&server, "GET /api/rules/history", &[], ""), (200, "[]".into()));
    let (code, said) = ask(&server, "GET /api/rules/diff?a=cafe&b=beef", &[], "");
    assert!(code == 409 && said.contains("no set that went live begins with"), "{said}");
    assert!(asked.try_recv().is_err(), "it was not asked");
}

#[test]
fn who_sends_nothing_is_sent_away() {
    let (server, _) = start(&loopback());
    let began = Instant::now();
    let mut silent = TcpStream::connect(server.address).unwrap();
    silent.write_all(b"GET /healthz HTTP/1.1\r\nhost: loc").unwrap();
    let mut rest = Vec::new();
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = silent.read_to_end(&mut rest);
    assert!(began.elapsed() < HEAD_TIME * 3, "it is closed after {HEAD_TIME:?}");
}

#[test]
fn silent_connections_that_always_come_back_keep_no_probe_waiting() {
    /// A probe of liveness gives up after a second, as those of Kubernetes do.
    const PROBE: Duration = Duration::from_secs(1);
    let (server, _) = start(&loopback());
    let (address, enough) = (server.address, std::sync::atomic::AtomicBool::new(false));
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    thread::scope(|scope| {
        scope.spawn(|| {
            let connect = || TcpStream::connect(address).ok().filter(|stream| stream.set_nonblocking(true).is_ok());
            let mut silent: Vec<TcpStream> = Vec::new();
            while !enough.load(relaxed) {
                silent.retain(|stream| stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
                silent.extend(std::iter::repeat_with(connect).flatten().take(2 * crowd::MAX_CONNECTIONS - silent.len()));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let answered: Vec<(u16, Duration)> = (0..40)
            .map(|_| {
                let asked = Instant::now();
                (ask(&server, "GET /healthz", &[], "").0, asked.elapsed())
            })
            .collect();
        enough.store(true, relaxed);
        assert!(answered.iter().all(|(code, took)| *code == 200 && *took < PROBE), "{answered:?}");
    });
}

#[test]
fn an_address_that_is_taken_is_no_reason_to_stop() {
    let (server, _) = start(&loopback());
    let taken = config::Admin { listen: Some(server.address.to_string()), token: None };
    let (handle, ..) = handle();
    assert!(serve(&taken, Shared::default(), handle).unwrap().is_none());
}

#[test]
fn a_token_that_cannot_be_read_is_an_error() {
    let missing = config::Admin { token: Some(config::Token::File("/nowhere/token".into())), ..loopback() };
    let (handle, ..) = handle();
    let error = serve(&missing, Shared::default(), handle).unwrap_err();
    assert!(format!("{error:#}").contains("admin.token_file"), "{error:#}");
}
