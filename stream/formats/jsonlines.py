"""Lines of JSON as people's tools write them: a record in each, or what stands there instead and what to do."""

import re

from stream.formats.plain import LONG

_FRAME = frozenset("[], \t\r\n\ufeff")
_SHORT = 16  # characters: brackets alone have fewer
_NO_NUMBER = re.compile(r"[:\[,]\s*(NaN|-?Infinity)\b")
_ARRAY = "an array: write an object a line, as jq -c '.[]' does"


def record(line: str) -> str:
    """Return the object in a line of an array that has one a line; other lines as they are.

    >>> record('[{"a": 1},'), record('{"a": 2}')
    ('{"a": 1}', '{"a": 2}')
    """
    text = line.strip().removeprefix("[").lstrip().removesuffix(",").removesuffix("]").rstrip()
    return text if text.startswith("{") and text.endswith("}") else line


def is_frame(line: str) -> bool:
    """Tell whether a line has nothing but the brackets of an array, or is blank."""
    return _FRAME.issuperset(line) if len(line) < _SHORT else not line.strip()


def hint(line: str) -> str:
    """Say what a line that holds no record may be, and what to do; nothing where that is not to be seen.

    >>> hint("[1, 2]")
    "an array: write an object a line, as jq -c '.[]' does"
    """
    text = line.removeprefix(LONG).strip()
    if text.startswith("["):
        return _ARRAY
    if text.endswith("},") or text == "]":
        return f"a line of {_ARRAY}"
    if text in ("{", "}") or (text.startswith(('"', "{")) and text.endswith((",", "{", "["))):
        return "an object over several lines: write one a line, as jq -c . does, of an array jq -c '.[]'"
    if text.startswith(("{'", "{ '")):
        return "written by Python's str: write it by json.dumps"
    if text.startswith("{") and re.search(r"\}\s*\{", text):
        return "several objects in a line: write one a line, as jq -c . does"
    if found := _NO_NUMBER.search(text):
        return f"JSON has no {found[1]}: write null"
    return ""
