"""Intervals of any statistic, by resampling whole shoppers: the events of one are not independent of each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Statistic = Callable[[Rows], Floats]
"""From rows of the examples, some of them more than once, to numbers, always as many; NaN where there is none."""

_LEVELS = (2.5, 97.5)  # percent: an interval of 95 %


@dataclass(frozen=True, slots=True)
class Estimate:
    """Numbers with their intervals of 95 %, each of shape (n,); NaN where there is nothing to compute from."""

    value: Floats
    low: Floats
    high: Floats


def estimates(
    statistics: Mapping[str, Statistic], user: NDArray[np.int64], draws: int, seed: int = 0
) -> dict[str, Estimate]:
    """Estimate statistics of one set of examples, all on the same resamples, so that differences are paired.

    `user` (n,) is each example's shopper. Percentile bootstrap over clusters (Davison and Hinkley, 1997, 3.8).
    """
    if not len(user) or not statistics:
        return {}
    order = np.argsort(user, kind="stable")
    starts = np.flatnonzero(np.diff(user[order], prepend=user[order[0]] - 1))
    length = np.diff(np.r_[starts, len(user)])
    random = np.random.default_rng(seed)
    drawn: dict[str, list[Floats]] = {name: [] for name in statistics}
    for _ in range(draws):
        taken = random.integers(len(starts), size=len(starts))
        rows = order[_ranges(starts[taken], length[taken])]
        for name, statistic in statistics.items():
            drawn[name].append(statistic(rows))
    return {name: _estimate(statistics[name](np.arange(len(user))), np.stack(values)) for name, values in drawn.items()}


def _ranges(start: Rows, length: NDArray[np.int64]) -> Rows:
    """Concatenate the ranges that begin at `start`."""
    ends = np.cumsum(length)
    return np.arange(ends[-1]) + np.repeat(start - ends + length, length)


def _estimate(value: Floats, draws: Floats) -> Estimate:
    low, high = (np.full(len(value), np.nan) for _ in _LEVELS)
    some = np.isfinite(draws).any(0)
    if some.any():
        low[some], high[some] = np.nanpercentile(draws[:, some], _LEVELS, axis=0)
    return Estimate(value, low, high)
