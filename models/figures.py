"""From a report's numbers to its pictures: one function a section, a contender in the same colour everywhere."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np

from models.charts import Bars, Chart, Series, number, percent
from models.report import RECALL, SHARE, Measured, Report
from models.resamples import Estimate, Floats

_STABLE, _SHIFTED = 0.1, 0.25  # Siddiqi's bands of the population stability index
_CALM, _LOUD = 2, 1  # looks of what is in order and of what is not
_WHISKERS = "Whiskers are intervals of 95 %."
_BANDS = "Bands are intervals of 95 %."


def next_item(report: Report) -> list[Chart | Bars]:
    """Draw the hit rate by rank and by part."""
    if not report.slices:
        return []
    k = next(iter(report.runs.values())).meaning.k
    place = np.arange(1.0, k + 1)
    ranked = Chart(
        "Hit rate by rank",
        f"How often the next item is among the first so many of the list; the curve that rises early is the better. {_BANDS}",
        "length of the list",
        "hit rate",
        _lines(report, place, lambda m: m.by_rank),
        x_ticks=[n for n in (1, 5, 10, 15, 20, 50, 100) if n <= k],
    )
    return [ranked, *_parts(report, k)]


def _parts(report: Report, k: int) -> Iterator[Chart]:
    for name, title, label, caption in (
        ("position", "By length of the session", "events of the session so far", "Does it need a long session?"),
        (
            "popularity",
            "By popularity of the target",
            "how often it occurs in training",
            "Does it live on best-sellers?",
        ),
        ("novelty", "Cold start", "", "What it can do for items and shoppers that training has not seen."),
    ):
        cut = report.slices[name]
        full = np.flatnonzero(cut.count)
        yield Chart(
            title,
            f"{caption} The smaller number is how many targets a part has. {_WHISKERS}",
            label,
            f"hit rate, first {k}",
            [
                _picked(series, full)
                for series in _lines(report, np.arange(len(cut.names)), lambda m, n=name: m.slices.get(n), False)
            ],
            names=[f"{cut.names[i]}\n{_short(cut.count[i])}" for i in full],
        )


def _picked(series: Series, rows: np.ndarray) -> Series:
    from dataclasses import replace

    assert series.low is not None and series.high is not None
    return replace(series, x=np.arange(len(rows)) * 1.0, y=series.y[rows], low=series.low[rows], high=series.high[rows])


def _short(n: float) -> str:
    return f"{n / 1000:.1f}k" if n >= 10_000 else f"{n:,.0f}"


def purchase(report: Report) -> list[Chart | Bars]:
    """Draw precision over recall, reliability, gain and lift."""
    if not report.examples["positives"] or not any(m.precision for m in report.contenders.values()):
        return []
    rate = report.examples["positives"] / report.examples["labelled"]
    share = "share of the events, the likeliest first"
    return [
        Chart(
            "Precision over recall",
            f"Of those called likely, how many buy, as more and more of the buyers are found; a useless score stays on the base rate. {_BANDS}",
            "recall",
            "precision",
            _lines(report, RECALL, lambda m: m.precision),
            x_text=percent,
            level=("base rate", rate),
        ),
        Chart(
            "Reliability",
            f"Events grouped by their probability, ten groups of one size: where ten in a hundred are forecast, ten in a hundred should buy. {_WHISKERS}",
            "forecast probability",
            "share that buys",
            _reliability(report),
            x_text=percent,
            slope="perfect",
            level=("base rate", rate),
        ),
        Chart(
            "Gain",
            f"Reaching out to the likeliest so many of the events finds so many of the purchases. {_BANDS}",
            share,
            "purchases found",
            _lines(report, SHARE, lambda m: m.gain),
            x_text=percent,
            slope="by chance",
        ),
        Chart(
            "Lift",
            f"How many times as often the likeliest buy as everybody; 1 is chance. {_BANDS}",
            share,
            "lift",
            _lines(report, SHARE, lambda m: _over(m.gain, SHARE)),
            x_text=percent,
            y_text=number,
            level=("chance", 1.0),
        ),
    ]


def _over(e: Estimate | None, by: Floats) -> Estimate | None:
    return Estimate(e.value / by, e.low / by, e.high / by) if e else None


def _reliability(report: Report) -> list[Series]:
    found = []
    for look, (name, m) in enumerate(report.contenders.items()):
        # A baseline that gives everybody the base rate has one point, on the diagonal or not: nothing to see.
        if m.reliability and m.forecast is not None and np.ptp(m.forecast) > 1e-6:
            e = m.reliability
            found.append(Series(name, m.forecast, e.value, e.low, e.high, look))
    return found


def training(report: Report) -> list[Chart | Bars]:
    """Draw losses and held-out metrics by epoch."""
    k = next(iter(report.runs.values())).meaning.k
    losses = (
        ("item_loss", "Loss of the next item", "falls while it learns"),
        ("intent_loss", "Loss of the purchase", "falls while it learns"),
        (
            f"hr@{k}",
            f"Hit rate@{k} on the held-out tail",
            "when it falls while the loss still falls, the model learns by heart",
        ),
        ("pr_auc", "Average precision on the held-out tail", "the same for purchases"),
    )
    return [c for name, title, hint in losses if (c := _by_epoch(report, name, title, hint))]


def _by_epoch(report: Report, name: str, title: str, hint: str) -> Chart | None:
    found = []
    for look, (contender, run) in enumerate(report.runs.items()):
        points = [(e["epoch"], e[name]) for e in run.epochs if e.get(name) is not None]
        if points:
            x, y = (np.array(values, float) for values in zip(*points, strict=True))
            found.append(Series(contender, x, y, look=look))
    if not found:
        return None
    loss = name.endswith("loss")
    last = max(int(s.x[-1]) for s in found)
    return Chart(
        title, f"Epoch by epoch: it {hint}." if loss else f"Epoch by epoch: {hint}.", "epoch", "loss" if loss else "", found,
        y_text=number if loss else percent, from_zero=False, x_ticks=range(1, last + 1, max(1, last // 10)),
    )  # fmt: skip


def data(report: Report) -> list[Chart | Bars]:
    """Draw what the log holds over time, its types, what was rejected, and how features drift."""
    facts = report.audit
    found: list[Chart | Bars] = []
    if facts.buckets is not None and facts.first is not None and facts.last is not None and facts.span is not None:
        begin = facts.first // facts.span * facts.span
        x = begin + np.arange(len(facts.buckets)) * float(facts.span)
        days = max(1, round((facts.last - facts.first) / 86_400_000 / 4))
        midnight = -(-facts.first // 86_400_000) * 86_400_000
        found.append(
            Chart(
                "Events over time",
                f"Events in each span of {_span(facts.span)}; holes are times without any. Training ends where the shade begins.",
                "day, UTC",
                "events",
                [Series("events", x, facts.buckets.astype(float))],
                x_text=lambda ms: datetime.fromtimestamp(ms / 1000, UTC).strftime("%d %b"),
                y_text=number,
                shade=("held out", float(facts.since), float(facts.last)),
                filled=True,
                x_ticks=[float(t) for t in range(midnight, facts.last, days * 86_400_000)],
            )
        )
    found.append(
        Bars(
            "Events by type",
            "How many events of each type the log has.",
            list(facts.types),
            list(facts.types.values()),
            text=lambda v: f"{v:,.0f}",
        )
    )
    if facts.drift:
        names, values = zip(*sorted(facts.drift.items(), key=lambda pair: -pair[1]), strict=True)
        found.append(
            Bars(
                "Drift by feature",
                "Population stability index between training and held-out part: below 0.1 stable, above 0.25 shifted (Siddiqi, 2006).",
                names,
                values,
                text=lambda v: f"{v:.3f}",
                marks=[("0.1", _STABLE), ("0.25", _SHIFTED)],
                looks=[_CALM if v < _STABLE else 4 if v < _SHIFTED else _LOUD for v in values],
            )
        )
    if facts.rejected:
        found.append(
            Bars(
                "Rejected rows by reason",
                "Rows of the log that were no events and were left out.",
                [row.reason for row, _ in facts.rejected],
                [n for _, n in facts.rejected],
                text=lambda v: f"{v:,.0f}",
                looks=[_LOUD] * len(facts.rejected),
            )
        )
    return found


def _span(ms: int) -> str:
    hours = ms // 3_600_000
    return f"{hours} hour{'s' * (hours > 1)}" if hours < 24 else f"{hours // 24} day{'s' * (hours > 24)}"


def _lines(report: Report, x: Floats, pick: Callable[[Measured], Estimate | None], joined: bool = True) -> list[Series]:
    found = []
    for look, (name, measured) in enumerate(report.contenders.items()):
        if e := pick(measured):
            found.append(Series(name, x, e.value, e.low, e.high, look, joined))
    return found
