"""A log looked over before its figures are believed: what it holds, what it lost, where it pauses, how it drifts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.log import Log
from models.evaluation.metrics import psi
from models.evaluation.slices import places
from stream.core.manifest import TaskSpec
from stream.formats.registry import BadRow

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_HOUR, _DAY = 3_600_000, 86_400_000
_SPANS = (_HOUR, 3 * _HOUR, 6 * _HOUR, _DAY, 7 * _DAY, 30 * _DAY)  # of the buckets in time
_BUCKETS = 160  # at most, more than a picture can show
_CATEGORIES = 20  # the largest, each a bin of its own
_PLACES = 10  # in a session, the last bin is open


@dataclass(frozen=True, slots=True)
class Audit:
    """The facts of a log; times in ms. A log of sessions has no times: then those from `first` on mean nothing."""

    events: int
    users: int
    items: int
    categories: int
    types: dict[str, int]
    since: int  # where the held-out part begins
    before: int  # events ahead of it
    new_items: float  # share of the held-out part's events
    new_users: float  # share of its users
    rejected: list[tuple[BadRow, int]]  # the first row of each reason, and how many
    drift: dict[str, float]  # PSI by feature
    timed: bool
    first: int
    last: int
    duplicates: int  # events that repeat another in all fields
    pause: tuple[int, int]  # the longest without any event: begin and end
    span: int  # of a bucket
    buckets: Ints  # events by time


def audit(log: Log, since: int, meaning: TaskSpec) -> Audit:
    """Look over a log whose part from `since` (ms) on is held out."""
    before = log.time < since
    known_item, known_user = (np.isin(values[~before], values[before]) for values in (log.item, log.user))
    newcomers, shoppers = (np.unique(log.user[~before][part]) for part in (~known_user, ...))
    times = np.sort(log.time)
    at = int(np.argmax(np.diff(times, append=times[-1])))
    extent = int(times[-1] - times[0])
    span = next((s for s in _SPANS if extent / s < _BUCKETS), _SPANS[-1])
    rows = np.stack([log.user, log.item, log.type, log.time], 1)
    return Audit(
        events=len(log),
        users=len(log.users),
        items=len(log.items),
        categories=len(log.categories),
        types={name: n for name, n in zip(log.types, np.bincount(log.type).tolist(), strict=False) if n},
        since=since,
        before=int(before.sum()),
        new_items=float((~known_item).mean()),
        new_users=len(newcomers) / len(shoppers),
        rejected=[(log.bad.first[reason], n) for reason, n in log.bad.count.most_common()],
        drift=drift(log, before, meaning),
        timed=log.timed,
        first=int(times[0]),
        last=int(times[-1]),
        duplicates=len(rows) - len(np.unique(rows, axis=0)),
        pause=(int(times[at]), int(times[min(at + 1, len(times) - 1)])),
        span=span,
        buckets=np.bincount(times // span - times[0] // span),
    )


def drift(log: Log, before: Bools, meaning: TaskSpec) -> dict[str, float]:
    """Compute the population stability index of each feature; left out where a side has no value of it.

    A feature of the clock is compared only where both sides are longer than its period: half a week has other
    weekdays than a week whatever the users do.
    """
    shortest = min(np.ptp(log.time[side]) if side.any() else 0 for side in (before, ~before)) if log.timed else -1
    found = {}
    for name, (period, place_of) in FEATURES.items():
        if shortest < period:
            continue
        place = place_of(log, before, meaning)
        bins = int(place.max(initial=-1)) + 1
        expected, held = (np.bincount(place[side & (place >= 0)], minlength=bins) for side in (before, ~before))
        if bins > 1 and expected.any() and held.any():
            found[name] = psi(expected, held)
    return found


def _kind(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    return log.type


def _popularity(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    # An event is left out of its own item's count: what it is compared with has none of its own in there either.
    others = np.bincount(log.item[before], minlength=len(log.items))[log.item] - before
    return np.log2(others + 1).astype(np.int64)


def _category(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    count = np.bincount(log.category[before & (log.category >= 0)], minlength=len(log.categories))
    place = np.full(len(log.categories) + 1, min(_CATEGORIES, len(count)))
    place[np.argsort(-count, kind="stable")[:_CATEGORIES]] = np.arange(min(_CATEGORIES, len(count)))
    place[-1] = -1  # where -1, no category, looks
    return place[log.category]


def _place(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    return np.minimum(places(log, meaning.gap), _PLACES) - 1


def _pause(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    wait = np.diff(log.time, prepend=log.time[:1])
    known = wait[before & ~log.starts]
    edges = np.unique(np.quantile(known, np.arange(1, 10) / 10)) if len(known) else known
    return np.where(log.starts, -1, np.searchsorted(edges, wait, side="right"))


def _hour(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    return log.time // _HOUR % 24


def _weekday(log: Log, before: Bools, meaning: TaskSpec) -> Ints:
    return log.time // _DAY % 7


FEATURES: Mapping[str, tuple[int, Callable[[Log, Bools, TaskSpec], Ints]]] = {
    "event type": (-1, _kind),
    "item's popularity": (-1, _popularity),
    "category": (-1, _category),
    "place in session": (-1, _place),
    "pause before": (0, _pause),
    "hour of day": (_DAY, _hour),
    "weekday": (7 * _DAY, _weekday),
}
"""A feature's period (ms; 0: it needs times, -1: it does not), and how log, the events before the held-out part and
meaning give each event's bin; -1 has no value."""
