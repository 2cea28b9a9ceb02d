"""The features know nothing of what comes after; a feature that does is caught."""

from dataclasses import replace

import numpy as np
import pytest

from models.baselines.tabular_features import features, table
from models.baselines.tabular_models import boosted
from models.data.log import gather, labels
from models.evaluation.metrics import pr_auc
from stream.core.events import Event
from tests.fakes import MINUTE, NOON
from tests.models.conftest import MEANING


def _look_ahead(compute, log) -> list[str]:
    """Name the features that change before a moment when everything after it is changed."""
    moment = int(np.median(log.time))
    later = log.time > moment
    other = replace(
        log,
        item=np.where(later, log.item[::-1], log.item),
        category=np.where(later, log.category[::-1], log.category),
        type=np.where(later, 2 - log.type.clip(max=2), log.type),
    )
    one, two, three = compute(log), compute(other), compute(log.where(~later))
    return [n for n in one if not (one[n][~later] == two[n][~later]).all() or not (one[n][~later] == three[n]).all()]


def test_no_feature_looks_past_its_event(log):
    assert _look_ahead(lambda some: features(some, MEANING), log) == []


def test_a_feature_that_looks_past_its_event_is_caught(log):
    def planted(some):
        later = {"next_type": np.r_[some.type[1:], 0].astype(float), "of_all": np.bincount(some.user)[some.user]}
        return features(some, MEANING) | later

    assert _look_ahead(planted, log) == ["next_type", "of_all"]


def test_features_by_hand():
    rows = [(0, "view", "a"), (5, "addtocart", "a"), (70, "view", "b"), (80, "transaction", "a")]
    log = gather((Event(f"e{m}", "u", t, i, NOON + m * MINUTE, "c") for m, t, i in rows), timed=True)
    found = features(log, MEANING)
    assert found["view_ever"].tolist() == [1, 1, 2, 2]
    assert found["view_session"].tolist() == [1, 1, 1, 1]
    assert found["addtocart_1h"].tolist() == [0, 1, 0, 0]
    assert found["item_seen"].tolist() == [0, 1, 0, 2]
    assert found["item_seen_session"].tolist() == [0, 1, 0, 0]
    assert found["item_carted"].tolist() == [0, 0, 0, 1]
    assert found["distinct_items_session"].tolist() == [1, 1, 1, 2]
    assert found["item_since"][3] == pytest.approx(np.log1p(75 * 60))


def test_shuffled_labels_teach_nothing(log):
    """Learn from labels of other events: on other shoppers the PR-AUC is near the base rate; real labels give more."""
    label, known = labels(log, MEANING, int(log.time.max()))
    x, y, user = (part[known[:, 0]] for part in (table(log, MEANING), label[:, 0], log.user))
    train = user % 2 == 0
    shuffled = np.random.default_rng(0).permutation(y[train])
    chance, real = (
        pr_auc(y[~train], boosted(x[train], given, user[train], 0)(x[~train])) for given in (shuffled, y[train])
    )
    assert abs(chance - y[~train].mean()) < 0.05
    assert real > 1.5 * chance
