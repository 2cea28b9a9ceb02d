"""A ratio is worse beyond its margin alone, in its own direction."""

import json

import pytest
from quick import _BASELINE, compare, renewed, table

BASE = {
    "speed": {"value": 1.0, "margin": 0.2, "better": "higher"},
    "cost": {"value": 3.0, "margin": 0.1, "better": "lower"},
}


@pytest.mark.parametrize(
    ("speed", "cost", "worse"),
    [
        (1.0, 3.0, []),
        (0.81, 3.29, []),
        (0.79, 3.0, ["speed"]),
        (1.0, 3.31, ["cost"]),
        (2.0, 1.0, []),
        (0.1, 9.0, ["speed", "cost"]),
    ],
)
def test_worse_is_beyond_the_margin(speed: float, cost: float, worse: list[str]):
    assert compare({"speed": speed, "cost": cost}, BASE) == worse


def test_the_table_has_each_ratio_beside_its_baseline():
    lines = table({"speed": 0.9, "cost": 3.3}, BASE).splitlines()
    assert lines[1].split() == ["speed", "0.900", "1.000", "-10.0%", "-20%"]
    assert lines[2].split() == ["cost", "3.300", "3.000", "+10.0%", "+10%"]


def test_the_baseline_has_what_is_measured():
    baseline = json.loads(_BASELINE.read_text())
    assert set(baseline) == {"to_bare", "to_changelog", "step"}
    assert all(0 < was["margin"] < 0.5 and was["better"] in {"higher", "lower"} for was in baseline.values())


def test_a_renewed_margin_is_twice_what_a_run_was_off_by():
    baseline = json.loads(_BASELINE.read_text())
    runs = [{name: value for name in baseline} for value in (1.0, 1.1, 0.95)]
    found = renewed(runs, baseline)
    assert all(one["value"] == 1.0 and one["margin"] == 0.2 for one in found.values())
    assert {name: one["better"] for name, one in found.items()} == {n: one["better"] for n, one in baseline.items()}
    assert {one["margin"] for one in renewed(runs[:1], baseline).values()} == {0.1}
