"""A trial: workers under load while faults happen. No process may end but those that the test killed."""

import subprocess
import time

from confluent_kafka import KafkaException

from tests.kafka.nodes import Node
from tests.kafka.oracle import Finding, assert_exactly_once
from tests.kafka.shop import Shop, Upstream, wait_for

WORKERS = ("w0", "w1")
PATIENCE = 150.0  # seconds for what waits for a broker's return, a recovery and a backlog on a busy machine


class Trial:
    """A shop, its workers, and how many faults they were dealt."""

    def __init__(self, place: Shop) -> None:
        self.place = place
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.faults = 0

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
        node.start()
        self.faults += 1

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
        found = self.place.examine(self.faults)
        assert_exactly_once(found, at_least)
        return found

    def _assigned(self) -> bool:
        self.check_alive()
        return all("assigned in generation" in self.place.log_of(name).read_text() for name in self.workers)

    def _scored(self) -> bool:
        self.check_alive()
        try:
            if self.place.committed_lag():
                return False
        except KafkaException:  # the coordinator is not there yet
            return False
        want = len(self.place.read(self.place.settings.events_topic))
        return sum(self.place.outcomes().values()) >= want
