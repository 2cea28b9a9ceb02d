"""Throughput of one worker, exactly once, beside loops without its guarantees, in one run on one machine.

The bare loop consumes, decodes, steps and produces with the same libraries, the same graph and the same score
record, and keeps nothing: the practical limit. The second loop adds as many changelog records of touched shoppers
as the worker wrote, of its size. The worker does what it always does. With --peers Faust as it comes, Quix Streams
and Kafka Streams score the first events of a topic that a worker goes through, too. The last line is JSON.

    python benchmarks/throughput.py --peers
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from bundle import bundle, light
from confluent_kafka import Consumer, Producer, TopicPartition
from machine import facts

from stream import settings as configuration
from stream.bundle.onnx import load
from stream.core.events import Event, Score, SessionView, Source
from stream.core.session import hidden, record, take
from stream.kafka.client.admin import again
from stream.kafka.embedded_broker import Broker
from stream.kafka.topics.admin import apply

BATCH = 4096
T = TypeVar("T")


def fill(address: str, topic: str, events: int, users: int, items: list[str], partitions: int) -> None:
    """Publish a backlog, spread evenly over shoppers and partitions."""
    out = Producer(
        {
            "bootstrap.servers": address,
            "partitioner": "murmur2_random",
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    random, encode = np.random.default_rng(0), msgspec.json.Encoder().encode
    user, item = random.integers(0, users, events).tolist(), random.integers(0, len(items), events).tolist()
    kind = random.choice(["view", "view", "view", "addtocart", "transaction"], events).tolist()
    for n in range(events):
        event = Event(f"{n:016x}", str(user[n]), kind[n], items[item[n]], 1_767_225_600_000 + n * 20)
        out.produce(topic, encode(event), event.user_id)
        if n % 10_000 == 0:
            out.poll(0)
    assert out.flush(120) == 0, partitions


class Bare:
    """What the loops keep: the shoppers' states in arrays, and the producer of their scores."""

    def __init__(self, settings: configuration.Settings) -> None:
        bundle = load(Path(str(settings.bundle)))
        self.settings, self.manifest, self.vocab = settings, bundle.manifest, bundle.vocabulary
        self.step = bundle.intent_step
        self.types = {name: i for i, name in enumerate(self.manifest.meaning.types)}
        self.sessions = np.zeros(1 << 17, record(self.manifest))
        self.slots: dict[str, int] = {}
        self.decode, self.encode = msgspec.json.Decoder(Event).decode, msgspec.json.Encoder().encode
        self.out = Producer(
            {
                "bootstrap.servers": settings.bootstrap_servers,
                "linger.ms": 20,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 1_048_576,
            }
        )

    def score(self, messages: list[Any]) -> Iterable[str]:
        """Score records and produce their scores; return the shoppers."""
        batch = [self.decode(m.value()) for m in messages]
        waves, users = _waves(batch)
        horizons = self.manifest.meaning.horizons
        for wave in waves:
            intent = self._advance([batch[i] for i in wave])
            for i, p in zip(wave, intent.astype(np.float64).round(7).tolist(), strict=True):
                event, message = batch[i], messages[i]
                score = Score(
                    event.event_id,
                    event.user_id,
                    Source(message.partition(), message.offset()),
                    event.timestamp,
                    0,
                    self.manifest.model,
                    SessionView(1, event.timestamp),
                    dict(zip(horizons, p, strict=True)),
                )
                self.out.produce(self.settings.scores_topic, self.encode(score), event.user_id)
        return users

    def _advance(self, events: list[Event]) -> np.ndarray[Any, Any]:
        n, slots, known = len(events), self.slots, self.vocab.item_index
        rows = np.fromiter((slots.setdefault(e.user_id, len(slots)) for e in events), np.int64, n)
        inputs = {
            "item": np.fromiter((known.get(e.item_id, 0) for e in events), np.int64, n),
            "category": np.zeros(n, np.int64),
            "type": np.fromiter((self.types[e.type] for e in events), np.int64, n),
            "numeric": np.zeros((n, len(self.manifest.inputs)), np.float32),
        }
        outputs, state = self.step(inputs, hidden(take(self.sessions, rows), self.manifest))
        for name, value in state.items():
            self.sessions[name][rows] = value
        return outputs["intent"]

    def change(self, shoppers: Iterable[str], records: int) -> None:
        """Produce so many changelog records of the touched shoppers, of the worker's size."""
        users = list(islice(cycle(shoppers), records))
        rows = np.fromiter((self.slots[user] for user in users), np.int64, len(users))
        size, raw = self.sessions.itemsize, take(self.sessions, rows).tobytes()
        for n, user in enumerate(users):
            self.out.produce(self.settings.changelog, raw[n * size : (n + 1) * size], b"u" + user.encode())


def _waves(batch: list[Event]) -> tuple[list[list[int]], Iterable[str]]:
    """Lay a batch in waves with at most one event a shopper; return their places, and the shoppers."""
    waves: list[list[int]] = []
    seen: dict[str, int] = {}
    for i, event in enumerate(batch):
        wave = seen.get(event.user_id, 0)
        seen[event.user_id] = wave + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(i)
    return waves, seen


def bare(settings: configuration.Settings, events: int, partitions: int, changelog: float = 0.0) -> float:
    """Consume, score and produce without durability, `changelog` records an event; return events a second."""
    loop = Bare(settings)
    reader = Consumer(
        {
            "bootstrap.servers": settings.bootstrap_servers,
            "group.id": "bare",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 65_536,
        }
    )
    reader.assign([TopicPartition(settings.events_topic, p, 0) for p in range(partitions)])
    done, began = 0, 0.0
    while done < events:
        messages = reader.consume(BATCH, 0.5)
        began = began or time.perf_counter()
        users = loop.score(messages)
        if changelog:
            loop.change(users, round(changelog * (done + len(messages))) - round(changelog * done))
        loop.out.poll(0)
        done += len(messages)
    assert loop.out.flush(120) == 0
    reader.close()
    return events / (time.perf_counter() - began)


@contextmanager
def running(settings: configuration.Settings, folder: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run `forecart worker` with these settings, its log in NAME.log; end it."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")}
    given = settings.model_dump(exclude={"failpoint", "kafka_properties", "state_dir"}, exclude_none=True) | {
        "name": name
    }
    env |= {f"FORECART_{key.upper()}": str(value) for key, value in given.items()}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "forecart", "worker"], env=env, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def drain(
    settings: configuration.Settings, events: int, partitions: int, check: Callable[[], object], first: Callable[[], T]
) -> tuple[float, int, T]:
    """Wait until a backlog is committed; return the seconds and the events since the first commit that was seen.

    So start-up is left out, as it is for the loops; nothing but this look at the offsets runs beside a worker.
    `check` is called meanwhile, `first` when the clock starts.
    """
    reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.group})
    topic = [TopicPartition(settings.events_topic, p) for p in range(partitions)]
    start: tuple[float, int, T] | None = None
    try:
        while True:
            check()
            committed = again(time.monotonic() + 30, lambda: reader.committed(topic, 10))
            done = sum(max(tp.offset, 0) for tp in committed)
            if done and not start:
                start = time.perf_counter(), done, first()
            if start and done >= events:
                return time.perf_counter() - start[0], done - start[1], start[2]
            time.sleep(0.05)
    finally:
        reader.close()


def worker(settings: configuration.Settings, events: int, folder: Path, name: str, partitions: int) -> float:
    """Run a worker over the backlog; return events a second, by the offsets that its transactions commit."""
    quiet = settings.model_copy(update={"metrics_port": 0})
    with running(quiet, folder, name) as process:

        def check() -> None:
            assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]

        seconds, done, _ = drain(settings, events, partitions, check, lambda: None)
    return done / seconds


def per_event(settings: configuration.Settings, partitions: int, events: int) -> float:
    """Return how many records of the changelog there are for an event."""
    reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": "records"})
    ends = [reader.get_watermark_offsets(TopicPartition(settings.changelog, p), 10)[1] for p in range(partitions)]
    reader.close()
    return sum(ends) / events


def rounds(options: argparse.Namespace, folder: Path, address: str) -> dict[str, list[float]]:
    """Measure the worker and the loops one after the other, each round on a backlog of its own."""
    found: dict[str, list[float]] = {}
    events, partitions = options.events, options.partitions
    for turn in range(options.rounds):
        settings = backlog(options, address, turn)
        measured = {"worker": worker(settings, events, folder, f"w{turn}", partitions)}
        measured["records"] = per_event(settings, partitions, events)
        measured["bare"] = bare(settings, events, partitions)
        measured["changelog"] = bare(settings, events, partitions, measured["records"])
        for name, value in measured.items():
            found.setdefault(name, []).append(value)
        print({name: round(value, 2) for name, value in measured.items()}, file=sys.stderr)
    return found


def backlog(options: argparse.Namespace, address: str, turn: int) -> configuration.Settings:
    """Make the topics of a round and fill the input; return a worker's settings."""
    settings = configuration.load(
        bootstrap_servers=address,
        bundle=options.bundle,
        recommend=getattr(options, "recommend", False),
        group=f"b{turn}",
        events_topic=f"events{turn}",
        scores_topic=f"s{turn}",
    )
    apply(settings, options.partitions, 1)
    items = load(options.bundle).vocabulary.items
    fill(address, settings.events_topic, options.events, options.users, items, options.partitions)
    return settings


def summary(found: dict[str, list[float]], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of a run: medians, and the worker's ratios to the loops within each round."""
    line: dict[str, Any] = {"benchmark": "throughput"}
    line |= {f"{k}_events_per_second": round(statistics.median(found[k])) for k in ("bare", "changelog", "worker")}
    for name in ("bare", "changelog"):
        ratios = [w / b for w, b in zip(found["worker"], found[name], strict=True)]
        line[f"to_{name}"] = round(statistics.median(ratios), 3)
        line[f"to_{name}_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    line["changelog_records_per_event"] = round(statistics.median(found["records"]), 3)
    line |= {"events": options.events, "users": options.users, "rounds": options.rounds}
    return line | {"hidden": load(options.bundle).manifest.hidden["h"][0]} | facts()


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return the options that benchmarks of a backlog share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", type=Path, help="Else one of hidden size 128, made once.")
    return parser


def main() -> None:
    """Run all of it and print the ratios."""
    parser = arguments(__doc__)
    parser.add_argument("--peers", action="store_true", help="Run what others would write for it, too.")
    parser.add_argument("--peer-events", type=int, default=60_000)
    parser.add_argument("--peer-seconds", type=float, default=20.0, help="The longest that one is timed.")
    options = parser.parse_args()
    options.bundle = options.bundle or bundle()
    with tempfile.TemporaryDirectory() as name, Broker(heap="1g") as broker:
        folder = Path(name)
        line = summary(rounds(options, folder, broker.address), options)
        if options.peers:
            from peers.run import measure

            settings = backlog(options, broker.address, options.rounds)
            rate = worker(settings, options.events, folder, "beside", options.partitions)
            theirs = settings.model_copy(update={"bundle": light(options.bundle)})
            rates, missing = measure(theirs, options.peer_events, options.partitions, folder, options.peer_seconds)
            line |= {"worker_beside_peers_events_per_second": round(rate)}
            line |= {f"{k}_events_per_second": round(v) for k, v in rates.items()}
            line |= {f"to_{k}": round(rate / v, 1) for k, v in rates.items()} | {"not_run": missing}
    print(json.dumps(line))


if __name__ == "__main__":
    main()
