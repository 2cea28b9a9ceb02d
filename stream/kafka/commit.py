"""The transaction of a round: scores, dead letters, sessions, positions and offsets, all or none.

The order is the proof (rule 3): 1 begin, 2 produce, 3 flush until every record is acknowledged, 4 send the
input offsets with the membership, 5 commit. Whatever a transaction writes for a partition, it carries that
partition's offset, which is what fences it.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, NoReturn, cast

import msgspec
from confluent_kafka import KafkaException, TopicPartition

from stream.core.errors import BrokerError, FaultError, FencedError
from stream.core.pace import COMMIT_SHARE
from stream.kafka.client import again, passing, producer, put
from stream.kafka.membership import Membership, Owned
from stream.kafka.recovery import POSITION, Position
from stream.records import BATCH, LETTER_ROOM, Message
from stream.round import Work
from stream.settings import Settings

log = logging.getLogger(__name__)
CLAIM = b"w"
PARTITION_UA = -1  # librdkafka's: by the key
FAILPOINTS = ("before-begin", "after-flush", "after-offsets", "after-commit")
_INIT_SECONDS = 25.0
_CALL_SECONDS = 10.0
_SHARE = COMMIT_SHARE  # of the transaction's timeout that its calls may use up
_REST = 0.1  # of it that is left for those after a flush that took all
_FENCED = {"_FENCED", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "INVALID_PRODUCER_ID_MAPPING"}
_REFUSED = {"FENCED_INSTANCE_ID", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID"}  # of the membership
_LATE = "_TIMED_OUT"
_encode = msgspec.json.Encoder().encode


class Stand(NamedTuple):
    """Where a round leaves a partition: the next input offset, and the newest record time (ms)."""

    held: Owned
    offset: int
    clock: int

    @classmethod
    def of(cls, held: Owned) -> "Stand":
        """Take down where a partition stands now."""
        return cls(held, held.part.position, held.part.clock)


class Aborted(Exception):
    """Raised where a transaction was aborted and its partitions are to be recovered.

    `replaced` tells that another process has the membership: again and again, it is one of the same name.
    `acknowledged` tells that the broker has aborted it, and did not refuse the membership: what it held can be rolled
    back. `late` tells that it took too long.
    """

    def __init__(self, text: str, replaced: bool = False, acknowledged: bool = False, late: bool = False) -> None:
        super().__init__(text)
        self.replaced, self.acknowledged, self.late = replaced, acknowledged, late


class Committer:
    """The only owner of the transactional producer."""

    def __init__(self, settings: Settings, name: str, pause: Callable[[str], None] = lambda _point: None) -> None:
        self._settings, self.name, self._pause = settings, name, pause
        self._timeout = settings.transaction_timeout_seconds
        self._producer = producer(
            settings,
            **{
                "transactional.id": f"{settings.group}/{name}",  # a name has no slash: no two pairs are alike
                "transaction.timeout.ms": int(self._timeout * 1000),
                "linger.ms": 2,
                # With more than two on their way librdkafka's thread polls without rest; with one partitions wait.
                "max.in.flight.requests.per.connection": 2,
                "retry.backoff.ms": 1,  # a commit follows a commit: the broker is often not ready at once
                "retry.backoff.max.ms": 5,
                "queue.buffering.max.messages": 1_000_000,
                "queue.buffering.max.kbytes": 2 * settings.round_bytes // 1024 + 2048,
                "batch.num.messages": 100_000,
                "batch.size": BATCH,
                "message.max.bytes": max(BATCH, settings.max_dead_letter_bytes + LETTER_ROOM),
            },
        )
        self._open = False

    def start(self) -> None:
        """Fence and end what a predecessor of this name left open; raise BrokerError."""
        try:
            again(time.monotonic() + _INIT_SECONDS, lambda: self._producer.init_transactions(_INIT_SECONDS))
        except KafkaException as error:
            raise BrokerError(
                f"the transactions of {self.name} cannot begin: {error.args[0].str()}",
                "check the brokers and the rights on the transactional id",
            ) from error

    def claim(self, partition: int) -> None:
        """Prove that this producer is the newest of its name, before a recovery that may take long (rule 7).

        The proof is a transaction with one tombstone that no reader looks at; an older process of the same
        name ends here with FencedError.
        """
        deadline = time.monotonic() + self._timeout * _SHARE
        try:
            again(deadline, self._producer.begin_transaction)
            self._open = True
            self._send(self._settings.changelog, [Message(CLAIM + self.name.encode(), None)], partition)
            again(deadline, lambda: self._producer.commit_transaction(_left(deadline)))
        except KafkaException as error:
            self._fail(error)
        self._open = False

    def commit(self, works: Iterable[Work], stands: Mapping[int, Stand], membership: Membership) -> None:
        """Commit a round: its works, and where it leaves each partition.

        Raises Aborted where the transaction was aborted, FencedError where another process took over,
        BrokerError where no broker answers in time.
        """
        metadata = membership.metadata()
        deadline = time.monotonic() + self._timeout * _SHARE
        self._pause("before-begin")
        try:
            again(deadline, self._producer.begin_transaction)
            self._open = True
            for work in works:
                self._produce(work)
            for number, stand in stands.items():
                self._produce_position(number, stand)
            if left := self._producer.flush(max(deadline - time.monotonic(), 0.1)):
                raise TimeoutError(f"{left} records were not acknowledged in time")
            self._pause("after-flush")
            offsets = [TopicPartition(self._settings.events_topic, n, stand.offset) for n, stand in stands.items()]
            deadline = max(deadline, time.monotonic() + self._timeout * _REST)
            again(deadline, lambda: self._producer.send_offsets_to_transaction(offsets, metadata, _left(deadline)))
            self._pause("after-offsets")
            again(deadline, lambda: self._producer.commit_transaction(_left(deadline)))
        except (KafkaException, TimeoutError) as error:
            self._fail(error)
        self._open = False
        self._pause("after-commit")

    def abort(self) -> None:
        """Abort what is open, on the way out."""
        if self._open:
            self._open = False
            try:
                self._producer.abort_transaction(5)
            except KafkaException as error:
                log.warning("the open transaction was not aborted, the next start does: %s", error.args[0].str())

    def _produce(self, work: Work) -> None:
        settings = self._settings
        self._send(settings.scores_topic, work.scores)
        self._send(settings.dead_letters_topic, work.dead)
        self._send(settings.changelog, work.changes, work.partition)

    def _send(self, topic: str, messages: list[Message], partition: int = PARTITION_UA) -> None:
        produce, place = self._producer.produce, 0
        while place < len(messages):
            try:
                for message in messages[place:]:
                    if message.headers:
                        headers = cast(Any, list(message.headers))
                        produce(topic, message.value, message.key, partition, headers=headers)
                    else:
                        produce(topic, message.value, message.key, partition)
                    place += 1
            except BufferError:  # the queue is full: let it drain
                self._producer.poll(0.1)

    def _produce_position(self, number: int, stand: Stand) -> None:
        held = stand.held

        def acknowledged(error: Any, message: Any) -> None:
            if error is None:  # the last record of this partition's changelog in the transaction
                held.changelog, held.read_at = message.offset() + 1, time.monotonic()

        value, topic = _encode(Position(held.topic_id, stand.offset, stand.clock)), self._settings.changelog
        put(self._producer, topic, value, POSITION, partition=number, on_delivery=acknowledged)

    def _fail(self, error: KafkaException | TimeoutError) -> NoReturn:
        """Sort an error (rule 5): what can be aborted is, anything else ends the process."""
        if isinstance(error, TimeoutError):
            self._abort(str(error), _LATE)
        cause = error.args[0]
        if cause.txn_requires_abort() and not cause.fatal():
            self._abort(f"{cause.name()}: {cause.str()}", cause.name())
        self._end(error, "the transaction failed")

    def _abort(self, text: str, name: str) -> NoReturn:
        deadline = time.monotonic() + self._timeout * _SHARE
        try:
            again(deadline, lambda: self._producer.abort_transaction(_left(deadline)))
        except KafkaException as error:
            self._end(error, f"a transaction could not be aborted ({text})")
        self._open = False
        raise Aborted(text, name == "FENCED_INSTANCE_ID", acknowledged=name not in _REFUSED, late=name == _LATE)

    def _end(self, error: KafkaException, what: str) -> NoReturn:
        """Raise what ends the process: fenced, no answer from the brokers, or unknown."""
        cause = error.args[0]
        text = f"{cause.name()}: {cause.str()}"
        if cause.fatal() or cause.name() in _FENCED:
            raise FencedError(
                f"another process runs as {self.name}, or a transaction timed out ({text})",
                "stop the other process, or give one of them another --name; nothing is lost",
            ) from error
        if passing(cause):
            raise BrokerError(
                f"{what}: no answer from the brokers ({text})",
                "look at their health; a restart goes on from the last commit",
            ) from error
        raise FaultError(f"{what} ({text})", "a restart goes on from the last commit; please report it") from error


def _left(deadline: float) -> float:
    return min(max(deadline - time.monotonic(), 0.1), _CALL_SECONDS)
