//! Batches that are small on the wire and large when they are unpacked, as a producer with a large `batch.size` sends them.

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::cluster::shared;
use crate::kafka::{Record, settings};
use crate::positions::{assert_refused, follow_remedy};
use crate::program::PATIENCE;
use crate::weir::Job;

/// The size of an unpacked batch, in bytes: more than librdkafka takes by default.
const UNPACKED: usize = 120_000_000;
/// The size of each of its records, in bytes. It is long enough for the best compression ratio.
const RECORD: usize = 500_000;
/// The largest size of the batch on the wire, in bytes, by codec. Snappy reaches a ratio of 1 to 21 at best.
const PACKED: [(&str, &str); 4] = [("gzip", "300000"), ("snappy", "8000000"), ("lz4", "1000000"), ("zstd", "50000")];
/// The most memory that an engine may use to work off the batch, in KiB: twice the unpacked size, and the memory of a backlog.
const LARGEST_KIB: u64 = 512 << 10;
/// The number of batches that one fetch returns, unless a fetch is bounded.
const BATCHES: usize = 6;
/// The unpacked size of each of these batches, in bytes. Packed, one batch and the beginning of the next fill a fetch of 4 KiB.
const UNPACKED_EACH: usize = 50_000_000;
/// The most memory that an engine may use to work off these batches one by one, in KiB.
const FETCHED_KIB: u64 = 224 << 10;
/// The largest unpacked size that librdkafka takes by default, in bytes.
const DEFAULT_BOUND: &str = "100000000";

/// A job that has one batch to read, packed by `codec`.
fn packed(name: &str, codec: &str, wire: &'static str) -> Job {
    several(&format!("{name}-{codec}"), codec, wire, 1, UNPACKED)
}

/// A job with a number of batches to read in one partition. Each batch unpacks to `bytes` bytes. The size limit `wire` of the
/// topic is too small for anything but well packed batches.
fn several(name: &str, codec: &str, wire: &'static str, batches: usize, bytes: usize) -> Job {
    let setting = move |topic: &str| if topic == "in" { vec![("max.message.bytes", wire)] } else { Vec::new() };
    let job = Job::with_topics(shared(), name, setting);
    let mut settings = settings(job.brokers());
    settings.set("compression.type", codec).set("message.max.bytes", "1000000000").set("batch.size", "1000000000");
    settings.set("queue.buffering.max.kbytes", "1000000").set("batch.num.messages", "1000000").set("linger.ms", "3000");
    let producer: BaseProducer = settings.create().unwrap();
    let input = job.topic("in");
    let begun = r#"{"app_version":"2.3.0","device_type":"iOS","timestamp":0,"x":""#;
    let login = format!("{begun}{}\"}}", "x".repeat(RECORD - begun.len() - 2));
    for _ in 0..batches {
        for index in 0..bytes / RECORD {
            let key = index.to_string();
            let record = BaseRecord::<str, str>::to(&input).partition(0).key(&key).payload(&login);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    }
    job
}

/// Works off a job, asserts that it has this number of `outputs` and that less than `kib` KiB were resident, and judges.
fn work_off_within(job: &Job, kib: u64, outputs: usize) {
    let name = job.group();
    let mut engine = job.engine("a");
    job.settle();
    let peak = engine.weir().memory_kib("VmHWM");
    eprintln!("{name}: {peak} KiB at most");
    assert!(peak < kib, "{name}: {peak} KiB were resident");
    engine.stop();
    assert_eq!(job.outputs.count(), outputs, "{name}");
    job.check();
}

#[test]
fn a_batch_that_unpacks_to_more_than_100_mb_is_read_with_each_codec() {
    for (codec, wire) in PACKED {
        let job = packed("packed", codec, wire);
        work_off_within(&job, LARGEST_KIB, UNPACKED / RECORD);
    }
}

/// Together the batches unpack to 300 MB. Without the key 335 MiB were resident.
#[test]
fn batches_that_are_small_together_and_unpack_to_very_much_are_read_one_by_one_where_a_fetch_is_bounded() {
    let job = several("fetched", "zstd", "5000", BATCHES, UNPACKED_EACH).with("kafka.properties.fetch.message.max.bytes", "4096");
    work_off_within(&job, FETCHED_KIB, BATCHES * UNPACKED_EACH / RECORD);
}

#[test]
fn a_batch_past_the_bound_that_is_set_is_named_with_the_key_to_raise_and_is_not_called_damage() {
    let bounded = packed("bounded", "zstd", "50000").with("kafka.properties.receive.message.max.bytes", DEFAULT_BOUND);
    let ended = bounded.engine("a").end();
    assert_eq!(ended.code, Some(1), "{:#?}", ended.lines);
    let error = ended.lines.iter().find(|line| line.starts_with("error: ")).unwrap_or_else(|| panic!("{:#?}", ended.lines));
    for words in [&bounded.topic("in"), "receive.message.max.bytes", "[kafka.properties]"] {
        assert!(error.contains(words), "`{words}` is not in {error}");
    }
    assert!(!error.contains("the log of the topic is damaged"), "{error}");
    let raised = bounded.with("kafka.properties.receive.message.max.bytes", "1000000000");
    raised.work_off(raised.engine("a"));
    raised.check();
}

#[test]
fn the_remedy_for_a_batch_that_can_not_be_read_passes_this_batch_alone() {
    let job = packed("passed", "zstd", "50000").with("kafka.properties.receive.message.max.bytes", DEFAULT_BOUND);
    let last = (UNPACKED / RECORD) as i64;
    job.load(31, 1_000, 500).finish();
    let ended = job.engine("a").end();
    let error = assert_refused(&ended, &["partition 0 ", "at offset 0", "`lastOffset`", ":0 --reset-offsets --to-offset OFFSET"]);
    follow_remedy(&error.replace("--to-offset OFFSET", &format!("--to-offset {last}")));
    job.work_off(job.engine("a"));
    let done: Vec<(i32, i64)> = job.outputs.all().iter().chain(&job.letters.all()).map(Record::source).collect();
    assert_eq!(done.len(), 500, "all others, each once");
    assert!(done.iter().all(|(partition, offset)| *partition != 0 || *offset >= last), "{done:?}");
}
