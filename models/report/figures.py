"""From a report's numbers to its pictures: one function a section, a compared model in the same colour everywhere."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from models.report.build import Report
from models.report.charts import Bars, Chart, Series, number, percent, whole
from models.report.data_audit import Audit

DAY = 86_400_000
STABLE, SHIFTED = 0.1, 0.25  # bands of the population stability index (Siddiqi, 2006)
_CALM, _LOUD, _BETWEEN = 2, 1, 4  # looks of what is in order, of what is not, and of what is to be watched
_WHISKERS = "Whiskers are intervals of 95\N{NO-BREAK SPACE}%."
_BANDS = "Bands are intervals of 95\N{NO-BREAK SPACE}%."


def next_item(report: Report) -> list[Chart | Bars]:
    """Draw the hit rate by rank and by part."""
    if "rank" not in report.first.curves:
        return []
    ranked = Chart(
        "Hit rate by rank",
        f"How often the next item is among the first so many of the list; a curve that rises early is better. {_BANDS}",
        "length of the list",
        "hit rate",
        _lines(report, "rank"),
        x_ticks=[n for n in (1, 5, 10, 15, 20, 50, 100) if n <= report.k],
    )
    return [ranked, *_parts(report)]


def _parts(report: Report) -> Iterator[Chart]:
    for name, title, label, caption in (
        ("position", "By length of the session", "events of the session so far", "Does it need a long session?"),
        ("popularity", "By popularity of the target", "times it occurs in training", "Does it live on best-sellers?"),
        ("novelty", "Cold start", "", "What it does for items and shoppers that are new: training has not seen them."),
        ("return", "New to the shopper", "", "Whoever lists a shopper's own items hits none that is new to them."),
    ):
        cut = report.slices[name]
        full = np.flatnonzero(cut.count)
        yield Chart(
            title,
            f"{caption} The second number is how many targets the part has. {_WHISKERS}",
            label,
            f"hit rate, first {report.k}",
            [_only(series, full) for series in _lines(report, name)],
            names=[f"{cut.names[i]}\n{_short(cut.count[i])}" for i in full],
        )


def _only(series: Series, parts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Series:
    """Keep the parts that have examples, side by side and not joined."""
    y, low, high = (side[parts] if side is not None else None for side in (series.y, series.low, series.high))
    assert y is not None
    return replace(series, x=np.arange(len(parts), dtype=np.float64), y=y, low=low, high=high, joined=False)


def _short(n: float) -> str:
    return f"{n / 1000:.0f}k" if n >= 10_000 else whole(n)


def purchase(report: Report) -> list[Chart | Bars]:
    """Draw precision over recall, reliability, gain and lift of the compared models that tell users apart."""
    if "precision" not in report.first.curves:
        return []
    return [*_rightness(report), *_reach(report)]


def _rightness(report: Report) -> list[Chart]:
    base = ("base rate", report.rate)
    return [
        Chart(
            "Precision over recall",
            "Of those called likely, how many buy, as more of the purchases are found; a useless score stays on the "
            f"base rate. {_BANDS}",
            "recall",
            "precision",
            _lines(report, "precision"),
            x_text=percent,
            level=base,
        ),
        Chart(
            "Reliability",
            "Ten groups of one size by their forecast: where ten in a hundred are forecast, ten in a hundred should "
            f"buy. {_WHISKERS}",
            "forecast probability",
            "share that buys",
            _lines(report, "reliability"),
            x_text=percent,
            x_from_zero=True,
            slope="as forecast",
            level=base,
        ),
    ]


def _reach(report: Report) -> list[Chart]:
    share = "share of the events, the likeliest first"
    return [
        Chart(
            "Gain",
            f"How many of all purchases the likeliest events hold; above the diagonal is better than chance. {_BANDS}",
            share,
            "purchases found",
            _lines(report, "gain"),
            x_text=percent,
            x_from_zero=True,
            slope="by chance",
        ),
        Chart(
            "Lift",
            f"How many times as often a purchase follows the likeliest events as any event; 1 is chance. {_BANDS}",
            share,
            "lift",
            _lines(report, "lift"),
            x_text=percent,
            x_from_zero=True,
            y_text=number,
            level=("by chance", 1.0),
        ),
    ]


def training(report: Report) -> list[Chart | Bars]:
    """Draw losses and held-out metrics by epoch."""
    by_heart = "Where it falls while the loss still falls, the model learns by heart."
    return [
        chart
        for name, title, caption in (
            ("item_loss", "Loss of the next item", "On the training part, epoch by epoch; it falls while it learns."),
            ("intent_loss", "Loss of the purchase", "On the training part, epoch by epoch; it falls while it learns."),
            (f"hr@{report.k}", f"Hit rate@{report.k} of the epochs", f"On the tail kept from training. {by_heart}"),
            ("pr_auc", "PR-AUC of the epochs", f"On the tail kept from training. {by_heart}"),
        )
        if (chart := _by_epoch(report, name, title, caption))
    ]


def _by_epoch(report: Report, name: str, title: str, caption: str) -> Chart | None:
    found = []
    for look, (contender, run) in enumerate(report.runs.items()):
        points = [(e["epoch"], e[name]) for e in run.epochs if e.get(name) is not None]
        if points:
            x, y = (np.array(values, np.float64) for values in zip(*points, strict=True))
            found.append(Series(contender, x, y, look=look))
    if not any(series.y.any() for series in found):  # a log without purchases has no loss of them
        return None
    loss, last = name.endswith("loss"), max(int(s.x[-1]) for s in found)
    return Chart(
        title,
        caption,
        "epoch",
        "loss" if loss else "",
        found,
        y_text=number if loss else lambda v: f"{100 * v:.2f}\N{NO-BREAK SPACE}%",
        y_from_zero=False,
        x_ticks=range(1, last + 1, max(1, -(-last // 10))),
    )


def data(report: Report) -> list[Chart | Bars]:
    """Draw what the log holds over time, its types, how features drift, and what was rejected."""
    facts = report.audit
    types = Bars("Events by type", "How many events of each type the log has.", [*facts.types], [*facts.types.values()])
    found: list[Chart | Bars] = [_time(facts)] if facts.timed else []
    found.append(types)
    if facts.drift:
        names, values = zip(*sorted(facts.drift.items(), key=lambda pair: -pair[1]), strict=True)
        found.append(
            Bars(
                "Drift by feature",
                "Population stability index between training and held-out part: below 0.1 stable, 0.1 to 0.25 "
                "moderate, above 0.25 shifted (Siddiqi, 2006).",
                names,
                values,
                text=lambda v: f"{v:.3f}",
                marks=[(f"{STABLE}", STABLE), (f"{SHIFTED}", SHIFTED)],
                looks=[_CALM if v < STABLE else _BETWEEN if v <= SHIFTED else _LOUD for v in values],
            )
        )
    if facts.rejected:
        found.append(
            Bars(
                "Rejected rows by reason",
                "Rows of the log that were no events and were left out.",
                [row.reason for row, _ in facts.rejected],
                [n for _, n in facts.rejected],
                looks=[_LOUD] * len(facts.rejected),
            )
        )
    return found


def _time(facts: Audit) -> Chart:
    begin = facts.first // facts.span * facts.span
    days = -(-(facts.last - facts.first) // (5 * DAY))
    midnight = -(-facts.first // DAY) * DAY
    hours = facts.span // 3_600_000
    at = (begin + np.arange(len(facts.buckets)) * facts.span).astype(np.float64)
    long = facts.last - facts.first > 2 * DAY
    return Chart(
        "Events over time",
        f"Events in each span of {f'{hours} h' if hours < 24 else f'{hours // 24} d'}; holes are spans without any. "
        "Training ends where the shade begins.",
        "time, UTC",
        "events",
        [Series("events", at, facts.buckets.astype(np.float64))],
        x_text=lambda ms: datetime.fromtimestamp(ms / 1000, UTC).strftime("%d %b" if long else "%d %b %H:%M"),
        y_text=number,
        shade=("held out", float(facts.since), float(facts.last)),
        filled=True,
        x_ticks=[float(t) for t in range(midnight, facts.last, days * DAY)] if long else [],
    )


def _lines(report: Report, name: str) -> list[Series]:
    """Take one curve of each compared model that has it."""
    return [
        Series(contender, curve.x, curve.y, curve.low, curve.high, look)
        for look, (contender, measured) in enumerate(report.contenders.items())
        if (curve := measured.curves.get(name))
    ]
