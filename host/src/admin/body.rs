//! The bodies of changes: read within bounds of size and time, and what they hold in memory together is bounded too.
//!
//! A small body is read before its request gets a turn with the loader: those who send slowly keep nobody from a turn. Of bodies with
//! components, which may have megabytes, a few are in memory at a time. Where all these places are taken, a body that has been
//! arriving for long gives its place to a newer one.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::Notify;

use super::routes::Problem;
use crate::wasm::MAX_COMPONENT_BYTES;

/// Size of a body that has no components in it, bytes.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long such a body may take to arrive.
pub(super) const BODY_TIME: Duration = Duration::from_secs(5);
/// The most that a body with components may have whatever the pipeline is, bytes.
const MAX_FILES_BYTES: usize = 64 << 20;
/// How long a body with components may take to arrive: 43 MB, what four rules may have, at 12 Mbit/s.
pub(super) const FILES_TIME: Duration = Duration::from_secs(30);
/// Bodies with components in memory at a time.
pub(super) const PLACES: usize = 2;
/// A body that has been arriving for longer gives way where another one wants its place.
const YIELDS_AFTER: Duration = Duration::from_secs(2);

/// Size of a body with components for a pipeline of `rules` rules, bytes: each may be of the largest size, in base64, and one more rule
/// may be new.
pub(super) fn max_files_bytes(rules: usize) -> usize {
    let components = rules.saturating_add(1).saturating_mul(MAX_COMPONENT_BYTES);
    components.div_ceil(3).saturating_mul(4).saturating_add(MAX_BODY_BYTES).min(MAX_FILES_BYTES)
}

/// Where bodies with components are while they are in memory.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Vec<Arc<Place>>>);

#[derive(Debug)]
struct Place {
    since: Instant,
    wanted: Notify,
    complete: AtomicBool,
}

/// A place, until this goes.
#[derive(Debug)]
pub(super) struct Taken {
    places: Arc<Places>,
    place: Arc<Place>,
}

impl Places {
    /// A place, if there is one or one gives way.
    pub(super) fn take(self: &Arc<Places>) -> Option<Taken> {
        let mut all = self.all();
        if all.len() == PLACES {
            let late = |place: &&Arc<Place>| !place.is_complete() && place.since.elapsed() >= YIELDS_AFTER;
            let oldest = all.iter().filter(late).min_by_key(|place| place.since)?.clone();
            all.retain(|place| !Arc::ptr_eq(place, &oldest));
            oldest.wanted.notify_one();
        }
        let place = Arc::new(Place { since: Instant::now(), wanted: Notify::new(), complete: false.into() });
        all.push(place.clone());
        Some(Taken { places: self.clone(), place })
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }
}

impl Taken {
    /// Reads a body of at most `most` bytes into this place.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<u8>, Problem> {
        let read = tokio::select! {
            read = read(headers, body, most, FILES_TIME) => read?,
            () = self.place.wanted.notified() => {
                let text = "the body can't be read: it arrives slowly, and another request has taken its place; try again later";
                return Err(Problem(StatusCode::TOO_MANY_REQUESTS, text.into()));
            }
        };
        self.place.complete.store(true, Ordering::Relaxed);
        Ok(read)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.places.all().retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

/// Reads a body of at most `most` bytes within `time`.
pub(super) async fn read(headers: &HeaderMap, body: Body, most: usize, time: Duration) -> Result<Vec<u8>, Problem> {
    let late = |_| Problem(StatusCode::REQUEST_TIMEOUT, format!("the body can't be read: it took longer than {time:?}"));
    tokio::time::timeout(time, collect(headers, body, most)).await.map_err(late)?
}

/// What is too large is still taken from the connection, and not kept: a client that sends before it reads would see no answer.
async fn collect(headers: &HeaderMap, mut body: Body, most: usize) -> Result<Vec<u8>, Problem> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let mut fits = announced.is_none_or(|length| length <= most);
    // What is only announced takes no memory: pages that nobody has written to are not there.
    let mut bytes = Vec::with_capacity(announced.filter(|_| fits).unwrap_or_default());
    let broken = |error| Problem(StatusCode::BAD_REQUEST, format!("the body can't be read: {error}"));
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        fits = fits && bytes.len() + data.len() <= most;
        if fits {
            bytes.extend_from_slice(&data);
        } else {
            bytes = Vec::new();
        }
    }
    let large = || Problem(StatusCode::PAYLOAD_TOO_LARGE, format!("the body can't be read: it has more than {most} bytes"));
    if fits { Ok(bytes) } else { Err(large()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_may_have_what_the_rules_may_have_and_no_more_than_a_bound() {
        assert!(max_files_bytes(3) > 4 * MAX_COMPONENT_BYTES / 3 * 4 && max_files_bytes(3) < 44 << 20);
        assert_eq!(max_files_bytes(usize::MAX - 1), MAX_FILES_BYTES);
    }

    #[test]
    fn a_place_that_was_just_taken_is_kept_and_one_that_is_free_is_given() {
        let places = Arc::new(Places::default());
        let taken: Vec<Taken> = (0..PLACES).map(|_| places.take().expect("it is free")).collect();
        assert!(places.take().is_none());
        drop(taken);
        assert!(places.take().is_some());
    }
}
