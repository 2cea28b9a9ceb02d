"""Tables of text: rows as cells, whatever separates them, quoted or not, and the columns by their names."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import itemgetter

from stream.core.errors import DataError
from stream.formats.mapping import nearest
from stream.formats.plain import LONG

SEPARATORS = ",;\t|"
_SPAN = 16  # lines that a quoted cell may go over
_LOOK = 16  # rows that tell whether all have a column that the header does not name
OTHER_TEXT = "damaged, or of another encoding: write it as UTF-8, as iconv -f ENCODING -t UTF-8 FILE does"
SINGLE_QUOTED = "single quotes are part of a cell: write double ones around cells"

Row = tuple[int, list[str], int]  # line, cells, how many more of them there are than columns


def table(
    lines: Iterator[str],
    columns: Sequence[str],
    spare: Sequence[str] = (),
    nameless: bool = False,
    remedy: str = "",
) -> Iterator[Row]:
    """Yield the rows of a table with the number of their line, their cells in the order of `columns`.

    The first line names the columns, in any order and case, others among them; where it may be `nameless` and names
    none of them, it is a row. Those of `spare` may be absent, and their cells are empty. A row of another width comes
    as it is, and tells. Raises DataError, with `remedy`, where a column is missing.
    """
    before, first = 1, next(lines, "")
    while is_preface(first):
        before, first = before + 1, next(lines, "")
    if not first:
        return
    separator, names = _head(first, columns)
    if nameless and not set(columns) & set(names):
        pick, width = list(range(len(columns))), len(columns)
        lines, before = chain([first], lines), before - 1
    else:
        pick, width = _places(first, names, columns, spare, remedy), len(names)
    plain = pick == list(range(width))
    cells_of = itemgetter(*pick, -1)  # a cell more, so that one column gives a tuple too
    for line, cells in fitted(rows(lines, separator, width, before), width):
        fits = plain or len(cells) != width
        yield line, cells if fits else list(cells_of([*cells, ""]))[:-1], len(cells) - width


def is_preface(line: str) -> bool:
    """Tell whether a line before a header is blank, or the one by which spreadsheets name the separator."""
    return bool(line) and (not line.strip() or line.lstrip('"').startswith("sep="))


def fitted(found: Iterator[tuple[int, list[str]]], width: int) -> Iterator[tuple[int, list[str]]]:
    """Yield rows without a column that the header does not name: one that counts them, or one behind the last comma.

    Which one it is the first rows tell, all of which have it.
    """
    seen = list(islice(found, 1))
    if not seen or len(seen[0][1]) != width + 1:
        yield from chain(seen, found)
        return
    seen += islice(found, _LOOK - 1)
    part = _named_part([cells for _, cells in seen], width)
    for line, cells in chain(seen, found):
        yield line, cells[part] if len(cells) == width + 1 else cells


def _named_part(seen: list[list[str]], width: int) -> slice:
    """Return which of the cells the header names, where it names one less than all rows have."""
    if all(len(cells) == width + 1 for cells in seen):
        if len(seen) > 1 and [cells[0] for cells in seen] in [
            [str(n + start) for n in range(len(seen))] for start in (0, 1)
        ]:
            return slice(1, None)
        if not any(cells[-1].strip() for cells in seen):
            return slice(None, -1)
    return slice(None)


def single_quoted(cells: Sequence[str]) -> bool:
    """Tell whether a row's cells have single quotes around them."""
    told = [cell for cell in cells if cell]
    return len(told) > 1 and all(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in told)


def rows(lines: Iterator[str], separator: str, width: int, before: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield each row's line, counted on from `before`, and its cells; blank lines are none.

    A row goes over several lines where a quoted cell does, and has `width` cells then. A quote that nothing closes
    is a character.
    """
    ahead, line = deque[str](), before + 1
    while text := ahead.popleft() if ahead else next(lines, ""):
        cells, count = text.rstrip("\r\n").split(separator), 1
        if '"' in text:
            cells, count = _quoted(text, separator, width, ahead, lines) or (cells, 1)
        if len(cells) > 1 or cells[0].strip():
            yield line, cells
        line += count


def _quoted(
    text: str, separator: str, width: int, ahead: deque[str], lines: Iterator[str]
) -> tuple[list[str], int] | None:
    """Return the cells of a row with quotes and how many lines it has, None where they do not fit."""
    if text.count('"') % 2 == 0:
        cells = unquoted(text, separator)
        if not cells or len(cells) != width:
            cells = _escaped(text, separator, width) or cells
        return (cells, 1) if cells else None
    if cells := _escaped(text, separator, width):
        return cells, 1
    for count in range(1, _SPAN):
        while len(ahead) < count and (more := next(lines, "")):
            ahead.append(more)
        if len(ahead) < count:
            break
        text += ahead[count - 1]
        if text.count('"') % 2 == 0:
            cells = unquoted(text, separator)
            if not cells or len(cells) != width:
                break
            for _ in range(count):
                ahead.popleft()
            return cells, count + 1
    return None


def unquoted(text: str, separator: str) -> list[str] | None:
    """Return the cells of a line whose quotes stand around whole cells, with or without space outside; else None."""
    text = text.rstrip("\r\n")
    for line in (text, re.sub(rf'"[ \t]+(?=[{separator}]|$)', '"', text)):
        try:
            return next(csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True))
        except csv.Error:
            continue
    return None


def _escaped(text: str, separator: str, width: int) -> list[str] | None:
    """Return the cells of a line whose quotes within cells have a backslash before them, None where they do not fit."""
    if '\\"' not in text:
        return None
    try:
        (cells,) = csv.reader(
            [text.rstrip("\r\n")], delimiter=separator, doublequote=False, escapechar="\\", strict=True
        )
    except (csv.Error, ValueError):  # ValueError: several rows
        return None
    return cells if len(cells) == width else None


def _head(line: str, columns: Sequence[str]) -> tuple[str, list[str]]:
    """Return what separates the first line, and its cells: as many of the columns as can be, else as many cells."""

    def cells(separator: str) -> list[str]:
        found = unquoted(line, separator) or line.rstrip("\r\n").split(separator)
        known = {name.casefold(): name for name in columns}
        return [known.get(cell.strip().casefold(), cell) for cell in found]

    def fit(separator: str) -> tuple[int, bool]:
        found = cells(separator)
        return len(set(columns) & set(found)), len(found) == len(columns)

    separator = max(SEPARATORS, key=fit)
    return separator, cells(separator)


def _places(line: str, names: list[str], columns: Sequence[str], spare: Sequence[str], remedy: str) -> list[int]:
    if lacking := [name for name in columns if name not in names and name not in spare]:
        shown = line.removeprefix(LONG).rstrip("\r\n")[:80]
        if single_quoted(names):
            raise DataError(f"the first line is {shown!r}: {SINGLE_QUOTED}", remedy)
        if any("\udc80" <= each <= "\udcff" for each in line):
            raise DataError(f"the first line is {shown!r}, which is no text in UTF-8", OTHER_TEXT)
        near = [
            f"{name} (is it {' or '.join(found)}?)" if (found := nearest(name, names)) else name for name in lacking
        ]
        raise DataError(f"the first line is {shown!r}: it names no column {', '.join(near)}", remedy)
    if twice := [name for name in columns if names.count(name) > 1]:
        raise DataError(f"the first line names the column {', '.join(twice)} more than once", "rename all but one")
    return [names.index(name) if name in names else -1 for name in columns]
