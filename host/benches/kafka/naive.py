"""The job of the benchmark in Python as one would write it first: a message at a time, flushed before the next is read.

It ends after so many messages and prints what that took. Offsets are committed by the client, as it does by default.
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


def main():
    consumer = Consumer(
        {"bootstrap.servers": BROKERS, "group.id": os.environ["WEIR_KAFKA_GROUP"], "auto.offset.reset": "earliest"}
    )
    producer = Producer({"bootstrap.servers": BROKERS})
    consumer.subscribe([INPUT])
    counts = Counts()
    begun = cpu = None
    done = 0
    while done < LIMIT:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error():
            raise SystemExit(message.error())
        if begun is None:
            begun, cpu = time.monotonic(), time.process_time()
        try:
            login = judge(message.value())
            producer.produce(OUTPUT, key=message.key(), value=json.dumps(login))
            counts.add(login["device_type"])
        except Rejected as rejected:
            producer.produce(REJECTED, key=message.key(), value=message.value(), headers={"reason": str(rejected)})
        window = counts.finished_window()
        if window is not None:
            producer.produce(COUNTS, value=window)
        producer.flush()
        done += 1
    seconds, cpu = time.monotonic() - begun, time.process_time() - cpu
    consumer.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"records": done, "seconds": seconds, "cpu_seconds": cpu, "peak_mib": peak}))


main()
