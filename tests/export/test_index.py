"""A catalog's index: exported where it finds what the exact answer holds, and served from the bundle."""

import json
from pathlib import Path

import numpy as np
import pytest

from export import bundle, index
from models.training.checkpoint import load
from stream.bundle import onnx, retrieval
from stream.bundle.files import INDEX, LIST, PRODUCT, TOP
from stream.bundle.onnx import exact_rank, product, session
from stream.core.errors import BundleError, SettingError


@pytest.fixture(scope="module")
def indexed(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("bundles") / "indexed"
    bundle.write(load(run_folder), target, "float16", index.ALWAYS)
    return target


def test_lists_by_the_index_are_those_of_the_whole_catalog(indexed: Path, run_folder: Path):
    manifest = onnx.load(indexed).manifest
    assert {INDEX, LIST, PRODUCT} <= set(manifest.files)
    asked = index._asked(load(run_folder))
    given = asked["query"], asked["gate"], asked["recent"]
    indexed_rank, exact = onnx._indexed_rank(indexed, manifest), exact_rank(session(indexed / TOP), manifest.items)
    k = manifest.meaning.k
    (scores, items, own), (expected, best, kept) = indexed_rank(*given, None, k), exact(*given, None, k)
    assert index.missed(items, best) <= index.MISSED
    assert np.abs(scores - expected).max() < 1e-4
    assert np.array_equal(own, kept)


def test_the_graph_multiplies_bytes_where_it_is_told(indexed: Path):
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (40, 12), dtype=np.uint8)
    query = random.integers(-63, 64, (12, 5), dtype=np.int8)
    found = np.empty((40, 5), np.int32)
    product(indexed / PRODUCT)(codes[8:24], query, found[8:24])
    assert np.array_equal(found[8:24], codes[8:24].astype(np.int32) @ query.astype(np.int32))


def test_only_allowed_items_are_listed(indexed: Path, run_folder: Path):
    manifest = onnx.load(indexed).manifest
    asked = index._asked(load(run_folder))
    allowed = np.zeros(manifest.items + 1, bool)
    allowed[[2, 3, 7]] = True
    rank = onnx._indexed_rank(indexed, manifest)
    _, items, _ = rank(asked["query"], asked["gate"], asked["recent"], allowed, manifest.meaning.k)
    assert {tuple(sorted(row[:3])) for row in items.tolist()} == {(2, 3, 7)}
    assert not items[:, 3:].any()


def test_a_changed_index_is_refused(indexed: Path, tmp_path: Path):
    for path in indexed.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = bytearray((tmp_path / INDEX).read_bytes())
    whole[-1] ^= 1
    (tmp_path / INDEX).write_bytes(whole)
    with pytest.raises(BundleError, match=r"index\.npz is not what was exported"):
        onnx.load(tmp_path)


def test_an_index_that_misses_too_much_is_refused(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(index, "missed", lambda *_: 0.01)
    with pytest.raises(SettingError, match="--index never"):
        bundle.write(load(run_folder), tmp_path / "new", "float16", index.ALWAYS)
    assert list(tmp_path.iterdir()) == []


def test_small_catalogs_have_none(written: Path):
    assert not (written / INDEX).exists()
    assert INDEX not in json.loads((written / "manifest.json").read_text())["files"]
    choices = {choice: index.wanted(choice, 10) for choice in index.CHOICES}
    assert choices == {"auto": False, "always": True, "never": False}
    assert index.wanted("auto", retrieval.EXACT + 1)
