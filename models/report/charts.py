"""What a picture shows: series with their intervals, axes, and the line below that says how to read it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.enough import TOO_FEW

Floats = NDArray[np.float64]
Text = Callable[[float], str]
_ROWS = 24  # of a table that people still read


def percent(value: float) -> str:
    """Write a share as people read it, to two or three digits."""
    hundred = 100 * value
    if abs(hundred - round(hundred)) < 1e-9:
        return f"{hundred:.0f}\N{NO-BREAK SPACE}%"
    return f"{hundred:.1f}\N{NO-BREAK SPACE}%" if abs(hundred) >= 1 else f"{hundred:.2g}\N{NO-BREAK SPACE}%"


def number(value: float) -> str:
    """Write a number with at most three significant digits, more where it is a thousand or above."""
    return whole(value) if abs(value) >= 1000 else f"{value:.3g}"


def whole(value: float) -> str:
    """Write a count."""
    return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Series:
    """One compared model's points, with intervals where it has them; `look` is its colour and marker in every chart."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    look: int = 0
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """Series over x. With `names` x is a row of categories 0, 1, ...

    `level` is a named horizontal line, `slope` a named diagonal through 0, `shade` a named range of x; `filled`
    fills below the lines, for counts in time.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    names: Sequence[str] = ()
    x_text: Text = number
    y_text: Text = percent
    x_from_zero: bool = False
    y_from_zero: bool = True
    x_ticks: Sequence[float] = ()
    level: tuple[str, float] | None = None
    slope: str = ""
    shade: tuple[str, float, float] | None = None
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars, one a name; `marks` are named vertical lines, `looks` a colour for each bar."""

    title: str
    caption: str
    names: Sequence[str]
    values: Sequence[float]
    text: Text = whole
    marks: Sequence[tuple[str, float]] = ()
    looks: Sequence[int] = ()


def table(chart: Chart | Bars) -> list[list[str]]:
    """Return a chart's numbers as rows of text, the head first; none where there are too many to read."""
    if isinstance(chart, Bars):
        return [["", "value"], *([name, chart.text(v)] for name, v in zip(chart.names, chart.values, strict=True))]
    x = chart.series[0].x if chart.series else np.zeros(0)
    if not 0 < len(x) <= _ROWS or any(not np.array_equal(s.x, x) for s in chart.series):
        return []
    first = [name.replace("\n", ", ") for name in chart.names] or [chart.x_text(value) for value in x.tolist()]
    head = [chart.x_label, *(series.name for series in chart.series)]
    return [head, *([name, *(_cell(s, i, chart.y_text) for s in chart.series)] for i, name in enumerate(first))]


def _cell(series: Series, i: int, text: Text) -> str:
    if not np.isfinite(series.y[i]):
        return TOO_FEW
    if series.low is None or series.high is None:
        return text(series.y[i])
    return f"{text(series.y[i])} ({text(series.low[i])} to {text(series.high[i])})"
