"""What is promised and which test proves it: a page made of the tests' own marks and of what they found.

A test marked `guarantee(promise, under=settings)` is a row. Its figures are what it recorded as `figures`. The rows
stand between two markers of the page; `pytest --guarantees=PAGE` writes them, and keeps the figures of tests that
did not run.
"""

import ast
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "guarantees.md"
BEGIN, END = "<!-- tests/guarantees.py -->", "<!-- /tests/guarantees.py -->"
_HEAD = ["| what is promised | under | proven by | found | measured |", "| --- | --- | --- | --- | --- |"]


class Promise(NamedTuple):
    """A promise, the settings that it holds under, and its test: a path and a name."""

    text: str
    under: str
    test: str


class Figures(NamedTuple):
    """What a test found, and where and when."""

    found: str
    measured: str


def promises(folder: Path = ROOT / "tests") -> list[Promise]:
    """Read the promises out of the tests, without running them."""
    return [one for path in sorted(folder.rglob("test_*.py")) for one in _of_module(path)]


def _of_module(path: Path) -> Iterator[Promise]:
    name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.guarantee":
                [under] = [keyword.value for keyword in mark.keywords if keyword.arg == "under"]
                yield Promise(_text(mark.args[0]), _text(under), f"{name}::{node.name}")


def _text(node: ast.expr) -> str:
    text = ast.literal_eval(node)
    assert isinstance(text, str)
    return text


def here() -> str:
    """Say when and on how many cores."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores"


def gather(results: Iterable[tuple[str, str]], measured: str) -> dict[str, Figures]:
    """Join what the cases of each test found; results are (id of the case, what it found)."""
    by_test: dict[str, list[str]] = defaultdict(list)
    for case, found in results:
        test, _, parameters = case.partition("[")
        by_test[test].append(f"{parameters.rstrip(']')}: {found}" if parameters else found)
    return {test: Figures("; ".join(found), measured) for test, found in by_test.items()}


def table(rows: Iterable[Promise], figures: Mapping[str, Figures]) -> str:
    """Write the rows, with what was found."""
    lines = [*_HEAD]
    for row in rows:
        found = figures.get(row.test, Figures("not run yet", ""))
        lines.append(f"| {row.text} | {row.under} | `{row.test}` | {found.found} | {found.measured} |")
    return "\n".join(lines) + "\n"


def standing(page: str) -> tuple[list[Promise], dict[str, Figures]]:
    """Read the rows and the figures back out of a page."""
    rows, figures = [], {}
    for line in page.partition(BEGIN)[2].partition(END)[0].splitlines()[len(_HEAD) + 1 :]:
        text, under, test, found, measured = (cell.strip() for cell in line.strip("|").split("|"))
        rows.append(Promise(text, under, test.strip("`")))
        figures[rows[-1].test] = Figures(found, measured)
    return rows, figures


def renew(page: str, rows: Iterable[Promise], figures: Mapping[str, Figures]) -> str:
    """Return the page with these rows; figures of tests that did not run stay."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    return f"{before}{BEGIN}\n{table(rows, {**standing(page)[1], **figures})}{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(renew(PAGE.read_text(), promises(), {}))
