"""librdkafka's clients, how to ask them, and the group metadata that fences a transaction."""

import logging
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from stream.core.errors import BrokerError, SettingError, UnreachableError
from stream.kafka.client.connection import probe, properties
from stream.kafka.client.errors import Kind, kind, passing, said
from stream.kafka.client.refusals import Heard
from stream.settings import Settings

log = logging.getLogger(__name__)
T = TypeVar("T")

PARTITIONER = "murmur2_random"  # as Java and aiokafka do; librdkafka's own default is CRC32
ANSWER = {"receive.message.max.bytes": 64 << 20}  # of one answer, and of what a batch in zstd inflates to
_SAY_SECONDS, _REACH_SECONDS = 2.0, 8.0  # before it is said that a broker is waited for, and after
_QUIET: dict[str, Any] = {"log_level": 0, "error_cb": lambda _error: None, "reconnect.backoff.max.ms": 1000}


def producer(settings: Settings, **more: Any) -> Producer:
    """Make a producer that partitions as Java does."""
    return _made(Producer, {**properties(settings), **_QUIET, "partitioner": PARTITIONER, **more})


def put(out: Producer, topic: str, value: bytes | None, key: bytes, **more: Any) -> None:
    """Queue a record; while the queue is full, let it drain."""
    while True:
        try:
            return out.produce(topic, value, key, **more)
        except BufferError:
            out.poll(0.1)


class Outbox:
    """Publish records one by one, and know whether all of them arrived."""

    def __init__(self, settings: Settings) -> None:
        self._out = producer(settings, **{"linger.ms": 5, "enable.idempotence": True})
        self.failed: list[Any] = []  # errors of records that did not arrive

    def put(self, topic: str, value: bytes | None, key: bytes) -> None:
        """Queue a record, once there is room for it."""
        put(self._out, topic, value, key, on_delivery=self._delivered)

    def wait(self, seconds: float) -> None:
        """Let records go out for up to so many seconds."""
        self._out.poll(seconds)

    def end(self, what: str) -> None:
        """Wait until all are acknowledged; raise BrokerError where one is not."""
        if left := self._out.flush(30) or self.failed:
            said = self.failed[0] if self.failed else f"{left} unacknowledged"
            raise BrokerError(f"{what} could not be published: {said}", "check the broker")

    def _delivered(self, error: Any, _message: Any) -> None:
        if error:
            self.failed.append(error)


def consumer(settings: Settings, **more: Any) -> Consumer:
    """Make a consumer that reads committed records and commits nothing by itself."""
    base = {"isolation.level": "read_committed", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    return _made(Consumer, {**properties(settings), **_QUIET, **base, **more})


def subscribe_all(reader: Consumer, topic: str) -> None:
    """Read all partitions of a topic from their beginnings, as no member of a group."""
    known = reader.list_topics(topic, 10).topics[topic].partitions
    reader.assign([TopicPartition(topic, number, 0) for number in known])


def admin(settings: Settings, **more: Any) -> AdminClient:
    """Make an administrator."""
    return _made(AdminClient, {**properties(settings), **_QUIET, **more})


def _made(kind: Callable[[dict[str, Any]], T], config: dict[str, Any]) -> T:
    try:
        return kind(config)
    except KafkaException as error:
        raise SettingError(
            f"Kafka's client refuses its settings: {error.args[0].str()}",
            "correct the file that kafka_properties names: protocol, credentials, the paths of the TLS files",
        ) from error


def reach(settings: Settings) -> AdminClient:
    """Return an administrator of a cluster that answers.

    Raises BrokerError where it turns us away, UnreachableError where none answers within 10 s; both say why.
    """
    heard = hear(settings)
    client = admin(settings, error_cb=heard.note)
    for seconds in (_SAY_SECONDS, _REACH_SECONDS):
        try:
            client.list_topics(timeout=seconds)
            return client
        except KafkaException as error:
            heard.note(error)
            client.poll(0)  # hands on what was heard meanwhile
        if heard.refused:
            break
        if seconds == _SAY_SECONDS:
            log.warning("waiting for Kafka at %s", heard.address)
    heard.look()
    raise heard.failure()


def hear(settings: Settings) -> Heard:
    """Begin to hear what clients of these settings say of their connections."""
    return Heard(properties(settings)["bootstrap.servers"], settings.kafka_properties, partial(probe, settings))


def ended(error: KafkaError, what: str) -> bool:
    """Tell the end of a partition from an error that may pass, also one of no partition; else raise BrokerError."""
    if error.code() == KafkaError._PARTITION_EOF:
        return True
    if kind(error) is not Kind.REFUSED and not error.fatal():
        return False
    raise BrokerError(f"{what} cannot be read: {error.str()}", "check the broker and the rights")


def again(deadline: float, call: Callable[[], T]) -> T:
    """Call until it succeeds, while its error may pass and `deadline` (monotonic seconds) is ahead."""
    while True:
        try:
            return call()
        except (KafkaException, TimeoutError) as error:
            if not passing(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def answered(what: str, seconds: float, call: Callable[[], T]) -> T:
    """Call until there is an answer, for up to `seconds`; raise UnreachableError without one, BrokerError for a no."""
    try:
        return again(time.monotonic() + seconds, call)
    except (KafkaException, TimeoutError) as error:
        if passing(error):
            raise UnreachableError(f"{what}: no answer from Kafka ({said(error)})", "check the brokers") from error
        raise BrokerError(f"{what}: {said(error)}", "check the brokers and the rights") from error


def group_metadata(group: str, generation: int, member: str, instance: str | None) -> bytes:
    """Write a consumer group's metadata as librdkafka serialises it, for `send_offsets_to_transaction`.

    The layout is private to librdkafka and held to its own consumer by a contract test. Raises ValueError
    for a generation below 0 or an empty member id: a broker accepts those without fencing.
    """
    if generation < 0 or not member:
        raise ValueError(f"not a member of {group}: generation {generation}, member id {member!r}")
    tail = b"\0" + instance.encode() + b"\0" if instance else b"\1"
    return b"CGMDv2:" + struct.pack("=i", generation) + group.encode() + b"\0" + member.encode() + b"\0" + tail
