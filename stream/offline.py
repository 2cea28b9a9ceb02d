"""A log scored without Kafka, by the worker's own code."""

import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from stream.core.formats import BadRow, BadRows, plain, read
from stream.files import sink, source
from stream.round import Headers, Limits, Partition, Scorer
from stream.runtime import load as load_bundle
from stream.sessions import SessionStore
from stream.settings import Settings

_CHUNK = 4096
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Line:
    """A line of a log in the place of a Kafka record."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = field(default_factory=list)


def score_log(
    settings: Settings, bundle: Path, form: str, data: Path, dead_letters: Path | None, recommend: bool
) -> tuple[Counter[str], BadRows]:
    """Score a log and print the scores; return the counts of outcomes, and the rows left out."""
    limits = Limits(settings.max_event_bytes, settings.max_dead_letter_bytes, settings.max_future_seconds * 1000)
    scorer = Scorer(load_bundle(bundle), recommend, limits, str(data))
    part = Partition(0, SessionStore(scorer.layout))
    counts, bad = Counter[str](), BadRows()
    letters = sink(dead_letters) if dead_letters else None
    chunk: list[Line] = []
    for line in _lines(source(data), form, bad):
        chunk.append(line)
        if len(chunk) == _CHUNK:
            _emit(scorer, part, chunk, counts, letters)
            chunk = []
    _emit(scorer, part, chunk, counts, letters)
    if letters:
        letters.close()
    return counts, bad


def _lines(file: BinaryIO, form: str, bad: BadRows) -> Iterator[Line]:
    """Yield the log as records; canonical lines go in raw, so that bad ones meet what the worker does with them."""
    now = int(time.time() * 1000)
    if form == "events":
        for offset, raw in enumerate(plain(file)):
            yield Line(offset, now, None, raw.rstrip(b"\r\n"))
        return
    offset = 0
    for row in read(file, form):
        if isinstance(row, BadRow):
            bad.add(row)
        else:
            yield Line(offset, now, row.user_id.encode(), _encode(row))
            offset += 1


def _emit(scorer: Scorer, part: Partition, chunk: list[Line], counts: Counter[str], letters: IO[bytes] | None) -> None:
    if not chunk:
        return
    work = scorer.process(part, chunk, int(time.time() * 1000))
    sys.stdout.buffer.write(b"".join(m.value + b"\n" for m in work.scores if m.value is not None))
    counts["scored"] += len(work.scores)
    counts.update(work.rejected)
    if letters:
        for message in work.dead:
            headers = {name: value.decode() for name, value in message.headers if name.startswith("forecart-")}
            letters.write(_encode(headers | {"value": (message.value or b"").decode(errors="replace")}) + b"\n")
