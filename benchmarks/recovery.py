"""Recovery of one worker beside a bare read of the same changelog, in one run on one machine.

The changelog is filled with a session a shopper, of the worker's form, and the position of each partition; the input
has one event a partition. The worker's time runs from its assignment, as its log has it, to the first score that a
read_committed consumer holds. The bare read is librdkafka's alone, all partitions at once, and keeps nothing: once as
it comes, and once with the worker's settings, of which a shorter rest of a full queue counts. It runs before and after
the worker, and the ratios are to the means of both. The last line is JSON.

    python benchmarks/recovery.py --users 1000000 --partitions 8
"""

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from common import DEMO, Worker, kafka, producer, worker
from confluent_kafka import Consumer, KafkaError, TopicPartition
from machine import facts

from stream import settings as configuration
from stream.bundle.onnx import Bundle, load
from stream.core.events import Event
from stream.core.session import FORMAT, record
from stream.kafka.client.admin import admin
from stream.kafka.exactly_once.changelog import FETCH, POSITION, Recovery
from stream.kafka.topics.admin import apply, remove
from stream.records import USER
from stream.scoring.rehydrate import Rehydrator
from stream.settings import Settings
from stream.state.position import Position

_NOW = int(time.time() * 1000)  # sessions older than their TTL would be ended at once
_AT_ONCE = 10_000


def fill(settings: Settings, bundle: Bundle, users: int, partitions: int) -> int:
    """Write sessions, positions, and an event a partition; return a session's bytes."""
    layout, meaning = record(bundle.manifest), bundle.manifest.meaning
    random, out = np.random.default_rng(0), producer(settings.bootstrap_servers)
    for at in range(0, users, _AT_ONCE):
        some = np.frombuffer(random.bytes(_AT_ONCE * layout.itemsize), layout).copy()
        for name in bundle.manifest.hidden:
            # Counts among them: none is below 0.
            some[name] = 0 if name in bundle.manifest.integers else np.abs(random.standard_normal(some[name].shape))
        some["format"], some["ring"], some["model"] = FORMAT, meaning.ring, bundle.manifest.fingerprint
        for name in ("last", "arrived", "started"):
            some[name] = _NOW
        for i in range(min(_AT_ONCE, users - at)):
            out.produce(settings.changelog, some[i].tobytes(), USER + b"%d" % (at + i), (at + i) % partitions)
        out.poll(0)
        while len(out) > 500_000:
            out.poll(0.1)
    topic = Recovery(settings, admin(settings), Rehydrator(bundle)).topics().events
    for number in range(partitions):
        out.produce(settings.changelog, msgspec.json.encode(Position(topic, 0, _NOW)), POSITION, number)
        event = Event(f"e{number}", str(number), "view", bundle.vocabulary.items[0], _NOW + 1000)
        out.produce(settings.events_topic, msgspec.json.encode(event), event.user_id, number)
    assert out.flush(120) == 0
    return layout.itemsize


def bare(settings: Settings, partitions: int, more: Mapping[str, int]) -> float:
    """Read the changelog, and return the seconds from the first call to the last record."""
    group = {"group.id": "bare", "enable.auto.commit": False, "enable.partition.eof": True}
    reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, **group, **more})
    reader.list_topics(settings.changelog)
    began, ended = time.perf_counter(), 0
    reader.assign([TopicPartition(settings.changelog, p, 0) for p in range(partitions)])
    while ended < partitions:
        for message in reader.consume(_AT_ONCE, 0.02):
            if error := message.error():
                assert error.code() == KafkaError._PARTITION_EOF, error
                ended += 1
    seconds = time.perf_counter() - began
    reader.close()
    return seconds


def read(settings: Settings, partitions: int) -> tuple[float, float]:
    """Read the changelog as librdkafka comes, and as the worker sets it; return both seconds."""
    plain, alike = bare(settings, partitions, {}), bare(settings, partitions, FETCH)
    print(f"read in {plain:.1f} s, with the worker's settings in {alike:.1f} s", file=sys.stderr, flush=True)
    return plain, alike


def assigned(log: Path) -> float:
    """Return when the worker was assigned, in seconds since 1970."""
    found = re.findall(r"^(\S+ \S+) INFO \S+: assigned in generation", log.read_text(), re.MULTILINE)
    return datetime.strptime(found[-1], "%Y-%m-%d %H:%M:%S,%f").timestamp()


def first_score(settings: Settings, running: Worker, partitions: int) -> tuple[float, list[float], list[float]]:
    """Wait for a score; return its time, where it said ready too early, and what remained of the changelog."""
    more = {"group.id": "reader", "isolation.level": "read_committed", "enable.auto.commit": False}
    reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, **more})
    reader.assign([TopicPartition(settings.scores_topic, p, 0) for p in range(partitions)])
    ready: list[float] = []
    remaining: list[float] = []
    while (message := reader.poll(0.2)) is None:
        left = running.metric("forecart_recovery_remaining")
        if not remaining or left != remaining[-1]:
            remaining.append(left)
        if running.get("/readyz") and running.metric("forecart_recovering"):
            ready.append(left)
    assert not message.error(), message.error()
    reader.close()
    return time.time(), ready, remaining


def main() -> None:
    """Fill, read, recover, read, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--bundle", type=Path, default=DEMO)
    parser.add_argument("--bootstrap-servers", help="a broker that runs; without it one is started")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, kafka(given.bootstrap_servers) as address:
        group = f"recovery-{os.getpid()}"
        base = {"bootstrap_servers": address, "bundle": given.bundle, "recommend": False, "group": group}
        settings = configuration.load(**base, events_topic=f"{group}-events", scores_topic=f"{group}-out")
        apply(settings, given.partitions, 1)
        size = fill(settings, load(given.bundle), given.users, given.partitions)
        reads = [read(settings, given.partitions)]
        with worker(settings, Path(name), group) as running:
            at, ready, remaining = first_score(settings, running, given.partitions)
            seconds, said = at - assigned(running.log), running.log.read_text().count("changelog")
            users = running.metric("forecart_state_users")
        reads.append(read(settings, given.partitions))
        remove(settings)
    plain, alike = (sum(column) / len(column) for column in zip(*reads, strict=True))
    line: dict[str, Any] = {"benchmark": "recovery", "users": given.users, "partitions": given.partitions}
    line |= {"record_bytes": size, "recovered": int(users), "seconds": round(seconds, 2)}
    line |= {"read_seconds": round(plain, 2), "ratio": round(seconds / plain, 2)}
    line |= {"read_seconds_alike": round(alike, 2), "ratio_alike": round(seconds / alike, 2)}
    line |= {"progress_seen": len(remaining), "progress_lines": said, "ready_meanwhile": bool(ready)}
    print(json.dumps(line | facts()))


if __name__ == "__main__":
    main()
