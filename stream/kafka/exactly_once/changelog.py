"""The changelog becomes sessions again, before the first batch (rules 2, 4 and 8 of the protocol)."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import msgspec
from confluent_kafka import (
    OFFSET_BEGINNING,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from stream.core.errors import PositionError, StuckError, UnreachableError
from stream.kafka.client.admin import ANSWER, admin, answered, consumer, ended
from stream.kafka.client.deadline import Deadline
from stream.kafka.client.offsets import EARLIEST, LATEST, group_offsets, group_reader, log_offsets
from stream.kafka.group.membership import PartitionState
from stream.kafka.topics.watch import described
from stream.scoring.rehydrate import Rehydrator
from stream.scoring.scorer import Partition
from stream.settings import Settings
from stream.state.position import RESTORE, Bounds, Position, Terms, Topics, lost, stand
from stream.state.sessions import SessionStore
from stream.state.user_bound import displace

log = logging.getLogger(__name__)
T = TypeVar("T")
POSITION = b"p"
_PATIENCE = 15.0  # seconds beyond the transaction timeout: the broker ends open transactions every 10 s
_AGAIN = 0.3  # seconds before another administrator asks
_ASK_SECONDS, _CALL_SECONDS = 15.0, 5.0  # for what brokers answer, which bounds itself sooner, and for what is local
_BATCH, _WAIT = 10_000, 0.02  # a read ends when so many are there, or after so many seconds
FETCH = {
    **ANSWER,
    "max.partition.fetch.bytes": 4_194_304,
    "fetch.queue.backoff.ms": 5,  # a full queue would rest for a second, and is empty sooner
    "fetch.wait.max.ms": 20,  # behind the last record lies a marker, of which only a fetch without records tells
}
_DELETE_RETENTION = 86_400.0  # Kafka's delete.retention.ms: a tombstone may be gone after it

_Change = tuple[bytes, bytes | None]
_NO_RECORD = (ValueError, msgspec.MsgspecError, RecursionError)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a recovery is: changelog offsets."""

    partition: int
    at: int
    end: int
    users: int


@dataclass(slots=True)
class _Part:
    """A partition that is being read: the next changelog offset, the last position met, and where it ends.

    `proof` is where the position of sessions that were kept was written, below 0 for none: `proven` once it is met.
    """

    owned: PartitionState
    at: int
    position: Position
    end: int = 0
    proof: int = -1
    proven: bool = True


class Recovery:
    """Rebuild partitions from the changelog; its clients stay open, since a fresh one takes seconds to answer."""

    def __init__(
        self,
        settings: Settings,
        client: AdminClient,
        rehydrator: Rehydrator,
        steady_since: Callable[[float], bool] = lambda _when: True,
    ) -> None:
        """`steady_since` tells whether Kafka answered throughout since a time (monotonic seconds)."""
        self._settings, self._admin, self._rehydrator = settings, client, rehydrator
        self.patience = settings.transaction_timeout_seconds + _PATIENCE  # seconds that one step may stand still
        self.deadline = Deadline()  # of the running call
        self._steady_since = steady_since
        self._open()
        names = (settings.events_topic, settings.changelog, settings.group)
        self._terms = Terms(*names, settings.start, settings.on_lost, settings.restored_changelog)

    def _open(self) -> None:
        group = {"group.id": self._settings.group}
        self._reader = consumer(self._settings, **{**group, "enable.partition.eof": True, **FETCH})
        self._group_reader = group_reader(self._settings)
        self._stale = False

    def close(self) -> None:
        """Close the readers."""
        self._reader.close()
        self._group_reader.close()

    def anew(self) -> "Recovery":
        """Return another one with clients of its own: a call of this one's does not return."""
        return Recovery(self._settings, admin(self._settings), self._rehydrator, self._steady_since)

    def reopen(self) -> None:
        """Let the next recovery begin with new clients: Kafka did not answer those of now."""
        self._stale = True

    def _renew(self) -> None:
        with self.deadline.of("close", _ASK_SECONDS):
            self.close()
            self._admin = admin(self._settings)
            self._open()

    def recover(
        self,
        kept: Mapping[int, PartitionState | None],
        wanted: Callable[[], bool],
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> dict[int, PartitionState] | None:
        """Rebuild partitions, or catch up those that were kept; return None where they are no longer wanted.

        All are read at once: one alone leaves the reader waiting for the broker most of the time. Raises StuckError
        without progress, UnreachableError where Kafka does not answer, PositionError where changelog and input do not
        fit.
        """
        began = time.monotonic()
        if self._stale:
            self._renew()
        parts = {number: self._begin(number, held) for number, held in kept.items()}
        # What the group has committed by now, and what the input has lost, is in the changelog before its end: another
        # worker that goes on from here is no damage.
        topics = self.topics()
        committed, written = self._committed(topics.partitions)
        lows = self._offsets(self._settings.events_topic, parts, EARLIEST)
        # The high watermarks, not the last stable offsets: it must wait for a transaction that is still open.
        for number, end in self._offsets(self._settings.changelog, parts, LATEST).items():
            parts[number].end = end
            progress(Progress(number, parts[number].at, end, len(parts[number].owned.part.store)))
        if not self._read(parts, wanted, progress):
            return None
        if stale := {number: part for number, part in parts.items() if not part.proven}:
            log.warning("what was kept of partitions %s is not in the changelog, which is read anew", sorted(stale))
            anew = {number: replace(self._begin(number, None), end=part.end) for number, part in stale.items()}
            if not self._read(anew, wanted, progress):
                return None
            parts |= anew
        highs = self._offsets(self._settings.events_topic, parts, LATEST)
        try:
            for number, part in parts.items():
                self._place(part, Bounds(lows[number], highs[number], committed.get(number, -1), written), topics)
        except PositionError:
            if wanted():
                raise
            return None  # another member may be right
        for number, part in parts.items():
            owned = part.owned
            if self._settings.max_users:  # which may be less than before, or more came by growth
                owned.part.owed = owned.part.owed + displace(owned.part.store, self._settings.max_users)
            owned.changelog, owned.read_at = max(owned.changelog, part.end), time.monotonic()
            log.info(
                "partition %d: %d shoppers, position %d, changelog %d",
                *(number, len(owned.part.store), owned.part.position, part.end),
            )
        log.info("recovered %d partitions in %.2f s", len(parts), time.monotonic() - began)
        return {number: part.owned for number, part in parts.items()}

    def _begin(self, number: int, kept: PartitionState | None) -> _Part:
        if kept and time.monotonic() - kept.read_at > _DELETE_RETENTION / 2:
            kept = None
        owned = kept or PartitionState(Partition(number, SessionStore(self._rehydrator.layout), position=-1))
        position = Position.of(owned.topics, owned.part.position, owned.part.clock)
        if not kept:
            return _Part(owned, 0, position)
        # A transaction that Kafka acknowledged can still be undone: its last record must be there.
        proof = owned.changelog - 1
        return _Part(owned, max(proof, 0), position, proof=proof, proven=False)

    def _read(
        self, parts: Mapping[int, _Part], wanted: Callable[[], bool], progress: Callable[[Progress], None]
    ) -> bool:
        """Read the changelog to the ends of all parts; return whether they are still wanted."""
        topic = self._settings.changelog
        places = [TopicPartition(topic, n, part.at or OFFSET_BEGINNING) for n, part in parts.items()]
        self._call("assign", places)
        moved = time.monotonic()
        try:
            while behind := [number for number, part in parts.items() if part.at < part.end]:
                if not wanted():
                    return False
                reached = self._take(parts)
                asked = [TopicPartition(topic, number) for number in behind]
                for place in self._call("position", asked):  # beyond the last record there may be markers
                    reached[place.partition] = max(reached.get(place.partition, 0), place.offset)
                for number, at in reached.items():
                    part = parts[number]
                    if at > part.at:
                        part.at, moved = at, time.monotonic()
                        progress(Progress(number, at, part.end, len(part.owned.part.store)))
                if time.monotonic() - moved > self.patience:
                    part = parts[behind[0]]
                    if not self._steady_since(moved):
                        raise UnreachableError(f"{topic} cannot be read on: Kafka was away", "check the brokers")
                    raise StuckError(
                        f"recovery of {topic} partition {behind[0]} stands at {part.at} of {part.end}",
                        "a transaction may hang: kafka-transactions.sh find-hanging; a restart is safe",
                    )
        finally:
            self._call("unassign")
        return True

    def _call(self, name: str, *given: Any) -> Any:
        with self.deadline.of(name, _CALL_SECONDS):
            return getattr(self._reader, name)(*given)

    def _take(self, parts: Mapping[int, _Part]) -> dict[int, int]:
        """Apply one read; return how far it reached, by partition."""
        reached: dict[int, int] = {}
        changes: dict[int, list[Message]] = {number: [] for number in parts}
        for message in self._call("consume", _BATCH, _WAIT):
            error, number = message.error(), message.partition() or 0
            if not error:
                changes[number].append(message)
            elif ended(error, "the changelog"):
                reached[number] = message.offset() or 0
        for number, made in changes.items():
            if made:
                part = parts[number]
                part.proven = part.proven or _proves(made[0], part)
                if part.proven:
                    self._apply(part, made)
                reached[number] = max(reached.get(number, 0), (made[-1].offset() or 0) + 1)
        return reached

    def _apply(self, one: _Part, made: list[Message]) -> None:
        """Write changes into a partition; raise PositionError that says where one of them lies that is none."""
        part, changes = one.owned.part, [(message.key() or b"", message.value()) for message in made]
        try:
            self._rehydrator.apply(part.store, changes, part.newcomers)
            one.position = [one.position, *_positions(changes)][-1]
        except _NO_RECORD as error:
            for message, change in zip(made, changes, strict=True):
                try:
                    _positions([change])
                    self._rehydrator.apply(SessionStore(self._rehydrator.layout), [change])
                except _NO_RECORD as broken:
                    raise self._broken(part.number, message.offset() or 0, broken) from broken
            raise self._broken(part.number, made[0].offset() or 0, error) from error

    def _broken(self, number: int, offset: int, error: Exception) -> PositionError:
        """Say where a record lies; its key, which is a user's id, stays out of the log."""
        kind = type(error).__name__ if isinstance(error, UnicodeError) else str(error)
        return PositionError(
            f"{self._settings.changelog} partition {number}, offset {offset} is no record of a changelog: {kind}",
            f"start the newest version that has run in this group; if it refuses too, {RESTORE}",
        )

    def _place(self, one: _Part, bounds: Bounds, topics: Topics) -> None:
        """Stand where the position says, held to the topics and the group (rule 4)."""
        owned, position = one.owned, one.position
        part, where = owned.part, f"{self._settings.events_topic} partition {owned.part.number}"
        standing = stand(where, position, bounds, topics, self._terms)
        if standing.lost:
            log.critical("%s: going on behind the gap", lost(where, position.offset, standing.offset))
        owned.topics, owned.lost = topics, owned.lost + standing.lost
        part.position, part.clock = standing.offset, max(part.clock, position.clock)

    def _offsets(self, topic: str, numbers: Iterable[int], spec: OffsetSpec) -> dict[int, int]:
        """Ask for offsets of partitions, open transactions' records included."""
        return self._answered(f"the offsets of {topic}", lambda: log_offsets(self._admin, topic, numbers, spec))

    def _committed(self, partitions: int) -> tuple[dict[int, int], int]:
        """Ask for the group's offsets.

        Returns them by partition, and the partition count that they were committed with if it is another one, else 0.
        """
        group, topic = self._settings.group, self._settings.events_topic
        what = f"the offsets of the group {group}"
        found = self._answered(what, lambda: group_offsets(self._group_reader, topic, partitions))
        written = {int(tp.metadata) for tp in found if tp.metadata and tp.metadata.isdigit()} - {partitions}
        return {tp.partition: int(tp.offset) for tp in found}, max(written, default=0)

    def topics(self) -> Topics:
        """Ask for the ids of input and changelog, and for their partition count.

        Raises UnreachableError where one is not there or their counts differ: the watch of the topics decides.
        """
        names = [self._settings.events_topic, self._settings.changelog]
        what = f"the metadata of {' and '.join(names)}"
        events, changelog = self._answered(what, lambda: described(self._admin, names)).values()
        if not events or not changelog or events.partitions != changelog.partitions:
            raise UnreachableError(f"{what} do not fit", "see `forecart topics plan`")
        return Topics(events.id, changelog.id, events.partitions)

    def _answered(self, what: str, ask: Callable[[], T]) -> T:
        """Ask an administrator for as long as patience lasts; one that got no answer is followed by another.

        It may keep to a leader of before an election, FENCED_LEADER_EPOCH after FENCED_LEADER_EPOCH.
        """

        def once() -> T:
            with self.deadline.of(f"the call for {what}", _ASK_SECONDS):
                try:
                    return ask()
                except (KafkaException, TimeoutError):
                    time.sleep(_AGAIN)
                    self._admin = admin(self._settings)
                    raise

        return answered(what, self.patience, once)


def _proves(message: Message, part: _Part) -> bool:
    """Tell whether a record is the position that sessions were kept at."""
    if message.offset() != part.proof or message.key() != POSITION or not (value := message.value()):
        return False
    return msgspec.json.decode(value, type=Position).offset == part.owned.part.position


def _positions(changes: list[_Change]) -> list[Position]:
    return [msgspec.json.decode(value, type=Position) for key, value in changes if key == POSITION and value]
