"""What the three rules do to a login, as a Python programmer would write it first: parse, check, enrich, write anew.

Run as a program it judges a file of messages, one a line, so that the benchmark can compare its answers with the engine's.
It leaves out what the benchmark's logins do not contain, such as JSON on which two libraries may disagree.
"""

import json
import sys
import time
from datetime import datetime, timezone

REQUIRED = ("app_version", "device_type", "timestamp")
MIN_VERSION = (2, 3, 0)
LAST_TIMESTAMP = 253402300799
ALLOWED = {"android", "ios"}
WINDOW_SECONDS = 60


class Rejected(Exception):
    """The reason why a login goes no further."""


def parse_version(text):
    parts = [int(part) for part in text.split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


def judge(value, loads=json.loads):
    """The enriched login, or Rejected."""
    try:
        login = loads(value)
    except ValueError:
        raise Rejected("malformed_json")
    if type(login) is not dict:
        raise Rejected("malformed_json")
    for name in REQUIRED:
        if login.get(name) is None:
            raise Rejected("missing_field")
    try:
        version = parse_version(login["app_version"])
    except (ValueError, AttributeError):
        raise Rejected("malformed_app_version")
    if version < MIN_VERSION:
        raise Rejected("old_app_version")
    try:
        timestamp = int(login["timestamp"])
    except (ValueError, TypeError):
        raise Rejected("malformed_timestamp")
    if type(login["timestamp"]) is bool or not 0 <= timestamp <= LAST_TIMESTAMP:
        raise Rejected("malformed_timestamp")
    login["timestamp_in_utc"] = datetime.fromtimestamp(timestamp, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    login["processed_time"] = int(time.time() * 1000)
    if str(login["device_type"]).lower() not in ALLOWED:
        raise Rejected("unsupported_device_type")
    return login


class Counts:
    """Logins by device type, in windows."""

    def __init__(self):
        self.counts = {}
        self.start = time.time()

    def add(self, device_type):
        self.counts[device_type] = self.counts.get(device_type, 0) + 1

    def finished_window(self):
        """What a finished window counted, as JSON, else None."""
        if time.time() - self.start < WINDOW_SECONDS:
            return None
        text = json.dumps({"start": self.start, "counts": self.counts})
        self.__init__()
        return text


def main():
    for line in sys.stdin.buffer:
        try:
            login = judge(line.rstrip(b"\n"))
            login["processed_time"] = 0
            print(json.dumps({"value": login}))
        except Rejected as rejected:
            print(json.dumps({"reason": str(rejected)}))


if __name__ == "__main__":
    main()
