"""The records around a round: what is needed of one that comes in, what is published of a score or a dead letter."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, compress
from operator import attrgetter
from typing import Any, Protocol

import msgspec
import numpy as np

from stream.bundle.onnx import Bundle
from stream.core.events import ID_LENGTH_MAX, Cause, Event, Recommendation, Score, SessionView, Source
from stream.core.ring import causes
from stream.core.scoring import SCORED, Scores

Headers = list[tuple[str, bytes]]
USER, ITEM = b"u", b"i"  # first bytes of a changelog key
BATCH = 1_048_576  # bytes of the worker's batches, which brokers hold to max.message.bytes: the topics take as much
SCORE_ROOM = BATCH - 1_024  # bytes of a score with its key and headers: the batch has a head of its own
LETTER_ROOM = 65_536  # a dead letter is its record's value and this much of key and headers
# Bytes of the input's headers and key that a dead letter carries: with its own headers below that.
HEADER_ROOM, _KEY_ROOM = 49_152, 8_192
HEADERS, _HEADER = 100, 8  # how many a record may have; bytes that one costs beside its name and value
# Least timestamp of a record that has one, ms: -1 is none to Kafka, clients write 0, 1 or seconds, and since 2001
# milliseconds have had thirteen digits.
DATED = 10**12
_encode = msgspec.json.Encoder().encode
_KEY_OF, _VALUE, _HEADERS_OF = attrgetter("key"), attrgetter("value"), attrgetter("headers")


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why a record could not be read, a reason of `REASONS`, and what its dead letter says besides."""

    reason: str
    facts: dict[str, str]


class Record(Protocol):
    """What is needed of a Kafka record; `timestamp` in ms, below `DATED` where there is none.

    One that could not be read has a `fault`, and no value.
    """

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, how many ms an event may lie after its record's timestamp, and after now, and what ids may be."""

    event_bytes: int
    dead_letter_bytes: int
    future: int
    id_characters: int = ID_LENGTH_MAX
    printable: bool = True


class Message(msgspec.Struct, gc=False):
    """One record to publish; a value of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


def fault_of(record: Record) -> Fault | None:
    """Return why a record could not be read, None where it was."""
    return getattr(record, "fault", None)


def header_bytes(headers: Sequence[tuple[str, bytes]]) -> int:
    """Return what headers weigh, those without name and value too."""
    return sum(len(name.encode()) + len(value or b"") + _HEADER for name, value in headers)


def weight(message: Message) -> int:
    """Return the bytes of a record: key, value, headers."""
    headers = header_bytes(message.headers) if message.headers else 0
    return len(message.key or b"") + len(message.value or b"") + headers


def held(records: Sequence[Record] | Sequence[Message]) -> int:
    """Return the bytes that records hold: keys, values, headers."""
    names_and_values = chain.from_iterable(chain.from_iterable(map(_HEADERS_OF, records)))
    parts = chain(map(_KEY_OF, records), map(_VALUE, records), names_and_values)
    return sum(map(len, filter(None, parts)))


def values_held(messages: Sequence[Message]) -> int:
    """Return the bytes of messages' values alone."""
    return sum(map(len, filter(None, map(_VALUE, messages))))


class Publisher:
    """Write the records that are published of a bundle's scores and of what could not be scored."""

    def __init__(self, bundle: Bundle, topic: str, limits: Limits) -> None:
        self._manifest, self._vocabulary, self._step = bundle.manifest, bundle.vocabulary, bundle.intent_step
        self._topic, self._largest = topic, limits.dead_letter_bytes
        # Written as a dictionary by horizon is, and made in a third of the time.
        horizons, self._published = bundle.manifest.meaning.horizons, bundle.manifest.published
        names = {f"p{i}": horizons[i] for i in self._published}
        made = msgspec.defstruct("Intent", [(p, float) for p in names], rename=names, gc=False)
        self._intent: Any = made if names else dict  # an empty one is left out

    def scored(
        self,
        number: int,
        records: Sequence[Record],
        events: Sequence[Event],
        keys: Sequence[bytes],
        scores: Scores,
        now: int,
    ) -> list[Message]:
        """Return the scores of a chunk of partition `number`, in order.

        `records` are those of the events, `keys` their shoppers' ids; `now` (ms) is written as `scored_at`.
        """
        probabilities, model = self._intent, self._manifest.model
        done = (scores.outcome == SCORED).tolist()
        # Seven digits are more than float32 holds, and half the bytes of its shortest double.
        intent = scores.intent[:, self._published].astype(np.float64).round(7).tolist()
        length, started, late = scores.length.tolist(), scores.started.tolist(), scores.late.tolist()
        nothing: list[list[Any]] = [[]] * len(events)
        recommended, why = self._recommended(scores) or nothing, self._why(scores) or nothing
        rows = zip(events, records, keys, intent, length, started, late, recommended, why, strict=True)
        messages = []
        for event, source, key, p, so_far, since, is_late, items, because in compress(rows, done):
            value = Score(
                event.event_id,
                event.user_id,
                Source(number, source.offset),
                event.timestamp,
                now,
                model,
                SessionView(so_far, since),
                probabilities(*p),
                items,
                is_late,
                because,
            )
            message = Message(key, _encode(value), source.headers)
            if (items or because or source.headers) and weight(message) > SCORE_ROOM:
                # What remains is bounded, as ids and headers are.
                message.value = _encode(msgspec.structs.replace(value, recommendations=[], why=[]))
            messages.append(message)
        return messages

    def _recommended(self, scores: Scores) -> list[list[Recommendation]]:
        if scores.items is None or scores.item_scores is None:
            return []
        names, known, new = self._vocabulary.items, len(self._vocabulary.items), scores.newcomers
        rows = zip(scores.items.tolist(), scores.item_scores.astype(np.float64).round(5).tolist(), strict=True)
        return [
            [
                Recommendation(names[item - 1] if item <= known else new[item], value)
                for item, value in zip(items, values, strict=True)
                if item  # a blank follows where there are fewer
            ]
            for items, values in rows
        ]

    def _why(self, scores: Scores) -> list[list[Cause]]:
        if scores.after is None or 0 not in self._published:  # causes are of the first horizon
            return []
        return causes(scores.after, self._step, self._manifest, self._vocabulary)

    def dead(self, number: int, source: Record, reason: str, cause: str = "") -> Message:
        """Make a dead letter: the raw bytes and, in headers, where they lay and why they are here."""
        place = {"topic": self._topic, "partition": str(number), "offset": str(source.offset)}
        facts = place | {"reason": reason, "timestamp": str(source.timestamp)}
        if fault := fault_of(source):
            facts |= fault.facts
        if cause:
            facts["cause"] = cause
        raw, largest = source.value, self._largest
        if raw is not None and len(raw) > largest:
            facts |= {"length": str(len(raw)), "sha256": hashlib.sha256(raw).hexdigest()}
            raw = raw[:largest]
        if source.key is not None and len(source.key) > _KEY_ROOM:
            facts["key-length"] = str(len(source.key))
        streams = place | {"exception": f"forecart.{reason}", "message": f"this record is no event: {reason}"}
        headers = [(f"forecart-{name}", value.encode()) for name, value in facts.items()]
        headers += [(f"__streams.errors.{name}", value.encode()) for name, value in streams.items()]
        key = source.key if source.key is None else source.key[:_KEY_ROOM]
        return Message(key, raw, [*_carried(source.headers), *headers])


def _carried(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """Keep the headers that a dead letter has room for."""
    room, kept = HEADER_ROOM, []
    for header in headers[:HEADERS]:
        room -= header_bytes([header])
        if room < 0:
            break
        kept.append(header)
    return kept
