"""Indices above the catalog's, those of newcomers, wherever training and evaluation look an item up."""

import copy

import numpy as np
import pytest
import torch

from export.parity import random_histories
from models.baselines import category_popularity
from models.baselines.session_knn import WAYS, SessionKnn
from models.data.cooccurrence import OWN, REACHES, RECENT, beside, count
from models.data.log import Log
from models.data.sequences import Sequences
from models.evaluation.attribution import attribute
from models.heads.next_item import ANSWERS, Mixture
from models.network.lstm import Network
from models.network.popularity import Baseline
from models.network.ranking import Pool, Ranking
from models.training.config import TrainConfig
from models.training.objective import Candidates, losses
from models.training.reranker_fit import examples
from stream.core.features import NUMERIC
from tests.models.conftest import MEANING, small_run

FAR_ABOVE = 2**31 - 2


@pytest.fixture(scope="module")
def sequences(log: Log) -> Sequences:
    return small_run(log)[0]


@pytest.fixture(scope="module")
def items(log: Log) -> int:
    return len(small_run(log)[1].items)


def _with(sequences: Sequences, index: int, every: int = 5) -> Sequences:
    """Put an index in the place of each fifth event's item, and of that target of the event before."""
    changed = copy.copy(sequences)
    rows = np.arange(len(sequences.item)) % every == 2
    changed.item = np.where(rows, index, sequences.item)
    following = np.r_[rows[1:], False] & (sequences.target > 0)
    changed.target = np.where(following, index, sequences.target)
    return changed


def test_pairs_and_popularity_are_counted_as_if_newcomers_were_no_item(sequences: Sequences, items: int):
    new, none = _with(sequences, FAR_ABOVE), _with(sequences, 0)
    tally, other = count(new, items), count(none, items)
    tables, said = tally.tables(), beside(new, tally.apart())
    for name, table in other.tables().items():
        assert np.array_equal(table.neighbours, tables[name].neighbours)
        assert np.array_equal(table.weights, tables[name].weights)
    assert np.array_equal(tally.popularity(), other.popularity())
    asked = new.target == FAR_ABOVE
    assert asked.any()
    assert not said[asked][:, : len(REACHES)].any()  # no table knows a newcomer
    again = asked & (new.item == FAR_ABOVE)
    assert (said[again, len(REACHES)] > 0).all()  # but a shopper can come back to one


def test_the_judge_learns_from_known_targets_alone(sequences: Sequences, items: int, checkpoint):
    new = _with(sequences, FAR_ABOVE)
    features, context, log_p, target, _ = examples(checkpoint.network, new, checkpoint.run)
    assert 0 < len(target) <= ((new.target > 0) & (new.target <= items)).sum()
    assert all(torch.isfinite(part).all() for part in (features, context, log_p))


def test_training_asks_for_known_targets_alone(sequences: Sequences, items: int, checkpoint):
    run, network = checkpoint.run, copy.deepcopy(checkpoint.network).eval()
    category_of = torch.tensor([0, *run.category_of])
    new = _with(sequences, FAR_ABOVE)
    silent = copy.copy(new)
    silent.target = np.where(new.target > items, 0, new.target)
    candidates = Candidates(count(new, items).seen[0], run.config)
    assert len(candidates.weight) == items + 1
    config, found = TrainConfig(unknown_rate=0.0), []
    for one in (new, silent):
        batch = next(one.batches(512, np.random.default_rng(0)))
        found.append([part.item() for part in losses(network, batch, candidates, category_of, config)])
    assert found[0] == found[1]
    assert all(np.isfinite(found[0]))


def test_a_newcomer_among_the_recent_items_keeps_its_own_share_and_gives_nothing_to_others():
    torch.manual_seed(0)
    head = Mixture(6, 4)
    for reach in REACHES:
        head.get_buffer(f"{reach.name}_neighbours")[1:, 0] = torch.tensor([2, 3, 4, 5, 6, 1], dtype=torch.int32)
        head.get_buffer(f"{reach.name}_weights")[1:, 0] = 1.0
        head.get_buffer(f"{reach.name}_mass")[1:] = 1.0
    tables = {name: buffer for name, buffer in head.named_buffers() if not name.endswith("mass")}
    recent = torch.zeros(2, RECENT, dtype=torch.long)
    recent[0, :2], recent[1, :2] = torch.tensor([FAR_ABOVE, 3]), torch.tensor([0, 3])
    named, support = head.named(recent, 6, tables)
    everything = torch.ones(6, dtype=torch.bool)
    ranked, gate = torch.softmax(torch.randn(2, 6), -1), torch.log_softmax(torch.randn(2, ANSWERS), -1)
    pool = Pool.of(None, ranked, gate, everything, named, support)
    answers = pool.said(torch.arange(6).expand(2, -1))
    assert torch.equal(support[0], support[1])
    assert torch.allclose(head.support(recent), support)
    assert torch.equal(answers[:, :, 0], ranked)
    assert torch.allclose((answers * gate.exp()[:, None]).sum(-1), pool.mixed)
    assert torch.equal(answers[0, :, 1:-1], answers[1, :, 1:-1])
    assert answers[0, :, -1].tolist() == pytest.approx([0, 0, OWN / (1 + OWN), 0, 0, 0])
    assert head.own(recent)[0, :2].tolist() == pytest.approx([1 / (1 + OWN), OWN / (1 + OWN)])


def test_a_list_with_newcomers_behind_it_is_the_list_without_them_but_for_the_gates(checkpoint):
    """Rank with the same query and gate: what a newcomer was adds nothing and takes nothing."""
    network, run = checkpoint.network, checkpoint.run
    given = {k: torch.from_numpy(v) for k, v in random_histories(checkpoint, seed=3).items()}
    with torch.inference_mode():
        out = network(**given, **network.state(len(given["item"])))
        categories = torch.tensor(run.category_of)
        catalog = network.catalog(torch.arange(1, len(categories) + 1), categories)
        ranking = Ranking(network, 20)
        asked, everything = (out.query[:, -1], out.gate[:, -1]), torch.ones(len(run.items) + 1, dtype=torch.bool)
        far = torch.where(out.recent > len(run.items), FAR_ABOVE, out.recent)
        assert (far == FAR_ABOVE).any()
        lists = [ranking(*asked, r, everything, catalog, ranking.tables()) for r in (out.recent, far)]
    for one, other in zip(*lists, strict=True):
        assert torch.equal(one, other)
    scores, places, own = lists[0]
    assert places.max() < len(run.items)
    new = own * (out.recent > len(run.items))
    assert (scores.sum(1) + new.sum(1) <= 1 + 1e-5).all()


def test_the_network_takes_a_newcomer_for_an_item_without_a_vector(checkpoint):
    network = checkpoint.network
    item, category = torch.tensor([0, FAR_ABOVE, len(checkpoint.run.items) + 1]), torch.tensor([2, 2, 2])
    found = network.vectors(item, category)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_baselines_and_neighbours_count_as_if_newcomers_were_no_item(sequences: Sequences, items: int):
    new, none = _with(sequences, FAR_ABOVE), _with(sequences, 0)
    for followed in (False, True):
        one, other = Baseline(items, len(MEANING.horizons)), Baseline(items, len(MEANING.horizons))
        one.learn(new, followed)
        other.learn(none, followed)
        for name, tensor in one.state_dict().items():
            if name != "log_count":
                assert torch.equal(tensor, other.state_dict()[name]), name
        assert torch.equal(one.log_count[1:], other.log_count[1:])
    inputs = {"item": torch.tensor([FAR_ABOVE, 0]), "type": torch.zeros(2, dtype=torch.long)}
    inputs |= {"category": torch.zeros(2, dtype=torch.long), "numeric": torch.zeros(2, len(NUMERIC))}
    gate = one(**inputs, **one.state(2)).gate
    assert torch.equal(gate[0], gate[1])
    rings, numbers = np.zeros((1, 50), np.int64), np.zeros((1, len(NUMERIC)), np.float32)
    for way in WAYS.values():
        near, without = SessionKnn(new, items), SessionKnn(none, items)
        assert np.array_equal(near.item, without.item)
        asked = {"item": np.array([FAR_ABOVE]), "numeric": numbers}
        _, state = near.step(way, 20, recommend=True)(asked, {"recent": rings})
        assert state["recent"][0, 0] == -1


def test_the_bestsellers_of_a_category_are_known_items(sequences: Sequences, items: int):
    category = {"category": np.arange(7)}
    lists = [category_popularity.step(_with(sequences, index), items, 20)(category, {})[0] for index in (FAR_ABOVE, 0)]
    for name in ("items", "item_scores"):
        assert np.array_equal(lists[0][name], lists[1][name])
    assert lists[0]["items"].max() <= items


def test_a_newcomer_is_attributed_by_its_category_alone(checkpoint):
    network: Network = checkpoint.network
    history = {
        "item": torch.tensor([3, FAR_ABOVE, 5]),
        "category": torch.tensor([1, 2, 1]),
        "type": torch.tensor([0, 1, 0]),
        "numeric": torch.zeros(3, len(NUMERIC)),
    }
    found = attribute(network, history, 0)
    unknown = attribute(network, history | {"item": torch.tensor([3, 0, 5])}, 0)
    assert found.score == pytest.approx(unknown.score)
    assert found.parts == pytest.approx(unknown.parts)
    assert found.parts[1, 0] == pytest.approx(0)
