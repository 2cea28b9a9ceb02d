"""Bundles: written whole when all agree, else not at all."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from export import bundle
from export.parity import random_histories
from models.evaluation.torch_step import torch_step, weigh
from models.heads.next_item import POPULARITY
from models.training.checkpoint import load
from stream.bundle.onnx import load as load_bundle
from stream.core.errors import BundleError, ParityError
from stream.core.manifest import ColdStart
from stream.recommend.cold_ranking import ByCategory


def test_the_worker_loads_what_was_written(written: Path, run_folder: Path):
    found, run = load_bundle(written), load(run_folder).run
    assert found.manifest.meaning == run.meaning
    assert found.vocabulary.items == run.items
    assert found.manifest.state_dtype == "float16"
    assert max(found.manifest.parity.values()) <= 1e-5
    assert set(found.manifest.parity) == {
        f"{step} step, {kind} histories" for step in ("torch", "ONNX") for kind in ("random", "real")
    }


def test_the_graph_lists_what_torch_lists(written: Path, run_folder: Path):
    """Recommend along random histories: same items, same probabilities, on the way to full rings."""
    point, found = load(run_folder), load_bundle(written)
    histories = random_histories(point, seed=1)
    graph, torchs = found.recommending_step, torch_step(point, recommend=True)
    state = {name: value.numpy() for name, value in point.network.state(len(histories["item"])).items()}
    for t in range(histories["item"].shape[1]):
        given = {name: value[:, t] for name, value in histories.items()}
        one, _ = graph(given, state)
        other, state = torchs(given, state)
        assert np.array_equal(one["recent"], other["recent"])
        for name in ("query", "others", "own"):
            assert np.abs(one[name] - other[name]).max() <= 1e-5, name
        new = one["recent"] > len(point.run.items)
        assert (one["own"][new] > 0).all()
        # The tables of pairs know nothing of newcomers: what they cannot give is given to no item.
        assert (one["own"].sum(1) <= 1 + 1e-5).all()
        assert one["items"].max() <= len(point.run.items)
        other = {name: other[name][:, : point.run.meaning.k] for name in ("items", "item_scores")}
        assert np.abs(one["item_scores"] - other["item_scores"]).max() <= 1e-5
        same = one["items"] == other["items"]
        ties = np.abs(np.diff(other["item_scores"], axis=1)).min(1) < 1e-6
        assert same[~ties].all()
        assert ties.mean() < 0.5


def test_the_worker_ranks_newcomers_as_the_evaluation_does(written: Path, run_folder: Path):
    point, found = load(run_folder), load_bundle(written)
    assert found.manifest.novelty == point.run.novelty
    assert isinstance(found.weigh, ByCategory)
    by = weigh(point)
    assert found.weigh.bias == by.bias == point.run.novelty.bias
    assert np.array_equal(found.weigh.vectors, by.vectors)
    assert len(by.vectors) == len(point.run.categories) + 1


def test_a_bundle_tells_nothing_of_the_machine_that_made_it(written: Path):
    for path in written.iterdir():
        content = path.read_bytes()
        assert str(Path.cwd()).encode() not in content, path.name
        assert b"site-packages" not in content, path.name
        assert b"Traceback" not in content, path.name
        assert b"stack_trace" not in content, path.name


def test_the_name_is_the_content(written: Path, run_folder: Path, tmp_path: Path):
    again = bundle.write(load(run_folder), tmp_path / "again", "float16")
    other = bundle.write(load(run_folder), tmp_path / "other", "float32")
    assert again.model == json.loads((written / "manifest.json").read_text())["model"]
    assert other.model != again.model


def test_a_bundle_is_never_overwritten(written: Path, run_folder: Path):
    with pytest.raises(BundleError, match="exists"):
        bundle.write(load(run_folder), written, "float16")


def test_a_run_whose_bundle_no_worker_would_load_is_not_exported(run_folder: Path, tmp_path: Path):
    point = load(run_folder)
    point.run.items[0] = "a\x1b[2J"
    with pytest.raises(BundleError, match=r"U\+001B") as caught:
        bundle.write(point, tmp_path / "new", "float16")
    assert "train again" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["write_step", "write_intent", "history"])
def test_without_parity_nothing_is_written(where: str, run_folder: Path, tmp_path: Path, monkeypatch):
    """Change a unit's weights between training and export, or what a history should give."""
    point = load(run_folder)
    if where != "history":
        original = getattr(bundle, where)

        def other(checkpoint, *rest):
            with torch.no_grad():
                checkpoint.network.rhythm.weight_hh_l0[:, 0] += 0.1
            original(checkpoint, *rest)
            with torch.no_grad():
                checkpoint.network.rhythm.weight_hh_l0[:, 0] -= 0.1

        monkeypatch.setattr(bundle, where, other)
    else:
        monkeypatch.setattr("export.parity.difference", lambda *_: float("nan"))
    with pytest.raises(ParityError, match="nothing was written"):
        bundle.write(point, tmp_path / "new", "float16")
    assert list(tmp_path.iterdir()) == []


def test_the_catalog_is_plain_numpy(written: Path, run_folder: Path):
    catalog = np.load(written / "catalog.npy", allow_pickle=False)
    assert catalog.shape == (len(load(run_folder).run.items), 16 + POPULARITY)
    assert np.linalg.norm(catalog[:, :-POPULARITY], axis=1) == pytest.approx(1, abs=1e-5)


def test_a_model_that_knows_prices_scores_alike_when_exported(priced, tmp_path: Path):
    with torch.no_grad():
        priced.network.price_vectors.weight[1:].normal_()
    priced.run.novelty = ColdStart(bias=-2.0, price_edges=priced.run.edges)
    manifest = bundle.write(priced, tmp_path / "bundle", "float32")
    assert max(manifest.parity.values()) < 1e-5
    found, known = load_bundle(tmp_path / "bundle"), weigh(priced)
    assert found.manifest.model == manifest.model
    assert isinstance(found.weigh, ByCategory) and found.weigh.edges == known.edges != ()
    assert np.array_equal(found.weigh.prices, known.prices)


@pytest.mark.parametrize("state", ["float16", "float32"])
def test_the_graph_for_purchases_says_what_the_whole_step_says(run_folder: Path, tmp_path: Path, state: str):
    """Run both on states as they are stored: the same intents, and the next states to the last bit or two."""
    point = load(run_folder)
    manifest = bundle.write(point, tmp_path / "bundle", state)
    assert "intent.onnx" in manifest.files
    found = load_bundle(tmp_path / "bundle")
    whole = found.asking_step
    given = {name: value[:, :9] for name, value in random_histories(point, seed=5).items()}
    now = {
        name: np.zeros((len(given["item"]), *shape), "i4" if name in manifest.integers else state)
        for name, shape in manifest.hidden.items()
    }
    for t in range(9):
        event = {name: value[:, t] for name, value in given.items()}
        expected, later = whole(event, now)
        said, now = found.intent_step(event, now)
        assert set(said) == {"intent"}
        assert said["intent"] == pytest.approx(expected["intent"], abs=1e-6)
        for name, value in now.items():
            assert value.dtype == (np.int32 if name in manifest.integers else state)
            assert value == pytest.approx(
                later[name].astype(value.dtype), rel=2e-3 if state == "float16" else 1e-5, abs=1e-6
            )
