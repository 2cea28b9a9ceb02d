"""Who owns which partitions, as a value (rules 1, 5 and 8 of the protocol, docs/exactly-once.md).

A membership is taken once per assignment, dropped when a rebalance begins, stamped on every batch by the fetch that
brought it. It owns the sessions of its partitions.
"""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from stream.kafka.client.admin import group_metadata
from stream.records import Record
from stream.scoring.scorer import Partition
from stream.scoring.undo import Undo
from stream.state.position import Topics

_ANSWER_SECONDS = 10.0  # from one answer of Kafka's to the next: what is longer is an outage, not a transaction


@dataclass(slots=True)
class Ahead:
    """A round that is in the sessions and not yet in the changelog: how far this was, and what undoes its chunks."""

    changelog: int
    read_at: float
    undos: list[Undo] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class PartitionState:
    """A partition's sessions, and how far the changelog is in them."""

    part: Partition
    changelog: int = 0  # next changelog offset that is not yet in the sessions
    written: int = 0  # the changelog offset behind the last position that was committed
    read_at: float = 0.0  # monotonic seconds of the last look at the changelog
    topics: Topics = field(default_factory=Topics)  # that the position belongs to
    lost: int = 0  # offsets that were deleted unscored: to be counted once the position behind them is committed
    rounds: deque[Ahead] = field(default_factory=deque)  # the scorer's thread adds one, the event loop drops it

    @property
    def ahead(self) -> int:
        """Count the rounds in the sessions that are not yet in the changelog."""
        return len(self.rounds)

    def begin(self) -> None:
        """Count a round, before it changes the sessions."""
        self.rounds.append(Ahead(self.changelog, self.read_at))

    def confirm(self) -> None:
        """Take note that the last position written is committed."""
        self.written = self.changelog

    def take_back(self) -> None:
        """Undo the rounds that are not in the changelog, the newest first."""
        while self.rounds:
            ahead = self.rounds.pop()
            for undo in reversed(ahead.undos):
                undo.take_back()
            self.changelog, self.read_at = max(ahead.changelog, self.written), ahead.read_at


@dataclass(slots=True, eq=False)
class Membership:
    """One assignment: what fences its commits, and its recovered partitions. Compared by identity only."""

    group: str
    generation: int
    member: str
    instance: str | None
    owned: dict[int, PartitionState] = field(default_factory=dict)
    kept: dict[int, PartitionState] = field(default_factory=dict)  # from before the rebalance, to be caught up
    whole: bool = False  # all of its partitions' sessions were kept by a rebalance

    def metadata(self) -> bytes:
        """Return what a transaction is fenced with; raise ValueError where this is no membership."""
        return group_metadata(self.group, self.generation, self.member, self.instance)

    def keep(self, last: "Membership", partitions: set[int]) -> None:
        """Take the clean sessions of partitions from another membership, to be caught up, also if they still were."""
        for number in partitions & {*last.owned, *last.kept}:
            held = last.owned.pop(number, None) or last.kept.pop(number, None)
            if held and not held.ahead:
                self.kept[number] = held

    def renewed(self) -> "Membership":
        """Return the same member without its sessions: every batch in hand is then foreign."""
        return Membership(self.group, self.generation, self.member, self.instance)


@dataclass(slots=True, eq=False)
class Batch:
    """Records of one partition, and the consumer's position before and after them."""

    membership: Membership
    partition: int
    start: int
    end: int
    records: list[Record]
    bytes: int = 0  # that the records hold


def joined(batches: Iterable[Batch], size: int, room: int = sys.maxsize) -> list[Batch]:
    """Join batches that follow on each other, of one partition and membership.

    None gets more than `size` records or `room` bytes by that.
    """
    found: list[Batch] = []
    newest: dict[int, Batch] = {}
    for batch in batches:
        last = newest.get(batch.partition)
        fits = last and len(last.records) + len(batch.records) <= size and last.bytes + batch.bytes <= room
        if last and fits and last.membership is batch.membership and last.end == batch.start:
            last.records, last.end, last.bytes = last.records + batch.records, batch.end, last.bytes + batch.bytes
        else:
            newest[batch.partition] = replace(batch)
            found.append(newest[batch.partition])
    return found


def apart(batches: Iterable[Batch], size: int, room: int = sys.maxsize) -> Iterator[list[Batch]]:
    """Group batches, in their order, so that no partition is in a group twice.

    No group has more than `size` records or `room` bytes, but for a batch that alone has.
    """
    group: dict[int, Batch] = {}
    records = held = 0
    for batch in batches:
        over = records + len(batch.records) > size or held + batch.bytes > room
        if batch.partition in group or (group and over):
            yield list(group.values())
            group, records, held = {}, 0, 0
        group[batch.partition] = batch
        records += len(batch.records)
        held += batch.bytes
    if group:
        yield list(group.values())


@dataclass(slots=True, frozen=True)
class Mark:
    """What the consumer knows of a partition: its own position, and what the last answer to a fetch said."""

    position: int
    handed: int  # where the last batch handed on ends: from there to the position are markers alone
    stable: int  # the last stable offset: what lies beyond it waits for the end of an open transaction
    high: int  # the high watermark
    answered: int = 0  # when the answer came, ms since the epoch
    blocked: float = 0.0  # seconds that the last stable offset has stood below the high watermark, and we at it
    since: int = 0  # ms: what is not scored has come later, as far as that is known

    @property
    def waits(self) -> bool:
        """Tell whether all that may be read is read, and more is there."""
        return self.position >= self.stable and self.high > self.stable

    def lag(self, scored: int) -> int:
        """Count the offsets from `scored` to the high watermark; markers behind what was handed on are none."""
        return max(self.high - (self.position if scored >= self.handed else scored), 0)

    def after(self, last: "Mark | None", scored: int = 0, first: int = 0) -> "Mark":
        """Return this mark with what the last one knew; scored is up to `scored`, `first` (ms) is the oldest record's.

        It is blocked for as long as the last one and the time since, where both wait at one offset. What is not scored
        came after the last answer without a lag; where there was none, it begins with the first record that was read.
        """
        since = (last.since if last else 0) or first
        if self.high and not self.lag(scored):
            since = self.answered
        mark = replace(self, since=since)
        if not (last and last.waits and self.waits and last.stable == self.stable):
            return mark
        between = (self.answered - last.answered) / 1000
        return replace(mark, blocked=last.blocked + min(max(between, 0.0), _ANSWER_SECONDS))


class Ownership:
    """The current membership, seen by the consumer's thread, the event loop and the scorer's thread."""

    def __init__(self, group: str, chunk: int, drop_fetch: Callable[[], bool] = lambda: False) -> None:
        self.group, self.chunk, self.drop_fetch = group, chunk, drop_fetch
        self.part = self.fetch = sys.maxsize  # bytes of records in a batch, and in a fetch, at most
        self.current: Membership | None = None
        self.marks: dict[int, Mark] = {}
        self.fetched_at = self.dropped_at = self.taken_at = time.monotonic()
        self.rest_until = 0.0  # monotonic seconds: what is fetched before would only wait
        self._last: Membership | None = None

    def drop(self) -> None:
        """End the membership: a rebalance begins."""
        self.dropped_at = time.monotonic()
        self._last, self.current = self.current or self._last, None

    def take(self, generation: int, member: str, instance: str | None, partitions: set[int]) -> Membership:
        """Begin a membership; clean sessions of partitions that stay are kept (rule 8)."""
        new = Membership(self.group, generation, member, instance)
        if self._last:
            new.keep(self._last, partitions)
            new.whole = partitions <= set(new.kept)
        self.marks = {number: mark for number, mark in self.marks.items() if number in partitions}
        self.taken_at = time.monotonic()
        self.current = self._last = new
        return new

    def renew(self, membership: Membership, keep: bool = False) -> Membership | None:
        """Forget the sessions of a membership whose transaction was aborted (rule 5), or `keep` the clean ones (8)."""
        if self.current is not membership:
            return None
        new = membership.renewed()
        if keep:
            new.keep(membership, set(membership.owned))
        self.current = self._last = new
        return new
