"""Pictures as SVG: lines with bands, dots with whiskers, bars. Colours are classes of the page's style sheet."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Text = Callable[[float], str]

LOOKS = 8  # colours in the style sheet; a marker and a dash go with each
_WIDTH, _HEIGHT = 400.0, 280.0  # in units of the view box: 13 of them are a line of text, on a phone too
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 12.0, 12.0, 50.0
_BAR, _NAME = 26.0, 130.0  # a bar's height with its space, and the room for its name
_FEW = 12  # points up to which a line shows its markers and whiskers instead of a band
_MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-4 -4h8v8h-8z", "M0 -5L5 4H-5z", "M0 -5.5L5.5 0L0 5.5L-5.5 0z")


def percent(value: float) -> str:
    """Write a share as people read it.

    >>> percent(0.0873)
    '8.7 %'
    """
    hundred = 100 * value
    return (
        f"{hundred:.0f} %"
        if abs(hundred - round(hundred)) < 1e-9
        else f"{hundred:.1f} %"
        if hundred >= 1
        else f"{hundred:.2g} %"
    )


def number(value: float) -> str:
    """Write a number with at most four significant digits."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Series:
    """One contender's points, with intervals where it has them; `look` is its colour and marker in every chart."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    look: int = 0
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, and the line below it that says how to read it.

    With `names` the x axis has categories 0, 1, ...; `level` is a named horizontal line, `slope` a named diagonal
    from 0, `shade` a named range of x.
    """

    title: str
    caption: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    names: Sequence[str] = ()
    x_text: Text = number
    y_text: Text = percent
    from_zero: bool = True
    level: tuple[str, float] | None = None
    slope: str = ""
    shade: tuple[str, float, float] | None = None
    filled: bool = False  # steps filled to the axis, for counts in time
    x_ticks: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars, one a name; `marks` are named vertical lines, `looks` a colour each."""

    title: str
    caption: str
    names: Sequence[str]
    values: Sequence[float]
    text: Text = number
    marks: Sequence[tuple[str, float]] = ()
    looks: Sequence[int] = field(default=())


def svg(chart: Chart | Bars) -> str:
    """Draw a chart as an SVG element; all text in it is escaped."""
    root = _bars(chart) if isinstance(chart, Bars) else _axes(chart)
    root.set("role", "img")
    root.set("aria-label", f"{chart.title}. {chart.caption}")
    return ElementTree.tostring(root, encoding="unicode")


def key(look: int) -> str:
    """Draw the sign of a contender, for legends."""
    root = Element("svg", {"viewBox": "0 0 28 12", "class": f"key s{look % LOOKS}", "aria-hidden": "true"})
    _put(root, "line", x1=0, y1=6, x2=28, y2=6, klass="line")
    SubElement(root, "path", {"d": _MARKS[look % len(_MARKS)], "transform": "translate(14 6)", "class": "mark"})
    return ElementTree.tostring(root, encoding="unicode")


def table(chart: Chart | Bars) -> list[list[str]]:
    """Return a chart's numbers as rows of text, the first one the head; none where they are too many to read."""
    if isinstance(chart, Bars):
        return [["", "value"], *([n, chart.text(v)] for n, v in zip(chart.names, chart.values, strict=True))]
    first = max(chart.series, key=lambda s: len(s.x))
    if len(first.x) > 2 * _FEW or any(not np.array_equal(s.x, first.x) for s in chart.series):
        return []
    rows = [[chart.names[i].replace("\n", ", ") if chart.names else chart.x_text(x)] for i, x in enumerate(first.x)]
    for series in chart.series:
        for i, row in enumerate(rows):
            row.append(_said(series, i, chart.y_text))
    return [[chart.x_label, *(s.name for s in chart.series)], *rows]


def _said(series: Series, i: int, text: Text) -> str:
    if not np.isfinite(series.y[i]):
        return "–"
    if series.low is None or series.high is None or not np.isfinite(series.low[i]):
        return text(series.y[i])
    return f"{text(series.y[i])} ({text(series.low[i])} to {text(series.high[i])})"


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from `low` to `high`, at most `most` of them.

    >>> ticks(0, 0.23)
    [0.0, 0.05, 0.1, 0.15, 0.2]
    """
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 2.5, 5, 10, 20) if span / (m * power) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


class _Plane:
    """The data's coordinates on the view box."""

    def __init__(self, chart: Chart) -> None:
        xs = np.concatenate([s.x for s in chart.series])
        ys = np.concatenate([v for s in chart.series for v in (s.y, s.low, s.high) if v is not None])
        ys = ys[np.isfinite(ys)]
        low, high = (0.0 if chart.from_zero else float(ys.min(initial=0))), float(ys.max(initial=0))
        if chart.level:
            high = max(high, chart.level[1])
        if not chart.from_zero and len(ys):
            low, high = float(ys.min()), float(ys.max())
        room = (high - low) * 0.06 or 0.5
        self.y0, self.y1 = low if chart.from_zero else low - room, high + room
        self.x0, self.x1 = (-0.5, len(chart.names) - 0.5) if chart.names else (float(xs.min()), float(xs.max()))
        if self.x0 == self.x1:
            self.x0, self.x1 = self.x0 - 0.5, self.x1 + 0.5

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(chart: Chart) -> Element:
    root = Element("svg", {"viewBox": f"0 0 {_WIDTH:g} {_HEIGHT:g}", "class": "chart"})
    plane = _Plane(chart)
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    if chart.shade:
        name, begin, end = chart.shade
        x0, x1 = plane.x(max(begin, plane.x0)), plane.x(min(end, plane.x1))
        _put(root, "rect", x=x0, y=_TOP, width=max(x1 - x0, 0), height=bottom - _TOP, klass="shade")
        _words(root, name, (x0 + x1) / 2, _TOP + 12, "note", "middle")
    for value in ticks(plane.y0, plane.y1):
        _put(root, "line", x1=_LEFT, y1=plane.y(value), x2=right, y2=plane.y(value), klass="grid")
        _words(root, chart.y_text(value), _LEFT - 6, plane.y(value) + 4, "tick", "end")
    for value, name in _x_ticks(chart, plane):
        for i, part in enumerate(name.split("\n")):
            _words(root, part, plane.x(value), bottom + 16 + 12 * i, "tick", "middle")
    _put(root, "line", x1=_LEFT, y1=bottom, x2=right, y2=bottom, klass="axis")
    _words(root, chart.x_label, (_LEFT + right) / 2, _HEIGHT - 6, "label", "middle")
    _words(root, chart.y_label, 13, (_TOP + bottom) / 2, "label", "middle", turned=True)
    _references(root, chart, plane)
    for i, series in enumerate(chart.series):
        shift = (i - (len(chart.series) - 1) / 2) * 9 if chart.names else 0.0
        _draw(root, chart, plane, series, shift)
    return root


def _x_ticks(chart: Chart, plane: _Plane) -> list[tuple[float, str]]:
    if chart.names:
        return list(enumerate(chart.names))
    return [(value, chart.x_text(value)) for value in chart.x_ticks or ticks(plane.x0, plane.x1)]


def _references(root: Element, chart: Chart, plane: _Plane) -> None:
    if chart.level:
        name, value = chart.level
        _put(root, "line", x1=_LEFT, y1=plane.y(value), x2=_WIDTH - _RIGHT, y2=plane.y(value), klass="reference")
        _words(root, name, _WIDTH - _RIGHT - 2, plane.y(value) - 5, "note", "end")
    if chart.slope:
        end = min(plane.x1, plane.y1)
        begin = max(plane.x0, plane.y0)
        _put(root, "line", x1=plane.x(begin), y1=plane.y(begin), x2=plane.x(end), y2=plane.y(end), klass="reference")
        _words(root, chart.slope, plane.x(end) - 6, plane.y(end) + 4, "note", "end")


def _draw(root: Element, chart: Chart, plane: _Plane, series: Series, shift: float) -> None:
    group = SubElement(root, "g", {"class": f"s{series.look % LOOKS}"})
    SubElement(group, "title").text = series.name
    some = np.isfinite(series.y)
    x = [plane.x(v) + shift for v in series.x[some].tolist()]
    y = [plane.y(v) for v in series.y[some].tolist()]
    if not x:
        return
    few = len(series.x) <= _FEW or not series.joined
    if series.low is not None and series.high is not None:
        low, high = ([plane.y(v) for v in np.nan_to_num(side[some]).tolist()] for side in (series.low, series.high))
        if few:
            for a, b, c in zip(x, low, high, strict=True):
                _put(
                    group,
                    "path",
                    d=f"M{a:.1f} {b:.1f}V{c:.1f}M{a - 3:.1f} {b:.1f}h6M{a - 3:.1f} {c:.1f}h6",
                    klass="whisker",
                )
        else:
            _put(group, "path", d=f"{_path(x, high)}L{_path(x[::-1], low[::-1])[1:]}z", klass="band")
    if chart.filled:
        base = plane.y(plane.y0)
        _put(group, "path", d=f"{_path(x, y)}L{x[-1]:.1f} {base:.1f}L{x[0]:.1f} {base:.1f}z", klass="fill")
    if series.joined:
        _put(group, "path", d=_path(x, y), klass="line")
    if few:
        for a, b in zip(x, y, strict=True):
            at = f"translate({a:.1f} {b:.1f})"
            SubElement(group, "path", {"d": _MARKS[series.look % len(_MARKS)], "transform": at, "class": "mark"})


def _bars(chart: Bars) -> Element:
    above = 18.0 if chart.marks else 0.0
    height = above + _BAR * len(chart.names) + 6
    root = Element("svg", {"viewBox": f"0 0 {_WIDTH:g} {height:g}", "class": "chart"})
    most = max([*chart.values, *(value for _, value in chart.marks), 1e-12])
    scale = (_WIDTH - _NAME - 62) / most
    for name, value in chart.marks:
        x = _NAME + value * scale
        _put(root, "line", x1=x, y1=above, x2=x, y2=height, klass="reference")
        _words(root, name, x, 12, "note", "middle")
    for i, (name, value) in enumerate(zip(chart.names, chart.values, strict=True)):
        y = above + i * _BAR
        look = chart.looks[i] if chart.looks else 0
        group = SubElement(root, "g", {"class": f"s{look % LOOKS}"})
        _words(root, name if len(name) <= 20 else name[:19] + "…", _NAME - 8, y + 18, "tick", "end")
        _put(group, "rect", x=_NAME, y=y + 5, width=max(value * scale, 1), height=_BAR - 10, klass="bar")
        _words(root, chart.text(value), _NAME + value * scale + 6, y + 18, "tick", "start")
    return root


def _path(x: Sequence[float], y: Sequence[float]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _put(parent: Element, tag: str, *, klass: str, **places: float | str) -> None:
    values = {name: value if isinstance(value, str) else f"{value:.1f}" for name, value in places.items()}
    SubElement(parent, tag, values | {"class": klass})


def _words(parent: Element, text: str, x: float, y: float, klass: str, anchor: str, turned: bool = False) -> None:
    place = {"transform": f"translate({x:.1f} {y:.1f}) rotate(-90)"} if turned else {"x": f"{x:.1f}", "y": f"{y:.1f}"}
    SubElement(parent, "text", place | {"class": klass, "text-anchor": anchor}).text = text
