"""The numbers of a report: contenders measured on the same events, with intervals, whole and in slices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.audit import Audit, audit
from models.checkpoint import Run
from models.evaluate import Examples
from models.histories import Log
from models.resamples import Estimate, Floats, Rows, Statistic, estimates
from models.slices import SLICES, Slice
from stream.core.quality import INTENT, RANKING, gain, masses, precision_recall

RECALL = np.linspace(0.02, 1.0, 50)  # where precision is read
SHARE = np.linspace(0.02, 1.0, 50)  # of the events, where gain and lift are read
_BINS = 10  # of the reliability curve


@dataclass(frozen=True, slots=True)
class Measured:
    """One contender's estimates by name; what cannot be computed is absent.

    `figures`: the metrics, (1,) each. `by_rank` (k,): hits among the first 1 to k. `slices`: the hit rate by part.
    `precision` is read at `RECALL`, `gain` at `SHARE`; `reliability` stands at the mean probabilities `forecast`.
    """

    figures: dict[str, Estimate]
    better: dict[str, Estimate]  # the first contender's figures minus this one's
    slices: dict[str, Estimate]
    by_rank: Estimate | None = None
    precision: Estimate | None = None
    gain: Estimate | None = None
    reliability: Estimate | None = None
    forecast: Floats | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All that a page shows. `runs` are the contenders that were trained; the first of them is spoken of."""

    contenders: dict[str, Measured]
    runs: dict[str, Run]
    examples: dict[str, int]  # events, users, targets, labels, positives
    slices: dict[str, Slice]
    audit: Audit
    warnings: list[str]


def gather(
    contenders: Mapping[str, Examples],
    runs: Mapping[str, Run],
    log: Log,
    since: int,
    draws: int = 300,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Report:
    """Measure contenders, the first of them a trained one, on the examples from `since` (ms) on.

    All have the same examples, in the same order. `draws` resamples of the shoppers give the intervals.
    """
    first = next(iter(contenders.values()))
    meaning = next(iter(runs.values())).meaning
    slices = {name: cut(log, first.rank_row, since, meaning) for name, cut in SLICES.items()} if len(first.rank) else {}
    facts = audit(log, since, meaning)
    measured = {}
    for n, (name, examples) in enumerate(contenders.items()):
        progress(n, len(contenders))
        measured[name] = _measured(examples, first, slices, meaning.k, draws)
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
        audit=facts,
        warnings=[text for name, run in runs.items() if (text := _leak(name, run, facts))],
    )


def _leak(name: str, run: Run, facts: Audit) -> str:
    """Say whether a run may have been trained on what it is measured on."""
    events, trained = run.data.get("events"), run.data.get("trained")
    if events is None or trained is None:
        return f"{name} does not say what it was trained on."
    if events != facts.events:
        return f"{name} was trained on another log, of {events:,} events: whether it has seen these is not known."
    if trained > facts.before:
        return f"{name} was trained on {trained - facts.before:,} of the events that it is measured on here."
    return ""


def _measured(own: Examples, first: Examples, slices: Mapping[str, Slice], k: int, draws: int) -> Measured:
    ranking = _ranking(own, k)
    intent = _intent(own) if own.label.any() else {}
    found = estimates(
        {
            **ranking,
            **{
                f"better {name}": _minus(f, ranking[name]) for name, f in _ranking(first, k).items() if own is not first
            },
            **{f"part {name}": partial(_by_part, own.rank > 0, cut) for name, cut in slices.items()},
            "by rank": partial(_by_rank, own.rank, k),
        }
        if len(own.rank)
        else {},
        own.rank_user,
        draws,
    )
    place = masses(own.probability, _BINS)
    found |= estimates(
        {
            **intent,
            **{f"better {name}": _minus(f, intent[name]) for name, f in _intent(first).items() if own is not first},
            "precision": partial(_precision, own.label, own.probability),
            "gain": partial(_gain, own.label, own.probability),
            "reliability": partial(_by_part, own.label, Slice(("",) * _BINS, place)),
        }
        if intent
        else {},
        own.label_user,
        draws,
    )
    return Measured(
        figures={name: found[name] for name in (*ranking, *intent) if name in found},
        better={name.removeprefix("better "): e for name, e in found.items() if name.startswith("better ")},
        slices={name.removeprefix("part "): e for name, e in found.items() if name.startswith("part ")},
        by_rank=found.get("by rank"),
        precision=found.get("precision"),
        gain=found.get("gain"),
        reliability=found.get("reliability"),
        forecast=_by_part(own.probability, Slice(("",) * _BINS, place), np.arange(len(place))) if intent else None,
    )


def _ranking(examples: Examples, k: int) -> dict[str, Statistic]:
    values = {f"{name}@{k}": metric(examples.rank) for name, metric in RANKING.items()}
    return {name: partial(_mean, v) for name, v in values.items()}


def _intent(examples: Examples) -> dict[str, Statistic]:
    def statistic(metric: object, rows: Rows) -> Floats:
        return np.array([metric(examples.label[rows], examples.probability[rows])])  # type: ignore[operator]

    return {name: partial(statistic, metric) for name, metric in INTENT.items()}


def _minus(a: Statistic, b: Statistic) -> Statistic:
    return lambda rows: a(rows) - b(rows)


def _mean(values: Floats, rows: Rows) -> Floats:
    return np.array([values[rows].mean()])


def _by_part(values: NDArray[np.generic], cut: Slice, rows: Rows) -> Floats:
    """Average by part, NaN where a part is empty."""
    n = np.bincount(cut.part[rows], minlength=len(cut.names))
    total = np.bincount(cut.part[rows], values[rows], minlength=len(cut.names))
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)


def _by_rank(rank: NDArray[np.int64], k: int, rows: Rows) -> Floats:
    return np.cumsum(np.bincount(rank[rows], minlength=k + 1)[1 : k + 1]) / len(rows)


def _precision(label: NDArray[np.bool_], p: Floats, rows: Rows) -> Floats:
    """Read precision where recall first reaches each of `RECALL`: between two thresholds there is no line."""
    if not label[rows].any():
        return np.full(len(RECALL), np.nan)
    precision, recall = precision_recall(label[rows], p[rows])
    return precision[np.searchsorted(recall, RECALL - 1e-12).clip(max=len(recall) - 1)]


def _gain(label: NDArray[np.bool_], p: Floats, rows: Rows) -> Floats:
    share, found = gain(label[rows], p[rows])
    return np.interp(SHARE, share, found) if label[rows].any() else np.full(len(SHARE), np.nan)
