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
from confluent_kafka import KafkaException

from stream.core.errors import BrokerError, FaultError
from stream.core.linger import COMMIT_SHARE
from stream.kafka.client.admin import again, producer, put
from stream.kafka.client.clocks import Clocks
from stream.kafka.client.deadline import Deadline
from stream.kafka.client.errors import Kind, kind, passing, said, unauthorized
from stream.kafka.client.offsets import group_offset
from stream.kafka.exactly_once.changelog import POSITION
from stream.kafka.group.membership import Membership, PartitionState
from stream.records import BATCH, LETTER_ROOM, Message
from stream.scoring.scorer import ChunkResult
from stream.settings import Settings
from stream.state.position import Position

log = logging.getLogger(__name__)
CLAIM = b"w"
PARTITION_UA = -1  # librdkafka's: by the key
FAILPOINTS = ("before-begin", "after-flush", "after-offsets", "after-commit")
_INIT_SECONDS = 10.0
_CALL_SECONDS = 3.0  # asked of one call, which is made again while its error may pass
_REST = 0.1  # of the transaction's timeout that is left for the calls after a flush that took all it may
_encode = msgspec.json.Encoder().encode


class Stand(NamedTuple):
    """Where a round leaves a partition: the next input offset, and the newest record time (ms)."""

    held: PartitionState
    offset: int
    clock: int

    @classmethod
    def of(cls, held: PartitionState) -> "Stand":
        """Take down where a partition stands now."""
        return cls(held, held.part.position, held.part.clock)


class Aborted(Exception):
    """Raised where a transaction was aborted and its partitions are to be restored.

    `why` sorts the error that led to it; `replaced` tells that another process has the membership: again and again, it
    is one of the same name.
    """

    def __init__(self, text: str, why: Kind = Kind.PASSING, replaced: bool = False) -> None:
        super().__init__(text)
        self.why, self.replaced = why, replaced


class ProducerLostError(Exception):
    """Raised where a producer can do nothing more, and what became of its transaction is not known.

    A new producer of the same transactional id settles it; then the partitions are recovered. `fenced` tells that a
    newer producer took over, or the transaction outlived its timeout.
    """

    def __init__(self, text: str, fenced: bool = False) -> None:
        super().__init__(text)
        self.fenced = fenced


class Committer:
    """The only owner of one transactional producer, whose calls all come from one thread."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        pause: Callable[[str], None] = lambda _point: None,
        note: Callable[[Any], None] = lambda _error: None,
        up_since: Callable[[float], bool] = lambda _when: True,
    ) -> None:
        """Take what stops at failpoints, what is told of lost connections, and what knows of outages.

        `up_since` tells whether there was a broker to talk to throughout since a time (monotonic seconds).
        """
        self._settings, self.name, self._pause = settings, name, pause
        self._timeout, self._clocks = settings.transaction_timeout_seconds, Clocks(settings)
        self._up_since = up_since
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
                "error_cb": note,
            },
        )
        self.deadline = Deadline()  # of the running call
        self._opened = 0.0  # when the open transaction began; 0: none is open
        self.proved = 0.0  # when Kafka last took what this producer did
        self.born = 0.0  # when it was ready to begin

    @property
    def outlived(self) -> bool:
        """Tell whether the open transaction is older than its timeout, so that the broker may have aborted it."""
        return bool(self._opened) and time.monotonic() - self._opened > self._timeout

    def start(self) -> None:
        """Fence and settle what a predecessor of this name left open; raise ProducerLostError, BrokerError."""
        try:
            self._do("init_transactions", time.monotonic() + _INIT_SECONDS)
            self._settle(time.monotonic() + _INIT_SECONDS)
        except (KafkaException, TimeoutError) as error:
            if not passing(error) and kind(error.args[0]) is Kind.REFUSED:
                raise BrokerError(
                    f"the transactions of {self.name} cannot begin: {said(error)}",
                    "check the rights on the transactional id, and transaction_timeout_seconds",
                ) from error
            raise ProducerLostError(f"the transactions of {self.name} cannot begin yet: {said(error)}") from error
        self._opened, self.born = 0.0, time.monotonic()
        self.proved = self.born

    def _settle(self, deadline: float) -> None:
        """Abort a transaction in all partitions, so that nothing of the predecessor's stays open in any (rule 7).

        Kafka 4.3 and 4.4 complete a transaction without markers in partitions that have no leader at that moment.
        Its records stay undecided there until the next marker of the same producer, which might commit some and abort
        others.
        """
        self._begin(deadline)
        settings, out = self._settings, self._producer
        for topic in (settings.scores_topic, settings.dead_letters_topic, settings.changelog):
            with self.deadline.of("list_topics", _CALL_SECONDS):
                known = out.list_topics(topic, _CALL_SECONDS)
            with self.deadline.of("produce", _CALL_SECONDS):
                for number in known.topics[topic].partitions:
                    put(out, topic, None, CLAIM + self.name.encode(), partition=number)
        if left := self._do("flush", deadline, most=_INIT_SECONDS):
            raise TimeoutError(f"{left} partitions take no records")
        self._do("abort_transaction", deadline)

    def claim(self, partition: int) -> None:
        """Prove that this producer is the newest of its name, before a recovery that may take long (rule 7).

        The proof is a transaction with one tombstone that no reader looks at; an older process of the same
        name loses its producer there. Raises SettingError where this machine's clock is wrong.
        """
        deadline = time.monotonic() + self._timeout * COMMIT_SHARE
        try:
            self._begin(deadline)
            topic, key = self._settings.changelog, CLAIM + self.name.encode()
            with self.deadline.of("produce", _CALL_SECONDS):
                put(self._producer, topic, None, key, partition=partition, on_delivery=self._clocks.measured())
            self._do("commit_transaction", deadline)
        except (KafkaException, TimeoutError) as error:
            self._fail(error)
        self._done()
        self._clocks.check()

    def commit(self, works: Iterable[ChunkResult], stands: Mapping[int, Stand], membership: Membership) -> None:
        """Commit a round: its works, and where it leaves each partition.

        Raises Aborted where the transaction was aborted, ProducerLostError where its end is not known, FaultError for
        an error that must not be, SettingError where this machine's clock is wrong: then what was taken for the future
        is not committed.
        """
        metadata = membership.metadata()
        deadline = time.monotonic() + self._timeout * COMMIT_SHARE
        self._pause("before-begin")
        try:
            self._begin(deadline)
            with self.deadline.of("produce", deadline - time.monotonic()):
                for work in works:
                    self._produce(work, deadline)
                for number, stand in stands.items():
                    self._produce_position(number, stand)
            if left := self._do("flush", deadline, most=self._timeout):  # of a slow link's, all that there is
                raise TimeoutError(f"{left} records were not acknowledged in time")
            self._clocks.check()
            self._pause("after-flush")
            offsets = [
                group_offset(self._settings.events_topic, number, stand.offset, stand.held.topics.partitions)
                for number, stand in stands.items()
            ]
            deadline = max(deadline, time.monotonic() + self._timeout * _REST)
            self._do("send_offsets_to_transaction", deadline, offsets, metadata)
            self._pause("after-offsets")
            if not self._up_since(self.born):  # what it committed last may lack markers, which this one would write
                raise ProducerLostError("Kafka was away since the producer began")
            self._do("commit_transaction", deadline)
        except (KafkaException, TimeoutError) as error:
            self._fail(error)
        self._done()
        self._pause("after-commit")

    def abort(self) -> None:
        """Abort what is open, on the way out."""
        if self._opened:
            self._opened = 0.0
            try:
                with self.deadline.of("abort_transaction", _CALL_SECONDS):
                    self._producer.abort_transaction(_CALL_SECONDS)
            except KafkaException as error:
                log.warning("the open transaction was not aborted, the next start does: %s", said(error))

    def _do(self, name: str, deadline: float, *given: Any, most: float = _CALL_SECONDS) -> Any:
        """Make a call of librdkafka's with what is left until a deadline (monotonic seconds), again while it passes.

        One attempt takes `most` seconds at most.
        """
        call = getattr(self._producer, name)

        def once() -> Any:
            seconds = min(max(deadline - time.monotonic(), 0.1), most)
            with self.deadline.of(name, seconds):
                return call(*given, seconds)

        return again(deadline, once)

    def _begin(self, deadline: float) -> None:
        def once() -> None:
            with self.deadline.of("begin_transaction", _CALL_SECONDS):
                self._producer.begin_transaction()

        again(deadline, once)
        self._opened = time.monotonic()

    def _done(self) -> None:
        self._opened, self.proved = 0.0, time.monotonic()

    def _produce(self, work: ChunkResult, deadline: float) -> None:
        settings = self._settings
        self._send(settings.scores_topic, work.scores, PARTITION_UA, deadline)
        self._send(settings.dead_letters_topic, work.dead, PARTITION_UA, deadline)
        self._send(settings.changelog, work.changes, work.partition, deadline)

    def _send(self, topic: str, messages: list[Message], partition: int, deadline: float) -> None:
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
            except BufferError as error:  # the queue is full: let it drain
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the queue stayed full before {topic}") from error
                self._producer.poll(0.1)

    def _produce_position(self, number: int, stand: Stand) -> None:
        held = stand.held

        def acknowledged(error: Any, message: Any) -> None:
            if error is None:  # the last record of this partition's changelog in the transaction
                held.changelog, held.read_at = message.offset() + 1, time.monotonic()

        value, topic = _encode(Position.of(held.topics, stand.offset, stand.clock)), self._settings.changelog
        put(self._producer, topic, value, POSITION, partition=number, on_delivery=self._clocks.measured(acknowledged))

    def _fail(self, error: KafkaException | TimeoutError) -> NoReturn:
        """Sort an error (rule 5): what can be aborted is; else the producer is lost, or the error must not be."""
        if isinstance(error, TimeoutError):
            self._abort(str(error))
        cause = error.args[0]
        if unauthorized(cause):
            self._abort_unauthorized(error)
        if cause.txn_requires_abort() and not cause.fatal():
            self._abort(said(error), kind(cause), cause.name() == "FENCED_INSTANCE_ID")
        self._lose(error, "the transaction failed")

    def _abort_unauthorized(self, error: KafkaException) -> NoReturn:
        """End at once: neither another transaction nor another producer would be allowed more."""
        if error.args[0].txn_requires_abort():
            self.abort()
        raise BrokerError(f"the transaction failed: Kafka refuses it ({said(error)})", "check the rights") from error

    def _abort(self, text: str, why: Kind = Kind.PASSING, replaced: bool = False) -> NoReturn:
        try:
            self._do("abort_transaction", time.monotonic() + _CALL_SECONDS)
        except (KafkaException, TimeoutError) as error:
            self._lose(error, f"a transaction could not be aborted ({text})")
        self._done()
        raise Aborted(text, why, replaced)

    def _lose(self, error: KafkaException | TimeoutError, what: str) -> NoReturn:
        """Give the producer up, but for an error that another producer would meet again."""
        if passing(error):
            raise ProducerLostError(f"{what}: no answer in time ({said(error)})") from error
        found = kind(error.args[0])
        if found is Kind.REFUSED:
            raise BrokerError(f"{what}: Kafka refuses it ({said(error)})", "check the rights and topics") from error
        if found is Kind.FAULT:
            raise FaultError(
                f"{what} ({said(error)})", "a restart goes on from the last commit; please report it"
            ) from error
        raise ProducerLostError(f"{what} ({said(error)})", found is Kind.FENCED) from error
