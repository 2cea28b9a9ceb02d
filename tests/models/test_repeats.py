"""Repeats: training reads off the log what serving reads off a shopper's ring."""

import numpy as np

from models.data.log import gather, vocabulary
from models.data.sequences import Sequences
from models.evaluation.prequential import evaluate
from stream.core.events import Event
from stream.core.features import AGAIN
from tests import fakes
from tests.fakes import DAY, MINUTE, NOON
from tests.models.conftest import MEANING


def test_training_and_serving_agree(log):
    """Spy on the step: row by row its inputs are those that training has, unknown items too."""
    vocab = vocabulary(log.where(log.item % 3 > 0))
    end = int(log.time.max())
    sequences = Sequences(log, vocab, MEANING, end, 64)
    facts = fakes.manifest(horizons=MEANING.horizons)
    seen: list[np.ndarray] = []

    def spy(inputs, hidden):
        seen.append(inputs["numeric"])
        return {"intent": np.zeros((len(inputs["item"]), 2), np.float32)}, hidden

    evaluate(log, sequences, facts, spy, spy, None, int(log.time.min()), end)
    rows = np.concatenate(seen)
    assert len(rows) == len(log)
    assert np.array_equal(rows[np.lexsort(rows.T)], sequences.numeric[np.lexsort(sequences.numeric.T)])


def test_repeats_by_hand():
    rows = [
        (0, "view", "a"),
        (1, "view", "b"),
        (2, "addtocart", "a"),
        (3, "view", "a"),
        (4 + 40 * 24 * 60, "view", "a"),
    ]
    log = gather((Event(f"e{m}", "u", t, i, NOON + m * MINUTE, "c" + i) for m, t, i in rows), timed=True)
    found = Sequences(log, vocabulary(log), MEANING, int(log.time.max()), 64).numeric[:, -len(AGAIN) :]
    by_name = dict(zip(AGAIN, found.T, strict=True))
    assert by_name["item_again"].tolist() == [0, 0, 1 / 8, 2 / 8, 0]  # the last one is away for longer than the TTL
    assert by_name["item_near"].tolist() == [0, 0, 0.5, 1, 0]
    assert by_name["item_wanted"].tolist() == [0, 0, 0, 1, 0]
    assert by_name["category_again"].tolist() == by_name["item_again"].tolist()
    assert np.allclose(by_name["pace"], np.log1p([0, 60, 120, 180, 0]) / 10)
    assert MEANING.ttl < 40 * DAY
