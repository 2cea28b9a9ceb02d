"""The formats of event logs, one entry each: training, scoring and replay read them all through `read`."""

import codecs
import csv
import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import BinaryIO, cast

import msgspec

from stream.core.errors import DataError
from stream.core.events import ID_LENGTH_MAX, BadEvent, Event, decode

HOPELESS = 100  # this many bad rows and no good one: the file is of another format
LONGEST = 1_048_576  # bytes of a line, as of a record: what follows up to its end is skipped
_SHOWN = 80  # characters of a bad row
_NEVER = 2**53
# None of the formats quotes: a stray quote is a character, and a row is always one line.
_unquoted = partial(csv.reader, quoting=csv.QUOTE_NONE)
_NO_TEXT = re.compile("[\udc80-\udcff]")
_LONG = "\ud800"  # before what is kept of a line that is too long: no bytes become it


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that is no event: its line, counted from 1, the reason, and how it begins."""

    line: int
    reason: str
    text: str


@dataclass(slots=True)
class BadRows:
    """The rows that were no events: counts by reason, and the first line of each."""

    count: Counter[str] = field(default_factory=Counter)
    first: dict[str, BadRow] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.count.total()

    def add(self, row: BadRow) -> None:
        """Count one row."""
        self.count[row.reason] += 1
        self.first.setdefault(row.reason, row)

    def lines(self) -> list[str]:
        """Describe what was left out, one line a reason."""
        return [
            f"{n} row{'' if n == 1 else 's'} left out: {reason}, first in line {first.line}: {first.text!r}"
            for reason, n in self.count.most_common()
            for first in (self.first[reason],)
        ]


class _Bad(Exception):
    """Raised by a row's parser; its argument is the reason."""


@dataclass(frozen=True, slots=True)
class Format:
    """A log format: what a file looks like, and how one row becomes events."""

    expects: str
    parse: Callable[[list[str], int], Iterable[Event]]
    header: tuple[str, ...] = ()
    header_may_lack: bool = False
    split: Callable[[Iterator[str]], Iterator[list[str]]] = _unquoted


def read(file: BinaryIO, name: str) -> Iterator[Event | BadRow]:
    """Yield the events and the bad rows of a log, gzipped or not, in its order.

    Raises DataError where the file cannot be read, or is not of the format at all.
    """
    form = FORMATS[name]
    good, bad = 0, BadRows()
    with _readable():
        for row in _rows(_text(file), form, name):
            if isinstance(row, BadRow):
                bad.add(row)
            else:
                good += 1
            yield row
            if not good and len(bad) >= HOPELESS:
                break
    if bad and not good:
        raise wrong_format(name, bad)


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a log as bytes without their ends, `LONGEST` at most; raise DataError where they break off."""
    with _readable():
        for line, _ in _lines(_plain(file)):
            yield line.rstrip(b"\r\n")


def wrong_format(name: str, bad: BadRows) -> DataError:
    """Return the error for a log of which these rows were read, and none was of the format."""
    found = [f"not one of the first {len(bad)} rows is of format {name}", *bad.lines()]
    return DataError("\n  ".join(found), f"{name} means: {FORMATS[name].expects}")


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except EOFError as error:
        raise DataError(
            "the log cannot be read to its end: its gzip stream has none",
            "it was cut off or damaged: copy it again, whole",
        ) from error
    except (OSError, zlib.error) as error:
        raise DataError(f"the log cannot be read to its end: {error}", "check that it is whole") from error


def _plain(file: BinaryIO) -> BinaryIO:
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, file))
    zipped = buffered.peek(2)[:2] == b"\x1f\x8b"
    return cast(BinaryIO, gzip.GzipFile(fileobj=buffered)) if zipped else buffered


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """Yield lines with their ends, and whether one was too long and is cut."""
    while line := file.readline(LONGEST + 1):
        cut = rest = len(line) > LONGEST and line[-1:] != b"\n"
        while rest:
            tail = file.readline(LONGEST)
            rest = bool(tail) and tail[-1:] != b"\n"
        yield (line[:LONGEST] if cut else line), cut


def _text(file: BinaryIO) -> Iterator[str]:
    """Yield lines as text; a byte that is no UTF-8 becomes a lone surrogate, which no text has: its row is bad."""
    mark = codecs.BOM_UTF8
    for line, cut in _lines(_plain(file)):
        text, mark = line.removeprefix(mark).decode(errors="surrogateescape"), b""
        yield _LONG + text[:_SHOWN].partition("\r")[0] if cut else text


def _rows(lines: Iterator[str], form: Format, name: str) -> Iterator[Event | BadRow]:
    rows = form.split(lines)
    line = 0
    while True:
        line += 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(line, "not_csv", str(error))
            continue
        if len(row) < 2 and not "".join(row).strip() and (line > 1 or not form.header):
            continue  # a blank line
        if line == 1 and form.header:
            if tuple(row[: len(form.header)]) == form.header:
                continue
            if not form.header_may_lack:
                raise DataError(f"the first line is {_shown(row)!r}", f"{name} means: {form.expects}")
        try:
            if row and row[0].startswith(_LONG):
                raise _Bad("oversized")
            if any(_NO_TEXT.search(cell) for cell in row):
                raise _Bad("not_utf8")
            yield from form.parse(row, line)
        except _Bad as bad:
            yield BadRow(line, str(bad), _shown(row).encode(errors="backslashreplace").decode())


def _shown(row: list[str]) -> str:
    return ",".join(row).removeprefix(_LONG)[:_SHOWN]


def _event(line: int, prefix: str, **fields: object) -> Event:
    if not all(fields[name] for name in ("user_id", "item_id")):
        raise _Bad("missing_field")
    if any(len(value) > ID_LENGTH_MAX for value in fields.values() if isinstance(value, str)):
        raise _Bad("wrong_type")
    try:
        return msgspec.convert({"event_id": f"{prefix}-{line}", **fields}, Event)
    except msgspec.ValidationError as error:
        raise _Bad("wrong_type") from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise _Bad("wrong_type") from error


def _typed(types: dict[str, str], name: str) -> str:
    if name not in types:
        raise _Bad("unknown_type")
    return types[name]


def _cells(row: list[str], count: int) -> list[str]:
    if len(row) != count:
        raise _Bad("missing_field" if len(row) < count else "extra_field")
    return row


def _canonical(row: list[str], line: int) -> Iterable[Event]:
    event = decode(row[0].rstrip("\r\n").encode(), _NEVER, _NEVER)
    if isinstance(event, BadEvent):
        raise _Bad(event.reason)
    return (event,)


_RETAILROCKET = ("timestamp", "visitorid", "event", "itemid", "transactionid")


def _retailrocket(row: list[str], line: int) -> Iterable[Event]:
    time, user, name, item, _ = _cells(row, 5)
    kind = _typed({t: t for t in ("view", "addtocart", "transaction")}, name)
    return (_event(line, "retailrocket", user_id=user, type=kind, item_id=item, timestamp=_whole(time)),)


_TAOBAO = ("user_id", "item_id", "category_id", "behavior", "timestamp")
_TAOBAO_TYPES = {"pv": "view", "cart": "addtocart", "fav": "favourite", "buy": "transaction"}
# The nine days of the collection in UTC+8, seconds: the original has stray rows from other years.
_TAOBAO_PERIOD = range(1_511_539_200, 1_512_316_800)


def _taobao(row: list[str], line: int) -> Iterable[Event]:
    user, item, category, name, text = _cells(row, 5)
    kind, time = _typed(_TAOBAO_TYPES, name), _whole(text)
    if time not in _TAOBAO_PERIOD:
        raise _Bad("out_of_period")
    fields = {"user_id": user, "type": kind, "item_id": item, "category_id": category}
    return (_event(line, "taobao", **fields, timestamp=time * 1000),)


_REES46 = (
    *("event_time", "event_type", "product_id", "category_id", "category_code"),
    *("brand", "price", "user_id", "user_session"),
)
_REES46_TYPES = {
    "view": "view",
    "cart": "addtocart",
    "remove_from_cart": "removefromcart",
    "purchase": "transaction",
}


def _rees46(row: list[str], line: int) -> Iterable[Event]:
    text, name, item, category, _, _, price, user, session = _cells(row, 9)
    try:
        time = datetime.strptime(text, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        cost = float(price) if price else None
    except ValueError as error:
        raise _Bad("wrong_type") from error
    fields = {"user_id": user, "type": _typed(_REES46_TYPES, name), "item_id": item, "session_id": session or None}
    fields["category_id"] = category or None
    return (_event(line, "rees46", **fields, price=cost, timestamp=int(time.timestamp() * 1000)),)


def _session(row: list[str], line: int) -> Iterable[Event]:
    items = row[0].split()
    if "," in row[0]:
        raise _Bad("extra_field")  # a table, each of whose rows would be a session
    # Without times the line's number is the time: lines are in order, and no gap within one is made up.
    return [
        _event(line, f"sessions-{place}", user_id=f"session-{line}", type="view", item_id=item, timestamp=line)
        for place, item in enumerate(items, 1)
    ]


def _whole_lines(lines: Iterator[str]) -> Iterator[list[str]]:
    return ([line] for line in lines)


FORMATS = {
    "events": Format(
        "one JSON object a line with event_id, user_id, type, item_id and timestamp (ms)",
        _canonical,
        split=_whole_lines,
    ),
    "retailrocket": Format(
        "CSV without quotes, with the header " + ",".join(_RETAILROCKET), _retailrocket, _RETAILROCKET
    ),
    "taobao": Format(
        "CSV without quotes, with or without the header " + ",".join(_TAOBAO), _taobao, _TAOBAO, header_may_lack=True
    ),
    "rees46": Format("CSV without quotes, with the header " + ",".join(_REES46), _rees46, _REES46),
    "sessions": Format(
        "one session a line, item ids in click order, separated by spaces", _session, split=_whole_lines
    ),
}
