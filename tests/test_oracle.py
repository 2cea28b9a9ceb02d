"""The oracle finds what it is there for: each case spoils one thing in topics that are right."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.fakes import DAY, NOON
from tests.kafka.oracle import Finding, Reading, Record, Replay, assert_exactly_once, examine, resumed
from tests.kafka.reader import spans_between

USERS = ("a", "b", "c")
EACH = 6  # input records of a partition, the last of them bad
LAYOUT = np.dtype([("length", "<u4"), ("arrived", "<i8"), ("drift", "<f2"), ("h", "<f2", (2,))])


def session(h: float = 0.5, length: int = 2, arrived: int = NOON, drift: float = 0) -> np.void:
    return np.array([(length, arrived, drift, (h, 1))], LAYOUT)[0]


def whose(number: int, offset: int) -> str:
    return f"{USERS[offset % 3]}{number}"


def event(number: int, offset: int) -> Record:
    user = whose(number, offset).encode()
    return Record(number, offset, NOON + 1000 * offset, user, b"event-%d-%d" % (number, offset))


def score(number: int, offset: int, at: int | None = None, user: str | None = None, home: int | None = None) -> Record:
    """Make the score of an input record, half a second later, at place `at` of its partition."""
    user, at = user or whose(number, offset), offset if at is None else at
    value = {"user_id": user, "source": {"partition": number, "offset": offset}, "scored_at": NOON}
    home = number if home is None else home
    return Record(home, at, NOON + 1000 * offset + 500, user.encode(), json.dumps(value).encode())


def letter(number: int, offset: int) -> Record:
    headers = [("forecart-partition", b"%d" % number), ("forecart-offset", b"%d" % offset)]
    return Record(number, offset, NOON + 1000 * offset + 500, None, b"", headers)


def position(number: int, at: int, offset: int) -> Record:
    return Record(number, at, NOON, b"p", json.dumps({"topic_id": "x", "offset": offset}).encode())


EVENTS = [event(number, offset) for number in range(2) for offset in range(EACH)]
SESSIONS = {(number, whose(number, n).encode()): session() for number in range(2) for n in range(3)}
REPLAY = Replay(SESSIONS, {0: NOON, 1: NOON}, 30 * DAY)
RIGHT = Reading(
    events=EVENTS,
    scores=[score(number, offset) for number in range(2) for offset in range(EACH - 1)],
    dead_letters=[letter(number, EACH - 1) for number in range(2)],
    changelog=[
        record
        for number in range(2)
        for record in (
            position(number, 0, 3),
            *(Record(number, 1 + n, NOON, b"u" + whose(number, n).encode(), session().tobytes()) for n in range(3)),
            position(number, 4, EACH),
        )
    ],
    begins={0: 0, 1: 0},
    ends={0: EACH, 1: EACH},
    committed={0: EACH, 1: EACH},
)


def changed(number: int, user: str, now: np.void | bytes | None) -> list[Record]:
    """Return the changelog with another last record of a user."""
    value = now.tobytes() if isinstance(now, np.void) else now
    return [*RIGHT.changelog, Record(number, 9, NOON, b"u" + user.encode(), value)]


def without(records: list[Record], *places: tuple[int, int]) -> list[Record]:
    return [record for record in records if record.place not in places]


def test_what_is_right_is_found_right():
    found = examine(RIGHT, EVENTS, REPLAY, faults=3)
    assert found == Finding(want=12, faults=3, sessions=6, gone=0, gap=0.5)
    assert_exactly_once(found, at_least=12, sessions=6)
    told = "12 events, 3 faults: 0 lost, 0 twice, worst gap 0.5 s; 6 of 6 sessions equal bit for bit"
    assert str(found) == told


SWAPPED = {(0, 1): (0, 2), (0, 2): (0, 1)}
SPOILED: dict[str, tuple[Reading, dict[str, int]]] = {
    "a score is lost": (replace(RIGHT, scores=without(RIGHT.scores, (0, 4))), {"lost": 1, "beyond": 2}),
    "a dead letter is lost": (replace(RIGHT, dead_letters=[letter(0, 5)]), {"lost": 1, "beyond": 2}),
    "a score comes twice": (replace(RIGHT, scores=[*RIGHT.scores, score(0, 2, 5)]), {"twice": 1, "reordered": 1}),
    "a dead letter comes twice": (
        replace(RIGHT, dead_letters=[*RIGHT.dead_letters, letter(0, 5)._replace(offset=6)]),
        {"twice": 1},
    ),
    "a score and a dead letter of one": (
        replace(RIGHT, dead_letters=[*RIGHT.dead_letters, letter(1, 0)]),
        {"twice": 1},
    ),
    "an outcome of no input": (
        replace(RIGHT, scores=[*RIGHT.scores, score(1, 7)]),
        {"alien": 1, "uncovered": 1},
    ),
    "a session of no input": (replace(RIGHT, changelog=changed(0, "nobody", session())), {"alien": 1}),
    "a position of no input": (replace(RIGHT, changelog=[*RIGHT.changelog, position(1, 8, EACH + 1)]), {"alien": 1}),
    "a position of no partition": (replace(RIGHT, changelog=[*RIGHT.changelog, position(2, 0, 1)]), {"alien": 1}),
    "two of a source in the wrong order": (
        replace(
            RIGHT,
            scores=[score(*record.place, SWAPPED.get(record.place, record.place)[1]) for record in EVENTS[:5]]
            + [score(1, offset) for offset in range(EACH - 1)],
        ),
        {"reordered": 1},
    ),
    "a user's scores in two partitions": (
        replace(RIGHT, scores=[*without(RIGHT.scores, (0, 3)), score(0, 3, 9, home=1)]),
        {"reordered": 1},
    ),
    "a session that is another": (
        replace(RIGHT, changelog=changed(0, "a0", session(length=3))),
        {"differing": 1, "far": 1},
    ),
    "a session that is another by its state": (
        replace(RIGHT, changelog=changed(0, "a0", session(0.504))),
        {"differing": 1, "far": 1},
    ),
    "a session of another size": (replace(RIGHT, changelog=changed(0, "a0", b"short")), {"differing": 1, "far": 1}),
    "a session that is missing": (replace(RIGHT, changelog=changed(0, "a0", None)), {"differing": 1, "far": 1}),
    "a session that is no number": (
        replace(RIGHT, changelog=changed(1, "b1", session(float("nan")))),
        {"differing": 1, "far": 1},
    ),
    "a session that moved without end": (
        replace(RIGHT, changelog=changed(0, "a0", session(drift=9999))),
        {"differing": 1, "far": 1},
    ),
    "a session that moved by no number": (
        replace(RIGHT, changelog=changed(0, "a0", session(drift=float("nan")))),
        {"differing": 1, "far": 1},
    ),
    "an offset beyond what is scored": (
        replace(
            RIGHT,
            scores=without(RIGHT.scores, (0, 4)),
            dead_letters=[letter(1, 5)],
            changelog=[r for r in RIGHT.changelog if r.place != (0, 4)] + [position(0, 4, 4)],
        ),
        {"lost": 2, "beyond": 1},
    ),
    "an offset beyond the end": (replace(RIGHT, committed={0: EACH, 1: EACH + 1}), {"beyond": 1}),
    "a position that goes back": (
        replace(RIGHT, changelog=[*RIGHT.changelog, position(0, 7, 3), position(0, 8, EACH)]),
        {"back": 1},
    ),
    "an outcome that no position covers": (
        replace(RIGHT, changelog=without(RIGHT.changelog, (1, 4))),
        {"uncovered": 3},
    ),
    "a record that was acknowledged and is not there": (
        replace(RIGHT, events=without(RIGHT.events, (0, 5)), dead_letters=[letter(1, 5)]),
        {"missing": 1},
    ),
    "a record with other bytes": (
        replace(RIGHT, events=[*without(RIGHT.events, (0, 5)), event(0, 5)._replace(value=b"")]),
        {"missing": 1},
    ),
}


@pytest.mark.parametrize("case", SPOILED)
def test_what_is_wrong_is_found(case: str):
    reading, wrong = SPOILED[case]
    found = examine(reading, EVENTS, REPLAY)
    counts = {name: getattr(found, name) for name in ("lost", "twice", "alien", "missing", "reordered")}
    counts |= {name: getattr(found, name) for name in ("differing", "far", "beyond", "uncovered", "back")}
    assert {name: n for name, n in counts.items() if n} == wrong
    with pytest.raises(AssertionError):
        assert_exactly_once(found)


def test_too_little_is_no_proof():
    found = examine(RIGHT, EVENTS, REPLAY)
    for wanted in ({"at_least": 13}, {"sessions": 7}):
        with pytest.raises(AssertionError):
            assert_exactly_once(found, **wanted)


def test_a_sum_in_another_order_is_told_and_allowed():
    found = examine(replace(RIGHT, changelog=changed(0, "a0", session(0.501))), EVENTS, REPLAY)
    assert (found.differing, found.far) == (1, 0)
    assert_exactly_once(found)
    assert "5 of 6 sessions equal bit for bit" in str(found)


def test_how_far_a_state_moved_is_bounded_by_when_a_list_is_due():
    for drift, far in ((0.1, 0), (0.2, 1), (-0.1, 1)):
        reading = replace(RIGHT, changelog=changed(0, "a0", session(drift=drift)))
        found = examine(reading, EVENTS, replace(REPLAY, moved=0.1))
        assert (found.differing, found.far) == (1, far)


def test_whether_a_session_that_is_over_is_still_kept_means_nothing():
    over = session(arrived=NOON - 31 * DAY)
    kept = replace(RIGHT, changelog=changed(0, "old", over))
    assert_exactly_once(examine(kept, EVENTS, REPLAY))
    replayed = replace(REPLAY, sessions=SESSIONS | {(0, b"old"): over})
    assert_exactly_once(examine(RIGHT, EVENTS, replayed))


def test_offsets_that_no_reader_can_read_want_an_outcome():
    events = without(RIGHT.events, (0, 5))
    reading = replace(RIGHT, events=events, unreadable=frozenset({(0, 5)}))
    assert_exactly_once(examine(reading, EVENTS, REPLAY), at_least=12)
    found = examine(replace(reading, dead_letters=[letter(1, 5)]), EVENTS, REPLAY)
    assert found.lost == 1


def test_what_was_deleted_from_the_log_may_have_an_outcome_or_is_gone():
    reading = replace(RIGHT, events=[e for e in EVENTS if e.offset > 1], begins={0: 2, 1: 2})
    assert_exactly_once(examine(reading, EVENTS, REPLAY), at_least=12)
    found = examine(replace(reading, scores=without(RIGHT.scores, (0, 0), (0, 1))), EVENTS, REPLAY)
    assert (found.gone, found.lost, found.missing) == (2, 0, 0)


def test_gaps_of_the_input_mean_nothing():
    """Control records take offsets: positions and committed offsets lie behind them."""
    marker = replace(
        RIGHT,
        ends={0: EACH + 1, 1: EACH + 1},
        committed={0: EACH + 1, 1: EACH},
        changelog=[*RIGHT.changelog, position(0, 9, EACH + 1)],
    )
    assert_exactly_once(examine(marker, EVENTS, REPLAY))


def test_the_worst_gap_is_counted_from_when_input_waited():
    """An outcome 8 s late behind one at 2.5 s, of an event that came at 3 s."""
    late = [r if r.place != (0, 3) else r._replace(timestamp=NOON + 11_000) for r in RIGHT.scores]
    assert examine(replace(RIGHT, scores=late), EVENTS, REPLAY).gap == 8.0
    idle = [e if e.offset < 3 else e._replace(timestamp=e.timestamp + 60_000) for e in EVENTS]
    later = [r if r.offset < 3 else r._replace(timestamp=r.timestamp + 60_000) for r in RIGHT.scores]
    letters = [r._replace(timestamp=r.timestamp + 60_000) for r in RIGHT.dead_letters]
    assert examine(replace(RIGHT, events=idle, scores=later, dead_letters=letters), EVENTS, REPLAY).gap == 0.5


def late(records: list[Record], seconds: int) -> list[Record]:
    return [r._replace(timestamp=r.timestamp + 1000 * seconds) for r in records]


def test_the_first_outcome_of_a_partition_is_waited_for_too():
    slow = replace(RIGHT, scores=late(RIGHT.scores, 60), dead_letters=late(RIGHT.dead_letters, 60))
    assert examine(slow, EVENTS, REPLAY).gap == 60.5
    at_once = [r if r.partition else r._replace(timestamp=NOON + 100_000) for r in RIGHT.scores]
    assert examine(replace(RIGHT, scores=at_once), EVENTS, REPLAY).gap == 100
    assert examine(slow, EVENTS, REPLAY, since=NOON + 20_000).gap == 40.5
    timeless = replace(slow, events=[e._replace(timestamp=-1) for e in EVENTS])
    assert examine(timeless, EVENTS, REPLAY, since=NOON).gap == 60.5


def test_what_was_scored_before_does_not_count():
    """Outcomes that were restored from a recording, then ones of now."""
    old = [r if r.offset > 2 else r._replace(timestamp=NOON - 3_600_000) for r in RIGHT.scores]
    events = [e if e.offset > 2 else e._replace(timestamp=NOON - 7_200_000) for e in EVENTS]
    assert examine(replace(RIGHT, events=events, scores=old), EVENTS, REPLAY, since=NOON).gap == 0.5


def test_how_soon_scoring_goes_on_is_told_of_the_last_partition():
    """The events of 3 s wait from 2.7 s on, those of partition 1 until 20 s; then of events that come later."""
    stood = [r._replace(timestamp=NOON + 20_000) if r.partition and r.offset > 2 else r for r in RIGHT.scores]
    assert resumed(replace(RIGHT, scores=stood), NOON + 10_000) == 10
    assert resumed(RIGHT, NOON + 2_700) == 0.5
    assert resumed(RIGHT, NOON + 60_000) == 0


@pytest.mark.parametrize(
    ("unreadable", "spans"),
    [
        (set(), [(0, math.inf)]),
        ({0, 1}, [(2, math.inf)]),
        ({3, 4, 9}, [(0, 3), (5, 9), (10, math.inf)]),
        ({0, 5}, [(1, 5), (6, math.inf)]),
    ],
)
def test_what_lies_between_unreadable_offsets_is_read(unreadable, spans):
    assert spans_between(unreadable) == spans
