"""What an index finds is what all products give, under any mask; what it cannot see, it estimates."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream import retrieval, runtime
from stream.core.errors import BundleError
from stream.core.manifest import Manifest


def _drawn(seed: int, items: int, queries: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return (
        random.standard_normal((items, 6)).astype(np.float32),
        random.standard_normal((queries, 6)).astype(np.float32),
    )


def _whole(catalog: np.ndarray, exact: int | None, monkeypatch: pytest.MonkeyPatch) -> retrieval.Retrieval:
    """Index a catalog, and look through all of its lists; above `exact` items by the index alone."""
    search = retrieval.Retrieval(catalog, retrieval.build(catalog))
    search.index.nprobe = search.index.nlist
    if exact is not None:
        monkeypatch.setattr(retrieval, "EXACT", exact)
    return search


def _brute(query: np.ndarray, catalog: np.ndarray, n: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    products = np.where(allowed[1:], query @ catalog.T, -np.inf)
    places = np.argsort(-products, axis=1, kind="stable")[:, :n]
    found = np.take_along_axis(products, places, 1)
    room = ((0, 0), (0, n - places.shape[1]))
    places = np.where(np.isfinite(found), places, -1)
    return np.pad(found, room, constant_values=-np.inf), np.pad(places, room, constant_values=-1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99), st.integers(40, 300), st.integers(1, 40), st.floats(0, 1), st.booleans())
def test_the_best_under_a_mask_are_those_of_all_products(seed: int, items: int, n: int, share: float, by_index: bool):
    """Both ways: the allowed items' products alone, and the index with as many candidates as there are items."""
    catalog, query = _drawn(seed, items, 5)
    allowed = np.random.default_rng(seed + 1).random(items + 1) < share
    with pytest.MonkeyPatch.context() as patch:
        search = _whole(catalog, 0 if by_index else None, patch)
        search.refine = items
        products, places = search.search(query, n, allowed)
    expected, where = _brute(query, catalog, n, allowed)
    assert np.array_equal(places, where)
    assert np.allclose(products, expected, atol=1e-5)


def test_without_a_mask_the_index_finds_most_and_gives_exact_products(monkeypatch: pytest.MonkeyPatch):
    """Three codes of four bits stand for a vector here: four candidates an item leave out a few."""
    catalog, query = _drawn(0, 2000, 50)
    products, places = _whole(catalog, None, monkeypatch).search(query, 20)
    where = _brute(query, catalog, 20, np.ones(2001, bool))[1]
    assert np.mean([np.isin(*pair).mean() for pair in zip(where, places, strict=True)]) > 0.9
    assert np.allclose(products, np.take_along_axis(query @ catalog.T, places, 1), atol=1e-5)
    assert (np.diff(products, axis=1) <= 0).all()


def test_fewer_allowed_than_asked_for_are_followed_by_nothing():
    catalog, query = _drawn(0, 100, 3)
    allowed = np.zeros(101, bool)
    allowed[[0, 5, 9]] = True  # index 0 is no item
    products, places = retrieval.Retrieval(catalog, retrieval.build(catalog)).search(query, 4, allowed)
    assert [set(row) for row in places[:, :2].tolist()] == [{4, 8}] * 3
    assert (places[:, 2:] == -1).all() and np.isneginf(products[:, 2:]).all()


@pytest.mark.parametrize("sample", [200, 5000])
def test_the_log_mass_is_near_that_of_all_products(sample: int, monkeypatch: pytest.MonkeyPatch):
    """Exact where the sample is the catalog, near it where it is a twenty-fifth."""
    catalog, query = _drawn(0, 5000, 50)
    monkeypatch.setattr(retrieval, "_SAMPLE", sample)
    search = _whole(catalog, None, monkeypatch)
    found = search.log_mass(query, *search.near(query, 100))[:, 0]
    truth = np.log(np.exp((query @ catalog.T).astype(np.float64)).sum(1))
    assert np.abs(found - truth).max() < (1e-4 if sample == 5000 else 0.3)


def test_an_index_of_another_catalog_is_refused():
    catalog, _ = _drawn(0, 100, 1)
    with pytest.raises(ValueError, match="the index holds 100 vectors of 6"):
        retrieval.Retrieval(catalog[:99], retrieval.build(catalog))


def test_a_file_that_holds_no_index_is_refused(tmp_path: Path):
    path = tmp_path / "index.faiss"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"index\.faiss"):
        retrieval.read(path)


def test_without_faiss_the_worker_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.delitem(sys.modules, "stream.retrieval", raising=False)
    manifest = runtime.load(Path(runtime.__file__).parent / "demo/bundle").manifest
    assert isinstance(manifest, Manifest)
    with pytest.raises(BundleError, match=r"faiss is not installed[\s\S]*forecart\[retrieval\]"):
        runtime._indexed_rank(tmp_path, manifest)
