"""Threads: small steps have one, and none spins while it waits."""

import os
import subprocess
import sys

import pytest
import torch

from models.training.config import PRESETS, TrainConfig
from models.training.epochs import train
from models.training.threads import threads
from tests.models.conftest import small_run


@pytest.fixture(autouse=True)
def _free(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("preset", "events", "count"), [("small", 77_884, 1), ("base", 77_884, 1), ("large", 10_000_000, 2)]
)
def test_a_small_step_has_one_thread_and_afterwards_all_is_as_before(preset: str, events: int, count: int):
    with threads(TrainConfig(**PRESETS[preset]), events):
        assert torch.get_num_threads() == count
    assert torch.get_num_threads() == 2


def test_who_says_how_many_is_heard(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with threads(TrainConfig(), 1000):
        assert torch.get_num_threads() == 2


def test_training_takes_a_small_step_with_one_thread(log, tmp_path):
    seen: set[int] = set()
    train(*small_run(log, epochs=1, judged=0.0), tmp_path, lambda _: seen.add(torch.get_num_threads()))
    assert seen == {1}


def test_threads_sleep_while_they_wait():
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | {
        "OMP_DISPLAY_ENV": "verbose"
    }
    done = subprocess.run(
        [sys.executable, "-c", "import models.training.config"], env=env, capture_output=True, check=True
    )
    assert b"GOMP_SPINCOUNT = '0'" in done.stderr
