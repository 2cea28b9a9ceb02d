"""Rounds without Kafka: which batches are scored and committed, and how they end."""

import asyncio
import threading
import time

import pytest

from stream.core.errors import FaultError, StuckError
from stream.core.list_triggers import Clock
from stream.kafka.client.errors import Kind
from stream.kafka.group.membership import Mark
from stream.scoring.offline import Line
from tests.fakes import NOON
from tests.stream.rig import Rig


@pytest.fixture
def rig():
    return Rig()


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


@pytest.mark.parametrize(("last", "sizes"), [(False, [2, 2]), (True, [4])])
def test_where_only_the_last_event_of_a_round_has_a_list_a_partition_is_one_chunk(rig, monkeypatch, last, sizes):
    scored, process = [], rig.scorer.process_all

    def note(chunks, now):
        scored.extend(len(records) for _, records in chunks)
        return process(chunks, now)

    async def main():
        membership = await rig.join(0)
        rig.ownership.chunk = 2
        monkeypatch.setattr(rig.scorer, "process_all", note)
        monkeypatch.setattr(rig.scorer, "clock", Clock(last=last))
        rig.engine._score_all([rig.batch(0, 2), rig.batch(2, 4)], membership)

    asyncio.run(main())
    assert scored == sizes


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


def test_a_partition_taken_over_while_it_is_scored_is_not_kept(rig):
    """Whoever takes it sees that its sessions move, from before they do."""

    async def main():
        await rig.join(0)
        process = rig.scorer.process_all

        def taken(*args):
            rig.ownership.drop()
            new = rig.ownership.take(2, "m", None, {0})
            assert not new.kept
            return process(*args)

        rig.scorer.process_all = taken
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert rig.committer.committed == []
    assert not rig.failed


def test_a_partition_taken_over_before_it_is_scored_is_left_alone(rig, monkeypatch):
    """Its clean sessions are the next membership's from then on."""
    scored = []

    async def main():
        membership = await rig.join(0)
        held = membership.owned[0]
        begin = type(held).begin

        def late(self):
            rig.ownership.drop()
            assert rig.ownership.take(2, "m", None, {0}).kept == {0: held}
            begin(self)

        monkeypatch.setattr(type(held), "begin", late)
        rig.scorer.process_all = lambda chunks, now: scored.append(chunks)
        await rig.play(rig.batch(0, 3))
        assert held.part.position == 0

    asyncio.run(main())
    assert not scored


def test_a_stop_that_cannot_drain_ends_the_process(rig, monkeypatch):
    monkeypatch.setattr("stream.worker.engine._DRAIN_SECONDS", 0.1)

    async def main():
        await rig.join(0)
        rig.committer.pause = 0.5
        task = asyncio.create_task(rig.play(rig.batch(0, 3)))
        await asyncio.sleep(0.1)
        await rig.engine.stop()
        await task

    asyncio.run(main())
    assert [type(e) for e in rig.failed] == [StuckError]


def test_what_waits_for_room_is_let_go_when_the_worker_stops(rig):
    """Nothing makes room while Kafka is away, and Faust waits for its streams before it tells us that it stops."""

    async def main():
        await rig.join(0)
        for n in range(300):
            waiting = asyncio.create_task(rig.engine.take(rig.batch(n * 100, n * 100 + 100)))
            await asyncio.sleep(0)
            if not waiting.done():
                break
        assert not waiting.done()
        rig.engine.close()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(main())


def test_work_that_waits_for_kafka_is_no_sign_of_a_stuck_worker(rig):
    async def main():
        await rig.join(0)
        await rig.engine.take(rig.batch(0, 3))
        rig.engine.moved -= 100
        assert "no progress" in rig.engine.live(60)
        rig.kafka.reachable = False
        assert rig.engine.live(60) == ""

    asyncio.run(main())


def test_readiness_and_liveness(rig):
    async def main():
        assert rig.engine.ready() == "not assigned"
        await rig.join(0)
        assert rig.engine.ready() == ""
        rig.ownership.marks[0] = Mark(position=5, handed=5, stable=5, high=5)
        rig.engine.moved -= 100
        assert rig.engine.live(60) == ""
        rig.ownership.marks[0] = Mark(position=3, handed=3, stable=5, high=5)
        assert rig.engine.live(60) == ""  # a lag and a silent broker: nothing is in hand, fetches are tried
        await rig.engine.take(rig.batch(0, 1))
        assert rig.engine.live(60) == ""  # after an idle while the first batch has its time
        rig.engine.moved -= 100
        assert "no progress" in rig.engine.live(60)
        rig.engine.moved += 100
        rig.ownership.fetched_at -= 100
        assert "nothing was asked" in rig.engine.live(60)
        await rig.engine.stop()
        assert rig.engine.ready() == "stopping"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("at", "mark", "lag"),
    [
        (40, Mark(position=40, handed=40, stable=40, high=40), 0),
        (40, Mark(position=41, handed=40, stable=41, high=41), 0),  # a marker at the end
        (40, Mark(position=41, handed=40, stable=41, high=141), 100),  # an open transaction behind a marker
        (30, Mark(position=41, handed=40, stable=41, high=41), 11),  # what was handed on is still being scored
        (40, Mark(position=40, handed=40, stable=90, high=90), 50),
        (40, Mark(position=40, handed=40, stable=0, high=0), 0),  # no answer yet
    ],
)
def test_the_lag_is_to_the_high_watermark_without_the_markers(rig, at, mark, lag):
    async def main():
        await rig.join(0)
        rig.ownership.current.owned[0].part.position = at
        rig.ownership.marks[0] = mark
        await rig.engine.take(rig.batch(0, 1, partition=1))  # work of another partition changes nothing
        rig.engine.refresh()

    asyncio.run(main())
    assert rig.gauge("forecart_consumer_lag") == lag


def test_rounds_bring_no_series_that_was_not_there_before(rig):
    """A series that is born with its first value has no increase for Prometheus."""

    def series():
        families = rig.telemetry.registry.collect()
        return {(s.name, *s.labels.items()) for f in families for s in f.samples if "lag" not in s.name}

    async def main():
        rig.telemetry.load(rig.scorer.manifest)
        await rig.join(0)
        before = series()
        batch = rig.batch(0, 3)
        batch.records[1] = Line(1, NOON, b"u", b"no event")
        rig.committer.aborts = 1
        rig.committer.why = Kind.PASSING
        await rig.play(batch)
        await rig.play(rig.batch(0, 3))
        assert series() - before == set()

    asyncio.run(main())
    assert rig.committer.committed


@pytest.mark.parametrize(
    ("clock", "since", "waited"),
    [
        (7200, 3, 3),  # events after two hours without any
        (0, 600, 600),  # a backlog before the first score
        (40, 7200, 40),  # behind, and catching up
        (0, 0, 0),  # nothing is known yet
    ],
)
def test_lag_in_seconds_is_how_long_the_oldest_unscored_record_has_waited(rig, clock, since, waited):
    now = int(time.time() * 1000)

    async def main():
        await rig.join(0)
        rig.ownership.current.owned[0].part.clock = clock and now - clock * 1000
        rig.ownership.marks[0] = Mark(9, 9, stable=9, high=9, since=since and now - since * 1000)
        rig.engine.refresh()

    asyncio.run(main())
    assert rig.gauge("forecart_consumer_lag_seconds") == pytest.approx(waited, abs=2)


def test_progress_of_an_idle_worker_is_that_of_its_fetches(rig):
    def since():
        rig.engine.refresh()
        return time.time() - rig.telemetry.registry.get_sample_value("forecart_last_progress_timestamp_seconds")

    async def main():
        await rig.join(0)
        rig.engine.moved -= 35
        rig.ownership.fetched_at = time.monotonic()
        assert since() < 5
        await rig.engine.take(rig.batch(0, 1))
        rig.engine.moved -= 35  # work waits, and nothing moves
        assert since() > 30

    asyncio.run(main())


def test_what_is_blocked_is_as_old_as_the_block_and_not_as_the_record_before(rig):
    async def main():
        await rig.join(0)
        rig.ownership.current.owned[0].part.clock = 1
        for mark in (Mark(0, 0, stable=5, high=9), Mark(0, 0, stable=0, high=9, blocked=7.5)):
            rig.ownership.marks[0] = mark
            rig.engine.refresh()
            seen.append([rig.gauge(f"forecart_{name}_seconds") for name in ("consumer_lag", "input_blocked")])

    seen = []
    asyncio.run(main())
    (age, not_blocked), blocked = seen
    assert age > 10**9
    assert not_blocked == 0
    assert blocked == [7.5, 7.5]


def test_stopping_finishes_the_round_and_begins_no_other(rig):
    async def main():
        await rig.join(0)
        await rig.play(rig.batch(0, 1))
        await rig.engine.stop()
        await rig.play(rig.batch(1, 2))

    asyncio.run(main())
    assert rig.committer.committed == [0]
    assert rig.committer.left_open == 1
