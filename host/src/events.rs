//! What may happen to a running engine from outside, and how the data loop learns of it.
//!
//! Signals and the loader of rules send an [`Event`]; the data loop takes one between two transactions. Only
//! [`Event::Shutdown`] is seen earlier: whatever waits for a broker asks [`Inbox::overdue`] whether it should go on waiting.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::swap::{Prepared, Tap};
use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a batch in hand may take to finish once a shutdown was asked for. With [`CLOSE_GRACE`] and what librdkafka needs
/// to let go of its threads this stays below the 10 s that a supervisor usually grants.
pub const FINISH_GRACE: Duration = Duration::from_secs(2);
/// How long leaving the consumer group may take.
pub const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// A signal that comes again within this time is the same one: `timeout` signals its child and then its group, and so twice.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// Something that the data loop is told. Closed on purpose: whoever adds to it sees every place that has to know.
#[derive(Debug)]
pub enum Event {
    /// Finish the batch in hand, leave the group, return.
    Shutdown,
    /// Judge by other rules from the next batch on.
    Swap(Box<Prepared>),
    /// Offer samples to a candidate, or no more.
    Shadow(Option<Tap>),
}

/// The data loop's end of the channel.
#[derive(Debug)]
pub struct Inbox {
    events: Receiver<Event>,
    seen: VecDeque<Event>,
    shutdown: Option<Instant>,
}

impl Inbox {
    /// An inbox that takes what is sent to `events`.
    pub fn new(events: Receiver<Event>) -> Inbox {
        Inbox { events, seen: VecDeque::new(), shutdown: None }
    }

    /// The next event, if there is one.
    pub fn pop(&mut self) -> Option<Event> {
        self.look();
        self.seen.pop_front()
    }

    /// Whether a shutdown was asked for.
    pub fn stopping(&mut self) -> bool {
        self.look();
        self.shutdown.is_some()
    }

    /// Whether a shutdown was asked for so long ago that waiting for a broker has to end.
    pub fn overdue(&mut self) -> bool {
        self.stopping() && self.shutdown.is_some_and(|since| since.elapsed() >= FINISH_GRACE)
    }

    /// Waits for `time`, or until a shutdown is asked for. Returns whether to go on.
    pub fn wait(&mut self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.stopping() {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return true;
            }
            match self.events.recv_timeout(rest) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(rest),
            }
        }
        false
    }

    fn look(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.take(event);
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Shutdown = event {
            self.shutdown = self.shutdown.or(Some(Instant::now()));
        }
        self.seen.push_back(event);
    }
}

/// Sends [`Event::Shutdown`] on the first SIGTERM or SIGINT, and ends the process at once on the next, unless that follows so
/// soon that it must be the same.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn signals(events: Sender<Event>) -> anyhow::Result<()> {
    signals_and(events, || ())
}

/// [`signals`], with what is to be done before the process ends at once.
///
/// # Errors
/// If the handlers cannot be installed.
pub fn signals_and(events: Sender<Event>, last: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to watch for signals")?;
    let (terminate, interrupt) = {
        let _entered = runtime.enter();
        let watch = |kind| signal(kind).context("failed to watch for signals");
        (watch(SignalKind::terminate())?, watch(SignalKind::interrupt())?)
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || runtime.block_on(watch(events, terminate, interrupt, last)))
        .context("failed to start the thread that watches for signals")?;
    Ok(())
}

async fn watch(events: Sender<Event>, mut terminate: Signal, mut interrupt: Signal, last: impl FnOnce()) {
    let mut asked: Option<Instant> = None;
    loop {
        let number = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        };
        match asked {
            None => {
                asked = Some(Instant::now());
                tracing::info!(signal = number, "stopping after the batch in hand; a second signal stops at once");
                // Nobody listens any more if the engine has ended by itself; the second signal still works.
                let _ = events.send(Event::Shutdown);
            }
            Some(since) if since.elapsed() < SAME_SIGNAL => {}
            Some(_) => {
                tracing::warn!(signal = number, "stopping at once");
                last();
                std::process::exit(128 + number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_shutdown_ends_every_wait() {
        let (sender, receiver) = mpsc::channel();
        let mut inbox = Inbox::new(receiver);
        assert!(inbox.wait(Duration::from_millis(1)), "nothing was sent");
        sender.send(Event::Shutdown).unwrap();
        assert!(!inbox.wait(Duration::from_secs(3600)));
        assert!(inbox.stopping() && !inbox.overdue(), "the batch in hand has some time left");
        assert!(matches!(inbox.pop(), Some(Event::Shutdown)), "waiting does not swallow events");
        assert!(inbox.pop().is_none());
    }

    #[test]
    fn an_inbox_without_senders_stays_quiet() {
        let (_, receiver) = mpsc::channel();
        let mut inbox = Inbox::new(receiver);
        assert!(inbox.wait(Duration::from_millis(1)));
        assert!(inbox.pop().is_none());
    }
}
