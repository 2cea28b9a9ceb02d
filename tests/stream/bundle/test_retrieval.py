"""What the index finds is what all products give, under any mask; what it does not look at, it estimates."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.bundle import retrieval


def _drawn(seed: int, items: int, queries: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Draw a catalog and queries; the catalog's last column is far larger, as popularity is."""
    random = np.random.default_rng(seed)
    catalog = random.standard_normal((items, width)).astype(np.float32)
    catalog[:, -1] *= 10
    return catalog, random.standard_normal((queries, width)).astype(np.float32)


def _multiply(codes: np.ndarray, query: np.ndarray, products: np.ndarray) -> None:
    np.matmul(codes.astype(np.int32), query.astype(np.int32), out=products)


def _index(catalog: np.ndarray) -> retrieval.Retrieval:
    return retrieval.Retrieval(catalog, retrieval.build(catalog), _multiply)


def _brute(query: np.ndarray, catalog: np.ndarray, n: int, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    products = np.where(allowed[1:], query @ catalog.T, -np.inf)
    places = np.argsort(-products, axis=1, kind="stable")[:, :n]
    found = np.take_along_axis(products, places, 1)
    room = ((0, 0), (0, n - places.shape[1]))
    places = np.where(np.isfinite(found), places, -1)
    return np.pad(found, room, constant_values=-np.inf), np.pad(places, room, constant_values=-1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 900), st.integers(1, 40), st.floats(0, 1), st.sampled_from([6, 8]))
def test_the_best_under_a_mask_are_those_of_all_products(seed: int, items: int, n: int, share: float, width: int):
    """By the index, whatever the mask leaves; chunks are small, so that there are several, the last not full."""
    catalog, query = _drawn(seed, items, 5, width)
    allowed = np.random.default_rng(seed + 1).random(items + 1) < share
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "_FEW", 10**9)
        patch.setattr(retrieval, "_CHUNK", 256)
        products, places = _index(catalog).search(query, n, allowed)
    expected, where = _brute(query, catalog, n, allowed)
    assert np.array_equal(places, where)
    assert np.allclose(products, expected, atol=1e-4)


def test_the_best_without_a_mask_are_those_of_all_products(monkeypatch: pytest.MonkeyPatch):
    """More queries than are multiplied at once, and wide ones, whose products lie close together."""
    monkeypatch.setattr(retrieval, "_ROWS", 48)
    catalog, query = _drawn(0, 20_000, 100, 50)
    products, places = _index(catalog).search(query, 20)
    expected, where = _brute(query, catalog, 20, np.ones(20_001, bool))
    assert np.array_equal(places, where)
    assert np.allclose(products, expected, atol=1e-4)


@pytest.mark.parametrize(("share", "most"), [(1.0, 0.04), (0.5, 0.12)])
def test_most_of_the_catalog_is_not_looked_at(share: float, most: float, monkeypatch: pytest.MonkeyPatch):
    """With a mask, too, the index answers, and not the product of all."""
    catalog, query = _drawn(0, 20_000, 32, 50)
    allowed = np.random.default_rng(1).random(20_001) < share
    search, looked = _index(catalog), []
    inner = search._products

    def counted(query: np.ndarray, groups: np.ndarray, barred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        looked.append(np.count_nonzero(groups >= 0) * retrieval._GROUP)
        return inner(query, groups, barred)

    monkeypatch.setattr(retrieval, "_FEW", 10**9)
    monkeypatch.setattr(retrieval, "exact", None)
    monkeypatch.setattr(search, "_products", counted)
    _, places = search.search(query, 20, allowed)
    assert np.array_equal(places, _brute(query, catalog, 20, allowed)[1])
    assert sum(looked) / len(query) < most * len(catalog)


def test_a_mask_that_spares_the_worst_finds_the_best_of_them(monkeypatch: pytest.MonkeyPatch):
    """The first groups hold nothing that may be found."""
    monkeypatch.setattr(retrieval, "_FEW", 10**9)
    catalog, query = _drawn(0, 3000, 4)
    allowed = np.zeros(3001, bool)
    allowed[1:][np.argsort(query[0] @ catalog.T)[:1500]] = True
    _, places = _index(catalog).search(query, 20, allowed)
    assert np.array_equal(places, _brute(query, catalog, 20, allowed)[1])


def test_a_query_of_nothing_finds_some(monkeypatch: pytest.MonkeyPatch):
    catalog, query = _drawn(0, 1000, 2)
    products, places = _index(catalog).search(query * 0, 20)
    assert not products.any() and all(len(set(row)) == 20 and min(row) >= 0 for row in places.tolist())


def test_few_allowed_items_are_compared_alone():
    catalog, query = _drawn(0, 100, 3)
    allowed = np.zeros(101, bool)
    allowed[[0, 5, 9]] = True  # index 0 is no item
    products, places = _index(catalog).search(query, 4, allowed)
    assert [set(row) for row in places[:, :2].tolist()] == [{4, 8}] * 3
    assert (places[:, 2:] == -1).all() and np.isneginf(products[:, 2:]).all()


@pytest.mark.parametrize("sample", [200, 5000])
def test_the_log_mass_is_near_that_of_all_products(sample: int, monkeypatch: pytest.MonkeyPatch):
    """Exact where the sample is the catalog, near it where it is a twenty-fifth."""
    random = np.random.default_rng(0)
    catalog, query = (random.standard_normal((n, 6)).astype(np.float32) for n in (5000, 50))
    monkeypatch.setattr(retrieval, "_SAMPLE", sample)
    search = _index(catalog)
    found = search.log_mass(query, *search.search(query, 100))[:, 0]
    truth = np.log(np.exp((query @ catalog.T).astype(np.float64)).sum(1))
    assert np.abs(found - truth).max() < (1e-4 if sample == 5000 else 0.3)


def test_no_two_products_of_bytes_exceed_sixteen_bits():
    """Else cores without the instruction for it would cut them."""
    catalog, query = _drawn(0, 1000, 20, 50)
    search = _index(catalog)
    code, _, _ = search._coded(query)
    assert 2 * int(search._index.codes.max()) * int(np.abs(code).max()) < 2**15


def test_a_written_index_is_the_same(tmp_path: Path):
    catalog, _ = _drawn(0, 100, 1)
    index = retrieval.build(catalog)
    retrieval.write(index, tmp_path / "index.npz")
    again = retrieval.read(tmp_path / "index.npz")
    assert all(np.array_equal(*pair) for pair in zip(index, again, strict=True))


def test_an_index_of_another_catalog_is_refused():
    catalog, _ = _drawn(0, 300, 1)
    with pytest.raises(ValueError, match=r"the index holds codes of \(384, 8\), the catalog \(100, 6\)"):
        retrieval.Retrieval(catalog[:100], retrieval.build(catalog), _multiply)


@pytest.mark.parametrize("content", [b"nothing", b"PK\x03\x04", b""])
def test_a_file_that_holds_no_index_is_refused(content: bytes, tmp_path: Path):
    path = tmp_path / "index.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"index\.npz"):
        retrieval.read(path)
