//! What can be asked for, and how it is answered.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;

use super::guard::{Denied, Guard};
use super::metrics;
use crate::snapshot::{self, Shared};
use crate::start::now;
use crate::swap::{self, Answer, Handle};

/// Requests that wait for the loader at a time: it does one after the other.
pub(super) const MAX_WAITING: usize = 8;
/// Size of a request that has no components in it, bytes.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// Size of a request with components, bytes: some of the largest that are compiled, in base64.
const MAX_FILES_BYTES: usize = 64 << 20;
/// After so long without a sign of life the data loop counts as stuck, in milliseconds: longer than it waits for anything.
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

/// What every answer is made from.
#[derive(Clone)]
pub(super) struct Context {
    snapshot: Shared,
    rules: Handle,
    guard: Arc<Guard>,
    waiting: Arc<Semaphore>,
}

impl Context {
    pub(super) fn new(snapshot: Shared, rules: Handle, guard: Guard) -> Context {
        Context { snapshot, rules, guard: Arc::new(guard), waiting: Arc::new(Semaphore::new(MAX_WAITING)) }
    }
}

pub(super) fn router(context: Context) -> Router {
    let files = DefaultBodyLimit::max(MAX_FILES_BYTES);
    Router::new()
        .route("/", get(|| async { INDEX }))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/rules", get(status))
        .route("/api/rules/history", get(history))
        .route("/api/rules/diff", get(diff))
        .route("/api/rules/deploy", post(deploy).layer(files))
        .route("/api/rules/rollback", post(rollback))
        .route("/api/rules/resume", post(resume))
        .route("/api/rules/shadow", get(shadow).post(start_shadow).layer(files))
        .route("/api/rules/shadow/end", post(end_shadow))
        .route("/api/rules/promote", post(promote))
        .method_not_allowed_fallback(|| async {
            Problem(StatusCode::METHOD_NOT_ALLOWED, "this takes another method; `GET /` lists them".into())
        })
        .fallback(|| async { Problem(StatusCode::NOT_FOUND, "there is nothing here; `GET /` lists what there is".into()) })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(context.clone(), guarded))
        .with_state(context)
}

/// An answer that tells what is wrong.
struct Problem(StatusCode, String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

/// A body within its bound.
struct Body(Bytes);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Body, Problem> {
        let problem = |status, text| Problem(status, format!("the body can't be read: {text}"));
        let read = Bytes::from_request(request, state).await;
        read.map(Body).map_err(|rejection| problem(rejection.status(), rejection.body_text()))
    }
}

async fn guarded(State(context): State<Context>, request: Request, next: Next) -> Response {
    match context.guard.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(Denied(status, why)) => Problem(status, why.into()).into_response(),
    }
}

async fn healthz(State(context): State<Context>) -> Result<&'static str, Problem> {
    let silent = now() - context.snapshot.last_sign();
    // At the start it waits for Kafka as long as that takes.
    match silent < STUCK || context.snapshot.get().state == snapshot::State::Connecting {
        true => Ok("ok\n"),
        false => {
            let why = format!("the data loop has given no sign of life for {} s", silent / 1_000);
            Err(Problem(StatusCode::SERVICE_UNAVAILABLE, why))
        }
    }
}

async fn readyz(State(context): State<Context>) -> Result<&'static str, Problem> {
    let why = match context.snapshot.get().state {
        snapshot::State::Running => return Ok("ready\n"),
        snapshot::State::Connecting => "connecting to Kafka".to_owned(),
        snapshot::State::Waiting(why) => format!("waiting: {why}"),
        snapshot::State::Stopping | snapshot::State::Stopped => "stopping".to_owned(),
    };
    Err(Problem(StatusCode::SERVICE_UNAVAILABLE, why))
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    let text = metrics::text(&context.snapshot.get(), &context.rules.status());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn status(State(context): State<Context>) -> impl IntoResponse {
    Json(context.rules.status())
}

async fn shadow(State(context): State<Context>) -> Result<impl IntoResponse, Problem> {
    let none = || Problem(StatusCode::NOT_FOUND, "no candidate runs; `weir rules shadow` starts one".into());
    context.rules.status().shadow.map(Json).ok_or_else(none)
}

async fn history(State(context): State<Context>) -> Result<Response, Problem> {
    ask(context, swap::Request::History).await
}

#[derive(Deserialize)]
struct Two {
    a: String,
    b: String,
}

async fn diff(State(context): State<Context>, query: Result<Query<Two>, QueryRejection>) -> Result<Response, Problem> {
    let unreadable = |rejection: QueryRejection| Problem(StatusCode::BAD_REQUEST, rejection.body_text());
    let Query(Two { a, b }) = query.map_err(unreadable)?;
    ask(context, swap::Request::Diff { a, b }).await
}

/// A body with components.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Files {
    files: Vec<File>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: String,
    /// Base64.
    wasm: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    hash: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

async fn deploy(State(context): State<Context>, Body(body): Body) -> Result<Response, Problem> {
    let (files, dry_run) = files(&body)?;
    ask(context, swap::Request::Deploy { files, dry_run }).await
}

async fn rollback(State(context): State<Context>, Body(body): Body) -> Result<Response, Problem> {
    let Which { hash } = read(&body)?;
    ask(context, swap::Request::Rollback { hash }).await
}

async fn resume(State(context): State<Context>, Body(body): Body) -> Result<Response, Problem> {
    let Nothing {} = read(&body)?;
    ask(context, swap::Request::Resume).await
}

async fn start_shadow(State(context): State<Context>, Body(body): Body) -> Result<Response, Problem> {
    let (files, _) = files(&body)?;
    ask(context, swap::Request::Shadow { files }).await
}

async fn end_shadow(State(context): State<Context>, Body(body): Body) -> Result<Response, Problem> {
    let Nothing {} = read(&body)?;
    ask(context, swap::Request::EndShadow).await
}

async fn promote(State(context): State<Context>, Body(body): Body) -> Result<Response, Problem> {
    let Nothing {} = read(&body)?;
    ask(context, swap::Request::Promote).await
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem(StatusCode::BAD_REQUEST, format!("the body can't be read: {error}")))
}

fn files(body: &[u8]) -> Result<(Vec<swap::File>, bool), Problem> {
    let Files { files, dry_run } = read(body)?;
    let decode = |File { rule, wasm }: File| match BASE64_STANDARD.decode(wasm) {
        Ok(bytes) => Ok(swap::File { rule, bytes }),
        Err(error) => {
            let rule = rule.escape_debug();
            Err(Problem(StatusCode::BAD_REQUEST, format!("the component of the rule `{rule}` is no base64: {error}")))
        }
    };
    Ok((files.into_iter().map(decode).collect::<Result<_, _>>()?, dry_run))
}

/// Asks the loader, which may take a while.
async fn ask(context: Context, request: swap::Request) -> Result<Response, Problem> {
    let Ok(permit) = Arc::clone(&context.waiting).try_acquire_owned() else {
        return Err(Problem(StatusCode::TOO_MANY_REQUESTS, "other requests wait already; try again later".into()));
    };
    let answered = tokio::task::spawn_blocking(move || {
        let answer = context.rules.ask(request);
        drop(permit);
        answer
    });
    match answered.await {
        Ok(Ok(answer)) => Ok(match answer {
            Answer::Deployed(deployed) => Json(deployed).into_response(),
            Answer::History(history) => Json(history).into_response(),
            Answer::Changes(changes) => Json(changes).into_response(),
            Answer::Shadow(shadow) => Json(shadow).into_response(),
        }),
        Ok(Err(refusal)) => Err(Problem(StatusCode::CONFLICT, refusal.message)),
        Err(_) => Err(Problem(StatusCode::INTERNAL_SERVER_ERROR, "failed to ask the loader".into())),
    }
}
