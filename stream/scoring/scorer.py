"""Records of a partition in, what is to be published out: decode, score, encode. `forecart score` is this, too."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, ne

import numpy as np

from stream.bundle.onnx import TOLERANCE, Bundle
from stream.core import score
from stream.core.errors import BundleError
from stream.core.events import ID_LENGTH_MAX, REASONS, BadEvent, Event, bad_id, plain
from stream.core.features import Arrays, Events, Ints, encode
from stream.core.hashing import fingerprints
from stream.core.list_triggers import EVERY, Clock
from stream.core.scoring import SCORED, Lists, Rows, Scores
from stream.core.session import Sessions, put, record, take, together
from stream.formats.decoding import Decoder, Native
from stream.recommend.cold_items import Table, pack
from stream.recommend.cold_ranking import Answers, join
from stream.recommend.list_filters import Rules
from stream.recommend.shop_catalog import Catalog
from stream.records import (
    DATED,
    HEADERS,
    ITEM,
    USER,
    Limits,
    Message,
    Record,
    fault_of,
    header_bytes,
    held,
    values_held,
)
from stream.scoring.publisher import Publisher
from stream.state.growable import keep_blocks
from stream.state.sessions import SessionStore
from stream.state.user_bound import displace, steady

_SWEEPS = 24  # in a TTL
_EVICTED = 4096  # sessions in a chunk at most: a round's bytes bound their tombstones, too
_TYPE_SHOWN = 64  # characters of a type that the model does not know
_DOUBT = 32  # failures of the model without a score between them: is it the events, or the model?
_TIMESTAMP, _KEY, _HEADERS = attrgetter("timestamp"), attrgetter("key"), attrgetter("headers")
_OFFSET = attrgetter("offset")
_FAILURES = ("unscorable", "not_finite")


@dataclass(slots=True)
class Partition:
    """What a worker holds of one partition: sessions, next offset, newest believed record time (ms), unseen items."""

    number: int
    store: SessionStore
    position: int = 0
    clock: int = 0
    swept: int = 0
    owed: list[str] = field(default_factory=list)  # who is gone from here and not yet from the changelog; only replaced
    newcomers: Table = field(default_factory=Table)


@dataclass(slots=True)
class ChunkResult:
    """What a chunk of records comes to; `changes` are the changelog's records."""

    partition: int
    scores: list[Message]
    dead: list[Message]
    changes: list[Message]
    rejected: Counter[str]
    intent: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    foreign: int  # records whose key is not their user's id
    arrived: Ints  # record times of what was scored, ms; of a record without one there is none
    records: int
    evicted: int
    displaced: int = 0

    @classmethod
    def whole(cls, parts: "Sequence[ChunkResult]") -> "ChunkResult":
        """Join the parts of a chunk."""
        first, *rest = parts
        for part in rest:
            for one in ("scores", "dead", "changes"):
                getattr(first, one).extend(getattr(part, one))
            first.rejected.update(part.rejected)
            first.foreign, first.records = first.foreign + part.foreign, first.records + part.records
            first.evicted, first.displaced = first.evicted + part.evicted, first.displaced + part.displaced
        first.intent = np.concatenate([part.intent for part in parts])
        first.arrived = np.concatenate([part.arrived for part in parts])
        return first

    @property
    def bytes(self) -> int:
        """Return what is published, in bytes; of scores and changes, whose keys and headers are read, the values."""
        return values_held(self.scores) + values_held(self.changes) + held(self.dead)


@dataclass(slots=True)
class _Read:
    """A chunk, decoded: its events, their records and the places of those, who is no event.

    `stamps` are the events' record times (ms), `clock` is the partition's clock as it stood at each of them.
    """

    part: Partition
    records: Sequence[Record]
    events: list[Event]
    sources: Sequence[Record]
    at: Sequence[int]
    stamps: Ints
    clock: Ints
    rejected: list[tuple[int, str]]

    def part_of(self, begin: int, end: int) -> "_Read":
        """Return some of the events, with the records from the first of them up to the next one, or from the first."""
        low = self.at[begin] if begin else 0
        high = self.at[end] if end < len(self.events) else len(self.records)
        rows = slice(begin, end)
        return _Read(
            part=self.part,
            records=self.records[low:high],
            events=self.events[rows],
            sources=self.sources[rows],
            at=[at - low for at in self.at[rows]],
            stamps=self.stamps[rows],
            clock=self.clock[rows],
            rejected=[(at - low, reason) for at, reason in self.rejected if low <= at < high],
        )


class Scorer:
    """Score chunks of records with one model; with `explain` each score has its causes."""

    def __init__(
        self,
        bundle: Bundle,
        recommend: bool,
        limits: Limits,
        topic: str,
        explain: bool = False,
        clock: Clock = EVERY,
        rules: Callable[[], Rules] | None = None,
        decoder: Decoder | None = None,
        most: int = 0,
    ) -> None:
        """`most` users are kept of a partition; 0: all."""
        self.decoder, self.most = decoder or Native(), most
        self.manifest, self.vocabulary = bundle.manifest, bundle.vocabulary
        self.step, self.intent_step = bundle.step(recommend), bundle.intent_step
        self.along = bundle.along(recommend)
        self.clock = clock
        self.rules = rules or Catalog(bundle.vocabulary, [], 0, exclude_bought=False).rules
        self.lists = bundle.lists if recommend and bundle.asking_step else None
        if self.lists and bundle.asking_step:
            self.step = bundle.asking_step
        self.weigh = bundle.weigh if recommend else None
        self.explain = explain
        self.replay, self._failed = bundle.replay, 0
        self.limits, self.publisher = limits, Publisher(bundle, topic, limits)
        self.layout = record(bundle.manifest)
        self.types = self.decoder.types(bundle.manifest.meaning.types)
        keep_blocks()

    def process(self, part: Partition, records: Sequence[Record], now: int) -> ChunkResult:
        """Score a chunk in order; the partition's sessions and clock move on. `now` (ms) is written as `scored_at`."""
        return self.process_all([(part, records)], now)[0]

    def process_all(self, chunks: Sequence[tuple[Partition, Sequence[Record]]], now: int) -> list[ChunkResult]:
        """Score chunks of different partitions; where no cold items join the lists of one, all at once."""
        reads = [self._read(part, records, now) for part, records in chunks]
        crowded = [one for one in reads if self._crowded(one)] if self.most else []
        calm = [one for one in reads if not self._crowded(one)] if crowded else reads
        apart = [[one] for one in calm] if self.weigh else [calm] if calm else []
        found = [outcome for some in apart for outcome in self._score(some)]
        works = [self._work(one, *outcome, now) for one, outcome in zip(calm, found, strict=True)]
        if crowded:
            made = {work.partition: work for work in (*works, *(self._in_parts(one, now) for one in crowded))}
            works = [made[one.part.number] for one in reads]
        self._doubt(works)
        return works

    def _crowded(self, read: _Read) -> bool:
        return len(read.part.store) + len(read.events) > self.most

    def _in_parts(self, read: _Read, now: int) -> ChunkResult:
        """Score a chunk in parts, after each of which those who came longest ago go: as if it were event by event."""
        part, clock, works, done = read.part, read.part.clock, [], 0
        users = [event.user_id for event in read.events]
        time = np.array([event.timestamp for event in read.events], np.int64)
        while done < len(users):
            end = done + steady(part.store, users[done:], read.clock[done:], time[done:], self.most)
            some = read.part_of(done, end)
            part.clock = int(some.clock[-1]) if end < len(users) else clock
            (outcome,) = self._score([some])
            works.append(self._work(some, *outcome, now))
            done = end
        return ChunkResult.whole(works)

    def _doubt(self, works: list[ChunkResult]) -> None:
        """Ask whether the model still runs where it fails again and again; raise BundleError where it does not.

        What it cannot score for want of memory, or by a broken library, is no dead letter.
        """
        failed = sum(work.rejected[reason] for work in works for reason in _FAILURES)
        self._failed = 0 if any(work.scores for work in works) else self._failed + failed
        if self._failed < _DOUBT or self.replay is None:
            return
        self._failed = 0
        try:
            fault = f"parity is {worst:.2g}" if not (worst := self.replay()) <= TOLERANCE else ""
        except Exception as error:  # onnxruntime's own errors share no base class but this one
            fault = str(error) or type(error).__name__
        if fault:
            raise BundleError(
                f"the model no longer runs here: {fault}",
                "look at the host's memory and at what is installed; a restart goes on from the last commit",
            )

    def _read(self, part: Partition, records: Sequence[Record], now: int) -> _Read:
        stamps = np.fromiter(map(_TIMESTAMP, records), np.int64, len(records))
        # A record's time comes from its producer's clock, as the event's does: both are held to `now`.
        newest = np.where(stamps >= DATED, np.minimum(stamps, now), now) + self.limits.future
        events, at, rejected = self._decode(part.number, records, newest)
        sources, stamps = ([records[i] for i in at], stamps[at]) if rejected else (records, stamps)
        clock = _clock(part.clock, _times(stamps, events), now + self.limits.future)
        part.clock = int(clock[-1]) if len(clock) else part.clock
        return _Read(part, records, events, sources, at, stamps, clock, rejected)

    def _work(self, read: _Read, scores: Scores, changes: list[Message], now: int) -> ChunkResult:
        part, records, rejected = read.part, read.records, read.rejected
        for i, code in zip(np.flatnonzero(scores.outcome).tolist(), scores.outcome[scores.outcome > 0], strict=True):
            rejected.append((read.at[i], REASONS[code - 1]))
        rejected.sort()
        evicted, displaced = self._evict(part), self._displace(part)
        keys = [event.user_id.encode() for event in read.events]
        return ChunkResult(
            partition=part.number,
            scores=self.publisher.scored(part.number, read.sources, read.events, keys, scores, now),
            dead=[
                self.publisher.dead(part.number, records[i], reason, self._cause(part.number, records[i], reason))
                for i, reason in rejected
            ],
            changes=changes + evicted + displaced + self._owed(part),
            rejected=Counter(reason for _, reason in rejected),
            intent=scores.intent[scores.outcome == SCORED],
            foreign=sum(map(ne, map(_KEY, read.sources), keys)),
            arrived=read.stamps[(scores.outcome == SCORED) & (read.stamps >= DATED)],
            records=len(records),
            evicted=len(evicted),
            displaced=len(displaced),
        )

    def _decode(
        self, number: int, records: Sequence[Record], newest: Ints
    ) -> tuple[list[Event], Sequence[int], list[tuple[int, str]]]:
        """Return the events, the places of their records, and (place, reason) of the others."""
        values, largest = [record.value for record in records], self.limits.event_bytes
        whole = self.decoder.all(values, newest, largest, lambda: _positions(number, records))
        if whole is None or not self.types.keys() >= {event.type for event in whole}:
            return self._sort_out(number, records, newest.tolist())
        if not self._well_named(values, whole):
            return self._sort_out(number, records, newest.tolist())
        if any(map(_HEADERS, records)) and any(self._heavy(record.headers) for record in records):
            return self._sort_out(number, records, newest.tolist())
        return whole, range(len(whole)), []

    def _well_named(self, values: Sequence[bytes | None], events: list[Event]) -> bool:
        """Tell whether the ids of events are such as may be published, mostly by a look at the bytes alone."""
        longest, printable = self.limits.id_characters, self.limits.printable
        if longest == ID_LENGTH_MAX and (not printable or plain(values)):
            return True
        return not any(bad_id(event, longest, printable) for event in events)

    def _cause(self, number: int, record: Record, reason: str) -> str:
        """Say of a bad id or an unknown type, decoded once more, which it is and why; nothing of other reasons."""
        if reason not in ("bad_id", "unknown_type"):
            return ""
        event = self.decoder.one(record.value, 2**53, self.limits.event_bytes, f"{number}-{record.offset}")
        if isinstance(event, BadEvent):
            return ""
        if reason == "unknown_type":
            return f"the model knows no type {event.type[:_TYPE_SHOWN]!r}"
        return bad_id(event, self.limits.id_characters, self.limits.printable)

    def _heavy(self, headers: Sequence[tuple[str, bytes]]) -> bool:
        return bool(headers) and (len(headers) > HEADERS or header_bytes(headers) > self.limits.event_bytes)

    def _sort_out(
        self, number: int, records: Sequence[Record], newest: list[int]
    ) -> tuple[list[Event], list[int], list[tuple[int, str]]]:
        """Decode records one by one; an event of one is not believed beyond its `newest` (ms)."""
        events, at, rejected = [], [], []
        largest, types = self.limits.event_bytes, self.types
        for i, r in enumerate(records):
            event = self.decoder.one(r.value, newest[i], largest, f"{number}-{r.offset}")
            if fault := fault_of(r):
                rejected.append((i, fault.reason))
            elif isinstance(event, BadEvent):
                rejected.append((i, event.reason))
            elif event.type not in types:
                rejected.append((i, "unknown_type"))
            elif bad_id(event, self.limits.id_characters, self.limits.printable):
                rejected.append((i, "bad_id"))
            elif self._heavy(r.headers):
                rejected.append((i, "oversized"))
            else:
                events.append(event)
                at.append(i)
        return events, at, rejected

    def _score(self, reads: list[_Read]) -> list[tuple[Scores, list[Message]]]:
        """Return the outcomes of chunks, and the changelog's records; their sessions stand in one batch meanwhile."""
        touched, slots, before, base = [], [], [], 0
        for one in reads:
            places, slot = np.unique(one.part.store.slots([e.user_id for e in one.events]), return_inverse=True)
            touched.append(places)
            slots.append(slot + base)
            before.append(one.part.store.read(places))
            base += len(places)
        events = [event for one in reads for event in one.events]
        clock, slot = np.concatenate([one.clock for one in reads]), np.concatenate(slots)
        batch = encode(events, clock, slot, self.types, self.vocabulary)
        rules = self.rules()
        lists = self._lists(self.lists, rules) if self.lists else None
        given = batch, together(before), self.step, self.manifest
        scores, after = score(*given, self.explain, lists, self.clock, self.along)
        scores.newcomers.update(rules.names)
        changed = np.zeros(base, bool)
        changed[slot[scores.outcome == SCORED]] = True
        found, row, base = [], 0, 0
        for one, places in zip(reads, touched, strict=True):
            own = scores if len(reads) == 1 else scores.part(row, row + len(one.events))
            here = slice(base, base + len(places))
            sessions = self._kept(one, places, slot[row : row + len(one.events)] - base, after[here], changed[here])
            found.append((own, sessions + self._join(one.part, one.events, batch, own, rules)))
            row, base = row + len(one.events), base + len(places)
        return found

    def _kept(
        self, one: _Read, places: Rows, slot: Rows, after: Sessions, changed: np.ndarray[tuple[int], np.dtype[np.bool_]]
    ) -> list[Message]:
        """Put a chunk's sessions back, `slot` being its events' among them; return those that changed, packed."""
        put(one.part.store.records, places, after)
        one.part.store.free(places[after["model"] == 0])
        whose = np.zeros(len(places), np.intp)
        whose[slot] = np.arange(len(slot))
        rows = np.flatnonzero(changed)
        return _packed([one.events[row].user_id for row in whose[rows].tolist()], take(after, rows))

    def _lists(self, rank: Callable[[Answers, Rules], Arrays], rules: Rules) -> Lists:
        def lists(answers: Answers) -> Arrays:
            prints = answers["bought"]
            bought = self.vocabulary.item_of(prints.ravel()).reshape(prints.shape)
            return {**rank({**answers, "bought": bought}, rules), "bought": bought.astype(np.uint64)}

        return lists

    def _join(self, part: Partition, events: list[Event], batch: Events, scores: Scores, rules: Rules) -> list[Message]:
        """Let cold items into the lists; return their changelog records."""
        novelty = self.manifest.novelty
        if self.weigh is None or novelty is None:
            return []
        names = [event.item_id for event in events]
        new, users = np.flatnonzero(batch.item > self.manifest.items), np.zeros(len(events), np.uint64)
        users[new] = fingerprints([events[row].user_id for row in new.tolist()])
        changed = join(part.newcomers, batch, scores, names, novelty, self.manifest.items, self.weigh, rules, users)
        packed = pack(part.newcomers, changed)
        return [Message(ITEM + name.encode(), value) for name, value in packed]

    def _evict(self, part: Partition) -> list[Message]:
        """Forget the sessions that are over by the partition's clock; whether they are still there shows nowhere."""
        ttl = self.manifest.meaning.ttl
        if part.clock - part.swept < ttl // _SWEEPS:
            return []
        gone = part.store.idle(part.clock, ttl)
        if len(gone) <= _EVICTED:
            part.swept = part.clock
        part.store.remove(gone := gone[:_EVICTED])
        return [Message(USER + user.encode(), None) for user in gone]

    def _displace(self, part: Partition) -> list[Message]:
        """Forget those who came longest ago, where there are more users than are kept."""
        if not self.most or len(part.store) <= self.most:
            return []
        return [Message(USER + user.encode(), None) for user in displace(part.store, self.most)]

    def _owed(self, part: Partition) -> list[Message]:
        """Return tombstones of some who were displaced at the recovery and did not come again."""
        if not part.owed:
            return []
        users, part.owed = part.owed[:_EVICTED], part.owed[_EVICTED:]
        there = part.store.find(users) >= 0
        return [Message(USER + user.encode(), None) for user, is_ in zip(users, there.tolist(), strict=True) if not is_]


def _positions(number: int, records: Sequence[Record]) -> list[str]:
    """Return where records lie, which are the ids of events without one."""
    return [f"{number}-{offset}" for offset in map(_OFFSET, records)]


def _times(stamps: Ints, events: Sequence[Event]) -> Ints:
    """Return the record times of events (ms): where a record has none, the event's own."""
    if (dated := stamps >= DATED).all():
        return stamps
    return np.where(dated, stamps, np.fromiter((event.timestamp for event in events), np.int64, len(events)))


def _clock(before: int, times: Ints, newest: int) -> Ints:
    """Return a partition's clock at each record: the running maximum of their times (ms), as far as they are believed.

    A producer whose clock is ahead of `newest` must end nobody's session.
    """
    believed = np.where(times <= newest, times, before)
    return np.maximum.accumulate(np.maximum(believed, before))


def _packed(users: list[str], sessions: Sessions) -> list[Message]:
    size, raw = sessions.dtype.itemsize, sessions.tobytes()
    return [Message(USER + user.encode(), raw[i * size : (i + 1) * size]) for i, user in enumerate(users)]
