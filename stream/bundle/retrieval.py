"""The best of a large catalog: all products in eight bits, of which only those that can be best are made exact.

Items lie in groups of which the largest product alone is kept. Exact products of the best groups say what the n-th best
is at least; every group whose largest product comes near that is looked at, so that nothing is lost but by a rounding
beyond `_SURE`. The product in eight bits is the worker's runtime's (`stream.bundle.onnx`): four times as many a cycle.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from stream.bundle.files import read_arrays

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Allowed = NDArray[np.bool_]
Run = Callable[[tuple[str, ...], Mapping[str, NDArray[Any]]], list[NDArray[Any]]]
Product = Callable[[NDArray[np.uint8], NDArray[np.int8], NDArray[np.int32]], None]
"""(codes (m, K), query (K, q), products (m, q)): multiply, and write the products where they are wanted."""

EXACT = 100_000  # items up to which lists by the exact products of all are as fast
_FEW = 8  # of so many items one may be found, or fewer: the products of these alone are as fast
_GROUP, _FLOCK = 8, 16  # items whose largest product is kept, and such groups whose largest is kept too
_CHUNK = 4096  # items multiplied at once, whose products stay near the core
_ROWS = 256  # queries at once: what a block of items costs to fetch is shared by them
_LOOK = 32  # queries whose exact products are made at once, for the same reason
_ITEM, _QUERY, _ZERO = 127, 63, 128  # the largest codes, and what stands for 0 in an item's byte
# Some cores add two products of bytes in 16 bits, which hold 2 * (_ITEM + _ZERO) * _QUERY.
_SURE = 6.0  # standard deviations of a product's rounding
_SAMPLE = 8192  # items that stand for the rest of the catalog in the sum of a softmax


class Codes(NamedTuple):
    """A catalog (items, D) in bytes: `codes` (places, K), 0 as `_ZERO`, in which blanks follow the items.

    `scale` (D,) is the size of a step; column d has `copies` (D,), among which a query's part is divided.
    `square` is the largest mean square of an item's codes.
    """

    codes: NDArray[np.uint8]
    scale: Floats
    copies: Ints
    square: Floats


class Retrieval:
    """Find the items of the largest products with queries. Holds what it works with: for one thread."""

    def __init__(self, catalog: Floats, index: Codes, product: Product) -> None:
        """Take a catalog (items, D), its codes and their product; raise ValueError where they do not fit."""
        items, width = catalog.shape
        chunk = _chunk(items)
        if index.codes.shape != (-(-items // chunk) * chunk, index.copies.sum()) or index.scale.shape != (width,):
            raise ValueError(f"the index holds codes of {index.codes.shape}, the catalog {catalog.shape}")
        self.catalog, self._index, self._product, self._chunk = np.asarray(catalog), index, product, chunk
        self._columns = np.repeat(np.arange(width), index.copies)
        self._share = (index.scale / index.copies)[self._columns]
        self._blank = np.arange(len(index.codes)) >= items
        self._room: NDArray[np.int32] = np.empty(0, np.int32)
        chosen = np.random.default_rng(0).choice(items, min(_SAMPLE, items), replace=False)
        self._sample = np.ascontiguousarray(catalog[chosen].T)
        self._slot = np.full(items + 1, len(chosen), np.int32)  # of an item in the sample, else past its end
        self._slot[chosen] = np.arange(len(chosen))

    def search(self, query: Floats, n: int, allowed: Allowed | None = None) -> tuple[Floats, Ints]:
        """Return the products and places of the `n` best of queries (q, D), (q, n) each, best first.

        `allowed` (items + 1,) says by index, 1 and up, which may be found. Where there are fewer than `n`, products
        of minus infinity and places of -1 follow.
        """
        barred, may, first = self._blank, None, n
        if allowed is not None:
            may = np.flatnonzero(allowed[1:])
            if len(may) <= len(self.catalog) // _FEW:
                return exact(query, self.catalog, n, may)
            barred = np.ones_like(barred)
            barred[may] = False
            first = -(-n * len(self.catalog) // len(may))  # as many more groups as fewer of their items may be found
        parts = [self._found(query[at : at + _ROWS], n, first, barred) for at in range(0, len(query), _ROWS)]
        products, places = (np.concatenate(part) for part in zip(*parts, strict=True))
        for row in np.flatnonzero(np.isneginf(products[:, -1])):  # the first groups held fewer than n that may be
            products[row], places[row] = (part[0] for part in exact(query[row : row + 1], self.catalog, n, may))
        return products, places

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

    def _found(self, query: Floats, n: int, first: int, barred: Allowed) -> tuple[Floats, Ints]:
        """Look at the `first` groups of the largest products, then at all others that can hold one of the best."""
        code, step, blur = self._coded(query)
        groups, flocks = self._largest(np.ascontiguousarray(code.T))
        rows = np.arange(len(query))[:, None]
        near = _members(_top(flocks, min(first, flocks.shape[1])), self._chunk // (_GROUP * _FLOCK), _FLOCK)
        near = np.take_along_axis(near, _top(groups[near, rows], min(first, near.shape[1])), 1)
        products, places = _best(*self._products(query, near, barred), n)
        groups[near, rows] = np.iinfo(np.int32).min  # what was looked at is not looked at again
        least = (products[:, -1] - blur) / step + _ZERO * code.sum(1, dtype=np.int64)
        least[np.isneginf(products[:, -1])] = np.inf
        more = self._products(query, self._above(groups, flocks, least), barred)
        return _best(np.concatenate([products, more[0]], 1), np.concatenate([places, more[1]], 1), n)

    def _coded(self, query: Floats) -> tuple[NDArray[np.int8], Floats, Floats]:
        """Return queries' codes (q, K), the size of a step (q,), and what a rounded product may be off by (q,)."""
        parts = query[:, self._columns] * self._share
        step = np.maximum(np.abs(parts).max(1), np.finfo(np.float32).tiny) / _QUERY
        code = np.rint(parts / step[:, None])
        lost = np.square(parts - code * step[:, None]).sum(1) * self._index.square
        lost += np.square(query * self._index.scale).sum(1) / 12
        return code.astype(np.int8), step, _SURE * np.sqrt(lost)

    def _largest(self, code: NDArray[np.int8]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the largest rounded product of each group, (groups, q), and of each flock, (q, flocks)."""
        q, chunk, codes = code.shape[1], self._chunk, self._index.codes
        rows = len(codes) // _GROUP, len(codes) // _GROUP // _FLOCK, chunk
        if len(self._room) < sum(rows) * q:
            self._room = np.empty(sum(rows) * q, np.int32)
        room = self._room[: sum(rows) * q].reshape(-1, q)
        groups, flocks, products = np.split(room, np.cumsum(rows)[:-1])
        of_groups, of_flocks = (part.reshape(len(codes) // chunk, -1, q) for part in (groups, flocks))
        for n in range(len(codes) // chunk):
            self._product(codes[n * chunk : (n + 1) * chunk], code, products)
            np.maximum.reduce(products.reshape(_GROUP, -1, q), axis=0, out=of_groups[n])
            np.maximum.reduce(of_groups[n].reshape(_FLOCK, -1, q), axis=0, out=of_flocks[n])
        return groups, np.ascontiguousarray(flocks.T)

    def _above(self, groups: NDArray[np.int32], flocks: NDArray[np.int32], least: NDArray[np.float64]) -> Ints:
        """Return the groups whose largest product is at least `least` (q,): (q, most), -1 where there are fewer."""
        row, flock = np.nonzero(flocks >= least[:, None])
        member = _members(flock, self._chunk // (_GROUP * _FLOCK), _FLOCK)
        high = groups[member, row[:, None]] >= least[row, None]
        row, member = row.repeat(high.sum(1)), member[high]
        count = np.bincount(row, minlength=len(least))
        found = np.full((len(least), count.max()), -1)
        found[row, np.arange(len(row)) - (count.cumsum() - count)[row]] = member
        return found

    def _products(self, query: Floats, groups: Ints, barred: Allowed) -> tuple[Floats, Ints]:
        """Return exact products and places of groups' items (q, m), minus infinity and -1 for those that may not be."""
        places = _members(groups, self._chunk // _GROUP, _GROUP)
        places[barred[places] | (groups < 0).repeat(_GROUP, 1)] = -1
        found = np.full(places.shape, -np.inf, np.float32)
        count = (groups >= 0).sum(1) * _GROUP
        order = count.argsort()  # so that queries of about as many groups stand together
        for part in (order[at : at + _LOOK] for at in range(0, len(order), _LOOK)):
            most = count[part[-1]]
            found[part, :most] = np.matmul(self.catalog[places[part, :most]], query[part, :, None])[..., 0]
        found[places < 0] = -np.inf
        return found, places


class IndexedRank:
    """Rank a large catalog as `top.onnx` does: what the index finds, what the tables name, in the reranker's order."""

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
        parts = [slice(at, at + _LOOK) for at in range(0, len(query), _LOOK)]
        products, found = self.retrieval.search(query, self._found)
        log_mass = self.retrieval.log_mass(query, products, found)
        if allowed is not None:
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


def build(catalog: Floats) -> Codes:
    """Make the codes of a catalog (items, D); columns of the largest reach are repeated up to a multiple of four."""
    items, width = catalog.shape
    reach = np.maximum(np.abs(catalog).max(0), np.finfo(np.float32).tiny)
    copies = np.ones(width, np.int64)
    for _ in range(-width % 4):
        copies[np.argmax(reach / copies)] += 1
    scale = (reach / _ITEM).astype(np.float32)
    chunk = _chunk(items)
    codes = np.full((-(-items // chunk) * chunk, copies.sum()), _ZERO, np.uint8)
    square = 0.0
    for at in range(0, items, chunk):
        code = np.rint(catalog[at : at + chunk] / scale).repeat(copies, 1)
        square = max(square, float(np.square(code).mean(1).max()))
        codes[at : at + len(code)] = code + _ZERO
    return Codes(codes, scale, copies, np.array(square, np.float32))


def write(index: Codes, path: Path) -> None:
    """Write an index to a file."""
    np.savez(path, **index._asdict())


def read(path: Path) -> Codes:
    """Read an index whose file's hash was checked; raise ValueError where it is none."""
    try:
        stored = read_arrays(path)
        return Codes(*(stored[name] for name in Codes._fields))
    except (KeyError, ValueError, AttributeError, OSError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path.name} holds no index: {error}") from error


def _chunk(items: int) -> int:
    """Return how many items are multiplied at once: whole flocks, and no more than there are."""
    flock = _GROUP * _FLOCK
    return min(_CHUNK, -(-items // flock) * flock)


def _members(at: Ints, width: int, count: int) -> Ints:
    """Return the members (..., count) of groups or flocks: those of a chunk lie `width` apart, so sums run along it."""
    found: Ints = (at // width * (width * count) + at % width)[..., None] + np.arange(count) * width
    return found if at.ndim < 2 else found.reshape(len(at), -1)


def _top(values: NDArray[np.int32], n: int) -> Ints:
    """Return the columns of the `n` largest of each row, in no order."""
    return np.argpartition(values, -n, 1)[:, -n:]


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
    """Return what `Retrieval.search` finds; with `rows`, of these places alone."""
    products = query @ (catalog if rows is None else catalog[rows]).T
    kept = np.arange(len(catalog)) if rows is None else rows.astype(np.int64)
    return _best(products, np.broadcast_to(kept, products.shape), n)
