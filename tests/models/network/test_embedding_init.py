"""Where item vectors start: items of a kind begin together, also those that were never seen together."""

import numpy as np
import pytest
import torch

from models.data.cooccurrence import NEAR, Table, count
from models.network.embedding_init import factors
from models.training.config import CHANCE, PAIRS
from models.training.epochs import train
from tests.models.conftest import small_run


def _table(weights: np.ndarray) -> Table:
    order = np.argsort(-weights, 1).astype(np.int32)
    return Table(order, np.take_along_axis(weights, order, 1).astype(np.float32))


def test_items_with_the_same_neighbours_begin_near_one_another():
    weights = np.zeros((9, 9))
    for one, other in [(1, 3), (1, 4), (2, 3), (2, 4), (5, 7), (5, 8), (6, 7), (6, 8)]:
        weights[one, other] = 1
    found = factors(_table(weights), 4, seed=0)
    alike = found @ found.T
    assert alike[1, 2] > 0.99
    assert alike[3, 4] > 0.99
    assert abs(alike[1, 5]) < 0.01


def test_they_are_the_factors_of_an_exact_decomposition():
    random = np.random.default_rng(0)
    weights = random.integers(0, 4, (16, 16)).astype(float)
    weights[0] = weights[:, 0] = 0
    np.fill_diagonal(weights, 0)
    both = weights + weights.T
    total = both.sum(1)
    other = total**0.75 / (total**0.75).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.where(both > 0, np.maximum(np.log(both / (total[:, None] * other)), 0), 0)
    left, values, _ = np.linalg.svd(information)
    wanted = left[:, :5] * np.sqrt(values[:5])
    wanted[1:] /= np.linalg.norm(wanted[1:], axis=1, keepdims=True)
    found = factors(_table(weights), 5, seed=0)
    # A direction's sign, and that of a whole column, say nothing.
    assert np.abs(found[1:] @ found[1:].T) == pytest.approx(np.abs(wanted[1:] @ wanted[1:].T), abs=1e-3)
    assert not found[0].any()


def test_an_item_without_pairs_has_no_direction_and_a_small_catalog_has_empty_columns():
    weights = np.zeros((4, 4))
    weights[1, 2] = 1
    found = factors(_table(weights), 8, seed=0)
    assert found.shape == (4, 8)
    assert np.isfinite(found).all()
    assert found.any(1).tolist() == [False, True, True, False]
    assert not factors(_table(np.zeros((4, 4))), 8, seed=0).any()


@pytest.mark.parametrize("start", [PAIRS, CHANCE])
def test_training_starts_from_the_pairs_unless_from_chance(log, tmp_path, start: str):
    sequences, run = small_run(log, start=start, lr=1e-9, epochs=1, judged=0.0)
    wanted = factors(count(sequences, len(run.items)).tables()[NEAR.name], 16, run.config.seed)
    vectors = train(sequences, run, tmp_path).network.item_vectors.weight.detach().numpy()
    alike = (wanted * vectors).sum(1)[1:] / np.linalg.norm(vectors[1:], axis=1)
    assert not vectors[0].any()
    assert (alike.min() > 0.7) == (start == PAIRS)


def test_an_item_without_a_direction_keeps_the_vector_of_chance(checkpoint):
    network = checkpoint.run.network()
    before = network.item_vectors.weight.detach().clone()
    directions = torch.zeros_like(before)
    directions[1, 0] = 1
    network.begin_from(directions)
    after = network.item_vectors.weight.detach()
    assert torch.equal(after[2:], before[2:])
    assert after[1].norm() == pytest.approx(1, abs=1e-5)
    assert after[1, 0] > 0.8
