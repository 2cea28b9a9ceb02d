"""The capacity model says what was measured, within a fifth, at a point that it was not fitted to."""

import json
from pathlib import Path

import pytest
from capacity import chunk, predicted

from stream.core.capacity import Costs, changes
from stream.core.measured import COSTS

RESULT = json.loads((Path(__file__).parents[2] / "benchmarks/results/capacity.json").read_text())
HELD = RESULT["points"][-1]


def test_the_constants_are_those_of_the_result():
    assert {name: getattr(COSTS, name) for name in Costs.__slots__} == RESULT["costs"]


@pytest.mark.parametrize("figure", ["worker_us", "broker_us", "resident_bytes", "changes", "recovery_seconds"])
def test_the_point_that_was_kept_back_is_predicted(figure: str):
    assert predicted(COSTS, HELD)[figure] == pytest.approx(HELD[figure], rel=0.2)


def test_the_size_of_a_chunk_follows_from_the_records_of_the_changelog():
    assert chunk(changes(2000, 30_000), 30_000) == 2000
