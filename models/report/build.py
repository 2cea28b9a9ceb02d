"""The numbers of a report: compared models measured on the same events, with intervals, whole and in slices."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.log import Log
from models.enough import enough
from models.evaluation.bootstrap import Interval, intervals, mean_interval, paired, paired_interval
from models.evaluation.metrics import INTENT, RANKING, gain, masses, shared
from models.evaluation.prequential import Examples, intent_figures
from models.evaluation.slices import SLICES, Slice
from models.report.data_audit import Audit, audit
from models.training.checkpoint import Run

Floats = NDArray[np.float64]
POINTS = np.linspace(0.02, 1.0, 50)  # shares at which precision, gain and lift are read
_BINS = 10  # of the reliability curve
_NOTHING = Interval(np.nan, np.nan, np.nan)


@dataclass(frozen=True, slots=True)
class Curve:
    """A figure with its interval at each x; all of shape (n,), NaN where a part has too few examples."""

    x: Floats
    y: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Measured:
    """One compared model's figures by name; what cannot be computed, or has too few examples, is absent.

    `figures` are the metrics, `better` tells how much higher the first compared model's are. `curves` are `rank`, hits
    among the first 1 to k, the names of `SLICES`, hits by part, and where purchases are scored apart from each
    other `precision` by recall, `gain` and `lift` by share of the events, `reliability` by forecast. `horizons` has
    metrics and counts of labels, None where there is no figure; all else of purchases is the first horizon's.
    """

    figures: dict[str, Interval]
    better: dict[str, Interval]
    curves: dict[str, Curve]
    horizons: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page shows. `runs` are the compared models that were trained; the first of them is spoken of."""

    contenders: dict[str, Measured]
    runs: dict[str, Run]
    examples: dict[str, int]  # events, users, targets, labelled, positives
    slices: dict[str, Slice]
    audit: Audit

    @property
    def k(self) -> int:
        """Return the length of the list of items."""
        return next(iter(self.runs.values())).meaning.k

    @property
    def metrics(self) -> list[str]:
        """Name the metrics, those that have too few examples included."""
        return [*(f"{name}@{self.k}" for name in RANKING), *INTENT]

    @property
    def horizon(self) -> str:
        """Return the horizon that the figures of purchases are of."""
        return next(iter(self.runs.values())).meaning.horizons[0]

    @property
    def first(self) -> Measured:
        """Return the compared model that is spoken of."""
        return next(iter(self.contenders.values()))

    @property
    def rate(self) -> float:
        """Return the share of purchases among the labels."""
        return self.examples["positives"] / max(self.examples["labelled"], 1)


def gather(
    contenders: Mapping[str, Examples],
    runs: Mapping[str, Run],
    log: Log,
    since: int,
    rounds: int = 300,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Report:
    """Measure compared models, the first of them a trained one, on the examples from `since` (ms) on.

    All have the same examples in the same order. `rounds` resamples of the users give the intervals.
    """
    first = next(iter(contenders.values()))
    meaning = next(iter(runs.values())).meaning
    slices = {name: cut(log, first.rank_row, since, meaning) for name, cut in SLICES.items()}
    measured = {}
    for n, (name, own) in enumerate(contenders.items(), 1):
        measured[name] = Measured(
            figures=_figures(own, meaning.k, rounds),
            better={} if own is first else _better(first, own, meaning.k, rounds),
            curves=_ranking(own, slices, meaning.k, rounds) | _purchase(own, rounds),
            horizons=_horizons(own, (runs[name].meaning if name in runs else meaning).horizons),
        )
        progress(n, len(contenders))
    return Report(
        contenders=measured,
        runs=dict(runs),
        examples={
            "events": first.events,
            "users": first.users,
            "targets": len(first.rank),
            "labelled": len(first.label),
            "positives": int(first.label.sum()),
        },
        slices=slices,
        audit=audit(log, since, meaning),
    )


def _figures(own: Examples, k: int, rounds: int) -> dict[str, Interval]:
    found = {}
    if enough(len(own.rank), own.users):
        for name, metric in RANKING.items():
            found[f"{name}@{k}"] = mean_interval(metric(own.rank), own.rank_user, rounds)
    if enough(int(own.label.sum()), own.users):
        for name in INTENT:
            found[name] = intervals(name, own.label, own.probability, own.label_user, rounds)
    return found


def _horizons(own: Examples, names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    return {name: intent_figures(own, place) for place, name in enumerate(names[: own.intent.shape[1]])}


def _better(first: Examples, own: Examples, k: int, rounds: int) -> dict[str, Interval]:
    """Compare in the same rounds: hits by their difference, PR-AUC by its ratio minus 1."""
    found = {}
    if enough(len(own.rank), own.users):
        found[f"hr@{k}"] = paired_interval(first.rank > 0, own.rank > 0, own.rank_user, rounds)
    if enough(int(own.label.sum()), own.users):
        found["pr_auc"] = paired("pr_auc", own.label, first.probability, own.probability, own.label_user, rounds)
    return found


def _ranking(own: Examples, slices: Mapping[str, Slice], k: int, rounds: int) -> dict[str, Curve]:
    if not enough(len(own.rank), own.users):
        return {}
    hit, user = own.rank > 0, own.rank_user
    places = np.arange(1.0, k + 1)
    curves = {"rank": _curve(places, (mean_interval(hit & (own.rank <= n), user, rounds) for n in places))}
    for name, cut in slices.items():
        parts = (cut.part == n for n in range(len(cut.names)))
        hits = (_mean(hit, user, part, rounds) if enough(int(part.sum()), own.users) else _NOTHING for part in parts)
        curves[name] = _curve(np.arange(float(len(cut.names))), hits)
    return curves


def _purchase(own: Examples, rounds: int) -> dict[str, Curve]:
    """Read the curves at thresholds, which the rounds keep; a compared model that tells nobody apart has no curve."""
    label, p, user = own.label, own.probability, own.label_user
    if not enough(int(label.sum()), own.users) or np.ptp(p) == 0:
        return {}
    best_first = -np.sort(-p, kind="stable")
    cuts = np.unique(best_first[np.ceil(POINTS * len(p)).astype(np.int64) - 1])[::-1]
    share, recall = (side[1:] for side in gain(label, p))
    at = np.searchsorted(-np.unique(p)[::-1], -cuts)
    precise = [_mean(label, user, p >= cut, rounds) for cut in cuts]
    place, even = masses(p, _BINS), shared(label, p)
    bins = np.unique(place)
    lift = [Interval(*(value / label.mean() for value in one)) for one in precise]
    return {
        "precision": _curve(recall[at], precise),
        "gain": _curve(share[at], (_mean(p >= cut, user, label, rounds) for cut in cuts)),
        "lift": _curve(share[at], lift),
        "reliability": _curve(
            np.array([p[place == n].mean() for n in bins]), (_mean(even, user, place == n, rounds) for n in bins)
        ),
    }


def _mean(values: NDArray[np.generic], user: NDArray[np.int64], part: NDArray[np.bool_], rounds: int) -> Interval:
    return mean_interval(values[part], user[part], rounds) if part.any() else _NOTHING


def _curve(x: Floats, points: Iterable[Interval]) -> Curve:
    return Curve(x, *np.array(list(points), np.float64).reshape(-1, 3).T)
