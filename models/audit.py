"""A log looked over before its figures are believed: what it holds, what it lost, where it pauses, how it drifts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.histories import Log
from models.slices import places
from stream.core.formats import BadRow
from stream.core.manifest import Meaning
from stream.core.quality import psi

Ints = NDArray[np.int64]
_HOUR, _DAY = 3_600_000, 86_400_000
_SPANS = (_HOUR, 3 * _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 30 * _DAY)  # of the buckets in time
_BUCKETS = 160  # at most, more than a picture can show
_CATEGORIES = 20  # the largest, each a bin of its own
_PLACES = 10  # in a session, the last bin is open


@dataclass(frozen=True, slots=True)
class Audit:
    """The facts of a log; times in ms, `None` where a log of sessions has none."""

    events: int
    users: int
    items: int
    categories: int
    types: dict[str, int]
    since: int  # where the held-out part begins
    before: int  # events ahead of it
    new_items: float  # share of the held-out part's events
    new_users: float  # share of its shoppers
    rejected: list[tuple[BadRow, int]]  # the first row of each reason, and how many
    drift: dict[str, float]  # PSI by feature
    timed: bool
    first: int | None = None
    last: int | None = None
    duplicates: int | None = None
    pause: tuple[int, int] | None = None  # the longest one: begin and end
    span: int | None = None  # of a bucket
    buckets: Ints | None = None  # events by time


def audit(log: Log, since: int, meaning: Meaning) -> Audit:
    """Look over a log whose part from `since` (ms) on is held out."""
    before = log.time < since
    item, user = (np.isin(values[~before], values[before]) for values in (log.item, log.user))
    newcomers = np.unique(log.user[~before][~user])
    features = FEATURES if log.timed else {n: f for n, f in FEATURES.items() if n not in _TIMED}
    facts = Audit(
        events=len(log),
        users=len(log.users),
        items=len(log.items),
        categories=len(log.categories),
        types={name: n for name, n in zip(log.types, np.bincount(log.type).tolist(), strict=False) if n},
        since=since,
        before=int(before.sum()),
        new_items=float((~item).mean()),
        new_users=len(newcomers) / max(len(np.unique(log.user[~before])), 1),
        rejected=[(log.bad.first[reason], n) for reason, n in log.bad.count.most_common()],
        drift={
            name: value
            for name, f in features.items()
            if (value := _drift(f(log, before, meaning), before)) is not None
        },
        timed=log.timed,
    )
    return _with_times(facts, log) if log.timed else facts


def _with_times(facts: Audit, log: Log) -> Audit:
    from dataclasses import replace

    times = np.sort(log.time)
    waits = np.diff(times)
    at = int(np.argmax(waits)) if len(waits) else 0
    extent = int(times[-1] - times[0])
    span = next((s for s in _SPANS if extent / s < _BUCKETS), _SPANS[-1])
    rows = np.stack([log.user, log.item, log.type, log.time], 1)
    return replace(
        facts,
        first=int(times[0]),
        last=int(times[-1]),
        duplicates=len(rows) - len(np.unique(rows, axis=0)),
        pause=(int(times[at]), int(times[at + 1])) if len(waits) else None,
        span=span,
        buckets=np.bincount(times // span - times[0] // span),
    )


def _drift(place: Ints, before: NDArray[np.bool_]) -> float | None:
    """Compare a feature's bins (-1: no value) before and after; None where a side has no value at all."""
    bins = int(place.max(initial=-1)) + 1
    sides = [np.bincount(place[side & (place >= 0)], minlength=bins) for side in (before, ~before)]
    return psi(*sides) if bins > 1 and all(side.any() for side in sides) else None


def _kind(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    return log.type


def _popularity(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    # An event is left out of its own item's count: what it is compared with has none of its own in there either.
    others = np.bincount(log.item[before], minlength=len(log.items))[log.item] - before
    return np.log2(others + 1).astype(np.int64)


def _category(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    count = np.bincount(log.category[before & (log.category >= 0)], minlength=len(log.categories))
    place = np.full(len(log.categories) + 1, min(_CATEGORIES, len(count)))
    place[np.argsort(-count, kind="stable")[:_CATEGORIES]] = np.arange(min(_CATEGORIES, len(count)))
    place[-1] = -1  # where -1, no category, looks
    return place[log.category]


def _place(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    return np.minimum(places(log, meaning.gap), _PLACES) - 1


def _pause(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    wait = np.diff(log.time, prepend=log.time[:1])
    known = wait[before & ~log.starts]
    edges = np.unique(np.quantile(known, np.arange(1, 10) / 10)) if len(known) else known
    return np.where(log.starts, -1, np.searchsorted(edges, wait, side="right"))


def _hour(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    return log.time // _HOUR % 24


def _weekday(log: Log, before: NDArray[np.bool_], meaning: Meaning) -> Ints:
    return log.time // _DAY % 7


FEATURES: Mapping[str, Callable[[Log, NDArray[np.bool_], Meaning], Ints]] = {
    "event type": _kind,
    "item's popularity": _popularity,
    "category": _category,
    "place in session": _place,
    "pause before": _pause,
    "hour of day": _hour,
    "weekday": _weekday,
}
"""From log, the events before the held-out part, and the meaning to each event's bin; -1 has no value."""

_TIMED = ("pause before", "hour of day", "weekday")
