"""What is said to whom does not come in: a table of docs/access.md, made of what the tests of access met.

A test records each as `said` (case, text). `pytest --access=PAGE` writes the rows that ran, and keeps the others.
"""

import re
from collections.abc import Iterable
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "access.md"
BEGIN, END = "<!-- tests/access.py -->", "<!-- /tests/access.py -->"
_HEAD = ["| what is wrong | what is said |", "| --- | --- |"]


def plain(text: str) -> str:
    """Take out of a message what differs from run to run, and what would break a table."""
    text = re.sub(r"/\S*/kafka\.properties", "FILE", text)
    text = re.sub(r"(localhost|127\.0\.0\.1):\d+", "kafka:9093", text)
    text = re.sub(r"/tmp/\S*/", "", text)
    text = re.sub(r"error:[0-9A-F]{8}:SSL routines::|\(after \d+ms in state \w+\)|\w+://kafka:9093/\w+: ", "", text)
    return re.sub(r"\s+", " ", text).replace("|", r"\|").strip()


def rows(page: str) -> dict[str, str]:
    """Read the rows back out of a page."""
    lines = page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[len(_HEAD) :]
    cells = (re.split(r"(?<!\\)\|", line.strip("|")) for line in lines)
    return {case.strip(): said.strip() for case, said in cells}


def renew(page: str, found: Iterable[tuple[str, str]]) -> str:
    """Return the page with these rows."""
    before, rest = page.split(BEGIN)
    all_rows = rows(page) | dict(found)
    table = "\n".join([*_HEAD, *(f"| {case} | {said} |" for case, said in all_rows.items())])
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"
