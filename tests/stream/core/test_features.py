"""Features: by hand, and the same for one event as for many."""

import numpy as np
import pytest

from stream.core.events import Event
from stream.core.features import AGAIN, NUMERIC, encode, numeric
from stream.core.manifest import Vocabulary
from tests.fakes import DAY, HOUR, NOON

VOCAB = Vocabulary(["a", "b"], ["x", "y"], [1, 2])
TYPES = {"view": 0, "transaction": 1}


def _encode(*events: Event):
    n = np.arange(len(events))
    return encode(events, n, n, TYPES, VOCAB)


def test_an_unknown_item_falls_back_to_its_category():
    found = _encode(
        Event("1", "u", "view", "a", NOON),
        Event("2", "u", "view", "new", NOON, "y"),
        Event("3", "u", "transaction", "new", NOON),
        Event("4", "u", "view", "a", NOON, "y"),
        Event("5", "u", "view", "a", NOON, "unheard"),
    )
    new = VOCAB.place(["new"])[0]
    assert new > len(VOCAB.items)
    assert found.item.tolist() == [1, new, new, 1, 1]
    assert found.category.tolist() == [1, 2, 0, 2, 1]
    assert found.type.tolist() == [0, 0, 1, 0, 0]
    assert len(set(found.item_print.tolist())) == 2
    assert found.event_print.all()


def test_numbers_by_hand():
    time = np.array([NOON, NOON + 6 * HOUR, NOON])
    found = numeric(
        time,
        np.array([0, 999, DAY]),
        np.array([True, False, True]),
        np.array([True, False, False]),
        np.zeros((3, len(AGAIN)), np.float32),
    )
    by_name = dict(zip(NUMERIC, found.T, strict=True))
    assert by_name["log_gap"] == pytest.approx(np.log1p([0, 0.999, 86_400]) / 10)
    assert by_name["opens"].tolist() == [1, 0, 1]
    assert by_name["fresh"].tolist() == [1, 0, 0]
    assert by_name["hour_cos"] == pytest.approx([-1, 0, -1], abs=1e-6)
    assert by_name["hour_sin"] == pytest.approx([0, -1, 0], abs=1e-6)
    thursday_noon = 2 * np.pi * 3.5 / 7
    assert by_name["weekday_sin"][0] == pytest.approx(np.sin(thursday_noon), abs=1e-6)
