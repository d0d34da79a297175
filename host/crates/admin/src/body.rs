//! Reads the bodies of requests for changes, with bounds on size, time, and the memory that all bodies take together.
//!
//! A small body is read before its request gets a turn with the loader, so that slow clients block no turn. Bodies with
//! components may have megabytes, so only a few are in memory at a time. Requests wait for these places, and get them in the
//! order of their arrival. While other requests wait, a body keeps its place only if it arrives fast. The more requests wait, the
//! faster the body has to arrive. So a client that sends at full speed soon gets a place, and keeps it, however many slow clients
//! there are.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error_reply::ErrorReply;
use weir_wasm::MAX_COMPONENT_BYTES;

/// The largest body without components, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 64 * 1024;
/// The longest time for a body without components to arrive.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(5);
/// The largest body with components, for any pipeline, in bytes.
const MAX_FILES_BYTES: usize = 64 << 20;
/// The longest time for a body with components to arrive: enough for 43 MB, the most for four rules, at 12 Mbit/s.
pub(crate) const FILES_TIME: Duration = Duration::from_secs(30);
/// The most bodies with components in memory at a time.
pub(crate) const PLACES: usize = 2;
/// The longest time for a request to wait for a place. If every other connection sends nothing, a request gets a place in 25 s.
const PLACE_TIME: Duration = Duration::from_secs(30);
/// The time for which a body keeps its place although nothing of it arrives and other requests wait.
const HEAD_START: Duration = Duration::from_millis(200);
/// The least speed of a body, in bytes per second, for each request that waits.
const PACE: usize = 1 << 20;
/// The interval at which the speed of a body is checked.
const LOOK: Duration = Duration::from_millis(50);

/// Returns the largest body with components for a pipeline of `rules` rules, in bytes. Each component may have the largest size,
/// in base64, and one rule may be new.
pub(crate) fn max_files_bytes(rules: usize) -> usize {
    let components = rules.saturating_add(1).saturating_mul(MAX_COMPONENT_BYTES);
    components.div_ceil(3).saturating_mul(4).saturating_add(MAX_BODY_BYTES).min(MAX_FILES_BYTES)
}

/// The places for bodies with components in memory.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A taken place, which is free again when this value is dropped. Its owner drops the bytes that were read into the place first.
#[derive(Debug)]
pub(crate) struct TakenPlace {
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
}

/// A request that waits for a place, until this value is dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl Default for Places {
    fn default() -> Places {
        Places { free: Arc::new(Semaphore::new(PLACES)), waiting: AtomicUsize::new(0) }
    }
}

impl Places {
    /// Returns a place, after all earlier requests have had theirs. Returns None if that takes too long.
    pub(crate) async fn take(self: &Arc<Places>) -> Option<TakenPlace> {
        let waiter = Waiter::new(&self.waiting);
        // The semaphore is fair.
        let permit = tokio::time::timeout(PLACE_TIME, self.free.clone().acquire_owned()).await.ok()?.ok()?;
        drop(waiter);
        Some(TakenPlace { places: self.clone(), _permit: permit })
    }
}

impl Waiter<'_> {
    fn new(waiting: &AtomicUsize) -> Waiter<'_> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waiter(waiting)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl TakenPlace {
    /// Reads a body of at most `most` bytes into this place.
    pub(crate) async fn read(&self, headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<u8>, ErrorReply> {
        let arrived = AtomicUsize::new(0);
        tokio::select! {
            // A body that is complete keeps its place.
            biased;
            read = within(FILES_TIME, collect(headers, body, most, &arrived)) => read,
            () = self.until_wanted(&arrived) => {
                let text = "the body can't be read: it arrives slowly, and another request has taken its place; try again later";
                Err(ErrorReply(StatusCode::TOO_MANY_REQUESTS, text.into()))
            }
        }
    }

    /// Returns once the body, of which `arrived` bytes have come, has to give its place to a request that waits.
    async fn until_wanted(&self, arrived: &AtomicUsize) {
        let began = Instant::now();
        while !is_slow(began.elapsed(), arrived.load(Ordering::Relaxed), self.places.waiting.load(Ordering::Relaxed)) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Returns whether a body of which `arrived` bytes have come in `time` is too slow while `waiting` requests wait.
fn is_slow(time: Duration, arrived: usize, waiting: usize) -> bool {
    waiting > 0 && time >= HEAD_START + Duration::from_secs_f64(arrived as f64 / (waiting * PACE) as f64)
}

/// Reads a body of at most `most` bytes within `time`.
pub(crate) async fn read(headers: &HeaderMap, body: Body, most: usize, time: Duration) -> Result<Vec<u8>, ErrorReply> {
    let arrived = AtomicUsize::new(0);
    within(time, collect(headers, body, most, &arrived)).await
}

async fn within(time: Duration, read: impl Future<Output = Result<Vec<u8>, ErrorReply>>) -> Result<Vec<u8>, ErrorReply> {
    let late = |_| ErrorReply(StatusCode::REQUEST_TIMEOUT, format!("the body can't be read: it took longer than {time:?}"));
    tokio::time::timeout(time, read).await.map_err(late)?
}

/// Reads a body, and counts the bytes that have `arrived`. A body that is too large is still taken from the connection, but
/// neither kept nor counted. Otherwise a client that sends its whole body before it reads would never see the answer.
async fn collect(headers: &HeaderMap, mut body: Body, most: usize, arrived: &AtomicUsize) -> Result<Vec<u8>, ErrorReply> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut fits = announced.is_none_or(|length| length <= most);
    // A length that is only announced takes no memory: the system provides pages only when they are written.
    let mut bytes = Vec::with_capacity(announced.filter(|_| fits).unwrap_or_default());
    let broken = |error| ErrorReply(StatusCode::BAD_REQUEST, format!("the body can't be read: {error}"));
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        fits = fits && bytes.len() + data.len() <= most;
        if fits {
            bytes.extend_from_slice(&data);
            arrived.store(bytes.len(), Ordering::Relaxed);
        } else {
            bytes = Vec::new();
        }
    }
    let large = || ErrorReply(StatusCode::PAYLOAD_TOO_LARGE, format!("the body can't be read: it has more than {most} bytes"));
    if fits { Ok(bytes) } else { Err(large()) }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::{Context, Poll};

    use axum::body::Bytes;
    use hyper::body::Frame;

    use super::*;

    /// A body of which nothing arrives.
    struct Silence;

    impl HttpBody for Silence {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_body_may_have_what_the_rules_may_have_and_no_more_than_a_bound() {
        assert!(max_files_bytes(3) > 4 * MAX_COMPONENT_BYTES / 3 * 4 && max_files_bytes(3) < 44 << 20);
        assert_eq!(max_files_bytes(usize::MAX - 1), MAX_FILES_BYTES);
    }

    #[test]
    fn a_body_has_to_arrive_the_faster_the_more_wait_for_its_place() {
        let second = Duration::from_secs(1);
        assert!(!is_slow(FILES_TIME, 0, 0), "nobody wants its place");
        assert!(!is_slow(HEAD_START / 2, 0, 200) && is_slow(HEAD_START, 0, 1), "nothing has arrived");
        assert!(!is_slow(second, PACE, 1) && is_slow(second, PACE, 2));
        assert!(!is_slow(second, 200 * PACE, 200), "it arrives at once");
    }

    #[test]
    fn a_body_that_does_not_arrive_gives_its_place_to_the_request_that_has_waited_longest() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let places = Arc::new(Places::default());
            let (silent, other) = (places.take().await.unwrap(), places.take().await.unwrap());
            let waits = || {
                let places = places.clone();
                tokio::spawn(async move { places.take().await })
            };
            let (first, second) = (waits(), waits());
            while places.waiting.load(Ordering::Relaxed) < 2 {
                tokio::task::yield_now().await;
            }
            let ErrorReply(status, _) = silent.read(&HeaderMap::new(), Body::new(Silence), 1).await.unwrap_err();
            assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
            tokio::task::yield_now().await;
            assert!(!first.is_finished(), "the place is its own until it is gone");
            drop(silent);
            let first = first.await.unwrap();
            assert!(first.is_some() && !second.is_finished(), "there are {PLACES} places, and no more");
            drop(other);
            assert!(second.await.unwrap().is_some());
            assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
        });
    }
}
