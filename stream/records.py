"""Records as a round takes them in and hands them on, and how many bytes they may have."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Protocol

import msgspec

from stream.core.events import ID_LENGTH_MAX

Headers = list[tuple[str, bytes]]
USER, ITEM = b"u", b"i"  # first bytes of a changelog key
BATCH = 1_048_576  # bytes of the worker's batches, which brokers hold to max.message.bytes: the topics take as much
SCORE_ROOM = BATCH - 1_024  # bytes of a score with its key and headers: the batch has a head of its own
LETTER_ROOM = 65_536  # a dead letter is its record's value and this much of key and headers
# Bytes of the input's headers and key that a dead letter carries: with its own headers below that.
HEADER_ROOM, KEY_ROOM = 49_152, 8_192
HEADERS, _HEADER = 100, 8  # how many a record may have; bytes that one costs beside its name and value
# Least timestamp of a record that has one, ms: -1 is none to Kafka, clients write 0, 1 or seconds, and since 2001
# milliseconds have had thirteen digits.
DATED = 10**12
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
