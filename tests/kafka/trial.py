"""A trial: workers under load while faults happen. No process may end but those that the test killed."""

import re
import subprocess
import time
from datetime import datetime

from confluent_kafka import KafkaException

from tests.kafka.nodes import Node
from tests.kafka.oracle import Finding, Reading, assert_exactly_once, resumed
from tests.kafka.shop import Shop, Upstream, wait_for

WORKERS = ("w0", "w1")
RESUMES = 10.0  # seconds from a broker's return until scoring goes on, beside a recovery
_RECOVERED = re.compile(r"^([\d-]+ [\d:]+),(\d+) .*recovered \d+ partitions in ([\d.]+) s", re.M)
PATIENCE = 150.0  # seconds for what waits for a broker's return, a recovery and a backlog on a busy machine


class Trial:
    """A shop, its workers, and how many faults they were dealt."""

    def __init__(self, place: Shop) -> None:
        self.place = place
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.faults = 0
        self.returns: list[int] = []  # when (ms) a broker was back

    def start(self, *names: str, **settings: object) -> None:
        """Start workers, by default two."""
        for name in names or WORKERS:
            self.workers[name] = self.place.start(name, **settings)

    def await_assigned(self) -> None:
        """Wait until each worker has been assigned partitions."""
        wait_for(self._assigned, PATIENCE, "the workers are assigned")

    def kill(self, name: str) -> None:
        """Kill a worker; `start` starts it again."""
        self.workers[name].kill()
        self.workers[name].wait()
        self.faults += 1

    def outage(self, node: Node, seconds: float, hard: bool = False) -> None:
        """Take a broker away for so long."""
        node.end(hard)
        time.sleep(seconds)
        self.bring_back(node)
        self.faults += 1

    def bring_back(self, node: Node) -> None:
        """Start a broker again, and note when it answers: `end` holds the workers to going on soon."""
        node.start()
        self.returns.append(int(time.time() * 1000))

    def send(self, rate: int, seconds: float) -> Upstream:
        """Begin to send events, also while there is no broker; the caller joins."""
        upstream = Upstream(self.place, rate=rate, seconds=seconds, steady=True)
        upstream.start()
        return upstream

    def burst(self, events: int = 1000) -> None:
        """Send so many events, and wait until they are scored."""
        self.send(events, 1.0).join(PATIENCE)
        self.await_scored()

    def check_alive(self) -> None:
        """Fail where a worker ended, with what it said last."""
        for name, worker in self.workers.items():
            if worker.poll() is not None:
                said = self.place.log_of(name).read_text()[-600:]
                raise AssertionError(f"{name} ended by itself with {worker.returncode}: …{said}")

    def await_scored(self) -> None:
        """Wait until every input record has an outcome; fail where a worker ends meanwhile."""
        wait_for(self._scored, PATIENCE, "every input record has an outcome")

    def end(self, at_least: int) -> Finding:
        """Ask the oracle."""
        self.await_scored()
        self.check_alive()
        reading = self.place.reader.read_all()
        found = self.place.examine(self.faults, reading=reading)
        assert_exactly_once(found, at_least)
        if self.returns:
            self._check_resumed(found, reading)
        return found

    def _check_resumed(self, found: Finding, reading: Reading) -> None:
        """Hold the workers to `RESUMES` and a recovery after each return of a broker."""
        took = [self._resumed(reading, back) for back in self.returns]
        most, recovery = (max(each) for each in zip(*took, strict=True))
        told = f"scored again {most:.1f} s after the return, at most, with recoveries of up to {recovery:.2f} s"
        self.place.record("figures", f"{found}; {told}")
        assert all(seconds <= RESUMES + recovered for seconds, recovered in took), took

    def _resumed(self, reading: Reading, back: int) -> tuple[float, float]:
        """Return how long (s) after a return all partitions had scores again, and the longest recovery until then.

        Of a recovery that began while the broker was away, what lies behind the return.
        """
        seconds = resumed(reading, back)
        until = back + 1000 * seconds
        recoveries = [min(took, (at - back) / 1000) for at, took in self._recoveries() if back <= at <= until]
        return seconds, max(recoveries, default=0.0)

    def _recoveries(self) -> list[tuple[float, float]]:
        """Return when (ms) a worker had recovered, by its log, and how long (s) it took."""
        said = "".join(self.place.log_of(name).read_text() for name in self.workers)
        return [
            (datetime.fromisoformat(when).timestamp() * 1000 + int(ms), float(took))
            for when, ms, took in _RECOVERED.findall(said)
        ]

    def _assigned(self) -> bool:
        self.check_alive()
        return all(map(self.place.assignments, self.workers))

    def _scored(self) -> bool:
        self.check_alive()
        try:
            if self.place.committed_lag():
                return False
        except KafkaException:  # the coordinator is not there yet
            return False
        want = len(self.place.read(self.place.settings.events_topic))
        return sum(self.place.outcomes().values()) >= want
