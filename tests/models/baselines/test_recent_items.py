"""The shopper's own last items, by hand and through the evaluation."""

import numpy as np
import pytest

from models.baselines import recent_items
from models.data.log import gather, vocabulary
from models.data.sequences import Sequences
from models.evaluation.prequential import evaluate, summary
from stream.core.events import Event
from tests.fakes import MINUTE, NOON
from tests.models.conftest import MEANING

RATE = np.array([0.1, 0.2], np.float32)


def _after(items: list[int], width: int = 4) -> tuple[list[int], list[float]]:
    state = {"recent": np.zeros((1, width), np.int32)}
    for item in items:
        outputs, state = recent_items.step(RATE)({"item": np.array([item])}, state)
    return outputs["items"][0].tolist(), outputs["item_scores"][0].tolist()


def test_items_are_distinct_and_the_newest_is_first():
    assert _after([7, 5, 7, 9]) == ([9, 7, 5, 0], [4, 3, 2, 0])
    assert _after([1, 2, 3, 4, 5, 3])[0] == [3, 5, 4, 2]


@pytest.mark.usefixtures("few_suffice")
def test_what_a_shopper_comes_back_to_is_found_in_training_or_not():
    rows = [("a", 0, "1"), ("b", 1, "2"), ("a", 6, "new"), ("a", 7, "1"), ("a", 8, "new"), ("b", 9, "new")]
    log = gather((Event(f"e{m}", u, "view", i, NOON + m * MINUTE) for u, m, i in rows), timed=True)
    vocab, end = vocabulary(log.where(log.time < NOON + 5 * MINUTE)), int(log.time.max())
    whole = Sequences(log, vocab, MEANING, end, 64)
    facts, step = recent_items.manifest(MEANING, len(vocab.items), 0), recent_items.step(RATE)
    found = evaluate(log, whole, facts, step, step, None, NOON, end)
    # Asked of a: new, 1, new; of b: new, which b has not met.
    assert found.rank.tolist() == [0, 2, 2, 0]
    assert found.fresh.tolist() == [True, False, False, True]
    told = summary(found, MEANING.k, MEANING.horizons)
    assert (told["hr@20"], told["hr@20_new"], told["targets_new"]) == (0.5, 0, 2)
