"""The job on Quix Streams: the rules in Python with orjson, two topics, and counts by device type in windows.

The rules are those of the benchmark against plain Python, in ../../kafka/logins.py, which is on the path of modules. State
belongs to keys here. So counts go through a topic that is partitioned by device type; windows are by the time of the messages.
"""

import os

import orjson
from logins import WINDOW_SECONDS, Rejected, judge
from quixstreams import Application

# How long a window waits for messages of another partition, which is behind while a backlog is read.
GRACE_SECONDS = 30


def judged(value):
    """The reason of a rejection or None, what is sent on, and the device type."""
    try:
        login = judge(value, orjson.loads)
        return None, orjson.dumps(login), login["device_type"]
    except Rejected as rejected:
        return str(rejected), value, None


def with_reason(judged, key, timestamp, headers):
    return [*(headers or []), ("reason", judged[0])]


def main():
    delivery = os.environ["WEIR_KAFKA_DELIVERY"]
    app = Application(
        broker_address=os.environ["WEIR_KAFKA_BROKERS"],
        consumer_group=os.environ["WEIR_KAFKA_GROUP"],
        processing_guarantee=delivery,
        commit_interval=int(os.environ.get("COMMIT_MS", "1000")) / 1000,
        auto_offset_reset="earliest",
        state_dir=os.environ["XDG_STATE_HOME"],
        loglevel="WARNING",
        # The keys of the input are partitioned as Java does it.
        producer_extra_config={
            "linger.ms": int(os.environ.get("LINGER_MS", "5")),
            "compression.type": "lz4",
            "partitioner": "murmur2_random",
        },
    )
    plain = dict.fromkeys(("key_deserializer", "value_deserializer", "key_serializer", "value_serializer"), "bytes")
    logins = app.topic(os.environ["WEIR_TOPICS_INPUT"], **plain)
    output = app.topic(os.environ["WEIR_TOPICS_OUTPUT"], **plain)
    rejected = app.topic(os.environ["WEIR_TOPICS_REJECTED"], **plain)
    counts = app.topic(os.environ["WEIR_TOPICS_COUNTS"], key_serializer="str", value_serializer="json")

    answers = app.dataframe(logins).apply(judged)
    passed = answers.filter(lambda answer: answer[0] is None)
    passed.apply(lambda answer: answer[1]).to_topic(output)
    dead = answers.filter(lambda answer: answer[0] is not None).set_headers(with_reason)
    dead.apply(lambda answer: answer[1]).to_topic(rejected)
    by_device = passed.apply(lambda answer: {"device_type": answer[2]}).group_by("device_type")
    windows = by_device.tumbling_window(WINDOW_SECONDS * 1000, grace_ms=GRACE_SECONDS * 1000)
    windows.count().final().to_topic(counts)
    app.run()


if __name__ == "__main__":
    main()
