"""Recoveries without Kafka: what an abort does, when it is enough, and what a rebalance brings."""

import asyncio
import threading

import pytest

from stream.core.errors import AbortedError, FencedError, StuckError
from stream.kafka.client.errors import Kind
from tests.stream.rig import Rig


@pytest.fixture
def rig():
    return Rig()


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


async def _ready(rig, *partitions, generation=2):
    """Return what the probe says: while the assignment is awaited, once it is known, and while it is recovered."""
    rig.ownership.drop()
    said = [rig.engine.ready()]
    rig.ownership.take(generation, "m", None, set(partitions))
    said.append(rig.engine.ready())
    rig.recovery.hangs = True
    recovering = asyncio.create_task(rig.engine.restorer.recover(set(partitions)))
    await asyncio.sleep(0.05)
    said.append(rig.engine.ready())
    rig.recovery.hangs = False
    await recovering
    assert rig.engine.ready() == ""
    return said


@pytest.mark.parametrize("after", [(0, 1), (1,), ()], ids=["all", "less", "nothing"])
def test_who_keeps_what_it_had_stays_ready_through_a_rebalance(rig, after):
    async def main():
        assert rig.engine.ready() == "not assigned"
        await rig.join(0, 1)
        assert await _ready(rig, *after) == ["", "", ""]

    asyncio.run(main())


def test_who_gets_a_partition_is_not_ready_until_it_is_recovered(rig):
    async def main():
        await rig.join(0)
        assert await _ready(rig, 0, 1) == ["", "recovering", "recovering"]

    asyncio.run(main())


def test_who_never_was_ready_is_not_for_want_of_partitions(rig):
    async def main():
        assert (await _ready(rig))[:2] == ["not assigned", "recovering"]

    asyncio.run(main())


def test_who_has_a_round_that_is_not_in_the_changelog_is_not_ready(rig):
    async def main():
        membership = await rig.join(0)
        membership.owned[0].begin()
        assert await _ready(rig, 0) == ["", "recovering", "recovering"]

    asyncio.run(main())


def test_a_rebalance_that_does_not_end_takes_readiness(rig):
    async def main():
        await rig.join(0)
        rig.ownership.drop()
        rig.ownership.dropped_at -= 91
        assert rig.engine.ready() == "not assigned"
        rig.ownership.take(2, "m", None, {0})
        assert rig.engine.ready() == "recovering"

    asyncio.run(main())


def test_sessions_that_are_not_caught_up_by_now_are_kept_by_the_next_rebalance_too(rig):
    async def main():
        await rig.join(0)
        rig.ownership.drop()
        rig.ownership.take(2, "m", None, {0})
        assert await _ready(rig, 0, generation=3) == ["", "", ""]

    asyncio.run(main())
    assert rig.recovery.calls == {"anew": 1, "kept": 1}


@pytest.mark.parametrize("why", [Kind.REFUSED, Kind.MEMBERSHIP])
def test_an_abort_that_leaves_the_membership_in_doubt_is_recovered_and_done_again(rig, why):
    async def main():
        await rig.join(0)
        rig.committer.aborts, rig.committer.why = 1, why
        await rig.play(rig.batch(0, 3))
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert rig.committer.committed == [0, 1, 2]
    assert rig.sought == [{0: 0}, {0: 0}]
    assert rig.result("aborted") == 1
    assert not rig.failed


def test_what_was_read_is_committed_before_partitions_are_placed_again(rig):
    """The input has nothing more where the consumer stands: what came before is scored, and what is lost is counted."""

    async def main():
        membership = await rig.join(0)
        rig.engine.stray(membership, {0: 3})
        await rig.play(rig.batch(0, 2))
        assert rig.ownership.current is membership  # two of three events have come
        recover = rig.recovery.recover

        def losing(kept, wanted, progress):
            found = recover(kept, wanted, progress)
            found[0].lost = 5
            return found

        rig.recovery.recover = losing
        await rig.play(rig.batch(2, 3))
        await rig.engine._straying
        assert rig.ownership.current is not membership

    asyncio.run(main())
    assert rig.recovery.calls == {"anew": 1, "kept": 1}
    assert rig.committer.committed == [0, 1, 2]
    assert rig.sought == [{0: 0}, {0: 3}]
    assert rig.telemetry.registry.get_sample_value("forecart_events_lost_total", {"partition": "0"}) == 5
    assert not rig.failed


def test_an_abort_is_rolled_back_and_nothing_is_read(rig):
    async def main():
        membership = await rig.join(0, 1)
        await rig.play(rig.batch(0, 3))
        held, session = membership.owned[0], membership.owned[0].part.store.get("u").tobytes()
        held.changelog = 7
        rig.committer.aborts, rig.committer.why = 1, Kind.PASSING
        await rig.play(rig.batch(3, 9), rig.batch(0, 2, partition=1))
        assert rig.ownership.current is not membership  # every batch in hand is foreign
        assert rig.ownership.current.owned[0] is held
        assert (held.part.position, held.ahead, held.changelog) == (3, 0, 7)
        assert held.part.store.get("u").tobytes() == session
        assert not len(rig.ownership.current.owned[1].part.store)
        assert rig.sought[1:] == [{0: 3, 1: 0}]
        await rig.play(rig.batch(3, 9, membership), rig.batch(3, 9))

    asyncio.run(main())
    assert rig.committer.committed == list(range(9))
    assert rig.recovery.calls == {"anew": 2}
    assert (rig.result("aborted"), rig.result("rolled_back")) == (1, 1)
    assert rig.telemetry.registry.get_sample_value("forecart_state_recovery_seconds_count") == 1
    assert rig.engine.ready() == ""
    assert not rig.failed


def test_a_round_that_was_scored_ahead_is_rolled_back_too(rig):
    async def main():
        membership = await rig.join(0)
        held, process, ahead = membership.owned[0], rig.scorer.process_all, threading.Event()
        scored = threading.Event()

        def slow(chunks, now):
            scored.set()
            ahead.wait(20)
            return process(chunks, now)

        rig.committer.aborts, rig.committer.why = 1, Kind.PASSING
        rig.committer.gate.clear()
        task = asyncio.create_task(rig.engine.run())
        await rig.engine.take(rig.batch(0, 3))
        await _until(lambda: held.ahead == 1 and held.part.position == 3)
        rig.scorer.process_all = slow
        await rig.engine.take(rig.batch(3, 5))
        await _until(scored.is_set)
        rig.committer.gate.set()
        await _until(lambda: rig.result("aborted") == 1)
        await asyncio.sleep(0.05)
        assert rig.result("rolled_back") is not None and len(rig.sought) == 1  # it is still being scored
        ahead.set()
        await rig.engine.settle()
        assert (held.part.position, held.ahead, len(held.part.store)) == (0, 0, 0)
        await rig.engine.take(rig.batch(0, 5))
        await _until(lambda: len(rig.committer.committed) == 5)
        await rig.engine.settle()
        task.cancel()

    asyncio.run(main())
    assert rig.committer.committed == list(range(5))
    assert rig.recovery.calls == {"anew": 1}
    assert rig.result("dropped") == 1
    assert not rig.failed


def test_a_membership_that_ended_meanwhile_is_not_rolled_back_into(rig):
    async def main():
        membership = await rig.join(0)
        rig.committer.aborts, rig.committer.why = 1, Kind.PASSING
        take_back = type(membership.owned[0]).take_back
        monkeypatch = pytest.MonkeyPatch()
        with monkeypatch.context() as patched:
            patched.setattr(
                type(membership.owned[0]), "take_back", lambda held: (rig.ownership.drop(), take_back(held))
            )
            await rig.play(rig.batch(0, 3))
        await rig.join(0, generation=2)
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert rig.committer.committed == [0, 1, 2]
    assert rig.recovery.calls == {"anew": 2}
    assert rig.result("rolled_back") == 0
    assert not rig.failed


def test_late_rounds_are_no_reason_to_end(rig):
    async def main():
        await rig.join(0)
        rig.committer.why = Kind.PASSING
        for n in range(20):
            rig.committer.aborts = 3
            for _ in range(4):
                await rig.play(rig.batch(n, n + 1))

    asyncio.run(main())
    assert rig.committer.committed == list(range(20))
    assert rig.result("rolled_back") == 60
    assert not rig.failed


async def _until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


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


def test_an_abort_in_a_recovery_after_an_abort_is_recovered_too(rig, monkeypatch):
    monkeypatch.setattr("stream.worker.rebalance._REST_SECONDS", (0.01, 0.1))

    async def main():
        await rig.join(0)
        rig.committer.aborts, rig.committer.claim_aborts = 1, 2
        await rig.play(rig.batch(0, 3))
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert not rig.failed
    assert rig.committer.committed == [0, 1, 2]
    assert rig.result("aborted") == 3


def test_recoveries_that_are_aborted_rest_until_the_membership_ends(rig):
    """Kafka knows the member no longer, and its next heartbeat is seconds away."""

    async def main():
        await rig.join(0)
        rig.committer.aborts, rig.committer.claim_aborts, rig.committer.why = 1, 999, Kind.MEMBERSHIP
        await rig.play(rig.batch(0, 3))
        assert rig.committer.claims <= 4
        rig.committer.claim_aborts = 0
        rig.ownership.drop()
        await asyncio.wait_for(rig.join(0, generation=2), 2)
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert not rig.failed
    assert rig.committer.committed == [0, 1, 2]


def test_a_recovery_whose_call_does_not_return_is_left_alone_and_made_anew(rig, monkeypatch):
    monkeypatch.setattr("stream.kafka.client.deadline._OVERDUE_SECONDS", 0.05)
    monkeypatch.setattr("stream.worker.rebalance._REST_SECONDS", (0.3, 0.3))
    first = rig.recovery

    async def main():
        first.stuck = True
        joining = asyncio.create_task(rig.join(0))
        await _until(lambda: "consume does not return" in rig.engine.ready())
        first.returns.set()  # it goes on, in vain: what it comes to is nobody's
        await joining
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert rig.engine.restorer.recovery.made == 2
    assert rig.committer.committed == [0, 1, 2]
    assert rig.engine.ready() == ""
    assert not rig.failed


def test_a_recovery_that_stands_still_is_not_live_unless_kafka_is_away(rig):
    """The second line, for what has no deadline; a recovery may wait as long as its own patience lets it."""

    async def main():
        rig.engine.moved, rig.ownership.taken_at = -999.0, -999.0  # it was idle before
        rig.recovery.hangs = True
        joining = asyncio.create_task(rig.join(0))
        await asyncio.sleep(0.05)
        assert rig.engine.live(30) == ""
        rig.ownership.taken_at -= 34
        assert rig.engine.live(30) == ""
        rig.ownership.taken_at -= 2
        assert "recovering, but nothing moved for 36 s" in rig.engine.live(30)
        rig.kafka.reachable = False
        assert rig.engine.live(30) == ""
        rig.kafka.reachable, rig.recovery.hangs = True, False
        await joining
        assert rig.engine.live(30) == ""

    asyncio.run(main())


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


def test_a_recovery_tells_how_far_it_is(rig, monkeypatch, caplog):
    monkeypatch.setattr("stream.worker.rebalance._PROGRESS_SECONDS", -1.0)
    caplog.set_level("INFO")
    asyncio.run(rig.join(0, 1))
    assert [r.message for r in caplog.records] == [f"recovering: {n} changelog records remain" for n in (3, 6)]
    assert rig.telemetry.registry.get_sample_value("forecart_recovery_remaining", {"partition": "1"}) == 3
