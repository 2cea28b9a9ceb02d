"""Per-example metrics, used offline and online: one entry a metric in `RANKING` and `INTENT`."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def ranks(items: NDArray[np.int64], scores: NDArray[np.float32], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return each target's rank in its list, from 1, or 0 where it is absent; a tie counts against the target.

    `items` and `scores` have shape (n, k), `target` (n,).
    """
    hit = items == target[:, None]
    own = np.where(hit, scores, -np.inf).max(1, keepdims=True)
    return np.where(hit.any(1), (scores >= own).sum(1), 0)


RANKING: Mapping[str, Callable[[NDArray[np.int64]], Floats]] = {
    "hr": lambda rank: (rank > 0).astype(float),
    "mrr": lambda rank: np.divide(1.0, rank, out=np.zeros(len(rank)), where=rank > 0),
    "ndcg": lambda rank: np.divide(1.0, np.log2(rank + 1.0), out=np.zeros(len(rank)), where=rank > 0),
}
"""Per-example values from ranks; for one relevant item NDCG is 1 / log2(rank + 1)."""


def _curve(label: Bools, p: Floats, weight: Floats | None) -> tuple[Floats, Floats, Floats]:
    """Return the distinct thresholds, highest first, and the weight of true and of false positives at each."""
    order = np.argsort(-p, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(p[order])), len(p) - 1]
    weight = np.ones(len(p)) if weight is None else weight[..., order]
    true = np.cumsum(weight * label[order], -1)[..., last]
    return p[order][last], true, np.cumsum(weight, -1)[..., last] - true


def pr_auc(label: Bools, p: Floats, weight: Floats | None = None) -> Floats:
    """Compute average precision, the step-wise area under precision over recall; NaN without a positive."""
    _, true, false = _curve(label, p, weight)
    with np.errstate(invalid="ignore"):
        precision = np.nan_to_num(true / (true + false))  # no weight so far: nothing to add either
        area: Floats = (np.diff(true, axis=-1, prepend=0.0) * precision).sum(-1) / true[..., -1]
    return area


def roc_auc(label: Bools, p: Floats, weight: Floats | None = None) -> Floats:
    """Compute the area under the ROC curve by trapezoids; NaN where one class is absent."""
    _, *sides = _curve(label, p, weight)
    true, false = (_from_zero(counts) for counts in sides)
    with np.errstate(invalid="ignore"):
        area: Floats = np.trapezoid(true, false, axis=-1) / (true[..., -1] * false[..., -1])
    return area


def log_loss(label: Bools, p: Floats, weight: Floats | None = None) -> Floats:
    """Compute the mean negative log likelihood, probabilities clipped to what float32 can tell from 0 and 1."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return _mean(-np.where(label, np.log(p), np.log1p(-p)), weight)


def brier(label: Bools, p: Floats, weight: Floats | None = None) -> Floats:
    """Compute the mean squared error of the probabilities (Brier, 1950)."""
    return _mean((p - label) ** 2, weight)


def ece(label: Bools, p: Floats, weight: Floats | None = None, bins: int = 15) -> Floats:
    """Compute the expected calibration error over bins of equal mass (Nguyen and O'Connor, 2015).

    The bins' edges cut through examples where they must, and equal probabilities share their positives evenly: the
    order of the rows, in which purchases come together, says nothing of a calibration.
    """
    threshold, true, false = _curve(label, p, weight)
    mass = _from_zero(true + false)
    excess = _from_zero(np.cumsum(np.diff(mass, axis=-1) * threshold, -1) - true)
    rounds = zip(mass.reshape(-1, mass.shape[-1]), excess.reshape(-1, mass.shape[-1]), strict=True)
    edges = np.stack([np.interp(m[-1] * np.arange(bins + 1) / bins, m, e) for m, e in rounds])
    errors: Floats = np.abs(np.diff(edges)).sum(-1).reshape(mass.shape[:-1]) / mass[..., -1]
    return errors


def _from_zero(counts: Floats) -> Floats:
    return np.concatenate([np.zeros_like(counts[..., :1]), counts], -1)


def _mean(values: Floats, weight: Floats | None) -> Floats:
    mean: Floats = values.mean() if weight is None else weight @ values / weight.sum(-1)
    return mean


INTENT: Mapping[str, Callable[[Bools, Floats, Floats | None], Floats]] = {
    "pr_auc": pr_auc,
    "roc_auc": roc_auc,
    "log_loss": log_loss,
    "brier": brier,
    "ece": ece,
}
"""From labels and probabilities (n,) and weights of the examples (..., n), None: 1 each, to values (...)."""


def masses(p: Floats, bins: int) -> NDArray[np.int64]:
    """Return each probability's bin, from 0, where all bins hold as many of them, give or take one."""
    place = np.empty(len(p), np.int64)
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    for i, part in enumerate(parts):
        place[part] = i
    return place


def shared(label: Bools, p: Floats) -> Floats:
    """Return each example's label as equal probabilities share theirs: evenly, whatever the order of the rows."""
    _, alike, count = np.unique(p, return_inverse=True, return_counts=True)
    values: Floats = (np.bincount(alike, weights=label) / count)[alike]
    return values


def gain(label: Bools, p: Floats) -> tuple[Floats, Floats]:
    """Return the share of all examples, and of the positives, from each distinct threshold up, the highest first.

    Both begin with 0 and end with 1. The second is the recall, their quotient the lift.
    """
    _, true, false = _curve(label, p, None)
    return np.r_[0.0, (true + false) / len(p)], np.r_[0.0, true / max(label.sum(), 1)]


def psi(expected: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Compute the population stability index of two histograms over the same bins (Siddiqi, 2006).

    Below 0.1 is stable, above 0.25 is shifted. Half an example is added to each bin, so that an empty one counts.
    """
    p, q = ((n + 0.5) / (n.sum() + 0.5 * len(n)) for n in (expected, found))
    return float(((q - p) * np.log(q / p)).sum())
