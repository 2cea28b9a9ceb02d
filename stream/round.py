"""Records of a partition in, what is to be published out: decode, score, encode. `forecart score` is this, too."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import numpy as np

from stream.core import score
from stream.core.catalog import Catalog
from stream.core.clock import EVERY, Clock
from stream.core.events import REASONS, BadEvent, Cause, Event, Recommendation, Score, SessionView, Source, decode
from stream.core.features import Arrays, Events, encode
from stream.core.joining import Answers, join
from stream.core.newcomers import Table, pack
from stream.core.ring import causes
from stream.core.rules import Rules
from stream.core.scoring import SCORED, Lists, Rows, Scores
from stream.core.session import Sessions, put, record, take, together
from stream.room import keep_blocks
from stream.runtime import Bundle
from stream.sessions import SessionStore

Headers = list[tuple[str, bytes]]
USER, ITEM = b"u", b"i"
_SWEEPS = 24  # in a TTL
# Bytes of the input's headers and key that a dead letter carries: with its own headers below 64 KiB.
_HEADER_ROOM, _KEY_ROOM = 49_152, 8_192
_encode = msgspec.json.Encoder().encode


class Record(Protocol):
    """What is needed of a Kafka record; `timestamp` in ms."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, and how many ms an event may lie after its record's timestamp."""

    event_bytes: int
    dead_letter_bytes: int
    future: int


class Message(msgspec.Struct, gc=False):
    """One record to publish; a value of None is a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class Partition:
    """What a worker holds of one partition: sessions, next offset, newest record time (ms), unseen items."""

    number: int
    store: SessionStore
    position: int = 0
    clock: int = 0
    swept: int = 0
    newcomers: Table = field(default_factory=Table)


@dataclass(slots=True)
class Work:
    """What a chunk of records comes to; `changes` are the changelog's records."""

    partition: int
    scores: list[Message]
    dead: list[Message]
    changes: list[Message]
    rejected: Counter[str]
    intent: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    foreign: int  # records whose key is not their shopper's id
    arrived: np.ndarray[tuple[int], np.dtype[np.int64]]  # record times of what was scored, ms
    records: int
    evicted: int


@dataclass(slots=True)
class _Read:
    """A chunk, decoded: its events, the places of their records, record times (ms) of events, who is no event."""

    part: Partition
    records: Sequence[Record]
    events: list[Event]
    at: list[int]
    arrived: np.ndarray[tuple[int], np.dtype[np.int64]]
    rejected: list[tuple[int, str]]


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
    ) -> None:
        self.manifest, self.vocabulary = bundle.manifest, bundle.vocabulary
        self.step, self.intent_step = bundle.step(recommend), bundle.intent_step
        self.clock = clock
        self.rules = rules or Catalog(bundle.vocabulary, [], 0, exclude_bought=False).rules
        self.lists = bundle.lists if recommend and bundle.asking_step else None
        if self.lists and bundle.asking_step:
            self.step = bundle.asking_step
        self.weigh = bundle.weigh if recommend else None
        self.explain = explain
        self.limits, self.topic = limits, topic
        self.layout = record(bundle.manifest)
        self.types = {name: i for i, name in enumerate(bundle.manifest.meaning.types)}
        keep_blocks()

    def process(self, part: Partition, records: Sequence[Record], now: int) -> Work:
        """Score a chunk in order; the partition's sessions and clock move on. `now` (ms) is written as `scored_at`."""
        return self.process_all([(part, records)], now)[0]

    def process_all(self, chunks: Sequence[tuple[Partition, Sequence[Record]]], now: int) -> list[Work]:
        """Score chunks of different partitions; where no newcomers join the lists of one, all at once."""
        reads = [self._read(part, records, now) for part, records in chunks]
        apart = [[one] for one in reads] if self.weigh else [reads]
        found = [outcome for some in apart for outcome in self._score(some)]
        return [self._work(one, *outcome, now) for one, outcome in zip(reads, found, strict=True)]

    def _read(self, part: Partition, records: Sequence[Record], now: int) -> _Read:
        events, at, rejected = self._decode(records)
        arrived = np.fromiter((r.timestamp for r in records), np.int64, len(records))
        # A producer whose clock is ahead must not end other shoppers' sessions.
        sane = arrived[at][arrived[at] <= now + self.limits.future]
        part.clock = max(part.clock, int(sane.max(initial=0)))
        return _Read(part, records, events, at, arrived[at], rejected)

    def _work(self, read: _Read, scores: Scores, changes: list[Message], now: int) -> Work:
        part, records, events, at, rejected = read.part, read.records, read.events, read.at, read.rejected
        for i, code in zip(np.flatnonzero(scores.outcome).tolist(), scores.outcome[scores.outcome > 0], strict=True):
            rejected.append((at[i], REASONS[code - 1]))
        rejected.sort()
        evicted = self._evict(part)
        keys = [event.user_id.encode() for event in events]
        return Work(
            partition=part.number,
            scores=self._messages(part.number, records, events, keys, at, scores, now),
            dead=[self._dead(part.number, records[i], reason) for i, reason in rejected],
            changes=changes + evicted,
            rejected=Counter(reason for _, reason in rejected),
            intent=scores.intent[scores.outcome == SCORED],
            foreign=sum(records[i].key != key for i, key in zip(at, keys, strict=True)),
            arrived=read.arrived[scores.outcome == SCORED],
            records=len(records),
            evicted=len(evicted),
        )

    def _decode(self, records: Sequence[Record]) -> tuple[list[Event], list[int], list[tuple[int, str]]]:
        """Return the events, the places of their records, and (place, reason) of the others."""
        events, at, rejected = [], [], []
        future, largest, types = self.limits.future, self.limits.event_bytes, self.types
        for i, r in enumerate(records):
            event = decode(r.value, r.timestamp + future, largest)
            if isinstance(event, BadEvent):
                rejected.append((i, event.reason))
            elif event.type not in types:
                rejected.append((i, "unknown_type"))
            elif r.headers and sum(len(k) + len(v or b"") for k, v in r.headers) > largest:
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
            before.append(take(one.part.store.records, places))
            base += len(places)
        events = [event for one in reads for event in one.events]
        arrived, slot = np.concatenate([one.arrived for one in reads]), np.concatenate(slots)
        batch = encode(events, arrived, slot, self.types, self.vocabulary)
        rules = self.rules()
        lists = self._lists(self.lists, rules) if self.lists else None
        scores, after = score(batch, together(before), self.step, self.manifest, self.explain, lists, self.clock)
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
        """Let newcomers into the lists; return their changelog records."""
        novelty = self.manifest.novelty
        if self.weigh is None or novelty is None:
            return []
        names = [event.item_id for event in events]
        changed = join(part.newcomers, batch, scores, names, novelty, self.manifest.items, self.weigh, rules)
        packed = pack(part.newcomers, self.vocabulary, changed)
        return [Message(ITEM + name.encode(), value) for name, value in packed]

    def _evict(self, part: Partition) -> list[Message]:
        ttl = self.manifest.meaning.ttl
        if part.clock - part.swept < ttl // _SWEEPS:
            return []
        part.swept = part.clock
        gone = part.store.idle(part.clock, ttl)
        part.store.remove(gone)
        return [Message(USER + user.encode(), None) for user in gone]

    def _messages(
        self,
        number: int,
        records: Sequence[Record],
        events: list[Event],
        keys: list[bytes],
        at: list[int],
        scores: Scores,
        now: int,
    ) -> list[Message]:
        horizons, model = self.manifest.meaning.horizons, self.manifest.model
        # Seven digits are more than float32 holds, and half the bytes of its shortest double.
        intent = scores.intent.astype(np.float64).round(7).tolist()
        length, started, late = scores.length.tolist(), scores.started.tolist(), scores.late.tolist()
        recommended, why = self._recommended(scores), self._why(scores)
        messages = []
        for i in np.flatnonzero(scores.outcome == SCORED).tolist():
            event, source = events[i], records[at[i]]
            value = Score(
                event.event_id,
                event.user_id,
                Source(number, source.offset),
                event.timestamp,
                now,
                model,
                dict(zip(horizons, intent[i], strict=True)),
                SessionView(length[i], started[i]),
                recommended[i] if recommended else [],
                late[i],
                why[i] if why else [],
            )
            messages.append(Message(keys[i], _encode(value), source.headers))
        return messages

    def _recommended(self, scores: Scores) -> list[list[Recommendation]]:
        if scores.items is None or scores.item_scores is None:
            return []
        names, known, new = self.vocabulary.items, len(self.vocabulary.items), scores.newcomers
        rows = zip(scores.items.tolist(), scores.item_scores.astype(np.float64).round(5).tolist(), strict=True)
        return [
            [
                Recommendation(names[item - 1] if item <= known else new[item], value)
                for item, value in zip(items, values, strict=True)
                if item  # a blank follows where there are fewer
            ]
            for items, values in rows
        ]

    def _why(self, scores: Scores) -> list[list[Cause]]:
        if scores.after is None:
            return []
        return causes(scores.after, self.intent_step, self.manifest, self.vocabulary)

    def _dead(self, number: int, source: Record, reason: str) -> Message:
        """Make a dead letter: the raw bytes and, in headers, where they lay and why they are here."""
        place = {"topic": self.topic, "partition": str(number), "offset": str(source.offset)}
        facts = place | {"reason": reason, "timestamp": str(source.timestamp)}
        raw, largest = source.value, self.limits.dead_letter_bytes
        if raw is not None and len(raw) > largest:
            facts |= {"length": str(len(raw)), "sha256": hashlib.sha256(raw).hexdigest()}
            raw = raw[:largest]
        if source.key is not None and len(source.key) > _KEY_ROOM:
            facts["key-length"] = str(len(source.key))
        streams = place | {"exception": f"forecart.{reason}", "message": f"this record is no event: {reason}"}
        headers = [(f"forecart-{name}", value.encode()) for name, value in facts.items()]
        headers += [(f"__streams.errors.{name}", value.encode()) for name, value in streams.items()]
        key = source.key if source.key is None else source.key[:_KEY_ROOM]
        return Message(key, raw, [*_carried(source.headers), *headers])


def _carried(headers: Sequence[tuple[str, bytes]]) -> Headers:
    """Keep the headers that a dead letter has room for."""
    room, kept = _HEADER_ROOM, []
    for name, value in headers:
        room -= len(name) + len(value or b"")
        if room < 0:
            break
        kept.append((name, value))
    return kept


def _packed(users: list[str], sessions: Sessions) -> list[Message]:
    size, raw = sessions.dtype.itemsize, sessions.tobytes()
    return [Message(USER + user.encode(), raw[i * size : (i + 1) * size]) for i, user in enumerate(users)]
