"""The command of the search: what a trial leaves behind, and how its dials are written."""

from pathlib import Path

import pytest

from models.cli import search
from models.training.checkpoint import Run
from models.training.config import TrainConfig
from models.training.search import Pruned
from tests.models.conftest import MEANING


@pytest.mark.parametrize(("end", "stays"), [(Pruned, False), (KeyboardInterrupt, True), (None, False)])
def test_only_an_interrupted_trial_leaves_its_folder(monkeypatch, tmp_path: Path, end, stays: bool):
    def trained(_sequences, run, folder, _validate, _hear):
        assert run.config.dimension == 32
        folder.mkdir()
        (folder / "resume.npz").write_bytes(b"weights")
        if end:
            raise end
        return 0.5

    monkeypatch.setattr(search, "_trained", trained)
    run = Run(config=TrainConfig(), meaning=MEANING, items=[], categories=[], category_of=[])
    try:
        assert search._trial(None, run, dict, tmp_path, {"dimension": 32}, lambda *_: None) == 0.5
    except (Pruned, KeyboardInterrupt) as error:
        assert isinstance(error, end)
    assert any(tmp_path.iterdir()) == stays


def test_whole_numbers_are_written_whole():
    assert search._words({"negatives": 16384, "lr": 0.0041234}) == "--set negatives=16384 --set lr=0.00412"
