"""What was seen together: how often an item came near another in the sequences of a log.

A pair at distance d counts 1/d towards the later item and half of that towards the earlier one, up to
`_DISTANCE`, and up to twice as much at the end of the log as at its beginning. Two tables are made of the
pairs: an item's heaviest neighbours, and the heaviest neighbours of those, found by two steps of a walk.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.batches import Sequences, catalogued

RECENT = 8  # items of a shopper that are looked back at
OWN = 0.7  # how much less the second last item counts than the last, where items are repeated
_DISTANCE, _BACK = 5, 0.5
_FOLDS = 5
_ROWS = 4096  # at once

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


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

    def ask(self, reach: Reach, recent: Ints, target: Ints) -> tuple[Floats, Floats]:
        """Return the probability of targets (n,) after recent items (n, RECENT), and the weight behind it."""
        weight, support = np.zeros(len(target), np.float32), np.zeros(len(target), np.float32)
        fade, mass = reach.fade(), self.mass
        for at in range(0, len(target), _ROWS):
            rows = slice(at, at + _ROWS)
            seen = catalogued(recent[rows, : reach.window], len(mass) - 1)
            hit = self.neighbours[seen] == target[rows, None, None]
            weight[rows] = (self.weights[seen] * hit).sum(2) @ fade
            support[rows] = mass[seen] @ fade
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


def count(sequences: Sequences, items: int) -> tuple[dict[str, Table], Floats]:
    """Count a log's pairs; return the tables by reach, and what they say of each event's next item.

    The second is (n, 5): the probability of the next item by either table and by the recent items themselves,
    then the weight behind either table's word. A sequence is asked about in tables of the other folds of
    sequences, since one that is being scored is in no table.
    """
    place, recency = _places(sequences), np.empty(len(sequences.item), np.float32)
    recency[np.argsort(sequences.time, kind="stable")] = 1 + np.arange(len(recency)) / max(len(recency), 1)
    fold = (np.cumsum(place == 0) - 1) % _FOLDS
    parts = [_pairs(sequences.item, place, recency, fold == one, items) for one in range(_FOLDS)]
    whole = sum(parts[1:], parts[0])
    ring = rings(sequences)
    beside = np.zeros((len(place), 2 * len(REACHES) + 1), np.float32)
    for one, part in enumerate(parts):
        rows = np.flatnonzero((fold == one) & (sequences.target > 0))
        tables = _tables(whole - part)
        for column, reach in enumerate(REACHES):
            said, support = tables[reach.name].ask(reach, ring[rows], sequences.target[rows])
            beside[rows, column], beside[rows, len(REACHES) + 1 + column] = said, support
    beside[:, len(REACHES)] = _repeated(ring, sequences.target)
    return _tables(whole), beside


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


def popularity(sequences: Sequences, items: int) -> Floats:
    """Return the log counts of items in the whole log and in its last tenth, standardised, (items + 1, 2)."""
    recent = sequences.time >= np.quantile(sequences.time, 0.9)
    item = catalogued(sequences.item, items)
    logs = [np.log1p(np.bincount(item[part], minlength=items + 1)) for part in (slice(None), recent)]
    found = np.stack([(log - log[1:].mean()) / (log[1:].std() + 1e-6) for log in logs], 1).astype(np.float32)
    found[0] = 0
    return found
