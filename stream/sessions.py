"""One partition's sessions: an array of records, and which shopper has which."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from stream.core.session import Sessions

_FIRST = 1024


class SessionStore:
    """Shoppers' records in slots; a slot of a removed shopper is used again."""

    def __init__(self, layout: np.dtype[np.void]) -> None:
        self.records: Sessions = np.zeros(_FIRST, layout)
        self._slot: dict[str, int] = {}
        self._user: list[str | None] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slot)

    def __iter__(self) -> Iterator[str]:
        return iter(self._slot)

    @property
    def bytes(self) -> int:
        """Return the size of the records in memory."""
        return self.records.nbytes

    def slots(self, users: Sequence[str]) -> NDArray[np.int64]:
        """Find the shoppers' slots; an unknown shopper gets one with an empty record."""
        known = self._slot
        found = np.fromiter((known.get(user, -1) for user in users), np.int64, len(users))
        for at in np.flatnonzero(found < 0).tolist():
            found[at] = self._add(users[at])
        return found

    def _add(self, user: str) -> int:
        if (slot := self._slot.get(user)) is not None:
            return slot
        if self._free:
            slot = self._free.pop()
            self._user[slot] = user
        else:
            slot = len(self._user)
            self._user.append(user)
            if slot >= len(self.records):
                grown = np.zeros(2 * len(self.records), self.records.dtype)  # memory that is not touched costs none
                grown[: len(self.records)] = self.records
                self.records = grown
        self._slot[user] = slot
        return slot

    def users(self, slots: Iterable[int]) -> list[str]:
        """Name the shoppers in slots that are taken."""
        return [user for slot in slots if (user := self._user[slot]) is not None]

    def remove(self, users: Iterable[str]) -> None:
        """Forget shoppers, known or not."""
        for user in users:
            if (slot := self._slot.pop(user, None)) is not None:
                self._user[slot] = None
                self._free.append(slot)
                self.records[slot] = np.zeros((), self.records.dtype)

    def idle(self, clock: int, ttl: int) -> list[str]:
        """Name the shoppers whose newest record is older than `ttl` ms at `clock` (ms)."""
        taken = self.records[: len(self._user)]
        return self.users(np.flatnonzero((taken["model"] != 0) & (clock - taken["arrived"] > ttl)).tolist())

    def get(self, user: str) -> Sessions | None:
        """Return a copy of one shopper's record."""
        slot = self._slot.get(user)
        return None if slot is None else self.records[slot].copy()
