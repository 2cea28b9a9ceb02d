"""Pictures as SVG elements: lines with bands, dots with whiskers, bars. Their colours are classes of report.css."""

import math
from collections.abc import Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from models.report.charts import Bars, Chart, Series

LOOKS = 9  # colours in the style sheet; a marker and a dash go with each
_WIDTH, _HEIGHT = 400.0, 280.0  # units of the view box: text of 12 of them can be read on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 18.0, 14.0, 52.0
_RIGHT_END, _GROUND = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
_BAR, _NAME, _VALUE = 26.0, 130.0, 62.0  # a bar's height with its space; the room for its name and its value
_FEW = 12  # points up to which a line shows markers and whiskers instead of a band
_MANY = 8  # categories above which their names are written smaller
_APART = 9.0  # between the dots of one category
_MARKS = ("M-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", "M-4 -4h8v8h-8z", "M0 -5L5 4H-5z", "M0 -5.5L5.5 0L0 5.5L-5.5 0z")


def draw(chart: Chart | Bars) -> str:
    """Draw a chart as an SVG element; all text in it is escaped."""
    root = _bars(chart) if isinstance(chart, Bars) else _plot(chart)
    root.set("role", "img")
    root.set("aria-label", f"{chart.title}. {chart.caption}")
    return ElementTree.tostring(root, encoding="unicode")


def key(look: int) -> str:
    """Draw a compared model's sign, for legends."""
    root = Element("svg", {"viewBox": "0 0 28 12", "class": f"key s{look % LOOKS}", "aria-hidden": "true"})
    _put(root, "line", "line", x1=0, y1=6, x2=28, y2=6)
    _mark(root, look, 14, 6)
    return ElementTree.tostring(root, encoding="unicode")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from `low` to `high`, at most `most` of them.

    >>> ticks(0, 0.23)
    [0.0, 0.05, 0.1, 0.15, 0.2]
    """
    span = high - low
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(m * power for m in (1, 2, 5, 10, 20) if span / (m * power) < most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


class _Plane:
    """The data's coordinates on the view box."""

    def __init__(self, chart: Chart) -> None:
        sides = [side for s in chart.series for side in (s.y, s.low, s.high) if side is not None]
        y = np.concatenate([*sides, np.array([chart.level[1]] if chart.level else [])])
        y = y[np.isfinite(y)] if np.isfinite(y).any() else np.array([0.0, 1.0])
        low = 0.0 if chart.y_from_zero else float(y.min())
        room = (float(y.max()) - low) * 0.06 or 0.5
        self.y0, self.y1 = low - (0.0 if chart.y_from_zero else room), float(y.max()) + room
        x = np.concatenate([s.x for s in chart.series])
        self.x0, self.x1 = 0.0 if chart.x_from_zero else float(x.min(initial=np.inf)), float(x.max(initial=-np.inf))
        if chart.names:
            self.x0, self.x1 = -0.5, len(chart.names) - 0.5
        elif self.x0 >= self.x1:
            self.x0, self.x1 = self.x1 - 0.5, self.x1 + 0.5

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (_RIGHT_END - _LEFT)

    def y(self, value: float) -> float:
        return _GROUND - (value - self.y0) / (self.y1 - self.y0) * (_GROUND - _TOP)


def _plot(chart: Chart) -> Element:
    root, plane = Element("svg", {"viewBox": f"0 0 {_WIDTH:g} {_HEIGHT:g}", "class": "chart"}), _Plane(chart)
    if chart.shade:
        name, begin, end = chart.shade
        x0, x1 = plane.x(max(begin, plane.x0)), plane.x(min(end, plane.x1))
        _put(root, "rect", "shade", x=x0, y=_TOP, width=max(x1 - x0, 0), height=_GROUND - _TOP)
        _words(root, name, "note", x1, _TOP + 12, "end")
    _axes(root, chart, plane)
    apart = min(_APART, 0.8 * (_RIGHT_END - _LEFT) / max(len(chart.names) * len(chart.series), 1))
    for i, series in enumerate(chart.series):
        shift = (i - (len(chart.series) - 1) / 2) * apart if chart.names else 0.0
        _series(root, chart, plane, series, shift)
    if chart.level:
        name, value = chart.level
        _put(root, "line", "reference", x1=_LEFT, y1=plane.y(value), x2=_RIGHT_END, y2=plane.y(value))
        _words(root, name, "note", _LEFT + 4, plane.y(value) - 5, "start")
    if chart.slope:
        begin, end = max(plane.x0, plane.y0), min(plane.x1, plane.y1)
        _put(root, "line", "reference", x1=plane.x(begin), y1=plane.y(begin), x2=plane.x(end), y2=plane.y(end))
        near = begin + 0.7 * (end - begin)  # beside the line, where curves that are good leave room
        _words(root, chart.slope, "note", plane.x(near) + 8, plane.y(near) + 16, "start")
    return root


def _axes(root: Element, chart: Chart, plane: _Plane) -> None:
    for value in ticks(plane.y0, plane.y1):
        _put(root, "line", "grid", x1=_LEFT, y1=plane.y(value), x2=_RIGHT_END, y2=plane.y(value))
        _words(root, chart.y_text(value), "tick", _LEFT - 6, plane.y(value) + 4, "end")
    named = [(float(value), name) for value, name in enumerate(chart.names)]
    at = [(v, chart.x_text(v)) for v in chart.x_ticks or ticks(plane.x0, plane.x1)]
    size = "tick small" if len(named) > _MANY else "tick"
    for value, name in named or at:
        for i, part in enumerate(name.split("\n")):
            _words(root, part, size, plane.x(value), _GROUND + 16 + 13 * i)
    _put(root, "line", "axis", x1=_LEFT, y1=_GROUND, x2=_RIGHT_END, y2=_GROUND)
    _words(root, chart.x_label, "label", (_LEFT + _RIGHT_END) / 2, _HEIGHT - 6)
    middle = (_TOP + _GROUND) / 2
    _words(root, chart.y_label, "label", 12, middle).set("transform", f"rotate(-90 12 {middle:.1f})")


def _series(root: Element, chart: Chart, plane: _Plane, series: Series, shift: float) -> None:
    group = SubElement(root, "g", {"class": f"s{series.look % LOOKS}"})
    SubElement(group, "title").text = series.name
    some = np.isfinite(series.y)
    x = [plane.x(v) + shift for v in series.x[some].tolist()]
    y = [plane.y(v) for v in series.y[some].tolist()]
    if not x:
        return
    few = len(series.x) <= _FEW or not series.joined
    if series.low is not None and series.high is not None:
        low, high = ([plane.y(v) for v in side[some].tolist()] for side in (series.low, series.high))
        if few:
            ends = zip(x, low, high, strict=True)
            d = "".join(f"M{a:.1f} {b:.1f}V{c:.1f}M{a - 3:.1f} {b:.1f}h6M{a - 3:.1f} {c:.1f}h6" for a, b, c in ends)
        else:
            d = _path([*x, *x[::-1]], [*high, *low[::-1]]) + "z"
        SubElement(group, "path", {"d": d, "class": "whisker" if few else "band"})
    if chart.filled:
        d = _path([*x, x[-1], x[0]], [*y, _GROUND, _GROUND]) + "z"
        SubElement(group, "path", {"d": d, "class": "fill"})
    if series.joined:
        SubElement(group, "path", {"d": _path(x, y), "class": "line"})
    if few:
        for a, b in zip(x, y, strict=True):
            _mark(group, series.look, a, b)


def _bars(chart: Bars) -> Element:
    above = 20.0 if chart.marks else 0.0
    height = above + _BAR * len(chart.names) + 6
    root = Element("svg", {"viewBox": f"0 0 {_WIDTH:g} {height:g}", "class": "chart"})
    scale = (_WIDTH - _NAME - _VALUE) / max(*chart.values, *(value for _, value in chart.marks), 1e-12)
    for name, value in chart.marks:
        x = _NAME + value * scale
        _put(root, "line", "reference", x1=x, y1=above - 4, x2=x, y2=height)
        _words(root, name, "note", x, 12)
    for i, (name, value) in enumerate(zip(chart.names, chart.values, strict=True)):
        y = above + i * _BAR
        group = SubElement(root, "g", {"class": f"s{chart.looks[i] if chart.looks else 0}"})
        _words(group, name if len(name) <= 19 else name[:18] + "…", "tick", _NAME - 8, y + 17, "end")
        _put(group, "rect", "bar", x=_NAME, y=y + 5, width=max(value * scale, 1), height=_BAR - 10)
        _words(group, chart.text(value), "tick", _NAME + value * scale + 6, y + 17, "start")
    return root


def _path(x: Sequence[float], y: Sequence[float]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _mark(parent: Element, look: int, x: float, y: float) -> None:
    place = f"translate({x:.1f} {y:.1f})"
    SubElement(parent, "path", {"d": _MARKS[look % LOOKS % len(_MARKS)], "transform": place, "class": "mark"})


def _put(parent: Element, tag: str, kind: str, **places: float) -> None:
    SubElement(parent, tag, {name: f"{value:.1f}" for name, value in places.items()} | {"class": kind})


def _words(parent: Element, text: str, kind: str, x: float, y: float, anchor: str = "middle") -> Element:
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "class": kind, "text-anchor": anchor}
    element = SubElement(parent, "text", place)
    element.text = text
    return element
