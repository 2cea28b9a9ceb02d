"""Logs to topics, and topics to files."""

import base64
import sys
import time
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from stream.core.errors import BrokerError, TopicError
from stream.files import sink
from stream.formats.registry import BadRow, BadRows, Form
from stream.kafka.client.admin import Outbox, consumer, reach
from stream.kafka.client.rights import Right, require
from stream.kafka.topics.admin import creation
from stream.mappings import read_log
from stream.settings import Settings

_encode = msgspec.json.Encoder().encode


def replay(
    settings: Settings,
    form: Form,
    data: Path,
    topic: str,
    rate: float | None,
    speed: float | None,
    limit: int | None,
    stopped: Callable[[], bool] = lambda: False,
    heard: Callable[[int], None] = lambda _: None,
) -> tuple[int, BadRows]:
    """Publish a log until its end, or until `stopped`; return the number of events and the rows left out.

    `heard` is told again and again how many there are. Raises BrokerError or TopicError.
    """
    rows = read_log(data, form)
    if str(data) != "-":  # a log of another shape is told before Kafka is waited for
        rows = chain(list(islice(rows, 1)), rows)
    client = reach(settings)
    require(settings, client, [Right(ResourceType.TOPIC, topic, AclOperation.WRITE)])
    if topic not in client.list_topics(timeout=10).topics:
        named = settings.model_copy(update={"events_topic": topic})
        raise TopicError(f"there is no topic {topic}", f"create it: {creation(named)}")
    out, bad = Outbox(settings), BadRows()
    published, began, first = 0, time.monotonic(), None
    for row in rows:
        if isinstance(row, BadRow):
            bad.add(row)
            continue
        bad.saw(row.timestamp, row.timestamp)
        first = row.timestamp if first is None else first
        due = published / rate if rate else (row.timestamp - first) / 1000 / speed if speed else 0.0
        while (wait := began + due - time.monotonic()) > 0 and not stopped():
            out.wait(min(wait, 0.2))
            heard(published)
        if stopped():
            break
        out.put(topic, _encode(row), row.user_id.encode())
        published += 1
        heard(published)
        if out.failed or published == limit:
            break
    out.end("events")
    return published, bad


def capture(
    settings: Settings,
    topic: str,
    path: Path,
    envelope: bool,
    limit: int | None,
    follow: bool,
    heard: Callable[[int], None] = lambda _: None,
) -> tuple[int, int]:
    """Write a topic's committed records to a file; return (written, left out). `heard` is told how many there are."""
    client = reach(settings)
    require(settings, client, [Right(ResourceType.TOPIC, topic, AclOperation.READ)])
    known = client.list_topics(timeout=10).topics.get(topic)
    if known is None:
        raise TopicError(f"there is no topic {topic}", "check --topic")
    reader = consumer(settings, **{"group.id": "forecart-capture", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, number, 0) for number in known.partitions])
    written = skipped = 0
    to_end, out = set(known.partitions), sink(path)
    try:
        while to_end or follow:
            for message in reader.consume(1000, 0.5):
                if error := message.error():
                    if error.name() != "_PARTITION_EOF":
                        raise KafkaException(error)
                    to_end.discard(message.partition())
                    continue
                line = _enveloped(message) if envelope else _plain(message.value())
                if line is None:
                    skipped += 1
                    continue
                out.write(line + b"\n")
                written += 1
                if written == limit:
                    return written, skipped
            out.flush()
            heard(written)
    except KafkaException as error:
        raise BrokerError(
            f"{topic} cannot be read: {error.args[0].str()}", "check the broker and the rights"
        ) from error
    except KeyboardInterrupt:
        pass
    finally:
        reader.close()
        if out is not sys.stdout.buffer:
            out.close()
    return written, skipped


def _plain(value: bytes | None) -> bytes | None:
    return None if value is None or b"\n" in value or b"\r" in value else value


def _enveloped(message: Any) -> bytes:
    def text(raw: bytes | None) -> Any:
        try:
            return raw if raw is None else raw.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(raw or b"").decode()}

    headers = [[name, text(value)] for name, value in message.headers() or []]
    place = {"partition": message.partition(), "offset": message.offset(), "timestamp": message.timestamp()[1]}
    return _encode(place | {"key": text(message.key()), "headers": headers, "value": text(message.value())})
