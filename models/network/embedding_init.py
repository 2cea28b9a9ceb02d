"""Where item vectors start: what the pairs say of an item, in few numbers.

A truncated singular value decomposition of the positive pointwise mutual information of items seen together, which is
what word vectors learn (Levy and Goldberg, 2014); found by subspace iteration (Halko et al., 2011). Items with the
same neighbours begin near one another, so that a rare one leans on what is known of its like.
"""

import numpy as np

from models.data.cooccurrence import Floats, Pairs, Table

_SMOOTHING = 0.75  # power of the counts of the other item, as in Levy et al. (2015)
_MORE, _ROUNDS = 20, 4  # columns beyond the wanted ones, and products with the matrix and its transpose


def factors(near: Table, dimension: int, seed: int) -> Floats:
    """Return a direction for each item, (items + 1, dimension), zeros for item 0 and one without neighbours.

    A catalog of fewer items than dimensions leaves columns of zeros.
    """
    information = _information(near.pairs())
    items = information.shape[0]
    width = min(dimension + _MORE, items)
    basis = np.random.default_rng(seed).standard_normal((items, width)).astype(np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(information @ (information.T @ basis))[0]
    inner = information.T @ basis
    turn, squares, _ = np.linalg.svd(inner.T @ inner)
    # The root of the singular values, which are the fourth roots of these: all directions count, the first ones more.
    found = np.zeros((items, dimension), np.float32)
    kept = min(dimension, width)
    found[:, :kept] = (basis @ turn)[:, :kept] * squares[:kept] ** 0.25
    length = np.linalg.norm(found, axis=1, keepdims=True)
    directions: Floats = np.where(length > 1e-6, found / np.maximum(length, 1e-6), 0).astype(np.float32)
    return directions


def _information(pairs: Pairs) -> Pairs:
    """Return how much likelier than by chance two items are met together, as a logarithm, where that is above 0."""
    both = (pairs + pairs.T).tocsr()
    total = np.asarray(both.sum(1)).ravel()
    other = total**_SMOOTHING
    other /= max(other.sum(), 1e-6)
    # In place: with a large catalog there are tens of millions of pairs.
    both.data /= np.repeat(total, np.diff(both.indptr))
    both.data /= other[both.indices]
    both.data = np.maximum(np.log(both.data, out=both.data), 0)
    both.eliminate_zeros()
    return both
