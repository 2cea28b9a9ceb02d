"""Counted baselines as bundles: the same graphs, the same check, scored by the worker's code."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export import bundle
from export.parity import random_histories
from models.evaluation.torch_step import torch_step
from models.training.checkpoint import load
from models.training.epochs import count_baseline
from stream.bundle.onnx import load as load_bundle
from stream.core.errors import ParityError
from stream.core.events import Event
from stream.scoring import offline
from stream.settings import Settings
from tests.fakes import HOUR, MINUTE, NOON
from tests.models.conftest import small_run


@pytest.fixture(scope="module", params=["popularity", "last-item"])
def run_folder(log, request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counted")
    count_baseline(*small_run(log, model=request.param), folder)
    return folder


def test_it_is_a_bundle_like_the_others(written: Path, run_folder: Path):
    found, run = load_bundle(written), load(run_folder).run
    assert found.manifest.training["config"]["model"] == run.config.model
    assert found.manifest.hidden == {"recent": (8,)}
    assert found.manifest.integers == ("recent",)
    assert max(found.manifest.parity.values()) <= 1e-5
    assert len(found.manifest.parity) == 4
    assert np.load(written / "catalog.npy").shape == (len(run.items), 1)


def test_the_graph_lists_what_torch_lists(written: Path, run_folder: Path):
    point, found = load(run_folder), load_bundle(written)
    histories = random_histories(point, seed=1)
    torchs, k = torch_step(point, recommend=True), point.run.meaning.k
    state = one_state = {name: value.numpy() for name, value in point.network.state(len(histories["item"])).items()}
    for t in range(histories["item"].shape[1]):
        given = {name: value[:, t] for name, value in histories.items()}
        one, one_state = found.recommending_step(given, one_state)
        other, state = torchs(given, state)
        assert np.abs(one["item_scores"] - other["item_scores"][:, :k]).max() <= 1e-5
        assert np.abs(one["intent"] - other["intent"]).max() <= 1e-5
        apart = np.diff(other["item_scores"], axis=1).max(1) < -1e-6
        assert (one["items"] == other["items"][:, :k])[apart].all()


def test_the_worker_recommends_what_was_counted(log, written: Path, run_folder: Path, tmp_path: Path, capfdbinary):
    """Score a log offline, by the worker's rounds; the lists are those of counts by hand."""
    run = load(run_folder).run
    lines = tmp_path / "log.jsonl"
    events = [Event(f"e{n}", f"u{n % 3}", "view", run.items[n], NOON + n * MINUTE) for n in range(12)]
    events.append(Event("e12", "u0", "view", "new", NOON + HOUR))
    lines.write_bytes(b"\n".join(map(msgspec.json.encode, events)))
    counts, _ = offline.score_log(Settings(), written, "events", lines, None)
    assert counts == {"scored": 13}
    popular = np.bincount(log.item, minlength=len(log.items)) / len(log)
    follows = log.user[1:] == log.user[:-1]
    for event, line in zip(events, capfdbinary.readouterr().out.splitlines(), strict=True):
        expected = dict(zip(log.items, popular, strict=True))
        if run.config.model == "last-item" and event.item_id in log.items:
            after = log.item[1:][follows & (log.item[:-1] == log.items.index(event.item_id))]
            assert 0 < len(set(after.tolist())) <= 50
            counted = np.bincount(after, minlength=len(log.items))
            expected = dict(zip(log.items, (counted + popular) / (len(after) + 1), strict=True))
        listed = json.loads(line)["recommendations"]
        assert [each["score"] for each in listed] == pytest.approx(sorted(expected.values())[:-21:-1], abs=1e-4)
        assert [each["score"] for each in listed] == pytest.approx(
            [expected[each["item_id"]] for each in listed], abs=1e-4
        )


def test_without_parity_nothing_is_written(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Change one count between counting and export."""
    point, original = load(run_folder), bundle.write_step

    def other(checkpoint, path):
        checkpoint.network.logit[0] += 0.1
        original(checkpoint, path)
        checkpoint.network.logit[0] -= 0.1

    monkeypatch.setattr(bundle, "write_step", other)
    with pytest.raises(ParityError, match="nothing was written"):
        bundle.write(point, tmp_path / "new", "float16")
    assert list(tmp_path.iterdir()) == []
