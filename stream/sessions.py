"""One partition's sessions: an array of records, and which shopper has which."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from stream.core import session
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
        found = np.fromiter(map(known.get, users, repeat(-1)), np.int64, len(users))
        if len(new := np.flatnonzero(found < 0)):
            fresh = [users[at] for at in new.tolist()]
            self._add(list(dict.fromkeys(fresh)))
            found[new] = [known[user] for user in fresh]
        return found

    def put(self, users: Sequence[str], records: Sessions) -> None:
        """Set the shoppers' records, (n,); of one who is there twice the last one holds."""
        slots = self.slots(users)
        session.put(self.records, slots, records)

    def _add(self, users: list[str]) -> None:
        again = min(len(self._free), len(users))
        for user in users[:again]:
            slot = self._free.pop()
            self._user[slot], self._slot[user] = user, slot
        begin, rest = len(self._user), users[again:]
        self._user += rest
        self._slot.update(zip(rest, range(begin, len(self._user)), strict=True))
        if len(self._user) > len(self.records):
            room = max(2 * len(self.records), len(self._user))
            grown = np.zeros(room, self.records.dtype)  # memory that is not touched costs none
            session.raw(grown)[: len(self.records)] = session.raw(self.records)
            self.records = grown

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
