"""The job of the benchmark in Python with batches: the client sends while the next messages are judged, and everything is
flushed before the offsets of so many messages are committed.

It ends after so many messages and prints what that took.
"""

import json
import os
import resource
import time

from confluent_kafka import Consumer, Producer

from logins import Counts, Rejected, judge

BROKERS = os.environ["WEIR_KAFKA_BROKERS"]
INPUT = os.environ["WEIR_TOPICS_INPUT"]
OUTPUT = os.environ["WEIR_TOPICS_OUTPUT"]
REJECTED = os.environ["WEIR_TOPICS_REJECTED"]
COUNTS = os.environ["WEIR_TOPICS_COUNTS"]
LIMIT = int(os.environ["LIMIT"])
BATCH = 1000


def main():
    consumer = Consumer(
        {
            "bootstrap.servers": BROKERS,
            "group.id": os.environ["WEIR_KAFKA_GROUP"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    producer = Producer({"bootstrap.servers": BROKERS, "linger.ms": 5, "compression.type": "lz4"})
    consumer.subscribe([INPUT])
    counts = Counts()
    begun = cpu = None
    done = 0
    while done < LIMIT:
        messages = consumer.consume(BATCH, timeout=1.0)
        if messages and begun is None:
            begun, cpu = time.monotonic(), time.process_time()
        for message in messages:
            if message.error():
                raise SystemExit(message.error())
            try:
                login = judge(message.value())
                producer.produce(OUTPUT, key=message.key(), value=json.dumps(login))
                counts.add(login["device_type"])
            except Rejected as rejected:
                producer.produce(REJECTED, key=message.key(), value=message.value(), headers={"reason": str(rejected)})
            producer.poll(0)
        window = counts.finished_window()
        if window is not None:
            producer.produce(COUNTS, value=window)
        if messages:
            producer.flush()
            consumer.commit(asynchronous=False)
            done += len(messages)
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    consumer.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"records": done, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak}))


main()
