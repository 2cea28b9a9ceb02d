"""A shop on the real broker: topics, producers that keep a ledger, workers, and the oracle's door."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from stream import settings as configuration
from stream.bundle.onnx import load
from stream.core.events import Event
from stream.kafka.topics.admin import apply
from tests.kafka.oracle import Finding, Headers, Place, Reading, Record, examine, scored_input
from tests.kafka.reader import Reader, record, replay

BUNDLE = Path(__file__).parents[2] / "stream/demo/bundle"
ITEMS = 2000


class NoText(str):
    """A header's name that goes out as bytes that are no UTF-8."""

    def encode(self, *_: str) -> bytes:
        return b"n\xff"


class Ledger:
    """What producers were told is in the input: acknowledged, and committed where there are transactions."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.failed = 0

    def enter(self, error: Any, message: Any, headers: Headers = ()) -> None:
        """Enter a delivery report, which does not tell the record's headers."""
        if error:
            self.failed += 1
        else:
            self.records.append(record(message, headers=False)._replace(headers=headers))


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
        self.ledger = Ledger()
        self.since = int(time.time() * 1000)  # no input waited before, whatever its own time says
        self.unreadable: set[Place] = set()  # what a test wrote to the input that no reader can read
        self.reader = Reader(address, self.settings, self.unreadable)
        self.record: Callable[[str, object], None] = lambda *_: None  # where a test's figures go

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

    def assignments(self, name: str) -> int:
        """Tell how often a worker has been assigned partitions."""
        return self.log_of(name).read_text().count("assigned in generation")

    def await_assigned(self, *names: str, seconds: float = 60.0) -> None:
        """Wait until each of these workers has been assigned partitions."""
        wait_for(lambda: all(map(self.assignments, names)), seconds, f"{', '.join(names)} are assigned")

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
        out, enter = self.producer(), partial(self.ledger.enter, headers=produce.get("headers", ()))
        for key, value in values:
            out.produce(self.settings.events_topic, value, key, on_delivery=enter, **produce)
        assert out.flush(30) == 0

    def read(self, topic: str) -> list[Any]:
        """Read all committed records of a topic."""
        return self.reader.read(topic)

    def outcomes(self) -> Counter[Place]:
        """Count the outcomes of each input offset: scores and dead letters."""
        return Counter(outcome.place for outcome in self.reader.read_outcomes())

    def await_outcomes(self, seconds: float) -> None:
        """Wait until there are as many outcomes as input records; the oracle looks closer then."""
        deadline = time.monotonic() + seconds
        want = len(self.read(self.settings.events_topic)) + len(self.unreadable)
        while time.monotonic() < deadline:
            if sum(self.outcomes().values()) >= want:
                return
            time.sleep(1)

    def examine(self, faults: int = 0, exact: bool = False, reading: Reading | None = None) -> Finding:
        """Ask the oracle, after so many faults; `exact` replays by the worker's own chunks and clock."""
        reading = reading or self.reader.read_all()
        events, scored_at = scored_input(reading, self.ledger.records), reading.scored_at if exact else None
        replayed = replay(events, load(self.bundle), self.settings, scored_at)
        found = examine(reading, self.ledger.records, replayed, faults, self.since)
        self.record("figures", str(found))
        return found

    def committed_lag(self) -> int:
        """Return how far the group's committed offsets are behind the input's end."""
        reader = Consumer({"bootstrap.servers": self.address, "group.id": self.group})
        topic, lag = self.settings.events_topic, 0
        for tp in reader.committed([TopicPartition(topic, n) for n in range(self.partitions)], 10):
            lag += reader.get_watermark_offsets(tp, timeout=10)[1] - max(tp.offset, 0)
        reader.close()
        return lag


class Upstream(threading.Thread):
    """A live producer of events; with `abort` it aborts that share of its transactions. It keeps the shop's ledger.

    A `steady` one does not wait for what it sent: while its broker is away, events pile up in it.
    """

    def __init__(
        self, shop: Shop, rate: int, seconds: float, abort: float = 0.0, users: int = 2000, steady: bool = False
    ) -> None:
        super().__init__(daemon=True)
        self.shop, self.rate, self.seconds, self.abort, self.users = shop, rate, seconds, abort, users
        self.steady = steady
        self.sent = self.aborted = 0
        self._dice, self._begin = random.Random(5), 0

    def run(self) -> None:
        """Send at the rate for so long."""
        self._begin = int(time.time() * 1000)
        more = (
            {"transactional.id": f"upstream-{self.shop.group}"} if self.abort else {"enable.idempotence": self.steady}
        )
        out = self.shop.producer(**more)
        if self.abort:
            _patiently(lambda: out.init_transactions(30))
        started = time.monotonic()
        while (passed := time.monotonic() - started) < self.seconds:
            (self._transact if self.abort else self._send)(out, int(passed * self.rate), self.shop.ledger)
            time.sleep(0.08)
        out.flush()

    def _send(self, out: Producer, due: int, ledger: Ledger) -> None:
        """Send until so many events were sent, and wait until each is acknowledged or given up, unless steady."""
        topic = self.shop.settings.events_topic
        for n in range(self.sent, due):
            user = f"user-{self._dice.randrange(self.users)}"
            value = event(n, user, self._begin + n, self._dice)
            out.produce(topic, value, user.encode(), on_delivery=ledger.enter)
        self.sent = max(self.sent, due)
        out.poll(0) if self.steady else out.flush()

    def _transact(self, out: Producer, due: int, ledger: Ledger) -> None:
        """Send in one transaction; what it wrote enters the ledger once it is committed."""
        own = Ledger()
        out.begin_transaction()
        self._send(out, due, own)
        try:
            if self._dice.random() >= self.abort:
                _patiently(lambda: out.commit_transaction(30))
                ledger.records += own.records
                return
        except KafkaException as error:
            if not error.args[0].txn_requires_abort():
                raise
        _patiently(lambda: out.abort_transaction(30))
        self.aborted += 1


def _patiently(call: Callable[[], None], seconds: float = 180.0) -> None:
    """Make the same call again while its error is retriable: its answer is that of the first."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except KafkaException as error:
            if not error.args[0].retriable() or time.monotonic() > deadline:
                raise


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
