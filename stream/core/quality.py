"""Per-example metrics, used offline and online: one entry a metric in `RANKING` and `INTENT`."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

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


def _curve(label: NDArray[np.bool_], p: Floats) -> tuple[Floats, Floats]:
    """Return true and false positives at each distinct threshold, the highest first."""
    order = np.argsort(-p, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(p[order])), len(p) - 1]
    true = np.cumsum(label[order])[last].astype(float)
    return true, last + 1 - true


def pr_auc(label: NDArray[np.bool_], p: Floats) -> float:
    """Compute average precision, the step-wise area under precision over recall; NaN without a positive."""
    if not label.any():
        return float("nan")
    true, false = _curve(label, p)
    return float((np.diff(true, prepend=0.0) * true / (true + false)).sum() / label.sum())


def roc_auc(label: NDArray[np.bool_], p: Floats) -> float:
    """Compute the area under the ROC curve by trapezoids; NaN where one class is absent."""
    if label.all() or not label.any():
        return float("nan")
    true, false = (np.r_[0.0, counts] for counts in _curve(label, p))
    return float(np.trapezoid(true, false) / (true[-1] * false[-1]))


def log_loss(label: NDArray[np.bool_], p: Floats) -> float:
    """Compute the mean negative log likelihood, probabilities clipped to what float32 can tell from 0 and 1."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return float(-np.where(label, np.log(p), np.log1p(-p)).mean())


def brier(label: NDArray[np.bool_], p: Floats) -> float:
    """Compute the mean squared error of the probabilities (Brier, 1950)."""
    return float(((p - label) ** 2).mean())


def masses(p: Floats, bins: int) -> NDArray[np.int64]:
    """Return each probability's bin, from 0, where all bins hold as many of them, give or take one."""
    place = np.empty(len(p), np.int64)
    parts = np.array_split(np.argsort(p, kind="stable"), bins)
    for i, part in enumerate(parts):
        place[part] = i
    return place


def reliability(label: NDArray[np.bool_], p: Floats, bins: int = 15) -> tuple[Floats, Floats, Floats]:
    """Return mean probability, share of positives and examples of each bin of equal mass, empty bins left out.

    Equal probabilities share their positives evenly, whichever bins they fall into: the order of the rows, in which
    purchases come together, says nothing of a calibration.
    """
    place = masses(p, bins)
    n = np.bincount(place, minlength=bins)
    _, alike, count = np.unique(p, return_inverse=True, return_counts=True)
    shared = (np.bincount(alike, weights=label) / count)[alike]
    sums = (np.bincount(place, weights=values, minlength=bins) for values in (p, shared))
    mean, rate = (total[n > 0] / n[n > 0] for total in sums)
    return mean, rate, n[n > 0].astype(float)


def ece(label: NDArray[np.bool_], p: Floats, bins: int = 15) -> float:
    """Compute the expected calibration error over bins of equal mass (Nguyen and O'Connor, 2015)."""
    mean, rate, n = reliability(label, p, bins)
    return float((np.abs(mean - rate) * n).sum() / len(p))


def gain(label: NDArray[np.bool_], p: Floats) -> tuple[Floats, Floats]:
    """Return the share of all examples, and of the positives, from each distinct threshold up, the highest first.

    Both begin with 0 and end with 1. The second is the recall, their quotient the lift.
    """
    true, false = _curve(label, p)
    return np.r_[0.0, (true + false) / len(p)], np.r_[0.0, true / max(label.sum(), 1)]


def psi(expected: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Compute the population stability index of two histograms over the same bins (Siddiqi, 2006).

    Below 0.1 is stable, above 0.25 is shifted. Half an example is added to each bin, so that an empty one counts.
    """
    p, q = ((n + 0.5) / (n.sum() + 0.5 * len(n)) for n in (expected, found))
    return float(((q - p) * np.log(q / p)).sum())


INTENT: Mapping[str, Callable[[NDArray[np.bool_], Floats], float]] = {
    "pr_auc": pr_auc,
    "roc_auc": roc_auc,
    "log_loss": log_loss,
    "brier": brier,
    "ece": ece,
}
