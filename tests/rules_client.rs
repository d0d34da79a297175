//! `weir rules` against a scripted server on a real socket: its requests, and its reactions to each answer. Other tests cover the
//! answers of the real admin interface.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use weir_control::report::{Deployed, Entry, SetDescription, ShadowReport, Status};

use crate::program::{PATIENCE, checkout, command, eventually};

/// A request to the server.
#[derive(Clone, Debug)]
struct Asked {
    /// The method, and the path with its query.
    route: String,
    /// The headers; names are in lower case.
    headers: BTreeMap<String, String>,
    body: Value,
}

/// A server on a free port of loopback. It answers until it is dropped.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    over: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts a server that sends the bytes of `answer` as the whole HTTP answer.
    fn start(mut answer: impl FnMut(&Asked) -> Vec<u8> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, over) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::<AtomicBool>::default());
        let (log, ended) = (asked.clone(), over.clone());
        let serve = move || {
            for stream in listener.incoming().take_while(|_| !ended.load(Ordering::Acquire)) {
                let mut stream = stream.unwrap();
                let asked = read(&mut stream);
                log.lock().unwrap().push(asked.clone());
                // The client may have closed the connection.
                let _ = stream.write_all(&answer(&asked));
            }
        };
        Server { address, asked, over, thread: Some(thread::spawn(serve)) }
    }

    /// Starts a server that gives the same answer to every request.
    fn saying(status: u16, body: &str) -> Server {
        let answer = http(status, body);
        Server::start(move |_| answer.clone())
    }

    /// Returns the command `weir rules ARGUMENTS`, split at blanks, with the address of this server.
    fn command(&self, folder: &TempDir, arguments: &str) -> Command {
        let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
        weir.arg("rules").args(arguments.split_whitespace()).args(["--admin", &self.address]);
        weir
    }

    fn run(&self, arguments: &str) -> Ended {
        ended(self.command(&checkout(), arguments).output().unwrap())
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    fn routes(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.route).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // The server waits for a connection.
        drop(TcpStream::connect(&self.address));
        let served = self.thread.take().unwrap().join();
        assert!(thread::panicking() || served.is_ok(), "the server failed");
    }
}

fn read(stream: &mut TcpStream) -> Asked {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let route = lines.next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: BTreeMap<String, String> = headers.collect();
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    Asked { route, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
}

fn http(status: u16, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Said\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The exit code and the output of a command.
#[derive(Debug, PartialEq)]
struct Ended {
    code: i32,
    out: String,
    err: String,
}

fn ended(output: Output) -> Ended {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn deployed() -> Deployed {
    let (old, new) = ("0ld".to_owned(), "new".to_owned());
    Deployed { live: true, waiting: false, old, new, from: BTreeMap::from([(3, 7)]), changes: vec![], took: 5 }
}

fn candidate(since: i64, records: u64) -> ShadowReport {
    let candidate = SetDescription { hash: "cafe".into(), rules: vec![] };
    ShadowReport { candidate, since, records, agreed: records, ..ShadowReport::default() }
}

/// Returns a plausible answer of the admin interface.
fn sensible(asked: &Asked) -> Vec<u8> {
    let route = asked.route.split('?').next().unwrap();
    let body = match route {
        "GET /api/rules" => json!(Status::default()),
        "GET /api/rules/history" => json!(Vec::<Entry>::new()),
        "GET /api/rules/diff" => json!([]),
        "GET /api/rules/shadow" | "POST /api/rules/shadow" | "POST /api/rules/shadow/end" => json!(candidate(1, 10)),
        "POST /api/rules/deploy" | "POST /api/rules/rollback" | "POST /api/rules/resume" | "POST /api/rules/promote" => {
            json!(deployed())
        }
        _ => return http(404, "{\"error\":\"no such route\"}"),
    };
    http(200, &body.to_string())
}

#[test]
fn each_command_asks_for_what_it_says() {
    let cases = [
        ("status", "GET /api/rules", Value::Null, "went live"),
        ("history", "GET /api/rules/history", Value::Null, "no set has gone live"),
        ("diff 5f2a &b=%", "GET /api/rules/diff?a=5f2a&b=%26b%3D%25", Value::Null, "nothing is different"),
        ("rollback", "POST /api/rules/rollback", json!({"hash": null}), "live: 0ld → new, in 5 ms"),
        ("rollback 5f2a", "POST /api/rules/rollback", json!({"hash": "5f2a"}), "partition 3: 7"),
        ("resume", "POST /api/rules/resume", json!({}), "live: 0ld → new"),
        ("promote", "POST /api/rules/promote", json!({}), "live: 0ld → new"),
        ("shadow --report", "GET /api/rules/shadow", Value::Null, "agreed      10 (100.00 %)"),
        ("shadow --end", "POST /api/rules/shadow/end", json!({}), "candidate   cafe"),
    ];
    for (arguments, route, body, words) in cases {
        let server = Server::start(sensible);
        let ended = server.run(arguments);
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{arguments}: {ended:?}");
        assert!(ended.out.contains(words), "{arguments}: {}", ended.out);
        let [asked] = &server.asked()[..] else { panic!("{arguments}: one question, not {:?}", server.asked()) };
        assert_eq!((asked.route.as_str(), &asked.body), (route, &body), "{arguments}");
        let expected = route.starts_with("POST").then_some("application/json");
        assert_eq!(asked.headers.get("content-type").map(String::as_str), expected, "{arguments}");
        assert_eq!((asked.headers.get("host"), asked.headers.get("authorization")), (Some(&server.address), None));
    }
}

#[test]
fn files_and_folders_are_handed_in_by_the_names_of_their_rules() {
    let folder = checkout();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    fs::create_dir(folder.path().join("new")).unwrap();
    put("new/b.wasm", b"\0asm b");
    put("new/a.wasm", b"\0asm a");
    put("new/notes.txt", b"not a component");
    put("c.wasm", b"\0asm c");
    let server = Server::start(sensible);
    for (arguments, dry_run) in [("deploy c.wasm new", false), ("deploy --dry-run c.wasm new", true)] {
        let ended = ended(server.command(&folder, arguments).output().unwrap());
        assert_eq!(ended.code, 0, "{ended:?}");
        let file = |rule: &str| json!({"rule": rule, "wasm": BASE64_STANDARD.encode(format!("\0asm {rule}"))});
        let expected = json!({"files": [file("c"), file("a"), file("b")], "dry_run": dry_run});
        assert_eq!(server.asked().last().unwrap().body, expected);
    }
}

#[test]
fn files_that_cannot_be_read_are_not_asked_about() {
    let folder = checkout();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let server = Server::start(sensible);
    for (arguments, words) in [("deploy nothing.wasm", "nothing.wasm"), ("shadow empty", "*.wasm in empty")] {
        let ended = ended(server.command(&folder, arguments).output().unwrap());
        assert!(ended.code == 1 && ended.err.contains(words), "{ended:?}");
    }
    assert_eq!(server.routes(), [""; 0]);
}

#[test]
fn the_token_of_the_configuration_is_sent() {
    let folder = checkout();
    fs::write(folder.path().join("token"), "secret\n").unwrap();
    fs::write(folder.path().join("weir.toml"), "[admin]\ntoken_file = \"token\"\n").unwrap();
    let server = Server::start(sensible);
    for command in ["status", "resume"] {
        assert!(server.command(&folder, command).output().unwrap().status.success());
    }
    fs::remove_file(folder.path().join("weir.toml")).unwrap();
    assert!(server.command(&folder, "status").env("WEIR_ADMIN_TOKEN", "other").output().unwrap().status.success());
    let sent: Vec<String> = server.asked().into_iter().map(|asked| asked.headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer secret", "Bearer secret", "Bearer other"]);
}

/// A folder with a configuration that does not parse, with `admin` as lines in its middle.
fn broken(admin: &str) -> TempDir {
    let folder = checkout();
    let text = format!("[rules]\npipeline = [\"validation\"\n[admin]\n{admin}\n[kafka]\nbrokers = 7\n");
    fs::write(folder.path().join("weir.toml"), text).unwrap();
    folder
}

#[test]
fn where_the_configuration_is_broken_rules_are_changed_all_the_same() {
    let server = Server::start(sensible);
    let warning = format!(
        "warning: failed to parse weir.toml line 3: missing comma between array elements, expected `,`; {} is asked all the same\n",
        server.address
    );
    for arguments in ["status", "rollback"] {
        let ended = ended(server.command(&broken(""), arguments).output().unwrap());
        assert_eq!((ended.code, ended.err), (0, warning.clone()), "{}", ended.out);
    }
    // Without --admin, the readable lines of the file give the address and the token.
    let folder = broken(&format!("listen = \"{}\"\ntoken = \"secret\"", server.address));
    let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
    let ended = ended(weir.args(["rules", "rollback"]).env_remove("WEIR_ADMIN_LISTEN").output().unwrap());
    assert_eq!((ended.code, ended.err), (0, warning));
    assert_eq!(server.asked().last().unwrap().headers["authorization"], "Bearer secret");
}

#[test]
fn where_the_address_itself_is_broken_no_other_one_is_asked() {
    let folder = broken("listen = \"127.0.0.1");
    let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
    let ended = ended(weir.args(["rules", "rollback"]).env_remove("WEIR_ADMIN_LISTEN").output().unwrap());
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("give its address by --admin HOST:PORT: failed to parse weir.toml line 3"), "{}", ended.err);
}

#[test]
fn where_two_addresses_stand_in_a_broken_configuration_neither_is_asked() {
    let servers = [Server::start(sensible), Server::start(sensible)];
    let [ours, theirs] = servers.each_ref().map(|server| format!("listen = \"{}\"", server.address));
    for admin in [format!("{ours}\n{theirs}"), format!("<<<<<<< HEAD\n{ours}\n=======\n{theirs}\n>>>>>>> theirs")] {
        let folder = broken(&admin);
        let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
        let ended = ended(weir.args(["rules", "rollback"]).env_remove("WEIR_ADMIN_LISTEN").output().unwrap());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("give its address by --admin HOST:PORT"), "{}", ended.err);
    }
    servers.iter().for_each(|server| assert_eq!(server.routes(), [""; 0]));
}

#[test]
fn refusals_are_told_and_fail() {
    let cases = [
        (409, "{\"error\":\"a.wasm can't be used\"}", "refused: a.wasm can't be used"),
        (404, "{\"error\":\"no candidate runs\"}", "ADDRESS: no candidate runs"),
        (500, "{\"error\":\"x\\u001b[2J\\n\"}", "ADDRESS: x\\u{1b}[2J\\n"),
    ];
    for (status, body, expected) in cases {
        let server = Server::saying(status, body);
        let expected = format!("error: {}\n", expected.replace("ADDRESS", &server.address));
        assert_eq!(server.run("resume"), Ended { code: 1, out: String::new(), err: expected });
    }
    let ended = Server::saying(401, "{\"error\":\"give a token\"}").run("resume --json");
    assert!(ended.code == 1 && ended.err.contains("give a token") && ended.err.contains("admin.token"), "{ended:?}");
    let ended = Server::saying(403, "{\"error\":\"use localhost\"}").run("resume");
    assert!(ended.err.contains("denies this: use localhost") && !ended.err.contains("token"), "{ended:?}");
}

#[test]
fn what_is_not_live_yet_is_told_and_is_not_done() {
    let waits = Deployed { live: false, waiting: true, ..deployed() };
    let ended = Server::saying(202, &json!(waits).to_string()).run("resume");
    assert!(ended.code == 1 && ended.out.starts_with("waits: 0ld → new, proven and handed over"), "{ended:?}");
    assert!(ended.err.contains("not live yet") && ended.err.contains("weir rules status"), "{ended:?}");
}

#[test]
fn where_nobody_answers_the_address_and_the_remedy_are_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let folder = checkout();
    let mut weir = command(env!("CARGO_BIN_EXE_weir"), folder.path());
    let ended = ended(weir.args(["rules", "status"]).env("WEIR_ADMIN_LISTEN", &free).output().unwrap());
    assert_eq!(ended.code, 1);
    for words in [free.as_str(), "`admin.listen`", "`weir run`", "--admin"] {
        assert!(ended.err.contains(words), "{words} is not in {}", ended.err);
    }
}

#[test]
fn strangers_are_recognised() {
    let target = Server::start(sensible);
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/api/rules\r\ncontent-length: 0\r\n\r\n", target.address);
    let answers = [
        http(200, "<html>"),
        http(200, "{\"status\":\"ok\"}"),
        http(200, "[]"),
        http(404, "not found"),
        http(502, "{\"message\":\"bad gateway\"}"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\xff\xff".to_vec(),
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n".to_vec(),
        redirect.into_bytes(),
    ];
    for answer in answers {
        let text = String::from_utf8_lossy(&answer).into_owned();
        let server = Server::start(move |_| answer.clone());
        let ended = server.run("status");
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{text}: {ended:?}");
        let words = format!("{} answers, but not as the admin interface", server.address);
        assert!(ended.err.contains(&words), "{text}: {}", ended.err);
    }
    assert_eq!(target.routes(), [""; 0], "the token must not go to another address");
}

#[test]
fn a_change_whose_answer_is_lost_may_have_been_made() {
    for answer in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"live\":"] {
        let server = Server::start(move |_| answer.as_bytes().to_vec());
        let ended = server.run("resume");
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains(&server.address) && ended.err.contains("`weir rules status` tells"), "{}", ended.err);
        assert_eq!(server.routes().len(), 1, "a change is asked for once");
    }
}

#[test]
fn with_json_the_answer_comes_as_it_is() {
    let mut answer = json!(Status::default());
    answer["of a later version"] = json!(1.5);
    let ended = Server::saying(200, &answer.to_string()).run("status --json");
    assert_eq!(ended, Ended { code: 0, out: format!("{answer}\n"), err: String::new() });
}

/// A checkout with the file of a component.
fn with_component() -> TempDir {
    let folder = checkout();
    fs::write(folder.path().join("a.wasm"), b"\0asm").unwrap();
    folder
}

#[test]
fn a_candidate_is_started_watched_and_ended() {
    let server = Server::start(sensible);
    let ended = ended(server.command(&with_component(), "shadow a.wasm --seconds 2").output().unwrap());
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.err.contains("cafe beside the live rules: 10 messages compared"), "{}", ended.err);
    assert!(ended.out.starts_with("candidate   cafe"), "{}", ended.out);
    let routes = server.routes();
    let (first, rest) = routes.split_first().unwrap();
    let (last, asked) = rest.split_last().unwrap();
    assert_eq!((first.as_str(), last.as_str()), ("POST /api/rules/shadow", "POST /api/rules/shadow/end"));
    assert!((2..=5).contains(&asked.len()) && asked.iter().all(|route| route == "GET /api/rules/shadow"), "{asked:?}");
}

#[test]
fn progress_is_written_over_only_on_a_terminal_that_can_do_so() {
    let server = Server::start(sensible);
    let on = |terminal: &str| {
        let folder = with_component();
        let weir = format!("weir rules shadow a.wasm --seconds 2 --admin {}", server.address);
        let mut script = command("script", folder.path());
        script.args(["--quiet", "--return", "--command", &weir, "/dev/null"]);
        let output = script.env("TERM", terminal).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (drawn, plain) = (on("xterm"), on("dumb"));
    assert!(drawn.contains("\r\x1b[Kcafe beside the live rules"), "{drawn:?}");
    assert!(plain.contains("cafe beside the live rules") && !plain.contains('\x1b'), "{plain:?}");
}

#[test]
fn a_candidate_that_is_kept_is_not_ended() {
    let server = Server::start(sensible);
    let ended = ended(server.command(&with_component(), "shadow a.wasm --seconds 1 --keep --json").output().unwrap());
    assert_eq!((ended.code, ended.out), (0, format!("{}\n", json!(candidate(1, 10)))));
    assert!(!server.routes().iter().any(|route| route.ends_with("/end")), "{:?}", server.routes());
}

#[test]
fn another_ones_candidate_is_not_ended() {
    let mut since = 0;
    let server = Server::start(move |_| {
        since += 1;
        http(200, &json!(candidate(since, 1)).to_string())
    });
    let ended = ended(server.command(&with_component(), "shadow a.wasm --seconds 60").output().unwrap());
    assert!(ended.code == 1 && ended.err.contains("another candidate has taken its place"), "{ended:?}");
    assert_eq!(server.routes(), ["POST /api/rules/shadow", "GET /api/rules/shadow"]);
}

#[test]
fn ctrl_c_ends_the_candidate_and_shows_the_report() {
    let server = Server::start(sensible);
    let folder = with_component();
    let mut command = server.command(&folder, "shadow a.wasm");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it asks after the candidate", || (server.routes().len() > 1).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    eventually("it ends", || child.try_wait().unwrap());
    let ended = ended(child.wait_with_output().unwrap());
    assert!(ended.code == 0 && ended.out.starts_with("candidate   cafe"), "{ended:?}");
    assert_eq!(server.routes().last().map(String::as_str), Some("POST /api/rules/shadow/end"));
}
