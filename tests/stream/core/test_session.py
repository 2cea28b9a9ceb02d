"""Sessions: opened, continued, expired; order, replay, pack and unpack."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import score, session
from stream.core.events import REASONS
from stream.core.session import record
from tests.fakes import DAY, HOUR, MINUTE, NOON, events, manifest, step

LATE, DUPLICATE = REASONS.index("late") + 1, REASONS.index("duplicate") + 1


def _play(rows, facts=None, arrived=None):
    facts = facts or manifest()
    return score(events(rows, arrived), np.zeros(4, record(facts)), step, facts)


def test_a_pause_longer_than_the_gap_opens_a_session():
    times = [NOON, NOON + 30 * MINUTE, NOON + 60 * MINUTE + 1]
    scores, after = _play([(0, f"e{i}", t, 1) for i, t in enumerate(times)])
    assert scores.length.tolist() == [1, 2, 1]
    assert scores.started.tolist() == [NOON, NOON, NOON + 60 * MINUTE + 1]
    assert after["length"][0] == 1
    assert after["h"][0, 0] == pytest.approx((0.5 * 0 + 1 + 1) * 0.5 + 1)


def test_state_is_forgotten_after_the_ttl_by_either_clock():
    facts = manifest(ttl=DAY)
    by_event, _ = _play([(0, "a", NOON, 5), (0, "b", NOON + DAY + 1, 5)], facts)
    first = events([(0, "a", NOON, 5), (0, "b", NOON + 1, 5)])
    first.arrived = np.array([NOON, NOON + DAY + 1])
    by_arrival, after = score(first, np.zeros(1, record(facts)), step, facts)
    for scores in (by_event, by_arrival):
        assert scores.length.tolist() == [1, 1]
        assert scores.intent[0, 0] == scores.intent[1, 0]
    assert after["recent_event"][0, 1] == 0


def test_a_late_event_within_the_allowance_is_scored_and_marked():
    scores, after = _play([(0, "a", NOON, 1), (0, "b", NOON - HOUR, 2), (0, "c", NOON - HOUR - 1, 3)])
    assert scores.outcome.tolist() == [0, 0, LATE]
    assert scores.late.tolist() == [False, True, False]
    assert after["last"][0] == NOON
    assert after["length"][0] == 2


def test_a_duplicate_changes_nothing():
    once, after_once = _play([(0, "a", NOON, 1)])
    twice, after_twice = _play([(0, "a", NOON, 1), (0, "a", NOON + 5, 7)])
    assert twice.outcome.tolist() == [0, DUPLICATE]
    assert after_once.tobytes() == after_twice.tobytes()
    assert once.intent[0, 0] == twice.intent[0, 0]


def test_the_ring_is_bounded():
    facts = manifest(ring=8)
    rows = [(0, f"e{i}", NOON + i, 1) for i in range(9)]
    scores, _ = _play([*rows, (0, "e1", NOON + 9, 1), (0, "e0", NOON + 10, 1)], facts)
    assert scores.outcome.tolist() == [0] * 9 + [DUPLICATE, 0]


moments = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(-2 * HOUR, 3 * DAY), st.integers(0, 9)), max_size=40
)


@given(moments, st.lists(st.integers(1, 10), max_size=40), st.sampled_from(["float16", "float32"]))
def test_any_cut_into_batches_gives_the_same_sessions(moments, cuts, dtype):
    """Replay in batches of any size: outcomes, scores and sessions stay."""
    facts = manifest(dtype, ttl=2 * DAY)
    rows = [(slot, f"e{event}", NOON + offset, item) for slot, event, offset, item in moments]
    whole, after_whole = _play(rows, facts)
    after, begin, outcomes, intents = np.zeros(4, record(facts)), 0, [], []
    for size in [*cuts, len(rows)]:
        part = rows[begin : begin + size]
        if part:
            scores, after = score(events(part), after, step, facts)
            outcomes += scores.outcome.tolist()
            intents += scores.intent[:, 0].tolist()
        begin += size
    assert after.tobytes() == after_whole.tobytes()
    assert outcomes == whole.outcome.tolist()
    assert intents == whole.intent[:, 0].tolist()


@given(moments)
def test_shoppers_do_not_touch_each_other(moments):
    """Take one shopper out of the stream: their session is what it was in company."""
    facts = manifest()
    rows = [(slot, f"e{event}", NOON + offset, item) for slot, event, offset, item in moments]
    _, together = _play(rows, facts)
    for slot in range(4):
        _, alone = _play([row for row in rows if row[0] == slot], facts)
        assert alone[slot].tobytes() == together[slot].tobytes()


@given(moments, st.sampled_from(["float16", "float32"]))
def test_pack_and_unpack_is_the_identity(moments, dtype):
    facts = manifest(dtype)
    _, after = _play([(slot, f"e{event}", NOON + offset, item) for slot, event, offset, item in moments], facts)
    for one in after:
        raw = one.tobytes()
        assert np.frombuffer(raw, record(facts))[0].tobytes() == raw
        if one["model"]:
            head = session.heads([raw])
            assert session.times(head)[0].tolist() == session.times(one).tolist()
            assert head["last"][0] == one["last"]


@given(moments)
def test_the_ring_has_the_times_of_its_events(moments):
    """Also where a shopper is away for longer than any number of 32 bits of ms."""
    facts = manifest(ttl=100_000 * DAY)
    scores, after = _play([(0, f"e{i}", NOON + offset * 70, 1) for i, (*_, offset, _) in enumerate(moments)], facts)
    taken = [
        NOON + offset * 70 for (*_, offset, _), outcome in zip(moments, scores.outcome, strict=True) if not outcome
    ]
    held = (after["recent_event"][0] != 0).sum()
    assert session.times(after)[0, :held].tolist() == taken[::-1][:8]


def _former(now: session.Sessions, facts) -> bytes:
    """Pack a record as it was before there was an era."""
    held = np.zeros(1, record(facts, session.FORMER))
    for name in held.dtype.names:
        held[name] = session.times(now) if name == "recent_time" else now[name]
    held["format"], held["recent_category"] = session.FORMER, now["recent_category"] + np.uint64(7 << 32)
    return held.tobytes()


@given(moments, st.sampled_from(["float16", "float32"]))
def test_a_record_of_the_former_format_is_the_same_session(moments, dtype):
    facts = manifest(dtype)
    _, after = _play([(0, f"e{event}", NOON + offset, item) for _, event, offset, item in moments], facts)
    now = after[:1]
    if now["model"][0]:
        raw = _former(now, facts)
        assert session.unpack([raw, raw], facts)[1].tobytes() == now.tobytes()
        head = session.heads([raw])
        assert head.tobytes() == now.tobytes()[: head.itemsize]


@pytest.mark.parametrize(
    "raw", [b"", b"\x02", b"\x03\x08" + bytes(400), b"\x01\x08" + bytes(250), b"\x02\x08" + bytes(10)]
)
def test_a_record_that_is_none_is_refused(raw):
    with pytest.raises(ValueError, match="session record"):
        session.heads([raw])


@pytest.mark.parametrize("size", [-1, 1])
def test_a_record_of_another_size_is_refused(size):
    _, after = _play([(0, "a", NOON, 1)])
    raw = (after[:1].tobytes() + b"\0")[: after.itemsize + size]
    with pytest.raises(ValueError, match="session record"):
        session.unpack([raw], manifest())


def test_a_shopper_is_known_since_its_oldest_event_of_another_item():
    _, after = _play([(0, "a", NOON, 8), (0, "b", NOON + 5, 9), (0, "c", NOON + 3, 7), (1, "d", NOON, 8)])
    since = session.since(after[[0, 0, 1, 2]], np.array([8, 9, 8, 8], np.uint64) + np.uint64(1))
    assert since.tolist() == [NOON + 3, NOON, session.NEVER, session.NEVER]
