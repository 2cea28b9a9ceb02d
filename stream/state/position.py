"""Where a partition goes on: its position in the changelog, held to the topics and the group as they are (rule 4)."""

from dataclasses import dataclass
from typing import NamedTuple, NoReturn

import msgspec

from stream.core.errors import PositionError

GROW = "stop workers and producers and run `forecart topics grow`: it moves every user's state to its new partition"
ANEW = "begin anew with another --group"
RESTORE = f"restore the changelog from a copy (the next start says how it is accepted), or {ANEW}"


class Topics(NamedTuple):
    """The input and the changelog: their ids, which change when a topic is made again, and their partition count."""

    events: str = ""
    changelog: str = ""
    partitions: int = 0


class Position(msgspec.Struct, frozen=True):
    """The changelog's record of a partition: the next input offset, of which topics, and the newest record time (ms).

    Records of before 2026-11-28 have no `changelog_id` and no `partitions`: these are then not compared. `growing` are
    the partition counts that `forecart topics grow` was to reach and has not yet.
    """

    topic_id: str
    offset: int
    clock: int = 0
    changelog_id: str = ""
    partitions: int = 0
    growing: tuple[int, ...] = ()

    @classmethod
    def of(cls, topics: Topics, offset: int, clock: int) -> "Position":
        """Make the record of an offset (below 0: of none) in these topics."""
        return cls(topics.events, offset, clock, topics.changelog, topics.partitions)


class Bounds(NamedTuple):
    """A partition of the input: its first offset, its end, and the group's committed offset (below 0: none).

    `written` is the partition count that the group's offsets were committed with, if it is not that of now; else 0.
    """

    low: int
    high: int
    committed: int
    written: int = 0


class Standing(NamedTuple):
    """Where a partition goes on, and how many offsets before it were deleted unscored."""

    offset: int
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What the settings say: names, where a group begins, whether lost input stops it, which changelog is a copy."""

    events: str
    changelog: str
    group: str
    start: str = "earliest"
    on_lost: str = "stop"
    restored: str = ""


def stand(where: str, position: Position, bounds: Bounds, topics: Topics, terms: Terms) -> Standing:
    """Return where a partition, named by `where`, goes on; raise PositionError where its position does not fit.

    The group's offset and the first offset must have been read before the end of the changelog that the position
    is from: what another worker has done since is then in the position, and no damage.
    """
    low, high, committed, written = bounds
    if position.offset < 0:
        if committed >= 0:
            raise PositionError(
                f"{where}: the group {terms.group} is at {committed}, but {terms.changelog} holds no position",
                f"{RESTORE}; offsets that were set by hand choose no beginning (FORECART_START does):"
                f" kafka-consumer-groups --bootstrap-server HOST --group {terms.group} --delete-offsets"
                f" --topic {terms.events}",
            )
        if written:
            _refuse_count(where, written, topics, terms)
        return Standing(low if terms.start == "earliest" else high)
    _check_topics(where, position, topics, terms)
    if committed > position.offset:
        raise PositionError(
            f"{where}: {terms.changelog} is at {position.offset}, but the group {terms.group} is at {committed}",
            f"the changelog lost its end, or the group's offsets were set by hand: undo it, or {ANEW}",
        )
    if position.offset > high:
        raise PositionError(
            f"{where}: {terms.changelog} is at {position.offset}, but the input ends at {high}",
            f"the input was cut off, or is an older copy: undo it, or {ANEW}",
        )
    if position.offset < low and terms.on_lost == "stop":
        raise PositionError(
            lost(where, position.offset, low),
            "raise the topic's retention; FORECART_ON_LOST=continue goes on behind the gap",
        )
    return Standing(max(position.offset, low), max(low - position.offset, 0))


def lost(where: str, begin: int, end: int) -> str:
    """Say what was deleted unscored."""
    return f"{where}: {end - begin} records were deleted before they were scored ({begin} to {end})"


def _check_topics(where: str, position: Position, topics: Topics, terms: Terms) -> None:
    if position.topic_id != topics.events:
        raise PositionError(
            f"{where}: {terms.events} was deleted and made again since {terms.changelog} was written", ANEW
        )
    if position.changelog_id not in ("", topics.changelog) and topics.changelog != terms.restored:
        raise PositionError(
            f"{where}: {terms.changelog} was deleted and made again: what it held before is gone",
            f"{ANEW}; if all of it was restored from a copy, start with FORECART_RESTORED_CHANGELOG={topics.changelog}",
        )
    if position.partitions not in (0, topics.partitions):
        _refuse_count(where, position.partitions, topics, terms)


def _refuse_count(where: str, written: int, topics: Topics, terms: Terms) -> NoReturn:
    raise PositionError(
        f"{where}: {terms.events} and {terms.changelog} have {topics.partitions} partitions, but {terms.changelog}"
        f" was written with {written}",
        GROW,
    )
