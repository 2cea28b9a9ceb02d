"""A run's bundle; whose run, a module can say by a `run_folder` of its own."""

from pathlib import Path

import pytest

from export import bundle
from models.training.checkpoint import load
from tests.models.conftest import checkpoint, log, priced, run_folder

__all__ = ["checkpoint", "log", "priced", "run_folder"]


@pytest.fixture(scope="module")
def written(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the run."""
    target = tmp_path_factory.mktemp("bundles") / "small"
    bundle.write(load(run_folder), target, "float16")
    return target
