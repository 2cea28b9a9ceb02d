"""A format of logs made from a mapping: tables by their columns, JSON lines and other records by their paths."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from typing import Self
from zlib import crc32

import msgspec

from stream.core.events import BadEvent, Event, reason_of
from stream.core.printable import printable
from stream.formats.jsonlines import hint, record
from stream.formats.mapped import Mapped
from stream.formats.mapping import FIELDS, Mapping, counted, nearest
from stream.formats.plain import SHOWN
from stream.formats.registry import BadRow, Format
from stream.formats.rows import Rows, Values, written

_KINDS = {"csv": "a table", "tsv": "a table", "json": "JSON lines", "parquet": "Parquet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFormat(Format):
    """A format as a mapping says; `met` counts the types of what was read, by the log's names."""

    mapping: Mapping
    zone: tzinfo
    read_values: "_Reader"
    met: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, mapping: Mapping, name: str, zone: tzinfo = UTC) -> Self:
        """Make the format; `name` is that of the mapping."""
        columns = {name: getattr(mapping.columns, name) for name in FIELDS}
        given = ", ".join(f"{column} ({name})" for name, column in columns.items() if column)
        reader = _Reader(mapping, zone)
        table = mapping.format in ("csv", "tsv")
        return cls(
            expects=f"{_KINDS[mapping.format]} with {given}",
            parse=reader.cells if table else reader.line,
            header=reader.header if table else (),
            name=name,
            mapping=mapping,
            zone=zone,
            read_values=reader,
            met=reader.met,
        )

    def of_file(self, name: str) -> None:
        """Take the name of the file that is read next, by which its events' ids differ from those of other files."""
        self.read_values.file = f"{crc32(name.encode(errors='surrogateescape')):08x}-" if name else ""

    def own_names(self) -> dict[str, str]:
        """Return what the log, now read, calls the types of a model that it names otherwise."""
        names: dict[str, list[str]] = {}
        for name, of in self.read_values.rows.types.names.items():
            if name != of and name in self.met:
                names.setdefault(of, []).append(name)
        return {of: " or ".join(each) for of, each in names.items()}

    def again(self) -> Self:
        """Make the format once more, which has met nothing."""
        return self.of(self.mapping, self.name, self.zone)

    def meet(self, raw: bytes) -> None:
        """Count the type of a record that someone else makes an event of."""
        self.read_values.meet(raw)

    def events(self, rows: Iterable[Sequence[object]]) -> Iterator[Event | BadRow]:
        """Make events of the rows of a file that has columns, whose values come in the order of `columns`."""
        for line, values in enumerate(rows, 1):
            try:
                named, shown = dict(zip(self.mapping.paths, values, strict=True)), str(values)
                yield from self.held(self.read_values.values(named, line, shown), line, [shown])
            except ValueError as error:
                yield BadRow(line, "wrong_type", str(values)[:SHOWN], str(error))

    def missing(self) -> list[str]:
        """Say which types of the mapping the log, now read, does not have; what may be meant, and what it has."""
        lost = self.read_values.rows.types.lost(self.met)
        near = {name: nearest(name, self.met) for names in lost.values() for name in names}
        said = [
            f"{name!r}" + (f" (is it {' or '.join(map(repr, found))}?)" if found else "")
            for name, found in near.items()
        ]
        return [f"no event is of type {', '.join(said)}: the log has {counted(self.met)}"] if said else []


class _Reader:
    """Make events of a log's cells, lines or values."""

    def __init__(self, mapping: Mapping, zone: tzinfo) -> None:
        self.rows, self.met = Rows(mapping, zone), Counter[str]()
        self._name, self._paths = mapping.format, mapping.paths
        self._decoder = Mapped(mapping, zone) if mapping.format == "json" else None
        self.header = tuple(dict.fromkeys(path[0] for path in mapping.paths.values()))
        self._places = {field: self.header.index(path[0]) for field, path in mapping.paths.items()}
        self._told, self.file = False, ""

    def meet(self, raw: bytes) -> None:
        """Count the type of a record."""
        assert self._decoder is not None
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            if (name := written(self._decoder.values(raw).get("type"))) is not None:
                self.met[name] += 1

    def cells(self, cells: list[str], line: int) -> Iterable[Event | BadRow]:
        """Read a table's row."""
        return self.values({field: cells[place] for field, place in self._places.items()}, line, ",".join(cells))

    def line(self, cells: list[str], line: int) -> Iterable[Event | BadRow]:
        """Read a line of JSON."""
        assert self._decoder is not None
        raw = record(cells[0].rstrip("\r\n")).encode()
        try:
            return self.values(self._decoder.values(raw), line, cells[0], raw)
        except (msgspec.DecodeError, RecursionError) as error:
            return [BadRow(line, reason_of(raw, error), _shown(cells[0]), hint(cells[0]))]

    def values(self, values: Values, line: int, shown: str, raw: bytes = b"") -> list[Event | BadRow]:
        """Read a row's values, of JSON too where it is `raw`; raise ValueError."""
        if (name := written(values.get("type"))) is not None:
            self.met[name] += 1
            values["type"] = of = self.rows.types.of(name)
            if of is None:
                return [BadRow(line, "unknown_type", _shown(shown), f"{name!r} is given another meaning")]
        unread: dict[str, str] = {}
        event = self.rows.event(values, f"{self._name}-{self.file}{line}", unread)
        if isinstance(event, BadEvent):
            return [BadRow(line, event.reason, _shown(shown), self._lacking(values, raw))]
        return [*(BadRow(line, each, _shown(shown), why, lost=False) for each, why in unread.items()), event]

    def _lacking(self, values: Values, raw: bytes) -> str:
        """Say which columns a row lacks, and which of JSON's may be meant; once, since one row is shown."""
        if self._told:
            return ""
        self._told = True
        names = [".".join(path) for path in _paths(msgspec.json.decode(raw))] if raw else []
        empty = [".".join(self._paths[each]) for each in ("user_id", "item_id", "type", "timestamp", "event_id")
                 if each in self._paths and values.get(each) in (None, "")]  # fmt: skip
        near = {name: nearest(name, names) for name in empty}
        return ", ".join(
            f"no {name}" + (f": is it {' or '.join(found)}?" if found else "") for name, found in near.items()
        )


def _paths(record: object, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in record.items() if isinstance(record, dict) else ():
        if isinstance(value, dict):
            yield from _paths(value, (*before, name))
        else:
            yield (*before, name)


def _shown(row: str) -> str:
    return printable(row[:SHOWN].rstrip("\r\n"))
