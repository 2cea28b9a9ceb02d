"""One partition's sessions: an array of records, and which user has which."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from stream.core import session
from stream.core.session import Sessions
from stream.state.growable import GrowableArrays
from stream.state.user_bound import LongestIdle, longest
from stream.state.user_index import Mark, Slots, UserIndex

_FIRST = 1024


@dataclass(slots=True)
class Changes:
    """What undoes what a chunk changes in a store: who comes, which records are replaced, who goes, in this order."""

    mark: Mark
    undo: list[Callable[[], None]] = field(default_factory=list)


class SessionStore:
    """Users' records in slots; a slot of a removed user is used again."""

    def __init__(self, layout: np.dtype[np.void]) -> None:
        self._room = GrowableArrays(layout, _FIRST)
        self._names = UserIndex()
        self._changes: Changes | None = None  # where what changes is noted

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    @property
    def records(self) -> Sessions:
        """The records by slot; another array once there are more users."""
        return self._room.array

    @property
    def bytes(self) -> int:
        """Return the size of the records in memory."""
        return self.records.nbytes

    def slots(self, users: Sequence[str]) -> Slots:
        """Find the users' slots; an unknown user gets one with an empty record."""
        found = self._names.find(users)
        if len(new := np.flatnonzero(found < 0)):
            fresh = [users[at] for at in new.tolist()]
            known = list(dict.fromkeys(fresh))
            slots = self._names.add(known)
            if len(known) < len(fresh):
                given = dict(zip(known, slots.tolist(), strict=True))
                slots = np.array([given[user] for user in fresh], np.int64)
            if self._changes:
                self._changes.undo.append(partial(self._names.leave, np.unique(slots)))
            found[new] = slots
            if self._names.end > len(self.records):
                self._room.grow(max(2 * len(self.records), self._names.end))
        return found

    def read(self, slots: Slots) -> Sessions:
        """Return a copy of records that are about to be replaced."""
        found = session.take(self.records, slots)
        if self._changes:
            self._changes.undo.append(partial(self._write, slots, found))
        return found

    @contextmanager
    def noting(self, most: int) -> Iterator[Changes]:
        """Note what changes, while up to `most` shoppers come: `undo` takes it back."""
        self._changes = Changes(self._names.mark(most))
        try:
            yield self._changes
        finally:
            self._changes = None

    def undo(self, changes: Changes) -> None:
        """Take changes back, of which none came after them: names, slots and records are as they were."""
        for step in reversed(changes.undo):
            step()
        self._names.reset(changes.mark)

    def _write(self, slots: Slots, records: Sessions) -> None:
        session.put(self.records, slots, records)

    def _bring_back(self, slots: Slots, users: list[str], records: Sessions) -> None:
        self._names.enter(slots, users)
        self._write(slots, records)

    def put(self, users: Sequence[str], records: Sessions) -> None:
        """Set the users' records, (n,); of one who is there twice the last one holds."""
        slots = self.slots(users)
        session.put(self.records, slots, records)

    def users(self, slots: Slots) -> list[str]:
        """Name the users in slots that are taken."""
        return self._names.of(slots)

    def remove(self, users: Sequence[str]) -> None:
        """Forget users, known or not."""
        found = self._names.find(users)
        self.free(np.unique(found[found >= 0]))

    def free(self, slots: Slots) -> None:
        """Forget the users in slots that are taken, no slot twice."""
        if len(slots):
            if self._changes:
                held = self.users(slots), session.take(self.records, slots)
                self._changes.undo.append(partial(self._bring_back, slots, *held))
            self._names.remove(slots)
            self.records[slots] = np.zeros((), self.records.dtype)

    def idle(self, clock: int, ttl: int) -> list[str]:
        """Name the users whose session is over when the partition's clock is at `clock`, both in ms.

        Their next event would clear it, since the clock does not go back (`stream.core.session.expired`).
        """
        taken = self.records[: self._names.end]
        return self.users(np.flatnonzero((taken["last"] != 0) & (clock - taken["arrived"] > ttl)))

    def find(self, users: Sequence[str]) -> Slots:
        """Return the users' slots, -1 where one is unknown."""
        return self._names.find(users)

    def longest_idle(self, n: int) -> LongestIdle:
        """Return the `n` users who came longest ago, the first to go first."""
        return longest(self.records[: self._names.end], n, self.users)

    def get(self, user: str) -> Sessions | None:
        """Return a copy of one user's record."""
        slot = int(self._names.find([user])[0])
        return None if slot < 0 else self.records[slot].copy()
