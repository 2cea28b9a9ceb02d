"""Numbers, times and ids as people write them in logs."""

import math
import re
from datetime import UTC, datetime, timedelta

UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  # of a time: ms in one
WHOLE = 2**53  # floats hold the whole numbers below it exactly
EARLY, LATE = 10**11, 10**14  # times in ms before 1973 and after 5138 are of another unit
_SPANS = (
    ("seconds", "s", 10**8, EARLY),
    ("microseconds", "us", LATE, 10**17),
    ("nanoseconds", "ns", 10**17, 10**20),
)
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_CURRENCY = r"(?:[A-Z]{0,3}[$¢£¤¥֏؋৳฿៛₠-₿﷼]|[A-Z]{3}|kr\.?|zł|Kč|Ft|Rs\.?|руб\.?|лв\.?|Lei|lei)?"
_GROUP = r"[\s.,'’]"  # between thousands
_AMOUNT = re.compile(
    rf"\s*([-+−]?)\s*{_CURRENCY}\s*([-+−]?)\s*"
    rf"(?:(?P<grouped>[1-9]\d{{0,2}}(?P<group>{_GROUP})\d{{2,3}}(?:(?P=group)\d{{2,3}})*(?<=\d{{3}}))(?:[.,](?P<rest>\d+))?"
    r"|(?P<plain>\d*)[.,](?P<part>\d+)|(?P<whole>\d+)(?:[.,][-–—]?)?)"
    rf"\s*{_CURRENCY}\s*"
)
_NAMELESS = re.compile(r"\s*(?:UTC|GMT|([+-]\d\d:?\d\d))$")
_NONE = {"", "nan", "null", "none", "na", "n/a", "-", "\\n"}


def number(text: str) -> float | None:
    """Return a number as people write it, None where the text says that there is none; raise ValueError.

    A comma before three digits divides thousands, else it is a decimal comma; a point is a decimal one unless there
    are several, or a comma follows.

    >>> number("1,299.00"), number("EUR 9.99"), number("9,99"), number("1.299,00 €"), number("nan")
    (1299.0, 9.99, 9.99, 1299.0, None)
    """
    try:
        value = float(text)
    except ValueError:
        return _written(text)
    if math.isinf(value):
        raise ValueError(f"{text!r} is no number")
    return None if math.isnan(value) else value


def _written(text: str) -> float | None:
    if text.strip().lower() in _NONE:
        return None
    found = _AMOUNT.fullmatch(text)
    if not found or (found["rest"] and text[found.start("rest") - 1] == found["group"]):
        raise ValueError(f"{text!r} is no number")
    sign = "-" if {"-", "−"} & {found[1], found[2]} else ""
    grouped, rest = found["grouped"], found["rest"]
    if grouped and not rest and grouped.count(".") == 1:
        return float(sign + grouped)
    whole = re.sub(r"\D", "", grouped or found["plain"] or found["whole"] or "0")
    return float(f"{sign}{whole}.{rest or found['part'] or '0'}")


def moment(text: str, unit: str = "ms") -> int:
    """Return a time in ms since 1970: of a number in `unit`, or of ISO 8601, UTC where it names no zone.

    >>> moment("1433221467", "s"), moment("2015-06-02T07:04:27+02:00"), moment("2015-06-02 05:04:27 UTC")
    (1433221467000, 1433221467000, 1433221467000)
    """
    try:
        return int(text) if unit == "ms" else scaled(int(text), unit)
    except ValueError:
        pass
    try:
        return round(scaled(float(text), unit))
    except (ValueError, OverflowError):
        pass
    zoned = _NAMELESS.sub(lambda found: found[1] or "+00:00", text.strip())
    try:
        time = datetime.fromisoformat(zoned)
    except ValueError:
        raise ValueError(f"{text!r} is no time: {PATTERN}") from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MS


PATTERN = "a mapping can name its pattern, and forecart map --data FILE proposes one"


def scaled(time: int | float, unit: str) -> int:
    """Return a number of `unit` in ms."""
    return round(time * UNITS[unit]) if UNITS[unit] >= 1 else int(time // round(1 / UNITS[unit]))


def looks_like(time: int, numbered: str = "") -> str:
    """Say what a time in ms is that no shop can have meant, and how to name its unit; nothing of one that can be.

    `numbered` is the log's format where a unit can be named behind it.

    >>> looks_like(1433221467, "events")
    'these look like seconds: name the unit behind the format, as --format events:s, or in a mapping'
    >>> looks_like(1433221467)
    'these look like seconds: a mapping says so by `unit: s` under `time`'
    """
    for name, unit, least, most in _SPANS:
        if least <= time < most:
            return f"these look like {name}: {_naming(unit, numbered)}"
    return ""


def _naming(unit: str, numbered: str) -> str:
    if numbered:
        return f"name the unit behind the format, as --format {numbered}:{unit}, or in a mapping"
    return f"a mapping says so by `unit: {unit}` under `time`"


def day(time: int) -> str:
    """Return the day of a time in ms, in UTC, or the year where it is far away.

    >>> day(1433221467000), day(1433221467000000)
    ('2015-06-02', 'the year 47386')
    """
    try:
        return (_EPOCH + time * _MS).date().isoformat()
    except OverflowError:
        return f"the year {1970 + time // 31_556_952_000}"


def whole_id(text: str) -> str:
    """Return the id that a float was made of, other text as it is; raise ValueError where digits are lost.

    >>> whole_id("1002.0"), whole_id("A-1.0")
    ('1002', 'A-1.0')
    """
    if text.isdigit() or not _FLOAT.fullmatch(text):
        return text
    value = float(text)
    if value != int(value) or abs(value) >= WHOLE:
        raise ValueError(f"{text} {FLOAT_ID}")
    return str(int(value))


FLOAT_ID = (
    "was an id once, and is a float, which has lost its last digits: write ids as integers or as text; "
    "in pandas read them as 'Int64' or 'string'"
)
_FLOAT = re.compile(r"-?\d+\.\d+(?:[eE][+-]?\d+)?|-?\d+[eE]\+\d+")
