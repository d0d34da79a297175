//! The few calls of librdkafka that the Rust client lacks, in which it panics on data that others may send, or in which it
//! allocates for every message. All the unsafe code of the host's Kafka side is in this file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings as rd;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

/// The most that a length takes in a record.
pub(super) const LENGTH_BYTES: usize = 5;
/// Under this name the client knows who listens to it.
const NAME: &CStr = c"weir";
/// The number of the request in the protocol by which records are sent.
const PRODUCE: i16 = 0;
/// How often a wait asks whether it should go on.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// librdkafka's table of its properties, one a line, with `|` between name, kind of client, range and more.
pub(super) fn properties() -> String {
    let (mut text, mut size) = (ptr::null_mut(), 0);
    // SAFETY: text and size outlive the stream, which is closed here; from then on the text is ours, of `size` bytes, to be freed.
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
/// The client's own accessor panics on a name that is not UTF-8, which any producer may send. Here such a name is converted,
/// with U+FFFD for what cannot be.
pub(super) fn headers(message: &BorrowedMessage<'_>, each: impl FnMut(Cow<'_, str>, Option<&[u8]>)) {
    // SAFETY: the message is alive for the whole call.
    unsafe { headers_of(message.ptr(), each) }
}

/// # Safety
/// `message` is alive.
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

/// What comes to a consumer, as librdkafka tells it. The Rust client drops the offset at which a partition ends.
pub(super) struct Events(NonNull<rd::rd_kafka_queue_t>);

// SAFETY: librdkafka's queues may be used from any thread, and count their references themselves.
unsafe impl Send for Events {}

/// What came.
pub(super) enum Event {
    Message(Fetched),
    /// All that is to be read of a partition, up to this offset, has come before.
    End(i32, i64),
    /// The group gives these partitions.
    Assigned(Vec<i32>),
    /// The group takes all partitions back.
    Revoked,
    /// An error, with the partition and offset that it is about, if it is about one.
    Error(KafkaError, Option<(i32, i64)>),
    /// Nothing for the caller.
    Served,
}

impl Events {
    /// The queue of `consumer`, before which it has to go.
    pub(super) fn of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> Option<Events> {
        // SAFETY: the client is alive. The reference is ours.
        NonNull::new(unsafe { rd::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) }).map(Events)
    }

    /// What comes next, at most after `wait`. The `context` is told of logs and errors.
    pub(super) fn poll(&self, wait: Duration, context: &impl ClientContext) -> Option<Event> {
        // SAFETY: the queue is ours, and so is the event.
        let event = Owned(NonNull::new(unsafe { rd::rd_kafka_queue_poll(self.0.as_ptr(), wait.as_millis() as i32) })?);
        // SAFETY: the event is alive in all of what follows; `Fetched` keeps it alive as long as its message.
        unsafe {
            let raw = event.0.as_ptr();
            Some(match rd::rd_kafka_event_type(raw) {
                rd::RD_KAFKA_EVENT_FETCH => match NonNull::new(rd::rd_kafka_event_message_next(raw).cast_mut()) {
                    Some(message) => Event::Message(Fetched { message, _event: event }),
                    None => Event::Served,
                },
                rd::RD_KAFKA_EVENT_REBALANCE => rebalance(raw),
                rd::RD_KAFKA_EVENT_ERROR => error(raw, context),
                rd::RD_KAFKA_EVENT_LOG => {
                    log(raw, context);
                    Event::Served
                }
                _ => Event::Served,
            })
        }
    }
}

#[cfg(test)]
impl Events {
    /// How many wait to be polled.
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
        // SAFETY: it is ours.
        unsafe { rd::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// A message that was read.
pub(super) struct Fetched {
    message: NonNull<rd::rd_kafka_message_t>,
    /// Owns the message.
    _event: Owned,
}

impl Fetched {
    fn raw(&self) -> &rd::rd_kafka_message_t {
        // SAFETY: the event that owns it is alive.
        unsafe { self.message.as_ref() }
    }

    pub(super) fn partition(&self) -> i32 {
        self.raw().partition
    }

    pub(super) fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// In milliseconds; none if it has none, which is -1 in the protocol.
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

/// # Safety
/// `event` is alive, and a rebalance.
unsafe fn rebalance(event: *mut rd::rd_kafka_event_t) -> Event {
    // SAFETY: the list belongs to the event, and is read before that is destroyed.
    unsafe {
        match rd::rd_kafka_event_error(event) {
            rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let list = slice(rd::rd_kafka_event_topic_partition_list(event));
                Event::Assigned(list.iter().map(|element| element.partition).collect())
            }
            _ => Event::Revoked,
        }
    }
}

/// # Safety
/// `event` is alive, and an error.
unsafe fn error(event: *mut rd::rd_kafka_event_t, context: &impl ClientContext) -> Event {
    // SAFETY: the text is read before the event is destroyed.
    unsafe {
        let code = RDKafkaErrorCode::from(rd::rd_kafka_event_error(event));
        let place = place(event);
        if code == RDKafkaErrorCode::PartitionEOF {
            return place.map_or(Event::Served, |(partition, end)| Event::End(partition, end));
        }
        let reason = CStr::from_ptr(rd::rd_kafka_event_error_string(event)).to_string_lossy();
        context.error(KafkaError::Global(code), reason.trim());
        match (code, rd::rd_kafka_event_error_is_fatal(event) != 0) {
            (RDKafkaErrorCode::NoError, _) => Event::Served,
            (_, true) => Event::Error(KafkaError::MessageConsumptionFatal(code), place),
            (_, false) => Event::Error(KafkaError::MessageConsumption(code), place),
        }
    }
}

/// The partition and offset that an event is about.
///
/// # Safety
/// `event` is alive.
unsafe fn place(event: *mut rd::rd_kafka_event_t) -> Option<(i32, i64)> {
    // SAFETY: what is returned is null, or ours to destroy.
    unsafe {
        let found = NonNull::new(rd::rd_kafka_event_topic_partition(event))?;
        let place = (found.as_ref().partition, found.as_ref().offset);
        rd::rd_kafka_topic_partition_destroy(found.as_ptr());
        Some(place)
    }
}

/// # Safety
/// `event` is alive, and a line of the client's log.
unsafe fn log(event: *mut rd::rd_kafka_event_t, context: &impl ClientContext) {
    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
    // SAFETY: on success both are terminated, and belong to the event.
    unsafe {
        if rd::rd_kafka_event_log(event, &raw mut facility, &raw mut line, &raw mut level) == 0 {
            let (facility, line) = (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(line).to_string_lossy());
            context.log(severity(level), facility.trim(), line.trim());
        }
    }
}

/// A level of syslog.
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

/// A request of records, as it has gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// Its version in the protocol.
    pub(super) version: i16,
    /// All bytes of it.
    pub(super) bytes: usize,
}

/// The requests of records that a client has sent, in order, until they are taken.
#[derive(Default)]
struct Requests {
    sent: Mutex<Vec<Sent>>,
    more: Condvar,
}

/// A producer whose requests are seen. It has to outlive its topics.
pub(super) struct Watched<C: ClientContext> {
    /// Ends before what its threads write to.
    client: Client<C>,
    requests: Arc<Requests>,
}

impl<C: ClientContext> Watched<C> {
    pub(super) fn open(settings: &ClientConfig, context: C) -> KafkaResult<Watched<C>> {
        let (native, requests) = (settings.create_native_config()?, Arc::<Requests>::default());
        // SAFETY: the configuration is alive, and the name is copied. What the interceptor gets outlives the client.
        unsafe {
            let opaque = Arc::as_ptr(&requests).cast_mut().cast();
            rd::rd_kafka_conf_interceptor_add_on_new(native.ptr(), NAME.as_ptr(), Some(on_new), opaque);
        }
        let client = Client::new(settings, native, rd::rd_kafka_type_t::RD_KAFKA_PRODUCER, context)?;
        Ok(Watched { client, requests })
    }

    pub(super) fn client(&self) -> &Client<C> {
        &self.client
    }

    /// Takes what was sent, once it is `count` requests of records, or `patience` is over.
    pub(super) fn take(&self, count: usize, patience: Duration) -> Vec<Sent> {
        let sent = self.requests.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.requests.more.wait_timeout_while(sent, patience, |sent| sent.len() < count);
        std::mem::take(&mut waited.unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// Has the requests of a new client seen, before it has any thread.
unsafe extern "C" fn on_new(
    client: *mut rd::rd_kafka_t,
    _: *const rd::rd_kafka_conf_t,
    requests: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> rd::rd_kafka_resp_err_t {
    // SAFETY: the client calls this while it is made, and copies the name.
    unsafe { rd::rd_kafka_interceptor_add_on_request_sent(client, NAME.as_ptr(), Some(on_request_sent), requests) }
}

/// Called by a thread of the client for each request that has gone out.
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
        // SAFETY: they outlive the client, see `Watched`.
        let requests = unsafe { &*requests.cast_const().cast::<Requests>() };
        requests.sent.lock().unwrap_or_else(PoisonError::into_inner).push(Sent { version, bytes });
        requests.more.notify_one();
    }
    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
}

/// Headers of a message that is to be sent. The Rust client's own would copy every name once more.
pub(super) struct Headers {
    list: NonNull<rd::rd_kafka_headers_t>,
    bytes: usize,
}

impl Headers {
    /// None yet, with room for so many.
    pub(super) fn new(room: usize) -> Headers {
        // SAFETY: librdkafka ends the process where it gets no memory, and never answers null.
        let list = NonNull::new(unsafe { rd::rd_kafka_headers_new(room) }).expect("there are headers");
        Headers { list, bytes: 0 }
    }

    /// How much room they take in a record, at most.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a header.
    pub(super) fn add(&mut self, name: &str, value: Option<&[u8]>) {
        self.bytes += header_bytes(name, value);
        let (bytes, size) = value.map_or((ptr::null(), 0), |value| (value.as_ptr().cast(), value.len() as isize));
        // SAFETY: the headers are ours; name and value are copied. It fails only for headers that are read-only.
        unsafe { rd::rd_kafka_header_add(self.list.as_ptr(), name.as_ptr().cast(), name.len() as isize, bytes, size) };
    }
}

/// How much room a header takes in a record, at most.
pub(super) fn header_bytes(name: &str, value: Option<&[u8]>) -> usize {
    name.len() + value.map_or(0, <[u8]>::len) + 2 * LENGTH_BYTES
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: they are ours until a message takes them over, and then they are forgotten.
        unsafe { rd::rd_kafka_headers_destroy(self.list.as_ptr()) };
    }
}

/// A message to be sent.
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    /// Where to; none leaves it to the partitioner.
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) timestamp: Option<i64>,
    pub(super) headers: Option<Headers>,
    /// Comes back with the delivery report if that is bad.
    pub(super) tag: usize,
}

/// A topic as a producer knows it. It has to go before the producer does.
pub(super) struct Topic {
    producer: *mut rd::rd_kafka_t,
    handle: NonNull<rd::rd_kafka_topic_t>,
}

// SAFETY: librdkafka's handles may be used from any thread, and count their references themselves.
unsafe impl Send for Topic {}

impl Topic {
    /// The topic `name` of `producer`; none if no topic can have this name.
    pub(super) fn open<C: ClientContext>(producer: &Client<C>, name: &str) -> Option<Topic> {
        let (producer, name) = (producer.native_ptr(), CString::new(name).ok()?);
        // SAFETY: the client outlives the call, which copies the name, and no configuration is handed over.
        let handle = unsafe { rd::rd_kafka_topic_new(producer, name.as_ptr(), ptr::null_mut()) };
        NonNull::new(handle).map(|handle| Topic { producer, handle })
    }

    /// Hands a message over, which is copied but for its headers: they are gone if it is taken.
    pub(super) fn send(&self, message: &mut Outgoing<'_>) -> Result<(), RDKafkaErrorCode> {
        let bytes = |part: Option<&[u8]>| part.map_or((ptr::null(), 0), |part| (part.as_ptr(), part.len()));
        let ((key, key_len), (value, value_len)) = (bytes(message.key), bytes(message.value));
        let headers = message.headers.as_ref().map_or(ptr::null_mut(), |headers| headers.list.as_ptr());
        // SAFETY: the handle is alive, and so is the producer, before which it goes; what follows each tag is of the type that the
        // tag stands for, and the list ends. Key and value are copied. If it is taken, the headers are the message's.
        let code = unsafe {
            rd::rd_kafka_producev(
                self.producer,
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT,
                self.handle.as_ptr(),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION,
                message.partition.unwrap_or(-1),
                rd::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS,
                rd::RD_KAFKA_MSG_F_COPY,
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

/// Whether `message`, which was not delivered, was refused only because of others in its batch.
///
/// If one record of a batch is bad, all of them come back with its error code, and only the words beside it differ. If several
/// are, the others have a code of their own. The words about a bad record must not be read: the client has let go of them by then.
/// Those about the others are a constant, and where words lie tells the two apart.
pub(super) fn refused_for_others(message: &BorrowedMessage<'_>) -> bool {
    // SAFETY: the message is alive, and was produced by this client.
    let words = unsafe { rd::rd_kafka_message_produce_errstr(message.ptr()) };
    !words.is_null() && is_constant(words)
}

/// Whether `words`, which are not read, are a constant of the client: they lie in the program or in a library of it, and not in
/// memory that was allocated.
fn is_constant(words: *const c_char) -> bool {
    // SAFETY: the call looks up an address, whatever is there, and writes where it lies. All that it writes may be zero.
    unsafe {
        let mut found: libc::Dl_info = mem::zeroed();
        libc::dladdr(words.cast(), &raw mut found) != 0
    }
}

/// One past the last message that the client knows to be in a partition; none where it has not read from it yet. Asks nobody.
pub(super) fn known_end<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> Option<i64> {
    let (topic, mut low, mut high) = (CString::new(topic).ok()?, -1, -1);
    // SAFETY: the client and the name outlive the call, which writes two numbers.
    let code = unsafe {
        let client = consumer.client().native_ptr();
        rd::rd_kafka_get_watermark_offsets(client, topic.as_ptr(), partition, &raw mut low, &raw mut high)
    };
    (code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// Commits `offsets` and waits for the answer, or until `give_up` says so: then the outcome is unknown, and none is returned.
///
/// The client's own synchronous commit waits for as long as the group's coordinator is away, up to a session's time-out.
pub(super) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    offsets: &TopicPartitionList,
    mut give_up: impl FnMut() -> bool,
) -> Option<RDKafkaErrorCode> {
    let client = consumer.client().native_ptr();
    // SAFETY: client and offsets outlive the calls. The queue is ours, and librdkafka counts its own references to it, so an
    // answer that comes after the queue was given up is dropped. An event is read before it is destroyed.
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
            if give_up() {
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
    /// The client's own accessor panics on metadata that is not UTF-8, which any tool may commit.
    pub(super) metadata: &'a [u8],
    pub(super) code: RDKafkaErrorCode,
}

/// The elements of `list`.
pub(super) fn elements(list: &TopicPartitionList) -> impl Iterator<Item = Element<'_>> {
    // SAFETY: the list is alive as long as what is returned.
    unsafe { slice(list.ptr()) }.iter().map(|element| {
        let metadata = match element.metadata.is_null() {
            true => &[][..],
            // SAFETY: it is `metadata_size` bytes, owned by the list.
            false => unsafe { std::slice::from_raw_parts(element.metadata.cast::<u8>(), element.metadata_size) },
        };
        Element { partition: element.partition, offset: element.offset, metadata, code: element.err.into() }
    })
}

/// The elements of a list that may be null or empty: an empty one has no place for elements.
///
/// # Safety
/// `list` is null, or alive as long as what is returned.
unsafe fn slice<'a>(list: *const rd::rd_kafka_topic_partition_list_t) -> &'a [rd::rd_kafka_topic_partition_t] {
    // SAFETY: it has `cnt` elements where it has any.
    unsafe {
        match list.as_ref() {
            Some(list) if !list.elems.is_null() => std::slice::from_raw_parts(list.elems, list.cnt as usize),
            _ => &[],
        }
    }
}

/// The error of a commit, or of the first partition that has one.
///
/// # Safety
/// `event` is an answer to a commit.
unsafe fn worst(event: *mut rd::rd_kafka_event_t) -> RDKafkaErrorCode {
    // SAFETY: the list belongs to the event, which the caller keeps alive.
    let (code, partitions) = unsafe { (rd::rd_kafka_event_error(event), slice(rd::rd_kafka_event_topic_partition_list(event))) };
    let codes = std::iter::once(code).chain(partitions.iter().map(|partition| partition.err));
    codes.map(RDKafkaErrorCode::from).find(|code| *code != RDKafkaErrorCode::NoError).unwrap_or(RDKafkaErrorCode::NoError)
}

/// The generation of the group in which the consumer takes part; none while it takes part in none.
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

/// The id of `topic`, which tells it from one of the same name that was there before. None if the cluster gives its topics
/// none, as before Kafka 2.8, or does not answer within `patience`.
pub(super) fn topic_id<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<String> {
    let mut found = None;
    describe(client, &[topic], patience, |_, description| {
        // SAFETY: the description is alive; its id is never null, and the text of that is terminated and belongs to it.
        found = unsafe {
            let id = rd::rd_kafka_TopicDescription_topic_id(description);
            let none = rd::rd_kafka_Uuid_most_significant_bits(id) == 0 && rd::rd_kafka_Uuid_least_significant_bits(id) == 0;
            (!none).then(|| CStr::from_ptr(rd::rd_kafka_Uuid_base64str(id)).to_string_lossy().into_owned())
        };
    });
    found
}

/// Those of `topics` that `client` may not write to. A cluster that does not answer within `patience`, or is too old to tell, denies
/// none.
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
        // Who may write may describe, too.
        let hidden = code == rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        if hidden || !operations.is_empty() && !operations.contains(&write) {
            denied.push(topics[index]);
        }
    });
    denied
}

/// Describes `topics`, with what the client may do with them: calls `each` with the index and the description of each, unless nobody
/// answers within `patience`.
fn describe<C: ClientContext>(
    client: &Client<C>,
    topics: &[&str],
    patience: Duration,
    mut each: impl FnMut(usize, *const rd::rd_kafka_TopicDescription_t),
) {
    let Ok(names) = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>() else { return };
    let mut pointers: Vec<_> = names.iter().map(|name| name.as_ptr()).collect();
    let begin = |client, options, queue| {
        // SAFETY: the names outlive the calls, which copy them, and the collection is destroyed once it is handed over.
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
        // SAFETY: the event is alive. librdkafka answers null for events of other kinds; the array has `count` elements, and a
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

/// The settings of a topic by name.
pub(super) type TopicConfig = BTreeMap<String, String>;

/// The settings of `topic`. None if the client may not know them, or if nobody answers within `patience`.
pub(super) fn settings<C: ClientContext>(client: &Client<C>, topic: &str, patience: Duration) -> Option<TopicConfig> {
    settings_of(client, &[topic], patience).pop().flatten()
}

/// The same for each of `topics`, in one request.
pub(super) fn settings_of<C: ClientContext>(client: &Client<C>, topics: &[&str], patience: Duration) -> Vec<Option<TopicConfig>> {
    let mut found = vec![None; topics.len()];
    let Ok(names) = topics.iter().map(|topic| CString::new(*topic)).collect::<Result<Vec<_>, _>>() else { return found };
    let begin = |client, options: *mut _, queue| {
        // SAFETY: the names outlive the call, which copies them, and the resources are destroyed once they are handed over.
        unsafe {
            let kind = rd::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
            let mut resources: Vec<_> = names.iter().map(|name| rd::rd_kafka_ConfigResource_new(kind, name.as_ptr())).collect();
            rd::rd_kafka_DescribeConfigs(client, resources.as_mut_ptr(), resources.len(), options, queue);
            rd::rd_kafka_ConfigResource_destroy_array(resources.as_mut_ptr(), resources.len());
        }
    };
    let read = |event| {
        // SAFETY: the event is alive. librdkafka answers null for events of other kinds; the arrays have `count` elements; a
        // name is a terminated string, and a value is one or null.
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

/// What an answer says of one topic; none if that is an error.
///
/// # Safety
/// The event that `resource` is of has to be alive.
unsafe fn entries(resource: *const rd::rd_kafka_ConfigResource_t) -> Option<TopicConfig> {
    // SAFETY: as the caller promises; the array has `count` elements.
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

/// Asks the cluster: `begin` sends the request, and `read` sees the answer, unless nobody gives one within `patience`.
fn ask<C: ClientContext>(
    client: &Client<C>,
    operation: rd::rd_kafka_admin_op_t,
    patience: Duration,
    begin: impl FnOnce(*mut rd::rd_kafka_t, *mut rd::rd_kafka_AdminOptions_t, *mut rd::rd_kafka_queue_t),
    read: impl FnOnce(*mut rd::rd_kafka_event_t),
) {
    let (client, millis) = (client.native_ptr(), patience.as_millis() as i32);
    // SAFETY: all that is made here is destroyed here, after its last use; what an event returns belongs to the event. The queue is
    // ours, and an answer that comes after it was given up is dropped.
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

/// Why a broker's certificate is not accepted, as OpenSSL numbers it, and how far from the broker's own up to that of its CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unaccepted {
    pub(super) code: i32,
    pub(super) depth: i32,
}

/// Connects by `settings`, and tells why the certificate that is shown is not accepted. None if it is, or if none is shown within
/// `patience`. A client's own text has only that there is a reason.
pub(super) fn unaccepted(settings: &ClientConfig, patience: Duration) -> Option<Unaccepted> {
    /// Decides as the client does without it.
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
    // SAFETY: the copy of the settings is the client's, or destroyed if there is none. The client ends here, with all its threads:
    // nobody looks at `found` after that. Without a callback it logs nothing.
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

/// Lets groups of the mock cluster that `client` runs form at once, instead of after the 3 s in which a real broker waits for
/// more members. Does nothing for a client without a mock cluster.
pub(super) fn form_groups_at_once<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the mock cluster belongs to the client and lives as long.
    unsafe {
        let cluster = rd::rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            rd::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
        }
    }
}

/// The name of `code` in the protocol, such as `TOPIC_AUTHORIZATION_FAILED`.
pub(super) fn name(code: RDKafkaErrorCode) -> &'static str {
    let Ok(code) = rd::rd_kafka_resp_err_t::try_from(code as i32) else { return "UNKNOWN" };
    // SAFETY: librdkafka answers with a terminated ASCII string that lives as long as the program.
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
