"""Parts of the asked-for events that are measured apart: one entry a way of slicing in `SLICES`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.log import Log, sessions_of
from stream.core.manifest import TaskSpec

Ints = NDArray[np.int64]
_POSITIONS = (1, 2, 3, 4, 5, 7, 10, 20)  # first place of each part
_PARTS = 10  # of the targets, by popularity


@dataclass(frozen=True, slots=True)
class Slice:
    """The parts' names, and each example's part, from 0."""

    names: tuple[str, ...]
    part: Ints

    @property
    def count(self) -> Ints:
        """Return the examples of each part."""
        return np.bincount(self.part, minlength=len(self.names))


def places(log: Log, gap: int) -> Ints:
    """Return each event's place in its session, from 1; `gap` in ms ends a session."""
    session = sessions_of(log, gap)
    return np.arange(len(log)) - np.searchsorted(session, session) + 1


def by_position(log: Log, row: Ints, since: int, meaning: TaskSpec) -> Slice:
    """Slice by how many events of the session the model has seen."""
    return _stepped(places(log, meaning.gap)[row], np.array(_POSITIONS))


def by_popularity(log: Log, row: Ints, since: int, meaning: TaskSpec) -> Slice:
    """Slice by how often the target occurs before `since`: never, then tenths of the targets, ties together."""
    count = np.bincount(log.item[log.time < since], minlength=len(log.items))[log.item[row + 1]]
    seen = count[count > 0]
    edges = np.quantile(seen, np.arange(1, _PARTS) / _PARTS, method="higher") if len(seen) else seen
    return _stepped(count, np.unique(np.r_[0, 1, edges].astype(np.int64)))


def by_novelty(log: Log, row: Ints, since: int, meaning: TaskSpec) -> Slice:
    """Slice by whether target and user occur before `since`: what is left is a cold start."""
    before = log.time < since
    item = np.bincount(log.item[before], minlength=len(log.items))[log.item[row + 1]] > 0
    user = np.bincount(log.user[before], minlength=len(log.users))[log.user[row]] > 0
    names = tuple(f"{i} item\n{u} shopper" for i in ("old", "new") for u in ("old", "new"))
    return Slice(names, (2 * ~item + ~user).astype(np.int64))


def by_return(log: Log, row: Ints, since: int, meaning: TaskSpec) -> Slice:
    """Slice by whether the user has met the target: who lists a user's own items hits no other."""
    return Slice(("met before", "new to the shopper"), log.first_met[row + 1].astype(np.int64))


def _stepped(value: Ints, first: Ints) -> Slice:
    """Slice whole numbers at the first value of each part."""
    last = np.r_[first[1:] - 1, -1]
    names = tuple(
        f"{a:,}+" if b < 0 else f"{a:,}" if a == b else f"{a:,}–{b:,}"
        for a, b in zip(first.tolist(), last.tolist(), strict=True)
    )
    return Slice(names, np.searchsorted(first, value, side="right") - 1)


SLICES: Mapping[str, Callable[[Log, Ints, int, TaskSpec], Slice]] = {
    "position": by_position,
    "popularity": by_popularity,
    "novelty": by_novelty,
    "return": by_return,
}
"""From log, the rows asked for, the held-out part's begin (ms) and the meaning to the slice."""
