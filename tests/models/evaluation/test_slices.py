"""Slices by hand."""

import numpy as np

from models.data.log import gather
from models.evaluation.slices import SLICES, by_novelty, by_popularity, by_position, by_return, places
from stream.core.events import Event
from stream.core.manifest import TaskSpec
from tests.fakes import HOUR, MINUTE, NOON

LATER = NOON + 10 * MINUTE
MEANING = TaskSpec()


def _log(rows):
    """Make a log of (user, item, minute), and the rows from LATER on that have a next event."""
    log = gather((Event(f"e{n}", u, "view", i, NOON + m * MINUTE) for n, (u, i, m) in enumerate(rows)), timed=True)
    followed = np.r_[~log.starts[1:], False]
    return log, np.flatnonzero(followed & (log.time >= LATER))


def _named(cut, row):
    return {int(r): cut.names[part] for r, part in zip(row, cut.part, strict=True)}


def test_a_place_counts_from_the_sessions_first_event():
    log, _ = _log([("a", "1", 0), ("a", "2", 1), ("a", "3", 70), ("b", "1", 2), ("a", "4", 71)])
    assert places(log, 30 * MINUTE).tolist() == [1, 2, 1, 2, 1]
    assert places(log, HOUR * 2).tolist() == [1, 2, 3, 4, 1]


def test_parts_by_hand():
    rows = [("a", "1", 0), ("a", "2", 1), ("b", "2", 2), ("b", "2", 3), ("a", "2", 11), ("a", "1", 12), ("a", "9", 13)]
    log, row = _log([*rows, ("c", "1", 11), ("c", "8", 12)])
    users = [log.users[u] for u in log.user[row]]
    assert users == ["a", "a", "c"]
    assert [*_named(by_position(log, row, LATER, MEANING), row).values()] == ["3", "4", "1"]
    cut = by_popularity(log, row, LATER, MEANING)
    assert [*_named(cut, row).values()] == ["1+", "0", "0"]
    assert cut.count.tolist() == [2, 1]
    novelty = [*_named(by_novelty(log, row, LATER, MEANING), row).values()]
    assert novelty == ["old item\nold shopper", "new item\nold shopper", "new item\nnew shopper"]


def test_who_comes_back_is_told_from_who_meets_something_new():
    rows = [
        ("a", "1", 0),
        ("b", "2", 1),
        ("a", "2", 11),
        ("a", "1", 12),
        ("a", "2", 13),
        ("b", "3", 14),
        ("b", "2", 15),
    ]
    log, row = _log(rows)
    cut = by_return(log, row, LATER, MEANING)
    assert [*_named(cut, row).values()] == ["met before", "met before", "met before"]
    assert by_return(log, np.array([0]), LATER, MEANING).part.tolist() == [1]  # a has met 1, not 2


def test_tenths_of_the_targets_hold_ties_together():
    rows = [("a", f"{i}", 0) for i in range(1, 40) for _ in range(i)]
    log, row = _log(rows + [("b", f"{i}", 10 + i) for i in range(1, 40)])
    cut = by_popularity(log, row, LATER, MEANING)
    assert len(cut.names) == 11 and cut.names[0] == "0" and cut.count[0] == 0
    assert cut.count[1:].max() - cut.count[1:].min() <= 1
    assert cut.names[-1].endswith("+")


def test_every_example_has_a_part(log):
    row = np.flatnonzero(np.r_[~log.starts[1:], False])
    for cut in (make(log, row, int(np.median(log.time)), MEANING) for make in SLICES.values()):
        assert cut.part.min() >= 0
        assert cut.count.sum() == len(row)
        assert len(cut.count) == len(cut.names)


def test_without_examples_there_are_no_parts_but_no_error_either(log):
    nothing = np.zeros(0, np.int64)
    assert all(make(log, nothing, int(log.time.max()) + 1, MEANING).count.sum() == 0 for make in SLICES.values())
