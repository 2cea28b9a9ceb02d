"""Synthetic shoppers: the truth is true."""

import numpy as np
import pytest

from models.data.synthetic import BUY, JUMPS, STAY, reach, simulate, truth
from models.evaluation.metrics import ece, roc_auc
from tests.fakes import HOUR, NOON


def _bought(traffic, within):
    order = np.lexsort((traffic.time, traffic.user))
    user, time, buys = traffic.user[order], traffic.time[order], traffic.state[order] == BUY
    label = np.zeros(len(user), bool)
    coming = None
    for i in range(len(user) - 1, -1, -1):
        if i + 1 < len(user) and user[i] != user[i + 1]:
            coming = None
        label[i] = coming is not None and coming - time[i] <= within
        if buys[i]:
            coming = time[i]
    back = np.zeros_like(label)
    back[order] = label
    return back


def test_the_true_probabilities_are_calibrated():
    traffic = simulate(20_000, 14, 1, NOON)
    p, label = truth(traffic, 3600), _bought(traffic, HOUR)
    complete = traffic.time < NOON + 14 * 24 * HOUR - HOUR
    assert complete.sum() > 400_000
    assert ece(label[complete], p[complete]) < 0.003
    assert roc_auc(label[complete], p[complete]) > 0.78


def test_reach_agrees_with_walks():
    """Walk the chain at random, and count who buys within the hour."""
    dice, n, table = np.random.default_rng(0), 40_000, reach(3600)
    for kind, start in ((0, 1), (1, 2)):
        state, clock = np.full(n, start), np.zeros(n)
        bought = np.zeros(n, bool)
        for _ in range(400):
            clock += dice.exponential(STAY[kind, state])
            state = (dice.random((n, 1)) > JUMPS[kind, state].cumsum(1)).sum(1).clip(max=4)
            bought |= (state == BUY) & (clock < 3600)
        assert table[kind, start] == pytest.approx(bought.mean(), abs=0.01)


def test_the_same_seed_gives_the_same_events():
    one, two, other = (list(simulate(50, 1, seed, NOON).events()) for seed in (4, 4, 5))
    assert one == two
    assert one != other
    assert [e.timestamp for e in one] == sorted(e.timestamp for e in one)
    assert len({e.event_id for e in one}) == len(one)


def test_jumps_are_probabilities():
    assert JUMPS.sum(2) == pytest.approx(np.ones((2, 5)))
