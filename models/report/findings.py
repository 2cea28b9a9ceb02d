"""What a report says in plain words before its pictures: what is good, what is to be watched, what is poor."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.enough import RULE
from models.evaluation.bootstrap import Interval
from models.report.build import Measured, Report
from models.report.charts import percent
from models.report.figures import SHIFTED, STABLE
from models.training.checkpoint import Run

GOOD, WATCH, POOR = "good", "watch", "poor"
_FEW = 100  # positives below which a figure of purchases is mostly noise
_EXACT, _USABLE = 0.01, 0.03  # expected calibration errors
_COLD = 0.05, 0.25  # share of targets that training has not seen: worth a word, a large part
_REJECTED = 0.01  # share of the rows


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence or two, and whether they are good news."""

    kind: str
    text: str


def findings(report: Report) -> list[Finding]:
    """Judge a report, the poor first."""
    found = [finding for judge in _JUDGES for finding in judge(report)]
    return sorted(found, key=lambda finding: (POOR, WATCH, GOOD).index(finding.kind))


def best(report: Report, metric: str) -> tuple[str, Measured] | None:
    """Return the baseline, a compared model that is no run, which is strongest by a metric where more is better."""
    having = [(n, m) for n, m in report.contenders.items() if n not in report.runs and metric in m.figures]
    return max(having, key=lambda pair: pair[1].figures[metric].value, default=None)


def _between(found: Interval) -> str:
    return f"{percent(found.low)} to {percent(found.high)}"


def _against(report: Report, metric: str, what: str) -> list[Finding]:
    """Compare the first compared model with the strongest baseline, in the same rounds of the bootstrap."""
    rival, value = best(report, metric), report.first.figures.get(metric)
    if value is None:
        return []
    text = f"{what}: {percent(value.value)} ({_between(value)})"
    if rival is None:
        return [Finding(WATCH, f"{text}, compared with nothing.")]
    name, theirs, better = rival[0], rival[1].figures[metric].value, rival[1].better[metric]
    if better.low > 0:
        times = f"{value.value / theirs:.1f} times" if theirs else "more than"
        return [Finding(GOOD, f"{text}, {times} {name}, the strongest baseline ({percent(theirs)}).")]
    if better.high < 0:
        return [Finding(POOR, f"{text}, worse than {name} ({percent(theirs)}).")]
    return [Finding(WATCH, f"{text}, which so few shoppers cannot tell from {name} ({percent(theirs)}).")]


def _next_item(report: Report) -> list[Finding]:
    if not report.examples["targets"]:
        return [Finding(WATCH, "Next item: nobody has a second event in the held-out part, so nothing is said of it.")]
    if "rank" not in report.first.curves:
        text = f"{report.examples['targets']:,} of {report.examples['users']:,} shoppers"
        return [Finding(WATCH, f"Next item: {text}, too few for a figure ({RULE}).")]
    return _against(report, f"hr@{report.k}", f"Next item, among the first {report.k}")


def _purchase(report: Report) -> list[Finding]:
    positives, labelled = report.examples["positives"], report.examples["labelled"]
    horizon = report.horizon
    if not labelled:
        return [Finding(WATCH, f"Purchases: no held-out event is followed by {horizon} of log, so no label is known.")]
    if not positives:
        return [Finding(WATCH, "Purchases: the held-out part has none, so nothing is said of them.")]
    if "pr_auc" not in report.first.figures:
        text = f"{positives:,} of {labelled:,} labels"
        return [Finding(WATCH, f"Purchases: {text}, too few for a figure ({RULE}).")]
    found = _against(report, "pr_auc", f"Purchases within {horizon}")
    own, rate = report.first.figures.get("log_loss"), _entropy(positives / labelled)
    if own is not None and own.value > rate:
        text = f"Purchases: a log loss of {own.value:.4f}, worse than the {rate:.4f} of always saying the rate."
        found.append(Finding(POOR, text))
    if positives < _FEW:
        noise = f"Only {positives:,} of {labelled:,} labels are purchases: their figures are mostly noise."
        found.append(Finding(WATCH, noise))
    return found


def _entropy(p: float) -> float:
    """Return the log loss of a constant that is right on the whole."""
    return float(-sum(q * np.log(q) for q in (p, 1 - p) if q > 0))


def _calibration(report: Report) -> list[Finding]:
    ece = report.first.figures.get("ece")
    if ece is None:
        return []
    words = {GOOD: "can be taken at their word", WATCH: "are about right", POOR: "cannot be taken at their word"}
    kind = GOOD if ece.value <= _EXACT else WATCH if ece.value <= _USABLE else POOR
    off = f"off by {percent(ece.value)} on average ({_between(ece)}) where {percent(report.rate)} buy"
    return [Finding(kind, f"Calibration: the probabilities {words[kind]}, {off}.")]


def _cold(report: Report) -> list[Finding]:
    if "novelty" not in report.first.curves:
        return []
    count = report.slices["novelty"].count
    new, hit = count[2:].sum() / count.sum(), _hits(report, report.first, "novelty", slice(2, 4))
    kind = GOOD if new <= _COLD[0] else POOR if new > _COLD[1] and not hit else WATCH
    some = f"; {_beside(report, hit, 'novelty', slice(2, 4))}" if new else ""
    return [Finding(kind, f"Cold start: {percent(new)} of the next items were never seen in training{some}.")]


def _new(report: Report) -> list[Finding]:
    """Say what is found beyond the user's own items, which anybody can list."""
    count = report.slices["return"].count
    if not count[1] or "return" not in report.first.curves:
        return []
    hit = _hits(report, report.first, "return", slice(1, 2))
    text = f"New to the shopper: {percent(count[1] / count.sum())} of the next items are"
    return [Finding(WATCH if hit else POOR, f"{text}; {_beside(report, hit, 'return', slice(1, 2))}.")]


def _hits(report: Report, measured: Measured, name: str, parts: slice) -> float:
    """Return the hit rate over some parts of a slice, those with too few examples left out; NaN where all are."""
    count, hits = report.slices[name].count[parts], measured.curves[name].y[parts]
    some = np.isfinite(hits)
    return float(np.average(hits[some], weights=count[some])) if some.any() else np.nan


def _beside(report: Report, hit: float, name: str, parts: slice) -> str:
    """Say how many of some parts are hit, and how many by the strongest baseline there."""
    if np.isnan(hit):
        return f"too few for a figure ({RULE})"
    others = {n: m for n, m in report.contenders.items() if n not in report.runs and name in m.curves}
    found = ((_hits(report, m, name, parts), n) for n, m in others.items())
    theirs, rival = max((pair for pair in found if np.isfinite(pair[0])), default=(0.0, ""))
    return f"{percent(hit)} of those are hit" + (f", {percent(theirs)} by {rival}" if rival else "")


def _drift(report: Report) -> list[Finding]:
    shifted = [name for name, value in report.audit.drift.items() if value > SHIFTED]
    if shifted:
        return [Finding(WATCH, f"Drift: {', '.join(shifted)} shifted between training and the held-out part.")]
    moved = [name for name, value in report.audit.drift.items() if value >= STABLE]
    if moved:
        return [Finding(WATCH, f"Drift: no feature shifted, but {', '.join(moved)} moved moderately.")]
    return [Finding(GOOD, "Drift: no feature shifted between training and the held-out part.")]


def _rows(report: Report) -> list[Finding]:
    lost = sum(n for _, n in report.audit.rejected)
    if not lost:
        return [Finding(GOOD, "Rows: each row of the log is an event.")]
    share = lost / (lost + report.audit.events)
    text = f"Rows: {lost:,} ({percent(share)}) are no events and were left out."
    return [Finding(WATCH if share > _REJECTED else GOOD, text)]


def _split(report: Report) -> list[Finding]:
    facts = report.audit
    found = [finding for name, run in report.runs.items() for finding in seen(name, run, facts.events, facts.before)]
    return found or [Finding(GOOD, "Split: no run has seen what it is measured on, nor chose its epoch by it.")]


def seen(name: str, run: Run, events: int, before: int) -> list[Finding]:
    """Say whether a run may know what it is measured on: a log of so many `events`, from the one after `before` on."""
    trained = run.data.get("trained")
    if run.data.get("events") != events or trained is None:
        return [Finding(WATCH, f"Split: {name} was trained on another log; whether it has seen these is not known.")]
    if trained > before:
        text = f"{name} was trained on {trained - before:,} of the {events - before:,} events that it is measured on."
        return [Finding(POOR, f"Split: {text}")]
    if any("selection" in epoch for epoch in run.epochs):
        return [Finding(WATCH, f"Split: {name} has not seen the held-out part, but chose its epoch by a tail of it.")]
    return []


_JUDGES: tuple[Callable[[Report], list[Finding]], ...] = (
    *(_next_item, _new, _purchase, _calibration, _cold, _drift, _rows, _split),
)
