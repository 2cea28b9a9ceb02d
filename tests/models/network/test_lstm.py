"""The network: step by step equals the whole sequence, and the unknown has a fallback."""

import numpy as np
import pytest
import torch

from export.parity import expected, random_histories, step_by_step
from models.heads.next_item import POPULARITY
from models.network.decayed_counts import PACES
from models.network.lstm import Network
from stream.core.features import NUMERIC


def test_step_by_step_equals_the_whole_sequence(checkpoint):
    vectors = expected(checkpoint, random_histories(checkpoint, seed=3))
    assert step_by_step(checkpoint, vectors) <= 1e-5


def test_a_whole_sequence_can_be_taken_up_in_the_middle(checkpoint):
    given = {k: torch.from_numpy(v) for k, v in random_histories(checkpoint, seed=4).items()}
    new = checkpoint.network.state(len(given["item"]))
    with torch.inference_mode():
        whole = checkpoint.network(**given, **new)
        first = checkpoint.network(**{k: v[:, :10] for k, v in given.items()}, **new)
        second = checkpoint.network(**{k: v[:, 10:] for k, v in given.items()}, **{k: getattr(first, k) for k in new})
    assert torch.allclose(torch.cat([first.query, second.query], 1), whole.query, atol=1e-5)
    assert torch.allclose(torch.cat([first.gate, second.gate], 1), whole.gate, atol=1e-5)
    assert torch.allclose(torch.cat([first.intent, second.intent], 1), whole.intent, atol=1e-5)
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


def _intent_gradient(reach: float) -> tuple[torch.Tensor, Network, dict[str, torch.Tensor]]:
    """Return the gradient of the intents in the weights of the items' LSTM, in training without dropout."""
    torch.manual_seed(0)
    sizes = {"items": 5, "categories": 3, "types": 3, "dimension": 6}
    network = Network(**sizes, horizons=("1h", "24h"), dropout=0.0, scale=14.0, intent_reach=reach)
    random = torch.Generator().manual_seed(1)
    given = {name: torch.randint(0, 3, (2, 7), generator=random) for name in ("item", "category", "type")}
    given["numeric"] = torch.rand(2, 7, len(NUMERIC), generator=random)
    network.train()(**given, **network.state(2)).intent.sum().backward()
    grad = network.lstm.weight_hh_l0.grad
    assert grad is not None
    return grad, network.eval(), given


def test_purchases_reach_the_items_lstm_in_part():
    whole, part = _intent_gradient(1.0)[0], _intent_gradient(0.1)[0]
    assert whole.abs().max() > 0
    assert torch.allclose(part, 0.1 * whole, atol=1e-7)


@pytest.mark.parametrize("reach", [0.0, 0.1])
def test_without_any_reach_purchases_know_no_ids(reach: float):
    _, network, given = _intent_gradient(reach)
    other = given | {"item": (given["item"] + 1) % 5, "category": (given["category"] + 1) % 3}
    with torch.inference_mode():
        one, two = (network(**g, **network.state(2)) for g in (given, other))
        steps = [network.step()(**{k: v[:, 0] for k, v in g.items()}, **network.state(2)) for g in (given, other)]
    for a, b in ((one, two), steps):
        assert torch.equal(a.intent, b.intent) == (reach == 0)
        assert not torch.equal(a.query, b.query)
    assert torch.equal(network.purchases(given["type"], given["numeric"]), one.intent) == (reach == 0)


def test_purchases_feel_seconds():
    _, network, given = _intent_gradient(0.0)
    seen = network.felt(given["type"], given["numeric"])
    assert torch.equal(seen[..., -len(PACES) :], network.counters.left(given["numeric"][..., 0]))


def test_a_price_level_is_part_of_an_items_vector_wherever_it_is_looked_up():
    torch.manual_seed(0)
    network = Network(3, 1, 3, ("1h",), 8, 0.0, 10.0, price_level=[1, 2, 0]).eval()
    item, category = torch.tensor([1, 2, 3]), torch.tensor([1, 1, 1])
    plain, recent = network.vectors(item, category), torch.tensor([[1, 2, 3, 0, 0, 0, 0, 0]])
    back = network.look_back(torch.ones(1, 8), recent)
    with torch.no_grad():
        network.price_vectors.weight[2] = 1.0
    assert torch.allclose(network.vectors(item, category) - plain, torch.tensor([[0.0], [1.0], [0.0]]).expand(3, 8))
    assert not torch.allclose(network.look_back(torch.ones(1, 8), recent), back)
    assert torch.equal(network.catalog(item, category)[0], network.catalog(item, category)[0])
    newcomer = torch.tensor([2**31 - 2])
    assert torch.equal(network.vectors(newcomer, category[:1]), network.category_vectors(category[:1]))


def test_a_new_rhythm_forgets_over_one_to_fifty_events():
    rhythm = Network(3, 2, 3, ("1h",), 8, 0.0, 14.0).rhythm
    gates = (rhythm.bias_ih_l0 + rhythm.bias_hh_l0).reshape(4, -1)
    kept = torch.sigmoid(gates[1])
    assert torch.allclose(torch.sigmoid(gates[0]), 1 - kept, atol=1e-6)
    assert kept.min() >= 0.5 and 0.9 < kept.max() <= 50 / 51
