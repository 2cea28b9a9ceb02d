"""Bundles: loaded whole, or refused with the file that is wrong."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from stream.bundle import files as bundle_files
from stream.bundle import onnx
from stream.core.errors import BundleError
from stream.core.manifest import Manifest
from stream.recommend.shop_catalog import Catalog

DEMO = Path(onnx.__file__).parents[1] / "demo/bundle"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


def _inputs(n: int, seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    random, manifest = np.random.default_rng(seed), onnx.load(DEMO).manifest
    inputs = {name: random.integers(0, 3, n) for name in ("category", "type")}
    inputs |= {"item": random.integers(0, 2500, n), "numeric": random.random((n, len(manifest.inputs)), np.float32)}
    floats = (name for name in manifest.hidden if name != "recent")
    state = {name: random.random((n, *manifest.hidden[name])).astype(manifest.state_dtype) for name in floats}
    recent = random.integers(0, 200, (n, 8)) * (np.arange(8) < random.integers(1, 9, (n, 1)))
    return inputs, state | {"recent": recent.astype(np.int32)}


def test_the_demo_bundle_lists_the_best_of_what_it_mixes():
    """Mix by hand what the graph mixes: the ranking, the neighbours of the last items, the items themselves."""
    bundle = onnx.load(DEMO)
    inputs, hidden = _inputs(50)
    outputs, state = bundle.recommending_step(inputs, hidden)
    plain, plain_state = bundle.intent_step(inputs, hidden)
    assert np.array_equal(outputs["intent"], plain["intent"])
    for name, value in plain_state.items():
        assert np.array_equal(state[name].astype(value.dtype), value)
    whole, _ = onnx.Network(DEMO, bundle.manifest).whole(inputs, hidden)
    logits = (whole["query"] @ np.load(DEMO / bundle_files.CATALOG).T).astype(np.float64)
    gate, recent = np.exp(whole["gate"]), state["recent"]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p *= gate[:, :1] / p.sum(1, keepdims=True)
    p = np.pad(p, ((0, 0), (1, 0)))  # column 0: no item
    for row, items in enumerate(recent):
        known = np.where(items > bundle.manifest.items, 0, items)
        for answer, (name, window, fading) in enumerate([("near", 5, 0.6), ("far", 8, 0.8)], 1):
            neighbours, weights = (np.load(DEMO / f"{name}_{part}.npy") for part in ("neighbours", "weights"))
            near = weights[known[:window]] * fading ** np.arange(window)[:, None]
            np.add.at(p[row], neighbours[known[:window]], near * gate[row, answer] / max(near.sum(), 1e-6))
        own = 0.7 ** np.arange(8) * (items > 0)
        own *= gate[row, 3] / max(own.sum(), 1e-6)
        assert np.allclose(outputs["own"][row], own, atol=1e-6)
        np.add.at(p[row], known, own)
    assert np.allclose(outputs["others"], 1 - gate[:, 3], atol=1e-6)
    # The judge orders the best hundred, and what they have together stays theirs.
    best = np.argsort(-p[:, 1:], axis=1, kind="stable")[:, :100] + 1
    assert np.mean([np.isin(*pair).mean() for pair in zip(outputs["items"], best, strict=True)]) > 0.99
    assert (np.diff(outputs["item_scores"]) <= 0).all()
    assert (outputs["item_scores"].sum(1) < np.take_along_axis(p, best, 1).sum(1) + 1e-5).all()


def test_a_step_does_not_depend_on_its_company():
    bundle = onnx.load(DEMO)
    inputs, hidden = _inputs(33)
    together, _ = bundle.intent_step(inputs, hidden)
    alone = [
        bundle.intent_step({k: v[i : i + 1] for k, v in inputs.items()}, {k: v[i : i + 1] for k, v in hidden.items()})
        for i in range(33)
    ]
    assert np.allclose(np.concatenate([outputs["intent"] for outputs, _ in alone]), together["intent"], atol=1e-6)


@pytest.mark.parametrize("recommend", [False, True])
def test_a_run_of_the_demo_is_its_single_steps(recommend):
    """Take 200 events of one shopper at once and one by one: how the states were cut leaves no trace."""
    bundle = onnx.load(DEMO)
    inputs, state = _inputs(200)
    state = {name: value[:1] for name, value in state.items()}
    said, after = bundle.along(recommend)(inputs, state)
    step = bundle.asking_step if recommend else bundle.intent_step
    same = total = 0
    for n in range(200):
        expected, found = step({name: value[n : n + 1] for name, value in inputs.items()}, state)
        state = {name: found[name].astype(value.dtype) for name, value in state.items()}
        for name, value in state.items():
            assert np.allclose(after[name][n], value[0], 2e-3, 2e-3)
            same, total = same + np.count_nonzero(after[name][n] == value[0]), total + value.size
        for name, value in expected.items():
            assert np.allclose(said[name][n], value[0], atol=1e-5)
    assert same > 0.99 * total


def test_a_bundle_without_graphs_along_runs_has_none(copy: Path):
    manifest = json.loads((copy / "manifest.json").read_text())
    for name in bundle_files.RUNS.values():
        (copy / name).unlink()
        del manifest["files"][name]
    facts = msgspec.convert(manifest, Manifest)
    manifest["model"] = bundle_files.digest(facts)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    bundle = onnx.load(copy)
    assert bundle.along(True) is bundle.along(False) is None


def test_the_runtime_reports_nothing_to_its_makers(tmp_path: Path):
    """Its telemetry would leave an identifier in the temporary folder before it sends anything."""
    code = f"import stream.bundle.onnx as r; from pathlib import Path; r.load(Path({str(DEMO)!r}))"
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_bundle_is_refused(tmp_path: Path):
    with pytest.raises(BundleError, match="there is no bundle"):
        onnx.load(tmp_path / "none")


@pytest.mark.parametrize("name", [path.name for path in DEMO.iterdir() if path.name != "manifest.json"])
def test_a_changed_file_is_named(copy: Path, name: str):
    raw = bytearray((copy / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / name).write_bytes(raw)
    with pytest.raises(BundleError, match=name):
        onnx.load(copy)


@pytest.mark.parametrize("name", [path.name for path in DEMO.iterdir()])
def test_a_missing_file_is_named(copy: Path, name: str):
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name):
        onnx.load(copy)


def _edit(copy: Path, change: Callable[[dict[str, object]], object]) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format=99), "format 99"),
        (lambda m: m.update(items=5), "changed after the export"),
        (lambda m: m.update(surprise=1), "no manifest"),
        (lambda m: m.pop("hidden"), "no manifest"),
    ],
)
def test_a_changed_manifest_is_refused(copy: Path, change: Callable[[dict[str, object]], object], message: str):
    _edit(copy, change)
    with pytest.raises(BundleError, match=message):
        onnx.load(copy)


def _sign(copy: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change what files a manifest lists, as an export would have written it."""
    manifest = msgspec.json.decode((copy / "manifest.json").read_bytes(), type=Manifest)
    change(manifest.files)
    named = msgspec.structs.replace(manifest, model=bundle_files.digest(manifest))
    (copy / "manifest.json").write_bytes(msgspec.json.encode(named))


@pytest.mark.parametrize(
    "name", ["step.onnx", "top.onnx", "categories.npy", "catalog.npy", "vocabulary.json", "parity.npz"]
)
def test_a_file_that_is_needed_must_be_listed(copy: Path, name: str):
    _sign(copy, lambda files: files.pop(name))
    (copy / name).unlink()
    with pytest.raises(BundleError, match=name) as caught:
        onnx.load(copy)
    assert "export" in caught.value.remedy


@pytest.mark.parametrize("name", ["/etc/hostname", "../x", "a/b", "a\\b", "..", ""])
def test_a_name_that_leads_out_of_the_bundle_is_refused(copy: Path, name: str):
    _sign(copy, lambda files: files.update({name: "0" * 64}))
    with pytest.raises(BundleError, match="no name of a file"):
        onnx.load(copy)


@pytest.mark.parametrize("name", ["categories.npy", "parity.npz", "vocabulary.json", "intent.onnx"])
@pytest.mark.parametrize("content", [b"", b"junk", b"{}"])
def test_a_file_that_was_exported_broken_is_a_bundle_error(copy: Path, name: str, content: bytes):
    (copy / name).write_bytes(content)
    _sign(copy, lambda files: files.update({name: hashlib.sha256(content).hexdigest()}))
    with pytest.raises(BundleError, match="no model that runs here"):
        onnx.load(copy)


def test_a_manifest_that_is_no_json_is_refused(copy: Path):
    (copy / "manifest.json").write_text("{")
    with pytest.raises(BundleError, match="no manifest"):
        onnx.load(copy)


def test_other_scores_than_at_the_export_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(onnx, "difference", lambda *_: 2e-5)
    with pytest.raises(BundleError, match="parity is 2e-05"):
        onnx.load(copy)


def _lists_of_the_demo(allowed=None, k=20):
    bundle, (inputs, hidden) = onnx.load(DEMO), _inputs(40)
    answers, _ = bundle.asking_step(inputs, hidden)
    rank = onnx.exact_rank(onnx.session(DEMO / bundle_files.TOP), bundle.manifest.items)
    return rank(answers["query"], answers["gate"], answers["recent"], allowed, k)


def test_lists_after_the_step_are_those_of_the_step():
    bundle, (inputs, hidden) = onnx.load(DEMO), _inputs(40)
    answers, state = bundle.asking_step(inputs, hidden)
    expected, same = bundle.recommending_step(inputs, hidden)
    answers = {**answers, "bought": np.zeros((40, 0), np.int64)}
    found = {**answers, **bundle.lists(answers, Catalog(bundle.vocabulary, [], 0, exclude_bought=False).rules())}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert all(np.array_equal(state[name], same[name]) for name in state)


def test_a_filter_that_keeps_one_in_a_hundred_gives_the_exact_twenty():
    items = onnx.load(DEMO).manifest.items
    allowed = np.zeros(items + 1, bool)
    allowed[np.random.default_rng(3).choice(items, items // 100, replace=False) + 1] = True
    scores, listed, _ = _lists_of_the_demo(allowed)
    assert listed.shape == (40, 20)
    assert all(sorted(row) == np.flatnonzero(allowed).tolist() for row in listed.tolist())
    assert (np.diff(scores) <= 0).all()
    allowed[np.flatnonzero(allowed)[5:]] = False
    scores, listed, _ = _lists_of_the_demo(allowed)
    assert ((listed > 0).sum(1) == 5).all()
    assert not scores[listed == 0].any()
