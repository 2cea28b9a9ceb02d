"""The first rows of a log of unknown shape, by the names of their columns."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import msgspec

from stream.core.errors import DataError
from stream.files import source
from stream.formats.jsonlines import hint, record
from stream.formats.packed import readable
from stream.formats.plain import LONG, text_lines
from stream.formats.proposal import Rows, flat
from stream.formats.registry import NO_TEXT
from stream.formats.tables import SEPARATORS, SINGLE_QUOTED, fitted, is_preface, rows, single_quoted, unquoted

SAMPLES: dict[str, Callable[[Path, int], Rows]] = {}
"""What samples files that serving knows nothing of; the command line names it."""


def sample(path: Path, most: int) -> tuple[str, Rows]:
    """Return a log's format and its first rows; raise DataError where it is none that a mapping can describe."""
    if path.is_dir() or _begins(path) == b"PAR1":
        return "parquet", SAMPLES["parquet"](path, most)
    with readable(), source(path) as file:
        lines = [line for line in islice(text_lines(file), most + 1) if line.strip()]
    while lines and is_preface(lines[0]):
        del lines[0]
    if not lines:
        raise DataError(f"{path} has no rows", "check the path")
    if _is_json(lines[0]):
        return "json", _records(lines[:most], path)
    separator = max(SEPARATORS, key=lambda each: len(_cells(lines[0], each)))
    names = [name.strip() for name in _cells(lines[0], separator)]
    shown = lines[0].removeprefix(LONG).strip()[:80]
    if len(names) < 2:
        raise DataError(
            f"the first line of {path} is {shown!r}: neither JSON nor the names of columns",
            "write it as CSV with a header, or as JSON lines",
        )
    if single_quoted(names):
        raise DataError(f"the first line of {path} is {shown!r}", SINGLE_QUOTED)
    found = list(fitted(rows(iter(lines[1:]), separator, len(names)), len(names)))
    whole = [cells for _, cells in found if len(cells) == len(names)]
    if not whole:
        what = f"no row of {path} has {len(names)} cells, as its header has" if found else f"{path} has only a header"
        raise DataError(f"{what}: {', '.join(names)}", "give a log with events")
    read = [place for place, name in enumerate(names) if not NO_TEXT.search(name)]
    told: Rows = [
        {names[place]: cells[place] for place in read}
        for cells in whole
        if not any(NO_TEXT.search(cells[place]) for place in read)
    ]
    return "tsv" if separator == "\t" else "csv", told


def _is_json(line: str) -> bool:
    return line.removeprefix(LONG).lstrip().startswith(("{", "["))


def _begins(path: Path) -> bytes:
    with source(path) as file:
        return file.read(4)


def _cells(line: str, separator: str) -> list[str]:
    line = line.removeprefix(LONG).rstrip("\r\n")
    return unquoted(line, separator) or line.split(separator)


def _records(lines: list[str], path: Path) -> Rows:
    found = []
    for line in lines:
        try:
            found.append(flat(msgspec.json.decode(record(line).encode(errors="replace"))))
        except (msgspec.DecodeError, RecursionError):
            continue  # a row that is no JSON is told once the mapping is used
    if not (told := [row for row in found if row]):
        raise DataError(
            f"no line of {path} is an object of JSON", next(filter(None, map(hint, lines)), "check the file")
        )
    return told
