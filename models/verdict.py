"""What a report says in plain words before its pictures: what is good, what is to be watched, what is poor."""

from collections.abc import Callable
from dataclasses import dataclass

from models.charts import percent
from models.report import Measured, Report
from models.resamples import Estimate

GOOD, WATCH, POOR = "good", "watch", "poor"
_FEW = 100  # positives below which a figure of purchases is mostly noise
_CALIBRATED, _USABLE = 0.01, 0.03  # expected calibration errors
_SHIFTED = 0.25  # of the population stability index: Siddiqi's band
_REJECTED = 0.01  # share of the rows


@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence or two, and whether they are good news."""

    kind: str
    text: str


def findings(report: Report) -> list[Finding]:
    """Judge a report, the poor first."""
    found = [finding for judge in _JUDGES for finding in judge(report)]
    return sorted(found, key=lambda f: (POOR, WATCH, GOOD).index(f.kind))


def rivals(report: Report) -> dict[str, Measured]:
    """Return the contenders that were not trained as runs: the baselines."""
    return {name: m for name, m in report.contenders.items() if name not in report.runs}


def between(e: Estimate, text: Callable[[float], str] = percent) -> str:
    """Write an estimate's interval."""
    return f"{text(e.low[0])} to {text(e.high[0])}"


def _spoken(report: Report) -> tuple[str, Measured]:
    return next(iter(report.contenders.items()))


def best(report: Report, name: str) -> tuple[str, Measured] | None:
    """Return the baseline that is strongest by one metric."""
    having = [(n, m) for n, m in rivals(report).items() if name in m.figures]
    return max(having, key=lambda pair: float(pair[1].figures[name].value[0]), default=None)


def _against(report: Report, name: str, what: str) -> list[Finding]:
    """Compare the first contender with the strongest baseline by a metric where more is better."""
    title, own = _spoken(report)
    rival = best(report, name)
    if name not in own.figures or not rival:
        return []
    value, theirs = own.figures[name], float(rival[1].figures[name].value[0])
    gap = rival[1].better[name]
    times = f", {value.value[0] / theirs:.1f} times {rival[0]}, the best baseline" if theirs > 0 else ""
    text = f"{what}: {percent(value.value[0])} ({between(value)}){times}."
    if gap.low[0] > 0:
        return [Finding(GOOD, text)]
    if gap.high[0] < 0:
        return [Finding(POOR, f"{text} That is worse than {rival[0]} ({percent(theirs)}).")]
    return [Finding(WATCH, f"{text} On so few shoppers it cannot be told from {rival[0]} ({percent(theirs)}).")]


def _next_item(report: Report) -> list[Finding]:
    k = next(iter(report.runs.values())).meaning.k
    return _against(report, f"hr@{k}", f"Next item, among the first {k}")


def _purchase(report: Report) -> list[Finding]:
    positives, labelled = report.examples["positives"], report.examples["labelled"]
    if not positives:
        return [Finding(WATCH, "Purchases: there is none in the held-out part, so nothing is said about them.")]
    found = _against(report, "pr_auc", "Purchase, average precision")
    if positives < _FEW:
        found.append(
            Finding(WATCH, f"Only {positives:,} of {labelled:,} labels are purchases: their figures are mostly noise.")
        )
    return found


def _calibration(report: Report) -> list[Finding]:
    _, own = _spoken(report)
    if "ece" not in own.figures:
        return []
    ece, rate = own.figures["ece"], report.examples["positives"] / report.examples["labelled"]
    value = float(ece.value[0])
    kind = GOOD if value <= _CALIBRATED else WATCH if value <= _USABLE else POOR
    word = {
        GOOD: "can be taken at their word",
        WATCH: "are usable, not exact",
        POOR: "are not to be taken at their word",
    }
    return [
        Finding(
            kind,
            f"Calibration: the probabilities {word[kind]}; they are off by {percent(value)} on average "
            f"({between(ece)}) where {percent(rate)} buy.",
        )
    ]


def _cold(report: Report) -> list[Finding]:
    cut = report.slices.get("novelty")
    if not cut:
        return []
    _, own = _spoken(report)
    new = cut.count[2:].sum() / cut.count.sum()
    hits = own.slices["novelty"].value[2:]
    rate = float((hits[cut.count[2:] > 0] * cut.count[2:][cut.count[2:] > 0]).sum() / max(cut.count[2:].sum(), 1))
    kind = POOR if new > 0.25 and rate == 0 else WATCH if new > 0.05 else GOOD
    return [
        Finding(
            kind,
            f"Cold start: {percent(new)} of the next items were never seen in training; of those {percent(rate)} are hit.",
        )
    ]


def _drift(report: Report) -> list[Finding]:
    shifted = [name for name, value in report.audit.drift.items() if value > _SHIFTED]
    if shifted:
        return [Finding(WATCH, f"Drift: {', '.join(shifted)} differ much between training and the held-out part.")]
    return [Finding(GOOD, "Drift: no feature differs much between training and the held-out part.")]


def _rows(report: Report) -> list[Finding]:
    lost = sum(n for _, n in report.audit.rejected)
    if not lost:
        return [Finding(GOOD, "Data: every row of the log was an event.")]
    share = lost / (lost + report.audit.events)
    return [
        Finding(
            WATCH if share > _REJECTED else GOOD,
            f"Data: {lost:,} rows ({percent(share)}) were no events and were left out.",
        )
    ]


def _honesty(report: Report) -> list[Finding]:
    if report.warnings:
        return [Finding(POOR, text) for text in report.warnings]
    return [Finding(GOOD, "Split: nothing that is measured here was seen in training.")]


_JUDGES = (_honesty, _next_item, _purchase, _calibration, _cold, _drift, _rows)
