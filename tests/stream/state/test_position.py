"""Where a partition goes on: a table of positions, and of what the topics and the group say."""

import msgspec
import pytest

from stream.core.errors import PositionError
from stream.state.position import Bounds, Position, Standing, Terms, Topics, stand

TOPICS = Topics("in", "log", 4)


def _stand(offset: int, low: int, high: int, committed: int, position: Position | None = None, **terms: str):
    names = {"events": "events", "changelog": "changelog", "group": "g"}
    position = position or Position.of(TOPICS, offset, 7)
    return stand("events partition 3", position, Bounds(low, high, committed), TOPICS, Terms(**names | terms))


@pytest.mark.parametrize(
    ("offset", "low", "high", "committed", "terms", "found"),
    [
        (-1, 5, 9, -1001, {}, Standing(5)),
        (-1, 5, 9, -1001, {"start": "latest"}, Standing(9)),
        (7, 5, 9, 7, {}, Standing(7)),
        (7, 5, 9, 6, {}, Standing(7)),  # the group's offset is a hint
        (7, 5, 9, -1001, {}, Standing(7)),  # a group's offsets expire
        (5, 5, 5, 5, {}, Standing(5)),
        (2, 5, 9, 2, {"on_lost": "continue"}, Standing(5, 3)),
        (2, 5, 5, -1001, {"on_lost": "continue"}, Standing(5, 3)),
    ],
)
def test_a_position_that_fits_goes_on(offset, low, high, committed, terms, found):
    assert _stand(offset, low, high, committed, **terms) == found


@pytest.mark.parametrize(
    ("offset", "low", "high", "committed", "text"),
    [
        (-1, 1000, 2000, 1000, "the group g is at 1000, but changelog holds no position"),
        (-1, 2000, 3000, 1000, "the group g is at 1000, but changelog holds no position"),
        (-1, 0, 10, 0, "the group g is at 0, but changelog holds no position"),
        (7, 5, 9, 8, "changelog is at 7, but the group g is at 8"),
        (7, 0, 6, 7, "changelog is at 7, but the input ends at 6"),
        (2, 5, 9, 2, r"events partition 3: 3 records were deleted before they were scored \(2 to 5\)"),
    ],
)
def test_a_position_that_does_not_fit_is_refused(offset, low, high, committed, text):
    with pytest.raises(PositionError, match=text) as caught:
        _stand(offset, low, high, committed)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("position", "text", "remedy"),
    [
        (Position("other", 7, 0, "log", 4), "events was deleted and made again", "another --group"),
        (Position("in", 7, 0, "other", 4), "changelog was deleted and made again", "FORECART_RESTORED_CHANGELOG=log"),
        (Position("in", 7, 0, "log", 2), "have 4 partitions, but changelog was written with 2", "forecart topics grow"),
    ],
)
def test_topics_that_are_others_are_refused(position, text, remedy):
    with pytest.raises(PositionError, match=text) as caught:
        _stand(7, 5, 9, 7, position)
    assert remedy in caught.value.remedy


def test_a_changelog_that_was_restored_is_accepted_by_its_id():
    position = Position("in", 7, 0, "other", 4)
    with pytest.raises(PositionError) as caught:
        _stand(7, 5, 9, 7, position, restored="some other")
    assert "FORECART_RESTORED_CHANGELOG=log" in caught.value.remedy
    assert _stand(7, 5, 9, 7, position, restored="log") == Standing(7)
    with pytest.raises(PositionError, match="the group g is at 8"):  # not in full
        _stand(7, 5, 9, 8, position, restored="log")


def test_a_new_partition_of_a_group_of_another_count_is_no_first_start():
    bounds = Bounds(0, 9, -1001, 2)
    with pytest.raises(PositionError, match="was written with 2"):
        stand("events partition 3", Position("", -1), bounds, TOPICS, Terms("events", "changelog", "g"))


class Older(msgspec.Struct):
    """The record as workers of 2026-11-26 know it."""

    topic_id: str
    offset: int
    clock: int = 0


def test_older_and_newer_workers_read_each_other_s_records():
    old = msgspec.json.decode(msgspec.json.encode(Older("in", 7, 1)), type=Position)
    assert old == Position("in", 7, 1)
    assert _stand(7, 5, 9, 7, old) == Standing(7)
    new = msgspec.json.encode(Position.of(TOPICS, 7, 1))
    assert msgspec.json.decode(new, type=Older) == Older("in", 7, 1)
