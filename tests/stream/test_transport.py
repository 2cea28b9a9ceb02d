"""How what was fetched is cut: by records and by bytes, one record at least."""

import pytest

from stream.kafka.fetches import FetchedRecord
from stream.kafka.transport import parts


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
