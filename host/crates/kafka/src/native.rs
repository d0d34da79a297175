//! The few calls of librdkafka that the Rust client lacks, or in which the Rust client panics on data that other clients may send
//! or allocates for every record. All unsafe code of the host's Kafka side is in this file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionList;
use weir_core::record::Arena;

/// The most bytes that a length takes in a record.
pub(super) const LENGTH_BYTES: usize = 5;
/// The name under which the client knows the interceptor that sees its requests.
const NAME: &CStr = c"weir";
/// The number of the request in the protocol by which records are sent.
const PRODUCE: i16 = 0;
/// The interval at which a wait asks whether it should go on.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Returns librdkafka's table of its properties, one a line, with `|` between name, kind of client, range and more.
pub(super) fn properties() -> String {
    let (mut text, mut size) = (ptr::null_mut(), 0);
    // SAFETY: text and size outlive the stream, which is closed here. After that the text has `size` bytes, is ours, and is freed
    // here.
    unsafe {
        let stream = libc::open_memstream(&raw mut text, &raw mut size);
        if stream.is_null() {
            return String::new();
        }
        rd::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
        let table = String::from_utf8_lossy(std::slice::from_raw_parts(text.cast::<u8>(), size)).into_owned();
        libc::free(text.cast());
        table
    }
}

/// Calls `each` with the name and value of every header of `message`, in order.
///
/// The Rust client's own accessor panics on a name that is not UTF-8, which any producer may send. Here such a name is converted,
/// with U+FFFD for each part that can't be converted.
pub(super) fn headers(message: &BorrowedMessage<'_>, each: impl FnMut(Cow<'_, str>, Option<&[u8]>)) {
    // SAFETY: the message is alive for the whole call.
    unsafe { headers_of(message.ptr(), each) }
}

/// Calls `each` with the name and value of every header of `message`, in order.
///
/// # Safety
/// `message` has to be alive.
unsafe fn headers_of(message: *const rd::rd_kafka_message_t, mut each: impl FnMut(Cow<'_, str>, Option<&[u8]>)) {
    let mut headers = ptr::null_mut();
    // SAFETY: the message is alive for this whole function, and owns the headers that it hands out.
    let code = unsafe { rd::rd_kafka_message_headers(message, &raw mut headers) };
    if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return;
    }
    for index in 0.. {
        let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
        // SAFETY: as above; an index past the end is answered with an error.
        let code = unsafe { rd::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut size) };
        if code != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: on success the name is a terminated string, and the value null or `size` bytes, all owned by the message.
        let (name, value) =
            unsafe { (CStr::from_ptr(name), (!value.is_null()).then(|| std::slice::from_raw_parts(value.cast::<u8>(), size))) };
        each(name.to_string_lossy(), value);
    }
}

/// The events of a consumer, as librdkafka reports them. The Rust client drops the offset at which a partition ends.
pub(super) struct Events(NonNull<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread, and count their references themselves.
unsafe impl Send for Events {}

/// One event of a consumer.
pub(super) enum ConsumerEvent {
    Message(Fetched),
    /// The end of a partition: the partition, and one past its last offset. All records before the end came earlier.
    End(i32, i64),
    /// The group assigns these partitions.
    Assigned(Vec<i32>),
    /// The group revokes all partitions.
    Revoked,
    /// An error, with the partition and offset that it is about, if it is about one.
    Error(KafkaError, Option<(i32, i64)>),
    /// An event that was handled here. The caller has nothing to do.
    Served,
}

impl Events {
    /// Returns the queue of `consumer`. The queue must be dropped before the consumer.
    pub(super) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Events> {
        // SAFETY: the client is alive. The reference is ours.
        NonNull::new(unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) }).map(Events)
    }

    /// Returns the next event, or None if none comes within `wait`. Hands logs and errors to the `context`.
    pub(super) fn poll(&self, wait: Duration, context: &impl ClientContext) -> Option<ConsumerEvent> {
        // SAFETY: the queue is ours, and so is the event.
        let event = Owned(NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.0.as_ptr(), wait.as_millis() as i32) })?);
        // SAFETY: the event is alive in all of what follows; `Fetched` keeps it alive as long as its message.
        unsafe {
            let raw = event.0.as_ptr();
            Some(match rd::rd_kafka_event_type(raw) {
                rd::RD_KAFKA_EVENT_FETCH => match NonNull::new(rd::rd_kafka_event_message_next(raw).cast_mut()) {
                    Some(message) => ConsumerEvent::Message(Fetched { message, _event: event }),
                    None => ConsumerEvent::Served,
                },
                rd::RD_KAFKA_EVENT_REBALANCE => rebalance(raw),
                rd::RD_KAFKA_EVENT_ERROR => error(raw, context),
                rd::RD_KAFKA_EVENT_LOG => {
                    log(raw, context);
                    ConsumerEvent::Served
                }
                _ => ConsumerEvent::Served,
            })
        }
    }
}

#[cfg(test)]
impl Events {
    /// Returns the number of events that wait to be polled.
    pub(super) fn len(&self) -> usize {
        // SAFETY: the queue is ours.
        unsafe { rd::rd_kafka_queue_length(self.0.as_ptr()) }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        // SAFETY: the reference is ours.
        unsafe { rd::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// An event, destroyed when it is dropped.
struct Owned(NonNull<rd::rd_kafka_event_t>);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the event is ours.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// A record that was read.
pub(super) struct Fetched {
    message: NonNull<rd::rd_kafka_message_t>,
    /// Owns the message.
    _event: Owned,
}

impl Fetched {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the event that owns the message is alive.
        unsafe { self.message.as_ref() }
    }

    pub(super) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Returns the timestamp in milliseconds. Returns None if the record has none, which is -1 in the protocol.
    pub(super) fn timestamp(&self) -> Option<i64> {
        let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive; the call writes a number.
        let timestamp = unsafe { rd::rd_kafka_message_timestamp(self.message.as_ptr(), &raw mut kind) };
        let none = timestamp == -1 || kind == rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (!none).then_some(timestamp)
    }

    pub(super) fn key(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: the message owns `key_len` bytes there.
        (!raw.key.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.key.cast::<u8>(), raw.key_len) })
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        let raw = self.raw();
        // SAFETY: the message owns `len` bytes there.
        (!raw.payload.is_null()).then(|| unsafe { std::slice::from_raw_parts(raw.payload.cast::<u8>(), raw.len) })
    }

    /// Calls `each` with the name and value of every header, in order.
    pub(super) fn headers(&self, each: impl FnMut(Cow<'_, str>, Option<&[u8]>)) {
        // SAFETY: the message is alive.
        unsafe { headers_of(self.message.as_ptr(), each) }
    }
}

/// Returns the event of a rebalance.
///
/// # Safety
/// `event` has to be alive, and a rebalance.
unsafe fn rebalance(event: *mut rd::rd_kafka_event_t) -> ConsumerEvent {
    // SAFETY: the list belongs to the event, and is read before the event is destroyed.
    unsafe {
        match rd::rd_kafka_event_error(event) {
            rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let list = slice(rd::rd_kafka_event_topic_partition_list(event));
                ConsumerEvent::Assigned(list.iter().map(|element| element.partition).collect())
            }
            _ => ConsumerEvent::Revoked,
        }
    }
}

/// Returns the event of an error, and reports the error to the `context`, unless the event is the end of a partition.
///
/// # Safety
/// `event` has to be alive, and an error.
unsafe fn error(event: *mut rd::rd_kafka_event_t, context: &impl ClientContext) -> ConsumerEvent {
    // SAFETY: the text is read before the event is destroyed.
    unsafe {
        let code = RDKafkaErrorCode::from(rd::rd_kafka_event_error(event));
        let place = place(event);
        if code == RDKafkaErrorCode::PartitionEOF {
            return place.map_or(ConsumerEvent::Served, |(partition, end)| ConsumerEvent::End(partition, end));
        }
        let reason = CStr::from_ptr(rd::rd_kafka_event_error_string(event)).to_string_lossy();
        context.error(KafkaError::Global(code), reason.trim());
        match (code, rd::rd_kafka_event_error_is_fatal(event) != 0) {
            (RDKafkaErrorCode::NoError, _) => ConsumerEvent::Served,
            (_, true) => ConsumerEvent::Error(KafkaError::MessageConsumptionFatal(code), place),
            (_, false) => ConsumerEvent::Error(KafkaError::MessageConsumption(code), place),
        }
    }
}

/// Returns the partition and offset that an event is about.
///
/// # Safety
/// `event` has to be alive.
unsafe fn place(event: *mut rd::rd_kafka_event_t) -> Option<(i32, i64)> {
    // SAFETY: the result is null, or ours to destroy.
    unsafe {
        let found = NonNull::new(rd::rd_kafka_event_topic_partition(event))?;
        let place = (found.as_ref().partition, found.as_ref().offset);
        rd::rd_kafka_topic_partition_destroy(found.as_ptr());
        Some(place)
    }
}

/// Hands a line of the client's log to the `context`.
///
/// # Safety
/// `event` has to be alive, and a line of the log.
unsafe fn log(event: *mut rd::rd_kafka_event_t, context: &impl ClientContext) {
    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: on success both texts are terminated, and belong to the event.
    unsafe {
        if rd::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) == 0 {
            let (facility, line) = (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(line).to_string_lossy());
            context.log(severity(level), facility.trim(), line.trim());
        }
    }
}

/// Returns the severity for a level of syslog.
fn severity(level: i32) -> RDKafkaLogLevel {
    match level {
        0 => RDKafkaLogLevel::Emerg,
        1 => RDKafkaLogLevel::Alert,
        2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 => RDKafkaLogLevel::Notice,
        6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    }
}

/// A request with records, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// The version of the request in the protocol.
    pub(super) version: i16,
    /// The size of the whole request, in bytes.
    pub(super) bytes: usize,
}

/// The requests with records that a client has sent, in order, until they are taken.
#[derive(Default)]
struct Requests {
    sent: Mutex<Vec<Sent>>,
    more: Condvar,
}

/// A producer whose requests are seen. It has to outlive its topics.
pub(super) struct WatchedProducer<C: ClientContext> {
    /// Dropped before `requests`, because the client's threads write to them.
    client: Client<C>,
    requests: Arc<Requests>,
}

impl<C: ClientContext> WatchedProducer<C> {
    pub(super) fn open(settings: &ClientConfig, context: C) -> KafkaResult<WatchedProducer<C>> {
        let (native, requests) = (settings.create_native_config()?, Arc::<Requests>::default());
        // SAFETY: the configuration is alive, and the name is copied. The data for the interceptor outlives the client.
        unsafe {
            let opaque = Arc::as_ptr(&requests).cast_mut().cast();
            rd::rd_kafka_conf_interceptor_add_on_new(native.ptr(), NAME.as_ptr(), Some(on_new), opaque);
        }
        let client = Client::new(settings, native, rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, context)?;
        Ok(WatchedProducer { client, requests })
    }

    pub(super) fn client(&self) -> &Client<C> {
        &self.client
    }

    /// Takes the requests that were sent, as soon as there are `count` of them or `patience` is over.
    pub(super) fn take(&self, count: usize, patience: Duration) -> Vec<Sent> {
        let mut sent = self.requests.sent.lock();
        self.requests.more.wait_while_for(&mut sent, |sent| sent.len() < count, patience);
        std::mem::take(&mut sent)
    }
}

/// Makes a new client report its requests to [`on_request_sent`]. The client calls this before it starts a thread.
unsafe extern "C" fn on_new(
    client: *mut rd::rd_kafka_t,
    _: *const rd::rd_kafka_conf_t,
    requests: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> rd::rd_kafka_resp_err_t {
    // SAFETY: the client calls this while it is being made, and copies the name.
    unsafe { rd::rd_kafka_interceptor_add_on_request_sent(client, NAME.as_ptr(), Some(on_request_sent), requests) }
}

/// Notes a request with records. A thread of the client calls this for each request that has gone out.
unsafe extern "C" fn on_request_sent(
    _: *mut rd::rd_kafka_t,
    _: i32,
    _: *const c_char,
    _: i32,
    kind: i16,
    version: i16,
    _: i32,
    bytes: usize,
    requests: *mut c_void,
) -> rd::rd_kafka_resp_err_t {
    if kind == PRODUCE {
        // SAFETY: the requests outlive the client, see `WatchedProducer`.
        let requests = unsafe { &*requests.cast_const().cast::<Requests>() };
        requests.sent.lock().push(Sent { version, bytes });
        requests.more.notify_one();
    }
    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// The headers of a record that is to be sent. The Rust client's own type would copy every name once more.
pub(super) struct Headers {
    list: NonNull<rd::rd_kafka_headers_t>,
    bytes: usize,
}

impl Headers {
    /// Returns an empty list with room for `room` headers.
    pub(super) fn new(room: usize) -> Headers {
        // SAFETY: librdkafka ends the process if it gets no memory, and never returns null.
        let list = NonNull::new(unsafe { rd::rd_kafka_headers_new(room) }).expect("there are headers");
        Headers { list, bytes: 0 }
    }

    /// Returns the most bytes that the headers take in a record.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a header.
    pub(super) fn add(&mut self, name: &str, value: Option<&[u8]>) {
        self.bytes += header_bytes(name, value);
        let (bytes, size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr().cast(), value.len() as isize));
        // SAFETY: the headers are ours; name and value are copied. The call fails only for headers that are read-only.
        unsafe { rd::rd_kafka_header_add(self.list.as_ptr(), name.as_ptr().cast(), name.len() as isize, bytes, size) };
    }
}

/// Returns the most bytes that a header takes in a record.
pub(super) fn header_bytes(name: &str, value: Option<&[u8]>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + 2 * LENGTH_BYTES
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: the headers are ours until a message takes them over, and then they are forgotten.
        unsafe { rd::rd_kafka_headers_destroy(self.list.as_ptr()) };
    }
}

/// A record to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    /// The partition to write to. None leaves the choice to the partitioner.
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    /// The arena in which the value lies, if it lies in one. A [`Lending`] producer then reads the value there, without a copy.
    pub(super) arena: Option<&'a Arena>,
    pub(super) timestamp: Option<i64>,
    pub(super) headers: Option<Headers>,
    /// The number that comes back with the delivery report, if the record was not delivered.
    pub(super) tag: usize,
}

/// The context of a producer that reads values where they lie. It keeps their arenas, at the longest until the client is gone,
/// because the Rust client drops a context after its client.
pub(super) struct Lending<C> {
    context: C,
    lent: Arc<Lent>,
}

/// The arenas from which a client may still read.
#[derive(Default)]
struct Lent(Mutex<Vec<Arena>>);

impl<C> Lending<C> {
    pub(super) fn new(context: C) -> Lending<C> {
        Lending { context, lent: Arc::default() }
    }
}

impl Lent {
    /// Keeps `arena`. Mostly it is one of the last two already: a chunk has an arena for what came, and one for what was written.
    fn keep(&self, arena: &Arena) {
        let mut lent = self.0.lock();
        if !lent.iter().rev().take(2).any(|kept| Arc::ptr_eq(kept, arena)) {
            lent.push(arena.clone());
        }
    }
}

impl<C> Deref for Lending<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.context
    }
}

impl<C: ClientContext> ClientContext for Lending<C> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.context.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.context.error(error, reason);
    }
}

impl<C: ProducerContext> ProducerContext for Lending<C> {
    type DeliveryOpaque = C::DeliveryOpaque;

    fn delivery(&self, result: &DeliveryResult<'_>, tag: C::DeliveryOpaque) {
        self.context.delivery(result, tag);
    }
}

/// Gives all arenas back that `producer` has kept, if no record is on its way and every report is served. Does nothing otherwise.
pub(super) fn give_back<C: ProducerContext>(producer: &Client<Lending<C>>) {
    // SAFETY: the client outlives the call, which counts records, and reports that are not served.
    if unsafe { rd::rd_kafka_outq_len(producer.native_ptr()) } == 0 {
        producer.context().lent.0.lock().clear();
    }
}

/// A topic as a producer knows it. It has to be dropped before the producer.
pub(super) struct Topic {
    producer: *mut rd::rd_kafka_t,
    handle: NonNull<rd::rd_kafka_topic_t>,
    /// None if the producer's context does not keep arenas.
    lent: Option<Arc<Lent>>,
}

// SAFETY: librdkafka's handles may be used from any thread, and count their references themselves.
unsafe impl Send for Topic {}

impl Topic {
    /// Returns the topic `name` of `producer`. Returns None if no topic can have this name.
    pub(super) fn open<C: ClientContext>(producer: &Client<C>, name: &str) -> Option<Topic> {
        let (producer, name) = (producer.native_ptr(), CString::new(name).ok()?);
        // SAFETY: the client outlives the call, which copies the name, and no configuration is handed over.
        let handle = unsafe { rd::rd_kafka_topic_new(producer, name.as_ptr(), ptr::null_mut()) };
        NonNull::new(handle).map(|handle| Topic { producer, handle, lent: None })
    }

    /// Returns the topic `name` of `producer`, to which values are sent without a copy. Returns None if no topic can have this
    /// name.
    pub(super) fn open_lending<C: ClientContext>(producer: &Client<Lending<C>>, name: &str) -> Option<Topic> {
        let mut topic = Topic::open(producer, name)?;
        topic.lent = Some(producer.context().lent.clone());
        Some(topic)
    }

    /// Keeps the arena in which the value of `message` lies. Returns how librdkafka is to treat the value: as one that stays where
    /// it is, or as one to be copied, if there is no arena or nothing that keeps it.
    fn lend(&self, message: &Outgoing<'_>) -> c_int {
        match (&self.lent, message.arena, message.value) {
            (Some(lent), Some(arena), Some(value)) if lies_in(value, arena) => {
                lent.keep(arena);
                0
            }
            _ => rd::RD_KAFKA_MSG_F_COPY,
        }
    }

    /// Hands a record over. Its key is copied, and so is a value that does not lie in an arena. If the record is taken, the headers
    /// are moved to the client.
    pub(super) fn send(&self, message: &mut Outgoing<'_>) -> Result<(), RDKafkaErrorCode> {
        let bytes = |part: Option<&[u8]>| part.map_or((ptr::null(), 0), |part| (part.as_ptr(), part.len()));
        let ((key, key_len), (value, value_len)) = (bytes(message.key), bytes(message.value));
        let headers = message.headers.as_ref().map_or(ptr::null_mut(), |headers| headers.list.as_ptr());
        // SAFETY: the handle is alive, and so is the producer, which is dropped after the handle. The argument after each tag has
        // the type that the tag stands for, and the list ends. The key is copied. The value is copied too, or it lies in an arena
        // that is kept until the client has no record any more, or is gone; nobody changes an arena that is kept. If the record
        // is taken, the headers belong to it.
        let code = unsafe {
            rd::rd_kafka_producev(
                self.producer,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                self.handle.as_ptr(),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                message.partition.unwrap_or(-1),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                self.lend(message),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance::<c_void>(message.tag),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP,
                message.timestamp.unwrap_or(0),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS,
                headers,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
            )
        };
        match RDKafkaErrorCode::from(code) {
            RDKafkaErrorCode::NoError => {
                mem::forget(message.headers.take());
                Ok(())
            }
            code => Err(code),
        }
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and its client is alive.
        unsafe { rd::rd_kafka_topic_destroy(self.handle.as_ptr()) };
    }
}

/// Returns whether `value` is a part of `arena`.
fn lies_in(value: &[u8], arena: &Arena) -> bool {
    let (arena, value) = (arena.as_ptr_range(), value.as_ptr_range());
    arena.start <= value.start && value.end <= arena.end
}

/// Makes `producer` send all its records at once, whatever their number, and waits until it has none any more, or for `wait` in
/// whole milliseconds. Events are not served meanwhile, and records with a report that is not served are still its records.
///
/// The Rust client's own flush also serves events, waits for an event that does not come, and lets the records linger.
pub(super) fn flush<C: ClientContext>(producer: &Client<C>, wait: Duration) {
    // SAFETY: the client outlives the call. What the call returns is asked for again by those who need it.
    unsafe { rd::rd_kafka_flush(producer.native_ptr(), wait.as_millis() as i32) };
}

/// Returns whether the undelivered record `message` was refused only because of other records in its batch.
///
/// If one record of a batch is bad, all records of the batch come back with its error code, and only the words beside the code
/// differ. If several records are bad, the others have a code of their own. The words about a bad record must not be read,
/// because the client has already freed them. The words about the others are a constant. So the place of the words in memory
/// tells the two apart.
pub(super) fn refused_for_others(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive, and was produced by this client.
    let words = unsafe { rd::rd_kafka_message_produce_errstr(message.ptr()) };
    !words.is_null() && is_constant(words)
}

/// Returns whether `words` are a constant of the client: they lie in the program or in a library of it, and not in memory that
/// was allocated. The words are not read.
fn is_constant(words: *const c_char) -> bool {
    // SAFETY: the call looks up any address, and writes where the address lies. Everything that it writes may be zero.
    unsafe {
        let mut found: libc::Dl_info = mem::zeroed();
        libc::dladdr(words.cast(), &raw mut found) != 0
    }
}

/// Returns one past the last offset that the client knows in a partition. Returns None if the client has not read from the
/// partition yet. No broker is asked.
pub(super) fn high_watermark<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Option<i64> {
    let (topic, mut low, mut high) = (CString::new(topic).ok()?, -1, -1);
    // SAFETY: the client and the name outlive the call, which writes two numbers.
    let code = unsafe {
        let client = consumer.client().native_ptr();
        rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// Commits `offsets` and waits for the answer. Returns None if `cancelled` ends the wait before that: then the outcome is
/// unknown.
///
/// The Rust client's own synchronous commit waits for as long as the group's coordinator is away, up to a session's time-out.
pub(super) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    mut cancelled: impl FnMut() -> bool,
) -> Option<RDKafkaErrorCode> {
    let client = consumer.client().native_ptr();
    // SAFETY: client and offsets outlive the calls. The queue is ours, and librdkafka counts its own references to it. So an
    // answer that comes after the queue was destroyed is dropped. An event is read before it is destroyed.
    unsafe {
        let queue = rd::rd_kafka_queue_new(client);
        let mut outcome = Some(rd::rd_kafka_commit_queue(client, offsets.ptr(), queue, None, ptr::null_mut()).into());
        while outcome == Some(RDKafkaErrorCode::NoError) {
            let event = rd::rd_kafka_queue_poll(queue, LOOK_EVERY.as_millis() as i32);
            if !event.is_null() {
                outcome = Some(worst(event));
                rd::rd_kafka_event_destroy(event);
                break;
            }
            if cancelled() {
                outcome = None;
            }
        }
        rd::rd_kafka_queue_destroy(queue);
        outcome
    }
}

/// An element of a list of partitions.
pub(super) struct Element<'a> {
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// The metadata. The Rust client's own accessor panics on metadata that is not UTF-8, which any tool may commit.
    pub(super) metadata: &'a [u8],
    pub(super) code: RDKafkaErrorCode,
}

/// Returns the elements of `list`.
pub(super) fn elements(list: &TopicPartitionList) -> impl Iterator<Item = Element<'_>> {
    // SAFETY: the list is alive as long as the returned elements.
    unsafe { slice(list.ptr()) }.iter().map(|element| {
        let metadata = match element.metadata.is_null() {
            true => &[][..],
            // SAFETY: the metadata is `metadata_size` bytes, owned by the list.
            false => unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) },
        };
        Element { partition: element.partition, offset: element.offset, metadata, code: element.err.into() }
    })
}

/// Returns the elements of a list that may be null or empty. An empty list has no memory for elements.
///
/// # Safety
/// `list` has to be null, or alive as long as the returned elements.
unsafe fn slice<'a>(list: *const rd::rd_kafka_topic_partition_list_t) -> &'a [rd::rd_kafka_topic_partition_t] {
    // SAFETY: if the list has memory for elements, it has `cnt` elements.
    unsafe {
        match list.as_ref() {
            Some(list) if !list.elems.is_null() => std::slice::from_raw_parts(list.elems, list.cnt as usize),
            _ => &[],
        }
    }
}

/// Returns the error of a commit, or of the first partition that has an error.
///
/// # Safety
/// `event` has to be an answer to a commit.
unsafe fn worst(event: *mut rd::rd_kafka_event_t) -> RDKafkaErrorCode {
    // SAFETY: the list belongs to the event, which the caller keeps alive.
    let (code, partitions) = unsafe { (rd::rd_kafka_event_error(event), slice(rd::rd_kafka_event_topic_partition_list(event))) };
    let codes = std::iter::once(code).chain(partitions.iter().map(|partition| partition.err));
    codes.map(RDKafkaErrorCode::from).find(|code| *code != RDKafkaErrorCode::NoError).unwrap_or(RDKafkaErrorCode::NoError)
}

/// Returns the generation of the group in which the consumer takes part. Returns None while it takes part in none.
pub(super) fn generation<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<i32> {
    // SAFETY: the client outlives the calls, and the metadata is ours to destroy.
    unsafe {
        let metadata = rd::rd_kafka_consumer_group_metadata(consumer.client().native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = rd::rd_kafka_consumer_group_metadata_generation_id(metadata);
        rd::rd_kafka_consumer_group_metadata_destroy(metadata);
        (generation >= 0).then_some(generation)
    }
}

/// Returns the id of `topic`, by which it differs from an earlier topic of the same name. Returns None if the cluster gives
/// topics no ids, as before Kafka 2.8, or does not answer within `patience`.
pub(super) fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<String> {
    let mut found = None;
    describe(client, &[topic], patience, |_, description| {
        // SAFETY: the description is alive. Its id is never null, and the id's text is terminated and belongs to the description.
        found = unsafe {
            let id = rd::rd_kafka_TopicDescription_topic_id(description);
            let none = rd::rd_kafka_Uuid_most_significant_bits(id) == 0 && rd::rd_kafka_Uuid_least_significant_bits(id) == 0;
            (!none).then(|| CStr::from_ptr(rd::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned())
        };
    });
    found
}

/// Returns those of `topics` that `client` may not write to. Returns none if the cluster does not answer within `patience`, or is
/// too old to tell.
pub(super) fn denied<'a, C: ClientContext>(client: &Client<C>, topics: &[&'a str], patience: Duration) -> Vec<&'a str> {
    let mut denied = Vec::new();
    describe(client, topics, patience, |index, description| {
        // SAFETY: the description is alive; an error that is not null belongs to it, and so do the `count` operations.
        let (code, operations) = unsafe {
            let (error, mut count) = (rd::rd_kafka_TopicDescription_error(description), 0);
            let code = if error.is_null() {
                rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            } else {
                rd::rd_kafka_error_code(error)
            };
            let operations = rd::rd_kafka_TopicDescription_authorized_operations(description, &raw mut count);
            (code, if operations.is_null() || count == 0 { &[][..] } else { std::slice::from_raw_parts(operations, count) })
        };
        let write = rd::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE;
        // A client that may write may describe, too.
        let hidden = code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        if hidden || !operations.is_empty() && !operations.contains(&write) {
            denied.push(topics[index]);
        }
    });
    denied
}

/// Describes `topics`, and what the client may do with them. Calls `each` with the index and the description of each topic,
/// unless no answer comes within `patience`.
fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    patience: Duration,
    mut each: impl FnMut(usize, *const rd::rd_kafka_TopicDescription_t),
) {
    let Ok(names) = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>() else { return };
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let begin = |client, options, queue| {
        // SAFETY: the names outlive the calls, which copy them, and the collection is destroyed after it was handed over.
        unsafe {
            let collection = rd::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
            let refused = rd::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !refused.is_null() {
                rd::rd_kafka_error_destroy(refused);
            }
            rd::rd_kafka_DescribeTopics(client, collection, options, queue);
            rd::rd_kafka_TopicCollection_destroy(collection);
        }
    };
    let read = |event| {
        // SAFETY: the event is alive. librdkafka returns null for events of other kinds; the array has `count` elements, and a
        // name is a terminated string.
        unsafe {
            let (result, mut count) = (rd::rd_kafka_event_DescribeTopics_result(event), 0);
            if result.is_null() {
                return;
            }
            let descriptions = rd::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            for index in 0..count {
                let description = *descriptions.add(index);
                let name = CStr::from_ptr(rd::rd_kafka_TopicDescription_name(description));
                if let Some(index) = names.iter().position(|known| known.as_c_str() == name) {
                    each(index, description);
                }
            }
        }
    };
    ask(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, patience, begin, read);
}

/// The settings of a topic, by name.
pub(super) type TopicConfig = BTreeMap<String, String>;

/// Returns the settings of `topic`. Returns None if the client may not know them, or if no answer comes within `patience`.
pub(super) fn settings<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<TopicConfig> {
    settings_of(client, &[topic], patience).pop().flatten()
}

/// Returns the settings of each of `topics`, with one request. An entry is None if the client may not know the settings of that
/// topic. All entries are None if no answer comes within `patience`.
pub(super) fn settings_of<C: ClientContext>(client: &Client<C>, topics: &[&str], patience: Duration) -> Vec<Option<TopicConfig>> {
    let mut found = vec![None; topics.len()];
    let Ok(names) = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>() else { return found };
    let begin = |client, options: *mut _, queue| {
        // SAFETY: the names outlive the call, which copies them, and the resources are destroyed after they were handed over.
        unsafe {
            let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let mut resources: Vec<_> = names.iter().map(|name| rd::rd_kafka_ConfigResource_new(kind, name.as_ptr())).collect();
            rd::rd_kafka_DescribeConfigs(client, resources.as_mut_ptr(), resources.len(), options, queue);
            rd::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        }
    };
    let read = |event| {
        // SAFETY: the event is alive. librdkafka returns null for events of other kinds; the arrays have `count` elements; a name
        // is a terminated string, and a value is a terminated string or null.
        unsafe {
            let (result, mut count) = (rd::rd_kafka_event_DescribeConfigs_result(event), 0);
            if result.is_null() {
                return;
            }
            let resources = rd::rd_kafka_DescribeConfigs_result_resources(result, &raw mut count);
            for resource in (0..count).map(|index| *resources.add(index)) {
                let name = CStr::from_ptr(rd::rd_kafka_ConfigResource_name(resource));
                if let Some(index) = names.iter().position(|known| known.as_c_str() == name) {
                    found[index] = entries(resource);
                }
            }
        }
    };
    ask(client, rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, patience, begin, read);
    found
}

/// Returns the settings of one topic in an answer. Returns None if the answer has an error for the topic.
///
/// # Safety
/// The event that `resource` belongs to has to be alive.
unsafe fn entries(resource: *const rd::rd_kafka_ConfigResource_t) -> Option<TopicConfig> {
    // SAFETY: the caller keeps the event alive; the array has `count` elements.
    unsafe {
        if rd::rd_kafka_ConfigResource_error(resource) != rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        let mut count = 0;
        let entries = rd::rd_kafka_ConfigResource_configs(resource, &raw mut count);
        let text = |text| CStr::from_ptr(text).to_string_lossy().into_owned();
        let entry = |index| {
            let entry = *entries.add(index);
            let value = rd::rd_kafka_ConfigEntry_value(entry);
            (!value.is_null()).then(|| (text(rd::rd_kafka_ConfigEntry_name(entry)), text(value)))
        };
        Some((0..count).filter_map(entry).collect())
    }
}

/// Asks the cluster. `begin` sends the request, and `read` sees the answer, unless none comes within `patience`.
fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: rd::rd_kafka_admin_op_t,
    patience: Duration,
    begin: impl FnOnce(*mut rd::rd_kafka_t, *mut rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    read: impl FnOnce(*mut rd::rd_kafka_event_t),
) {
    let (client, millis) = (client.native_ptr(), patience.as_millis() as i32);
    // SAFETY: everything that is made here is destroyed here, after its last use. The results of an event belong to the event.
    // The queue is ours, and an answer that comes after the queue was destroyed is dropped.
    unsafe {
        let options = rd::rd_kafka_AdminOptions_new(client, operation);
        rd::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        let queue = rd::rd_kafka_queue_new(client);
        begin(client, options, queue);
        let event = rd::rd_kafka_queue_poll(queue, millis);
        if !event.is_null() {
            read(event);
            rd::rd_kafka_event_destroy(event);
        }
        rd::rd_kafka_queue_destroy(queue);
        rd::rd_kafka_AdminOptions_destroy(options);
    }
}

/// The reason why a broker's certificate is not accepted, as OpenSSL numbers it. `depth` is the distance of the refused
/// certificate from the broker's own, up to that of its CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unaccepted {
    pub(super) code: i32,
    pub(super) depth: i32,
}

/// Connects with `settings`, and returns the reason why the certificate that the broker shows is not accepted. Returns None if it
/// is accepted, or if none is shown within `patience`. The client's own text says only that there is a reason.
pub(super) fn unaccepted(settings: &ClientConfig, patience: Duration) -> Option<Unaccepted> {
    /// Decides as the client does without this callback.
    unsafe extern "C" fn verify(
        _client: *mut rd::rd_kafka_t,
        _broker: *const c_char,
        _id: i32,
        code: *mut c_int,
        depth: c_int,
        _certificate: *const c_char,
        _size: usize,
        _reason: *mut c_char,
        _room: usize,
        found: *mut c_void,
    ) -> c_int {
        // SAFETY: the client hands over a number, and `found` as it was set below.
        let (code, found) = unsafe { (*code, &*found.cast::<OnceLock<Unaccepted>>()) };
        if code != 0 {
            let _ = found.set(Unaccepted { code, depth });
        }
        (code == 0).into()
    }
    let (settings, found, until) = (settings.create_native_config().ok()?, OnceLock::new(), Instant::now() + patience);
    // SAFETY: the copy of the settings belongs to the client, or is destroyed if there is no client. The client ends here, with
    // all its threads: nothing uses `found` after that. Without a log callback the client logs nothing.
    unsafe {
        let copy = rd::rd_kafka_conf_dup(settings.ptr());
        rd::rd_kafka_conf_set_log_cb(copy, None);
        rd::rd_kafka_conf_set_opaque(copy, (&raw const found).cast_mut().cast());
        rd::rd_kafka_conf_set_ssl_cert_verify_cb(copy, Some(verify));
        let client = rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, copy, ptr::null_mut(), 0);
        if client.is_null() {
            rd::rd_kafka_conf_destroy(copy);
            return None;
        }
        while found.get().is_none() && Instant::now() < until {
            rd::rd_kafka_poll(client, LOOK_EVERY.as_millis() as i32);
        }
        rd::rd_kafka_destroy(client);
    }
    found.into_inner()
}

/// Lets groups of the mock cluster that `client` runs form at once, instead of after the 3 s for which a real broker waits for
/// more members. Does nothing for a client without a mock cluster.
pub(super) fn form_groups_at_once<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the mock cluster belongs to the client and lives as long as the client.
    unsafe {
        let cluster = rd::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}

/// Returns the name of `code` in the protocol, such as `TOPIC_AUTHORIZATION_FAILED`.
pub(super) fn name(code: RDKafkaErrorCode) -> &'static str {
    let Ok(code) = rd::rd_kafka_resp_err_t::try_from(code as i32) else { return "UNKNOWN" };
    // SAFETY: librdkafka returns a terminated ASCII string that lives as long as the program.
    unsafe { CStr::from_ptr(rd::rd_kafka_err2name(code)) }.to_str().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_of_the_client_are_told_from_what_is_allocated() {
        // SAFETY: as in `name`.
        let constant = unsafe { rd::rd_kafka_err2name(rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_INVALID_RECORD) };
        assert!(is_constant(constant));
        for size in [77, 32 << 20] {
            let allocated = CString::new(vec![b'x'; size]).unwrap();
            assert!(!is_constant(allocated.as_ptr()), "{size}");
        }
    }
}
