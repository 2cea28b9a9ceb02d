"""The formats of event logs, one entry each: training, scoring and replay read them all through `read`."""

import io
import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, BinaryIO

import msgspec

from stream.core.errors import DataError
from stream.core.events import ID_LENGTH_MAX, BadEvent, Event, bad_id, decode, reason_of
from stream.formats.jsonlines import hint as hint_of_json
from stream.formats.jsonlines import is_frame, record
from stream.formats.mapping import nearest
from stream.formats.packed import readable
from stream.formats.plain import LONG, SHOWN, text_lines
from stream.formats.rows import TEXTS, amount
from stream.formats.rows import text as id_text
from stream.formats.tables import OTHER_TEXT, SINGLE_QUOTED, Row, single_quoted, table
from stream.formats.values import EARLY, LATE, ODD_ID, UNITS, day, looks_like, moment, number, scaled, stated, whole_id

HOPELESS = 100  # this many bad rows and no good one: the file is of another format
_NEVER = 2**53
CP1252 = "cp1252"
_IN_UTF8 = "the text is no UTF-8: where letters are wrong, write it so: iconv -f ENCODING -t utf-8"
_ODD = re.compile(ODD_ID)
NO_TEXT = re.compile("[\udc80-\udcff]")


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no event: its line, counted from 1, the reason, how it begins, and what is wrong with it.

    One that is not `lost` is an event without a value that could not be read: the reason is the field's name.
    """

    line: int
    reason: str
    text: str
    hint: str = ""
    lost: bool = True


@dataclass(slots=True)
class BadRows:
    """What a reader tells: rows that were no events, by reason, values left out, by field, and the time of the rest."""

    count: Counter[str] = field(default_factory=Counter)
    first: dict[str, BadRow] = field(default_factory=dict)
    values: Counter[str] = field(default_factory=Counter)
    first_value: dict[str, BadRow] = field(default_factory=dict)
    period: tuple[int, int] | None = None  # of the events, ms
    numbered: str = ""  # the log's format where a unit of time can be named behind it
    strange: int = 0  # of their times no shop can have meant

    def __len__(self) -> int:
        return self.count.total()

    def add(self, row: BadRow, n: int = 1) -> None:
        """Count a row, or several of its kind."""
        count, first = (self.count, self.first) if row.lost else (self.values, self.first_value)
        count[row.reason] += n
        first.setdefault(row.reason, row)

    def saw(self, first: int, last: int, strange: int | None = None) -> None:
        """Take note of events' times (ms), and how many of them are strange; of one event's that is told by itself."""
        before, after = self.period or (first, last)
        self.period = min(before, first), max(after, last)
        self.strange += (not EARLY <= first < LATE) if strange is None else strange

    def days(self) -> list[str]:
        """Say the first and the last day of the log and, where times are strange, how many and what they may be."""
        if not self.period:
            return []
        first, last = self.period
        days = f"from {day(first)} to {day(last)}"
        if not self.strange:
            return [days]
        hint = looks_like(first if first < EARLY else last, self.numbered)
        if last < EARLY or first >= LATE:
            return [days, hint]
        times = "1 time is" if self.strange == 1 else f"{self.strange:,} times are"
        return [days, f"{times} before 1990 or after 2100: {hint}"]

    def lines(self) -> list[str]:
        """Describe what was left out, one line a reason."""
        rows = [(f"left out: {reason}", n, self.first[reason]) for reason, n in self.count.most_common()]
        how = {CP1252: "as"}
        rows += [
            (f"read {how.get(name, 'without')} {name}", n, self.first_value[name])
            for name, n in self.values.most_common()
        ]
        return [
            f"{n} row{'' if n == 1 else 's'} {what}, first in line {first.line}: {first.text!r}"
            + (first.hint and f" ({first.hint})")
            for what, n, first in rows
        ]


class _Bad(Exception):
    """Raised by a row's parser; its arguments are the reason and, where it helps, what is wrong with which value."""


@dataclass(frozen=True, slots=True)
class Format:
    """A log format: what a file looks like, and how one row becomes events."""

    expects: str
    parse: Callable[..., Iterable[Event | BadRow]]  # of a row's cells, its line and, where `numbered`, the unit
    header: tuple[str, ...] = ()  # of a table
    spare: tuple[str, ...] = ()  # its columns that may be absent
    header_may_lack: bool = False
    numbered: bool = False  # times are numbers, whose unit can be named
    name: str = ""
    strict: bool = False  # an event with ids that are not published, which no worker scores, is a bad row

    def rows(self, lines: Iterator[str]) -> Iterator[Row]:
        """Split lines into rows."""
        if self.header:
            return table(lines, self.header, self.spare, self.header_may_lack, self.means)
        return ((number, [line], 0) for number, line in enumerate(lines, 1) if not is_frame(line))

    def held(self, rows: Iterable[Event | BadRow], line: int, cells: list[str]) -> Iterable[Event | BadRow]:
        """Return what a row became; where the format is strict, its events with ids that are not published as bad."""
        return map(partial(_published, line=line, cells=cells), rows) if self.strict else rows

    @property
    def means(self) -> str:
        """Say what a file of the format looks like."""
        return f"{self.name} means: {self.expects}"


Form = str | Format
"""A format, or the name of one."""


def name_of(form: Form) -> str:
    """Return a format's name."""
    return form if isinstance(form, str) else form.name


def numbered(form: Form) -> str:
    """Return a format's name where a unit of time can be named behind it."""
    name = name_of(form).partition(":")[0]
    return name if name in (*NUMBERED, "parquet") else ""


def named(form: str) -> Format:
    """Return the format of a name; `NAME:UNIT` has times in s, us or ns. Raises KeyError for what is none.

    >>> named("retailrocket:s").name
    'retailrocket:s'
    """
    name, colon, unit = form.partition(":")
    found = FORMATS[name]
    if not colon:
        return replace(found, name=form)
    if not found.numbered or unit not in UNITS:
        raise KeyError(form)
    return replace(found, name=form, parse=partial(found.parse, unit=unit))


def strict(form: Form) -> Format:
    """Return a format that leaves out what no worker would score for its ids."""
    return replace(named(form) if isinstance(form, str) else form, strict=True)


def read(file: BinaryIO, form: Form) -> Iterator[Event | BadRow]:
    """Yield the events and the bad rows of a log in its order, whatever its compression and encoding.

    Raises DataError where the file cannot be read, or is not of the format at all.
    """
    form = named(form) if isinstance(form, str) else form
    good, bad, foreign = 0, BadRows(), deque[BadRow]()
    with readable():
        for row in _rows(text_lines(file, lambda *line: foreign.append(cp1252(*line))), form):
            while foreign:
                bad.add(told := foreign.popleft())
                yield told
            if isinstance(row, BadRow):
                bad.add(row)
            else:
                good += 1
            yield row
            if not good and len(bad) >= HOPELESS:
                break
    if bad and not good:
        raise wrong_format(form, bad)


def one(line: bytes, form: Format) -> Event | BadRow | None:
    """Return what the first row of a line is, None where it has none."""
    return next(_rows(text_lines(io.BytesIO(line)), form), None)


def cp1252(line: int, text: str) -> BadRow:
    """Tell of a line that is no UTF-8, and was read as cp1252."""
    return BadRow(line, CP1252, _shown([text]), _IN_UTF8, lost=False)


def wrong_format(form: Format, bad: BadRows) -> DataError:
    """Return the error for a log of which these rows were read, and none was of the format."""
    bad.numbered = numbered(form)
    found = [f"not one of the first {len(bad)} rows is of format {form.name}", *bad.lines(), *bad.days()[1:]]
    return DataError("\n  ".join(found), form.means)


def _rows(lines: Iterator[str], form: Format) -> Iterator[Event | BadRow]:
    for line, cells, wider in form.rows(lines):
        try:
            if cells[0].startswith(LONG):
                raise _Bad("oversized", hint_of_json(cells[0]))
            if not all(map(str.isascii, cells)) and any(map(NO_TEXT.search, cells)):
                raise _Bad("not_utf8", OTHER_TEXT)
            if wider:
                said = (
                    f"{len(cells)} cells, and {len(cells) - wider} columns: a cell with a separator in it needs quotes"
                )
                raise _Bad("extra_field" if wider > 0 else "missing_field", said)
            yield from form.held(form.parse(cells, line), line, cells)
        except _Bad as bad:
            yield BadRow(line, bad.args[0], _shown(cells), _told(cells, *bad.args[1:]))
        except ValueError as error:  # of a value that cannot be read
            yield BadRow(line, "wrong_type", _shown(cells), _told(cells, str(error)))


def _told(cells: list[str], hint: str = "") -> str:
    return SINGLE_QUOTED if single_quoted(cells) else hint


def _published(row: Event | BadRow, line: int, cells: list[str]) -> Event | BadRow:
    fault = "" if isinstance(row, BadRow) else bad_id(row, ID_LENGTH_MAX, printable=True)
    return BadRow(line, "bad_id", _shown(cells), fault) if fault else row


def _shown(row: list[str]) -> str:
    return ",".join(row).removeprefix(LONG)[:SHOWN].rstrip("\r\n").encode(errors="backslashreplace").decode()


def _event(line: int, prefix: str, **fields: Any) -> Event:
    if not all(fields[name] for name in ("user_id", "item_id")):
        raise _Bad("missing_field")
    if any(len(value) > ID_LENGTH_MAX for value in fields.values() if isinstance(value, str)):
        raise _Bad("wrong_type")
    try:
        return msgspec.convert({"event_id": f"{prefix}-{line}", **fields}, Event)
    except msgspec.ValidationError as error:
        raise _Bad("wrong_type", looks_like(fields["timestamp"], numbered(prefix))) from error


def _spared(name: str, read_: Callable[[Any], Any], value: object, line: int) -> tuple[Any, list[BadRow]]:
    """Read a value that an event may lack; one that cannot be read is told, and the event goes without it."""
    try:
        return read_(value), []
    except ValueError as error:
        return None, [BadRow(line, name, f"{value}"[:SHOWN], str(error), lost=False)]


def _id(column: str, text: str) -> str:
    return str(_named(column, whole_id, text))


def _typed(types: dict[str, str], name: str) -> str:
    if (name := stated(name)) not in types:
        raise _Bad("unknown_type", f"{name!r} is none of {', '.join(types)}: name its meaning in a mapping")
    return types[name]


def _canonical(row: list[str], line: int, unit: str = "ms") -> Iterable[Event | BadRow]:
    raw = row[0].rstrip("\r\n").encode()
    event = decode(raw, _NEVER, _NEVER)
    if isinstance(event, BadEvent):
        return _written(row[0], line, unit)
    if unit != "ms":
        event = msgspec.structs.replace(event, timestamp=scaled(event.timestamp, unit))
    return _tidied(event, line)


_texts = attrgetter(*(name for name in TEXTS if name != "event_id"))  # an event's id is its writer's own


@lru_cache(1 << 16)  # users, items and types repeat
def _odd(text: str | None) -> bool:
    return text is not None and bool(_ODD.search(text))


def _tidied(event: Event, line: int) -> list[Event | BadRow]:
    """Take the ids of an event as they are taken of other files."""
    if not any(map(_odd, _texts(event))):
        return [event]
    ids = {name: value for name in TEXTS if (value := getattr(event, name))}
    tidy, unread = dict[str, Any](), list[Event | BadRow]()
    for name, value in ids.items():
        if name in _NEEDED:
            tidy[name] = _id(name, value)
        else:
            tidy[name], bad = _spared(name, whole_id, value, line)
            unread += bad
    if lacking := [name for name in _NEEDED if not tidy[name]]:
        raise _Bad("missing_field", f"no {', '.join(lacking)}")
    return [*unread, msgspec.structs.replace(event, **{name: value or None for name, value in tidy.items()})]


def _written(text: str, line: int, unit: str) -> Iterable[Event | BadRow]:
    """Read an event whose ids are numbers, whose time or numbers are text, or whose time is not in milliseconds."""
    raw = record(text).encode()
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise _Bad(reason_of(raw, error), hint_of_json(text)) from error
    if lacking := [name for name in (*_NEEDED, "timestamp") if fields.get(name) is None]:
        raise _Bad("missing_field", _lacking(lacking, fields))
    fields["timestamp"] = _named("timestamp", partial(moment, unit=unit), str(fields["timestamp"]))
    unread = list[BadRow]()
    for name in _NEEDED:
        if not isinstance(fields[name], str):
            fields[name] = _named(name, id_text, fields[name])
    for name, read_ in _SPARE.items():
        if name in fields and not (read_ is id_text and isinstance(fields[name], str)):
            fields[name], bad = _spared(name, read_, fields[name], line)
            unread += bad
    try:
        return [*unread, *_tidied(msgspec.convert(fields, Event), line)]
    except msgspec.ValidationError as error:
        raise _Bad("wrong_type", looks_like(fields["timestamp"], "events") or _said(error)) from error


_NEEDED = TEXTS[:4]
_SPARE: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("category_id", "session_id"), id_text),
    **dict.fromkeys(("price", "quantity"), amount),
}


def _named(name: str, read: Callable[[Any], Any], value: object) -> Any:
    """Read a value; raise ValueError with the name of its field."""
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _said(error: msgspec.ValidationError) -> str:
    """Say which field is wrong, and how."""
    said, _, place = str(error).partition(" - at `$.")
    return f"{place.rstrip('`')}: {said}" if place else said


def _lacking(names: list[str], fields: dict[str, Any]) -> str:
    """Say which fields an event lacks, and what its own names for them may be."""
    near = {name: nearest(name, fields.keys() - {*_NEEDED, "timestamp"}) for name in names}
    said = [f"no {name}" + (f": is it {' or '.join(found)}?" if found else "") for name, found in near.items()]
    return f"{', '.join(said)}; a log with names of its own takes a --mapping, which forecart map --data FILE proposes"


_RETAILROCKET = ("timestamp", "visitorid", "event", "itemid", "transactionid")


def _retailrocket(row: list[str], line: int, unit: str = "ms") -> Iterable[Event]:
    time, user, name, item, _ = row
    kind = _typed({t: t for t in ("view", "addtocart", "transaction")}, name)
    ids = {"user_id": _id("visitorid", user), "item_id": _id("itemid", item)}
    return (_event(line, "retailrocket", **ids, type=kind, timestamp=moment(time, unit)),)


_TAOBAO = ("user_id", "item_id", "category_id", "behavior", "timestamp")
_TAOBAO_TYPES = {"pv": "view", "cart": "addtocart", "fav": "favourite", "buy": "transaction"}
# The nine days of the collection in UTC+8, ms: the original has stray rows from other years.
_TAOBAO_PERIOD = range(1_511_539_200_000, 1_512_316_800_000)


def _taobao(row: list[str], line: int) -> Iterable[Event | BadRow]:
    user, item, category, name, text = row
    kind, time = _typed(_TAOBAO_TYPES, name), moment(text, "s")
    if time not in _TAOBAO_PERIOD:
        raise _Bad("out_of_period", f"{day(time)}: the data set is of 2017-11-25 to 2017-12-03; {_OTHER_PERIOD}")
    of, unread = _spared("category_id", whole_id, category, line)
    ids = {"user_id": _id("user_id", user), "item_id": _id("item_id", item), "category_id": of or None}
    return (*unread, _event(line, "taobao", **ids, type=kind, timestamp=time))


_OTHER_PERIOD = "another log takes a --mapping, which forecart map --data FILE proposes"
_REES46 = (
    *("event_time", "event_type", "product_id", "category_id", "category_code"),
    *("brand", "price", "user_id", "user_session"),
)
_REES46_TYPES = {"view": "view", "cart": "addtocart", "remove_from_cart": "removefromcart", "purchase": "transaction"}


def _rees46(row: list[str], line: int) -> Iterable[Event | BadRow]:
    text, name, item, category, _, _, price, user, session = row
    cost, unread = _spared("price", number, price, line)
    of, lost = _spared("category_id", whole_id, category, line)
    fields = {"user_id": _id("user_id", user), "item_id": _id("product_id", item), "category_id": of or None}
    fields |= {"type": _typed(_REES46_TYPES, name), "session_id": stated(session) or None}
    return (*unread, *lost, _event(line, "rees46", **fields, price=cost, timestamp=moment(text)))


_TABLE = re.compile(r"""[,;|"]|^\s*['\[({]|['\])}]\s*$""")


def _session(row: list[str], line: int) -> Iterable[Event]:
    items = [whole_id(item) for item in row[0].split()]
    if _TABLE.search(row[0]):  # each of its rows would be a session
        raise _Bad("extra_field", "item ids are separated by spaces, without commas, semicolons, quotes and brackets")
    if "-2" in items:
        raise _Bad("extra_field", "this looks like SPMF: leave out its -1 and -2")
    # Without times the line's number is the time: lines are in order, and no gap within one is made up.
    return [
        _event(line, f"sessions-{place}", user_id=f"session-{line}", type="view", item_id=item, timestamp=line)
        for place, item in enumerate(items, 1)
    ]


FORMATS = {
    "events": Format(
        "one JSON object a line with event_id, user_id, type, item_id and timestamp (ms)", _canonical, numbered=True
    ),
    "retailrocket": Format(
        "a table with the header " + ",".join(_RETAILROCKET),
        _retailrocket,
        _RETAILROCKET,
        spare=("transactionid",),
        numbered=True,
    ),
    "taobao": Format("a table with or without the header " + ",".join(_TAOBAO), _taobao, _TAOBAO, header_may_lack=True),
    "rees46": Format(
        "a table with the header " + ",".join(_REES46),
        _rees46,
        _REES46,
        spare=("category_id", "category_code", "brand", "price", "user_session"),
    ),
    "sessions": Format("one session a line, item ids in click order, separated by spaces", _session),
}
NUMBERED = [name for name, form in FORMATS.items() if form.numbered]  # whose unit of time can be named
