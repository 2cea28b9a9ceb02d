"""The table of pairs: counted as written, and silent about the sequence that is asked about."""

import numpy as np
import pytest

from models.batches import Sequences
from models.covisits import NEAR, OWN, RECENT, WINDOW, Covisits, rings, survey
from models.histories import gather, vocabulary
from stream.core.events import Event
from stream.core.manifest import Meaning
from tests.fakes import NOON
from tests.models.conftest import small_run


def _sequences(lines: list[list[str]]) -> tuple[Sequences, dict[str, int]]:
    events = [
        Event(event_id=f"{u}-{t}", user_id=f"u{u}", type="view", item_id=item, timestamp=NOON + 1000 * u + t)
        for u, line in enumerate(lines)
        for t, item in enumerate(line)
    ]
    log = gather(iter(events), timed=True)
    vocab = vocabulary(log)
    return Sequences(log, vocab, Meaning(), int(log.time.max()), 64), vocab.item_index


def count(sequences: Sequences, items: int) -> tuple[Covisits, np.ndarray]:
    table = survey(sequences, items).table()
    return table, sequences.beside


def test_pairs_count_by_distance_and_direction():
    sequences, index = _sequences([["a", "b", "c"]])
    table, _ = count(sequences, 3)

    def weight(one: str, other: str) -> float:
        row = index[one]
        return float(table.weights[row][table.neighbours[row] == index[other]].sum())

    assert weight("a", "b") == pytest.approx(1 + 1 / 3)
    assert weight("b", "a") == pytest.approx((1 + 1 / 3) / 2)
    assert weight("a", "c") == pytest.approx((1 + 2 / 3) / 2)
    assert weight("c", "a") == pytest.approx((1 + 2 / 3) / 4)
    assert table.mass[index["a"]] == pytest.approx(weight("a", "b") + weight("a", "c"))


def test_a_pair_that_only_its_own_sequence_has_is_unknown():
    sequences, index = _sequences([["a", "b"], ["a", "b"], ["c", "d"]])
    _, beside = count(sequences, 4)
    alone = sequences.item == index["c"]
    assert beside[alone, 0] == 0
    assert beside[alone, 2] == 0
    shared = (sequences.item == index["a"]) & (sequences.target == index["b"])
    assert beside[shared, 0] == pytest.approx(1)


def test_what_is_left_out_is_what_a_table_without_the_sequence_says(log):
    """Recount without one sequence, for several: the same probabilities, up to the cut of the table."""
    sequences, run = small_run(log)
    items = len(run.items)
    _, beside = count(sequences, items)
    ring = rings(sequences)
    place = np.cumsum(np.isin(np.arange(len(sequences.item)), sequences.start)) - 1
    checked = 0
    for group in range(0, place.max(), 20):
        rows = np.flatnonzero(place == group)
        rest = _without(sequences, rows)
        table, _ = count(rest, items)
        for row in rows[(sequences.target[rows] > 0)]:
            recent = ring[row, :WINDOW]
            fading = NEAR ** np.arange(WINDOW)
            hit = (table.weights[recent] * (table.neighbours[recent] == sequences.target[row])).sum(1) * (recent > 0)
            total = (fading * table.mass[recent] * (recent > 0)).sum()
            near = (fading * hit).sum() / total if total > 0 else 0.0
            # A recount shifts the recency of the pairs that remain by a little.
            assert beside[row, 0] == pytest.approx(near, abs=0.02)
            own = OWN ** np.arange(RECENT) * (ring[row] > 0)
            assert beside[row, 1] == pytest.approx(
                (own * (ring[row] == sequences.target[row])).sum() / own.sum(), abs=1e-5
            )
            checked += 1
    assert checked > 30


def _without(sequences: Sequences, rows: np.ndarray) -> Sequences:
    from copy import copy

    rest, keep = copy(sequences), np.ones(len(sequences.item), bool)
    keep[rows] = False
    for name in ("item", "target", "time"):
        setattr(rest, name, getattr(sequences, name)[keep])
    gone = ~keep[sequences.start]
    shift = np.cumsum(~keep)
    rest.start = sequences.start[~gone] - shift[sequences.start[~gone]]
    rest.length = sequences.length[~gone]
    return rest
