"""Latency of one worker at a fixed rate, beside a plain echo through Kafka, in one run on one machine.

Open loop: each event has a time at which it is due, whatever became of those before it, and counts from then until a
read_committed consumer holds its score. The echo consumes, produces what it read, sends its offsets and commits, a
transaction for each batch that is at hand, with librdkafka alone. Both go through topics with as many partitions, with
the same sender and the same reader, one after the other. Half of the highest rate at which a worker goes through a
backlog is the third rate. The last line is JSON; times are in ms.

    python benchmarks/latency.py --rates 1000 5000
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from common import DEMO, kafka, worker
from confluent_kafka import Consumer, Producer, TopicPartition
from machine import facts
from throughput import fill
from throughput import worker as drain

from stream import settings as configuration
from stream.bundle.onnx import load
from stream.core.events import Event
from stream.kafka.topics.admin import apply, remove
from stream.settings import Settings

_USERS = 20_000
_ID = len('{"event_id":"')  # events and scores both begin with it, then 16 digits
_QUANTILES = (50, 90, 99, 99.9, 100)
Stages = Callable[[], dict[str, Any]]
_SPAWN = multiprocessing.get_context("spawn")


def events(n: int, rate: float, items: list[str]) -> list[dict[str, bytes]]:
    """Make events that are due at a rate, ready to be sent; an event's id is its number."""
    random, encode = np.random.default_rng(0), msgspec.json.Encoder().encode
    user, item = random.integers(0, _USERS, n).tolist(), random.integers(0, len(items), n).tolist()
    now = int(time.time() * 1000)
    made = (Event(f"{i:016}", str(user[i]), "view", items[item[i]], now + int(i / rate * 1000)) for i in range(n))
    return [{"value": encode(event), "key": event.user_id.encode()} for event in made]


def send(settings: Settings, n: int, rate: float, begin: Any, late: Any) -> None:
    """Send events when they are due; `begin` and `late` (seconds, monotonic) are for the others to read."""
    out = Producer({"bootstrap.servers": settings.bootstrap_servers, "partitioner": "murmur2_random", "linger.ms": 5})
    ready = events(n, rate, load(Path(str(settings.bundle))).vocabulary.items)
    out.list_topics(settings.events_topic)
    begin.value = began = time.monotonic() + 0.5
    sent = 0
    while sent < n:
        now = time.monotonic()
        due = min(int((now - began) * rate) + 1, n) if now >= began else 0
        if due > sent:
            late.value = max(late.value, now - began - sent / rate)
            out.produce_batch(settings.events_topic, ready[sent:due])
            sent = due
        out.poll(0)
        time.sleep(max(began + sent / rate - time.monotonic(), 0.0005))
    assert out.flush(60) == 0


def read(settings: Settings, partitions: int, n: int, seconds: float, ready: Flag, arrivals: Any) -> None:
    """Note when each score is there; give up after so long without any."""
    reader = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": "reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
        }
    )
    reader.assign([TopicPartition(settings.scores_topic, p, 0) for p in range(partitions)])
    at = np.frombuffer(arrivals.get_obj(), np.float64)
    reader.poll(0.5)
    ready.set()
    left = n
    while left and (first := reader.poll(seconds)):
        messages = [first, *reader.consume(10_000, 0)]
        now = time.monotonic()
        numbers = [int(m.value()[_ID : _ID + 16]) for m in messages if not m.error()]
        at[numbers] = now
        left -= len(numbers)
    reader.close()


def echo(settings: Settings, ready: Flag, stop: Flag) -> None:
    """Copy events to the scores, a transaction for each batch at hand."""
    common = {"bootstrap.servers": settings.bootstrap_servers}
    out = Producer({**common, "transactional.id": settings.group, "linger.ms": 0, "retry.backoff.ms": 1})
    group = {"group.id": settings.group, "isolation.level": "read_committed", "enable.auto.commit": False}
    reader = Consumer({**common, **group, "auto.offset.reset": "earliest"})
    out.init_transactions(30)
    reader.subscribe([settings.events_topic], on_assign=lambda *_: ready.set())
    while not stop.is_set():
        if (first := reader.poll(0.2)) is None:
            continue
        messages = [first, *reader.consume(10_000, 0)]
        out.begin_transaction()
        for m in messages:
            out.produce(settings.scores_topic, m.value(), m.key())
        out.send_offsets_to_transaction(reader.position(reader.assignment()), reader.consumer_group_metadata(), 30)
        out.commit_transaction(30)
    reader.close()


@contextmanager
def echoing(settings: Settings) -> Iterator[Stages]:
    """Run an echo; return that it tells nothing of itself."""
    ready, stop = _SPAWN.Event(), _SPAWN.Event()
    process = _SPAWN.Process(target=echo, args=(settings, ready, stop))
    process.start()
    assert ready.wait(30)
    yield dict
    stop.set()
    process.join(30)


@contextmanager
def scoring(settings: Settings, folder: Path) -> Iterator[Stages]:
    """Run a worker; return how it tells the mean ms of its stages, and its rounds."""
    with worker(settings, folder, settings.group) as running:
        running.await_ready(60)
        stages = (running.stage(name) for name in ("score", "commit"))
        yield lambda: dict(zip(("score", "commit"), stages, strict=True))


def measure(settings: Settings, partitions: int, rate: float, warm: float, seconds: float) -> dict[str, float]:
    """Send at a rate for so long, read what comes; return quantiles of the latency in ms."""
    n, skipped = int(rate * (warm + seconds)), int(rate * warm)
    begin, late, ready = _SPAWN.Value("d", 0.0), _SPAWN.Value("d", 0.0), _SPAWN.Event()
    arrivals = _SPAWN.Array("d", n)
    reader = _SPAWN.Process(target=read, args=(settings, partitions, n, 30.0, ready, arrivals))
    sender = _SPAWN.Process(target=send, args=(settings, n, rate, begin, late))
    reader.start()
    assert ready.wait(30)
    sender.start()
    sender.join()
    reader.join()
    at = np.frombuffer(arrivals.get_obj(), np.float64)
    assert (at > 0).all(), f"{(at == 0).sum()} of {n} are missing"
    took = (at - begin.value - np.arange(n) / rate)[skipped:] * 1000
    found = {f"p{q}": round(float(np.percentile(took, q)), 2) for q in _QUANTILES}
    return found | {"sent_late": round(late.value * 1000, 1)}


def highest(base: dict[str, Any], folder: Path, partitions: int, backlog: int) -> float:
    """Return the events a second that a worker does of a backlog."""
    group = f"latency-{os.getpid()}-highest"
    settings = configuration.load(**base, group=group, events_topic=f"{group}-events", scores_topic=f"{group}-out")
    apply(settings, partitions, 1)
    items = load(Path(str(settings.bundle))).vocabulary.items
    fill(settings.bootstrap_servers, settings.events_topic, backlog, _USERS, items, partitions)
    rate = drain(settings, backlog, folder, "highest", partitions)
    remove(settings)
    return rate


def compare(
    base: dict[str, Any], folder: Path, partitions: int, rate: float, warm: float, seconds: float, turn: int
) -> dict[str, Any]:
    """Measure echo and worker at a rate, one after the other; return both and the ratios."""
    found: dict[str, Any] = {}
    kinds: dict[str, Callable[[Settings], Any]] = {"echo": echoing, "worker": lambda s: scoring(s, folder)}
    for kind, run in kinds.items():
        group = f"latency-{os.getpid()}-{kind}-{turn}"
        settings = configuration.load(**base, group=group, events_topic=f"{group}-events", scores_topic=f"{group}-out")
        apply(settings, partitions, 1)
        with run(settings) as stages:
            found[kind] = measure(settings, partitions, rate, warm, seconds) | stages()
        remove(settings)
    ratios = {f"{q}_ratio": round(found["worker"][q] / found["echo"][q], 2) for q in ("p50", "p99")}
    print(f"{rate:.0f}/s: {ratios} {found}", file=sys.stderr, flush=True)
    return ratios | found


def main() -> None:
    """Measure at each rate and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="*", default=[1000, 5000])
    parser.add_argument("--no-half", action="store_true", help="leave out half of the highest rate")
    parser.add_argument("--backlog", type=int, default=300_000, help="events that show the highest rate")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured, a rate and kind")
    parser.add_argument("--warm", type=float, default=4.0, help="seconds before them that do not count")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--bundle", type=Path, default=DEMO)
    parser.add_argument("--bootstrap-servers", help="a broker that runs; without it one is started")
    given = parser.parse_args()
    line: dict[str, Any] = {"benchmark": "latency", "partitions": given.partitions, "seconds": given.seconds}
    with tempfile.TemporaryDirectory() as name, kafka(given.bootstrap_servers) as address:
        base = {"bootstrap_servers": address, "bundle": given.bundle, "recommend": False}
        rates = {str(rate): float(rate) for rate in given.rates}
        if not given.no_half:
            line["highest"] = round(highest(base, Path(name), given.partitions, given.backlog))
            rates["half"] = line["highest"] / 2
        line["rates"] = {
            key: compare(base, Path(name), given.partitions, rate, given.warm, given.seconds, turn)
            for turn, (key, rate) in enumerate(rates.items())
        }
    print(json.dumps(line | facts()))


if __name__ == "__main__":
    main()
