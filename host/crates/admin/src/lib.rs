//! The admin interface: health, metrics, and everything about rules, over HTTP.
//!
//! The interface has a thread of its own. It reads the snapshot and asks the loader; the data loop never waits for the interface.
//! Each connection carries one request and has a time limit. The limits on slow clients and on many clients are set here, in
//! [`crowd`], in [`body`] and in [`routes`]. [`guard`] decides which requests may change something. TLS is left out on purpose:
//! on addresses other than loopback, a proxy in front provides it.

mod body;
mod crowd;
mod error_reply;
mod guard;
mod metrics;
mod routes;
mod settings;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crowd::{Connection, Crowd};
use guard::Guard;
use routes::Context;
pub use settings::{Settings, Token};
use weir_control::Handle;
use weir_engine::process_snapshot::ProcessSnapshot;

/// The longest time for a client to send the head of its request.
const HEAD_TIME: Duration = Duration::from_secs(2);
/// The longest time for a client to read its answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// The longest time for a whole connection. A deployment compiles, and waits for the data loops.
const CONNECTION_TIME: Duration = Duration::from_secs(100);
/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The pause after a connection could not be accepted because file handles ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A running interface. It stops when this value is dropped.
#[derive(Debug)]
pub struct Server {
    /// The address on which the interface listens.
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// Starts the interface that `config` asks for. Returns None if `config` asks for none. Also returns None, and logs a warning, if
/// the interface can't listen on its address, for example because another process of this host uses the address.
///
/// # Errors
/// If the token can't be read, or the thread can't be started.
pub fn serve(config: &Settings, snapshot: ProcessSnapshot, rules: Handle) -> anyhow::Result<Option<Server>> {
    let Some(listen) = &config.listen else { return Ok(None) };
    // The token is read anew for each change. A token that can't be read is reported at the start.
    config.token.as_ref().map(Token::read).transpose()?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(routes::MAX_WAITING + routes::MAX_LOOKING);
    let runtime = runtime.build().context("failed to start the admin interface")?;
    let listener = match runtime.block_on(TcpListener::bind(listen)) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(
                "there is no admin interface: failed to listen on {listen}: {error}; set `admin.listen` to another address"
            );
            return Ok(None);
        }
    };
    let address = listener.local_addr().context("failed to start the admin interface")?;
    let guard = Guard::new(listen, address, config.token.clone());
    let router = routes::router(Context::new(snapshot, rules, guard));
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name("weir-admin".into()).spawn(move || {
        runtime.block_on(accept(listener, router, stopped));
        // Does not wait for requests that wait for the loader.
        runtime.shutdown_background();
    });
    thread.context("failed to start the admin interface")?;
    tracing::info!("admin interface on http://{address}");
    Ok(Some(Server { address, _stop: stop }))
}

async fn accept(listener: TcpListener, router: Router, mut stopped: oneshot::Receiver<()>) {
    let crowd = Arc::new(Crowd::default());
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // A client that is late or disconnects harms only itself.
                crowd.admit(|guest| {
                    let answer = answer(stream, router.clone(), guest);
                    tokio::spawn(async { drop(tokio::time::timeout(CONNECTION_TIME, answer).await) }).abort_handle()
                });
                // Lets the task of this connection run before the next connection is accepted.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                tracing::debug!("failed to accept a connection to the admin interface: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer(stream: TcpStream, router: Router, guest: Arc<Connection>) -> hyper::Result<()> {
    let mut connection = http1::Builder::new();
    connection.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_TIME).max_buf_size(MAX_HEAD_BYTES);
    let (router, asking) = (TowerToHyperService::new(router), guest.clone());
    // hyper calls the service once the head of a request is complete.
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let guest = asking.clone();
        guest.asks(request.body().is_end_stream());
        request.extensions_mut().insert(guest.clone());
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            guest.answers();
            answer
        }
    });
    let late = async {
        guest.until_answered().await;
        tokio::time::sleep(ANSWER_TIME).await;
    };
    tokio::select! {
        served = connection.serve_connection(TokioIo::new(stream), service) => served,
        () = late => Ok(()),
    }
}

#[cfg(test)]
mod tests;
