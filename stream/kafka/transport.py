"""Faust's Kafka transport, made to carry batches: one message holds a chunk of one partition's records.

Every batch is stamped with the membership that was current when it was fetched. Rules 1, 4, 8, 9 and 10 of the
protocol (docs/exactly-once.md) live here; the private attributes of faust and aiokafka that are touched are held by
tests/kafka/test_hooks.py.
"""

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from itertools import accumulate, islice
from operator import attrgetter
from typing import Any, cast

import msgspec
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from faust.transport.drivers import aiokafka as driver

from stream.kafka import lenient
from stream.kafka.membership import Batch, Mark, Membership, Ownership
from stream.records import header_bytes

log = logging.getLogger(__name__)
_SIZE = attrgetter("size")
_PARTITION_BYTES = 4 << 20  # of one partition in one answer to a fetch, at most
_PARTITION_LEAST = 16 << 10


class FetchedRecord(msgspec.Struct, gc=False):
    """What is used of a Kafka record."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    timestamp_type: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    size: int = 0  # bytes of key, value and headers
    checksum: None = None
    serialized_key_size: int = -1
    serialized_value_size: int = -1


def _fetched_record(_self: PartitionRecords, tp: Any, record: Any) -> FetchedRecord:
    """Make a record in a tenth of the time that aiokafka's frozen dataclass takes: 2 us of the 20 us of an event."""
    key, value = record.key, record.value
    size = (len(value) if value else 0) + (len(key) if key else 0)
    headers = ()
    if record.headers:
        headers = tuple(record.headers)
        size += header_bytes(headers)
    return FetchedRecord(
        *(tp.topic, tp.partition, record.offset, record.timestamp, record.timestamp_type),
        *(key, value, headers, size),
    )


def _getall(self: FetchResult, max_records: int | None = None) -> list[FetchedRecord]:
    """Take what is buffered of a partition, as aiokafka does, while the fetch has `room` (bytes)."""
    if not self.check_assignment(self._topic_partition) or not self.has_more():
        return []
    found: list[FetchedRecord] = []
    if (room := FetchResult.room) <= 0:
        return found
    for record in islice(self._partition_records, max_records):
        found.append(record)
        room -= record.size
        if room <= 0:
            break
    FetchResult.room = room
    self._update_position()
    if room > 0 and (max_records is None or len(found) < max_records):
        self._partition_records = None  # it has no more
    return found


def parts(records: list[FetchedRecord], size: int, room: int) -> Iterator[tuple[list[FetchedRecord], int]]:
    """Cut records into parts of up to `size` records and `room` bytes, one at least; yield each with its bytes."""
    at = 0
    while at < len(records):
        part = records[at : at + size]
        if (held := sum(map(_SIZE, part))) > room:
            reached = list(accumulate(map(_SIZE, part)))
            n = max(bisect_right(reached, room), 1)
            part, held = part[:n], reached[n - 1]
        at += len(part)
        yield part, held


class _Fetched(dict[Any, tuple[int, int, list[FetchedRecord]]]):
    membership: Membership | None = None


class Listener(driver.ConsumerRebalanceListener):
    """Take and drop memberships, in the consumer's thread."""

    _thread: "Thread"

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> Any:
        """Drop the membership before anything is awaited."""
        self._thread.ownership.drop()
        return super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Read the coordinator, the only time that it is read."""
        coordinator = self._thread._ensure_consumer()._coordinator
        numbers = {tp.partition for tp in assigned}
        self._thread.handed.clear()
        self._thread.stood.clear()
        self._thread.ownership.take(
            coordinator.generation,
            coordinator.member_id,
            coordinator._group_instance_id,
            numbers,
        )
        log.info("assigned in generation %d: partitions %s", coordinator.generation, sorted(numbers))
        await super().on_partitions_assigned(assigned)


class Thread(driver.AIOKafkaConsumerThread):
    """Fetch committed records, and never skip one: each fetch begins where the last batch handed on ended."""

    handed: dict[Any, int]  # by partition: where the last batch handed on, or the last seek, ended
    stood: dict[Any, int]  # the same, or beyond it where no record followed (transaction markers)

    def __post_init__(self) -> None:
        """Begin with nothing handed on."""
        super().__post_init__()
        self.handed, self.stood = {}, {}

    @property
    def ownership(self) -> Ownership:
        """Return the app's."""
        return cast(Ownership, cast(Any, self.app).ownership)

    def hand_on(self, positions: Mapping[Any, int]) -> None:
        """Note that everything before these positions was handed on, or is not wanted."""
        self.handed.update(positions)
        self.stood.update(positions)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        consumer._partition_assignment_strategy = (StickyPartitionAssignor,)
        consumer._fetch_max_wait_ms = 500
        self._bound(consumer, 1)  # it begins to fetch before it is asked
        PartitionRecords._consumer_record = _fetched_record
        FetchResult.getall = _getall
        lenient.install()
        return consumer

    async def _seek_wait(self, consumer: Any, partitions: Mapping[Any, int]) -> None:
        self.hand_on(partitions)
        await super()._seek_wait(consumer, partitions)

    async def _fetch_records(  # type: ignore[override]  # only our own getmany reads it
        self, consumer: Any, active_partitions: set[Any], timeout: float | None = None, max_records: int | None = None
    ) -> _Fetched:
        ownership = self.ownership
        if (rest := ownership.rest_until - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        consumer._coordinator.check_errors()
        membership, found = ownership.current, _Fetched()
        found.membership = membership
        ownership.fetched_at = time.monotonic()
        ready = {tp for tp in active_partitions if membership and tp.partition in membership.owned}
        if not ready:
            await asyncio.sleep(0.05)
            return found
        self._rewind(consumer, ready)
        self._bound(consumer._fetcher, len(active_partitions))
        FetchResult.room = self.ownership.fetch
        got = await super()._fetch_records(consumer, ready, timeout=timeout, max_records=max_records)
        # Nothing is awaited from the fetch to here: the positions belong to these records.
        if ownership.current is not membership:
            return found
        for tp in ready:
            if state := _state(consumer, tp):
                ownership.marks[tp.partition] = Mark(state.position, max(state.lso or 0, 0))
                if records := got.get(tp):
                    found[tp] = (self.handed.get(tp, records[0].offset), state.position, records)
                else:
                    self.stood[tp] = state.position
        return found

    def _bound(self, client: Any, partitions: int) -> None:
        """Bound in bytes what the next answers of brokers bring, and so what they leave waiting."""
        client._fetch_max_bytes = room = self.ownership.fetch
        client._max_partition_fetch_bytes = min(max(room // partitions, _PARTITION_LEAST), _PARTITION_BYTES)

    def _rewind(self, consumer: Any, ready: set[Any]) -> None:
        for tp in ready:
            state = _state(consumer, tp)
            if state and tp in self.stood and state.position != self.stood[tp]:
                self.log.warning("%s: a fetch was dropped, back from %s", tp, state.position)
                consumer.seek(tp, self.handed[tp])
                self.stood[tp] = self.handed[tp]


def _state(consumer: Any, tp: Any) -> Any:
    subscription = consumer._subscription.subscription
    assignment = subscription.assignment if subscription else None
    state = assignment.state_value(tp) if assignment else None
    return state if state and state.has_valid_position else None


class BatchConsumer(driver.Consumer):
    """Yield batches where Faust expects messages; commit nothing, since offsets travel in the transaction."""

    RebalanceListener = Listener
    _thread: Thread

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Any]]:
        """Yield (partition, message), the message's value a `Batch`."""
        ownership = self._thread.ownership
        fetched = cast(_Fetched, (await self._wait_next_records(timeout))[0])
        if not fetched or self.should_stop or not self.flow_active:
            return
        membership = fetched.membership
        for tp, (start, end, records) in fetched.items():
            begin, left = start, len(records)
            for part, held in parts(records, ownership.chunk, ownership.part):
                if not self.flow_active or ownership.current is not membership or ownership.drop_fetch():
                    return
                left -= len(part)
                stop = part[-1].offset + 1 if left else end
                batch = Batch(cast(Membership, membership), tp.partition, begin, stop, cast(Any, part), held)
                begin = stop
                self._thread.hand_on({tp: stop})
                message = self._to_message(tp, part[-1])
                message.key, message.value, message.headers = None, cast(Any, batch), None
                yield tp, message

    async def perform_seek(self) -> None:
        """Seek to the recovered positions; what is not recovered is not fetched."""
        if membership := self._thread.ownership.current:
            await self.seek_to({number: held.part.position for number, held in membership.owned.items()})

    async def seek_to(self, positions: Mapping[int, int]) -> None:
        """Seek partitions to positions."""
        at = {tp: positions[tp.partition] for tp in self.assignment() if tp.partition in positions}
        await self._thread.seek_wait(at)

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Forget the acknowledgements (rule 10)."""
        for tp in list(self._acked):
            self._acked[tp].clear()
            self._acked_index[tp].clear()
            self._thread.tp_last_committed_at[tp] = time.monotonic()
        return True

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Remember no gap: a batch is one message, so there is one before each."""

    def verify_event_path(self, now: float, tp: Any) -> None:
        """Leave stalls to the probes: Faust's own detector knows nothing of batches."""


class BatchTransport(driver.Transport):
    """The transport with all of the above."""

    Consumer = BatchConsumer
