"""Header names that are no text: what aiokafka refuses is read with escapes, and what it reads is left alone."""

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.memory_records import MemoryRecords

from tests.kafka.built import PARTITION, Fetching, batch, message
from tests.kafka.shop import NoText


def theirs(raw: bytes, offset: int = 0) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    """Read as aiokafka does."""
    part = fetcher.PartitionRecords(PARTITION, MemoryRecords(raw), None, offset, None, None, True, 1)
    return [(r.offset, r.value, list(r.headers)) for r in part]


def ours(raw: bytes, offset: int = 0) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    """Read as the worker does."""
    return [(r.offset, r.value, list(r.headers)) for r in Fetching().one(raw, offset)]


PLAIN = batch(0, [b"a", b"b"], headers=["a", "b"]) + batch(2, [b"c"], headers=["c"])


def test_what_aiokafka_reads_is_the_same():
    assert ours(PLAIN) == theirs(PLAIN)
    assert [offset for offset, _, _ in ours(PLAIN)] == [0, 1, 2]


@pytest.mark.parametrize("codec", range(5))
def test_a_name_that_is_no_text_is_escaped_and_nothing_is_lost(codec: int):
    middle = batch(1, [b"1", b"2", b"3"], codec, headers=["b", NoText("b"), "c"])
    raw = batch(0, [b"0"], headers=["a"]) + middle + batch(4, [b"4"], headers=["d"])
    with pytest.raises(UnicodeDecodeError):  # else this can go
        theirs(raw)
    assert ours(raw) == [(n, b"%d" % n, [(name, b"h")]) for n, name in enumerate(["a", "b", "n\\xff", "c", "d"])]


def test_a_fetch_can_begin_behind_it():
    raw = batch(0, [b"0", b"1", b"2"], headers=[NoText("a"), "b", "c"])
    assert [offset for offset, _, _ in ours(raw, 1)] == [1, 2]


def test_formats_may_be_mixed_in_one_fetch():
    raw = message(0, [b"0"], 0) + message(1, [b"1", b"2"], 1, 1) + batch(3, [b"3"])
    assert ours(raw) == [(n, b"%d" % n, []) for n in range(4)]
    with pytest.raises(
        CorruptRecordException
    ):  # aiokafka takes the first one's format for that of all: else `cut` can go
        theirs(raw)
