"""Counters: whole sequences and steps agree, and forget as time passes."""

import numpy as np
import torch

from models.network.decayed_counts import PACES, SPANS, DecayedCounts


def test_a_count_fades_with_time():
    counters, pause = DecayedCounts(2), float(np.log1p(SPANS[1]) / 10)
    start = counters(torch.zeros(1, counters.width), torch.tensor([1]), torch.zeros(1))
    later = counters(start, torch.tensor([0]), torch.tensor([pause])).reshape(len(SPANS), 2)
    assert start.reshape(len(SPANS), 2).tolist() == [[0, 1]] * len(SPANS)
    assert (later[:, 0] == 1).all()
    assert np.allclose(later[:, 1], np.exp(-SPANS[1] / np.array(SPANS)), atol=1e-4)


def test_a_pause_leaves_less_the_longer_it_is():
    pauses = torch.tensor([[0.0, np.log1p(PACES[1]) / 10, 1.5]])
    left = DecayedCounts(2).left(pauses)
    assert left.shape == (1, 3, len(PACES))
    assert (left[0, 0] == 1).all()
    assert np.allclose(left[0, 1], np.exp(-PACES[1] / np.array(PACES)), atol=1e-4)
    assert (left[0, 2] < 1e-9).all()


def test_whole_sequences_and_steps_agree():
    torch.manual_seed(0)
    counters, type_, gap = DecayedCounts(3), torch.randint(0, 3, (4, 30)), torch.rand(4, 30)
    state = torch.zeros(4, counters.width)
    whole = counters.over(state, type_, gap)
    for t in range(30):
        state = counters(state, type_[:, t], gap[:, t])
        assert torch.allclose(state, whole[:, t], atol=1e-6)
