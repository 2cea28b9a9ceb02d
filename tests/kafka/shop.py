"""A shop on the real broker: topics, upstream, workers, and an independent reader that judges them.

The judge reads input, scores, dead letters and changelog as any `read_committed` reader would; it believes
no counter of the worker's.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from stream import settings as configuration
from stream.configured import limits
from stream.core.events import Event
from stream.kafka.topics import apply
from stream.offline import Line
from stream.round import Partition, Scorer
from stream.runtime import load
from stream.sessions import SessionStore

BUNDLE = Path(__file__).parents[2] / "stream/demo/bundle"
ITEMS = 2000
NEAR = 2e-3  # what a float16 state may differ by when a kernel sums in another order


class NoText(str):
    """A header's name that goes out as bytes that are no UTF-8."""

    def encode(self, *_: str) -> bytes:
        return b"n\xff"


@dataclass
class Verdict:
    """What the judge found; `want` input records in all."""

    want: int
    lost: int
    twice: int
    alien: int
    sessions: int
    differing: int
    far: int


class Shop:
    """One group with topics of its own."""

    def __init__(
        self,
        address: str,
        group: str,
        folder: Path,
        partitions: int = 4,
        bundle_path: Path = BUNDLE,
        **settings: object,
    ) -> None:
        self.bundle = bundle_path
        self.address, self.group, self.folder, self.partitions = address, group, folder, partitions
        names = {f"{role}_topic": f"{group}-{role}" for role in ("events", "scores", "dead_letters", "changelog")}
        self.names = names
        self.extra = {"session_timeout_seconds": 6, "transaction_timeout_seconds": 10, "stall_seconds": 30, **settings}
        self.settings = configuration.load(
            bootstrap_servers=address, group=group, bundle=self.bundle, **names, **self.extra
        )
        apply(self.settings, partitions)
        self.workers: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)

    def start(self, name: str, source: Path | None = None, **settings: object) -> subprocess.Popen[bytes]:
        """Start a worker process, of this source or of another one."""
        given = {
            **self.names,
            **self.extra,
            "bundle": self.bundle,
            "bootstrap_servers": self.address,
            "group": self.group,
        }
        given |= {"name": name, "metrics_port": 0, **settings}
        env = {k: v for k, v in os.environ.items() if not k.startswith("FORECART_")}
        env |= {f"FORECART_{k.upper()}": str(v) for k, v in given.items()}
        if source:
            env["PYTHONPATH"] = str(source)
        with self.log_of(name).open("ab") as log:
            command = [sys.executable, "-m", "forecart", "worker"]
            worker = subprocess.Popen(command, env=env, stdout=log, stderr=log, cwd=source)
        self.workers[name].append(worker)
        return worker

    def log_of(self, name: str) -> Path:
        """Return where a worker's output goes."""
        return self.folder / f"{self.group[-24:]}-{name}.log"

    def close(self) -> None:
        """Leave nothing behind."""
        for worker in (w for started in self.workers.values() for w in started):
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    def producer(self, **more: object) -> Producer:
        """Make a producer of the tests' own."""
        return Producer({"bootstrap.servers": self.address, "partitioner": "murmur2_random", "linger.ms": 2, **more})

    def send(self, values: list[tuple[bytes | None, bytes | None]], **produce: Any) -> None:
        """Publish raw (key, value) pairs to the input."""
        out = self.producer()
        for key, value in values:
            out.produce(self.settings.events_topic, value, key, **produce)
        assert out.flush(30) == 0

    def read(self, topic: str) -> list[Any]:
        """Read all committed records of a topic."""
        reader = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": "judge",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        numbers = list(reader.list_topics(topic, 10).topics[topic].partitions)
        reader.assign([TopicPartition(topic, number, 0) for number in numbers])
        found, ended = [], set()
        while len(ended) < len(numbers):
            for message in reader.consume(10_000, 1.0):
                if message.error():
                    assert message.error().name() == "_PARTITION_EOF", message.error()
                    ended.add(message.partition())
                else:
                    found.append(message)
        reader.close()
        return found

    def outcomes(self) -> Counter[tuple[int, int]]:
        """Count the outcomes of each input offset: scores and dead letters."""
        counts: Counter[tuple[int, int]] = Counter()
        for message in self.read(self.settings.scores_topic):
            source = json.loads(message.value())["source"]
            counts[source["partition"], source["offset"]] += 1
        for message in self.read(self.settings.dead_letters_topic):
            headers = dict(message.headers())
            counts[int(headers["forecart-partition"]), int(headers["forecart-offset"])] += 1
        return counts

    def await_outcomes(self, seconds: float) -> None:
        """Wait until there are as many outcomes as input records; the judge looks closer then."""
        deadline = time.monotonic() + seconds
        want = len(self.read(self.settings.events_topic))
        while time.monotonic() < deadline:
            if sum(self.outcomes().values()) >= want:
                return
            time.sleep(1)

    def judge(self) -> Verdict:
        """Compare outcomes with the input, and the stored sessions with an offline replay of it."""
        records = self.read(self.settings.events_topic)
        want = {(m.partition(), m.offset()) for m in records}
        counts = self.outcomes()
        stored = {
            (m.partition(), m.key()[1:]): m.value()
            for m in self.read(self.settings.changelog)
            if m.key()[:1] == b"u" and m.value() is not None
        }
        replayed = self.replay(records)
        differing = [user for user in replayed if stored.get(user) != replayed[user].tobytes()]
        return Verdict(
            want=len(want),
            lost=len(want - set(counts)),
            twice=sum(n > 1 for n in counts.values()),
            alien=len(set(counts) - want) + len(set(stored) - set(replayed)),
            sessions=len(replayed),
            differing=len(differing),
            far=sum(_far(stored.get(user), replayed[user]) for user in differing),
        )

    def replay(self, records: list[Any]) -> dict[tuple[int, bytes], Any]:
        """Score the input offline, partition by partition, and return the final sessions."""
        scorer = Scorer(load(self.bundle), False, limits(self.settings), self.settings.events_topic)
        final = {}
        for number in range(self.partitions):
            part = Partition(number, SessionStore(scorer.layout))
            own = [
                Line(m.offset(), m.timestamp()[1], m.key(), m.value(), m.headers() or [])
                for m in records
                if m.partition() == number
            ]
            for begin in range(0, len(own), 777):
                scorer.process(part, own[begin : begin + 777], int(time.time() * 1000))
            for user in part.store:
                final[number, user.encode()] = part.store.get(user)
        return final

    def committed_lag(self) -> int:
        """Return how far the group's committed offsets are behind the input's end."""
        reader = Consumer({"bootstrap.servers": self.address, "group.id": self.group})
        topic, lag = self.settings.events_topic, 0
        for tp in reader.committed([TopicPartition(topic, n) for n in range(self.partitions)], 10):
            lag += reader.get_watermark_offsets(tp, timeout=10)[1] - max(tp.offset, 0)
        reader.close()
        return lag


def _far(raw: bytes | None, mine: Any) -> bool:
    if raw is None or len(raw) != mine.dtype.itemsize:
        return True
    theirs = np.frombuffer(raw, mine.dtype)[0]
    state = [name for name in mine.dtype.names if name in ("h", "c")]
    rest = [name for name in mine.dtype.names if name not in state and name != "drift"]
    near = all(np.abs(theirs[name].astype("f4") - mine[name].astype("f4")).max() <= NEAR for name in state)
    return not near or any(theirs[name].tobytes() != mine[name].tobytes() for name in rest)


class Upstream(threading.Thread):
    """A live producer of shoppers' events; with `abort` it aborts that share of its transactions."""

    def __init__(self, shop: Shop, rate: int, seconds: float, abort: float = 0.0, users: int = 2000) -> None:
        super().__init__(daemon=True)
        self.shop, self.rate, self.seconds, self.abort, self.users = shop, rate, seconds, abort, users
        self.sent = self.aborted = 0

    def run(self) -> None:
        """Send at the rate for so long."""
        dice, begin = random.Random(5), int(time.time() * 1000)
        more = {"transactional.id": f"upstream-{self.shop.group}"} if self.abort else {}
        out = self.shop.producer(**more)
        if self.abort:
            out.init_transactions(30)
        started = time.monotonic()
        n = 0
        while time.monotonic() - started < self.seconds:
            if self.abort:
                out.begin_transaction()
            due = int((time.monotonic() - started) * self.rate)
            for i in range(n, due):
                user = f"user-{dice.randrange(self.users)}"
                out.produce(self.shop.settings.events_topic, event(i, user, begin + i, dice), user.encode())
            n = max(n, due)
            out.flush()
            if self.abort and dice.random() < self.abort:
                out.abort_transaction(30)
                self.aborted += 1
            elif self.abort:
                out.commit_transaction(30)
            time.sleep(0.08)
        self.sent = n


def event(n: int, user: str, time_ms: int, dice: random.Random) -> bytes:
    """Make the n-th event."""
    kind = dice.choice(("view", "view", "view", "addtocart", "transaction"))
    item = f"item-{dice.randrange(ITEMS)}"
    return msgspec.json.encode(Event(f"event-{n}", user, kind, item, time_ms))


def stopped(worker: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has stopped itself (SIGSTOP)."""
    if worker.poll() is not None:
        return False
    return Path(f"/proc/{worker.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


def resume(worker: subprocess.Popen[bytes]) -> None:
    """Let a stopped process go on."""
    os.kill(worker.pid, signal.SIGCONT)


def wait_for(condition: Any, seconds: float, what: str) -> None:
    """Wait until a condition holds; fail with its name."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
