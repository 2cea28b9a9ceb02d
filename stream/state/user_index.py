"""Which user is in which slot, in arrays: objects for each user would take several times the bytes of a name."""

from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.dtypes import StringDType
from numpy.typing import NDArray

from stream.state.growable import GrowableArrays

Slots = NDArray[np.int64]
_FIRST = 1024
_MANY = 64  # names from which on numpy finds them sooner than a loop
_GROWTH = 4  # numpy copies its strings one by one; room that is not touched takes no memory
_PLACE, _HASH = np.dtype(np.int32), np.dtype(np.uint32)
_TEXT = StringDType()  # UTF-8, up to 15 bytes in place
_FREE, _LEFT = 0, -1  # what stands in the table for no slot: never taken, and taken before


class Mark(NamedTuple):
    """Which slots are given next: those to be given again, the last ones first, then those from `end` on."""

    end: int
    again: int  # how many there are to be given again
    last: "array[int]"  # the last ones of them


class UserIndex:
    """Names in slots, looked up by hash in a table with linear probing; whether one is found its letters alone tell."""

    def __init__(self) -> None:
        self._places = GrowableArrays(_PLACE, 2 * _FIRST)
        self._used = 0  # places of the table that are not free
        self._hashes = GrowableArrays(_HASH, _FIRST)
        self._name: NDArray[Any] = np.zeros(_FIRST, _TEXT)  # by slot
        self._again = array("q")  # slots to be given again
        self.end = 0  # slots that were ever given are below it

    @property
    def _table(self) -> NDArray[np.int32]:
        """1 + the slot, by hash."""
        return self._places.array

    @property
    def _hash(self) -> NDArray[np.uint32]:
        """The names' hashes, by slot."""
        return self._hashes.array

    def __len__(self) -> int:
        return self.end - len(self._again)

    def __iter__(self) -> Iterator[str]:
        return iter(self.of(self._taken()))

    def of(self, slots: Slots) -> list[str]:
        """Return the names in slots that are taken."""
        found: list[str] = self._name[slots].tolist()
        return found

    def find(self, names: Sequence[str]) -> Slots:
        """Return the slots of names, -1 where one is unknown."""
        if len(names) < _MANY:
            return np.array(self._seek(names), np.int64)
        hashes, found = _hashes(names), np.full(len(names), -1, np.int64)
        rest, at = np.arange(len(names)), self._place(hashes)
        while len(rest) >= _MANY:
            entry = self._table[at].astype(np.int64)
            alike = np.flatnonzero((entry > 0) & (self._hash[entry - 1] == hashes[rest]))
            rows, slots = rest[alike], entry[alike] - 1
            same = self._name[slots] == np.array([names[row] for row in rows.tolist()], _TEXT)
            found[rows[same]] = slots[same]
            on = (entry != _FREE) & (found[rest] < 0)
            rest, at = rest[on], self._next(at[on])
        found[rest] = self._seek([names[row] for row in rest.tolist()])
        return found

    def _seek(self, names: Sequence[str]) -> list[int]:
        table, hashes, last, found = self._table.data, self._hash.data, len(self._table) - 1, []
        for name in names:
            hashed = hash(name) & 0xFFFFFFFF
            at = hashed & last
            while slot := table[at]:
                if slot > 0 and hashes[slot - 1] == hashed and self._name[slot - 1] == name:
                    break
                at = (at + 1) & last
            found.append(slot - 1)
        return found

    def add(self, names: Sequence[str]) -> Slots:
        """Give slots to names that are unknown and of which no two are the same."""
        again = [self._again.pop() for _ in range(min(len(self._again), len(names)))]
        begin, self.end = self.end, self.end + len(names) - len(again)
        slots = np.array([*again, *range(begin, self.end)], np.int64)
        if self.end > len(self._hash):
            room = max(_GROWTH * len(self._hash), self.end)
            self._hashes.grow(room)
            held, self._name = self._name, np.zeros(room, _TEXT)  # these cannot lie in pages that are given
            self._name[: len(held)] = held
        self.enter(slots, names)
        return slots

    def mark(self, most: int) -> Mark:
        """Mark which slots are given next, before up to `most` names come."""
        return Mark(self.end, len(self._again), self._again[-most:] if most else array("q"))

    def reset(self, mark: Mark) -> None:
        """Give next what was given next at the mark: all names are as they were, and `most` at most had come."""
        self.end = mark.end
        del self._again[mark.again - len(mark.last) :]
        self._again.extend(mark.last)

    def remove(self, slots: Slots) -> None:
        """Take the names out of slots that are taken, no slot twice."""
        self.leave(slots)
        self._again.extend(slots.tolist())

    def enter(self, slots: Slots, names: Sequence[str]) -> None:
        """Write names into slots; what is given next is left to `add` and `reset`."""
        self._hash[slots], self._name[slots] = _hashes(names), names
        if 2 * (self._used + len(slots)) > len(self._table):
            self._lay_out(len(slots))
        self._enter(slots)

    def leave(self, slots: Slots) -> None:
        """Take names out of slots; what is given next is left to `remove` and `reset`."""
        rest, at = slots, self._place(self._hash[slots])
        while len(rest):
            here = self._table[at] == rest + 1
            self._table[at[here]] = _LEFT
            rest, at = rest[~here], self._next(at[~here])
        self._name[slots] = ""

    def _lay_out(self, more: int) -> None:
        """Make the table anew, without the places that were left, with room for more; half of it stays free."""
        taken = self._taken()
        size = 1 << (2 * (len(taken) + more) - 1).bit_length()
        self._places, self._used = GrowableArrays(_PLACE, max(size, 2 * _FIRST)), 0
        self._enter(taken)

    def _taken(self) -> Slots:
        return np.sort(self._table[self._table > 0]).astype(np.int64) - 1

    def _enter(self, slots: Slots) -> None:
        self._used += len(slots)
        rest, at = slots, self._place(self._hash[slots])
        while len(rest):
            free = self._table[at] == _FREE
            self._table[at[free]] = rest[free] + 1  # of those that want one place the last has it
            lost = self._table[at] != rest + 1
            rest, at = rest[lost], self._next(at[lost])

    def _place(self, hashes: NDArray[np.uint32]) -> Slots:
        return hashes.astype(np.int64) & (len(self._table) - 1)

    def _next(self, at: Slots) -> Slots:
        return (at + 1) & (len(self._table) - 1)


def _hashes(names: Sequence[str]) -> NDArray[np.uint32]:
    """Return 32 bits of Python's hashes: seeded anew in each process, so that nobody can choose names that collide."""
    return np.fromiter(map(hash, names), np.int64, len(names)).astype(np.uint32)
