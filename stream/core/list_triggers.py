"""Recommendations on their own clock: which of the scored events get a list."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from stream.core.manifest import Manifest
from stream.core.session import Advance, Sessions

On = Literal["every", "session", "nth", "moved"]
MOVED: On = "moved"
Rows = NDArray[np.intp]
Floats = Mapping[str, NDArray[np.float32]]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Clock:
    """When a list is due: on each event, a session's first, each `nth` of a session, or after the state has moved.

    The state moves with each event by the root mean square of what its floats change by. Moves add up in the
    session's record since the last list that was due, so that no list is older than `moved` says.
    """

    on: On = "every"
    nth: int = 1
    moved: float = 0.1
    last: bool = False

    def tick(self, now: Sessions, met: Advance, before: Floats, names: tuple[str, ...]) -> Mask:
        """Tell which events, one a session, a list is due at; `before` are the state's floats, called `names`.

        `now` are the sessions after the events, whose sums of moves go on or begin again.
        """
        if self.on != MOVED:
            return self.strike(now, met.opens)
        drift = now["drift"].astype(np.float32) + _moved(now, before, names)
        due = met.fresh | (drift > self.moved)
        now["drift"] = np.where(due, 0, drift.clip(max=60_000))
        return due

    def strike(self, now: Sessions, opens: Mask) -> Mask:
        """Tell the same without the state: of a clock that does not ask how far it moved."""
        if self.on == "session":
            return opens
        if self.on == "nth":
            return np.asarray((now["length"] - 1) % self.nth == 0)
        return np.ones(len(now), np.bool_)

    def choose(self, due: Mask, scored: Mask, slot: NDArray[np.int64]) -> Rows:
        """Return the rows of a batch that get a list; with `last` a user's last scored one, if any was due."""
        if not self.last:
            return np.flatnonzero(due & scored)
        asked = np.isin(slot, slot[due & scored])
        rows = np.flatnonzero(asked & scored)[::-1]
        return np.sort(rows[np.unique(slot[rows], return_index=True)[1]])


EVERY = Clock()


@dataclass(frozen=True, slots=True)
class Due:
    """The rows of a batch that a clock has found due so far."""

    clock: Clock
    rows: Mask

    def tick(self, rows: Rows, now: Sessions, met: Advance, before: Mapping[str, Any], manifest: Manifest) -> None:
        """Ask the clock for a wave."""
        floats = tuple(name for name in manifest.hidden if name not in manifest.integers)
        self.rows[rows] = self.clock.tick(now, met, before, floats)

    def run(self, rows: Rows, now: Sessions, opens: Mask) -> None:
        """Ask the clock for one user's events, `now` being the session after each."""
        self.rows[rows] = self.clock.strike(now, opens)


def _moved(now: Sessions, before: Floats, names: tuple[str, ...]) -> NDArray[np.float32]:
    change = [(now[n].astype(np.float32) - before[n]).reshape(len(now), -1) for n in names]
    return np.sqrt(np.mean(np.concatenate(change, 1) ** 2, 1))
