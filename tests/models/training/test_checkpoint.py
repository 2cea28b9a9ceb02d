"""Runs on disk: readable without pickle, refused when broken."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from models.training import checkpoint as files
from stream.core.errors import CheckpointError


def test_a_finished_run_is_read_as_it_was(run_folder: Path, checkpoint):
    found = files.load(run_folder)
    assert found.run.items == checkpoint.run.items
    assert torch.equal(found.network.lstm.weight_hh_l0, checkpoint.network.lstm.weight_hh_l0)
    assert set(found.histories) == {"item", "category", "type", "numeric"}


def test_nothing_is_pickled(run_folder: Path):
    for path in run_folder.glob("*.npz"):
        with np.load(path, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype != object for name in arrays.files)
    json.loads((run_folder / files.RUN).read_text())


def _copied(run_folder: Path, tmp_path: Path, **config: object) -> Path:
    """Copy a run, and change what its record says of its config."""
    for path in run_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    facts = json.loads((tmp_path / files.RUN).read_text())
    facts["config"] |= config
    (tmp_path / files.RUN).write_text(json.dumps(facts))
    return tmp_path


def test_a_run_trained_on_cuda_is_read_without_it(run_folder: Path, tmp_path: Path):
    found = files.load(_copied(run_folder, tmp_path, device="cuda"))
    assert found.run.config.device == "cuda"
    assert found.network.lstm.weight_hh_l0.device.type == "cpu"


def test_a_record_with_impossible_dials_is_an_error(run_folder: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match="no readable run"):
        files.load(_copied(run_folder, tmp_path, dropout=2.0))


def test_a_missing_run_is_an_error(tmp_path: Path):
    with pytest.raises(CheckpointError, match="is missing"):
        files.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"), [(files.RUN, b"{"), (files.RUN, b'{"x":1}'), (files.WEIGHTS, b"PK"), (files.WEIGHTS, b"")]
)
def test_a_broken_run_is_an_error(run_folder: Path, tmp_path: Path, name: str, content: bytes):
    for path in run_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match="no readable run"):
        files.load(tmp_path)
