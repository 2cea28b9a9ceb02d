"""How what was fetched is cut, by records and by bytes, and that all of it reaches the engine."""

import asyncio
from collections import defaultdict
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from faust.types import TP

from stream.kafka.fetches import FetchedRecord
from stream.kafka.membership import Mark, Ownership
from stream.kafka.transport import BatchConsumer, Thread, _Fetched, parts
from stream.records import DATED

PARTITION = TP("t", 0)


def _records(*sizes: int) -> list[FetchedRecord]:
    return [FetchedRecord("t", 0, n, 0, 0, None, None, (), size) for n, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([5, 5, 5], [([0, 1], 10), ([2], 5)]),
        ([1, 1, 1, 1, 1], [([0, 1, 2], 3), ([3, 4], 2)]),
        ([99, 1, 99, 99], [([0], 99), ([1], 1), ([2], 99), ([3], 99)]),
        ([4, 6, 1], [([0, 1], 10), ([2], 1)]),
    ],
)
def test_records_are_cut_by_number_and_bytes(sizes: list[int], expected: object):
    assert [([r.offset for r in part], held) for part, held in parts(_records(*sizes), 3, 10)] == expected


def test_what_is_read_again_after_a_recovery_is_delivered_however_far_was_read_before(monkeypatch):
    """Faust notes how far it has delivered only once a message is: then a recovery may have gone back already."""
    ownership = Ownership("g", 100)
    membership = ownership.take(1, "m", None, {0})
    consumer, fetched = object.__new__(BatchConsumer), _Fetched({PARTITION: (3, 5, _records(1, 1))})
    fetched.membership = membership
    consumer._thread = SimpleNamespace(ownership=ownership, hand_on=lambda _positions: None)
    consumer._read_offset = defaultdict(lambda: None, {PARTITION: 856})
    consumer._wait_next_records = lambda _timeout: asyncio.sleep(0, (fetched, set()))
    consumer._to_message = lambda _tp, record: Mock(offset=record.offset)
    monkeypatch.setattr(BatchConsumer, "flow_active", True)
    monkeypatch.setattr(BatchConsumer, "should_stop", False)

    async def delivered() -> list[object]:
        return [consumer._read_offset[tp] async for tp, _ in consumer.getmany(1.0)]

    assert asyncio.run(delivered()) == [None]


def test_what_an_answer_tells_is_held_to_what_is_scored():
    ownership = Ownership("g", 100)
    membership = ownership.take(1, "m", None, {0})
    membership.owned[0] = SimpleNamespace(part=SimpleNamespace(position=3))
    thread = SimpleNamespace(ownership=ownership)
    records = [FetchedRecord("t", 0, 3, DATED + 7, 0, None, None, (), 1)]
    Thread._note(thread, 0, Mark(9, 9, 9, high=9, answered=DATED + 20), records)
    assert ownership.marks[0].since == DATED + 7  # read, not scored
    membership.owned[0].part.position = 9
    Thread._note(thread, 0, Mark(9, 9, 9, high=9, answered=DATED + 30), None)
    assert ownership.marks[0].since == DATED + 30


def test_a_record_without_a_time_does_not_make_a_lag_old():
    thread = SimpleNamespace(ownership=Ownership("g", 100))
    for stamp in (-1, 0, 1_700_000_000):  # none, and seconds
        Thread._note(thread, 0, Mark(9, 9, 9, high=9), [FetchedRecord("t", 0, 3, stamp, 0, None, None, (), 1)])
        assert thread.ownership.marks[0].since == 0
