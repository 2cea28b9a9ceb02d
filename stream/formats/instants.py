"""Times as a shop writes them become milliseconds since 1970: one by one, or a chunk of them at once."""

import re
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

from stream.formats.values import ROUNDED, UNITS, real, scaled

ISO = "iso"
_EPOCH, _MS = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)
_ZONE = re.compile(r"(?:Z|[+-]\d\d:\d\d)?$")
_STEP = 900_000  # ms: clocks are put forward or back at a quarter of an hour
_MINUTES = len("2026-01-02T10:00")
_DASH, _POINT, _COLON = b"-.:"
_APART = re.compile(r"\s+(?=[+-]\d\d:?\d\d$)")  # space before an offset


class Instants:
    """Convert times in a unit (s, ms, us, ns), in ISO 8601 or in a pattern such as `%d.%m.%Y`.

    `zone` is that of times which name none.
    """

    def __init__(self, form: str, zone: tzinfo = UTC) -> None:
        self.form, self._zone = form, zone
        self._meant = _meant(form)
        self._written = lru_cache(4096)(self._of_text)  # patterns cost microseconds, and a log's times repeat

    def one(self, value: object) -> int:
        """Return a time in ms; raise ValueError.

        >>> Instants("s").one(1433221467), Instants(ISO).one("2015-06-02T07:04:27+02:00")
        (1433221467000, 1433221467000)
        """
        if isinstance(value, datetime):
            return self._of(value)
        if isinstance(value, date):
            return self._of(datetime.combine(value, time()))
        try:
            return _number(value, self.form) if self.form in UNITS else self._written(_text(value))
        except ValueError as error:
            said = ROUNDED if ROUNDED in str(error) else self._meant
            raise ValueError(f"{value!r} is no {said}") from error

    def many(self, values: Sequence[object]) -> NDArray[np.int64]:
        """Return times in ms as `one` does; raise ValueError."""
        if self.form == ISO and (alike := self._alike(values)) is not None:
            return alike
        return np.fromiter(map(self.one, values), np.int64, len(values))

    def _of(self, time: datetime) -> int:
        return ((time if time.tzinfo else time.replace(tzinfo=self._zone)) - _EPOCH) // _MS

    def _of_text(self, text: str) -> int:
        if self.form != ISO:
            return self._of(datetime.strptime(text.strip(), self.form))
        text = _APART.sub("", text.strip())
        return self._of(datetime.fromisoformat(text[:-4] + "Z" if text.endswith((" UTC", " GMT")) else text))

    def _alike(self, values: Sequence[object]) -> NDArray[np.int64] | None:
        """Read texts of one length and zone at the same columns, None where they are not: in a fifth of the time."""
        texts = cast(Sequence[str], values)
        try:
            raw, lengths = "".join(texts).encode(), set(map(len, texts))
        except (TypeError, UnicodeEncodeError):  # one is no text
            return None
        if len(lengths) != 1 or len(raw) != len(first := texts[0]) * len(texts):
            return None
        zone = cast(re.Match[str], _ZONE.search(first))[0]
        if (bare := len(first) - len(zone)) < _MINUTES:
            return None
        table = np.frombuffer(raw, np.uint8).reshape(len(texts), -1)
        dashes, clock, ends = table[:, (4, 7)], table[:, 11:bare], table[:, bare:]
        # What numpy would understand otherwise, such as a zone that not all name, is left to `one`.
        odd = (dashes != _DASH).any() or (clock < _POINT).any() or (clock > _COLON).any()
        if odd or (ends != np.frombuffer(zone.encode(), np.uint8)).any():
            return None
        local = np.ascontiguousarray(table[:, :bare]).view(f"S{bare}")[:, 0].astype("datetime64[ms]").astype(np.int64)
        return local - (self._offset(datetime.fromisoformat(first)) if zone else self._offsets(local))

    def _offsets(self, local: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how far local times (ms) are ahead of UTC, ms."""
        steps, place = np.unique(local // _STEP, return_inverse=True)
        begin = datetime(1970, 1, 1, tzinfo=self._zone)
        offsets = [self._offset(begin + timedelta(milliseconds=step * _STEP)) for step in steps.tolist()]
        return np.array(offsets, np.int64)[place]

    @staticmethod
    def _offset(time: datetime) -> int:
        return (time.utcoffset() or timedelta()) // _MS


def _meant(form: str) -> str:
    """Say what a mapping means by a time, and what to write where the log means another thing."""
    if form in UNITS:
        return f"number, as the mapping's `unit: {form}` says: write the `format` of text in its place"
    if form == ISO:
        return "time in ISO 8601, as the mapping says: write the `format` of other text, or the `unit` of numbers"
    return f"time by the mapping's pattern {form!r}"


def _text(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # such as 20191001
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _number(value: object, unit: str) -> int:
    if isinstance(value, str):
        value = int(value) if value.strip().lstrip("-").isdecimal() else (real(value) or float(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**70:
        raise ValueError(f"{value!r} is no time")
    return round(scaled(value, unit))
