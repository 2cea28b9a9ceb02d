"""Logs to topics, topics to files, and logs to scores without Kafka at all."""

import base64
import gzip
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec
from confluent_kafka import KafkaException, TopicPartition

from stream.core.errors import BrokerError, DataError, TopicError
from stream.core.formats import BadRow, BadRows, read
from stream.kafka.client import consumer, producer, reach
from stream.round import Headers, Limits, Message, Partition, Scorer
from stream.runtime import load as load_bundle
from stream.sessions import SessionStore
from stream.settings import Settings

_CHUNK = 4096
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Line:
    """A line of a log in the place of a Kafka record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


def _open(path: Path) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", "check --data") from error


def replay(
    settings: Settings, form: str, data: Path, topic: str, rate: float | None, speed: float | None, limit: int | None
) -> tuple[int, BadRows]:
    """Publish a log; return the number of events and the rows left out. Raises BrokerError or TopicError."""
    client = reach(settings)
    if topic not in client.list_topics(timeout=10).topics:
        raise TopicError(f"there is no topic {topic}", "create it: forecart topics apply")
    out = producer(settings, **{"linger.ms": 5, "enable.idempotence": True})
    bad, failed = BadRows(), []

    def delivered(error: Any, _message: Any) -> None:
        if error:
            failed.append(error)

    published, began, first = 0, time.monotonic(), None
    for row in read(_open(data), form):
        if isinstance(row, BadRow):
            bad.add(row)
            continue
        first = row.timestamp if first is None else first
        due = published / rate if rate else (row.timestamp - first) / 1000 / speed if speed else 0.0
        while (wait := began + due - time.monotonic()) > 0:
            out.poll(min(wait, 0.5))
        while True:
            try:
                out.produce(topic, _encode(row), row.user_id.encode(), on_delivery=delivered)
                break
            except BufferError:
                out.poll(0.1)
        published += 1
        if failed or published == limit:
            break
    if left := out.flush(30) or failed:
        raise BrokerError(f"events could not be published: {failed[0] if failed else f'{left} unacknowledged'}", "check the broker")
    return published, bad


def capture(
    settings: Settings, topic: str, path: Path, envelope: bool, limit: int | None, follow: bool
) -> tuple[int, int]:
    """Write a topic's committed records to a file; return (written, left out)."""
    client = reach(settings)
    known = client.list_topics(timeout=10).topics.get(topic)
    if known is None:
        raise TopicError(f"there is no topic {topic}", "check --topic")
    reader = consumer(settings, **{"group.id": "forecart-capture", "enable.partition.eof": True})
    reader.assign([TopicPartition(topic, number, 0) for number in known.partitions])
    written = skipped = 0
    to_end, out = set(known.partitions), _create(path)
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
    except KafkaException as error:
        raise BrokerError(f"{topic} cannot be read: {error.args[0].str()}", "check the broker and the rights") from error
    except KeyboardInterrupt:
        pass
    finally:
        reader.close()
        if out is not sys.stdout.buffer:
            out.close()
    return written, skipped


def _create(path: Path) -> IO[bytes]:
    if str(path) == "-":
        return sys.stdout.buffer
    try:
        return gzip.open(path, "wb") if path.suffix == ".gz" else path.open("wb")
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}", "check the path") from error


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


def score_log(
    settings: Settings, bundle: Path, form: str, data: Path, dead_letters: Path | None, recommend: bool
) -> tuple[Counter[str], BadRows]:
    """Score a log and print the scores; return the counts of outcomes, and the rows left out."""
    limits = Limits(settings.max_event_bytes, settings.max_dead_letter_bytes, settings.max_future_seconds * 1000)
    scorer = Scorer(load_bundle(bundle), recommend, limits, str(data))
    part = Partition(0, SessionStore(scorer.layout))
    counts, bad = Counter[str](), BadRows()
    letters = _create(dead_letters) if dead_letters else None
    chunk: list[Line] = []
    for line in _lines(_open(data), form, bad):
        chunk.append(line)
        if len(chunk) == _CHUNK:
            _emit(scorer, part, chunk, counts, letters)
            chunk = []
    _emit(scorer, part, chunk, counts, letters)
    if letters:
        letters.close()
    return counts, bad


def _lines(file: BinaryIO, form: str, bad: BadRows) -> Iterator[Line]:
    """Yield the log as records; canonical lines go in raw, so that bad ones meet what the worker does with them."""
    now = int(time.time() * 1000)
    if form == "events":
        for offset, raw in enumerate(gzip.open(file) if file.peek(2)[:2] == b"\x1f\x8b" else file):  # type: ignore[attr-defined]
            yield Line(offset, now, None, raw.rstrip(b"\r\n"))
        return
    offset = 0
    for row in read(file, form):
        if isinstance(row, BadRow):
            bad.add(row)
        else:
            yield Line(offset, now, row.user_id.encode(), _encode(row))
            offset += 1


def _emit(scorer: Scorer, part: Partition, chunk: list[Line], counts: Counter[str], letters: IO[bytes] | None) -> None:
    if not chunk:
        return
    work = scorer.process(part, chunk, int(time.time() * 1000))
    _write(sys.stdout.buffer, work.scores)
    counts["scored"] += len(work.scores)
    counts.update(work.rejected)
    if letters:
        for message in work.dead:
            headers = {name: value.decode() for name, value in message.headers if name.startswith("forecart-")}
            letters.write(_encode(headers | {"value": (message.value or b"").decode(errors="replace")}) + b"\n")


def _write(out: IO[bytes], messages: list[Message]) -> None:
    out.write(b"".join(m.value + b"\n" for m in messages if m.value is not None))
