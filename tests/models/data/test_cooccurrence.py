"""The tables of pairs: counted as written, and silent about the sequence that is asked about."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.data.cooccurrence import FAR, NEAR, OWN, RECENT, Reach, Table, rings
from models.data.cooccurrence import beside as say
from models.data.cooccurrence import count as tally
from models.data.log import gather, vocabulary
from models.data.sequences import Sequences
from stream.core.events import Event
from stream.core.manifest import TaskSpec
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
    return Sequences(log, vocab, TaskSpec(), int(log.time.max()), 64), vocab.item_index


def count(sequences: Sequences, items: int) -> tuple[dict[str, Table], np.ndarray]:
    """Return a log's tables, and what those without an event's own sequence say."""
    counted = tally(sequences, items)
    return counted.tables(), say(sequences, counted.apart())


def _weight(table: Table, one: int, other: int) -> float:
    return float(table.weights[one][table.neighbours[one] == other].sum())


def test_pairs_count_by_distance_and_direction():
    sequences, index = _sequences([["a", "b", "c"]])
    table = count(sequences, 3)[0][NEAR.name]
    a, b, c = (index[name] for name in "abc")
    assert _weight(table, a, b) == pytest.approx(1 + 1 / 3)
    assert _weight(table, b, a) == pytest.approx((1 + 1 / 3) / 2)
    assert _weight(table, a, c) == pytest.approx((1 + 2 / 3) / 2)
    assert _weight(table, c, a) == pytest.approx((1 + 2 / 3) / 4)
    assert table.mass[a] == pytest.approx(_weight(table, a, b) + _weight(table, a, c))


def test_two_steps_of_the_walk_reach_what_was_never_seen_together():
    sequences, index = _sequences([["a", "b"], ["b", "c"]])
    tables, _ = count(sequences, 3)
    near, far = tables[NEAR.name], tables[FAR.name]
    a, b, c = (index[name] for name in "abc")
    assert _weight(near, a, c) == 0
    to_c = _weight(near, b, c)
    assert _weight(far, a, c) == pytest.approx(to_c / (to_c + _weight(near, b, a)))
    assert _weight(far, a, a) == 0  # repeats are an answer of their own


def test_a_pair_that_only_its_own_sequence_has_is_unknown():
    sequences, index = _sequences([["a", "b"], ["a", "b"], ["c", "d"]])
    _, beside = count(sequences, 4)
    alone = sequences.item == index["c"]
    assert not beside[alone][:, [0, 1, 3, 4]].any()
    shared = (sequences.item == index["a"]) & (sequences.target == index["b"])
    assert beside[shared, 0] == pytest.approx(1)
    assert (beside[shared, 3] > 0).all()


def test_no_sequence_changes_what_is_said_of_it(log):
    """Replace the items of one sequence: what its fold's tables say of another one of the fold stays the same."""
    sequences, run = small_run(log)
    items = len(run.items)
    _, beside = count(sequences, items)
    group = np.cumsum(np.isin(np.arange(len(sequences.item)), sequences.start)) - 1
    changed = group == 5
    sequences.item = np.where(changed, 1, sequences.item)
    sequences.target = np.where(changed, 1, sequences.target)
    _, other = count(sequences, items)
    same_fold = (group % 5 == 0) & ~changed
    assert np.allclose(beside[same_fold], other[same_fold], atol=1e-6)
    assert not np.allclose(beside[~same_fold & ~changed], other[~same_fold & ~changed], atol=1e-6)


def test_what_recent_items_say_of_themselves(log):
    sequences, run = small_run(log)
    _, beside = count(sequences, len(run.items))
    ring = rings(sequences)
    for row in np.flatnonzero(sequences.target > 0)[:200]:
        own = OWN ** np.arange(RECENT) * (ring[row] > 0)
        expected = (own * (ring[row] == sequences.target[row])).sum() / own.sum()
        assert beside[row, 2] == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_the_answer_for_all_targets_is_a_distribution(seed):
    random = np.random.default_rng(seed)
    reach, items = Reach("some", 3, 0.5, 4), 6
    neighbours = np.zeros((items + 1, 4), np.int32)
    neighbours[1:] = [random.permutation(items)[:4] + 1 for _ in range(items)]
    weights = random.random((items + 1, 4)).astype(np.float32) * (neighbours > 0)
    recent = random.integers(1, items + 1, (1, RECENT)).repeat(items, 0)
    said, support = Table(neighbours, weights).ask(reach, recent, np.arange(1, items + 1))
    assert said.sum() == pytest.approx(1, abs=1e-5)
    assert support == pytest.approx((weights.sum(1)[recent[0, :3]] * [1, 0.5, 0.25]).sum(), rel=1e-5)


def test_popularity_tells_the_latest_from_the_whole(log):
    sequences, run = small_run(log)
    found = tally(sequences, len(run.items)).popularity()
    assert not found[0].any()
    assert found[1:].mean(0) == pytest.approx(0, abs=1e-4)
    seen = np.bincount(sequences.item, minlength=len(found))
    assert (np.argsort(seen[1:], kind="stable") == np.argsort(found[1:, 0], kind="stable")).all()
    assert not np.allclose(found[:, 0], found[:, 1])
