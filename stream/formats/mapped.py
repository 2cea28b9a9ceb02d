"""Events of a topic in a shop's own shape: a decoder compiled from a mapping.

A chunk is decoded by a struct whose fields are an event's, named as the shop names them. What JSON says
otherwise than an event (a nested field, a time, a number for an id) is then put right for the whole chunk, field by
field. Types keep the shop's names, which the scorer looks up instead of the model's.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, tzinfo
from itertools import repeat
from operator import attrgetter
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.events import BadEvent, Event, Id, Timestamp, reason_of
from stream.formats.mapping import Mapping
from stream.formats.rows import TEXTS, Rows, Values
from stream.formats.values import WHOLE

_TIME, _TYPE = "timestamp", "type"
_JSON_TIMES: dict[str, Any] = {"ms": Timestamp, "s": float, "us": int, "ns": int}
_SHORT = Event.__annotations__["category_id"]
_encode = msgspec.json.Encoder().encode


class Mapped:
    """Decode the records of a topic whose events have a shop's own shape: a `Decoder`."""

    def __init__(self, mapping: Mapping, zone: tzinfo = UTC) -> None:
        self._rows = Rows(mapping, zone)
        self._times, self._only = self._rows.times, self._rows.types.only
        self._exact = mapping.time.form == "ms"
        self._identified = "event_id" in mapping.paths
        self._plain = _Shape(mapping, numbers=False)
        self._shape = self._plain
        self._numbers = _Shape(mapping, numbers=True)
        loose = {field: (path, (Any, None)) for field, path in mapping.paths.items()}
        struct, places = _compiled(loose)
        self._loose: Callable[[bytes], Any] = msgspec.json.Decoder(struct).decode
        self._gets = {field: attrgetter(place) for field, place in places.items()}

    def types(self, types: Sequence[str]) -> dict[str, int]:
        """Return the places of a model's types by the shop's names for them."""
        return self._rows.types.table(types)

    def one(self, raw: bytes | None, newest: int, largest: int, position: str) -> Event | BadEvent:
        """Decode a record; without a column of ids `position` is its id."""
        if not raw:
            return BadEvent("null" if raw is None else "empty")
        if len(raw) > largest:
            return BadEvent("oversized")
        try:
            values = self.values(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return BadEvent(reason_of(raw, error))
        try:
            event = self._rows.event(values, position)
        except (ValueError, OverflowError):
            return BadEvent("wrong_type")
        return BadEvent("future") if isinstance(event, Event) and event.timestamp > newest else event

    def values(self, raw: bytes) -> Values:
        """Return the values of a record by an event's fields, whatever types they have; raise what decoding does."""
        record = self._loose(raw)
        return {field: get(record) for field, get in self._gets.items()}

    def all(
        self,
        raws: Sequence[bytes | None],
        newest: NDArray[np.int64],
        largest: int,
        positions: Callable[[], Iterable[str]],
    ) -> list[Event] | None:
        """Decode a chunk in one go; None where `one` finds a record that is no event."""
        given = cast(Sequence[bytes], raws)
        try:
            if max(map(len, given), default=0) > largest or (events := self._decoded(given)) is None:
                return None
            times = self._timed(events)
        except (TypeError, ValueError, OverflowError):  # TypeError: one has no value
            return None
        if (times > newest).any() or (times <= 0).any() or (times >= WHOLE).any():
            return None
        put = self._shape.put
        if not self._identified:
            put(events, "event_id", positions())
        if self._only:
            put(events, _TYPE, repeat(self._only, len(events)))
        return events

    def _decoded(self, raws: Sequence[bytes]) -> list[Event] | None:
        other = self._numbers if self._shape is self._plain else self._plain
        for shape in (self._shape, other):
            try:
                events = shape.decode(raws)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            self._shape = shape  # a topic that has numbers for ids goes on having them
            return events
        return None

    def _timed(self, events: list[Event]) -> NDArray[np.int64]:
        """Put times in ms into events, and return them; raise ValueError."""
        told = map(attrgetter(_TIME), events)
        if self._exact:
            return np.fromiter(told, np.int64, len(events))
        times = self._times.many(list(told))
        self._shape.put(events, _TIME, times.tolist())
        return times


class _Shape:
    """A struct that JSON is decoded to, and what is put right in it."""

    def __init__(self, mapping: Mapping, numbers: bool) -> None:
        ids = Id | int if numbers else Id
        short = (_SHORT | int if numbers else _SHORT, None)
        kinds: dict[str, tuple[Any, ...]] = dict.fromkeys(("category_id", "session_id"), short)
        kinds |= dict.fromkeys(("price", "quantity"), (float | None, None))
        kinds[_TIME] = (_JSON_TIMES.get(mapping.time.form, str),)
        paths = mapping.paths
        self._struct, places = _compiled({field: (path, kinds.get(field, (ids,))) for field, path in paths.items()})
        self._far: dict[str, list[tuple[str, str]]] = {}  # by the object that they lie in, itself if it is ""
        for field, place in places.items():
            if place != field:
                within, _, leaf = place.rpartition(".")
                self._far.setdefault(within, []).append((field, leaf))
        self._numbers = [field for field in TEXTS if numbers and field in paths]
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(self._struct).decode

    def decode(self, raws: Sequence[bytes]) -> list[Event]:
        """Decode records as events whose times are still the shop's; raise what decoding does."""
        events = cast(list[Event], list(map(self._decode, raws)))
        for within, fields in self._far.items():
            objects = list(map(attrgetter(within), events)) if within else events
            for field, leaf in fields:
                self.put(events, field, map(attrgetter(leaf), objects))
        for field in self._numbers:
            if (texts := _as_text(list(map(attrgetter(field), events)))) is not None:
                self.put(events, field, texts)
        return events

    def put(self, events: list[Event], field: str, values: Iterable[object]) -> None:
        """Put values into a field of events."""
        deque(map(getattr(self._struct, field).__set__, events, values), maxlen=0)


def _compiled(
    fields: dict[str, tuple[tuple[str, ...], tuple[Any, ...]]],
) -> tuple[type[msgspec.Struct], dict[str, str]]:
    """Make a struct with an event's fields, given their paths and kinds; return where in it each of them is."""
    tree: dict[str, Any] = {}
    near: dict[str, str] = {}
    for field, (path, kind) in fields.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node.setdefault(path[-1], kind)
        if len(path) == 1:
            near.setdefault(path[0], field)
    # What stands elsewhere, or nowhere, has a name that no shop gives: U+FFFF is no character.
    blanks = {field: f"\uffff{field}" for field in Event.__struct_fields__ if field not in near.values()}
    struct, where = _level(tree, near, blanks)
    return struct, {field: where[path] for field, (path, _) in fields.items()}


def _level(
    tree: dict[str, Any], near: dict[str, str], blanks: dict[str, str]
) -> tuple[type[msgspec.Struct], dict[tuple[str, ...], str]]:
    """Make the struct of a level of JSON, and return where in it each path is."""
    fields: list[Any] = [(field, Any, None) for field in blanks]
    names, where = dict(blanks), dict[tuple[str, ...], str]()
    for n, (key, below) in enumerate(tree.items()):
        attribute = near.get(key, f"_{n}")
        names[attribute] = key
        if isinstance(below, dict):
            inner, places = _level(below, {}, {})
            fields.append((attribute, inner, *_default(inner)))
            where |= {(key, *path): f"{attribute}.{place}" for path, place in places.items()}
        else:
            fields.append((attribute, *below))
            where[(key,)] = attribute
    return msgspec.defstruct("Shape", fields, rename=names, kw_only=True, gc=False), where


def _default(struct: type) -> tuple[Any, ...]:
    """Return what stands for an object that JSON lacks, nothing where it must be there."""
    try:
        struct()
    except TypeError:
        return ()
    return (msgspec.field(default_factory=struct),)


def _as_text(values: list[Any]) -> list[Any] | None:
    """Write the numbers among ids as text, None where there are none; all at once where there is nothing else."""
    with suppress(TypeError):
        "".join(values)
        return None
    numbers = _encode(values)
    if b'"' in numbers or b"null" in numbers:
        return [str(value) if isinstance(value, int) else value for value in values]
    return numbers[1:-1].decode().split(",")
