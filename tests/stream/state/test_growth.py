"""Where users' states belong once partitions grow, and how far a growth has come."""

from collections import Counter

import pytest

from stream.core.errors import PositionError, SettingError
from stream.kafka.growth.states import partitioner_hash
from stream.state.growth import Growth, plan_growth
from stream.state.position import Position

HASHES = [partitioner_hash(b"user-%d" % n) for n in range(1_000)]


def _positions(count: int, *, told: int | None = None, growing: tuple[int, ...] = ()) -> dict[int, Position]:
    return {n: Position("in", 10 + n, 7, "log", count if told is None else told, growing) for n in range(count)}


def _move(states: dict[int, int], growth: Growth, users: list[int]) -> None:
    for user in users:
        if (place := growth.place(HASHES[user], states[user])) is not None:
            states[user] = place


@pytest.mark.parametrize(
    ("key", "found"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_the_hash_is_that_of_java(key: bytes, found: int):
    """The values stand in Kafka's own tests of `Utils.murmur2`."""
    assert partitioner_hash(key) == found & 0x7FFFFFFF


@pytest.mark.parametrize(("old", "new"), [(1, 2), (2, 3), (3, 4), (2, 4), (2, 5)])
def test_every_user_comes_to_where_the_key_goes_whatever_was_moved_before(old: int, new: int):
    states = {user: HASHES[user] % old for user in range(1_000)}
    _move(states, plan_growth(old, old, _positions(old), new), list(range(0, 1_000, 3)))
    again = plan_growth(new, new, _positions(old, growing=(new,)), None)
    assert (again.old, again.target) == (old, new)
    _move(states, again, list(range(1_000)))
    assert all(states[user] == HASHES[user] % new for user in states)
    assert len(Counter(states.values())) == new


def test_a_growth_that_did_not_end_may_go_on_to_more():
    states = {user: HASHES[user] % 2 for user in range(1_000)}
    _move(states, plan_growth(2, 2, _positions(2), 3), list(range(500)))
    further = plan_growth(3, 3, _positions(2, growing=(3,)), 5)
    assert (further.counts, further.sources) == ((2, 3), range(3))
    assert {position.growing for position in further.marked().values()} == {(3, 5)}
    _move(states, further, list(range(1_000)))
    assert all(states[user] == HASHES[user] % 5 for user in states)


def test_a_state_that_no_count_brings_there_is_left():
    growth = plan_growth(2, 2, _positions(2), 3)
    assert growth.place(5, 0) is None
    assert growth.place(5, 1) == 2


def test_the_positions_tell_the_old_count_while_it_runs_and_then_the_new_one():
    """Records of before 2026-11-28 tell none: the mark writes it down, so that no worker takes them for good."""
    growth = plan_growth(4, 2, _positions(2, told=0), None)
    assert growth.marked() == _positions(2, growing=(4,))
    old = {n: Position("in", 10 + n, 7, "log", 4) for n in range(2)}
    assert growth.grown("in", "log") == {**old, **{n: Position("in", 0, 0, "log", 4) for n in (2, 3)}}


@pytest.mark.parametrize(
    ("events", "changelog", "positions", "wanted", "found"),
    [
        (2, 2, _positions(2), None, (2, 2, True)),
        (2, 2, _positions(2), 5, (2, 5, False)),
        (4, 2, _positions(2), None, (2, 4, False)),
        (4, 4, _positions(2), None, (2, 4, False)),
        (2, 4, _positions(2), None, (2, 4, False)),
        (4, 4, _positions(4, growing=()), None, (4, 4, True)),
        (3, 3, _positions(2, growing=(3,)), None, (2, 3, False)),
        (2, 2, _positions(2, growing=(3,)), None, (2, 3, False)),
        (3, 2, {}, None, (2, 3, False)),
        (3, 3, {}, None, (3, 3, True)),
    ],
)
def test_how_far_a_growth_has_come(
    events: int, changelog: int, positions: dict[int, Position], wanted: int | None, found: tuple[int, int, bool]
):
    growth = plan_growth(events, changelog, positions, wanted)
    assert (growth.old, growth.target, growth.done) == found


def test_partitions_are_not_taken_away():
    for events, changelog, growing in ((4, 2, ()), (2, 4, ()), (2, 2, (4,))):
        with pytest.raises(SettingError, match="less than 4"):
            plan_growth(events, changelog, _positions(2, growing=growing), 3)


@pytest.mark.parametrize(
    "positions",
    [{1: Position("in", 1, 0, "log", 2)}, {0: Position("in", 1, 0, "log", 2), 1: Position("in", 1, 0, "log", 3)}],
)
def test_positions_that_do_not_fit_together_are_refused(positions: dict[int, Position]):
    with pytest.raises(PositionError, match="has positions of the partitions"):
        plan_growth(2, 2, positions, 4)
