"""What was seen together: how often an item came near another in the sequences of a log.

A pair at distance d counts 1/d towards the later item and half of that towards the earlier one, up to
`WINDOW`, and up to twice as much at the end of the log as at its beginning. An item keeps its `WIDTH`
heaviest neighbours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.batches import Sequences, Source

WINDOW, WIDTH, RECENT = 5, 50, 8
KEEP = 2 * WIDTH  # pairs an item keeps between the parts of a log
NEAR, OWN = 0.6, 0.7  # how much less the second last item counts than the last: for its neighbours, for itself
_BACK = 0.5

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_LeftOut = Callable[[Ints, Ints, Ints], tuple[Floats, Floats]]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums by key: both sorted by key."""

    key: Ints
    value: Floats

    @classmethod
    def of(cls, key: Ints, value: Floats) -> "_Sums":
        distinct, place = np.unique(key, return_inverse=True)
        return cls(distinct, np.bincount(place, value, len(distinct)).astype(np.float64))

    def plus(self, more: "_Sums") -> "_Sums":
        """Add other sums."""
        return _Sums.of(np.concatenate([self.key, more.key]), np.concatenate([self.value, more.value]))

    def find(self, key: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Return the places of keys, and which of them are there."""
        if not len(self.key):
            return np.zeros(key.shape, np.int64), np.zeros(key.shape, bool)
        at = np.searchsorted(self.key, key).clip(max=len(self.key) - 1)
        return at, self.key[at] == key

    def get(self, key: Ints) -> Floats:
        """Look up, 0 where a key is missing."""
        at, known = self.find(key)
        found = np.zeros(key.shape)
        found[known] = self.value[at[known]]
        return found


@dataclass(frozen=True, slots=True)
class Covisits:
    """The table: `neighbours` and `weights`, (items + 1, WIDTH), heaviest first, 0 where there is none."""

    neighbours: NDArray[np.int32]
    weights: NDArray[np.float32]

    @property
    def mass(self) -> NDArray[np.float32]:
        """Sum each item's weights, (items + 1,)."""
        total: NDArray[np.float32] = self.weights.sum(1)
        return total


def rings(sequences: Sequences) -> Ints:
    """Return each event's recent items, newest first, itself included, (n, RECENT); 0: none or unknown."""
    place = _places(sequences)
    found = np.zeros((len(place), RECENT), np.int64)
    for age in range(RECENT):
        rows = np.flatnonzero(place >= age)
        found[rows, age] = sequences.item[rows - age]
    return found


def _places(sequences: Sequences) -> Ints:
    """Count each event's place in its sequence."""
    first = np.sort(sequences.start)
    return np.arange(len(sequences.item)) - np.repeat(first, np.diff(np.r_[first, len(sequences.item)]))


@dataclass(slots=True)
class Tally:
    """Pairs and items, counted part by part.

    From the second part on an item keeps its `KEEP` heaviest pairs after each: what bounds the memory, and an
    approximation, since a pair that is dropped and comes again has lost what it weighed before.
    """

    seen: Ints  # how often each item occurs, (items + 1,)
    asked: Ints  # how often it is the next item
    total: _Sums = field(default_factory=lambda: _Sums(np.zeros(0, np.int64), np.zeros(0)))

    def add(self, sequences: Sequences) -> None:
        """Count a part."""
        self.seen += np.bincount(sequences.item, minlength=len(self.seen))
        self.asked += np.bincount(sequences.target, minlength=len(self.asked))
        _, pair, weight = _pairs(sequences, len(self.seen))
        more = _Sums.of(pair, weight)
        if not len(self.total.key):
            self.total = more
            return
        total = self.total.plus(more)
        inside = np.sort(_ranked(total, len(self.seen), KEEP)[0])
        self.total = _Sums(total.key[inside], total.value[inside])

    def table(self) -> Covisits:
        """Return each item's heaviest neighbours."""
        base = len(self.seen)
        order, row, rank = _ranked(self.total, base, WIDTH)
        neighbours, weights = np.zeros((base, WIDTH), np.int32), np.zeros((base, WIDTH), np.float32)
        neighbours[row, rank] = self.total.key[order] % base
        weights[row, rank] = self.total.value[order]
        return Covisits(neighbours, weights)

    def say(self, sequences: Sequences, table: Covisits) -> NDArray[np.float32]:
        """Return what the table says of each event's next item, (n, 3), for a part that was counted.

        The probability of the next item by the table, by the recent items themselves, and the weight behind the
        table's word. It leaves out what the event's own sequence has added to the table, since a sequence that is
        being scored is in no table.
        """
        base, total = len(self.seen), self.total
        owner, pair, weight = _pairs(sequences, base)
        # By the pair's place among all pairs: an owner and two items might not fit in 64 bits.
        at, known = total.find(pair)
        mine = _Sums.of((owner * len(total.key) + at)[known], weight[known])
        mine_all = _Sums.of(owner * base + pair // base, weight)

        def left_out(recent: Ints, target: Ints, group: Ints) -> tuple[Floats, Floats]:
            """Return the pair's weight and the recent item's mass without the sequence's own share."""
            at, known = total.find(recent * base + target)
            rest = np.zeros(len(target))
            rest[known] = total.value[at[known]] - mine.get((group * len(total.key) + at)[known])
            rest[(rest < table.weights[recent, -1]) | (rest < 1e-9) | (recent == 0) | (target == 0)] = 0
            return rest, np.maximum(table.mass[recent] - mine_all.get(group * base + recent), rest)

        group = np.cumsum(_places(sequences) == 0) - 1
        return _beside(rings(sequences), sequences.target, group, left_out)


def survey(source: Source, items: int) -> Tally:
    """Count all parts of a source, and let it learn what the table says."""
    tally = Tally(np.zeros(items + 1, np.int64), np.zeros(items + 1, np.int64))
    for part in source.parts():
        tally.add(part)
    source.learn(partial(tally.say, table=tally.table()))
    return tally


def _pairs(sequences: Sequences, base: int) -> tuple[Ints, Ints, Floats]:
    """Return a part's pairs: their sequences, the pairs as one number each, and their weights."""
    place, item = _places(sequences), sequences.item
    group = np.cumsum(place == 0) - 1
    recency = 1 + np.argsort(np.argsort(sequences.time, kind="stable")) / max(len(item), 1)
    owner, pair, weight = [], [], []
    for distance in range(1, WINDOW + 1):
        later = np.flatnonzero(place >= distance)
        a, b = item[later - distance], item[later]
        fit = (a > 0) & (b > 0) & (a != b)
        later, a, b = later[fit], a[fit], b[fit]
        owner += [group[later], group[later]]
        pair += [a * base + b, b * base + a]
        weight += [recency[later] / distance, _BACK * recency[later] / distance]
    return np.concatenate(owner), np.concatenate(pair), np.concatenate(weight)


def _beside(recent: Ints, target: Ints, group: Ints, left_out: _LeftOut) -> NDArray[np.float32]:
    near, support = np.zeros(len(target)), np.zeros(len(target))
    for age in range(WINDOW):
        weight, mass = left_out(recent[:, age], target, group)
        near += NEAR**age * weight
        support += NEAR**age * np.where(recent[:, age] > 0, mass, 0)
    support[support < 1e-6] = 0
    own = OWN ** np.arange(RECENT) * (recent > 0)
    share = ((recent == target[:, None]) * own).sum(1) * (target > 0)
    columns = near / np.maximum(support, 1e-6), share / np.maximum(own.sum(1), 1e-6), support
    return np.stack(columns, 1).astype(np.float32)


def _ranked(total: _Sums, base: int, width: int) -> tuple[Ints, Ints, Ints]:
    """Return the places of each item's heaviest pairs, their items and their ranks, heaviest first."""
    row = total.key // base
    order = np.lexsort((-total.value, row))
    row = row[order]
    rank = np.arange(len(row)) - np.searchsorted(row, row)
    inside = rank < width
    return order[inside], row[inside], rank[inside]
