"""Intervals: weights are repetitions, shoppers move as one, and the bounds cover."""

import numpy as np
import pytest

from models.evaluation.bootstrap import intervals, mean_interval, paired, paired_interval
from models.evaluation.metrics import INTENT, pr_auc


def _world(seed: int, shoppers: int = 60, events: int = 12):
    """Draw shoppers whose labels come from probabilities of their own."""
    random = np.random.default_rng(seed)
    user = np.repeat(np.arange(shoppers), events)
    p = np.repeat(random.beta(1, 4, shoppers), events).clip(0.01, 0.99)
    return random.random(len(p)) < p, p, user


def test_equal_forecasts_share_their_purchases():
    """A constant that is right on the whole is calibrated, whatever the order of the rows."""
    label, user = np.r_[np.ones(40, bool), np.zeros(160, bool)], np.arange(200)
    assert intervals("ece", label, np.full(200, 0.2), user, rounds=10).value == pytest.approx(0, abs=1e-9)


def test_the_figure_itself_is_that_of_the_sample():
    label, p, user = _world(0)
    for name, metric in INTENT.items():
        found = intervals(name, label, p, user, rounds=50)
        assert found.value == pytest.approx(metric(label, p, None), abs=1e-9)
        assert found.low < found.high


def test_shoppers_are_drawn_whole():
    """Copy each event many times: as rows they would be more to go by, as shoppers they are not."""
    random = np.random.default_rng(1)
    values, user = random.random(40), np.arange(40)
    one = mean_interval(values, user)
    many = mean_interval(np.repeat(values, 100), np.repeat(user, 100))
    assert many == pytest.approx(one, abs=1e-12)
    apart = mean_interval(np.repeat(values, 100), np.arange(4000))
    assert apart.high - apart.low < 0.2 * (one.high - one.low)


def test_the_bounds_cover():
    """The mean of 200 samples lies within the bounds in about 95 of 100."""
    random = np.random.default_rng(2)
    inside = 0
    for seed in range(200):
        values, user = np.repeat(random.exponential(size=80), 3), np.repeat(np.arange(80), 3)
        found = mean_interval(values, user, rounds=300, seed=seed)
        inside += found.low <= 1.0 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_a_pair_is_compared_in_the_same_rounds():
    label, p, user = _world(3)
    noise = np.clip(p + np.random.default_rng(0).normal(0, 0.2, len(p)), 0.001, 0.999)
    assert paired("pr_auc", label, p, p, user, rounds=100) == (0.0, 0.0, 0.0)
    better = paired("pr_auc", label, p, noise, user)
    assert better.value == pytest.approx(pr_auc(label, p) / pr_auc(label, noise) - 1)
    assert 0 < better.low < better.value < better.high
    near, apart = paired("pr_auc", label, p, p + noise / 50, user), intervals("pr_auc", label, p, user)
    assert near.high - near.low < 0.5 * (apart.high - apart.low) / apart.value
    difference = paired_interval((p - label) ** 2, (noise - label) ** 2, user)
    assert difference.high < 0


def test_rounds_without_a_positive_tell_nothing():
    label, user = np.array([True, False, False]), np.arange(3)
    found = intervals("pr_auc", label, np.array([0.9, 0.5, 0.1]), user, rounds=200)
    assert found == (1.0, 1.0, 1.0)
    assert np.isnan(intervals("roc_auc", label[1:], np.array([0.5, 0.1]), user[1:], rounds=10)).all()
