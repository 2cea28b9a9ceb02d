"""Items that the model has not seen, one bounded table a partition.

A cold item's index follows from its id alone (`Vocabulary.place`), so sessions can refer to it without the
table, which holds what a ranking needs: name, category, price, a count of its events that halves with time, and which
users met it. Cold items are told apart by name: anyone can make ids that share an index.
"""

from collections.abc import Iterator, Mapping
from copy import copy

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream.core.events import ID_LENGTH_MAX, odd
from stream.core.hashing import keyed
from stream.core.manifest import Vocabulary
from stream.core.session import NEVER
from stream.recommend.list_filters import INDEX

Ints = NDArray[np.int64]
SLACK = 1.125  # a table grows so far beyond its limit before it is cut back
_CROWD = 1024  # events that stand for half a user where the table is cut: however many, they never stand for one
_SHARED = -1


class ColdItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """A cold item as the changelog keeps it: fingerprint of its category, its count at its last event (ms), its price.

    The price is the first one known. `first` (ms) is when it came, 0: as of its last event. `met` has a bit of each
    user that was there before it and met it.
    """

    category: int
    count: float
    last: int
    price: float | None = None
    first: int = 0
    met: int = 0


_COLUMNS = ("index", "item", "key", "category", "print", "price", "count", "last", "first", "met")
_encode, _decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(ColdItem).decode
_NO_ITEM = (msgspec.MsgspecError, RecursionError, ValueError)


class Table:
    """The cold items of a partition; those that fewest users met go where there are too many."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.index = np.zeros(0, np.int64)
        self.item = np.zeros(0, np.uint64)  # fingerprint of the name
        self.key = np.zeros(0, np.uint64)  # keyed fingerprint of the name
        self.category = np.zeros(0, np.int64)
        self.print = np.zeros(0, np.uint64)  # of the category
        self.price = np.zeros(0)  # NaN: none known
        self.count = np.zeros(0)
        self.last = np.zeros(0, np.int64)
        self.first = np.zeros(0, np.int64)
        self.met = np.zeros(0, np.uint64)
        self.stale: dict[str, None] = {}  # names in the changelog that are no cold items to this model
        self._slot: dict[str, int] = {}
        self._place: dict[int, int] = {}  # the slot of an index, or `_SHARED`
        self._room = 0

    def __len__(self) -> int:
        return len(self.names)

    def copy(self) -> "Table":
        """Return a table of its own with the same cold items."""
        found = copy(self)
        for name, value in vars(self).items():
            if hasattr(value, "copy"):
                setattr(found, name, value.copy())
        return found

    def slot(self, name: str) -> int:
        """Return a cold item's slot, -1 where it is not in the table."""
        return self._slot.get(name, -1)

    def slots(self, index: Ints) -> Ints:
        """Find the slots of indices, -1 for what is none, not in the table, or shared by several cold items."""
        found = [self._place.get(i, -1) for i in index.ravel().tolist()]
        return np.array(found, np.int64).reshape(index.shape)

    def apart(self, slots: Ints, names: Mapping[int, str]) -> Ints:
        """Return what stands for cold items in lists: their indices, with bits above where another has one.

        `names` are those that lists have already.
        """
        found, taken = self.index[slots], dict(names)
        shared = [index for index, place in self._place.items() if place == _SHARED] if self._twins else []
        for place in np.flatnonzero(np.isin(found, [*taken, *shared])).tolist():
            name = self.names[slots[place]]
            while taken.setdefault(int(found[place]), name) != name:
                found[place] += INDEX + 1
        return found

    def sort(self, slots: Ints) -> Ints:
        """Sort slots by what does not depend on restarts, as slots do: index, then name."""
        if self._twins:
            slots = np.array(sorted(slots.tolist(), key=self.names.__getitem__), np.int64)
        return slots[np.argsort(self.index[slots], kind="stable")]

    @property
    def _twins(self) -> int:
        return len(self.names) - len(self._place)

    def moves(self, name: str, category: int, price: float) -> bool:
        """Tell whether an event gives a cold item another category, or its first price."""
        slot = self._slot.get(name)
        if slot is None:
            return False
        return category not in (0, self.category[slot]) or (np.isnan(self.price[slot]) and not np.isnan(price))

    def see(
        self,
        name: str,
        index: int,
        category: int,
        print_: int,
        price: float,
        time: int,
        half_life: float,
        item: int = 0,
        user: int = 0,
        since: int = NEVER,
    ) -> int:
        """Count an event of a cold item, and return its slot.

        `item` and `user` are fingerprints; `since` (ms) is since when the user is known by other items. A user
        that was there before the cold item is counted, once.
        """
        slot = self._slot.get(name)
        if slot is None:
            # Dated back, a first event would leave nobody who was there before it.
            newest = int(self.last[: len(self)].max(initial=0))
            slot = self._add(name, index, item)
            self.last[slot], self.first[slot] = time, max(time, newest)
        if since < self.first[slot]:
            self.met[slot] |= np.uint64(1 << (user & 63))
        if category:
            self.category[slot], self.print[slot] = category, print_
        if np.isnan(self.price[slot]):
            self.price[slot] = price
        ahead = (time - int(self.last[slot])) / half_life
        self.count[slot] = self.count[slot] * 2.0 ** -max(ahead, 0.0) + 2.0 ** min(ahead, 0.0)
        self.last[slot] = max(int(self.last[slot]), time)
        return slot

    def put(self, name: str, index: int, category: int, value: ColdItem, item: int = 0) -> None:
        """Set a cold item to what the changelog has of it."""
        slot = self._slot.get(name)
        slot = self._add(name, index, item) if slot is None else slot
        self.category[slot], self.print[slot] = category, value.category
        self.count[slot], self.last[slot] = value.count, value.last
        self.price[slot] = np.nan if value.price is None else value.price
        self.first[slot], self.met[slot] = value.first or value.last, value.met

    def get(self, name: str) -> ColdItem | None:
        """Return a cold item as the changelog keeps it, None where it is not in the table."""
        slot = self._slot.get(name)
        if slot is None:
            return None
        price = None if np.isnan(self.price[slot]) else float(self.price[slot])
        first, last = int(self.first[slot]), int(self.last[slot])
        first = 0 if first == last else first
        return ColdItem(int(self.print[slot]), float(self.count[slot]), last, price, first, int(self.met[slot]))

    def remove(self, name: str) -> None:
        """Forget a cold item, known or not."""
        slot = self._slot.get(name)
        if slot is not None:
            self._keep(np.flatnonzero(np.arange(len(self)) != slot))

    def users(self) -> NDArray[np.uint8]:
        """Return how many users at least were there before each cold item and met it, 64 at most."""
        return np.bitwise_count(self.met[: len(self)])

    def heat(self, half_life: float) -> NDArray[np.float64]:
        """Return the log2 of the counts, all as they will be at time 0: comparable with each other at any time."""
        return np.log2(self.count[: len(self)]) + self.last[: len(self)] / half_life

    def cut(self, limit: int, half_life: float) -> list[str]:
        """Forget those that fewest users met where there are far more than `limit`; name them.

        What users stand for halves with time, as counts do.
        """
        if len(self) <= limit * SLACK:
            return []
        count, last = self.count[: len(self)], self.last[: len(self)]
        standing = np.log2(self.users() + count / (count + _CROWD)) + last / half_life
        order = self.sort(np.arange(len(self)))
        order = order[np.argsort(-standing[order], kind="stable")]
        gone = [self.names[slot] for slot in order[limit:].tolist()]
        self._keep(np.sort(order[:limit]))
        return gone

    def _add(self, name: str, index: int, item: int) -> int:
        slot = len(self.names)
        if slot >= self._room:
            self._room = max(2 * self._room, 64)
            for column in _COLUMNS:
                old = getattr(self, column)
                setattr(self, column, np.concatenate([old[:slot], np.zeros(self._room - slot, old.dtype)]))
        self.names.append(name)
        self._slot[name] = slot
        self._place[index] = _SHARED if index in self._place else slot
        for column in _COLUMNS:
            getattr(self, column)[slot] = 0  # the slot may have been another's
        self.index[slot], self.item[slot], self.key[slot], self.price[slot] = index, item, keyed([name])[0], np.nan
        return slot

    def _keep(self, slots: NDArray[np.int64]) -> None:
        for column in _COLUMNS:
            old = getattr(self, column)
            old[: len(slots)] = old[slots]
        self.names = [self.names[slot] for slot in slots.tolist()]
        self._slot = {name: slot for slot, name in enumerate(self.names)}
        self._place = {}
        for slot, index in enumerate(self.index[: len(slots)].tolist()):
            self._place[index] = _SHARED if index in self._place else slot


def load(
    table: Table,
    vocabulary: Vocabulary,
    name: bytes,
    value: bytes | None,
    longest: int = ID_LENGTH_MAX,
    printable: bool = True,
) -> str:
    """Take up a changelog record; return why it is none, and then no list changes: they alone depend on it.

    What the vocabulary knows by now is no cold item, nor what has an id that is not published: noted as stale.
    """
    try:
        item, found = name.decode(), None if value is None else _decode(value)
    except _NO_ITEM as error:
        return f"{type(error).__name__}: {error}"
    if not 0 < len(item) <= ID_LENGTH_MAX:
        return f"a name of {len(item)} characters"
    if (fault := odd(item, longest, printable)) or item in vocabulary.item_index:
        table.stale.pop(item, None)
        if found:
            table.stale[item] = None
        return f"a name that {fault}" if fault and found else ""
    if found is None:
        table.remove(item)
        return ""
    if not _sound(found):
        return "a number out of its range"
    category = int(vocabulary.category_at(np.array([found.category], np.uint64))[0])
    print_ = vocabulary.unknown_prints([item])
    table.put(item, int(vocabulary.newcomer(print_)[0]), category, found, int(print_[0]))
    return ""


def _sound(value: ColdItem) -> bool:
    prints = 0 <= value.category < 2**64 and 0 <= value.met < 2**64
    return prints and 0 < value.count < np.inf and 0 <= value.last < 2**53 and 0 <= value.first < 2**53


def pack(table: Table, names: list[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield cold items as the changelog keeps them; None for one that is forgotten."""
    for name in names:
        found = table.get(name)
        yield name, None if found is None else _encode(found)
