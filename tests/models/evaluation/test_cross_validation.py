"""The comparison: nobody learns from the shoppers or the days that are tested."""

import msgspec
import numpy as np
import pytest

from models.data.log import cutoff, gather
from models.data.synthetic import simulate
from models.evaluation import cross_validation as module
from models.evaluation.cross_validation import Split, base_rate, check, crossfit, recurrent, splits
from models.evaluation.metrics import roc_auc
from models.training.config import TrainConfig
from stream.core.errors import DataError
from tests.fakes import NOON
from tests.models.conftest import MEANING


def test_every_late_event_is_tested_once_and_by_strangers(log):
    since = cutoff(log, 0.3)
    parts = list(splits(log, 4, since))
    assert (sum(part.test.astype(int) for part in parts) == (log.time >= since)).all()
    for part in parts:
        assert not np.isin(log.user[part.test], log.user[part.train]).any()
        assert log.time[part.train].max() < since <= log.time[part.test].min()


def test_predictions_meet_their_labels(log):
    def place(part: Split):
        return np.tile(np.flatnonzero(part.test)[:, None].astype(float), (1, 2))

    parts = list(splits(log, 3, cutoff(log, 0.3)))
    pooled = crossfit(parts, MEANING, {"place": place, "base rate": base_rate(MEANING)}, lambda _: None)
    assert (pooled.p["place"][:, 0] == pooled.rows).all()
    assert (pooled.user == log.user[pooled.rows]).all()
    assert ((pooled.p["base rate"] > 0) & (pooled.p["base rate"] < 0.5)).all()


def test_the_base_rate_ranks_nobody(log):
    """One rate for all folds: rates of their own would rank the folds when they are pooled."""
    parts = list(splits(log, 3, cutoff(log, 0.3)))
    pooled = crossfit(parts, MEANING, {"base rate": base_rate(MEANING)}, lambda _: None)
    known, p = pooled.known[:, 0], pooled.p["base rate"][:, 0]
    assert len(np.unique(p)) == 1
    assert roc_auc(pooled.label[known, 0], p[known]) == 0.5


@pytest.mark.parametrize("lost", ["one shopper", "no purchases"])
def test_folds_that_teach_nothing_are_refused(log, lost):
    """Without the check LightGBM or an empty fold ends in a traceback."""
    part = log.where({"one shopper": log.user == np.bincount(log.user).argmax(), "no purchases": log.type != 2}[lost])
    since = cutoff(log, 0.3) if lost == "no purchases" else int(part.time.min())
    with pytest.raises(
        DataError, match="no event to test" if lost == "one shopper" else "would learn from 0 purchases"
    ):
        check(list(splits(part, 2, since)), msgspec.structs.replace(MEANING, horizons=("1h",)))
    check(list(splits(log, 2, cutoff(log, 0.3))), MEANING)


def test_a_tail_shorter_than_the_horizon_is_refused(log):
    with pytest.raises(DataError, match="followed by 24h"):
        check(list(splits(log, 2, cutoff(log, 0.1))), msgspec.structs.replace(MEANING, horizons=("1h", "24h")))


def test_the_lstm_learns_from_labels_and_from_nothing_else(monkeypatch: pytest.MonkeyPatch):
    """Shuffle the labels of training: on other shoppers the scores are at chance; the true labels give more."""
    log = gather(simulate(4000, 3, 3, NOON, items=60, categories=6).events(), timed=True)
    part = next(splits(log, 2, cutoff(log, 0.4)))
    config = TrainConfig(dimension=16, epochs=4, batch_events=256, negatives=64, dropout=0.0, intent_reach=0.0)
    meaning = msgspec.structs.replace(MEANING, horizons=("1h",))
    truly = recurrent(config, meaning, lambda _: None)(part)[:, 0]
    trained = module.train

    def shuffled(sequences, *others):
        order = np.random.default_rng(0).permutation(len(sequences.label))
        sequences.label, sequences.known = sequences.label[order], sequences.known[order]
        return trained(sequences, *others)

    monkeypatch.setattr(module, "train", shuffled)
    by_chance = recurrent(config, meaning, lambda _: None)(part)[:, 0]
    pooled = crossfit([part], meaning, {"truly": lambda _: truly[:, None]}, lambda _: None)
    label, known = pooled.label[:, 0], pooled.known[:, 0]
    assert roc_auc(label[known], truly[known]) > 0.7
    assert roc_auc(label[known], by_chance[known]) == pytest.approx(0.5, abs=0.1)
