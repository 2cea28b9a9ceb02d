"""The comparison: nobody learns from the shoppers or the days that are tested."""

import numpy as np

from models.crossfit import Split, base_rate, crossfit, splits
from models.histories import cutoff
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
