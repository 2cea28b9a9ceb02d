"""Users' states as they lie in the changelog: read as bytes, and moved between partitions in transactions."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
from aiokafka.partitioner import murmur2
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from stream.core.errors import BrokerError, FencedError, StuckError
from stream.kafka.client.admin import again, consumer, ended, producer, put
from stream.kafka.client.errors import Kind, kind, passing, said
from stream.kafka.client.offsets import group_offset
from stream.kafka.exactly_once.changelog import FETCH, POSITION
from stream.records import BATCH, USER
from stream.settings import Settings
from stream.state.growth import Growth
from stream.state.position import Position

NAME = "topics-grow"  # its transactional id is that of a worker of this name
AGAIN = "run it again: it goes on where it stood"
_BATCH, _WAIT = 10_000, 0.1  # records of a read, and seconds that it waits for them
_TAIL = 5_000  # records at the end of a partition, among which its position mostly is
_USERS, _BYTES = 5_000, 8 * BATCH  # of a transaction, whichever comes first
_PATIENCE = 15.0  # seconds beyond the transaction timeout: the broker ends open transactions every 10 s
_INIT_SECONDS, _SHARE = 30.0, 0.8


class Change(NamedTuple):
    """A record to be written to a partition of the changelog."""

    partition: int
    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Users:
    """A partition's users: where each that moves has its newest record and where it goes, and how many do what."""

    moving: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    stay: int = 0
    foreign: int = 0


def partitioner_hash(key: bytes) -> int:
    """Return what producers take the remainder of, by the partition count: murmur2 as Java has it."""
    return int(murmur2(key)) & 0x7FFFFFFF


class Reader:
    """Read committed records of partitions up to an offset, waiting for transactions that are open before it."""

    def __init__(self, settings: Settings) -> None:
        self._patience = settings.transaction_timeout_seconds + _PATIENCE
        self._reader: Consumer = consumer(
            settings, **{"group.id": settings.group, "enable.partition.eof": True, **FETCH}
        )

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def read(self, topic: str, number: int, begin: int, end: int) -> Iterator[list[Message]]:
        """Yield the records of a partition in [begin, end); raise StuckError where it cannot be read on."""
        place, at, moved = TopicPartition(topic, number, begin), max(begin, 0), time.monotonic()
        if at >= end:
            return
        self._reader.assign([place])
        try:
            while at < end:
                found, reached = [], at
                for message in self._reader.consume(_BATCH, _WAIT):
                    if not (error := message.error()):
                        found.append(message)
                        reached = (message.offset() or 0) + 1
                    elif ended(error, topic):
                        reached = max(reached, message.offset() or 0)
                reached = max(reached, self._reader.position([place])[0].offset)
                yield [message for message in found if (message.offset() or 0) < end]
                if reached > at:
                    at, moved = reached, time.monotonic()
                elif time.monotonic() - moved > self._patience:
                    raise StuckError(
                        f"{topic} partition {number} cannot be read beyond {at} of {end}",
                        "a transaction may hang: kafka-transactions.sh find-hanging; then run it again",
                    )
        finally:
            self._reader.unassign()

    def position(self, topic: str, number: int, low: int, end: int) -> Position | None:
        """Return the last position record of a changelog's partition, None where there is none."""
        for begin in (max(end - _TAIL, low), low):
            records = (message for some in self.read(topic, number, begin, end) for message in some)
            values = [m.value() for m in records if m.key() == POSITION and m.value()]
            if values:
                return msgspec.json.decode(values[-1] or b"", type=Position)
        return None

    def users(self, growth: Growth, topic: str, number: int, end: int, heard: Callable[[int], None]) -> Users:
        """Find a partition's users, and which of them move."""
        newest: dict[bytes, int] = {}
        for messages in self.read(topic, number, OFFSET_BEGINNING, end):
            for message in messages:
                key = message.key() or b""
                if key[:1] != USER:
                    continue
                if message.value() is None:
                    newest.pop(key, None)
                else:
                    newest[key] = message.offset() or 0
            heard(len(messages))
        found = Users()
        for key, offset in newest.items():
            place = growth.place(partitioner_hash(key[1:]), number)
            if place is None:
                found.foreign += 1
            elif place == number:
                found.stay += 1
            else:
                found.moving[key] = offset, place
        return found

    def moves(self, users: Users, topic: str, number: int, heard: Callable[[int], None]) -> Iterator[list[Change]]:
        """Yield what moves a partition's users, in lists of a transaction each: the bytes as they are, a tombstone."""
        changes: list[Change] = []
        size, left = 0, len(users.moving)
        end = max((offset for offset, _ in users.moving.values()), default=-1) + 1
        for messages in self.read(topic, number, OFFSET_BEGINNING, end):
            for message in messages:
                key, value = message.key() or b"", message.value() or b""
                offset, place = users.moving.get(key, (-1, -1))
                if offset != message.offset():
                    continue
                changes += (Change(place, key, value), Change(number, key, None))
                size, left = size + len(value), left - 1
                if len(changes) >= 2 * _USERS or size >= _BYTES or not left:
                    yield changes
                    changes, size = [], 0
            heard(len(messages))


class Writer:
    """Write to the changelog in transactions, each all or none."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._timeout = settings, settings.transaction_timeout_seconds
        self._producer = producer(
            settings,
            **{
                "transactional.id": f"{settings.group}/{NAME}",
                "transaction.timeout.ms": int(self._timeout * 1000),
                "linger.ms": 5,
                "batch.size": BATCH,
                "message.max.bytes": BATCH,
            },
        )
        self._call("begin", lambda: again(time.monotonic() + _INIT_SECONDS, self._init))

    def _init(self) -> None:
        self._producer.init_transactions(_INIT_SECONDS)

    def knows(self, topic: str) -> int:
        """Return how many partitions of a topic the producer knows."""
        return len(self._producer.list_topics(topic, 5).topics[topic].partitions)

    def write(
        self,
        changes: Iterable[Change],
        positions: Mapping[int, Position] | None = None,
        check: Callable[[Mapping[int, int]], None] = lambda _: None,
    ) -> None:
        """Write changes, or positions and the group's offsets that they tell, in one transaction.

        Before it is committed, `check` is told where each partition's last record lies; where it raises, nothing is
        written. Raises FencedError where another run has begun since, BrokerError where Kafka refuses.
        """
        self._call("be written", lambda: self._write(changes, positions or {}, check))

    def _write(
        self,
        changes: Iterable[Change],
        positions: Mapping[int, Position],
        check: Callable[[Mapping[int, int]], None],
    ) -> None:
        deadline = time.monotonic() + self._timeout * _SHARE
        out, topic = self._producer, self._settings.changelog
        written: dict[int, int] = {}

        def delivered(error: object, message: Message) -> None:
            if error is None:
                written[message.partition() or 0] = message.offset() or 0

        again(deadline, out.begin_transaction)
        for number, key, value in changes:
            put(out, topic, value, key, partition=number)
        for number, position in positions.items():
            value = msgspec.json.encode(position)
            put(out, topic, value, POSITION, partition=number, on_delivery=delivered)
        again(deadline, lambda: out.flush(max(deadline - time.monotonic(), 0.1)))
        if positions:
            again(deadline, lambda: self._send_offsets(positions, deadline))
        try:
            check(written)
        except BaseException:
            again(deadline, lambda: out.abort_transaction(max(deadline - time.monotonic(), 0.1)))
            raise
        again(deadline, lambda: out.commit_transaction(max(deadline - time.monotonic(), 0.1)))

    def _send_offsets(self, positions: Mapping[int, Position], deadline: float) -> None:
        """Send offsets as no member: of a group without members the broker takes them."""
        topic, group = self._settings.events_topic, consumer(self._settings, **{"group.id": self._settings.group})
        offsets = [
            group_offset(topic, number, position.offset, position.partitions) for number, position in positions.items()
        ]
        try:
            seconds = max(deadline - time.monotonic(), 0.1)
            self._producer.send_offsets_to_transaction(offsets, group.consumer_group_metadata(), seconds)
        finally:
            group.close()

    def _call(self, what: str, call: Callable[[], object]) -> None:
        try:
            call()
        except (KafkaException, TimeoutError) as error:
            if not passing(error) and kind(error.args[0]) is Kind.FENCED:
                raise FencedError(
                    f"another `forecart topics grow` has begun, or this one stood still ({said(error)})",
                    f"let the other one end, or {AGAIN}",
                ) from error
            raise BrokerError(
                f"the transaction cannot {what}: {said(error)}", f"check the brokers, then {AGAIN}"
            ) from error


def count(users: Iterable[Users]) -> Counter[str]:
    """Count users by what becomes of them."""
    found = Counter({"moved": 0, "stayed": 0, "foreign": 0})
    for each in users:
        found.update(moved=len(each.moving), stayed=each.stay, foreign=each.foreign)
    return found
