"""Recoveries without Kafka: what an abort does, when it is enough, and what a rebalance brings."""

import asyncio

import pytest

from stream.core.errors import AbortedError, FencedError, StuckError
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
    monkeypatch.setattr("stream.restore._REST_SECONDS", (0.01, 0.1))

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
        rig.committer.aborts, rig.committer.claim_aborts, rig.committer.refused = 1, 999, False
        await rig.play(rig.batch(0, 3))
        assert rig.committer.claims <= 4
        rig.committer.claim_aborts = 0
        rig.ownership.drop()
        await asyncio.wait_for(rig.join(0, generation=2), 2)
        await rig.play(rig.batch(0, 3))

    asyncio.run(main())
    assert not rig.failed
    assert rig.committer.committed == [0, 1, 2]


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
    monkeypatch.setattr("stream.restore._PROGRESS_SECONDS", -1.0)
    caplog.set_level("INFO")
    asyncio.run(rig.join(0, 1))
    assert [r.message for r in caplog.records] == [f"recovering: {n} changelog records remain" for n in (3, 6)]
    assert rig.telemetry.registry.get_sample_value("forecart_recovery_remaining", {"partition": "1"}) == 3
