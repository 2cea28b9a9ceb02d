"""Numbers, times and ids as people write them in logs."""

import math
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta

UNITS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}  # of a time: ms in one
WHOLE = 2**53  # floats hold the whole numbers below it exactly
EARLY, LATE = 631_152_000_000, 4_102_444_800_000  # times in ms before 1990 and after 2100 are something else
_STAMPS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%f"}  # by their digits
ROUNDED = "time: it is rounded, write all its digits"
_CONVERT = "write them in milliseconds since 1970, or as 2019-10-01T00:02:34Z"
_SPANS = (  # what numbers are, their unit, from where on, up to where
    ("seconds", "s", EARLY // 10**3, LATE // 10**3),
    ("microseconds", "us", EARLY * 10**3, LATE * 10**3),
    ("ticks of .NET", "", 631_400_000 * 10**9, 662_400_000 * 10**9),  # of 100 ns since the year 1, from 2001 on
    ("nanoseconds", "ns", EARLY * 10**6, LATE * 10**6),
    ("times of Windows' files", "", 122_700_000 * 10**9, 157_500_000 * 10**9),  # of 100 ns since 1601
    ("minutes", "", EARLY // 60_000, LATE // 60_000),
    ("hours", "", EARLY // 3_600_000, LATE // 3_600_000),
    ("a spreadsheet's days", "", 32_874, 73_051),  # since 1900
    ("days", "", 7_305, 32_874),
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
_NONE = {
    *("", "nan", "null", "none", "na", "n/a", "-", "\\n", "<na>", "#n/a", "#na", "nat", "nil", "undefined"),
    *("(null)", "<null>", "(none)", "-nan", "#n/a n/a", "1.#qnan", "-1.#ind"),
}
_DIGITS = 10  # of a time tell seconds
PATTERN = "a mapping can name its pattern, and forecart map --data FILE proposes one"
FLOAT_ID = (
    "was an id once, and is a float, which has lost its last digits: write ids as integers or as text; "
    "in pandas read them as 'Int64' or 'string'"
)
_PARTS = re.compile("[eE]")
_FLOAT = re.compile(r"-?[0-9]+(?:\.[0-9]+(?:[eE][+-]?[0-9]+)?|(?:,[0-9]+)?[eE]\+[0-9]+|,0)")
ODD_ID = rf"(?i)^\s|\s$|^(?:{'|'.join(map(re.escape, sorted(_NONE)))})$|^-?[0-9]+[.,e][0-9.,e+-]+$"
"""Matches, in every dialect, at least the text that `whole_id` does not return as it is."""


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
    if not stated(text):
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
    if (value := real(text)) is not None:
        with suppress(ValueError, OverflowError):
            return round(scaled(value, unit))
    zoned = _NAMELESS.sub(lambda found: found[1] or "+00:00", text.strip())
    try:
        time = datetime.fromisoformat(zoned)
    except ValueError:
        raise ValueError(f"{text!r} is no time: {PATTERN}") from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MS


def real(text: str) -> float | None:
    """Return a time as a number, None where it is none; raise ValueError where an exponent has cut off its digits.

    >>> real("1433221467.5"), real("soon")
    (1433221467.5, None)
    """
    try:
        value = float(text)
    except ValueError:
        return None
    if _rounded(text, _DIGITS):
        raise ValueError(f"{text!r} is no {ROUNDED}")
    return value


def _rounded(text: str, enough: int | None = None) -> bool:
    """Tell whether a number with an exponent, such as 5.77E+12, shows fewer digits than it has."""
    mantissa, exponent = _PARTS.split(text, 1) if _PARTS.search(text) else (text, "0")
    whole, _, part = mantissa.strip().lstrip("-+").replace(",", ".").partition(".")
    digits = len(whole) + int(exponent)
    return len(whole + part) < (digits if enough is None else min(digits, enough))


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
    if EARLY <= time < LATE:
        return ""
    for each in (time, time // 1000):  # read as seconds
        if form := stamp(str(each)):
            return f"these look like days or times without signs between them: a mapping reads them as {form!r}"
    for name, unit, least, most in _SPANS:
        if least <= time < most:
            return f"these look like {name}: {_naming(unit, numbered) if unit else _CONVERT}"
    return f"these are {'before 1990' if time < EARLY else 'after 2100'} in every unit: {_CONVERT}"


def stamp(text: str) -> str:
    """Return the pattern of a day or time without signs between its parts, nothing of what is none.

    >>> stamp("20191001"), stamp("20191001000234"), stamp("1433221467000")
    ('%Y%m%d', '%Y%m%d%H%M%S', '')
    """
    form = _STAMPS.get(len(text), "") if text.isdecimal() and "1990" <= text[:4] < "2100" else ""
    try:
        return form and form * bool(datetime.strptime(text, form))
    except ValueError:
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
    """Return the id that a float was made of, other text without the space around it, nothing where it says so.

    Every reader of files takes ids by it. Raises ValueError where digits are lost.

    >>> whole_id("1002.0"), whole_id(" A-1.0"), whole_id("NULL")
    ('1002', 'A-1.0', '')
    """
    if text.isdigit() or not (text := stated(text)) or not _FLOAT.fullmatch(text):
        return text
    value = float(text.replace(",", "."))
    if abs(value) >= WHOLE or value != int(value) or _rounded(text):
        raise ValueError(f"{text} {FLOAT_ID}")
    return str(int(value))


def stated(text: str) -> str:
    """Return a text without the space around it, nothing where it says that there is none.

    >>> stated(" view"), stated("NULL")
    ('view', '')
    """
    text = text.strip()
    return "" if text.lower() in _NONE else text
