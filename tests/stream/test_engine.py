"""Rounds without Kafka: which batches are scored, what an abort does, when it is enough."""

import asyncio
import threading
import time
from collections import Counter

import msgspec
import pytest

from stream.core.errors import AbortedError, FaultError, FencedError, StuckError
from stream.core.events import Event
from stream.core.manifest import Vocabulary
from stream.engine import Engine
from stream.kafka.commit import Aborted
from stream.kafka.membership import Batch, Mark, Owned, Ownership
from stream.kafka.recovery import Progress
from stream.offline import Line
from stream.round import Limits, Partition, Scorer
from stream.runtime import Bundle
from stream.sessions import SessionStore
from stream.telemetry import Telemetry
from tests.fakes import NOON, manifest, step


class Committer:
    """Remember what was committed; abort when told to."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.aborts = self.claims = self.left_open = self.claim_aborts = 0
        self.pause = 0.0
        self.name, self.replaced = "w0", False

    def claim(self, _partition):
        self.claims += 1
        if self.claim_aborts and not self.aborts and self.claims > 1:
            self.claim_aborts -= 1
            raise Aborted("told to")

    def commit(self, works, stands, _membership):
        time.sleep(self.pause)
        if works and self.aborts:
            self.aborts -= 1
            raise Aborted("told to", self.replaced)
        for work in works:
            self.committed += [msgspec.json.decode(m.value)["source"]["offset"] for m in work.scores]
        self.position = {number: stand.offset for number, stand in stands.items()}

    def abort(self):
        self.left_open += 1


class Recovery:
    """Recover from what was committed last."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer, self.position, self.calls = scorer, 0, Counter()
        self.broken = self.hangs = False

    def recover(self, kept, wanted, progress):
        self.calls.update("kept" if held else "anew" for held in kept.values())
        if self.broken:
            raise StuckError("told to", "")
        while self.hangs and wanted():
            time.sleep(0.01)
        if not wanted():
            return None
        for number in kept:
            progress(Progress(number, 1, 4, 1))
        return {
            number: held or Owned(Partition(number, SessionStore(self.scorer.layout), position=self.position))
            for number, held in kept.items()
        }


@pytest.fixture
def rig():
    return Rig()


class Rig:
    """An engine with fakes around it."""

    def __init__(self) -> None:
        bundle = Bundle(manifest(), Vocabulary([], [], []), step, step)
        self.scorer = Scorer(bundle, False, Limits(9999, 9999, 9**15), "events")
        self.committer, self.recovery = Committer(), Recovery(self.scorer)
        self.ownership, self.failed, self.sought = Ownership("g", 100), [], []
        self.telemetry = Telemetry()
        self.engine = Engine(
            scorer=self.scorer,
            committer=self.committer,
            recovery=self.recovery,
            ownership=self.ownership,
            telemetry=self.telemetry,
            round_chunks=3,
            seek=self.seek,
            fail=self.failed.append,
        )

    async def seek(self, positions):
        """Fail where the consumer would fetch already: it must stand right before anything is owned."""
        assert self.ownership.current and not set(positions) & set(self.ownership.current.owned)
        self.sought.append(positions)

    async def join(self, *partitions: int, generation: int = 1):
        membership = self.ownership.take(generation, "m", None, set(partitions))
        await self.engine.recover(set(partitions))
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

    def result(self, name):
        return self.telemetry.registry.get_sample_value("forecart_transactions_total", {"result": name})


def test_batches_are_scored_in_order_and_committed(rig):
    async def main():
        await rig.join(0)
        await rig.play(rig.batch(0, 3), rig.batch(3, 5), rig.batch(5, 6))

    asyncio.run(main())
    assert rig.committer.committed == list(range(6))
    assert not rig.failed
    assert rig.telemetry.registry.get_sample_value("forecart_events_consumed_total", {"partition": "0"}) == 6


def test_a_round_waits_for_the_running_commit_as_long_as_the_pace_says(rig, monkeypatch):
    open_, scored, process = threading.Event(), [], rig.scorer.process_all
    spare = {"seconds": 99.0}

    def note(chunks, now):
        scored.append(sum(len(records) for _, records in chunks))
        return process(chunks, now)

    async def until(n):
        async with asyncio.timeout(20):
            while len(scored) < n:
                await asyncio.sleep(0.005)

    async def main():
        await rig.join(0)
        commit, rig.scorer.process_all = rig.committer.commit, note
        rig.committer.commit = lambda *given: (open_.wait(20), commit(*given))
        monkeypatch.setattr(rig.engine._pace, "spare", lambda _now, _events: spare["seconds"])
        task = asyncio.create_task(rig.engine.run())
        await rig.engine.take(rig.batch(0, 1))
        await until(1)
        await asyncio.sleep(0.05)
        await rig.engine.take(rig.batch(1, 2))
        await rig.engine.take(rig.batch(2, 3))
        await asyncio.sleep(0.1)
        assert scored == [1]
        open_.set()  # the end of the commit begins the round, whatever was expected of it
        await until(2)
        assert scored == [1, 2]
        await rig.engine.settle()
        open_.clear()
        spare["seconds"] = 0.0
        await rig.engine.take(rig.batch(3, 4))
        await until(3)
        await rig.engine.take(rig.batch(4, 5))
        await until(4)  # beside the commit that still runs
        open_.set()
        await rig.engine.settle()
        task.cancel()

    asyncio.run(main())
    assert rig.committer.committed == list(range(5))


def test_what_lies_below_the_position_is_dropped(rig):
    async def main():
        rig.recovery.position = 4
        await rig.join(0)
        await rig.play(rig.batch(0, 3), rig.batch(2, 6))

    asyncio.run(main())
    assert rig.committer.committed == [4, 5]


def test_a_batch_that_begins_beyond_the_position_ends_the_process(rig):
    async def main():
        await rig.join(0)
        await rig.play(rig.batch(1, 3))

    asyncio.run(main())
    assert [type(e) for e in rig.failed] == [FaultError]
    assert rig.committer.committed == []


def test_batches_of_another_membership_are_dropped(rig):
    async def main():
        old = await rig.join(0)
        foreign = rig.batch(0, 3, old)
        await rig.join(0)  # the same generation: only the object differs
        await rig.play(foreign, rig.batch(0, 2))

    asyncio.run(main())
    assert rig.committer.committed == [0, 1]
    assert not rig.failed


def test_a_round_whose_membership_ended_is_dropped_and_its_sessions_are_not_kept(rig):
    async def main():
        membership = await rig.join(0)
        process = rig.scorer.process_all

        def late(*args):
            rig.ownership.drop()
            return process(*args)

        rig.scorer.process_all = late
        await rig.play(rig.batch(0, 3))
        rig.scorer.process_all = process
        assert membership.owned[0].ahead == 1
        await rig.join(0, generation=2)

    asyncio.run(main())
    assert rig.committer.committed == []
    assert rig.result("dropped") == 1
    assert rig.recovery.calls == {"anew": 2}


def test_clean_sessions_of_a_kept_partition_are_caught_up_only(rig):
    async def main():
        await rig.join(0, 1)
        await rig.play(rig.batch(0, 3))
        rig.ownership.drop()
        await rig.join(0, generation=2)
        await rig.play(rig.batch(3, 4))

    asyncio.run(main())
    assert rig.recovery.calls == {"anew": 2, "kept": 1}
    assert rig.committer.committed == [0, 1, 2, 3]


def test_an_aborted_transaction_is_recovered_and_done_again(rig):
    async def main():
        await rig.join(0)
        rig.committer.aborts = 1
        await rig.play(rig.batch(0, 3))
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert rig.committer.committed == [0, 1, 2]
    assert rig.sought == [{0: 0}, {0: 0}]
    assert rig.result("aborted") == 1
    assert not rig.failed


@pytest.mark.parametrize(("replaced", "kind"), [(False, AbortedError), (True, FencedError)])
def test_too_many_aborts_end_the_process(rig, replaced, kind):
    """Where each was because another process has the membership, that is what is said."""

    async def main():
        await rig.join(0)
        rig.committer.aborts, rig.committer.replaced = 99, replaced
        for _ in range(7):
            await rig.play(rig.batch(0, 1))

    asyncio.run(main())
    assert [type(e) for e in rig.failed] == [kind]


def test_a_recovery_that_fails_after_an_abort_ends_the_process(rig):
    async def main():
        await rig.join(0)
        rig.committer.aborts = 1
        rig.recovery.broken = True
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert [type(e) for e in rig.failed] == [StuckError]


def test_an_abort_in_a_recovery_after_an_abort_is_recovered_too(rig):
    async def main():
        await rig.join(0)
        rig.committer.aborts, rig.committer.claim_aborts = 1, 2
        await rig.play(rig.batch(0, 3))
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert not rig.failed
    assert rig.committer.committed == [0, 1, 2]
    assert rig.result("aborted") == 3


def test_stopping_gives_up_a_recovery(rig):
    async def main():
        rig.recovery.hangs = True
        joining = asyncio.create_task(rig.join(0))
        await asyncio.sleep(0.05)
        await asyncio.wait_for(rig.engine.stop(), 2)
        await joining

    asyncio.run(main())
    assert not rig.failed
    assert rig.committer.left_open == 1


def test_a_stop_that_cannot_drain_ends_the_process(rig, monkeypatch):
    monkeypatch.setattr("stream.engine._DRAIN_SECONDS", 0.1)

    async def main():
        await rig.join(0)
        rig.committer.pause = 0.5
        task = asyncio.create_task(rig.play(rig.batch(0, 3)))
        await asyncio.sleep(0.1)
        await rig.engine.stop()
        await task

    asyncio.run(main())
    assert [type(e) for e in rig.failed] == [StuckError]


def test_a_recovery_tells_how_far_it_is(rig, monkeypatch, caplog):
    monkeypatch.setattr("stream.engine._PROGRESS_SECONDS", -1.0)
    caplog.set_level("INFO")
    asyncio.run(rig.join(0, 1))
    assert [r.message for r in caplog.records] == [f"recovering: {n} changelog records remain" for n in (3, 6)]
    assert rig.telemetry.registry.get_sample_value("forecart_recovery_remaining", {"partition": "1"}) == 3


def test_readiness_and_liveness(rig):
    async def main():
        assert rig.engine.ready() == "not assigned"
        await rig.join(0)
        assert rig.engine.ready() == ""
        rig.ownership.marks[0] = Mark(position=5, stable=5)
        rig.engine.moved -= 100
        assert rig.engine.live(60) == ""
        rig.ownership.marks[0] = Mark(position=3, stable=5)
        assert rig.engine.live(60) == ""  # a lag and a silent broker: nothing is in hand, fetches are tried
        await rig.engine.take(rig.batch(0, 1))
        assert rig.engine.live(60) == ""  # after an idle while the first batch has its time
        rig.engine.moved -= 100
        assert "no progress" in rig.engine.live(60)
        rig.engine.moved += 100
        rig.ownership.fetched_at -= 100
        assert "nothing was asked" in rig.engine.live(60)
        rig.ownership.drop()
        assert rig.engine.ready() == "not assigned"

    asyncio.run(main())


def test_stopping_finishes_the_round_and_begins_no_other(rig):
    async def main():
        await rig.join(0)
        await rig.play(rig.batch(0, 1))
        await rig.engine.stop()
        await rig.play(rig.batch(1, 2))

    asyncio.run(main())
    assert rig.committer.committed == [0]
    assert rig.committer.left_open == 1
