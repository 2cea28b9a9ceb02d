"""The README's first training on its log: done in three minutes, by processor time whatever else runs."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

MINUTES = 3


@pytest.mark.slow
def test_a_first_run_ends_within_three_minutes_of_one_core(real_data: Path, tmp_path: Path):
    log = real_data / "taobao_userbehavior" / "events.csv.gz"
    words = ["--preset", "small", "--format", "taobao", "--data", log, "--out", tmp_path / "first"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "forecart", "train", *words, "--holdout-tail", "0.05"],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("OMP_")},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MINUTES * 60
    assert "calibration error" in done.stderr and "own-items" in done.stderr
    found = json.loads(done.stdout)
    assert found["hr@20"] > 5 * found["baselines"]["last-item"]["hr@20"]
    assert found["pr_auc"] > 2 * found["baselines"]["popularity"]["pr_auc"]
