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
from itertools import accumulate
from operator import attrgetter
from typing import Any, cast

from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from faust.transport.drivers import aiokafka as driver

from stream.core.errors import BrokerError
from stream.kafka.fetch.fetches import FetchedRecord, Reader
from stream.kafka.group.membership import Batch, Mark, Membership, Ownership
from stream.logs import Sparing
from stream.records import DATED

log = logging.getLogger(__name__)
_REST_SECONDS = 1.0  # after an error of the consumer's that may pass
_ALONE_SECONDS, _LOOK_SECONDS = 60.0, 5.0  # without any connection, until the bootstrap servers are asked again
_REFUSED = (GroupAuthorizationFailedError, TopicAuthorizationFailedError)
LOGIN = ("ssl_context", "sasl_plain_username", "sasl_plain_password", "sasl_oauth_token_provider")
_SIZE = attrgetter("size")
_PARTITION_BYTES = 4 << 20  # of one partition in one answer to a fetch, at most
_PARTITION_LEAST = 16 << 10


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
    strayed: dict[int, int] | None = None  # by partition that the input no longer has: where the last batch ended


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
        self._thread.strayed.clear()
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
    reader: Reader
    strayed: set[Any]  # out of the input's range: nothing is fetched until they are sought anew

    def __post_init__(self) -> None:
        """Begin with nothing handed on."""
        super().__post_init__()
        self.handed, self.stood, self.strayed = {}, {}, set()
        self._sparing = Sparing(log)
        self._watching: asyncio.Task[None] | None = None

    async def on_start(self) -> None:
        """Start the consumer, again until Kafka answers it; then see to its connections."""
        while not self.should_stop:
            try:
                await super().on_start()
                break
            except KafkaError as error:
                self._sparing.warning("the consumer cannot start yet: %s", error)
                await self._ensure_consumer().stop()
                await asyncio.sleep(_REST_SECONDS)
        self._watching = asyncio.create_task(self._see_to_connections())

    async def on_thread_stop(self) -> None:
        """Stop the consumer."""
        if self._watching:
            self._watching.cancel()
        try:
            await super().on_thread_stop()
        except asyncio.CancelledError:
            log.debug("aiokafka's fetcher was resting: it awaits what it has cancelled")

    async def _see_to_connections(self) -> None:
        """Ask the bootstrap servers again where no broker known is connected for long: aiokafka never does."""
        connected = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            consumer = self._ensure_consumer()
            self._see_refusals(consumer)
            client = consumer._client
            if any(connection.connected() for connection in client._conns.values()):
                connected = time.monotonic()
            elif time.monotonic() - connected > _ALONE_SECONDS:
                try:
                    await client.bootstrap()
                except KafkaError:
                    continue  # whether Kafka answers is told by others
                log.info("the consumer has found the brokers again by the bootstrap servers")
                client.force_metadata_update()
                connected = time.monotonic()

    def renew(self, options: Mapping[str, Any]) -> None:
        """Let new connections log in with other options of aiokafka's; those that stand go on."""
        if self._consumer is not None:
            for name in LOGIN:
                setattr(self._consumer._client, f"_{name}", options.get(name))

    def _see_refusals(self, consumer: Any) -> None:
        """End where the group turns us away: without partitions nothing is fetched, and nobody else would ask."""
        try:
            consumer._coordinator.check_errors()
        except _REFUSED as error:
            self._refuse(error)
        except KafkaError as error:
            self._sparing.warning("the consumer goes on after an error: %r", error)

    def _refuse(self, error: KafkaError) -> None:
        refusal = BrokerError(f"Kafka refuses what the worker reads: {error!r}", "check the rights of topic and group")
        cast(Any, self.app).engine.fail(refusal)

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
        self.reader = Reader(cast(Any, self.app).max_batch_bytes, lambda tp: _high(consumer, tp))
        self.reader.install()
        return consumer

    async def _seek_wait(self, consumer: Any, partitions: Mapping[Any, int]) -> None:
        self.hand_on(partitions)
        self.strayed -= set(partitions)
        await super()._seek_wait(consumer, partitions)

    async def _fetch_records(  # type: ignore[override]  # only our own getmany reads it
        self, consumer: Any, active_partitions: set[Any], timeout: float | None = None, max_records: int | None = None
    ) -> _Fetched:
        try:
            return await self._fetch(consumer, active_partitions, timeout, max_records)
        except _REFUSED as error:
            self._refuse(error)
            return _Fetched()
        except KafkaError as error:  # a coordinator that is loading, a broker that goes: the consumer joins again
            self._sparing.warning("the consumer goes on after an error: %r", error)
            consumer._coordinator.request_rejoin()
            await asyncio.sleep(_REST_SECONDS)
            return _Fetched()

    async def _fetch(
        self, consumer: Any, active_partitions: set[Any], timeout: float | None, max_records: int | None
    ) -> _Fetched:
        ownership = self.ownership
        if (rest := ownership.rest_until - time.monotonic()) > 0:
            await asyncio.sleep(rest)
        consumer._coordinator.check_errors()
        membership, found = ownership.current, _Fetched()
        found.membership = membership
        ownership.fetched_at = time.monotonic()
        ready = {tp for tp in active_partitions if membership and tp.partition in membership.owned}
        if not ready or self.strayed:
            await asyncio.sleep(0.05)
            return found
        self._rewind(consumer, ready)
        self._bound(consumer._fetcher, len(active_partitions))
        self.reader.begin_poll(ownership.fetch)
        try:
            got = await super()._fetch_records(consumer, ready, timeout=timeout, max_records=max_records)
        except NoOffsetForPartitionError:  # from before the first seek
            return found
        except OffsetOutOfRangeError as error:
            if ownership.current is membership:
                found.strayed = self._stray(consumer, error.args[0])
            return found
        # Nothing is awaited from the fetch to here: the positions belong to these records.
        if ownership.current is not membership:
            return found
        for tp in ready:
            if state := _state(consumer, tp):
                if records := got.get(tp):
                    found[tp] = (self.handed.get(tp, records[0].offset), state.position, records)
                else:
                    self.stood[tp] = state.position
                handed = state.position if records else self.handed.get(tp, state.position)
                self._note(tp.partition, _mark(state, handed), records)
        return found

    def _note(self, number: int, mark: Mark, records: Any) -> None:
        """Note what an answer told of a partition."""
        ownership = self.ownership
        held = ownership.current.owned.get(number) if ownership.current else None
        first = records[0].timestamp if records and records[0].timestamp >= DATED else 0
        ownership.marks[number] = mark.after(ownership.marks.get(number), held.part.position if held else 0, first)

    def _stray(self, consumer: Any, offsets: Mapping[Any, int]) -> dict[int, int]:
        """Note what is out of range where the consumer still stands there: other answers are from before a seek."""
        for tp, offset in offsets.items():
            if (state := _state(consumer, tp)) and state.position == offset:
                self.log.warning("%s: the input has no offset %s", tp, offset)
                self.strayed.add(tp)
        return {tp.partition: self.handed.get(tp, 0) for tp in self.strayed}

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


def _mark(state: Any, handed: int) -> Mark:
    high = state.highwater or 0
    stable = high if state.lso is None else state.lso
    return Mark(state.position, handed, stable, high, state.timestamp or 0)


def _high(consumer: Any, tp: Any) -> int | None:
    state = _state(consumer, tp)
    return state.highwater if state else None


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
        if strayed := getattr(fetched, "strayed", None):
            cast(Any, self.app).engine.stray(fetched.membership, strayed)
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
                # Faust drops what lies below the last message that it delivered, and notes that only once it is
                # delivered: one that waited for room would hide what is read again after a recovery.
                self._read_offset[tp] = None
                yield tp, message

    def renew(self, options: Mapping[str, Any]) -> None:
        """See `Thread.renew`; callable from any thread."""
        self._thread.renew(options)

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
