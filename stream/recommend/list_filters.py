"""Business rules over lists of items: what may be listed, what was bought, a cap a category, pins.

No rule costs recall: a row that its rules leave short is asked again, with all that is exhausted masked, until it
is full or nothing is left that may be listed.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Prints = NDArray[np.uint64]
Mask = NDArray[np.bool_]
Rank = Callable[[Floats, Floats, Ints, Mask | None, int], tuple[Floats, Ints, Floats]]
"""(query, gate, recent, allowed, k) -> (scores, items, own): the lists of queries over the catalog.

`query` (n, D), `gate` (n, A), `recent` (n, R), `allowed` (items + 1,) by index, None: all. Scores and items (n, k),
1 and up, best first, 0 where there are fewer; `own` (n, R) is what each recent item has of its own. It gives up to
`PAGE` items, or the model's k, where so many are asked for.
"""
PAGE = 100
PINS = 100  # at most: lists are widened by all of them
USERS = 3  # users that an unseen item needs before it is listed to others, unless said otherwise
INDEX = 2**32 - 1  # the bits of an entry of a list that are an index: those above tell items apart that share one


@dataclass(frozen=True, slots=True)
class Others:
    """What the shop says of items that the model does not know, by their keyed fingerprints.

    `category` is a fingerprint, 0 where their events say it, `refused` whether they may not be listed, `price` NaN
    where none is known. A last row, of no item, says nothing.
    """

    key: Prints
    category: Prints
    refused: Mask
    price: NDArray[np.float64]

    @classmethod
    def of(cls, key: ArrayLike, category: ArrayLike, refused: ArrayLike, price: ArrayLike) -> Self:
        """Put items, (n,) each, no two the same, in order."""
        order = np.argsort(np.asarray(key, np.uint64))
        ends = (("u8", key, 0), ("u8", category, 0), ("?", refused, False), ("f8", price, np.nan))
        return cls(*(np.append(np.asarray(c, kind)[order], np.array(end, kind)) for kind, c, end in ends))

    def __len__(self) -> int:
        return len(self.key) - 1

    def rows(self, key: Prints) -> NDArray[np.intp]:
        """Return items' rows, of any shape; the last one where an item is not there."""
        row = np.searchsorted(self.key[:-1], key)
        return np.where(self.key[row] == key, row, len(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules of now over the known items, by index (items + 1,), and over cold items.

    `category` holds fingerprints, 0 for none, which no cap counts. `pins` are indices, the first of each list
    first and none twice; they obey the other rules. `names` names the newcomers among them, `said` has their
    categories as the shop says them. `others` is what the shop says of newcomers; with `only_named` no other ones are
    listed, else one that it does not name needs so many `users` who met it. With `categories`, fingerprints, only
    items of these are listed.
    """

    category: Prints
    allowed: Mask | None = None
    pins: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    names: dict[int, str] = field(default_factory=dict)
    said: Prints = field(default_factory=lambda: np.zeros(0, np.uint64))
    others: Others = field(default_factory=lambda: Others.of([], [], [], []))
    only_named: bool = False
    users: int = 0
    categories: Prints | None = None
    cap: int = 0
    exclude_bought: bool = False

    @property
    def by_row(self) -> bool:
        """Tell whether a list depends on more than what may be listed."""
        return bool(self.cap or self.exclude_bought or len(self.pins))

    def categories_of(self, items: Ints) -> Prints:
        """Return the categories of items, as far as they do not come from cold items' events."""
        found = self.category[np.where(items < len(self.category), items, 0)]
        if not len(self.said):
            return np.where(items < len(self.category), found, np.uint64(0))
        return np.where(items < len(self.category), found, np.append(self.said, np.uint64(0))[self.pinned(items)])

    def newcomers(self, key: Prints, category: Prints) -> tuple[Mask, Prints]:
        """Tell which cold items may be listed, and their categories; `category` are those that their events give."""
        row = self.others.rows(key)
        said, fit = self.others.category[row], ~self.others.refused[row]
        if self.only_named:
            fit &= row < len(self.others)
        category = np.where(said != 0, said, category)
        return (fit if self.categories is None else fit & np.isin(category, self.categories)), category

    def trusted(self, key: Prints, users: NDArray[np.uint8]) -> Mask:
        """Tell which cold items may be listed to users who did not meet them, `users` having met each."""
        return (users >= self.users) | (self.others.rows(key) < len(self.others))

    def pick(self, scores: Floats, items: Ints, category: Prints, bought: Ints, k: int) -> tuple[Floats, Ints]:
        """Go down lists (n, m) and take the first `k` that fit; blanks of 0 follow. `bought` (n, b) are indices."""
        keep = items != 0
        if self.exclude_bought:
            keep &= ~((items & INDEX)[:, :, None] == bought[:, None, :]).any(2)
        if self.cap:
            counted = np.where(keep, category, np.uint64(0))
            keep &= (counted == 0) | (_nth(counted) < self.cap)
        order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
        keep = np.take_along_axis(keep, order, 1)
        picked = (np.where(keep, np.take_along_axis(part, order, 1), 0) for part in (scores, items))
        room = ((0, 0), (0, max(k - order.shape[1], 0)))
        found, places = (np.pad(part, room) for part in picked)
        return found.astype(np.float32), places

    def ahead(self, scores: Floats, items: Ints) -> tuple[Floats, Ints]:
        """Put the pins in front of lists, with their scores where they are listed, else 0."""
        if not len(self.pins):
            return scores, items
        place = self.pinned(items)
        row, column = np.nonzero(place >= 0)
        pinned = np.zeros((len(items), len(self.pins)), np.float32)
        pinned[row, place[row, column]] = scores[row, column]
        pins = np.tile(self.pins, (len(items), 1))
        return np.concatenate([pinned, scores], 1), np.concatenate([pins, np.where(place >= 0, 0, items)], 1)

    def pinned(self, items: Ints) -> Ints:
        """Return items' places among the pins, of any shape, -1 for those that are not pinned."""
        if not len(self.pins):
            return np.full(items.shape, -1)
        order = np.argsort(self.pins)
        place = order[np.searchsorted(self.pins, items, sorter=order).clip(max=len(order) - 1)]
        return np.where(self.pins[place] == items, place, -1)


def _nth(category: Prints) -> Ints:
    """Count in each row how many equal ones come before each."""
    order = np.argsort(category, axis=1, kind="stable")
    ordered = np.take_along_axis(category, order, 1)
    place = np.broadcast_to(np.arange(category.shape[1]), category.shape)
    begins = np.concatenate([np.ones_like(order[:, :1], bool), ordered[:, 1:] != ordered[:, :-1]], 1)
    nth = place - np.maximum.accumulate(np.where(begins, place, 0), 1)
    found = np.empty_like(order)
    np.put_along_axis(found, order, nth, 1)
    return found


def lists(
    rank: Rank, query: Floats, gate: Floats, recent: Ints, bought: Ints, rules: Rules, k: int
) -> tuple[Floats, Ints, Floats]:
    """Return scores and items (n, k) under the rules, 0 where there are fewer, and what `rank` says of recent items."""
    if not rules.by_row:
        return rank(query, gate, recent, rules.allowed, k)
    scores, items, own = rank(query, gate, recent, rules.allowed, max(PAGE, k))
    full = items[:, -1] != 0 if items.shape[1] else np.zeros(len(items), bool)
    scores, items = rules.ahead(scores, items)
    found, picked = rules.pick(scores, items, rules.categories_of(items), bought, k)
    for row in np.flatnonzero(full & (picked == 0).any(1)).tolist():
        asked = query[row : row + 1], gate[row : row + 1], recent[row : row + 1]
        more = _ask_again(rank, asked, scores[row : row + 1], items[row : row + 1], bought[row : row + 1], rules, k)
        found[row], picked[row] = more[0][0], more[1][0]
    return found, picked, own


def _ask_again(
    rank: Rank, asked: tuple[Floats, Floats, Ints], scores: Floats, items: Ints, bought: Ints, rules: Rules, k: int
) -> tuple[Floats, Ints]:
    """Turn the pages of one row's list, (1, m) so far, until `k` of it fit."""
    found = rules.pick(scores, items, rules.categories_of(items), bought, k)
    while (found[1] == 0).any():
        page, more, _ = rank(*asked, _left(items, found[1], bought, rules), max(PAGE, k))
        if not (more != 0).any():
            break
        scores, items = np.concatenate([scores, page], 1), np.concatenate([items, more], 1)
        found = rules.pick(scores, items, rules.categories_of(items), bought, k)
    return found


def _left(items: Ints, picked: Ints, bought: Ints, rules: Rules) -> Mask:
    """Return what may still be listed in a row."""
    size = len(rules.category)
    left = np.ones(size, np.bool_) if rules.allowed is None else rules.allowed.copy()
    gone = np.concatenate([items[0], bought[0] if rules.exclude_bought else rules.pins, rules.pins])
    left[gone[gone < size]] = False
    if rules.cap:
        kind, count = np.unique(rules.categories_of(picked), return_counts=True)
        left &= ~np.isin(rules.category, kind[(count >= rules.cap) & (kind != 0)])
    return left
