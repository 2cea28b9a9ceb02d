"""Real shoppers through the whole way: trained, exported, replayed, every accepted event scored."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Shop

LOGS = {
    "taobao": ("taobao_userbehavior/events.csv.gz", 77_884),
    "retailrocket": ("retailrocket/events_sample_5000_visitors.csv.gz", 9_385),
}


def forecart(*words: str) -> str:
    command = [sys.executable, "-m", "forecart", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1] if done.stdout else ""


@pytest.mark.slow
@pytest.mark.parametrize("form", LOGS)
def test_real_shoppers_from_log_to_topic(form: str, shop, real_data: Path, tmp_path: Path):
    """Train a small model only: the figures of large ones are in docs/experiments.md."""
    path, events = LOGS[form]
    log = ["--format", form, "--data", str(real_data / path)]
    run, bundle = str(tmp_path / "run"), tmp_path / "bundle"
    small = [word for dial in ("dimension=16", "epochs=1", "negatives=512") for word in ("--set", dial)]
    forecart("train", *log, "--out", run, *small)
    measured = json.loads(forecart("evaluate", run, *log, "--tail", "0.02", "--baselines"))
    assert measured["users"] > 0
    rivals = {"popularity", "last-item", "own-items", "category-popularity", "V-SkNN", "STAN"}
    assert rivals <= set(measured["baselines"]) <= rivals | {"lightgbm", "logistic"}
    forecart("export", run, str(bundle))
    place: Shop = shop(bundle_path=bundle)
    topic = ["--topic", place.settings.events_topic, "--bootstrap-servers", place.address]
    assert json.loads(forecart("replay", *log, *topic, "--json"))["published"] == events
    worker = place.start("w0", recommend=False)
    place.await_outcomes(120)
    finding = place.examine()
    assert_exactly_once(finding)
    assert finding.want == events
    assert not place.read(place.settings.dead_letters_topic)
    assert worker.poll() is None
