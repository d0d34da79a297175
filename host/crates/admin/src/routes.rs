//! The routes of the interface, and their handlers.
//!
//! A request to the loader gets a turn once its body has arrived. Slow work (decoding components, reading the state folder,
//! waiting for the loader's answer) happens on separate threads. There is one thread for each turn, and a few threads for the
//! state folder. So changes do not wait if many requests read the state folder, or if the folder does not respond. Health and
//! metrics need none of these threads.

use std::borrow::Cow;
use std::fmt::{self, Display, Write as _};
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::body::{self, BODY_TIME, MAX_BODY_BYTES, Places, TakenPlace};
use super::crowd::Connection;
use super::error_reply::ErrorReply;
use super::guard::{Denied, Guard};
use super::metrics;
use weir_control::{Answer, Handle};
use weir_core::counts::instant;
use weir_core::printable::escape_value;
use weir_engine::process_snapshot::{ProcessSnapshot, sum};
use weir_engine::protocol::LoopId;
use weir_engine::snapshot::LoopState;
use weir_system::clock::now;

/// The most requests that wait for the loader at a time. The loader handles one after the other.
pub(crate) const MAX_WAITING: usize = 8;
/// The most requests for which the state folder is read at a time. Further requests wait.
pub(crate) const MAX_LOOKING: usize = 4;
/// The most components in a body: as many as `weir rules` sends at once.
const MAX_FILES: usize = 64;
/// The longest name of a rule, in bytes. A refusal repeats the name.
const MAX_NAME_BYTES: usize = 1_024;
/// The longest description of an error in a body, in bytes. An error may quote the whole body.
const MAX_ERROR_BYTES: usize = 1_024;
/// The time without a sign of life after which the data loop counts as stuck, in milliseconds. It is longer than any wait of the
/// data loop.
const STUCK: i64 = 120_000;

const INDEX: &str = "\
weir, a rule engine for Kafka

GET  /healthz              whether the process does its work
GET  /readyz               whether it reads and writes
GET  /metrics              numbers, for Prometheus
GET  /api/rules            which set of rules runs, and why
GET  /api/rules/history    sets that went live
GET  /api/rules/diff       ?a=HASH&b=HASH
GET  /api/rules/shadow     how the candidate does
POST /api/rules/deploy     {\"files\":[{\"rule\":NAME,\"wasm\":BASE64}],\"dry_run\":false}
POST /api/rules/rollback   {\"hash\":null}
POST /api/rules/resume     {}
POST /api/rules/shadow     {\"files\":[…]}
POST /api/rules/shadow/end {}
POST /api/rules/promote    {}
";

/// The data and limits that all handlers share.
#[derive(Clone)]
pub(crate) struct Context {
    snapshot: ProcessSnapshot,
    rules: Handle,
    guard: Arc<Guard>,
    waiting: Arc<Semaphore>,
    looking: Arc<Semaphore>,
    places: Arc<Places>,
}

impl Context {
    pub(crate) fn new(snapshot: ProcessSnapshot, rules: Handle, guard: Guard) -> Context {
        let [waiting, looking] = [MAX_WAITING, MAX_LOOKING].map(|most| Arc::new(Semaphore::new(most)));
        Context { snapshot, rules, guard: Arc::new(guard), waiting, looking, places: Arc::default() }
    }

    /// Returns a turn with the loader, if one is free.
    fn turn(&self, guest: Option<Arc<Connection>>) -> Result<Turn, ErrorReply> {
        let permit = self.waiting.clone().try_acquire_owned().map_err(|_| busy())?;
        if let Some(guest) = &guest {
            guest.waits();
        }
        Ok(Turn { _permit: permit, _place: None })
    }
}

pub(crate) fn router(context: Context) -> Router {
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/rules", get(status))
        .route("/api/rules/history", get(history))
        .route("/api/rules/diff", get(diff))
        .route("/api/rules/deploy", post(deploy))
        .route("/api/rules/rollback", post(rollback))
        .route("/api/rules/resume", post(resume))
        .route("/api/rules/shadow", get(shadow).post(start_shadow))
        .route("/api/rules/shadow/end", post(end_shadow))
        .route("/api/rules/promote", post(promote))
        .method_not_allowed_fallback(|| async {
            ErrorReply(StatusCode::METHOD_NOT_ALLOWED, "this takes another method; `GET /` lists them".into())
        })
        .fallback(|| async { ErrorReply(StatusCode::NOT_FOUND, "there is nothing here; `GET /` lists what there is".into()) })
        .layer(middleware::from_fn_with_state(context.clone(), guarded))
        .with_state(context)
}

fn busy() -> ErrorReply {
    ErrorReply(StatusCode::TOO_MANY_REQUESTS, "other requests wait already; try again later".into())
}

/// A turn with the loader, and the place of its components in memory. Both are free again when this value is dropped.
struct Turn {
    _permit: OwnedSemaphorePermit,
    _place: Option<TakenPlace>,
}

/// A request for a change, whose body has arrived.
struct ChangeRequest {
    body: Vec<u8>,
    turn: Turn,
}

impl FromRequest<Context> for ChangeRequest {
    type Rejection = ErrorReply;

    async fn from_request(request: Request, context: &Context) -> Result<ChangeRequest, ErrorReply> {
        let (head, body) = request.into_parts();
        let body = body::read(&head.headers, body, MAX_BODY_BYTES, BODY_TIME).await?;
        Ok(ChangeRequest { body, turn: context.turn(head.extensions.get().cloned())? })
    }
}

/// A request for a change that carries components.
struct Upload(ChangeRequest);

impl FromRequest<Context> for Upload {
    type Rejection = ErrorReply;

    async fn from_request(request: Request, context: &Context) -> Result<Upload, ErrorReply> {
        let (head, body) = request.into_parts();
        let place = context.places.take().await.ok_or_else(busy)?;
        let most = body::max_files_bytes(context.snapshot.get().live.rules.len());
        let body = place.read(&head.headers, body, most).await?;
        let turn = context.turn(head.extensions.get().cloned())?;
        Ok(Upload(ChangeRequest { body, turn: Turn { _place: Some(place), ..turn } }))
    }
}

async fn guarded(State(context): State<Context>, request: Request, next: Next) -> Response {
    match context.guard.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Denied(status, why)) => ErrorReply(status, why.into()).into_response(),
    }
}

async fn healthz(State(context): State<Context>) -> Result<&'static str, ErrorReply> {
    match context.snapshot.oldest_heartbeat().map(|(LoopId(id), at)| (id, now() - at)) {
        Some((id, silent)) if silent >= STUCK => {
            let why = format!("data loop {id} has given no sign of life for {} s", silent / 1_000);
            Err(ErrorReply(StatusCode::SERVICE_UNAVAILABLE, why))
        }
        _ => Ok("ok\n"),
    }
}

async fn readyz(State(context): State<Context>) -> Result<String, ErrorReply> {
    let snapshot = context.snapshot.get();
    let why = match snapshot.state {
        LoopState::Running => return Ok(ready(snapshot.counts_wait)),
        LoopState::Connecting => "connecting to Kafka, or waiting for partitions of the group".to_owned(),
        LoopState::Waiting(why) => format!("waiting: {why}"),
        LoopState::Stopping | LoopState::Stopped => "stopping".to_owned(),
    };
    Err(ErrorReply(StatusCode::SERVICE_UNAVAILABLE, why))
}

/// Returns the answer of a process that is ready: records flow, although counts may wait for a clock.
fn ready(counts_wait: Option<i64>) -> String {
    match counts_wait {
        Some(until) => format!("ready, but no counts are sent until {}: see the log\n", instant(until)),
        None => "ready\n".to_owned(),
    }
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    let loops = context.snapshot.each();
    let sum = sum(loops.clone());
    let status = context.rules.status(&sum);
    ([(header::CONTENT_TYPE, metrics::FORMAT)], metrics::text(sum, loops, status))
}

async fn status(State(context): State<Context>) -> impl IntoResponse {
    Json(context.rules.status(&context.snapshot.get()))
}

async fn shadow(State(context): State<Context>) -> Result<impl IntoResponse, ErrorReply> {
    let none = || ErrorReply(StatusCode::NOT_FOUND, "no candidate runs; `weir rules shadow` starts one".into());
    context.rules.status(&context.snapshot.get()).shadow.map(Json).ok_or_else(none)
}

async fn history(State(context): State<Context>) -> Result<impl IntoResponse, ErrorReply> {
    let live = context.snapshot.get().live.hash.clone();
    look(context, move |rules| rules.history(&live)).await.map(Json)
}

#[derive(Deserialize)]
struct DiffQuery {
    a: String,
    b: String,
}

async fn diff(
    State(context): State<Context>,
    query: Result<Query<DiffQuery>, QueryRejection>,
) -> Result<impl IntoResponse, ErrorReply> {
    let unreadable = |rejection: QueryRejection| ErrorReply(StatusCode::BAD_REQUEST, rejection.body_text());
    let Query(DiffQuery { a, b }) = query.map_err(unreadable)?;
    let found = look(context, move |rules| rules.diff(&a, &b)).await?;
    found.map(Json).map_err(|error| ErrorReply(StatusCode::CONFLICT, format!("{error:#}")))
}

/// A body with components.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files<'a> {
    #[serde(borrow)]
    files: Vec<UploadedFile<'a>>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UploadedFile<'a> {
    #[serde(borrow)]
    rule: Cow<'a, str>,
    /// The component in base64, up to megabytes, borrowed from the body.
    #[serde(borrow)]
    wasm: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollbackBody {
    #[serde(default)]
    hash: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EmptyBody {}

async fn deploy(State(context): State<Context>, Upload(ChangeRequest { body, turn }): Upload) -> Result<Response, ErrorReply> {
    ask(context, turn, move || files(&body).map(|(files, dry_run)| weir_control::Request::Deploy { files, dry_run })).await
}

async fn rollback(State(context): State<Context>, ChangeRequest { body, turn }: ChangeRequest) -> Result<Response, ErrorReply> {
    ask(context, turn, move || read(&body).map(|RollbackBody { hash }| weir_control::Request::Rollback { hash })).await
}

async fn resume(State(context): State<Context>, ChangeRequest { body, turn }: ChangeRequest) -> Result<Response, ErrorReply> {
    ask(context, turn, move || read(&body).map(|EmptyBody {}| weir_control::Request::Resume)).await
}

async fn start_shadow(
    State(context): State<Context>,
    Upload(ChangeRequest { body, turn }): Upload,
) -> Result<Response, ErrorReply> {
    ask(context, turn, move || files(&body).map(|(files, _)| weir_control::Request::Shadow { files })).await
}

async fn end_shadow(State(context): State<Context>, ChangeRequest { body, turn }: ChangeRequest) -> Result<Response, ErrorReply> {
    ask(context, turn, move || read(&body).map(|EmptyBody {}| weir_control::Request::EndShadow)).await
}

async fn promote(State(context): State<Context>, ChangeRequest { body, turn }: ChangeRequest) -> Result<Response, ErrorReply> {
    ask(context, turn, move || read(&body).map(|EmptyBody {}| weir_control::Request::Promote)).await
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ErrorReply> {
    serde_json::from_slice(body).map_err(|error| {
        let mut why = Bounded(String::new());
        // Writing fails if the error is longer than the part that is kept.
        let _ = write!(why, "{error}");
        unreadable(why.0)
    })
}

fn unreadable(why: impl Display) -> ErrorReply {
    ErrorReply(StatusCode::BAD_REQUEST, format!("the body can't be read: {why}"))
}

/// A writer that takes text while there is room. Then it fails, which ends the writing.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = text.floor_char_boundary(MAX_ERROR_BYTES - self.0.len());
        self.0.push_str(&text[..room]);
        if room == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

fn files(body: &[u8]) -> Result<(Vec<weir_control::File>, bool), ErrorReply> {
    check_cost(body)?;
    let Files { files, dry_run } = read(body)?;
    let decode = |UploadedFile { rule, wasm }: UploadedFile<'_>| {
        if rule.len() > MAX_NAME_BYTES {
            return Err(unreadable(format_args!("the name of a rule has more than {MAX_NAME_BYTES} bytes")));
        }
        match BASE64_STANDARD.decode(&*wasm) {
            Ok(bytes) => Ok(weir_control::File { rule: rule.into_owned(), bytes }),
            Err(error) => {
                let rule = escape_value(&rule);
                Err(ErrorReply(StatusCode::BAD_REQUEST, format!("the component of the rule `{rule}` is no base64: {error}")))
            }
        }
    };
    Ok((files.into_iter().map(decode).collect::<Result<_, _>>()?, dry_run))
}

/// Refuses, before it is parsed, a body that would take much more memory than its bytes and its components. A text with an escape
/// is copied, and each object or list takes more memory than its brackets.
fn check_cost(body: &[u8]) -> Result<(), ErrorReply> {
    if memchr::memchr(b'\\', body).is_some() {
        return Err(unreadable("it has a backslash; write base64 and the names of rules without escapes, `/` and not `\\/`"));
    }
    // One object and one list surround those of the components.
    match memchr::memchr2_iter(b'{', b'[', body).nth(MAX_FILES + 2) {
        Some(_) => Err(unreadable(format_args!("it has more than {MAX_FILES} components; hand in fewer at once"))),
        None => Ok(()),
    }
}

/// Asks the loader for the change that `request` reads from a body, and returns the answer. `request` drops the body before the
/// loader is asked. The answer may take a while.
async fn ask(
    context: Context,
    turn: Turn,
    request: impl FnOnce() -> Result<weir_control::Request, ErrorReply> + Send + 'static,
) -> Result<Response, ErrorReply> {
    let answered = off_thread(move || {
        let answer = request().map(|request| context.rules.ask(request));
        drop(turn);
        answer
    });
    match answered.await?? {
        Ok(Answer::Deployed(deployed)) if deployed.waiting => Ok((StatusCode::ACCEPTED, Json(deployed)).into_response()),
        Ok(Answer::Deployed(deployed)) => Ok(Json(deployed).into_response()),
        Ok(Answer::Shadow(shadow)) => Ok(Json(shadow).into_response()),
        Err(refusal) => Err(ErrorReply(StatusCode::CONFLICT, refusal.message)),
    }
}

/// Looks for something in the state folder. A request that is cancelled before its turn causes no work.
async fn look<T: Send + 'static>(context: Context, find: impl FnOnce(&Handle) -> T + Send + 'static) -> Result<T, ErrorReply> {
    let permit = context.looking.acquire_owned().await;
    off_thread(move || {
        let found = find(&context.rules);
        drop(permit);
        found
    })
    .await
}

/// Does slow work on a separate thread.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ErrorReply> {
    let failed =
        |_| ErrorReply(StatusCode::INTERNAL_SERVER_ERROR, "failed to find the answer; the log of the process says why".into());
    spawn_blocking(work).await.map_err(failed)
}
