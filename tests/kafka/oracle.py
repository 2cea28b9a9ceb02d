"""The oracle: what lies in the topics, held to what exactly once promises.

A pure function over what an independent `read_committed` reader found (`tests/kafka/reader.py`), what producers were
told that they sent, and an offline replay. It believes no counter of the worker's.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

NEAR = 2e-3  # what a float16 state may differ by when a kernel sums in another order
USER, POSITION = b"u", b"p"  # keys of the changelog, as docs/topics.md tells them
Headers = Sequence[tuple[str, bytes]]
Place = tuple[int, int]  # partition and offset of the input


class Record(NamedTuple):
    """A record of a topic; `timestamp` in ms."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def place(self) -> Place:
        """Where it lies."""
        return self.partition, self.offset


class Outcome(NamedTuple):
    """A score, or a dead letter of no user: of which input record, and the record that it lies in."""

    place: Place
    user: str | None
    record: Record
    scored_at: int = 0  # ms, of a score


@dataclass(frozen=True)
class Reading:
    """What lies in a group's topics, and by input partition its begin, its end and the group's committed offset.

    `unreadable` are offsets of the input that no reader can read, which a test wrote on purpose.
    """

    events: Sequence[Record]
    scores: Sequence[Record]
    dead_letters: Sequence[Record]
    changelog: Sequence[Record]
    begins: Mapping[int, int]
    ends: Mapping[int, int]
    committed: Mapping[int, int]
    unreadable: frozenset[Place] = frozenset()

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """The scores and the dead letters, each topic's in the order of its partitions."""
        return [*map(of_score, _in_order(self.scores)), *map(of_letter, _in_order(self.dead_letters))]

    @cached_property
    def counts(self) -> Counter[Place]:
        """How many outcomes each input offset has."""
        return Counter(outcome.place for outcome in self.outcomes)

    @property
    def scored_at(self) -> dict[Place, int]:
        """When (ms) the worker scored what it scored: those of a chunk at one time."""
        return {outcome.place: outcome.scored_at for outcome in self.outcomes if outcome.user is not None}


@dataclass(frozen=True)
class Replay:
    """What the input comes to offline: sessions by (partition, user), each partition's clock and the TTL (ms).

    `moved` is how far a state may move before a list is due; 0 where lists do not go by that.
    """

    sessions: Mapping[tuple[int, bytes], Any]
    clocks: Mapping[int, int]
    ttl: int
    moved: float = 0.0


@dataclass(frozen=True)
class Finding:
    """What the oracle found: counts, all of which but the first four must be 0; `gap` in seconds.

    `want` input records in all, `gone` of which were deleted from the log before they had an outcome.
    """

    want: int
    faults: int
    sessions: int
    gone: int
    gap: float
    lost: int = 0  # input records without an outcome
    twice: int = 0  # input records with more than one
    alien: int = 0  # outcomes, sessions and positions of no input record
    missing: int = 0  # records that a producer was told are in the input, and are not, or with other bytes
    reordered: int = 0  # scores that do not lie behind the one before them, of their user or of their source
    differing: int = 0  # sessions that are not those of the replay bit for bit
    far: int = 0  # and not within `NEAR` of them either
    beyond: int = 0  # committed offsets and positions beyond an input record without an outcome, or beyond the end
    uncovered: int = 0  # outcomes that the changelog's last position would have scored again
    back: int = 0  # positions of the changelog below the one before them
    examples: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def wrong(self) -> dict[str, Sequence[Any]]:
        """What must not be, with examples; sessions may differ in the last bits of a sum."""
        return {name: found for name, found in self.examples.items() if name != "differing"}

    def __str__(self) -> str:
        equal = self.sessions - self.differing
        return (
            f"{self.want} events, {self.faults} faults: {self.lost} lost, {self.twice} twice, "
            f"worst gap {self.gap:.1f} s; {equal} of {self.sessions} sessions equal bit for bit"
        )


def assert_exactly_once(finding: Finding, at_least: int = 1, sessions: int = 1) -> None:
    """Print a finding; fail unless it is exactly once of so many input records and sessions at least."""
    print(finding)
    assert not finding.wrong, f"{finding}; {finding.wrong}"
    assert finding.want >= at_least, finding
    assert finding.sessions >= sessions, finding


def examine(reading: Reading, ledger: Iterable[Record], replay: Replay, faults: int = 0, since: int = 0) -> Finding:
    """Hold what lies in the topics to the input, to the producers' ledger and to the replay.

    No input record is taken to have waited before `since` (ms), whatever its own time says.
    """
    events = {event.place: event for event in reading.events}
    told = {record.place: record for record in ledger}
    present = events.keys() | reading.unreadable
    deleted = {r.place for r in deleted_records(reading, told.values())}
    counts = reading.counts
    lost = present - counts.keys()
    stored = _stored(reading.changelog)
    theirs = {whose: raw for whose, raw in stored.items() if not _over(whose, raw, replay)}
    mine = {whose: one for whose, one in replay.sessions.items() if not _over(whose, one.tobytes(), replay)}
    differing = [whose for whose in mine if theirs.get(whose) != mine[whose].tobytes()]
    positions = _positions(reading.changelog)
    last = {number: offset for number, offset in positions if offset <= reading.ends.get(number, -1)}
    found: dict[str, list[Any]] = {
        "lost": sorted(lost),
        "twice": sorted(place for place, n in counts.items() if n > 1),
        "alien": [
            *sorted(counts.keys() - present - deleted),
            *sorted(theirs.keys() - mine.keys()),
            *((number, offset) for number, offset in positions if offset > reading.ends.get(number, -1)),
        ],
        "missing": [
            place
            for place, sent in told.items()
            if place not in deleted | reading.unreadable and not _same(sent, events.get(place))
        ],
        "reordered": list(_reordered(reading.outcomes)),
        "differing": differing,
        "far": [whose for whose in differing if _far(theirs.get(whose), mine[whose], replay.moved)],
        "beyond": list(_beyond(reading, last, lost)),
        "uncovered": sorted(place for place in counts if place[1] >= last.get(place[0], 0)),
        "back": list(_back(positions)),
    }
    return Finding(
        want=len(present | deleted),
        faults=faults,
        sessions=len(mine),
        gone=len(deleted - counts.keys()),
        gap=_worst_gap(events, reading.outcomes, since),
        **{name: len(those) for name, those in found.items()},
        examples={name: those[:3] for name, those in found.items() if those},
    )


def deleted_records(reading: Reading, ledger: Iterable[Record]) -> list[Record]:
    """Return what a producer was told is in the input, and is no longer, since its log begins behind it."""
    return [record for record in ledger if record.offset < reading.begins.get(record.partition, 0)]


def scored_input(reading: Reading, ledger: Sequence[Record]) -> list[Record]:
    """Return what a replay is to score: the input, and what was deleted from it after it had its outcome.

    Its headers are the ledger's: not every reader can read all of them.
    """
    sent = {record.place: record.headers for record in ledger}
    events = [event._replace(headers=sent.get(event.place, ())) for event in reading.events]
    return events + [record for record in deleted_records(reading, ledger) if record.place in reading.counts]


def _in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=attrgetter("place"))


def of_score(record: Record) -> Outcome:
    """Read a score."""
    score = json.loads(record.value or b"")
    place = score["source"]["partition"], score["source"]["offset"]
    return Outcome(place, score["user_id"], record, score["scored_at"])


def of_letter(record: Record) -> Outcome:
    """Read a dead letter."""
    headers = dict(record.headers)
    return Outcome((int(headers["forecart-partition"]), int(headers["forecart-offset"])), None, record)


def _same(sent: Record, read: Record | None) -> bool:
    return read is not None and (sent.key, sent.value) == (read.key, read.value)


def _stored(changelog: Iterable[Record]) -> dict[tuple[int, bytes], bytes]:
    """Return the sessions that a recovery would find."""
    last = {(r.partition, r.key[1:]): r.value for r in _in_order(changelog) if r.key and r.key[:1] == USER}
    return {whose: value for whose, value in last.items() if value is not None}


def _over(whose: tuple[int, bytes], raw: bytes, replay: Replay) -> bool:
    """Tell whether a session is over by the TTL at its partition's clock: whether it is still kept means nothing."""
    layout = next(iter(replay.sessions.values())).dtype if replay.sessions else None
    if layout is None or len(raw) != layout.itemsize:
        return False
    arrived = int(np.frombuffer(raw, layout)[0]["arrived"])
    return replay.clocks.get(whose[0], 0) - arrived > replay.ttl


def _far(raw: bytes | None, mine: Any, moved: float) -> bool:
    """Tell whether a stored session differs by more than a sum in another order.

    Such a sum decides when a list is due, at which `drift` begins again at 0; it never stays above `moved`.
    """
    if raw is None or len(raw) != mine.dtype.itemsize:
        return True
    theirs = np.frombuffer(raw, mine.dtype)[0]
    if not 0 <= theirs["drift"] <= moved + NEAR:
        return True
    floats = [name for name in mine.dtype.names if mine.dtype[name].base.kind == "f" and name != "drift"]
    rest = [name for name in mine.dtype.names if mine.dtype[name].base.kind != "f"]
    near = all(np.abs(theirs[name].astype("f4") - mine[name].astype("f4")).max() <= NEAR for name in floats)
    return not near or any(theirs[name].tobytes() != mine[name].tobytes() for name in rest)


def _reordered(outcomes: Iterable[Outcome]) -> Iterator[tuple[Any, ...]]:
    """Yield each score that is not behind the one before it: of its source in its partition, or of its user.

    A user's scores in two partitions have no order at all.
    """
    by_source: dict[tuple[int, int], int] = {}
    homes: dict[str, int] = {}
    for place, user, record, _ in outcomes:
        if user is None:
            continue
        source = record.partition, place[0]
        if place[1] <= by_source.get(source, -1):
            yield "source", *source, place[1]
        elif homes.setdefault(user, record.partition) != record.partition:
            yield "user", user, *place
        by_source[source] = max(place[1], by_source.get(source, -1))


def _positions(changelog: Iterable[Record]) -> list[tuple[int, int]]:
    """Return the next input offsets that the changelog names, in its order, with their partitions."""
    records = [r for r in _in_order(changelog) if r.key == POSITION and r.value is not None]
    return [(r.partition, json.loads(r.value or b"")["offset"]) for r in records]


def _beyond(reading: Reading, positions: Mapping[int, int], lost: Iterable[Place]) -> Iterator[tuple[Any, ...]]:
    first: dict[int, int] = {}
    for number, offset in lost:
        first[number] = min(offset, first.get(number, offset))
    for what, marks in (("group", reading.committed), ("changelog", positions)):
        for number, mark in marks.items():
            if mark > min(reading.ends.get(number, 0), first.get(number, mark)):
                yield what, number, mark


def _back(positions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    before: dict[int, int] = {}
    for number, offset in positions:
        if offset < before.get(number, offset):
            yield number, before[number], offset
        before[number] = offset


def _worst_gap(events: Mapping[Place, Record], outcomes: Iterable[Outcome], since: int) -> float:
    """Return the longest time (s) in which a partition had no outcome although an input record waited for one."""
    worst = 0
    for number, made in _times(outcomes).items():
        before = since
        for offset, at in sorted(made.items()):
            if event := events.get((number, offset)):
                worst = max(worst, at - max(before, event.timestamp))
            before = max(before, at)
    return worst / 1000


def resumed(reading: Reading, back: int) -> float:
    """Return how long (s) after a moment (ms) the last partition has an outcome again, for input that waited then.

    Input that came later waits from its own time on.
    """
    events = {event.place: event.timestamp for event in reading.events}
    worst = 0
    for number, made in _times(reading.outcomes).items():
        later = {offset: at for offset, at in made.items() if at >= back and (number, offset) in events}
        if later:
            waited = min(events[number, offset] for offset in later)
            worst = max(worst, min(later.values()) - max(back, waited))
    return worst / 1000


def _times(outcomes: Iterable[Outcome]) -> dict[int, dict[int, int]]:
    """Return when (ms) the input had its outcomes, by partition and offset."""
    times: dict[int, dict[int, int]] = defaultdict(dict)
    for (number, offset), _, record, _ in outcomes:
        times[number].setdefault(offset, record.timestamp)
    return times
