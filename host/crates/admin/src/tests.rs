//! Tests of the interface over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;
use weir_control::report::{Deployed, SetRefusal};
use weir_control::{self, Answer, PendingRequest, Request, SharedStatus};
use weir_engine::protocol::LiveReason;
use weir_engine::snapshot::{LoopState, SharedSnapshot};
use weir_wasm::description::SetDescription;

/// Returns a set of which only the hash is known.
fn set(hash: &str) -> Arc<SetDescription> {
    Arc::new(SetDescription { hash: hash.into(), rules: Vec::new() })
}

/// Returns a handle, the requests that are made through it, and its status. The state folder is empty, and is deleted when this
/// function returns.
fn handle() -> (Handle, mpsc::Receiver<PendingRequest>, SharedStatus) {
    handle_in(tempfile::tempdir().unwrap().path())
}

/// Returns a handle with the state folder `folder`, the requests that are made through it, and its status.
fn handle_in(folder: &Path) -> (Handle, mpsc::Receiver<PendingRequest>, SharedStatus) {
    let (status, store) = (SharedStatus::default(), weir_control::Store::open(Some(folder), 20, "group").unwrap());
    weir_control::update(&status, |status| status.live = "cafe".into());
    let (handle, asked) = Handle::new(status.clone(), store);
    (handle, asked, status)
}

/// Starts an interface. Its loader answers deployments of the rule `a`, leaves those of other rules waiting, and refuses other
/// requests.
fn start(config: &Settings) -> (Server, SharedSnapshot) {
    start_with(config, handle())
}

fn start_with(
    config: &Settings,
    (handle, asked, _): (Handle, mpsc::Receiver<PendingRequest>, SharedStatus),
) -> (Server, SharedSnapshot) {
    let process = ProcessSnapshot::new(1);
    let snapshot = process.shared().remove(0);
    snapshot.heartbeat(weir_system::clock::now());
    snapshot.update(|snapshot| snapshot.live = set("cafe"));
    thread::spawn(move || {
        for PendingRequest { request, answer } in asked {
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
                other => Err(SetRefusal { at: 0, message: format!("refused {other:?}") }),
            });
        }
    });
    (serve(config, process, handle).unwrap().expect("it listens"), snapshot)
}

fn loopback() -> Settings {
    Settings { listen: Some("127.0.0.1:0".into()), token: None }
}

/// Returns the status and the body of the answer to a request with these lines in its head.
fn ask(server: &Server, request: &str, lines: &[&str], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    // A body that is too large is answered before it is read, and the rest is not taken.
    let _ = write!(stream, "{request} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n{lines}\r\n{body}");
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let _ = stream.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request} was not answered: {answer}"));
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

const JSON: &str = "content-type: application/json";
const DEPLOY: &str = r#"{"files":[{"rule":"a","wasm":"AQI="}]}"#;

/// Runs `attack` in `many` threads until `test` is over.
fn beside(many: usize, attack: impl Fn(&AtomicBool) + Sync, test: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        (0..many).for_each(|_| drop(scope.spawn(|| attack(&over))));
        let tested = panic::catch_unwind(AssertUnwindSafe(test));
        over.store(true, Ordering::Relaxed);
        if let Err(failed) = tested {
            panic::resume_unwind(failed);
        }
    });
}

#[test]
fn health_and_readiness_are_told_apart() {
    let (server, snapshot) = start(&loopback());
    assert_eq!(ask(&server, "GET /healthz", &[], "").0, 200);
    let (code, body) = ask(&server, "GET /readyz", &[], "");
    assert!(code == 503 && body.contains("connecting"), "{body}");
    snapshot.update(|snapshot| snapshot.state = LoopState::Running);
    assert_eq!(ask(&server, "GET /readyz", &[], "").0, 200);
    snapshot.heartbeat(weir_system::clock::now() - 200_400);
    let (code, body) = ask(&server, "GET /healthz", &[], "");
    assert!(code == 503 && body.contains("200 s"), "{body}");
}

#[test]
fn rules_are_shown_and_deployed() {
    let (server, _) = start(&loopback());
    let (code, body) = ask(&server, "GET /api/rules", &[], "");
    assert!(code == 200 && body.contains("\"hash\":\"cafe\""), "{body}");
    let (code, body) = ask(&server, "POST /api/rules/deploy", &[JSON], DEPLOY);
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
        (r#"{"files":[{"rule":"a","wasm":"AQ\/="}]}"#, "without escapes"),
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
    let locked = Settings { token: Some(Token::Text("secret".into())), ..loopback() };
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

/// Begins a request for a change whose body never ends.
fn begin(server: &Server, path: &str, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{JSON}\r\ncontent-length: {length}\r\n\r\n{{");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

#[test]
fn bodies_that_would_take_much_more_memory_than_they_have_bytes_are_refused_in_few_words() {
    let (server, _) = start(&loopback());
    let long = "A".repeat(1 << 20);
    let file = r#"{"rule":"a","wasm":""}"#;
    for (body, said) in [
        (format!(r#"{{"files":[{{"rule":"a","wasm":"{long}\u0041"}}]}}"#), "without escapes"),
        (format!(r#"{{"files":[{{"rule":"{long}","wasm":""}}]}}"#), "the name of a rule"),
        (format!(r#"{{"{long}":1}}"#), "unknown field"),
        (format!(r#"{{"files":"{long}"}}"#), "invalid type"),
        (format!(r#"{{"files":[{file}{}]}}"#, format!(",{file}").repeat(64)), "more than 64"),
        (format!(r#"{{"files":[{}[]]}}"#, "[],".repeat(64)), "more than 64"),
    ] {
        let (code, answer) = ask(&server, "POST /api/rules/deploy", &[JSON], &body);
        assert!(code == 400 && answer.contains(said) && answer.len() < 3_000, "{said}: {code} {answer:.300}");
    }
    let most = format!(r#"{{"files":[{file}{}]}}"#, format!(",{file}").repeat(63));
    assert_eq!(ask(&server, "POST /api/rules/deploy", &[JSON], &most).0, 200);
}

/// Sends the head of a deployment, and nothing else, again and again.
fn occupy(address: SocketAddr, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        let head = format!("POST /api/rules/deploy HTTP/1.1\r\nhost: localhost\r\n{JSON}\r\ncontent-length: 10000000\r\n\r\n");
        let _ = stream.write_all(head.as_bytes());
        // Waits until the interface closes the connection.
        let _ = stream.set_read_timeout(Some(Duration::from_secs(5))).and_then(|()| stream.read(&mut [0]));
    }
}

#[test]
fn a_deployment_that_is_sent_at_once_gets_through_among_many_that_send_nothing() {
    let (server, _) = start(&loopback());
    let body = format!(r#"{{"files":[{{"rule":"a","wasm":"{}"}}]}}"#, "AAAA".repeat(250_000));
    let address = server.address;
    beside(
        12,
        |over| occupy(address, over),
        || {
            for _ in 0..5 {
                let (code, said) = ask(&server, "POST /api/rules/deploy", &[JSON], &body);
                assert_eq!(code, 200, "{said}");
                for looking in ["/healthz", "/metrics", "/api/rules", "/api/rules/history"] {
                    assert_eq!(ask(&server, &format!("GET {looking}"), &[], "").0, 200, "{looking}");
                }
            }
        },
    );
}

#[test]
fn a_body_that_arrives_slowly_gives_its_place_to_whoever_waits_and_its_client_is_told() {
    let (server, _) = start(&loopback());
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = (0..body::PLACES).map(|_| begin(&server, "/api/rules/deploy", 10_000_000)).collect();
    assert_eq!(ask(&server, "POST /api/rules/deploy", &[JSON], DEPLOY).0, 200);
    assert!(began.elapsed() < body::FILES_TIME, "one of them gives way long before its time is up");
    let told = slow.iter_mut().any(|stream| {
        let mut answer = String::new();
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let _ = stream.read_to_string(&mut answer);
        answer.contains(" 429 ") && answer.contains("it arrives slowly")
    });
    assert!(told);
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
    let (process, (handle, asked, _)) = (ProcessSnapshot::new(1), handle());
    let snapshot = process.shared().remove(0);
    let server = serve(&loopback(), process, handle).unwrap().expect("it listens");
    // The data loop has rolled a set back. The loader has not been told, and does not listen.
    snapshot.update(|snapshot| (snapshot.live, snapshot.why) = (set("beef"), LiveReason::LastGood));
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
fn who_does_not_read_its_answer_is_sent_away() {
    let (handle, _asked, status) = handle();
    // The status is far larger than the buffers on the way to the client.
    weir_control::update(&status, |status| status.folder = Some("a".repeat(64 << 20)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = routes::router(Context::new(ProcessSnapshot::new(1), handle, Guard::new("127.0.0.1:0", address, None)));
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET /api/rules HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (mut served, began) = (None, Instant::now());
        Arc::new(Crowd::default()).admit(|guest| {
            let task = tokio::spawn(answer(stream, router, guest));
            served.insert(task).abort_handle()
        });
        let ended = tokio::time::timeout(3 * ANSWER_TIME, served.expect("it is let in")).await;
        ended.expect("the connection is closed").unwrap().unwrap();
        assert!(began.elapsed() >= ANSWER_TIME, "it was to be read for {ANSWER_TIME:?}");
        drop(client);
    });
}

#[test]
fn many_who_look_at_a_state_folder_that_does_not_answer_keep_nobody_from_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = start_with(&loopback(), handle_in(folder.path()));
    // Reading this file blocks until a writer opens it.
    mkfifoat(CWD, folder.path().join("sets/cafe.json"), Mode::RUSR | Mode::WUSR).unwrap();
    let look = |_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /api/rules/history HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream
    };
    let looking: Vec<TcpStream> = (0..4 * routes::MAX_WAITING).map(look).collect();
    assert_eq!(ask(&server, "GET /healthz", &[], "").0, 200);
    let (code, said) = ask(&server, "POST /api/rules/rollback", &[JSON], "{}");
    assert!(code == 409 && said.contains("refused Rollback"), "{code} {said}");
    assert_eq!(ask(&server, "POST /api/rules/deploy", &[JSON], DEPLOY).0, 200);
    drop(looking);
}

/// Holds `many` connections open. Each of them sends only its `greeting`. Opens connections again that are closed. `open` is the
/// number of connections that are open.
fn flood(address: SocketAddr, many: usize, greeting: &str, open: &AtomicUsize, over: &AtomicBool) {
    let connect = |_| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(greeting.as_bytes()).and_then(|()| stream.set_nonblocking(true)).ok()?;
        Some(stream)
    };
    let mut all: Vec<TcpStream> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        all.retain(|stream| stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        all.extend((all.len()..many).filter_map(connect));
        open.store(all.len(), Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Probes the process many times while such a flood runs.
fn probe_beside_a_flood(many: usize, greeting: &str) {
    /// The time after which a liveness probe is cancelled, as in Kubernetes.
    const PROBE: Duration = Duration::from_secs(1);
    /// Allows one flood at a time: a process often may have no more than 1,024 files open.
    static FLOOD: Mutex<()> = Mutex::new(());
    let _alone = FLOOD.lock();
    let (server, _) = start(&loopback());
    let (address, open, began) = (server.address, AtomicUsize::new(0), Instant::now());
    beside(
        1,
        |over| flood(address, many, greeting, &open, over),
        || {
            while open.load(Ordering::Relaxed) < crowd::MAX_CONNECTIONS {
                assert!(began.elapsed() < Duration::from_secs(30), "there are {open:?} connections");
                thread::yield_now();
            }
            let probe = |_| {
                let asked = Instant::now();
                (ask(&server, "GET /healthz", &[], "").0, asked.elapsed())
            };
            let answered: Vec<(u16, Duration)> = (0..40).map(probe).collect();
            assert!(answered.iter().all(|(code, took)| *code == 200 && *took < PROBE), "{greeting}: {answered:?}");
        },
    );
}

#[test]
fn silent_connections_that_always_come_back_keep_no_probe_waiting() {
    probe_beside_a_flood(2 * crowd::MAX_CONNECTIONS, "");
}

#[test]
fn requests_whose_bodies_never_come_and_that_always_come_back_keep_no_probe_waiting() {
    for path in ["/api/rules/resume", "/api/rules/deploy"] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{JSON}\r\ncontent-length: 60000\r\n\r\n");
        probe_beside_a_flood(crowd::MAX_CONNECTIONS, &head);
    }
}

#[test]
fn an_address_that_is_taken_is_no_reason_to_stop() {
    let (server, _) = start(&loopback());
    let taken = Settings { listen: Some(server.address.to_string()), token: None };
    let (handle, ..) = handle();
    assert!(serve(&taken, ProcessSnapshot::new(1), handle).unwrap().is_none());
}

#[test]
fn a_token_that_cannot_be_read_is_an_error() {
    let missing = Settings { token: Some(Token::File("/nowhere/token".into())), ..loopback() };
    let (handle, ..) = handle();
    let error = serve(&missing, ProcessSnapshot::new(1), handle).unwrap_err();
    assert!(format!("{error:#}").contains("admin.token_file"), "{error:#}");
}
