"""Neighbouring sessions: against the papers' formulas written out, and each event alone."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.baselines.session_knn import LONGEST, WAYS, SessionKnn, Way, manifest
from models.data.log import gather, vocabulary
from models.data.sequences import Sequences
from models.evaluation.prequential import evaluate
from stream.core.events import Event
from tests.fakes import MINUTE, NOON
from tests.models.conftest import MEANING

ITEMS, K = 7, 20
sessions = st.lists(st.lists(st.integers(1, ITEMS), min_size=1, max_size=6), min_size=1, max_size=12)
so_far = st.lists(st.integers(0, ITEMS), min_size=1, max_size=6)


def _log(lines):
    """Make a log of sessions, each its own shopper's, every item of the catalog in the first one."""
    lines = [list(range(1, ITEMS + 1)), *lines]
    rows = [(n, place, item) for n, line in enumerate(lines) for place, item in enumerate(line)]
    events = (Event(f"{n}-{p}", f"u{n:03}", "view", str(i), NOON + n * MINUTE) for n, p, i in rows)
    return gather(events, timed=False)


def _neighbours(lines) -> SessionKnn:
    log = _log(lines)
    return SessionKnn(Sequences(log, vocabulary(log), MEANING, int(log.time.max()), 64), ITEMS)


def _ring(session) -> np.ndarray:
    newest_first = [item or -1 for item in reversed(session)]
    return np.array(newest_first + [0] * (LONGEST - len(session)))


def _scores(lines, session, way: Way) -> dict[int, float]:
    """Score by the formulas, one session at a time (items counted from 1 in time, as in the papers)."""
    lines = [list(range(1, ITEMS + 1)), *lines]
    last = {item: place for place, item in enumerate(session, 1) if item}
    similar = {}
    for n in reversed(range(len(lines))):
        shared = last.keys() & set(lines[n])
        if not shared or len(similar) == way.newest:
            continue
        if way.decay is None:
            value = sum(last[i] / len(session) for i in shared)
        else:
            value = sum(np.exp((last[i] - len(session)) / way.decay) for i in shared)
        if way.cosine:
            value /= np.sqrt(len(set(lines[n])))
        similar[n] = value * np.exp(-((len(lines) - n) / len(lines)) / way.aging)
    scores = defaultdict(float)
    for n in sorted(similar, key=lambda n: (-round(similar[n], 9), -n))[: way.k]:
        place = {item: at for at, item in enumerate(lines[n])}
        shared = max(last.keys() & place.keys(), key=last.__getitem__)
        for item, at in place.items():
            scores[item] += similar[n] * np.exp(-abs(at - place[shared]) / way.distance)
    return scores


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("size", [{}, {"newest": 4}, {"k": 3}])
@given(lines=sessions, session=so_far)
def test_scores_are_those_of_the_formulas(name, size, lines, session):
    way = replace(WAYS[name], **size)
    expected = _scores(lines, session, way)
    items, scores = _neighbours(lines).rank(_ring(session)[None], way, ITEMS)
    found = {item: score for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True) if item}
    if size.get("k") and len({round(v, 6) for v in found.values()}) < len(found):
        return  # among equally similar sessions rounding chooses
    assert found == pytest.approx(dict(expected), rel=1e-5)
    assert (np.diff(scores[0]) <= 0).all()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@given(lines=sessions, asked=st.lists(so_far, min_size=1, max_size=8))
def test_no_instance_sees_another(way, lines, asked):
    neighbours = _neighbours(lines)
    rings = np.stack([_ring(session) for session in asked])
    items, scores = neighbours.rank(rings, way, K)
    for row, ring in enumerate(rings):
        alone_items, alone_scores = neighbours.rank(ring[None], way, K)
        assert np.array_equal(items[row], alone_items[0])
        assert np.array_equal(scores[row], alone_scores[0])


def test_the_state_is_the_session_and_a_pause_ends_it():
    log = _log([[1, 2], [3, 2, 4]])
    neighbours = SessionKnn(Sequences(log, vocabulary(log), MEANING, int(log.time.max()), 64), ITEMS)
    step = neighbours.step(WAYS["STAN"], K, recommend=False)
    recent = np.zeros((1, LONGEST), np.int64)
    for item, opens, expected in [(3, 1, [3]), (0, 0, [-1, 3]), (2, 0, [2, -1, 3]), (5, 1, [5])]:
        numbers = np.zeros((1, 7), np.float32)
        numbers[0, 1] = opens
        _, state = step({"item": np.array([item]), "numeric": numbers}, {"recent": recent})
        recent = state["recent"]
        assert recent[0, : len(expected)].tolist() == expected
        assert not recent[0, len(expected) :].any()


def test_sessions_of_one_shopper_are_neighbours_of_their_own():
    """Two sessions a day apart: items of one are not near those of the other."""
    rows = [("a", 0, "1"), ("a", 1, "2"), ("a", 1440, "3"), ("a", 1441, "4")]
    log = gather((Event(f"e{m}", u, "view", i, NOON + m * MINUTE) for u, m, i in rows), timed=True)
    neighbours = SessionKnn(Sequences(log, vocabulary(log), MEANING, int(log.time.max()), 64), 4)
    items, _ = neighbours.rank(_ring([1])[None], WAYS["V-SkNN"], 4)
    assert sorted(items[0].tolist()) == [0, 0, 1, 2]


def test_a_log_is_evaluated_and_its_later_events_teach_nothing():
    """Nothing of the measured events is in the table: an item seen there alone is never listed."""
    log = _log([[1, 2], [1, 2], [1, 6], [1, 6]])
    since = NOON + 3 * MINUTE
    before = log.where(log.time < since)
    vocab = vocabulary(log)
    neighbours = SessionKnn(Sequences(before, vocab, MEANING, since, 64), ITEMS)
    whole = Sequences(log, vocab, MEANING, int(log.time.max()), 64)
    warm, step = (neighbours.step(WAYS["STAN"], K, recommend) for recommend in (False, True))
    found = evaluate(log, whole, manifest(MEANING, ITEMS, 0), warm, step, None, since, int(log.time.max()))
    assert len(found.rank) == 2
    assert found.rank[0] == found.rank[1] > 2
