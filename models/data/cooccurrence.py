"""What was seen together: how often an item came near another in the sequences of a log.

A pair at distance d counts 1/d towards the later item and half of that towards the earlier one, up to
`_DISTANCE`, and up to twice as much at the end of the log as at its beginning. Two tables are made of the
pairs: an item's heaviest neighbours, and the heaviest neighbours of those, found by two steps of a walk.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.data.sequences import Sequences, Source, catalogued

RECENT = 8  # items of a user that are looked back at
OWN = 0.7  # how much less the second last item counts than the last, where items are repeated
_DISTANCE, _BACK = 5, 0.5
_FOLDS = 5
ROOM, KEPT = 12_000_000, 32  # pairs a fold, 8 bytes each, and those an item keeps where they are more
_ROWS = 4096  # at once

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Pairs: TypeAlias = sparse.csr_array


@dataclass(frozen=True, slots=True)
class Reach:
    """How a table is read: from the `window` last items, each `fading` times its successor, `width` neighbours each."""

    name: str
    window: int
    fading: float
    width: int

    def fade(self) -> Floats:
        """Return the weights of the recent items, newest first, (window,)."""
        weights: Floats = self.fading ** np.arange(self.window, dtype=np.float32)
        return weights


NEAR, FAR = Reach("near", 5, 0.6, 50), Reach("far", RECENT, 0.8, 100)
REACHES = (NEAR, FAR)


@dataclass(frozen=True, slots=True)
class Table:
    """Neighbours by item: `neighbours` and `weights`, (items + 1, width), heaviest first, 0 where there is none."""

    neighbours: NDArray[np.int32]
    weights: Floats

    @property
    def mass(self) -> Floats:
        """Sum each item's weights, (items + 1,)."""
        total: Floats = self.weights.sum(1)
        return total

    def pairs(self) -> Pairs:
        """Return the weights as a sparse matrix, (items + 1, items + 1)."""
        rows, width = self.weights.shape
        ends = np.arange(0, self.weights.size + 1, width)
        found = sparse.csr_array((self.weights.ravel(), self.neighbours.ravel(), ends), shape=(rows, rows))
        found.eliminate_zeros()
        return found

    def ask(self, reach: Reach, recent: Ints, target: Ints) -> tuple[Floats, Floats]:
        """Return the probability of targets (n,) after recent items (n, RECENT), and the weight behind it."""
        weight, support = np.zeros(len(target), np.float32), np.zeros(len(target), np.float32)
        fade, mass = reach.fade(), self.mass
        for at in range(0, len(target), _ROWS):
            rows = slice(at, at + _ROWS)
            seen = catalogued(recent[rows, : reach.window], len(mass) - 1)
            hit = self.neighbours[seen] == target[rows, None, None]
            # Not @: it can warn of invalid values in lanes that BLAS does not use.
            weight[rows] = (self.weights[seen] * hit).sum(2).dot(fade)
            support[rows] = mass[seen].dot(fade)
        weight /= np.maximum(support, 1e-6)
        return weight, support


def rings(sequences: Sequences) -> Ints:
    """Return each event's recent items, newest first, itself included, (n, RECENT); 0: none."""
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
    """Pairs and items, counted part by part, the pairs in `_FOLDS` folds of sequences.

    A fold of more than `ROOM` pairs keeps the `KEPT` heaviest of each item: what bounds the memory of a log in
    several parts, and an approximation, since a pair that is dropped and comes again has lost what it weighed. A
    pair's recency, and the last tenth of the time, are its own part's.
    """

    items: int
    parts: int = 0
    seen: Ints = field(init=False)  # how often each item occurs, in the whole log and in its last tenth (2, items + 1)
    folds: list[sparse.csr_array] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.seen = np.zeros((2, self.items + 1), np.int64)

    def add(self, sequences: Sequences) -> None:
        """Count a part."""
        known = catalogued(sequences.item, self.items)
        for row, item in enumerate((known, known[sequences.time >= np.quantile(sequences.time, 0.9)])):
            self.seen[row] += np.bincount(item, minlength=self.items + 1)
        place, recency = _places(sequences), np.empty(len(sequences.item), np.float32)
        recency[np.argsort(sequences.time, kind="stable")] = 1 + np.arange(len(recency)) / max(len(recency), 1)
        fold = _folds(place)
        for one in range(_FOLDS):
            pairs = _pairs(sequences.item, place, recency, fold == one, self.items)
            if not self.parts:
                self.folds.append(pairs)
                continue
            self.folds[one] = self.folds[one] + pairs
            if self.folds[one].nnz > ROOM:
                self.folds[one] = _thinned(self.folds[one], KEPT)
        self.parts += 1

    def tables(self) -> dict[str, Table]:
        """Return the tables of all pairs, by reach."""
        return _tables(self._whole())

    def popularity(self) -> Floats:
        """Return the log counts of items in the whole log and in its last tenth, standardised, (items + 1, 2)."""
        logs = [np.log1p(row) for row in self.seen]
        found = np.stack([(log - log[1:].mean()) / (log[1:].std() + 1e-6) for log in logs], 1).astype(np.float32)
        found[0] = 0
        return found

    def apart(self) -> Iterator[dict[str, Table]]:
        """Yield the tables without a fold's own pairs, fold by fold."""
        whole = self._whole()
        for fold in self.folds:
            yield _tables(whole - fold)

    def _whole(self) -> Pairs:
        return sum(self.folds[1:], self.folds[0])


def count(source: Source, items: int) -> Tally:
    """Count all parts of a source."""
    tally = Tally(items)
    for part in source.parts():
        tally.add(part)
    return tally


def beside(sequences: Sequences, apart: Iterable[dict[str, Table]]) -> Floats:
    """Return what tables of pairs say of each event's next item, (n, 5), for a part that was counted.

    That is the probability of the next item by either table and by the recent items themselves, then the weight
    behind either table's word. A sequence is asked about in tables of the other folds of sequences, `apart`, since
    one that is being scored is in no table.
    """
    fold, ring = _folds(_places(sequences)), rings(sequences)
    found = np.zeros((len(fold), 2 * len(REACHES) + 1), np.float32)
    for one, tables in enumerate(apart):
        rows = np.flatnonzero((fold == one) & (sequences.target > 0))
        for column, reach in enumerate(REACHES):
            said, support = tables[reach.name].ask(reach, ring[rows], sequences.target[rows])
            found[rows, column], found[rows, len(REACHES) + 1 + column] = said, support
    found[:, len(REACHES)] = _repeated(ring, sequences.target)
    return found


def _folds(place: Ints) -> Ints:
    """Deal a part's sequences out to the folds in turn."""
    return (np.cumsum(place == 0) - 1) % _FOLDS


def _pairs(item: Ints, place: Ints, recency: Floats, part: NDArray[np.bool_], items: int) -> sparse.csr_array:
    item, ends, others, weights = catalogued(item, items), [], [], []
    for distance in range(1, _DISTANCE + 1):
        later = np.flatnonzero(part & (place >= distance))
        a, b = item[later - distance], item[later]
        fit = (a > 0) & (b > 0) & (a != b)
        a, b, weight = a[fit].astype(np.int32), b[fit].astype(np.int32), recency[later[fit]] / distance
        ends += [a, b]
        others += [b, a]
        weights += [weight, _BACK * weight]
    given = (np.concatenate(weights), (np.concatenate(ends), np.concatenate(others)))
    return sparse.csr_array(given, shape=(items + 1, items + 1))


def _thinned(pairs: sparse.csr_array, width: int) -> sparse.csr_array:
    """Keep the heaviest pairs of each row."""
    row = np.repeat(np.arange(pairs.shape[0]), np.diff(pairs.indptr))
    # One key to sort by: the row, then the weight, whose bits are in the order of positive numbers.
    order = np.argsort((row << 32) - pairs.data.view(np.int32))
    rank = np.empty(len(row), np.int64)
    rank[order] = np.arange(len(row)) - pairs.indptr[row]
    keep = rank < width
    ends = np.r_[0, np.cumsum(np.bincount(row[keep], minlength=pairs.shape[0]))]
    return sparse.csr_array((pairs.data[keep], pairs.indices[keep], ends), shape=pairs.shape)


def _tables(pairs: sparse.csr_array) -> dict[str, Table]:
    near = _empty(pairs.shape[0], NEAR)
    _fill(near, pairs, 0)
    share = near.weights / np.maximum(near.mass, 1e-6)[:, None]
    ends = np.arange(0, share.size + 1, NEAR.width)
    walk = sparse.csr_array((share.ravel(), near.neighbours.ravel(), ends), shape=pairs.shape)
    walk.eliminate_zeros()
    far = _empty(pairs.shape[0], FAR)
    for at in range(0, pairs.shape[0], _ROWS):
        _fill(far, walk[at : at + _ROWS] @ walk, at)
    return {NEAR.name: near, FAR.name: far}


def _empty(rows: int, reach: Reach) -> Table:
    return Table(np.zeros((rows, reach.width), np.int32), np.zeros((rows, reach.width), np.float32))


def _fill(table: Table, pairs: sparse.csr_array, at: int) -> None:
    """Keep the heaviest of each row, the row's own item left out, in the table's rows from `at` on."""
    width = table.weights.shape[1]
    for row, (begin, end) in enumerate(zip(pairs.indptr[:-1].tolist(), pairs.indptr[1:].tolist(), strict=True), at):
        other, weight = pairs.indices[begin:end], pairs.data[begin:end]
        # What a subtraction of sums leaves of nothing is no pair.
        keep = (other != row) & (weight > 1e-5)
        other, weight = other[keep], weight[keep]
        if len(weight) > width:
            best = np.argpartition(-weight, width)[:width]
            other, weight = other[best], weight[best]
        order = np.lexsort((other, -weight))
        table.neighbours[row, : len(order)], table.weights[row, : len(order)] = other[order], weight[order]


def _repeated(recent: Ints, target: Ints) -> Floats:
    """Return the probability of targets by the recent items themselves."""
    own = OWN ** np.arange(RECENT, dtype=np.float32) * (recent > 0)
    share = ((recent == target[:, None]) * own).sum(1) * (target > 0)
    said: Floats = share / np.maximum(own.sum(1), 1e-6)
    return said
