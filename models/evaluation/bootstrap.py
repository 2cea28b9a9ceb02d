"""How sure a figure is: bootstrap intervals over users, whose events rise and fall together.

A round draws the users with replacement (Efron, 1979; whole clusters: Field and Welsh, 2007). That only
gives each user a weight, so a metric is computed from weights and nothing is copied.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import INTENT

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROUNDS = 1000
_ROOM = 4_000_000  # weights in memory at once


class Interval(NamedTuple):
    """A figure and the bounds that hold 95 % of the bootstrap's rounds."""

    value: float
    low: float
    high: float


def intervals(metric: str, label: Bools, p: Floats, user: Ints, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Compute a metric of `INTENT` and its interval; `user` (n,) tells whose event each row is."""
    return _interval(*(INTENT[metric](label, p, weight) for weight in _weights(user, rounds, seed)))


def paired(
    metric: str, label: Bools, p: Floats, other: Floats, user: Ints, rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """Compute how much higher, as a share, a metric of `p` is than that of `other` in the same rounds."""
    measure = INTENT[metric]
    parts = _weights(user, rounds, seed)
    return _interval(*(measure(label, p, weight) / measure(label, other, weight) - 1 for weight in parts))


def mean_interval(values: NDArray[np.generic], user: Ints, rounds: int = ROUNDS, seed: int = 0) -> Interval:
    """Compute the mean of per-example values and its interval."""
    place, counts = _draws(user, rounds, seed)
    total = counts @ np.bincount(place, values.astype(np.float64))
    return _interval(total / (counts @ np.bincount(place)))


def paired_interval(
    a: NDArray[np.generic], b: NDArray[np.generic], user: Ints, rounds: int = ROUNDS, seed: int = 0
) -> Interval:
    """Compute the mean difference `a - b` of the same examples' values and its interval."""
    return mean_interval(a.astype(np.float64) - b.astype(np.float64), user, rounds, seed)


def _draws(user: Ints, rounds: int, seed: int) -> tuple[Ints, Floats]:
    """Return each row's user, and how often each user is drawn, (1 + rounds, users); first once each."""
    _, place = np.unique(user, return_inverse=True)
    n, random = int(place.max(initial=-1)) + 1, np.random.default_rng(seed)
    drawn = [np.bincount(random.integers(0, n, n), minlength=n) for _ in range(rounds)]
    return place.astype(np.int64), np.stack([np.ones(n), *drawn])


def _weights(user: Ints, rounds: int, seed: int) -> Iterator[Floats]:
    place, counts = _draws(user, rounds, seed)
    rows = max(_ROOM // max(len(place), 1), 1)
    for begin in range(0, len(counts), rows):
        yield counts[begin : begin + rows][:, place]


def _interval(*parts: Floats) -> Interval:
    """Read the bounds off the rounds; rounds that drew no user with a positive tell nothing."""
    values = np.concatenate(parts)
    drawn = values[1:][~np.isnan(values[1:])]
    low, high = np.quantile(drawn, (0.025, 0.975)) if len(drawn) else (np.nan, np.nan)
    return Interval(float(values[0]), float(low), float(high))
