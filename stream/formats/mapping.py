"""A shop's own log, described: which columns are an event's fields, how its times are written, what its types mean."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Literal

import msgspec

from stream.formats.instants import ISO

# The fields of an event by the names of their columns in a mapping.
FIELDS = {
    "user": "user_id",
    "item": "item_id",
    "time": "timestamp",
    "type": "type",
    "category": "category_id",
    "price": "price",
    "quantity": "quantity",
    "event_id": "event_id",
    "session": "session_id",
}
# The types that mean something to a model, by what a mapping calls them; others keep their names.
MEANINGS = {"view": "view", "cart": "addtocart", "purchase": "transaction"}
FORMATS = ("csv", "tsv", "json", "parquet")
_Names = str | int | list[str | int]


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Columns, or dotted paths of nested ones; without a type each event is of the one that `types` names."""

    user: str
    item: str
    time: str
    type: str | None = None
    category: str | None = None
    price: str | None = None
    quantity: str | None = None
    event_id: str | None = None
    session: str | None = None


class Time(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How times are written: numbers in a unit (s, ms, us, ns), or text: `iso`, or a pattern such as `%d.%m.%Y`."""

    unit: Literal["s", "ms", "us", "ns"] | None = None
    format: str | None = None
    zone: str = "UTC"  # of times that name none

    def __post_init__(self) -> None:
        if self.unit and self.format:
            raise ValueError("a time has a unit or a format, not both")
        if self.format and self.format != ISO and "%" not in self.format:
            raise ValueError(f"{self.format!r} is no format of a time: write iso, or a pattern such as %d.%m.%Y %H:%M")

    @property
    def form(self) -> str:
        """Return the unit or the format."""
        return self.unit or self.format or ISO


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A log's format, columns, times and types; what docs/mapping.md describes."""

    format: Literal["csv", "tsv", "json", "parquet"]
    columns: Columns
    time: Time = Time()
    types: dict[str, _Names] | str | int = {}

    def __post_init__(self) -> None:
        if isinstance(self.types, dict) == (self.columns.type is None):
            raise ValueError("write the column of types under columns, or one type for all events under types")
        paths = list(self.paths.values())
        if any(a != b and a == b[: len(a)] for a in paths for b in paths):
            raise ValueError("a column cannot be a part of another")
        renames(self.types)

    @property
    def paths(self) -> dict[str, tuple[str, ...]]:
        """Return the paths of an event's fields by their names."""
        given = {field: getattr(self.columns, name) for name, field in FIELDS.items()}
        nested = self.format in ("json", "parquet")
        return {field: tuple(path.split(".") if nested else [path]) for field, path in given.items() if path}

    def column(self, field: str) -> str:
        """Return the column of an event's field as it is written in the mapping."""
        return next(f"{getattr(self.columns, name)}" for name, of in FIELDS.items() if of == field)


def renames(types: dict[str, _Names] | str | int) -> dict[str, str]:
    """Return a model's types by the log's names for them; raise ValueError where a name has two meanings.

    >>> renames({"view": "page_view", "purchase": ["purchase", "order"]})
    {'page_view': 'view', 'purchase': 'transaction', 'order': 'transaction'}
    """
    found: dict[str, str] = {}
    for meaning, names in types.items() if isinstance(types, dict) else ():
        if meaning not in MEANINGS and meaning.removesuffix("s") in MEANINGS:
            raise ValueError(f"there is no meaning {meaning!r}: write {meaning.removesuffix('s')}")
        for name in names if isinstance(names, list) else [names]:
            if found.setdefault(str(name), of := MEANINGS.get(meaning, meaning)) != of:
                raise ValueError(f"the type {name!r} has two meanings")
    return found


class Types:
    """What a log's names of types are to a model; a name that the mapping gives another meaning is none itself."""

    def __init__(self, mapping: Mapping) -> None:
        self.names = renames(mapping.types)
        self._taken = set(self.names.values()) - self.names.keys()
        self.only = "" if isinstance(mapping.types, dict) else MEANINGS.get(str(mapping.types), str(mapping.types))

    def of(self, name: str) -> str | None:
        """Return a model's type, None where the name is none."""
        return self.names.get(name) or (None if name in self._taken else name)

    def table(self, types: Sequence[str]) -> dict[str, int]:
        """Return the places of a model's types by the log's names for them."""
        place = {name: i for i, name in enumerate(types)}
        if self.only:
            return {self.only: place[self.only]} if self.only in place else {}
        own = {name: i for name, i in place.items() if name not in self._taken}
        return own | {name: place[of] for name, of in self.names.items() if of in place}

    def lost(self, met: Iterable[str]) -> dict[str, list[str]]:
        """Return the names that a mapping gives and a log does not have, by their meanings."""
        found: dict[str, list[str]] = {}
        for name in self.names.keys() - set(met):
            found.setdefault(self.names[name], []).append(name)
        return {of: sorted(names) for of, names in sorted(found.items())}


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """Return the names that one may have been meant to be, the likeliest first.

    >>> nearest("product", ["user", "product_id", "prod"])
    ['product_id', 'prod']
    """
    by_fold = {each.casefold(): each for each in names}
    alike = get_close_matches(name.casefold(), by_fold, 3, 0.6)
    parts = [each for each in by_fold if each not in alike and name.casefold() in each]
    return [by_fold[each] for each in (*alike, *parts[: 3 - len(alike)])]


def counted(types: dict[str, int], most: int = 12) -> str:
    """Name the types of a log with their counts, the most frequent first.

    >>> counted({"page_view": 1200, "purchase": 3})
    'page_view 1,200, purchase 3'
    """
    ranked = sorted(types.items(), key=lambda each: -each[1])
    more = f" and {len(ranked) - most:,} more" if len(ranked) > most else ""
    return ", ".join(f"{name} {n:,}" for name, n in ranked[:most]) + more
