"""Metrics against scikit-learn, and against hand-made cases."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.calibration import calibration_curve

from models.evaluation import metrics as quality

examples = st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=80).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(examples)
def test_intent_metrics_agree_with_scikit_learn(rows):
    label = np.array([row[0] for row in rows])
    p = np.array([row[1] for row in rows]) / 20
    assert quality.pr_auc(label, p) == pytest.approx(metrics.average_precision_score(label, p), abs=1e-9)
    assert quality.roc_auc(label, p) == pytest.approx(metrics.roc_auc_score(label, p), abs=1e-9)
    assert quality.brier(label, p) == pytest.approx(metrics.brier_score_loss(label, p), abs=1e-9)
    inner = p.clip(0.01, 0.99)
    assert quality.log_loss(label, inner) == pytest.approx(metrics.log_loss(label, inner), abs=1e-9)


lists = st.lists(
    st.tuples(st.permutations(range(12)), st.integers(0, 11), st.lists(st.integers(0, 5), min_size=12, max_size=12)),
    min_size=1,
    max_size=20,
)


def _ranked(rows, k: int, tied: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank 12 items a row; return all scores, the targets, and the targets' ranks in the lists of `k`."""
    scores = np.array([ties if tied else order for order, _, ties in rows], float)
    target = np.array([row[1] for row in rows])
    listed = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = quality.ranks(listed, np.take_along_axis(scores, listed, 1).astype(np.float32), target)
    return scores, target, found


@given(lists, st.integers(1, 12))
def test_hits_agree_with_scikit_learn(rows, k):
    scores, target, found = _ranked(rows, k, tied=False)
    expected = metrics.top_k_accuracy_score(target, scores, k=k, labels=range(12)) if k < 12 else 1.0
    assert quality.RANKING["hr"](found).mean() == pytest.approx(expected, abs=1e-9)


@given(lists, st.booleans())
def test_reciprocal_ranks_agree_with_scikit_learn(rows, tied):
    """With one relevant item a list's average precision is its reciprocal rank; ties count against it there, too."""
    scores, target, found = _ranked(rows, 12, tied)
    expected = metrics.label_ranking_average_precision_score(np.eye(12)[target], scores)
    assert quality.RANKING["mrr"](found).mean() == pytest.approx(expected, abs=1e-9)


@given(lists, st.integers(1, 12))
def test_gains_agree_with_scikit_learn(rows, k):
    scores, target, found = _ranked(rows, k, tied=False)
    expected = metrics.ndcg_score(np.eye(12)[target], scores, k=k)
    assert quality.RANKING["ndcg"](found).mean() == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 12), st.integers(1, 8), st.randoms(use_true_random=False))
def test_calibration_agrees_with_scikit_learn(bins, size, random):
    """Bins of equal mass are quantiles where all probabilities differ and fill the bins evenly."""
    n = bins * size
    p = np.array(random.sample(range(1, 1000), n)) / 1000
    label = np.array([random.random() < 0.4 for _ in range(n)])
    share, mean = calibration_curve(label, p, n_bins=bins, strategy="quantile")
    assert quality.ece(label, p, bins=bins) == pytest.approx(np.abs(share - mean).mean(), abs=1e-9)


@given(examples, st.integers(1, 20))
def test_calibration_of_any_size_is_a_mean_over_bins(rows, bins):
    """Cut the sorted examples by hand: each is `bins` small ones, so that the bins hold as many, and equals share."""
    shared = {p: statistics.mean(label for label, other in rows if other == p) for _, p in rows}
    small = [value / 20 - shared[value] for _, value in sorted(rows, key=lambda row: row[1]) for _ in range(bins)]
    total = sum(abs(sum(small[at : at + len(rows)])) for at in range(0, len(small), len(rows)))
    label, p = np.array([row[0] for row in rows]), np.array([row[1] for row in rows]) / 20
    assert quality.ece(label, p, bins=bins) == pytest.approx(total / len(small), abs=1e-9)


@given(st.integers(0, 2**32), st.sampled_from(list(quality.INTENT)))
def test_a_weight_is_so_many_repetitions(seed: int, name: str):
    random, metric = np.random.default_rng(seed), quality.INTENT[name]
    label, p = random.random(45) < 0.4, random.integers(0, 8, 45) / 8
    weight = random.integers(0, 4, (3, 45))
    label[:2], weight[:, :2] = (True, False), 1
    found = metric(label, p, weight.astype(float))
    assert found.shape == (3,)
    for value, times in zip(found, weight, strict=True):
        assert value == pytest.approx(metric(np.repeat(label, times), np.repeat(p, times), None), abs=1e-9)


def test_a_constant_is_calibrated_whatever_the_order_of_the_rows():
    label = np.r_[np.ones(50, bool), np.zeros(450, bool)]
    assert quality.ece(label, np.full(500, 0.1)) == pytest.approx(0, abs=1e-9)


def test_one_class_has_no_curve():
    assert np.isnan(quality.pr_auc(np.array([False, False]), np.array([0.1, 0.2])))
    assert np.isnan(quality.roc_auc(np.array([True, True]), np.array([0.1, 0.2])))


def test_ece_is_zero_for_the_truth_and_large_for_its_opposite():
    random = np.random.default_rng(0)
    p = random.random(200_000)
    label = random.random(200_000) < p
    assert quality.ece(label, p) < 0.01
    assert quality.ece(~label, p) > 0.4


def test_ranks_break_ties_against_the_target():
    items = np.array([[5, 6, 7], [5, 6, 7], [5, 6, 7], [5, 6, 7]])
    scores = np.array([[3, 2, 1], [3, 3, 1], [2, 2, 2], [3, 2, 1]], np.float32)
    assert quality.ranks(items, scores, np.array([6, 5, 6, 9])).tolist() == [2, 2, 3, 0]


def test_ranking_metrics_by_hand():
    rank = np.array([1, 2, 0, 20])
    assert quality.RANKING["hr"](rank).tolist() == [1, 1, 0, 1]
    assert quality.RANKING["mrr"](rank).tolist() == [1, 0.5, 0, 0.05]
    assert quality.RANKING["ndcg"](rank) == pytest.approx([1, 1 / np.log2(3), 0, 1 / np.log2(21)])


@given(st.integers(1, 12), st.integers(0, 11))
def test_ndcg_agrees_with_scikit_learn(k, place):
    relevance = np.zeros((1, 12))
    relevance[0, place] = 1
    scores = np.arange(12, 0, -1.0)[None]
    rank = np.array([place + 1 if place < k else 0])
    assert quality.RANKING["ndcg"](rank)[0] == pytest.approx(metrics.ndcg_score(relevance, scores, k=k), abs=1e-9)


@given(examples)
def test_gain_and_precision_agree_with_scikit_learn(rows):
    label = np.array([row[0] for row in rows])
    p = np.array([row[1] for row in rows]) / 20
    share, recall = quality.gain(label, p)
    precision, theirs, _ = metrics.precision_recall_curve(label, p)
    assert recall[1:] == pytest.approx(theirs[-2::-1], abs=1e-9)
    assert (recall[1:] * label.sum() / (share[1:] * len(p))) == pytest.approx(precision[-2::-1], abs=1e-9)
    assert (share[0], recall[0], share[-1], recall[-1]) == (0, 0, 1, 1)


@given(examples, st.integers(1, 15))
def test_masses_are_bins_of_one_size_and_equals_share_their_labels(rows, bins):
    label = np.array([row[0] for row in rows])
    p = np.array([row[1] for row in rows]) / 20
    place, even = quality.masses(p, bins), quality.shared(label, p)
    n = np.bincount(place, minlength=bins)
    assert n.max() - n.min() <= 1
    assert (np.diff(place[np.argsort(p, kind="stable")]) >= 0).all()
    for value in np.unique(p):
        assert even[p == value] == pytest.approx(label[p == value].mean())


def test_the_stability_index_by_hand():
    same, other = np.array([500_000, 500_000]), np.array([250_000, 750_000])
    assert quality.psi(same, same * 3) == pytest.approx(0, abs=1e-9)
    by_hand = -0.25 * np.log(0.5) + 0.25 * np.log(1.5)
    assert quality.psi(same, other) == pytest.approx(by_hand, abs=1e-5)
    assert np.isfinite(quality.psi(np.array([10, 0]), np.array([0, 10])))
