"""What several benchmarks share: workers as processes, their readiness and their metrics."""

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

from stream.kafka.broker import Broker, free_port
from stream.settings import Settings

DEMO = Path(__file__).parents[1] / "stream/demo/bundle"


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


@contextmanager
def worker(settings: Settings, folder: Path, name: str) -> Iterator[Worker]:
    """Run `forecart worker` with these settings; end it."""
    port, path = free_port(), folder / f"{name}.log"
    given = settings.model_dump(exclude={"failpoint", "kafka_properties", "state_dir"})
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
