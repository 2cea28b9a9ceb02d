"""A log scored without Kafka, by the worker's own code."""

import io
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from stream.bundle.onnx import load as load_bundle
from stream.core.events import REASONS, Event
from stream.files import sink, source
from stream.formats.mapped_log import MappedFormat
from stream.formats.plain import SHOWN, raw_lines
from stream.formats.registry import (
    HOPELESS,
    BadRow,
    BadRows,
    Form,
    Format,
    cp1252,
    named,
    numbered,
    one,
    read,
    wrong_format,
)
from stream.mappings import decoder_of, is_parquet, named_after, read_log
from stream.records import Headers, Message
from stream.scoring.configured import scorer
from stream.scoring.scorer import Partition, Scorer
from stream.settings import Settings
from stream.state.sessions import SessionStore
from stream.terminal import stdout

_CHUNK = 4096
_PATIENCE = 1.0  # seconds after which lines are scored, however few they are
_PAUSE = 0.2  # seconds without input after which they are scored, too
_UNREADABLE = REASONS[: REASONS.index("unknown_type")]  # the checks before it are those of the format
_STRICT = (
    "training reads it; here a line is held to what a topic wants: timestamp in whole milliseconds, ids as text, "
    "numbers as numbers, an object a line, or what a --mapping says"
)
_encode = msgspec.json.Encoder().encode


class _Timed(msgspec.Struct, gc=False):
    timestamp: int


_timed = msgspec.json.Decoder(_Timed).decode


@dataclass(slots=True)
class Line:
    """A line of a log in the place of a Kafka record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


def _hint(form: Format, reason: str, value: bytes) -> str:
    """Say what may be wrong with a line that no event is made of, by what a file's reader says of it."""
    if reason not in _UNREADABLE:
        return ""
    row = one(value, form)
    return row.hint if isinstance(row, BadRow) and row.lost else _STRICT if row else ""


class _OutputError(Exception):
    """Carries an error of the output past the reader, which would take an OSError for its own."""


class _Pausing(io.RawIOBase):
    """Read a raw stream, and call `idle` before waiting long for more of it."""

    def __init__(self, raw: io.RawIOBase, idle: Callable[[], None]) -> None:
        super().__init__()
        self._raw, self._idle = raw, idle

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._raw.seekable()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        if not select.select([self._raw], [], [], _PAUSE)[0]:
            self._idle()
        return self._raw.readinto(buffer)


@dataclass(slots=True)
class _Scoring:
    """A log on its way through the scorer: the lines that wait, and what became of the others."""

    scorer: Scorer
    part: Partition
    raw: Format | None  # of a log whose lines go in as they are
    met: Callable[[bytes], None] | None  # takes note of such a line's type
    letters: IO[bytes] | None
    publish: Callable[[list[Message]], None]
    counts: Counter[str] = field(default_factory=Counter)
    bad: BadRows = field(default_factory=BadRows)
    waiting: list[Line] = field(default_factory=list)
    since: float = 0.0

    def add(self, line: Line) -> None:
        """Take a line; score when there are enough, or when the first has waited long enough."""
        now = time.monotonic()
        if not self.waiting:
            self.since = now
        self.waiting.append(line)
        if len(self.waiting) >= _CHUNK or now - self.since >= _PATIENCE:
            self.emit()

    def idle(self) -> None:
        """Score what there is while the input pauses."""
        try:
            self.emit()
        except OSError as error:
            raise _OutputError from error

    def emit(self) -> None:
        """Score the waiting lines and publish them; raise DataError where the log is plainly of no such format."""
        chunk, self.waiting = self.waiting, []
        if not chunk:
            return
        if self.met:
            for line in chunk:
                self.met(line.value or b"")
        work = self.scorer.process(self.part, chunk, _now())
        self.publish(work.scores)
        self.counts["scored"] += len(work.scores)
        self.counts.update(work.rejected)
        for message in work.dead:
            self._reject(message)
        self.judge(HOPELESS)

    def _reject(self, message: Message) -> None:
        headers = {name: value.decode() for name, value in message.headers if name.startswith("forecart-")}
        value = message.value or b""
        if self.raw:  # of other formats the offset is no line, and `read` tells what was no event
            text, reason = value[:SHOWN].decode(errors="backslashreplace"), headers["forecart-reason"]
            told = headers.get("forecart-cause", "")
            why = "" if reason in self.bad.first else told or _hint(self.raw, reason, value)
            self.bad.add(BadRow(int(headers["forecart-offset"]) + 1, reason, text, why))
        if self.letters:
            self.letters.write(_encode(headers | {"value": value.decode(errors="replace")}) + b"\n")

    def judge(self, enough: int) -> None:
        """Raise DataError where at least so many lines were read, and none was of the format."""
        unreadable = sum(self.counts[reason] for reason in _UNREADABLE)
        if self.raw and enough <= unreadable == self.counts.total():
            raise wrong_format(self.raw, self.bad)


def score_log(
    settings: Settings, bundle: Path, form: Form, data: Path, dead_letters: Path | None
) -> tuple[Counter[str], BadRows]:
    """Score a log and print the scores as lines come; return the counts of outcomes, and the rows left out."""
    made = scorer(settings, load_bundle(bundle, settings.printable_ids), str(data), decoder=decoder_of(form))
    return run(made, Partition(0, SessionStore(made.layout)), form, data, _print, dead_letters)


def _print(scores: list[Message]) -> None:
    out = stdout()
    out.write(b"".join(m.value + b"\n" for m in scores if m.value is not None))
    out.flush()


def run(
    scorer: Scorer,
    part: Partition,
    form: Form,
    data: Path,
    publish: Callable[[list[Message]], None],
    dead_letters: Path | None = None,
) -> tuple[Counter[str], BadRows]:
    """Take a log through a scorer; `publish` has the scores of some lines at a time. Returns as `score_log` does."""
    file = None if is_parquet(form) else source(data)
    letters = sink(dead_letters) if dead_letters else None
    raw, met = named("events") if form == "events" else None, None
    if isinstance(form, MappedFormat) and decoder_of(form):
        raw, met = form.again(), form.meet
    scoring = _Scoring(scorer, part, raw, met, letters, publish, bad=BadRows(numbered=numbered(form)))
    named_after(form, data)
    rows = read(_pausing(file, scoring.idle), form) if file else read_log(data, form)
    try:
        for line in (
            _raw_lines(_pausing(file, scoring.idle), scoring.bad) if raw and file else _events(rows, scoring.bad)
        ):
            scoring.add(line)
        scoring.emit()
        scoring.judge(1)
    except _OutputError as error:
        raise error.__cause__ or error from None
    finally:
        for each, standard in ((file, sys.stdin), (letters, sys.stdout)):
            if each and each is not standard.buffer:
                each.close()
    return scoring.counts, scoring.bad


def _pausing(file: BinaryIO, idle: Callable[[], None]) -> BinaryIO:
    return io.BufferedReader(_Pausing(file.raw, idle), 1 << 16) if isinstance(file, io.BufferedReader) else file


def _now() -> int:
    return int(time.time() * 1000)


def _raw_lines(file: BinaryIO, bad: BadRows) -> Iterator[Line]:
    """Yield lines as records, so that bad ones meet what the worker does with them."""
    for offset, raw in enumerate(raw_lines(file, lambda *line: bad.add(cp1252(*line)))):
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            bad.saw(*[_timed(raw).timestamp] * 2)
        yield Line(offset, _now(), None, raw)


def _events(rows: Iterable[Event | BadRow], bad: BadRows) -> Iterator[Line]:
    """Yield the events of a log as records."""
    offset = 0
    for row in rows:
        if isinstance(row, BadRow):
            bad.add(row)
        else:
            bad.saw(row.timestamp, row.timestamp)
            yield Line(offset, _now(), row.user_id.encode(), _encode(row))
            offset += 1
