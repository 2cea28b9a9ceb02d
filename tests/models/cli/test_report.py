"""The report's contenders: a baseline that is named is not measured twice."""

from models.cli.report import _examined
from models.data.log import cutoff
from models.evaluation.comparison import rivals
from models.training.epochs import count_baseline
from tests.models.conftest import small_run


def test_a_named_baseline_stands_once(log, checkpoint, tmp_path):
    sequences, run = small_run(log, model="popularity")
    counted = count_baseline(sequences, run, tmp_path)
    found = _examined({"tiny": checkpoint, "counted": counted}, log, cutoff(log, 0.3))
    assert "popularity" in rivals(checkpoint.run, sequences)
    assert {"tiny", "counted", "last-item"} <= set(found)
    assert "popularity" not in found
