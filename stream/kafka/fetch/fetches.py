"""The records of a fetch, and a record with a `fault` for each offset that cannot be read.

aiokafka's fetcher raises at a batch that is broken, inflates without a bound, and refuses header names that are no
text: each would end a worker again and again. What is here stands in its place (`Reader.install`).

A batch that inflates too far, or is broken inside a checksum that fits, tells its own offsets. One whose checksum does
not fit may lie about them: it reaches to the next sound batch in the fetch, else over as many offsets as both of its
counts say, and never beyond the high watermark. What follows is fetched again, with the broker's own list of aborted
transactions.
"""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException

from stream.kafka.fetch.batches import Batch, cut
from stream.kafka.fetch.inflate import Broken, Inflated
from stream.records import Fault, header_bytes

log = logging.getLogger(__name__)

_STRUCTURE = (CorruptRecordException, ValueError, IndexError, OverflowError, SystemError)


class FetchedRecord(msgspec.Struct, gc=False):
    """What is used of a Kafka record. aiokafka's frozen dataclass takes ten times as long: 2 us of an event's 20."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    size: int = 0  # bytes of key, value and headers
    fault: Fault | None = None
    checksum: None = None
    serialized_key_size: int = -1
    serialized_value_size: int = -1


class Fetched:
    """The bytes of one partition in a fetch, in place of aiokafka's `MemoryRecords`."""

    def __init__(self, raw: bytes | None) -> None:
        self.raw = memoryview(raw or b"")

    def has_next(self) -> bool:
        """Tell whether anything came; what it is, is seen when it is read."""
        return bool(self.raw)

    def size_in_bytes(self) -> int:
        """Return how much came."""
        return len(self.raw)


class Reader:
    """How a consumer's fetches are read: a batch inflates to `limit` bytes at most.

    `high` returns a partition's high watermark, None where it is not known.
    """

    def __init__(self, limit: int, high: Callable[[Any], int | None]) -> None:
        self.limit, self.high = limit, high
        self.room = sys.maxsize  # bytes of records that a poll may still take

    def install(self) -> None:
        """Let aiokafka's fetcher read with this one."""
        fetcher.MemoryRecords, fetcher.FetchResult = Fetched, FetchResult
        fetcher.PartitionRecords = self.partition

    def begin_poll(self, room: int) -> None:
        """Let a poll take records until they have `room` bytes, one record at least."""
        self.room = room

    def partition(
        self, tp: Any, fetched: Fetched, aborted: Sequence[tuple[int, int]] | None, offset: int, *_: Any
    ) -> "PartitionRecords":
        """Take what aiokafka gives to its own `PartitionRecords`; `aborted` are producer and first offset."""
        return PartitionRecords(self, tp, fetched.raw, aborted or (), offset)


class PartitionRecords:
    """One partition's committed records in a fetch, and where the next fetch begins."""

    def __init__(
        self, reader: Reader, tp: Any, raw: memoryview, aborted: Sequence[tuple[int, int]], offset: int
    ) -> None:
        self.next_fetch_offset, self.ended = offset, False
        self._reader, self._tp, self._raw = reader, tp, raw
        self._aborted, self._aborting = sorted(aborted, key=lambda one: one[1]), set[int]()
        self._batches = self._open()
        self._records: Iterator[FetchedRecord] = iter(())

    def take(self, most: int) -> list[FetchedRecord]:
        """Return the next records, `most` at most; fewer once the poll has its bytes."""
        found: list[FetchedRecord] = []
        room = self._reader.room
        while room > 0 and not self.ended:
            for record in islice(self._records, most - len(found)):
                found.append(record)
                room -= record.size
                if room <= 0:
                    break
            if room <= 0 or len(found) >= most:
                break
            if batch := next(self._batches, None):
                self._records = batch
            else:
                self.ended = True
        self._reader.room = room
        return found

    def _open(self) -> Iterator[Iterator[FetchedRecord]]:
        at, end = 0, -1
        while at < len(self._raw):
            batch = cut(self._raw, at)
            if at and (batch.size if batch else sys.maxsize) > len(self._raw) - at:
                return  # the broker cut it off: the next fetch begins with it
            if batch is None or (cause := self._doubt(batch, end)):
                yield self._doubtful(batch, at, cause if batch else "length")
                return
            at, end = at + batch.size, batch.last + 1
            if self._committed(batch):
                yield self._read(batch)
            self.next_fetch_offset = max(self.next_fetch_offset, end)

    def _doubt(self, batch: Batch, end: int) -> str:
        """Say why a batch's header cannot be believed, "" where it can; `end` is where the one before ended."""
        if not batch.whole:
            return "length"
        if not batch.sound():
            return "crc"
        high = self._reader.high(self._tp)
        # A fetch may bring more than up to its high watermark, which brokers read first; but nothing apart from it.
        apart = high is not None and batch.first > max(high, end, self.next_fetch_offset)
        return "offsets" if batch.first < end or apart else ""

    def _committed(self, batch: Batch) -> bool:
        """Tell whether a batch has records, of no aborted transaction.

        A marker ends its producer's transaction, whatever it says: that one is in the list of the aborted, or not.
        """
        while self._aborted and self._aborted[0][1] <= batch.first:
            self._aborting.add(self._aborted.pop(0)[0])
        if batch.control:
            self._aborting.discard(batch.producer)
            return False
        return not (batch.transactional and batch.producer in self._aborting)

    def _read(self, batch: Batch) -> Iterator[FetchedRecord]:
        """Yield a batch's records from the position on; from a broken place on, a fault for each offset."""
        topic, number = self._tp
        dense, last = batch.dense, batch.last
        if dense:
            self.next_fetch_offset = max(self.next_fetch_offset, batch.first)
        try:
            for record in batch.records(self._reader.limit):
                offset = record.offset
                if offset != self.next_fetch_offset:
                    if offset < self.next_fetch_offset:
                        continue
                    if dense or offset > last:
                        raise CorruptRecordException(f"a record has the offset {offset}")
                self.next_fetch_offset = offset + 1
                key, value = record.key, record.value
                size = (len(value) if value else 0) + (len(key) if key else 0)
                headers = ()
                if record.headers:
                    headers = tuple(record.headers)
                    size += header_bytes(headers)
                yield FetchedRecord(
                    *(topic, number, offset, record.timestamp, record.timestamp_type, key, value, headers, size)
                )
            if not dense or self.next_fetch_offset > last:
                return
            cause = "structure"
        except Inflated:
            cause = ""
        except Broken:
            cause = "compression"
        except _STRUCTURE:
            cause = "structure"
        yield from self._faulty(batch, last + 1, cause)

    def _doubtful(self, batch: Batch | None, at: int, cause: str) -> Iterator[FetchedRecord]:
        """Yield a fault for each offset of a batch that cannot be believed, unless it says that it was aborted."""
        end = self._end(batch, at) if batch else self.next_fetch_offset + 1
        marker = batch is not None and batch.control and batch.held == 1
        if batch and (marker or not (batch.control or self._committed(batch))):
            log.warning("%s: passed over to offset %d: a batch's %s is wrong", self._tp, end, cause)
            self.next_fetch_offset = end
        else:
            yield from self._faulty(batch, end, cause)

    def _end(self, batch: Batch, at: int) -> int:
        """Return the offset behind a batch that cannot be believed."""
        position, high = self.next_fetch_offset, self._reader.high(self._tp)
        most = sys.maxsize if high is None else max(high, position + 1)
        after = cut(self._raw, at + batch.size) if batch.whole else None
        if after and after.whole and position < after.first < most and after.sound():
            return after.first
        begin = min(batch.first, position)
        return min(max(begin + min(batch.last - batch.first + 1, batch.held), position + 1), most)

    def _faulty(self, batch: Batch | None, end: int, cause: str) -> Iterator[FetchedRecord]:
        facts = {"batch-offset": str(batch.first), "batch-bytes": str(batch.size)} if batch else {}
        more = {"cause": cause} if cause else {"limit-bytes": str(self._reader.limit)}
        fault = Fault("unreadable" if cause else "inflated", facts | more)
        log.warning("%s: offsets %d to %d: %s", self._tp, self.next_fetch_offset, end - 1, fault)
        topic, number = self._tp
        for offset in range(self.next_fetch_offset, end):
            self.next_fetch_offset = offset + 1
            yield FetchedRecord(topic, number, offset, -1, 0, None, None, (), fault=fault)


class FetchResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka has no types
    """What waits of a fetch for the consumer's next polls."""

    _partition_records: PartitionRecords | None

    def getall(self, max_records: int | None = None) -> list[FetchedRecord]:
        """Return what a poll takes, and move the consumer's position behind it."""
        waiting = self._partition_records
        if waiting is None or not self.check_assignment(self._topic_partition):
            return []
        found = waiting.take(sys.maxsize if max_records is None else max_records)
        self._update_position()
        if waiting.ended:
            self._partition_records = None
        return found
