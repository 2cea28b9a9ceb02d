"""Hand-made features of each event, for the models that see a table: what its user did up to it.

Every feature is read off the event itself and its user's earlier ones; spans of time are in log seconds.
"""

import numpy as np
from numpy.typing import NDArray

from models.data.log import Ints, Log, sessions_of
from stream.core.manifest import TaskSpec

Floats = NDArray[np.float64]
HOUR, DAY = 3_600_000, 86_400_000
_NEVER = 60 * DAY  # stands for the time since what has not happened


def features(log: Log, meaning: TaskSpec) -> dict[str, Floats]:
    """Return about 40 features by name, (n,) each, in the order of the log."""
    index = np.arange(len(log))
    first = np.flatnonzero(log.starts)[np.cumsum(log.starts) - 1] if len(log) else index
    session = sessions_of(log, meaning.gap)
    opens = np.r_[True, session[1:] != session[:-1]] if len(log) else np.zeros(0, bool)
    begin = np.flatnonzero(opens)[session] if len(log) else index
    since = {"session": begin, "1h": _within(log, HOUR), "24h": _within(log, DAY), "ever": first}
    return {
        **_types(log, meaning, since),
        **_times(log, index, first, begin),
        **_repeats(log, session),
        **{f"distinct_items_{name}": _distinct(log, log.item, since[name]) for name in ("session", "ever")},
        "distinct_categories_session": _distinct(log, log.category, begin),
    }


def table(log: Log, meaning: TaskSpec) -> NDArray[np.float32]:
    """Return the features as columns, (n, features)."""
    return np.stack(list(features(log, meaning).values()), 1).astype(np.float32)


def _types(log: Log, meaning: TaskSpec, since: dict[str, Ints]) -> dict[str, Floats]:
    """Count each type in each span that ends with the event, and tell the event's own."""
    found: dict[str, Floats] = {}
    for number, name in enumerate(log.types):
        is_it = log.type == number
        count = np.r_[0, np.cumsum(is_it)]
        found[f"is_{name}"] = is_it.astype(float)
        found |= {f"{name}_{span}": np.diff(np.stack([count[b], count[1:]]), axis=0)[0] for span, b in since.items()}
        found[f"since_{name}"] = _since(log, is_it, since["ever"])
    return found


def _times(log: Log, index: Ints, first: Ints, begin: Ints) -> dict[str, Floats]:
    """Tell when the event is, and the pace up to it.

    Since when a user is known, or how many sessions, says more of the log's beginning than of the user.
    """
    place = index - begin
    spent = log.time - log.time[begin]
    return {
        "hour": log.time % DAY / HOUR,
        "weekday": (log.time // DAY % 7).astype(float),
        "pause": _log(np.where(index == first, _NEVER, log.time - log.time[np.maximum(index - 1, 0)])),
        "pause_before": _log(np.where(index - first < 2, _NEVER, _back(log.time, 1) - _back(log.time, 2))),
        "dwell": _log(spent / np.maximum(place, 1)),
        "session_spent": _log(spent),
        "place_in_session": place.astype(float),
    }


def _repeats(log: Log, session: Ints) -> dict[str, Floats]:
    found = {}
    for name, what in (("item", log.item), ("category", log.category)):
        before, last = _earlier(log.user, what)
        found[f"{name}_seen"] = before.astype(float)
        found[f"{name}_seen_session"] = _earlier(session, what)[0].astype(float)
        found[f"{name}_since"] = _log(np.where(before > 0, log.time - log.time[last], _NEVER))
        found[f"{name}_last"] = ((_back(what, 1) == what) & ~log.starts).astype(float)
    wanted = log.type == log.types.index("addtocart")
    found["item_carted"] = _earlier(log.user, log.item, wanted)[0].astype(float)
    return found


def _within(log: Log, span: int) -> Ints:
    """Return the first event of the same user that is at most `span` ms before each event."""
    stride = int(np.ptp(log.time)) + span + 1 if len(log) else 1
    key = log.user * stride + (log.time - log.time.min(initial=0 if not len(log) else log.time[0]))
    return np.searchsorted(key, key - span)


def _since(log: Log, marked: NDArray[np.bool_], first: Ints) -> Floats:
    """Return the time since the user's last marked event, the event itself included."""
    last = np.maximum.accumulate(np.where(marked, np.arange(len(log)), -1)) if len(log) else first
    return _log(np.where(last >= first, log.time - log.time[np.maximum(last, 0)], _NEVER))


def _earlier(group: Ints, what: Ints, marked: NDArray[np.bool_] | None = None) -> tuple[Ints, Ints]:
    """Count the earlier events of the same group and value, marked ones if so given; return also the last of all."""
    order = np.lexsort((np.arange(len(group)), what, group))
    same = np.r_[False, (group[order][1:] == group[order][:-1]) & (what[order][1:] == what[order][:-1])][: len(order)]
    begin = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    total = np.r_[0, np.cumsum(np.ones(len(order)) if marked is None else marked[order])]
    count, last = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    count[order] = total[:-1] - total[begin]
    last[order] = np.where(same, np.r_[order[:1], order[:-1]], order)
    return count, last


def _distinct(log: Log, what: Ints, begin: Ints) -> Floats:
    """Count the distinct values from `begin` on, where spans of one beginning never overlap others."""
    before, _ = _earlier(begin, what)
    new = np.cumsum(before == 0)
    return (new - new[begin] + 1).astype(float)


def _back(values: Ints, lag: int) -> Ints:
    return values[np.maximum(np.arange(len(values)) - lag, 0)]


def _log(span: NDArray[np.generic]) -> Floats:
    return np.asarray(np.log1p(np.asarray(span, np.float64) / 1000))
