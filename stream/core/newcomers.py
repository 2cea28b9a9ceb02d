"""Items that the model has not seen, one bounded table a partition.

A newcomer's index follows from its id alone (`Vocabulary.place`), so sessions can refer to it without the
table, which holds what a ranking needs: name, category, price, and a count of its events that halves with time.
"""

from collections.abc import Iterable, Iterator, Mapping
from copy import copy

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.events import ID_LENGTH_MAX
from stream.core.manifest import Vocabulary

Ints = NDArray[np.int64]
SLACK = 1.125  # a table grows so far beyond its limit before it is cut back


class Newcomer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A newcomer as the changelog keeps it: fingerprint of its category, its count at its last event (ms), its price.

    The price is the first one known.
    """

    category: int
    count: float
    last: int
    price: float | None = None


_COLUMNS = ("index", "category", "print", "price", "count", "last")
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Newcomer).decode
_NO_ITEM = (msgspec.MsgspecError, RecursionError, ValueError)


class Table:
    """The newcomers of a partition; the least counted go where there are too many."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.index = np.zeros(0, np.int64)
        self.category = np.zeros(0, np.int64)
        self.print = np.zeros(0, np.uint64)  # of the category
        self.price = np.zeros(0)  # NaN: none known
        self.count = np.zeros(0)
        self.last = np.zeros(0, np.int64)
        self.stale: dict[str, None] = {}  # names in the changelog that are no newcomers to this model
        self._slot: dict[int, int] = {}
        self._room = 0

    def __len__(self) -> int:
        return len(self.names)

    def copy(self) -> "Table":
        """Return a table of its own with the same newcomers."""
        found = copy(self)
        for name, value in vars(self).items():
            if hasattr(value, "copy"):
                setattr(found, name, value.copy())
        return found

    def named(self, indices: Iterable[int]) -> dict[int, str]:
        """Name those newcomers that are in the table."""
        return {index: self.names[self._slot[index]] for index in indices if index in self._slot}

    def strangers(self, names: Mapping[int, str]) -> list[int]:
        """Return the slots of newcomers whose index is another item's by `names`."""
        found = ((self._slot.get(index, -1), name) for index, name in names.items())
        return [slot for slot, name in found if slot >= 0 and self.names[slot] != name]

    def slots(self, index: Ints) -> Ints:
        """Find newcomers' slots, -1 for what is none or not in the table."""
        found = [self._slot.get(i, -1) for i in index.ravel().tolist()]
        return np.array(found, np.int64).reshape(index.shape)

    def moves(self, index: int, category: int, price: float) -> bool:
        """Tell whether an event gives a newcomer another category, or its first price."""
        slot = self._slot.get(index)
        if slot is None:
            return False
        return category not in (0, self.category[slot]) or (np.isnan(self.price[slot]) and not np.isnan(price))

    def see(self, name: str, index: int, category: int, print_: int, price: float, time: int, half_life: float) -> int:
        """Count an event of a newcomer, and return its slot; -1 where another item has its index."""
        slot = self._slot.get(index)
        if slot is None:
            slot = self._add(name, index)
            self.last[slot] = time
        elif self.names[slot] != name:
            return -1
        if category:
            self.category[slot], self.print[slot] = category, print_
        if np.isnan(self.price[slot]):
            self.price[slot] = price
        ahead = (time - int(self.last[slot])) / half_life
        self.count[slot] = self.count[slot] * 2.0 ** -max(ahead, 0.0) + 2.0 ** min(ahead, 0.0)
        self.last[slot] = max(int(self.last[slot]), time)
        return slot

    def put(self, name: str, index: int, category: int, value: Newcomer) -> bool:
        """Set a newcomer to what the changelog has of it; return False where another item has its index."""
        slot = self._slot.get(index)
        slot = self._add(name, index) if slot is None else slot
        if self.names[slot] != name:
            return False
        self.category[slot], self.print[slot] = category, value.category
        self.count[slot], self.last[slot] = value.count, value.last
        self.price[slot] = np.nan if value.price is None else value.price
        return True

    def get(self, name: str, index: int) -> Newcomer | None:
        """Return a newcomer as the changelog keeps it, None where it is not in the table."""
        slot = self._slot.get(index)
        if slot is None or self.names[slot] != name:
            return None
        price = None if np.isnan(self.price[slot]) else float(self.price[slot])
        return Newcomer(int(self.print[slot]), float(self.count[slot]), int(self.last[slot]), price)

    def remove(self, name: str, index: int) -> None:
        """Forget a newcomer, known or not."""
        slot = self._slot.get(index)
        if slot is not None and self.names[slot] == name:
            self._keep(np.flatnonzero(np.arange(len(self)) != slot))

    def heat(self, half_life: float) -> NDArray[np.float64]:
        """Return the log2 of the counts, all as they will be at time 0: comparable with each other at any time."""
        return np.log2(self.count[: len(self)]) + self.last[: len(self)] / half_life

    def cut(self, limit: int, half_life: float) -> list[str]:
        """Forget the least counted where there are far more than `limit`; name them."""
        if len(self) <= limit * SLACK:
            return []
        order = np.lexsort((self.index[: len(self)], -self.heat(half_life)))
        gone = [self.names[slot] for slot in order[limit:].tolist()]
        self._keep(np.sort(order[:limit]))
        return gone

    def _add(self, name: str, index: int) -> int:
        slot = len(self.names)
        if slot >= self._room:
            self._room = max(2 * self._room, 64)
            for column in _COLUMNS:
                old = getattr(self, column)
                setattr(self, column, np.concatenate([old[:slot], np.zeros(self._room - slot, old.dtype)]))
        self.names.append(name)
        self._slot[index] = slot
        self.index[slot], self.category[slot], self.price[slot], self.count[slot] = index, 0, np.nan, 0.0
        self.print[slot] = 0  # the slot may have been another's
        return slot

    def _keep(self, slots: NDArray[np.int64]) -> None:
        for column in _COLUMNS:
            old = getattr(self, column)
            old[: len(slots)] = old[slots]
        self.names = [self.names[slot] for slot in slots.tolist()]
        self._slot = {index: slot for slot, index in enumerate(self.index[: len(slots)].tolist())}


def load(table: Table, vocabulary: Vocabulary, name: bytes, value: bytes | None) -> str:
    """Take up a changelog record; return why it is none, and then nothing changes: lists alone depend on it.

    What the vocabulary knows by now is no newcomer, and is noted as stale.
    """
    try:
        item, found = name.decode(), None if value is None else _decode(value)
    except _NO_ITEM as error:
        return f"{type(error).__name__}: {error}"
    if not 0 < len(item) <= ID_LENGTH_MAX:
        return f"a name of {len(item)} characters"
    if item in vocabulary.item_index:
        table.stale.pop(item, None)
        if found:
            table.stale[item] = None
        return ""
    index = int(vocabulary.place([item])[0])
    if found is None:
        table.remove(item, index)
        return ""
    if not _sound(found):
        return "a number out of its range"
    category = int(vocabulary.category_at(np.array([found.category], np.uint64))[0])
    return "" if table.put(item, index, category, found) else "another item has its index"


def _sound(value: Newcomer) -> bool:
    return 0 <= value.category < 2**64 and 0 < value.count < np.inf and 0 <= value.last < 2**53


def pack(table: Table, vocabulary: Vocabulary, names: list[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield newcomers as the changelog keeps them; None for one that is forgotten."""
    for name, index in zip(names, vocabulary.place(names).tolist(), strict=True):
        found = table.get(name, index)
        yield name, None if found is None else _encode(found)
