"""The wire records, and the way from raw bytes to an event or to the reason why not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, cast

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

ID_LENGTH_MAX = 256
Id = Annotated[str, Meta(min_length=1, max_length=ID_LENGTH_MAX)]
Timestamp = Annotated[int, Meta(gt=0, lt=2**53)]


class Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One thing that a user did; `timestamp` in milliseconds since 1970, UTC."""

    event_id: Id
    user_id: Id
    type: Id
    item_id: Id
    timestamp: Timestamp
    category_id: Annotated[str, Meta(max_length=ID_LENGTH_MAX)] | None = None
    price: float | None = None
    quantity: float | None = None
    session_id: Annotated[str, Meta(max_length=ID_LENGTH_MAX)] | None = None


class Source(msgspec.Struct, frozen=True, gc=False):
    """Where an event lay in the input topic."""

    partition: int
    offset: int


class Recommendation(msgspec.Struct, frozen=True, gc=False):
    """An item of the catalog and its logit, the best first in a list."""

    item_id: str
    score: float


class Cause(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A recent event and what it adds to the intent of the first horizon; `event_time` in ms."""

    event_time: int
    type: str
    contribution: float
    item_id: str = ""


class SessionView(msgspec.Struct, frozen=True, gc=False):
    """The session that an event belongs to: events so far, and the first one's time in ms."""

    length: int
    started: int


class Score(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What Forecart says about one event; times in milliseconds since 1970, UTC."""

    event_id: str
    user_id: str
    source: Source
    event_time: int
    scored_at: int
    model: str
    session: SessionView
    intent: dict[str, float] = {}
    recommendations: list[Recommendation] = []
    late: bool = False
    why: list[Cause] = []


@dataclass(frozen=True, slots=True)
class BadEvent:
    """A record that is no event, with one of the reasons of `REASONS`."""

    reason: str


# The reasons of dead letters. Position 0 of the table that scoring uses means "scored".
REASONS = (
    "null",  # no value: a tombstone
    "empty",
    "oversized",
    "not_utf8",
    "not_json",
    "too_deep",
    "missing_field",
    "wrong_type",
    "unknown_type",
    "future",
    "duplicate",
    "late",
    "unscorable",
    "not_finite",
    "unreadable",  # a broken batch
    "inflated",  # a batch that is too large when it is inflated
    "bad_id",  # an id that is published is too long, or not printable
)

_decode, _TIME = msgspec.json.Decoder(Event).decode, attrgetter("timestamp")


def decode(raw: bytes | None, newest: int, largest: int) -> Event | BadEvent:
    """Decode one record; `newest` is the largest timestamp (ms) believed, `largest` the size limit in bytes.

    >>> decode(b'{"event_id":"e","user_id":"u","type":"view","item_id":"i"}', 9, 99)
    BadEvent(reason='missing_field')
    """
    if not raw:
        return BadEvent("null" if raw is None else "empty")
    if len(raw) > largest:
        return BadEvent("oversized")
    try:
        event = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return BadEvent(reason_of(raw, error))
    return BadEvent("future") if event.timestamp > newest else event


def decode_all(raws: Sequence[bytes | None], newest: NDArray[np.int64], largest: int) -> list[Event] | None:
    """Decode a chunk of records, `newest` by record, in one go; None where `decode` finds one of them no event."""
    try:
        if max(map(len, cast(Sequence[bytes], raws)), default=0) > largest:
            return None
        events = list(map(_decode, cast(Sequence[bytes], raws)))
    except (TypeError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # TypeError: one has no value
        return None
    times = np.fromiter(map(_TIME, events), np.int64, len(events))
    return None if (times > newest).any() else events


def plain(raws: Sequence[bytes | None]) -> bool:
    """Tell whether JSON texts can hold no character that is not printable: the strings of such a one cannot either."""
    text = b"".join(filter(None, raws))
    return text.isascii() and b"\\" not in text and b"\x7f" not in text


def bad_id(event: Event, longest: int, printable: bool) -> str:
    r"""Say which of the ids that are published is longer than is allowed or not printable; nothing where none is.

    >>> bad_id(Event("e", "u", "view", "a\x1b[2J", 1), 256, True)
    'item_id holds U+001B, which is not printable'
    """
    for name in ("event_id", "user_id", "item_id"):
        found: str = getattr(event, name)
        if len(found) > longest or (printable and not found.isprintable()):
            return f"{name} {odd(found, longest, printable)}"
    return ""


def odd(name: str, longest: int = ID_LENGTH_MAX, printable: bool = True) -> str:
    r"""Say why an id may not be published, wherever it comes from; nothing where it may.

    >>> odd("a\x1b[2J")
    'holds U+001B, which is not printable'
    """
    if len(name) > longest:
        return f"has {len(name)} characters, more than {longest}"
    if printable and not name.isprintable():
        character = next(character for character in name if not character.isprintable())
        return f"holds U+{ord(character):04X}, which is not printable"
    return ""


def reason_of(raw: bytes, error: Exception) -> str:
    """Name the reason why a record cannot be decoded."""
    if isinstance(error, RecursionError):
        return "too_deep"
    if isinstance(error, msgspec.ValidationError):
        return "missing_field" if "missing required field" in str(error) else "wrong_type"
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    return "empty" if not re.search(r"\S", text) else "not_json"
