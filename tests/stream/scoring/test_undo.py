"""Chunks taken back: what comes after is what comes to a partition that never saw them, bit for bit."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bundle.onnx import Bundle
from stream.core.events import Event
from stream.core.manifest import ColdStart, Vocabulary
from stream.recommend.cold_items import ColdItem
from stream.recommend.cold_ranking import ByCategory
from stream.records import Limits
from stream.scoring.offline import Line
from stream.scoring.scorer import ChunkResult, Partition, Scorer
from stream.scoring.undo import noting
from stream.state.sessions import SessionStore
from tests.fakes import MINUTE, NOON, manifest, step

VOCABULARY = Vocabulary([f"i{n}" for n in range(1, 10)], ["x"], [1] * 9)
TTL = 24 * MINUTE  # sweeps come each minute
USERS, ITEMS = [f"u{n}" for n in range(9)], ["i1", "i2", *(f"new{n}" for n in range(7))]
Chunk = list[tuple[str, str, int, bool]]


def _asking(inputs: Any, hidden: Any) -> Any:
    outputs, state = step(inputs, hidden)
    n = len(inputs["item"])
    recent = np.stack([inputs["item"], np.zeros(n, np.int64)], 1)
    listed = {"items": np.tile([3, 1], (n, 1)), "item_scores": np.tile(np.float32([0.2, 0.1]), (n, 1))}
    answers = {"query": np.ones((n, 2), "f4"), "others": np.full(n, 0.5, "f4"), "own": np.zeros((n, 2), "f4")}
    return {**outputs, **listed, **answers, "recent": recent}, state


def _scorer(most: int) -> Scorer:
    novelty = ColdStart(bias=0.0, limit=3, half_life=float(MINUTE))
    facts = msgspec.structs.replace(manifest(ttl=TTL, gap=MINUTE), novelty=novelty)
    bundle = Bundle(facts, VOCABULARY, step, _asking, ByCategory(np.ones((4, 2), "f4"), 0.0))
    return Scorer(bundle, True, Limits(2000, 500, 10**9), "events", most=most)


class Place:
    """A partition with a log of its own."""

    def __init__(self, most: int = 0) -> None:
        self.scorer = _scorer(most)
        self.part = Partition(3, SessionStore(self.scorer.layout))
        self.part.newcomers.stale["i9"] = None
        self.part.newcomers.put("new0", int(VOCABULARY.place(["new0"])[0]), 0, ColdItem(0, 2.0, NOON))

    def lines(self, chunk: Chunk, first: int) -> list[Line]:
        """Make records from (user, item, time in ms, whether it is an event)."""
        lines = []
        for n, (user, item, time, fit) in enumerate(chunk, first):
            value = msgspec.json.encode(Event(f"e{time}-{item}", user, "view", item, time)) if fit else b"{"
            lines.append(Line(n, time, user.encode(), value, []))
        return lines

    def score(self, chunk: Chunk, first: int) -> tuple[ChunkResult, Any]:
        """Score a chunk; return what it comes to, and what takes it back."""
        lines = self.lines(chunk, first)
        with noting(self.part, len(lines)) as undo:
            work = self.scorer.process(self.part, lines, NOON + 10**9)
        self.part.position = first + len(lines)
        return work, undo

    def facts(self) -> Any:
        """Return all that can be seen of a partition."""
        part = self.part
        store, table = part.store, part.newcomers
        sessions = {user: found.tobytes() for user in sorted(store) if (found := store.get(user)) is not None}
        rows = {column: getattr(table, column)[: len(table)].tobytes() for column in ("index", "count", "last")}
        return (part.position, part.clock, part.swept, sessions, list(table.names), list(table.stale), rows, len(store))


def _said(work: ChunkResult) -> Any:
    return work.scores, work.dead, work.changes, work.rejected, work.evicted, work.displaced, work.intent.tolist()


rows = st.tuples(st.sampled_from(USERS), st.sampled_from(ITEMS), st.integers(0, 200), st.integers(0, 9).map(bool))
chunks = st.lists(st.lists(rows, max_size=8), max_size=6)


def _timed(given_: list[list[tuple[str, str, int, bool]]], start: int) -> list[Chunk]:
    """Give rows record times that go on by up to 200 quarters of a minute from row to row, and back now and then."""
    found, now = [], start
    for chunk in given_:
        timed = []
        for user, item, ahead, fit in chunk:
            now += (ahead - 20) * MINUTE // 8
            timed.append((user, item, now, fit))
        found.append(timed)
    return found


@given(chunks, chunks, chunks, st.sampled_from([0, 1, 2, 4, 6]))
def test_what_comes_after_is_what_comes_to_one_that_never_saw_them(before, taken, after, most):
    seen, unseen = Place(most), Place(most)
    whole = [_timed(some, NOON + n * 10 * TTL) for n, some in enumerate((before, taken, after))]
    at = 0
    for chunk in whole[0]:
        assert _said(seen.score(chunk, at)[0]) == _said(unseen.score(chunk, at)[0])
        at += len(chunk)
    undos, then = [], at
    for chunk in whole[1]:
        undos.append(seen.score(chunk, then)[1])
        then += len(chunk)
    for undo in reversed(undos):
        undo.take_back()
    assert seen.facts() == unseen.facts()
    for chunk in whole[2]:
        assert _said(seen.score(chunk, at)[0]) == _said(unseen.score(chunk, at)[0])
        assert seen.facts() == unseen.facts()
        at += len(chunk)


def _chunk(users: Sequence[str], time: int) -> Chunk:
    return [(user, "i1", time + n, True) for n, user in enumerate(users)]


def test_all_that_a_chunk_can_do_was_done():
    """The property above is about something: a chunk evicts, gives slots again, and cuts the table of items."""
    place = Place()
    place.score(_chunk(USERS, NOON), 0)
    was = place.facts()
    chunk = [(f"other{n}", f"new{n}", NOON + 2 * TTL + n, True) for n in range(7)]
    work, undo = place.score(chunk, 9)
    assert work.evicted == len(USERS)
    assert {change.key for change in work.changes if change.value is None} > {b"uu0", b"inew0"}
    _, later = place.score([("again", "i2", NOON + 2 * TTL + 99, True)], 16)
    assert len(place.part.store) == 8
    later.take_back()
    undo.take_back()
    assert place.facts() == was


def test_thousands_of_names_and_slots_come_back():
    """The table of names is laid out anew meanwhile, and the records move."""
    place, other = Place(), Place()
    many = [f"user{n}" for n in range(5000)]
    for one in (place, other):
        one.score(_chunk(USERS, NOON), 0)
    work, undo = place.score(_chunk(many, NOON + 2 * TTL), 9)
    assert work.evicted == len(USERS)
    undo.take_back()
    assert place.facts() == other.facts()
    again = _chunk([*many[::-1], *USERS], NOON + 3 * TTL)
    assert _said(place.score(again, 9)[0]) == _said(other.score(again, 9)[0])
    assert place.facts() == other.facts()


def test_a_chunk_evicts_no_more_than_a_round_has_room_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stream.scoring.scorer._EVICTED", 4)
    place = Place()
    place.score(_chunk(USERS, NOON), 0)
    gone = [place.score([("new", "i1", NOON + 2 * TTL + n, True)], 9 + n)[0].evicted for n in range(4)]
    assert gone == [4, 4, 1, 0]


def test_what_changes_outside_of_a_chunk_is_not_noted():
    place = Place()
    _, undo = place.score(_chunk(["a"], NOON), 0)
    place.part.store.remove(["a"])
    place.part.store.put(["b"], np.zeros(1, place.scorer.layout))
    assert len(undo.changes.undo) == 2
