"""The best of a large catalog by an index of compressed vectors, and the lists made of them. The only home of faiss.

The index proposes, exact products decide: it gives several times as many items as are wanted, of which the best by
their own vectors are kept. What it can miss was measured at the export (`export.index`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Allowed = NDArray[np.bool_]
Run = Callable[[tuple[str, ...], Mapping[str, NDArray[Any]]], list[NDArray[Any]]]

EXACT = 50_000  # items up to which the exact product of all is as fast
_REFINE = 4  # candidates of the index an item that is wanted
_SAMPLE = 8192  # items that stand for the rest of the catalog in the sum of a softmax
_ROWS = 32  # queries at once: the vectors of their candidates stay near the core


class Retrieval:
    """Find the items of the largest products with queries."""

    def __init__(self, catalog: Floats, index: Any, refine: int = _REFINE) -> None:
        """Take a catalog (items, D), its index and the candidates an item; raise ValueError where they do not fit."""
        if (index.ntotal, index.d) != catalog.shape:
            raise ValueError(f"the index holds {index.ntotal} vectors of {index.d}, the catalog {catalog.shape}")
        self.catalog, self.index, self.refine = catalog, index, refine
        chosen = np.random.default_rng(0).choice(len(catalog), min(_SAMPLE, len(catalog)), replace=False)
        self._sample = np.ascontiguousarray(catalog[chosen].T)
        self._slot = np.full(len(catalog) + 1, len(chosen), np.int32)  # of an item in the sample, else past its end
        self._slot[chosen] = np.arange(len(chosen))

    def search(self, query: Floats, n: int, allowed: Allowed | None = None) -> tuple[Floats, Ints]:
        """Return the products and places of the `n` best of queries (q, D), (q, n) each, best first.

        `allowed` (items + 1,) says by index, 1 and up, which may be found. Where there are fewer than `n`, products
        of minus infinity and places of -1 follow.
        """
        if allowed is None:
            return _best(*self.near(query, n), n)
        rows = np.flatnonzero(allowed[1:])
        if len(rows) <= max(EXACT, n):
            return exact(query, self.catalog, n, rows)
        return _best(*self.near(query, n, allowed), n)

    def near(self, query: Floats, n: int, allowed: Allowed | None = None) -> tuple[Floats, Ints]:
        """Return the products and places of what the index has near queries, some times `n`, in no order."""
        faiss.omp_set_num_threads(1)  # of this thread: a worker has one core
        given = faiss.SearchParametersIVF(nprobe=self.index.nprobe)
        if allowed is not None:
            share = np.count_nonzero(allowed[1:]) / len(self.catalog)
            # The lists hold so much less of what may be found: as many more are looked through.
            given.nprobe = min(int(np.ceil(self.index.nprobe / share)), self.index.nlist)
            given.sel = selector = faiss.IDSelectorBitmap(np.packbits(allowed[1:], bitorder="little"))
            assert selector
        _, places = self.index.search(query, min(self.refine * n, len(self.catalog)), params=given)
        return self._products(query, places), places

    def log_mass(self, query: Floats, products: Floats, places: Ints) -> Floats:
        """Estimate the log of the sum of the exponentials of all products, (q, 1).

        Those of `products`, which are the largest, count as they are; a sample stands for the rest.
        """
        rest = np.pad(query @ self._sample, ((0, 0), (0, 1)))
        np.put_along_axis(rest, self._slot[places].astype(np.int64), -np.inf, 1)
        rest[:, -1] = -np.inf
        left = np.isfinite(rest).sum(1)
        of_each = (len(self.catalog) - np.isfinite(products).sum(1)) / np.maximum(left, 1)
        peak = products.max(1, keepdims=True)
        tail = np.exp(rest - peak).sum(1) * of_each
        found: Floats = (peak[:, 0] + np.log(np.exp(products - peak).sum(1) + tail))[:, None].astype(np.float32)
        return found

    def _products(self, query: Floats, places: Ints) -> Floats:
        found = np.empty(places.shape, np.float32)
        for at in range(0, len(query), _ROWS):
            part = slice(at, at + _ROWS)
            np.matmul(self.catalog[places[part]], query[part, :, None], out=found[part, :, None])
        found[places < 0] = -np.inf
        return found


class IndexedRank:
    """Rank a large catalog as `top.onnx` does: what the index finds, what the tables name, in the judge's order."""

    def __init__(self, retrieval: Retrieval, run: Run, found: int) -> None:
        """Take the graph of `export.graph.write_list` as `run`, and how many found items it takes."""
        self.retrieval, self._run, self._found = retrieval, run, found
        self._all = np.ones(len(retrieval.catalog) + 1, np.bool_)

    def __call__(
        self, query: Floats, gate: Floats, recent: Ints, allowed: Allowed | None, k: int
    ) -> tuple[Floats, Ints, Floats]:
        """Return probabilities (n, k), items (n, k), 1 and up, best first, and what recent items have of their own.

        `allowed` (items + 1,) says by index which items may be listed. Where there are fewer than `k`, items of 0
        follow.
        """
        parts = [slice(at, at + _ROWS) for at in range(0, len(query), _ROWS)]
        near = self.retrieval.near(query, self._found)
        log_mass = self.retrieval.log_mass(query, *near)
        if allowed is None:
            _, found = _best(*near, self._found)
        else:
            _, found = self.retrieval.search(query, self._found, allowed)
        given: dict[str, NDArray[Any]] = {"query": query, "gate": gate, "recent": recent}
        given |= {"found": found, "log_mass": log_mass}
        once: dict[str, NDArray[Any]] = {"allowed": self._all if allowed is None else allowed}
        lists = [
            self._run(("scores", "items", "own"), {name: value[part] for name, value in given.items()} | once)
            for part in parts
        ]
        scores, places, own = (np.concatenate(part) for part in zip(*lists, strict=True))
        return scores[:, :k], places[:, :k] + 1, own


def build(catalog: Floats, seed: int = 0) -> Any:
    """Train and fill an index of a catalog (items, D): inverted lists, four bits for each two columns."""
    items, width = catalog.shape
    lists = max(min(int(4 * items**0.5), items // 39), 1)
    index = faiss.index_factory(
        width, f"IVF{lists},PQ{width // 2 if width % 2 == 0 else width}x4fsr", faiss.METRIC_INNER_PRODUCT
    )
    for clustering in (index.cp, index.pq.cp):
        clustering.seed, clustering.min_points_per_centroid = seed, 1
    rows = np.random.default_rng(seed).choice(items, min(64 * lists, items), replace=False)
    index.train(catalog[rows])
    index.add(catalog)
    return index


def write(index: Any, path: Path) -> None:
    """Write an index to a file."""
    faiss.write_index(index, str(path))


def read(path: Path) -> Any:
    """Read an index whose file's hash was checked; raise ValueError where it is none of ours."""
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(index, faiss.IndexIVFPQFastScan):
        raise ValueError(f"{path.name} is an index of another kind")
    return index


def _best(products: Floats, places: Ints, n: int) -> tuple[Floats, Ints]:
    """Sort and cut; fill up where there are fewer than `n`."""
    if products.shape[1] > n:
        kept = np.argpartition(-products, n - 1, 1)[:, :n]
        products, places = np.take_along_axis(products, kept, 1), np.take_along_axis(places, kept, 1)
    order = np.argsort(-products, 1, kind="stable")
    room = ((0, 0), (0, n - order.shape[1]))
    products = np.pad(np.take_along_axis(products, order, 1), room, constant_values=-np.inf)
    return products, np.pad(np.take_along_axis(places, order, 1), room, constant_values=-1)


def exact(query: Floats, catalog: Floats, n: int, rows: NDArray[np.intp] | None = None) -> tuple[Floats, Ints]:
    """Return what `Retrieval.search` approaches; with `rows`, of these places alone."""
    products = query @ (catalog if rows is None else catalog[rows]).T
    kept = np.arange(len(catalog)) if rows is None else rows.astype(np.int64)
    return _best(products, np.broadcast_to(kept, products.shape), n)
