"""Offsets of a topic's partitions and of a group, asked for around what librdkafka's administrator gets wrong."""

from collections.abc import Iterable

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka import IsolationLevel as Isolation
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from stream.kafka.client.admin import consumer
from stream.settings import Settings

_SECONDS = 5.0
EARLIEST, LATEST = OffsetSpec.earliest(), OffsetSpec.latest()


def log_offsets(
    client: AdminClient,
    topic: str,
    numbers: Iterable[int],
    spec: OffsetSpec = LATEST,
    isolation: Isolation = Isolation.READ_UNCOMMITTED,
) -> dict[int, int]:
    """Return an offset of each partition; raise KafkaException, or TimeoutError where a partition has no leader.

    librdkafka gives -1001 for one without a leader, and no error.
    """
    asked = {TopicPartition(topic, number): spec for number in numbers}
    answers = client.list_offsets(asked, isolation_level=isolation, request_timeout=_SECONDS) if asked else {}
    found = {tp.partition: int(answer.result(_SECONDS + 1).offset) for tp, answer in answers.items()}
    if min(found.values(), default=0) < 0:
        raise TimeoutError(f"no offset of a partition of {topic}")
    return found


def group_reader(settings: Settings) -> Consumer:
    """Make a client that tells the group's offsets, without waiting for those of open transactions.

    It is no administrator: librdkafka's ends the process by SIGSEGV where the group's coordinator moved.
    """
    return consumer(settings, **{"group.id": settings.group, "isolation.level": "read_uncommitted"})


def group_offset(topic: str, number: int, offset: int, partitions: int) -> TopicPartition:
    """Return what the group commits of a partition: the offset, and with it the partition count that it belongs to."""
    return TopicPartition(topic, number, offset, metadata=str(partitions))


def group_offsets(reader: Consumer, topic: str, partitions: int) -> list[TopicPartition]:
    """Return where the group stands in each partition, below 0 for nowhere; raise KafkaException."""
    return list(reader.committed([TopicPartition(topic, number) for number in range(partitions)], _SECONDS))
