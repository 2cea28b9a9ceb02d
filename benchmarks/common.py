"""What several benchmarks share: a broker, backlogs, bundles, and workers as processes that are watched."""

import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from stream.core.events import Event
from stream.kafka.client.admin import again
from stream.kafka.embedded_broker import Broker, free_port
from stream.settings import Settings

DEMO = Path(__file__).parents[1] / "stream/demo/bundle"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Worker:
    """A running worker; `log` is where its output goes."""

    process: "subprocess.Popen[bytes]"
    port: int
    log: Path

    def get(self, path: str) -> str:
        """Ask its metrics and probes; empty where it does not answer, or answers that it is not well."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return ""

    def metric(self, name: str, label: str = "") -> float:
        """Return a series, summed over those with the label (`name="value"`); 0 where there is none."""
        labels = rf"{{[^}}]*{label}[^}}]*}}" if label else r"(?:{[^}]*})?"
        found = re.findall(rf"^{name}{labels} (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(float(value) for value in found)

    def stage(self, stage: str) -> tuple[float, int]:
        """Return the mean ms of a stage of a round, and how many rounds there were."""
        total, n = (self.metric(f"forecart_stage_seconds_{part}", f'stage="{stage}"') for part in ("sum", "count"))
        return round(total / max(n, 1) * 1000, 2), int(n)

    def await_ready(self, seconds: float) -> None:
        """Wait until it is ready."""
        deadline = time.monotonic() + seconds
        while not self.get("/readyz"):
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.05)

    @property
    def processor(self) -> float:
        """Return the processor's seconds, its own and the system's for it."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def rss(self) -> int:
        """Return its resident memory, in bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) * 1024


@contextmanager
def kafka(given: str | None) -> Iterator[str]:
    """Give the address of the broker that was named, or of an embedded one of our own."""
    if given:
        yield given
        return
    with Broker(heap="1g") as broker:
        yield broker.address


def producer(address: str, **more: Any) -> Producer:
    """Make a producer for backlogs, which partitions as upstreams do."""
    room = {"queue.buffering.max.messages": 1_000_000, "queue.buffering.max.kbytes": 1_048_576}
    base = {"bootstrap.servers": address, "partitioner": "murmur2_random", "linger.ms": 20}
    return Producer({**base, **room, **more})


def publish(settings: Settings, users: "np.ndarray[Any, Any]", items: list[str]) -> None:
    """Publish an event of each of these shoppers, in order, of random items."""
    out, random, encode = producer(settings.bootstrap_servers), np.random.default_rng(0), msgspec.json.Encoder().encode
    item, now = random.integers(0, len(items), len(users)).tolist(), int(time.time() * 1000)
    for n, user in enumerate(users.tolist()):
        event = Event(f"{now}-{n}", str(user), "view", items[item[n]], now)
        out.produce(settings.events_topic, encode(event), event.user_id)
        if n % 10_000 == 0:
            out.poll(0)
    assert out.flush(120) == 0


def bundle(folder: Path, dimension: int, items: int = 2000) -> Path:
    """Export a network of this size that has learned nothing: its step costs what a trained one's does."""
    import torch

    from export.bundle import write
    from export.parity import random_histories
    from models.training.checkpoint import Checkpoint, Run
    from models.training.config import TrainConfig
    from stream.core.manifest import TaskSpec

    config, names = TrainConfig(dimension=dimension), [f"item-{n}" for n in range(items)]
    run = Run(config=config, meaning=TaskSpec(), items=names, categories=["c"], category_of=[1] * items)
    torch.manual_seed(0)
    point = Checkpoint(run.network().eval(), run, {})
    point.histories = {name: torch.from_numpy(value) for name, value in random_histories(point, 1).items()}
    write(point, folder / f"bundle-{dimension}", "float16")
    return folder / f"bundle-{dimension}"


class Offsets:
    """What a group has committed of its input."""

    def __init__(self, settings: Settings, partitions: int) -> None:
        self._reader = Consumer({"bootstrap.servers": settings.bootstrap_servers, "group.id": settings.group})
        self._topic = [TopicPartition(settings.events_topic, p) for p in range(partitions)]

    def done(self) -> int:
        """Count the events before the committed offsets."""
        committed = again(time.monotonic() + 30, lambda: self._reader.committed(self._topic, 10))
        return sum(max(tp.offset, 0) for tp in committed)

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()


@contextmanager
def worker(settings: Settings, folder: Path, name: str) -> Iterator[Worker]:
    """Run `forecart worker` with these settings; end it."""
    port, path = free_port(), folder / f"{name}.log"
    given = settings.model_dump(exclude={"failpoint", "kafka_properties", "state_dir"}, exclude_none=True)
    given |= {"name": name, "metrics_port": port}
    env = {key: value for key, value in os.environ.items() if not key.startswith("FORECART_")}
    env |= {f"FORECART_{key.upper()}": str(value) for key, value in given.items()}
    with path.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "forecart", "worker"], env=env, stdout=log, stderr=log)
    try:
        yield Worker(process, port, path)
    finally:
        process.terminate()
        process.wait(30)
