"""The changelog becomes sessions again, before a partition's first batch (rules 2, 4 and 8 of the protocol)."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicCollection, TopicPartition
from confluent_kafka import IsolationLevel as Isolation
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from stream.core.errors import BrokerError, PositionError, StuckError
from stream.kafka.client import again, consumer
from stream.kafka.transport import Owned
from stream.rehydrate import Rehydrator
from stream.round import Partition
from stream.sessions import SessionStore
from stream.settings import Settings

log = logging.getLogger(__name__)
POSITION = b"p"
_PATIENCE = 15.0  # seconds beyond the transaction timeout: the broker ends open transactions every 10 s
_BATCH, _WAIT = 10_000, 0.02  # a read ends when so many are there, or after so many seconds
_DELETE_RETENTION = 86_400.0  # Kafka's delete.retention.ms: a tombstone may be gone after it


class Position(msgspec.Struct, frozen=True):
    """The changelog's record of a partition: the next input offset, of which topic, and the newest record time (ms)."""

    topic_id: str
    offset: int
    clock: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recovery is: changelog offsets."""

    partition: int
    at: int
    end: int
    users: int


class Recovery:
    """Rebuild partitions from the changelog; its clients stay open, since a fresh one takes seconds to answer."""

    def __init__(self, settings: Settings, client: AdminClient, rehydrator: Rehydrator) -> None:
        self._settings, self._admin, self._rehydrator = settings, client, rehydrator
        self._patience = settings.transaction_timeout_seconds + _PATIENCE
        self._reader = consumer(settings, **{"group.id": settings.group, "enable.partition.eof": True})

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()

    def recover(
        self,
        number: int,
        kept: Owned | None,
        wanted: Callable[[], bool],
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> Owned | None:
        """Rebuild a partition, or catch up the one that was kept; return None where it is no longer wanted.

        Raises StuckError without progress, PositionError where changelog and input do not fit.
        """
        if kept and time.monotonic() - kept.read_at > _DELETE_RETENTION / 2:
            kept = None
        owned = kept or Owned(Partition(number, SessionStore(self._rehydrator.layout), position=-1))
        began = time.monotonic()
        tp = TopicPartition(self._settings.changelog, number)
        # The high watermark, not the last stable offset: it must wait for a transaction that is still open.
        end = self._end(tp, Isolation.READ_UNCOMMITTED)
        position = self._read(owned, tp, end, wanted, progress)
        if position is None:
            return None
        owned.changelog, owned.read_at = max(owned.changelog, end), time.monotonic()
        self._place(owned, position if position.offset >= 0 else None)
        log.info(
            "partition %d: %d shoppers, position %d, changelog %d, in %.2f s",
            *(number, len(owned.part.store), owned.part.position, end, owned.read_at - began),
        )
        return owned

    def _read(
        self,
        owned: Owned,
        tp: TopicPartition,
        end: int,
        wanted: Callable[[], bool],
        progress: Callable[[Progress], None],
    ) -> Position | None:
        part, at = owned.part, owned.changelog
        position = Position(owned.topic_id, part.position, part.clock)
        self._reader.assign([TopicPartition(tp.topic, tp.partition, at or OFFSET_BEGINNING)])
        moved = time.monotonic()
        try:
            while at < end:
                if not wanted():
                    return None
                changes = []
                reached = at
                for message in self._reader.consume(_BATCH, _WAIT):
                    if error := message.error():
                        reached = max(reached, self._at_end(message, error))
                        continue
                    reached = (message.offset() or 0) + 1
                    key, value = message.key() or b"", message.value()
                    if key == POSITION and value:
                        position = msgspec.json.decode(value, type=Position)
                    else:
                        changes.append((key, value))
                self._rehydrator.apply(part.store, changes, part.newcomers)
                reached = max(reached, self._reader.position([TopicPartition(tp.topic, tp.partition)])[0].offset)
                if reached > at:
                    at, moved = reached, time.monotonic()
                    progress(Progress(tp.partition, at, end, len(part.store)))
                elif time.monotonic() - moved > self._patience:
                    raise StuckError(
                        f"recovery of {tp.topic} partition {tp.partition} stands at {at} of {end}",
                        "a transaction may hang: kafka-transactions.sh find-hanging; a restart is safe",
                    )
        finally:
            self._reader.unassign()
        return position

    @staticmethod
    def _at_end(message: object, error: KafkaError) -> int:
        if error.code() == KafkaError._PARTITION_EOF:
            return int(message.offset())  # type: ignore[attr-defined]
        if error.retriable() or not error.fatal():
            return -1
        raise BrokerError(f"the changelog cannot be read: {error.str()}", "check the broker and the rights")

    def _place(self, owned: Owned, position: Position | None) -> None:
        """Check the position against the input topic as it is now (rule 4), and stand there."""
        part, topic, number = owned.part, self._settings.events_topic, owned.part.number
        owned.topic_id = self.topic_id()
        tp = TopicPartition(topic, number)
        low, high = self._start(tp), self._end(tp, Isolation.READ_UNCOMMITTED)
        committed = self._committed(tp)
        where = f"{topic} partition {number}"
        if position is None:
            if committed > low:
                raise PositionError(
                    f"{where}: the group {self._settings.group} is at {committed}, but its changelog holds no position",
                    "restore the changelog, or begin anew with another --group",
                )
            part.position = low if self._settings.start == "earliest" else high
            return
        if position.topic_id != owned.topic_id:
            raise PositionError(
                f"{where}: {topic} was deleted and made again since the changelog was written",
                "begin anew with another --group",
            )
        if position.offset > high or committed > position.offset:
            other = f"its end is {high}" if position.offset > high else f"the group is at {committed}"
            raise PositionError(
                f"{where}: the changelog is at {position.offset}, but {other}",
                "records or the group's offsets were changed from outside: undo it, or begin anew with another --group",
            )
        part.position, part.clock = position.offset, max(part.clock, position.clock)
        if position.offset < low:
            self._lost(where, position.offset, low)
            part.position = low

    def _lost(self, where: str, position: int, low: int) -> None:
        text = f"{where}: {low - position} records were deleted before they were scored ({position} to {low})"
        if self._settings.on_lost == "stop":
            raise PositionError(text, "raise the topic's retention; FORECART_ON_LOST=continue goes on behind the gap")
        log.critical("%s: going on behind the gap", text)

    def _deadline(self) -> float:
        return time.monotonic() + self._patience

    def _end(self, tp: TopicPartition, isolation: Isolation) -> int:
        return self._offset(tp, OffsetSpec.latest(), isolation)

    def _start(self, tp: TopicPartition) -> int:
        return self._offset(tp, OffsetSpec.earliest(), Isolation.READ_UNCOMMITTED)

    def _offset(self, tp: TopicPartition, spec: OffsetSpec, isolation: Isolation) -> int:
        def ask() -> int:
            answer = self._admin.list_offsets({tp: spec}, isolation_level=isolation, request_timeout=5)
            return int(answer[tp].result(6).offset)

        return again(self._deadline(), ask)

    def _committed(self, tp: TopicPartition) -> int:
        return int(again(self._deadline(), lambda: self._reader.committed([tp], 5)[0].offset))

    def topic_id(self) -> str:
        """Ask for the input topic's id, another one once it is deleted and made again."""
        name = self._settings.events_topic

        def ask() -> str:
            answer = self._admin.describe_topics(TopicCollection([name]), request_timeout=5)
            return str(answer[name].result(6).topic_id)

        return again(self._deadline(), ask)
