"""The network: step by step equals the whole sequence, and the unknown has a fallback."""

import numpy as np
import pytest
import torch

from export.parity import expected, random_histories, step_by_step
from models.heads import POPULARITY
from models.network import Network


def test_step_by_step_equals_the_whole_sequence(checkpoint):
    vectors = expected(checkpoint, random_histories(checkpoint, seed=3))
    assert step_by_step(checkpoint, vectors) <= 1e-5


def test_a_whole_sequence_can_be_taken_up_in_the_middle(checkpoint):
    given = {k: torch.from_numpy(v) for k, v in random_histories(checkpoint, seed=4).items()}
    new = checkpoint.network.state(len(given["item"]))
    with torch.inference_mode():
        whole = checkpoint.network(**given, **new)
        first = checkpoint.network(**{k: v[:, :10] for k, v in given.items()}, **new)
        second = checkpoint.network(
            **{k: v[:, 10:] for k, v in given.items()}, h=first.h, c=first.c, recent=first.recent, counts=first.counts
        )
    assert torch.allclose(torch.cat([first.query, second.query], 1), whole.query, atol=1e-5)
    assert torch.allclose(torch.cat([first.gate, second.gate], 1), whole.gate, atol=1e-5)
    assert torch.allclose(second.h, whole.h, atol=1e-5)
    assert torch.equal(second.recent, whole.recent)


def test_what_comes_later_changes_nothing_before(checkpoint):
    given = {k: torch.from_numpy(v) for k, v in random_histories(checkpoint, seed=5).items()}
    other = {k: v.clone() for k, v in given.items()}
    other["item"][:, 12:] = 1
    other["numeric"][:, 12:] = 0
    new = checkpoint.network.state(len(given["item"]))
    with torch.inference_mode():
        one, two = (checkpoint.network(**g, **new) for g in (given, other))
    for name in ("query", "gate", "intent"):
        assert torch.equal(getattr(one, name)[:, :12], getattr(two, name)[:, :12])


def test_an_unknown_item_has_its_categorys_vector(checkpoint):
    network: Network = checkpoint.network
    category = torch.tensor([1, 2, 0])
    found = network.vectors(torch.zeros(3, dtype=torch.long), category)
    assert torch.equal(found, network.category_vectors(category))
    assert found[2].abs().max() == 0


def test_queries_and_catalog_meet_in_scaled_cosines(checkpoint):
    given = {k: torch.from_numpy(v) for k, v in random_histories(checkpoint).items()}
    new = checkpoint.network.state(len(given["item"]))
    with torch.inference_mode():
        query = checkpoint.network(**given, **new).query
        catalog = checkpoint.network.catalog(torch.tensor([1, 2]), torch.tensor([1, 1]))
    assert query[..., :-POPULARITY].norm(dim=-1).numpy() == pytest.approx(14.0, abs=1e-4)
    assert catalog[..., :-POPULARITY].norm(dim=-1).numpy() == pytest.approx(1.0, abs=1e-5)
    assert torch.equal(catalog[..., -POPULARITY:], checkpoint.network.popularity[[1, 2]])
    assert np.isfinite(query.numpy()).all()
