"""The capacity model says what was measured, within a fifth, at a point that it was not fitted to."""

import dataclasses
import json
from pathlib import Path

import pytest
from capacity import chunk, predicted, taken
from capacity_page import PAGE, placed, tables

from stream.capacity.constants import COSTS
from stream.capacity.model import Costs, changes

RESULT = json.loads((Path(__file__).parents[2] / "benchmarks/results/capacity.json").read_text())
HELD = RESULT["points"][-1]


def test_the_constants_are_those_of_the_result():
    assert {name: getattr(COSTS, name) for name in Costs.__slots__} == RESULT["costs"]


@pytest.mark.parametrize("figure", ["worker_us", "resident_bytes", "changes", "recovery_seconds"])
def test_the_point_that_was_kept_back_is_predicted(figure: str):
    assert predicted(COSTS, HELD)[figure] == pytest.approx(HELD[figure], rel=0.2)


def test_the_size_of_a_chunk_follows_from_the_records_of_the_changelog():
    assert chunk(changes(2000, 30_000), 30_000) == 2000


def test_the_page_has_the_tables_of_the_model():
    page = PAGE.read_text()
    assert placed(page, tables(RESULT)) == page, "python benchmarks/capacity_page.py"
    assert page.count("(capacity/") == len(list(PAGE.with_suffix("").glob("*.svg")))


def test_results_of_other_benchmarks_replace_what_was_fitted(tmp_path: Path):
    costs = dataclasses.replace(COSTS, recovery_seconds=0.5)
    points = [{"users": 1000, "resident_bytes": 3e6}, {"users": 3000, "resident_bytes": 5e6}]
    assert taken(costs, points, tmp_path) == costs
    (tmp_path / "growth.json").write_text(json.dumps({"dimension": 64, "bytes_a_shopper": 1000}))
    (tmp_path / "recovery.json").write_text(json.dumps({"users": 10_000, "partitions": 4, "seconds": 1.0}))
    assert taken(costs, points, tmp_path) == costs, "of another width, or nothing but the partitions"
    (tmp_path / "growth.json").write_text(json.dumps({"dimension": costs.hidden, "bytes_a_shopper": 1000}))
    (tmp_path / "recovery.json").write_text(json.dumps({"users": 10_000, "partitions": 4, "seconds": 3.0}))
    expected = dataclasses.replace(costs, user_bytes=1000, base_bytes=2_000_000, recovery_rate=10_000)
    assert taken(costs, points, tmp_path) == expected
