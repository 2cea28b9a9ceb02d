"""An engine with fakes around it: what stands for Kafka in the tests of rounds and of recoveries."""

import asyncio
import threading
import time
from collections import Counter

import msgspec

from stream.bundle.onnx import Bundle
from stream.core.errors import StuckError
from stream.core.events import Event
from stream.core.linger import Linger
from stream.core.manifest import Vocabulary
from stream.kafka.client.deadline import Deadline
from stream.kafka.client.errors import Kind
from stream.kafka.exactly_once.changelog import Progress
from stream.kafka.exactly_once.producing import Producing
from stream.kafka.exactly_once.transaction import Aborted
from stream.kafka.group.membership import Batch, Ownership, PartitionState
from stream.records import Limits
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.state.sessions import SessionStore
from stream.worker.engine import Engine
from stream.worker.telemetry import Telemetry
from tests.fakes import NOON, manifest, step


class Kafka:
    """Answer, until told not to."""

    def __init__(self) -> None:
        self.reachable, self.outages, self.since, self.renewed_at = True, 0, 0.0, -1.0

    def steady_since(self, _when):
        return self.reachable

    def why_not(self):
        return "" if self.reachable else "away"

    async def wait(self, wanted=lambda: True):
        while not self.reachable and wanted():
            await asyncio.sleep(0.005)


class Committer:
    """Remember what was committed; abort when told to."""

    outlived = False

    def __init__(self) -> None:
        self.deadline = Deadline()
        self.committed: list[int] = []
        self.aborts = self.claims = self.left_open = self.claim_aborts = 0
        self.pause = 0.0
        self.why, self.replaced, self.starts = Kind.REFUSED, False, 0
        self.gate = threading.Event()  # a commit waits for it
        self.gate.set()

    def start(self):
        self.starts += 1

    def claim(self, _partition):
        self.claims += 1
        if self.claim_aborts and not self.aborts and self.claims > 1:
            self.claim_aborts -= 1
            raise Aborted("told to")

    def commit(self, works, stands, _membership):
        time.sleep(self.pause)
        self.gate.wait(20)
        if works and self.aborts:
            self.aborts -= 1
            raise Aborted("told to", self.why, self.replaced)
        for work in works:
            self.committed += [msgspec.json.decode(m.value)["source"]["offset"] for m in work.scores]
        self.position = {number: stand.offset for number, stand in stands.items()}

    def abort(self):
        self.left_open += 1


class Recovery:
    """Recover from what was committed last."""

    patience = 5.0

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.position, self.calls = scorer, 0, Counter()
        self.deadline, self.made, self.returns = Deadline(), 1, threading.Event()
        self.broken = self.hangs = self.stuck = False

    def anew(self):
        other = Recovery(self.scorer)
        other.calls, other.made = self.calls, self.made + 1
        return other

    def reopen(self):
        pass

    def recover(self, kept, wanted, progress):
        self.calls.update("kept" if held else "anew" for held in kept.values())
        if self.broken:
            raise StuckError("told to", "")
        if self.stuck:
            with self.deadline.of("consume", 0.0):  # a call of librdkafka's that outlasts its timeout
                self.returns.wait(20)
        while self.hangs and wanted():
            time.sleep(0.01)
        if not wanted():
            return None
        for number in kept:
            progress(Progress(number, 1, 4, 1))
        return {
            number: held or PartitionState(Partition(number, SessionStore(self.scorer.layout), position=self.position))
            for number, held in kept.items()
        }


class Rig:
    """An engine with fakes around it."""

    def __init__(self) -> None:
        bundle = Bundle(manifest(), Vocabulary([], [], []), step, step)
        self.scorer = Scorer(bundle, False, Limits(9999, 9999, 9**15), "events")
        self.committer, self.recovery = Committer(), Recovery(self.scorer)
        self.ownership, self.failed, self.sought = Ownership("g", 100), [], []
        self.telemetry, self.kafka = Telemetry(), Kafka()
        self.engine = Engine(
            scorer=self.scorer,
            producing=Producing("w0", lambda: self.committer, self.kafka.steady_since),
            recovery=self.recovery,
            ownership=self.ownership,
            telemetry=self.telemetry,
            pace=Linger(100, 3),
            seek=self.seek,
            fail=self.failed.append,
            kafka=self.kafka,
        )

    async def seek(self, positions):
        """Fail where the consumer would fetch already: it must stand right before anything is owned."""
        assert self.ownership.current and not set(positions) & set(self.ownership.current.owned)
        self.sought.append(positions)

    async def join(self, *partitions: int, generation: int = 1):
        membership = self.ownership.take(generation, "m", None, set(partitions))
        await self.engine.restorer.recover(set(partitions))
        return membership

    def batch(self, start, end, membership=None, partition=0):
        records = [
            Line(o, NOON, b"u", msgspec.json.encode(Event(f"e{o}", "u", "view", "i", NOON + o)))
            for o in range(start, end)
        ]
        return Batch(membership or self.ownership.current, partition, start, end, records)

    async def play(self, *batches):
        task = asyncio.create_task(self.engine.run())
        for batch in batches:
            await self.engine.take(batch)
        for _ in range(200):
            await asyncio.sleep(0.005)
            if not self.engine.at_work:
                break
        task.cancel()

    def gauge(self, name, partition=0):
        return self.telemetry.registry.get_sample_value(name, {"partition": str(partition)})

    def result(self, name):
        return self.telemetry.registry.get_sample_value("forecart_transactions_total", {"result": name})
