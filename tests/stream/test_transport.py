"""What a fetch takes, and how it is cut: by records and by bytes, one record at least."""

import pytest
from aiokafka.consumer.fetcher import FetchResult

from stream.kafka.transport import FetchedRecord, _getall, parts


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


class Result(FetchResult):
    """Records that were buffered, and a position that follows them."""

    def __init__(self, *sizes: int) -> None:
        self._topic_partition, self._partition_records = "t", iter(_records(*sizes))
        self.updates = 0

    def check_assignment(self, _tp: object) -> bool:
        return True

    def _update_position(self) -> None:
        self.updates += 1


def _taken(result: Result, most: int | None = None) -> list[int]:
    return [record.offset for record in _getall(result, most)]


def test_a_fetch_ends_where_its_room_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FetchResult, "room", 10, raising=False)
    one, other = Result(6, 6, 6), Result(1)
    assert _taken(one) == [0, 1]
    assert one.has_more() and one.updates == 1
    assert _taken(other) == []  # of the same fetch
    assert other.has_more() and other.updates == 0
    FetchResult.room = 10
    assert _taken(one) == [2]
    assert not one.has_more()
    assert _taken(other) == [0]
    assert not other.has_more()


def test_a_fetch_has_one_record_however_large_and_no_more_than_it_was_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(FetchResult, "room", 10, raising=False)
    assert _taken(Result(900)) == [0]
    FetchResult.room = 10
    result = Result(1, 1, 1)
    assert _taken(result, 2) == [0, 1]
    assert result.has_more()
    assert FetchResult.room == 8
