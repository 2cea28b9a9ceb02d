"""Batches that follow on each other become one, others stay apart; how long a partition has been blocked."""

from hypothesis import given
from hypothesis import strategies as st

from stream.kafka.group.membership import Batch, Mark, Membership, apart, joined

FIRST, SECOND = Membership("g", 1, "m", None), Membership("g", 1, "m", None)
steps = st.lists(st.tuples(st.integers(0, 1), st.integers(1, 4), st.booleans(), st.sampled_from([FIRST, SECOND])))


@given(steps, st.integers(1, 9))
def test_joining_keeps_each_record_its_order_and_the_chain_of_positions(made, size):
    at, batches = [0, 0], []
    for partition, n, gap, membership in made:
        start = at[partition] + 3 * gap
        at[partition] = start + n + 1  # a marker behind the records
        batches.append(Batch(membership, partition, start, at[partition], list(range(start, start + n))))
    before = [(b.start, b.end, list(b.records)) for b in batches]
    found = joined(batches, size)
    assert [(b.start, b.end, b.records) for b in batches] == before  # the given ones are not touched
    assert all(len(b.records) <= max(size, 4) for b in found)
    for partition in (0, 1):
        for membership in (FIRST, SECOND):
            old, new = (
                [b for b in some if b.partition == partition and b.membership is membership]
                for some in (batches, found)
            )
            assert [r for b in new for r in b.records] == [r for b in old for r in b.records]
            assert {b.start for b in new} <= {b.start for b in old} and {b.end for b in new} <= {b.end for b in old}
            covered = [o for b in new for o in range(b.start, b.end)]
            assert covered == [o for b in old for o in range(b.start, b.end)]  # no gap is bridged


def test_batches_that_follow_are_joined_up_to_the_size():
    batches = [Batch(FIRST, 0, n, n + 1, [n]) for n in range(5)]
    assert [(b.start, b.end) for b in joined(batches, 2)] == [(0, 2), (2, 4), (4, 5)]
    assert len(joined([Batch(FIRST, 0, 0, 1, [0]), Batch(SECOND, 0, 1, 2, [1])], 9)) == 2
    assert len(joined([Batch(FIRST, 0, 0, 1, [0]), Batch(FIRST, 0, 2, 3, [2])], 9)) == 2


def test_a_group_has_a_partition_once_and_keeps_the_order():
    some = [(0, 0, 3), (1, 0, 2), (0, 3, 1), (2, 0, 9)]
    batches = [Batch(FIRST, p, start, start + n, list(range(n))) for p, start, n in some]
    assert list(apart(batches, 6)) == [batches[:2], [batches[2]], [batches[3]]]
    assert list(apart(batches[:2], 2)) == [[batches[0]], [batches[1]]]
    assert list(apart([], 6)) == []


def _blocked(*answers):
    """Return the seconds after each answer of (last stable offset, high watermark, position, when in seconds)."""
    mark, found = None, []
    for stable, high, position, seconds in answers:
        mark = Mark(position, position, stable, high, int(seconds * 1000)).after(mark)
        found.append(mark.blocked)
    return found


def test_a_partition_is_blocked_while_its_last_stable_offset_stands_below_the_high_watermark():
    assert _blocked((5, 9, 5, 0), (5, 9, 5, 0.5), (5, 30, 5, 1)) == [0, 0.5, 1]
    assert _blocked((5, 9, 5, 0), (5, 9, 5, 2), (30, 30, 5, 3), (30, 30, 30, 4)) == [0, 2, 0, 0]


def test_a_partition_whose_last_stable_offset_moves_or_is_not_reached_is_not_blocked():
    assert _blocked((5, 9, 5, 0), (9, 20, 9, 1), (20, 30, 20, 2)) == [0, 0, 0]
    assert _blocked((5, 9, 3, 0), (5, 9, 3, 5), (5, 9, 5, 6), (5, 9, 5, 7)) == [0, 0, 0, 1]
    assert _blocked((0, 0, 5, 0), (0, 0, 5, 0)) == [0, 0]  # no answer yet


def test_an_outage_and_a_clock_that_is_set_are_no_transactions_time():
    assert _blocked((5, 9, 5, 0), (5, 9, 5, 1), (5, 9, 5, 1), (5, 9, 5, 3601), (5, 9, 5, 3602)) == [0, 1, 1, 11, 12]
    assert _blocked((5, 9, 5, 100), (5, 9, 5, 3), (5, 9, 5, 4)) == [0, 0, 1]


def test_what_waits_came_after_the_last_answer_without_a_lag():
    mark = Mark(10, 10, 10, high=30, answered=5_000).after(None, scored=10, first=2_000)
    assert mark.since == 2_000  # a backlog: as old as its first record
    mark = Mark(30, 30, 30, high=30, answered=6_000).after(mark, scored=10, first=4_000)
    assert mark.since == 2_000  # read, not scored
    mark = Mark(30, 30, 30, high=30, answered=9_000).after(mark, scored=30)
    assert mark.since == 9_000
    mark = Mark(31, 31, 31, high=31, answered=9_900).after(mark, scored=30, first=9_800)
    assert mark.since == 9_000


def test_before_the_first_answer_nothing_is_known():
    assert Mark(10, 10, 0, high=0).after(None, scored=10).since == 0
