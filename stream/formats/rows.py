"""The values of a shop's own log, whatever types they have, become events as a mapping says."""

from datetime import UTC, tzinfo
from decimal import Decimal
from math import isnan
from typing import Any

import msgspec

from stream.core.events import BadEvent, Event
from stream.formats.instants import Instants
from stream.formats.mapping import Mapping, Types
from stream.formats.values import WHOLE, looks_like, number, whole_id

TEXTS = ("user_id", "item_id", "type", "event_id", "category_id", "session_id")
_NEEDED = TEXTS[:4]
Values = dict[str, object]
"""Of a row, by an event's fields."""


class Rows:
    """Make events of a log's values, whatever types they have."""

    def __init__(self, mapping: Mapping, zone: tzinfo = UTC) -> None:
        self.mapping, self.types = mapping, Types(mapping)
        self.times = Instants(mapping.time.form, zone)
        self._texts = [field for field in TEXTS if field in mapping.paths]
        self._numbers = [field for field in ("price", "quantity") if field in mapping.paths]

    def event(self, values: Values, position: str, unread: dict[str, str] | None = None) -> Event | BadEvent:
        """Make an event, with the type as the log names it; without a column of ids `position` is its id.

        Raises ValueError for a value that cannot be read. With `unread`, that is of a file, what an event may lack is
        left out where it is of that kind, and what is wrong with it noted there by field.
        """
        found: dict[str, Any] = {"event_id": position, "type": self.types.only}
        for field in self._texts:
            try:
                found[field] = text(values[field]) if unread is None else written(values[field])
            except ValueError as error:
                if unread is None or field in _NEEDED:
                    raise ValueError(f"{self.mapping.column(field)}: {error}") from error
                found[field], unread[field] = None, str(error)
        if values["timestamp"] in (None, "") or any(found[field] is None for field in _NEEDED):
            return BadEvent("missing_field")
        found["timestamp"] = self.times.one(values["timestamp"])
        for field in self._numbers:
            try:
                found[field] = amount(values[field])
            except ValueError as error:
                if unread is None:
                    raise
                unread[field] = str(error)
        try:
            return msgspec.convert(found, Event)
        except msgspec.ValidationError as error:
            raise ValueError(looks_like(found["timestamp"]) or str(error)) from error


def text(value: object) -> str | None:
    """Return an id as text, None where there is none; raise ValueError for what no id can be.

    >>> text(1002), text(1002.0), text("A-1"), text("")
    ('1002', '1002', 'A-1', None)
    """
    if isinstance(value, str):
        return value or None
    if value is None or (isinstance(value, float) and isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < WHOLE:
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Decimal) and value == (whole := int(value)):
        return str(whole)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no id")
    return str(value)


def written(value: object) -> str | None:
    """Do so with a value of a file, where people and tools have spelled it in their ways.

    >>> written("1002.0"), written("NULL")
    ('1002', None)
    """
    found = text(value)
    return found and (whole_id(found) or None)


def amount(value: object) -> float | None:
    """Return a price or a quantity, None where there is none; raise ValueError for what is no number."""
    if value is None or isinstance(value, str):
        return number(value) if value else None
    if isinstance(value, bool | list | dict | bytes):
        raise ValueError(f"{value!r} is no number")
    return number(str(value))
