//! A network that fails on command: a TCP proxy in front of the brokers that knows the frames of Kafka's protocol.
//!
//! It can delay all frames, cut all connections, drop all frames while connections stay open, and hold back requests or answers
//! of one kind. When held frames are released, the proxy delivers them even if the client has closed the connection long before.
//! So a late request can arrive after a newer request of another connection.
//!
//! A request is `[size i32][api key i16][version i16][correlation id i32]…`, an answer `[size i32][correlation id i32]…`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::program::within;

/// The number of frames that may be under way in one direction of a connection.
const UNDER_WAY: usize = 256;
/// The largest frame that is passed on. Brokers refuse larger requests.
const LARGEST_FRAME: usize = 100 << 20;
/// The time that a client may take to send the frame that a test waits for.
const CATCHING: Duration = Duration::from_secs(60);

/// Kinds of requests, by Kafka's API keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Api {
    Produce = 0,
    JoinGroup = 11,
    InitProducerId = 22,
    AddPartitionsToTxn = 24,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    TxnOffsetCommit = 28,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Request,
    Answer,
}

/// A proxy for all brokers of a cluster.
pub struct Proxy {
    fronts: Vec<SocketAddr>,
    rules: Arc<Rules>,
}

#[derive(Default)]
struct Rules {
    state: Mutex<State>,
    changed: Condvar,
    closed: AtomicBool,
}

#[derive(Default)]
struct State {
    latency: Duration,
    swallow: bool,
    holds: Vec<Hold>,
    links: Vec<Weak<Link>>,
}

struct Hold {
    api: Api,
    side: Side,
    /// The number of frames still to catch; all further frames pass.
    left: usize,
    caught: Arc<AtomicUsize>,
}

/// A connection from a client, and the connection to the broker that belongs to it.
struct Link {
    client: TcpStream,
    broker: TcpStream,
    /// The kinds of the requests that are not answered yet, by correlation id.
    asked: Mutex<HashMap<i32, i16>>,
}

/// Frames that are held back until this value is dropped.
pub struct Held<'a> {
    proxy: &'a Proxy,
    caught: Arc<AtomicUsize>,
    what: String,
}

impl Held<'_> {
    /// Waits until a frame is caught.
    pub fn wait(&self) {
        within(CATCHING, format_args!("the proxy catches {}", self.what), || (self.caught() > 0).then_some(()));
    }

    pub fn caught(&self) -> usize {
        self.caught.load(Ordering::SeqCst)
    }

    /// Delivers the frames that are held.
    pub fn release(self) {}
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.proxy.rules.change(|state| state.holds.retain(|hold| !Arc::ptr_eq(&hold.caught, &self.caught)));
    }
}

impl Proxy {
    /// Starts a proxy with an address for each of `brokers`.
    pub fn start(brokers: &[SocketAddr]) -> Proxy {
        let rules = Arc::new(Rules::default());
        let listeners: Vec<TcpListener> = brokers.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let fronts = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        for (listener, broker) in listeners.into_iter().zip(brokers.to_vec()) {
            let rules = rules.clone();
            thread::spawn(move || accept(&listener, broker, &rules));
        }
        Proxy { fronts, rules }
    }

    /// Returns the addresses of the proxy, in the order of the brokers.
    pub fn fronts(&self) -> &[SocketAddr] {
        &self.fronts
    }

    /// Returns the bootstrap addresses for clients.
    pub fn address(&self) -> String {
        self.fronts.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
    }

    /// Delays every frame by this time.
    pub fn delay(&self, latency: Duration) {
        self.rules.change(|state| state.latency = latency);
    }

    /// Begins or stops to drop all frames. Connections stay open.
    pub fn swallow(&self, swallow: bool) {
        self.rules.change(|state| state.swallow = swallow);
    }

    /// Cuts all connections. New ones can be made.
    pub fn cut(&self) {
        let links = self.rules.change(|state| std::mem::take(&mut state.links));
        links.iter().filter_map(Weak::upgrade).for_each(|link| link.cut());
    }

    /// Holds back the next `count` frames of a kind, and the frames that follow them on their connections.
    pub fn hold(&self, side: Side, api: Api, count: usize) -> Held<'_> {
        let caught = Arc::new(AtomicUsize::new(0));
        self.rules.change(|state| state.holds.push(Hold { api, side, left: count, caught: caught.clone() }));
        Held { proxy: self, caught, what: format!("{api:?} ({side:?})") }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.rules.closed.store(true, Ordering::SeqCst);
        self.rules.change(|state| state.holds.clear());
        self.cut();
        // Wakes the threads that wait for a connection.
        self.fronts.iter().for_each(|front| drop(TcpStream::connect(front)));
    }
}

impl Rules {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state());
        self.changed.notify_all();
        changed
    }

    /// Waits until the frame may go on. Returns false if the frame is to be dropped.
    fn pass(&self, frame: &Frame, side: Side) -> bool {
        let mut state = self.state();
        let hold = state.holds.iter_mut().find(|hold| hold.side == side && hold.left > 0 && Some(hold.api as i16) == frame.api);
        if let Some(hold) = hold {
            hold.left -= 1;
            hold.caught.fetch_add(1, Ordering::SeqCst);
            let caught = hold.caught.clone();
            let held = |state: &mut State| state.holds.iter().any(|hold| Arc::ptr_eq(&hold.caught, &caught));
            state = self.changed.wait_while(state, held).unwrap();
        }
        let due = frame.came + state.latency;
        let swallowed = state.swallow;
        drop(state);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        !swallowed
    }
}

/// A frame with its size, the time of its arrival, and the kind of its request if this is known.
struct Frame {
    bytes: Vec<u8>,
    came: Instant,
    api: Option<i16>,
}

impl Frame {
    fn read(from: &mut impl Read) -> io::Result<Frame> {
        let mut bytes = vec![0; 4];
        from.read_exact(&mut bytes)?;
        let size = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if size > LARGEST_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        bytes.resize(4 + size, 0);
        from.read_exact(&mut bytes[4..])?;
        Ok(Frame { bytes, came: Instant::now(), api: None })
    }

    fn short(&self, at: usize) -> Option<i16> {
        Some(i16::from_be_bytes(self.bytes.get(at..at + 2)?.try_into().ok()?))
    }

    fn int(&self, at: usize) -> Option<i32> {
        Some(i32::from_be_bytes(self.bytes.get(at..at + 4)?.try_into().ok()?))
    }
}

impl Link {
    fn cut(&self) {
        // One of the two connections may be closed already.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.broker.shutdown(Shutdown::Both);
    }

    /// Returns the stream that frames of `side` come from, and the stream that they go to.
    fn ends(&self, side: Side) -> (&TcpStream, &TcpStream) {
        match side {
            Side::Request => (&self.client, &self.broker),
            Side::Answer => (&self.broker, &self.client),
        }
    }

    /// Determines the kind of a frame.
    fn recognise(&self, frame: &mut Frame, side: Side) {
        let mut asked = self.asked.lock().unwrap();
        frame.api = match side {
            Side::Request => {
                if let (Some(api), Some(correlation)) = (frame.short(4), frame.int(8)) {
                    asked.insert(correlation, api);
                }
                frame.short(4)
            }
            Side::Answer => frame.int(4).and_then(|correlation| asked.remove(&correlation)),
        };
    }
}

fn accept(listener: &TcpListener, broker: SocketAddr, rules: &Arc<Rules>) {
    for client in listener.incoming() {
        if rules.closed.load(Ordering::SeqCst) {
            return;
        }
        // If the broker does not listen, the client's connection is closed.
        let (Ok(client), Ok(broker)) = (client, TcpStream::connect(broker)) else { continue };
        for stream in [&client, &broker] {
            stream.set_nodelay(true).unwrap();
        }
        let link = Arc::new(Link { client, broker, asked: Mutex::default() });
        rules.change(|state| {
            state.links.retain(|link| link.strong_count() > 0);
            state.links.push(Arc::downgrade(&link));
        });
        for side in [Side::Request, Side::Answer] {
            pump(link.clone(), side, rules.clone());
        }
    }
}

/// Carries frames over, in two threads, so that a delayed frame does not delay the next one. When one end has closed its
/// connection and all its frames are delivered, the connection to the other end is closed as well.
fn pump(link: Arc<Link>, side: Side, rules: Arc<Rules>) {
    let (sender, queue) = mpsc::sync_channel::<Frame>(UNDER_WAY);
    let reading = link.clone();
    thread::spawn(move || {
        while let Ok(mut frame) = Frame::read(&mut reading.ends(side).0) {
            reading.recognise(&mut frame, side);
            if sender.send(frame).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        let (_, mut to) = link.ends(side);
        for frame in queue {
            if rules.pass(&frame, side) && to.write_all(&frame.bytes).is_err() {
                break;
            }
        }
        // The connection may be closed already.
        let _ = to.shutdown(Shutdown::Write);
    });
}
