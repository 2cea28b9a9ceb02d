"""Pictures: what is drawn lies inside, says its numbers, and cannot break out of its text."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.report.charts import Bars, Chart, Series, number, percent, table
from models.report.svg import LOOKS, draw, key, ticks

NASTY = "</svg><script>alert(1)</script>"
finite = st.floats(-1e6, 1e6)


def _chart(*series, **more):
    return Chart("title", "caption", "x", "y", series, **more)


@given(finite, st.floats(1e-6, 1e6))
def test_ticks_are_few_round_and_inside(low, span):
    found = ticks(low, low + span)
    slack = 1e-6 * (abs(low) + span)
    assert 1 <= len(found) <= 7
    assert low - slack <= found[0] and found[-1] <= low + span + slack


def test_ticks_by_hand():
    assert ticks(0, 0.23) == [0, 0.05, 0.1, 0.15, 0.2]
    assert ticks(1, 20) == [5, 10, 15, 20]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0873, "8.7 %"), (0.25, "25 %"), (0.00087, "0.087 %"), (0, "0 %"), (1, "100 %")]
)
def test_shares_are_written_as_people_read_them(value, text):
    assert percent(value) == text.replace(" ", "\N{NO-BREAK SPACE}")


def test_numbers_are_written_short():
    assert [number(v) for v in (0.12345, 12.0, 123456.7)] == ["0.123", "12", "123,457"]


@given(st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=30), st.booleans())
def test_everything_drawn_lies_inside_the_picture(points, joined):
    low, y, high = np.sort(np.abs(np.array(points)), axis=1).T
    series = Series("s", np.arange(len(points)) * 1.0, y, low, high, joined=joined)
    root = ElementTree.fromstring(draw(_chart(series)))
    for path in root.iter("path"):
        if path.get("class") in ("line", "band"):
            places = np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d")), float)
            assert (places >= -0.1).all() and (places[:, 0] <= 400.1).all() and (places[:, 1] <= 280.1).all()


def test_a_hole_is_left_out():
    y = np.array([1.0, np.nan, 3.0])
    root = ElementTree.fromstring(draw(_chart(Series("s", np.arange(3.0), y, y, y), names=["a", "b", "c"])))
    assert len([p for p in root.iter("path") if p.get("class") == "mark"]) == 2
    assert table(_chart(Series("s", np.arange(3.0), y, y, y), names=["a", "b", "c"]))[2] == ["b", "too few"]
    empty = np.full(3, np.nan)
    assert "nan" not in draw(_chart(Series("s", np.arange(3.0), empty, empty, empty)))


def test_text_of_data_stays_text():
    series = Series(NASTY, np.arange(2.0), np.arange(2.0))
    charts = [
        Chart(
            NASTY,
            NASTY,
            NASTY,
            NASTY,
            [series],
            names=[NASTY, NASTY],
            level=(NASTY, 1),
            slope=NASTY,
            shade=(NASTY, 0, 1),
        ),
        Bars(NASTY, NASTY, [NASTY], [1], marks=[(NASTY, 1)]),
    ]
    for chart in charts:
        root = ElementTree.fromstring(draw(chart))
        assert not list(root.iter("script"))
        assert root.get("role") == "img" and root.get("aria-label") == f"{NASTY}. {NASTY}"


def test_a_table_has_what_the_picture_has_unless_it_is_too_long():
    y = np.array([0.1, 0.2])
    rows = table(_chart(Series("s", np.array([1.0, 2.0]), y, y / 2, y * 2), x_text=number))
    assert rows == [
        ["x", "s"],
        *(
            [n, t.replace(" %", "\N{NO-BREAK SPACE}%")]
            for n, t in (("1", "10 % (5 % to 20 %)"), ("2", "20 % (10 % to 40 %)"))
        ),
    ]
    assert table(_chart(Series("s", np.arange(99.0), np.arange(99.0)))) == []
    assert table(Bars("", "", ["a"], [1234.0])) == [["", "value"], ["a", "1,234"]]


def test_every_look_has_its_sign():
    assert len({key(look) for look in range(LOOKS)}) == LOOKS
    assert key(0) == key(LOOKS)
