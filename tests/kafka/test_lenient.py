"""Header names that are no text: what aiokafka refuses is read with escapes, and what it reads is left alone."""

import pytest
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from stream.kafka.lenient import Records
from tests.kafka.shop import NoText


def batch(first: int, names: list[str], codec: int = 0) -> bytes:
    """Build a batch as a producer does, a record for each header name."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, 0, -1, -1, 0, 1 << 20)
    for n, name in enumerate(names):
        builder.append(n, 1000 + n, b"k%d" % n, b"v%d" % n, [(name, b"h")])
    made = builder.build()
    made[:8] = first.to_bytes(8, "big")
    return bytes(made)


def fetched(records: object, offset: int = 0) -> list[tuple[int, bytes, list[tuple[str, bytes]]]]:
    """Read as the fetcher does."""
    part = PartitionRecords(TopicPartition("t", 0), records, None, offset, None, None, True, 1)
    return [(r.offset, r.value, list(r.headers)) for r in part]


PLAIN = batch(0, ["a", "b"]) + batch(2, ["c"])


def test_what_aiokafka_reads_is_the_same():
    assert fetched(Records(PLAIN)) == fetched(MemoryRecords(PLAIN))
    assert [offset for offset, _, _ in fetched(Records(PLAIN))] == [0, 1, 2]


@pytest.mark.parametrize("codec", [0, 1])
def test_a_name_that_is_no_text_is_escaped_and_nothing_is_lost(codec: int):
    raw = batch(0, ["a"]) + batch(1, ["b", NoText("b"), "c"], codec) + batch(4, ["d"])
    with pytest.raises(UnicodeDecodeError):  # else this module can go
        fetched(MemoryRecords(raw))
    found = fetched(Records(raw))
    assert [(offset, headers) for offset, _, headers in found] == [
        (n, [(name, b"h")]) for n, name in enumerate(["a", "b", "n\\xff", "c", "d"])
    ]
    assert [value for _, value, _ in found] == [b"v0", b"v0", b"v1", b"v2", b"v0"]


def test_a_fetch_can_begin_behind_it():
    raw = batch(0, [NoText("a"), "b", "c"])
    assert [offset for offset, _, _ in fetched(Records(raw), offset=1)] == [1, 2]
