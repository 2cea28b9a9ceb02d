"""The counted baselines: by hand, and smoothed as they say."""

import numpy as np
import pytest
import torch

from models.data.log import gather, vocabulary
from models.data.sequences import Sequences
from models.evaluation.torch_step import torch_step
from models.network.popularity import Baseline, base_rate
from models.training.checkpoint import Checkpoint, load
from models.training.epochs import count_baseline
from stream.core.errors import SettingError
from stream.core.events import Event
from tests.fakes import MINUTE, NOON
from tests.models.conftest import MEANING, small_run

ROWS = [("a", "1"), ("a", "2"), ("a", "1"), ("a", "2"), ("b", "1"), ("b", "3"), ("c", "4"), ("c", "4"), ("d", "5")]


def _listed(followed: bool, items: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Count `ROWS` and list after each of the items, 0 for the unknown one."""
    log = gather((Event(f"e{n}", u, "view", i, NOON + n * MINUTE) for n, (u, i) in enumerate(ROWS)), timed=True)
    vocab = vocabulary(log)
    _, run = small_run(log)
    network = Baseline(len(vocab.items), len(MEANING.horizons))
    network.learn(Sequences(log, vocab, MEANING, int(log.time.max()), 64), followed)
    n = len(items)
    inputs = {name: np.zeros(n, np.int64) for name in ("category", "type")}
    inputs |= {"item": np.array(items), "numeric": np.zeros((n, 7), np.float32)}
    state = {name: tensor.numpy() for name, tensor in network.state(n).items()}
    outputs, after = torch_step(Checkpoint(network, run, {}), recommend=True)(inputs, state)
    assert after["recent"][:, 0].tolist() == items
    assert not after["recent"][:, 1:].any()
    return outputs["items"], outputs["item_scores"]


def test_popularity_is_the_share_of_events_whatever_came_last():
    items, scores = _listed(False, [1, 5, 0])
    assert items[:, 0].tolist() == [1, 1, 1]
    assert sorted(items[0].tolist()) == [1, 2, 3, 4, 5]
    assert scores == pytest.approx(np.tile([3, 2, 2, 1, 1], (3, 1)) / 9)


def test_what_followed_the_last_item_is_smoothed_by_popularity():
    """After item 1 came 2 twice and 3 once, after 4 itself; after 5 and the unknown item nothing is known."""
    items, scores = _listed(True, [1, 4, 5, 0])
    share = np.array([3, 2, 1, 2, 1]) / 9
    after = {1: (np.array([0, 2, 1, 0, 0]) + share) / 4, 4: (np.array([0, 0, 0, 1, 0]) + share) / 2, 5: share, 0: share}
    for row, last in enumerate(after):
        assert dict(zip(items[row].tolist(), scores[row].tolist(), strict=True)) == pytest.approx(
            dict(enumerate(after[last].tolist(), 1))
        )
    assert items[0].tolist()[:3] == [2, 3, 1]
    assert scores.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("name", ["popularity", "last-item"])
def test_a_counted_baseline_is_a_finished_run(log, tmp_path, name):
    sequences, run = small_run(log, model=name)
    counted = count_baseline(sequences, run, tmp_path, lambda network: {"hr@20": float(network.dimension)})
    found = load(tmp_path)
    assert found.run.metrics == {"hr@20": 1.0}
    assert found.network.mixture.near_mass.any() == (name == "last-item")
    for key, tensor in counted.network.state_dict().items():
        assert torch.equal(tensor, found.network.state_dict()[key])
    assert torch.sigmoid(found.network.logit).numpy() == pytest.approx(base_rate(sequences), abs=1e-6)


def test_there_are_no_other_models(log):
    with pytest.raises(SettingError, match="no model 'markov'"):
        small_run(log, model="markov")
