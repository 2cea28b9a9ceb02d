"""State is a function of the log: however it is cut into chunks, groups and restarts, the outcomes are the same."""

from dataclasses import dataclass, field
from unittest.mock import patch

import msgspec
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stream.bundle.onnx import Bundle
from stream.core.events import Event
from stream.core.manifest import ColdStart, Vocabulary
from stream.kafka.exactly_once.changelog import POSITION, Position
from stream.records import Limits, Message
from stream.scoring.offline import Line
from stream.scoring.rehydrate import Rehydrator
from stream.scoring.scorer import ChunkResult, Partition, Scorer
from stream.state.sessions import SessionStore
from stream.state.user_bound import displace
from tests.fakes import DAY, HOUR, MINUTE, NOON, manifest, step

VOCAB = Vocabulary([f"i{n}" for n in range(1, 10)], ["x", "y"], [1] * 9)
NOW = NOON + 400 * DAY  # the worker's own clock
USERS, ITEMS = "abcde", ["i1", "i2", "new1", "new2", "new3", "new4"]
KINDS = ["event"] * 6 + ["again", "again", "broken", "undated", "ahead", "unscorable"]


def _ranked(inputs, hidden):
    """Answer as a step that newcomers join; what is put into a cart cannot be scored."""
    if (inputs["type"] == 1).any():
        raise RuntimeError
    outputs, state = step(inputs, hidden)
    n = len(inputs["item"])
    ranked = {"items": np.tile([3, 1], (n, 1)), "item_scores": np.tile(np.float32([0.5, 0.25]), (n, 1))}
    return {**outputs, **ranked}, state


def _weigh(_answers, _table, log_count):
    """Give each newcomer that there is the same, exactly: ties show any order that is not the log's."""
    there = np.isfinite(log_count)
    return 0.25 * there.any(1).astype(np.float32), 0.375 * there.astype(np.float32)


def _bundle() -> Bundle:
    facts = manifest(ttl=DAY, lateness=HOUR)
    facts = msgspec.structs.replace(facts, novelty=ColdStart(bias=0.0, half_life=float(HOUR), limit=2))
    return Bundle(facts, VOCAB, _ranked, _ranked, _weigh)


def _log(drawn: list[tuple[int, str, int, int, str, str]], at_once: int) -> list[list[Line]]:
    """Make the logs of two partitions: events, so many at once, each minute and `apart` (ms).

    Their records come `days` after the minute.
    """
    logs: list[list[Line]] = [[], []]
    for n, (number, user, days, apart, item, kind) in enumerate(drawn):
        own, time = logs[number], NOON + n // at_once * MINUTE
        name = f"e{n // 3}" if kind == "again" else f"e{n}"
        type_, category = "addtocart" if kind == "unscorable" else "view", "y" if n % 4 == 1 else None
        value = msgspec.json.encode(Event(name, user, type_, item, time + apart, category))
        stamp = {"undated": n % 3 - 1, "ahead": NOW + 9 * DAY + n}.get(kind, time + days * DAY)
        own.append(Line(len(own), stamp, user.encode(), b"{" if kind == "broken" else value))
    return logs


@dataclass
class Replica:
    """A partition that a worker holds, with its changelog and what was published of it."""

    reader: Rehydrator
    log: list[Line]
    part: Partition
    most: int = 0
    changelog: list[Message] = field(default_factory=list)
    scores: list[bytes] = field(default_factory=list)
    dead: list[Message] = field(default_factory=list)

    def take(self, n: int) -> tuple[Partition, list[Line]]:
        """Return the next records as a chunk."""
        return self.part, self.log[self.part.position : self.part.position + n]

    def commit(self, work: ChunkResult) -> None:
        """Keep what a round would have committed."""
        part = self.part
        part.position += work.records
        position = Message(POSITION, msgspec.json.encode(Position("t", part.position, part.clock)))
        self.changelog += [*work.changes, position]
        self.scores += [message.value for message in work.scores]
        self.dead += work.dead

    def restart(self, compacted: bool) -> None:
        """Begin again from the changelog, as it is or compacted, as a recovery does."""
        newest = {message.key: place for place, message in enumerate(self.changelog)}
        kept = [m for n, m in enumerate(self.changelog) if not compacted or (newest[m.key] == n and m.value)]
        self.part = part = Partition(self.part.number, SessionStore(self.reader.layout))
        self.reader.apply(part.store, [(m.key, m.value) for m in kept], part.newcomers)
        positions = [msgspec.json.decode(m.value, type=Position) for m in kept if m.key == POSITION]
        if self.most:
            assert displace(part.store, self.most) == []
        for position in positions[-1:]:
            part.position, part.clock = position.offset, position.clock

    def state(self, ttl: int) -> tuple[dict[str, bytes], list[object], int]:
        """Return the live sessions, the unseen items and the clock."""
        part = self.part
        gone = set(part.store.idle(part.clock, ttl))
        sessions = {user: part.store.get(user).tobytes() for user in part.store if user not in gone}
        table = part.newcomers
        return sessions, sorted(zip(table.names, map(table.get, table.names), strict=True)), part.clock


cuts = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans(), st.sampled_from(["", "", "plain", "compacted"])),
    max_size=12,
)


def _replay(drawn, steps, most=0, at_once=1):
    """Score the logs in the given steps, one of each partition, and what remains at once; `most` shoppers are kept."""
    bundle = _bundle()
    scorer = Scorer(bundle, True, Limits(2000, 500, HOUR), "events", most=most)
    logs = [
        Replica(Rehydrator(bundle), log, Partition(number, SessionStore(scorer.layout)), most)
        for number, log in enumerate(_log(drawn, at_once))
    ]
    for *counts, together, restart in [*steps, (99, 99, True, "")]:
        chunks = [one.take(n) for one, n in zip(logs, counts, strict=True)]
        works = (
            scorer.process_all(chunks, NOW)
            if together
            else [scorer.process(part, records, NOW) for part, records in chunks]
        )
        for one, work in zip(logs, works, strict=True):
            one.commit(work)
            assert not most or len(one.part.store) <= most
            if restart:
                one.restart(restart == "compacted")
    return [(one.scores, one.dead, *one.state(bundle.manifest.meaning.ttl)) for one in logs]


apart = st.sampled_from([0, 0, 0, 1, -1, -MINUTE, -2 * HOUR, 2 * HOUR, -2 * DAY, 2 * DAY])
records = st.tuples(
    st.integers(0, 1),
    st.sampled_from(USERS),
    st.integers(0, 3),
    apart,
    st.sampled_from(ITEMS),
    st.sampled_from(KINDS),
)
VIEW, NEW = (0, "a", 0, 0, "i1", "event"), (0, "a", 0, 0, "new1", "event")


@settings(max_examples=300)
@given(st.lists(records, max_size=40), cuts)
@example([VIEW, (0, "b", 2, 0, "i1", "event"), VIEW], [])
@example([NEW, (*NEW[:4], "new2", "event"), NEW, VIEW], [(2, 0, True, ""), (1, 0, True, "compacted")])
def test_no_cut_can_be_seen(drawn, steps):
    """Hold any cut against one record at a time: scores, dead letters, live sessions, unseen items, clock."""
    assert _replay(drawn, steps) == _replay(drawn, [(1, 1, False, "")] * len(drawn))


known = st.tuples(st.integers(0, 1), st.sampled_from(USERS), st.just(0), st.just(0), st.just("i1"), st.just("event"))
unseen = st.tuples(
    *(st.integers(0, 1), st.sampled_from(USERS), st.just(0), st.just(0), st.sampled_from(ITEMS[2:])), st.just("event")
)


@settings(max_examples=150)
@given(st.lists(known, min_size=6, max_size=12), st.lists(unseen | known, max_size=40), cuts, st.integers(1, 3))
def test_nor_where_shoppers_vouch_for_items_that_share_indices(before, drawn, steps, indices):
    with patch("stream.core.manifest.INDICES", len(VOCAB.items) + indices):
        drawn = [*before, *drawn]
        assert _replay(drawn, steps) == _replay(drawn, [(1, 1, False, "")] * len(drawn))


few = st.tuples(
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from(USERS),
    st.sampled_from([0, 0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, -MINUTE, -2 * HOUR]),
    st.sampled_from(["i1", "i2", "new1"]),
    st.sampled_from(["event"] * 9 + ["again", "broken", "undated", "ahead", "unscorable"]),
)


@settings(max_examples=500)
@given(st.lists(few, min_size=4, max_size=40), cuts, st.integers(1, 4), st.sampled_from([1, 3, 40]))
@example([VIEW, (0, "b", 0, 0, "i1", "event")] * 2, [], 1, 1)
def test_no_cut_can_be_seen_where_only_some_shoppers_are_kept(drawn, steps, most, at_once):
    """The same where the longest idle go, many events having one time."""
    assert _replay(drawn, steps, most, at_once) == _replay(drawn, [(1, 1, False, "")] * len(drawn), most, at_once)


@given(st.lists(few, min_size=4, max_size=40), st.integers(1, 4))
def test_kept_are_those_of_the_newest_events(drawn, most):
    """Hold who is kept against a list in the order of a log in which all goes well."""
    logs: list[dict[str, None]] = [{}, {}]
    for number, user, *_ in drawn:
        logs[number].pop(user, None)
        logs[number][user] = None
    well = [(number, user, 0, 0, "i1", "event") for number, user, *_ in drawn]
    for (_, _, sessions, *_), order in zip(_replay(well, [], most), logs, strict=True):
        assert set(sessions) == set(list(order)[-most:])
