"""Changelog records into sessions, those of another model too."""

import msgspec
import numpy as np
import pytest

from stream.bundle.onnx import Bundle
from stream.core import score, session
from stream.core.manifest import Vocabulary
from stream.recommend.cold_items import ColdItem, Table
from stream.scoring.rehydrate import Rehydrator
from stream.state.sessions import SessionStore
from tests.fakes import MINUTE, NOON, events, manifest, step

VOCAB = Vocabulary([], [], [])


def _bundle(**changes: object) -> Bundle:
    facts = msgspec.structs.replace(manifest(), **changes)
    return Bundle(facts, VOCAB, step, step)


def _packed(bundle: Bundle, rows: list[tuple[int, str, int, int]]) -> bytes:
    facts = bundle.manifest
    _, after = score(events(rows), np.zeros(1, session.record(facts)), step, facts)
    return bytes(after[0].tobytes())


def test_records_are_written_in_order_and_tombstones_remove():
    bundle = _bundle()
    reader, store = Rehydrator(bundle), SessionStore(session.record(bundle.manifest))
    old, new = _packed(bundle, [(0, "a", NOON, 1)]), _packed(bundle, [(0, "a", NOON, 1), (0, "b", NOON, 2)])
    reader.apply(store, [(b"uA", old), (b"uB", old), (b"p", b"{}"), (b"uA", new), (b"uB", None), (b"wname", None)])
    assert list(store) == ["A"]
    assert store.get("A").tobytes() == new
    reader.apply(store, [(b"uA", None), (b"uA", old)])
    assert store.get("A").tobytes() == old


def test_unseen_items_come_back_where_they_are_asked_for():
    bundle = _bundle()
    reader, store, table = Rehydrator(bundle), SessionStore(session.record(bundle.manifest)), Table()
    value = b'{"category": 0, "count": 1.5, "last": 9}'
    changes = [(b"inew", value), (b"uA", _packed(bundle, [(0, "a", NOON, 1)])), (b"igone", value), (b"igone", None)]
    reader.apply(store, changes)
    reader.apply(store, changes, table)
    assert list(store) == ["A"]
    assert table.names == ["new"]
    assert table.get("new") == ColdItem(0, 1.5, 9)


@pytest.mark.parametrize("width", [2, 3])
def test_a_record_of_another_model_is_scored_anew_from_its_ring(width: int):
    """Within the ring's length nobody can tell that the model was another one."""
    other = _bundle(model="aa00000000000000", hidden={"h": (2,), "c": (2,)} if width == 2 else {"h": (3,), "c": (3,)})
    mine = _bundle()
    rows = [(0, f"e{i}", NOON + i * 20 * MINUTE, 5) for i in range(6)]
    expected = np.frombuffer(_packed(mine, rows), session.record(mine.manifest))
    facts = other.manifest
    raw = np.zeros(1, session.record(facts))
    for name in raw.dtype.names:
        if name not in ("h", "c", "model"):
            raw[name] = expected[name]
    raw["model"] = facts.fingerprint
    assert VOCAB.newcomer(np.array([4], np.uint64)) == 5
    raw["recent_item"][raw["recent_item"] != 0] = 4  # the fingerprint that item 5 has here
    store = SessionStore(session.record(mine.manifest))
    Rehydrator(mine).apply(store, [(b"uA", raw.tobytes()), (b"uB", expected.tobytes())])
    assert store.get("B").tobytes() == expected.tobytes()
    revived = store.get("A")
    assert revived["h"].tolist() == expected["h"][0].tolist()
    assert revived["model"] == mine.manifest.fingerprint
    for name in ("length", "last", "started", "arrived", "recent_event"):
        assert np.array_equal(revived[name], expected[name][0])


@pytest.mark.parametrize(("types", "kept"), [(("fav", "zip"), True), (("zip", "fav"), False), (("fav",), False)])
def test_a_ring_of_other_types_is_not_read_as_if_they_were_the_same(types: tuple[str, ...], kept: bool):
    """The places in it are another bundle's: a fav there is a zip here. Its shopper starts cold, at the right time."""
    meaning = msgspec.structs.replace(manifest().meaning, types=(*manifest().meaning.types, "fav", "zip"))
    other = msgspec.structs.replace(meaning, types=(*manifest().meaning.types, *types))
    old, mine = _bundle(model="aa00000000000000", meaning=other), _bundle(meaning=meaning)
    store = SessionStore(session.record(mine.manifest))
    Rehydrator(mine).apply(store, [(b"uA", _packed(old, [(0, "a", NOON, 1), (0, "b", NOON + 1, 2)]))])
    revived = store.get("A")
    assert (revived["model"] == mine.manifest.fingerprint) == kept
    assert (revived["recent_event"] != 0).sum() == (2 if kept else 0)
    assert (revived["h"].any(), int(revived["last"])) == (kept, NOON + 1)


def test_a_longer_history_comes_back_from_what_the_ring_holds():
    other, mine = _bundle(model="aa00000000000000"), _bundle()
    rows = [(0, f"e{i}", NOON + i, 0) for i in range(30)]
    store = SessionStore(session.record(mine.manifest))
    Rehydrator(mine).apply(store, [(b"uA", _packed(other, rows))])
    revived = store.get("A")
    assert revived["length"] == 30
    assert revived["started"] == NOON
    assert (revived["recent_event"] != 0).all()


def _former(raw: bytes, bundle: Bundle) -> bytes:
    """Pack a record as the former format has it."""
    now = np.frombuffer(raw, session.record(bundle.manifest))
    held = np.zeros(1, session.record(bundle.manifest, session.FORMER))
    for name in held.dtype.names:
        held[name] = session.times(now) if name == "recent_time" else now[name]
    held["format"], held["model"] = session.FORMER, bundle.manifest.former_fingerprint
    return held.tobytes()


@pytest.mark.parametrize("mixed", [False, True])
def test_records_of_the_former_format_are_the_same_sessions(mixed):
    """Of this model to the bit, alone and among others; of another one, whose types it does not tell, cold ones."""
    mine, other = _bundle(), _bundle(model="aa00000000000000", hidden={"h": (5,)})
    own = [_packed(mine, [(0, f"e{n}{i}", NOON + i * MINUTE, n) for i in range(n)]) for n in range(1, 12)]
    foreign = np.zeros(1, session.record(other.manifest))
    for name in session.heads([own[3]]).dtype.names:
        foreign[name] = session.heads([own[3]])[name]
    foreign["model"] = other.manifest.fingerprint
    written = [(b"uA%d" % n, _former(raw, mine)) for n, raw in enumerate(own)]
    if mixed:
        written += [(b"uF", foreign.tobytes()), (b"uG", _former(foreign.tobytes(), other))]
        written += [(b"uB", own[0]), (b"uA2", own[5])]
    reader, store = Rehydrator(mine), SessionStore(session.record(mine.manifest))
    reader.apply(store, written)
    for n, raw in enumerate(own):
        assert store.get(f"A{n}").tobytes() == (own[5] if mixed and n == 2 else raw)
    if mixed:
        assert store.get("B").tobytes() == own[0]
        warm, cold = store.get("F"), store.get("G")
        assert cold["last"] == warm["last"] > 0
        assert warm["recent_event"].any() and not cold["recent_event"].any()
        assert len(store) == len(own) + 3


def test_tombstones_among_many_records_hold_in_their_order():
    bundle = _bundle()
    reader, store = Rehydrator(bundle), SessionStore(session.record(bundle.manifest))
    raw = _packed(bundle, [(0, "a", NOON, 1)])
    reader.apply(store, [(b"uA", raw), (b"uB", raw)])
    reader.apply(store, [(b"uA", None), (b"uB", None), (b"uB", raw), (b"uC", raw), (b"uC", None), (b"uD", None)])
    assert list(store) == ["B"]


def test_a_record_of_this_model_that_is_too_long_is_refused():
    bundle = _bundle()
    raw = _packed(bundle, [(0, "a", NOON, 1)])
    with pytest.raises(ValueError, match="session record"):
        Rehydrator(bundle).apply(SessionStore(session.record(bundle.manifest)), [(b"uA", raw + b"x")])


def test_bytes_that_are_no_record_are_refused():
    bundle = _bundle()
    with pytest.raises(ValueError, match="session record"):
        Rehydrator(bundle).apply(SessionStore(session.record(bundle.manifest)), [(b"uA", b"\x09junk")])
