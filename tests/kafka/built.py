"""Batches as producers and brokers write them, and broken ones, byte by byte."""

import struct
from collections.abc import Sequence

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from aiokafka.record.legacy_records import _LegacyRecordBatchBuilderPy
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import TopicPartition

from stream.kafka.fetch.fetches import Fetched, FetchedRecord, Reader

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
HEAD = 61  # bytes of a batch's header
PARTITION = TopicPartition("t", 0)
FIRST, DELTA, HELD = (0, ">q"), (23, ">i"), (57, ">i")  # fields of a header: place and format
MiB = 1 << 20


def batch(
    first: int, values: Sequence[bytes], codec: int = 0, producer: int = -1, headers: Sequence[str] = ()
) -> bytes:
    """Build a batch of records; with a producer it is part of a transaction."""
    builder = _DefaultRecordBatchBuilderPy(2, codec, producer >= 0, producer, 0, 0, 1 << 30)
    names = headers or [""] * len(values)
    for n, (value, name) in enumerate(zip(values, names, strict=True)):
        builder.append(n, 1000 + n, b"k%d" % n, value, [(name, b"h")] if name else [])
    return written(bytes(builder.build()), FIRST, first, seal=False)


def marker(first: int, producer: int, commit: bool = False) -> bytes:
    """Build the end of a transaction."""
    builder = _DefaultRecordBatchBuilderPy(2, 0, 1, producer, 0, -1, 1 << 20)
    builder.append(0, 1000, struct.pack(">hh", 0, commit), struct.pack(">hi", 0, 0), [])
    raw = bytearray(written(bytes(builder.build()), FIRST, first, seal=False))
    raw[22] |= 0x20
    return sealed(bytes(raw))


def message(first: int, values: Sequence[bytes], magic: int, codec: int = 0) -> bytes:
    """Build messages of the formats before batches."""
    builder = _LegacyRecordBatchBuilderPy(magic, codec, 1 << 30)
    for n, value in enumerate(values):
        builder.append(n if magic and codec else first + n, 1000 + n, b"k%d" % n, value)
    raw = bytearray(builder.build())
    if codec:
        raw[:8] = (first + len(values) - 1).to_bytes(8, "big")
    return bytes(raw)


def written(raw: bytes, field: tuple[int, str], value: int, seal: bool = True) -> bytes:
    """Write a field of a header anew, and the checksum if asked."""
    made = bytearray(raw)
    struct.pack_into(field[1], made, field[0], value)
    return sealed(bytes(made)) if seal else bytes(made)


def flipped(raw: bytes, at: int, seal: bool = False, bits: int = 0xFF) -> bytes:
    """Flip bits of a byte, and let the checksum fit to it if asked."""
    made = bytearray(raw)
    made[at] ^= bits
    return sealed(bytes(made)) if seal else bytes(made)


def sealed(raw: bytes) -> bytes:
    """Let a batch's length and checksum fit to what it is."""
    made = bytearray(raw)
    made[8:12] = (len(made) - 12).to_bytes(4, "big")
    made[17:21] = calc_crc32c(bytes(made[21:])).to_bytes(4, "big")
    return bytes(made)


def with_data(raw: bytes, data: bytes) -> bytes:
    """Give a batch other records' bytes, with a checksum that fits."""
    return sealed(raw[:HEAD] + data)


class Fetching:
    """Polls of one partition's fetch, each as the consumer makes it."""

    def __init__(self, limit: int = 64 * MiB, high: int | None = None) -> None:
        self.reader = Reader(limit, lambda _tp: high)
        self.position = 0

    def one(self, raw: bytes, position: int = 0, aborted: Sequence[tuple[int, int]] = ()) -> list[FetchedRecord]:
        """Read one fetch to its end; the next one would begin at `self.position`."""
        records = self.reader.partition(PARTITION, Fetched(raw), aborted, position)
        found: list[FetchedRecord] = []
        while not records.ended:
            self.reader.begin_poll(32 * MiB)
            found += records.take(100)
        self.position = records.next_fetch_offset
        return found

    def all(self, raws: Sequence[bytes], aborted: Sequence[tuple[int, int]] = ()) -> list[FetchedRecord]:
        """Read batches fetch by fetch, as from a broker that knows where each begins, up to the high watermark."""
        bounds = [0]
        for raw in raws:
            head = bytes(raw)
            bounds.append(bounds[-1] + int.from_bytes(head[23:27], "big") + 1)
        return self.log(raws, bounds, aborted)

    def log(
        self, raws: Sequence[bytes], bounds: Sequence[int], aborted: Sequence[tuple[int, int]] = ()
    ) -> list[FetchedRecord]:
        """Read batches, `bounds` their true first offsets and the end, until the end is reached."""
        found: list[FetchedRecord] = []
        position = 0
        for _ in range(10_000):
            if position >= bounds[-1]:
                return found
            first = next(n for n in range(len(raws)) if bounds[n + 1] > position)
            found += self.one(b"".join(raws[first:]), position, aborted)
            assert self.position > position, "the fetch goes round in a circle"
            position = self.position
        raise AssertionError("the fetch does not come to an end")
