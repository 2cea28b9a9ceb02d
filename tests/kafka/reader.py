"""An independent `read_committed` reader of a group's topics, and the offline replay of what it found.

It uses none of the project's clients; the replay is the project's scorer without Kafka.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from stream.bundle.onnx import Bundle
from stream.core.list_triggers import MOVED
from stream.mappings import topic_decoder
from stream.scoring.configured import limits
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.settings import Settings
from stream.state.sessions import SessionStore
from tests.kafka.oracle import Outcome, Place, Reading, Record, Replay, of_letter, of_score

CHUNK = 777  # events that a replay scores at once, unless it is told the worker's own chunks
_PATIENCE = 120.0  # seconds for a topic of some 100,000 records on a busy machine
_BEGIN, _END = OffsetSpec.earliest(), OffsetSpec.latest()
_STABLE, _HIGH = IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED


class Reader:
    """Read the topics of a group from outside of it."""

    def __init__(self, address: str, settings: Settings, unreadable: Collection[Place] = ()) -> None:
        self._address, self._settings, self.unreadable = address, settings, unreadable
        self.shorten: Callable[[bytes], bytes] | None = None  # what is kept of values, where all of them are too much
        self._admin = AdminClient({"bootstrap.servers": address, "log_level": 0})

    def read(self, topic: str) -> list[Message]:
        """Read all committed records of a topic; of the input, what lies between batches that no reader can read."""
        unreadable = self.unreadable if topic == self._settings.events_topic else ()
        spans = {
            number: spans_between({at for where, at in unreadable if where == number})
            for number in self._numbers(topic)
        }
        found = []
        while spans:
            found += self._read_spans(topic, {number: ahead.pop(0) for number, ahead in spans.items()})
            spans = {number: ahead for number, ahead in spans.items() if ahead}
        return found

    def _read_spans(self, topic: str, spans: Mapping[int, tuple[int, float]]) -> list[Message]:
        """Read one span of each partition, from its begin up to its end or the partition's."""
        reader = self._consumer("oracle", **{"enable.partition.eof": True, "check.crcs": True})
        reader.assign([TopicPartition(topic, number, begin) for number, (begin, _) in spans.items()])
        found, deadline = [], time.monotonic() + _PATIENCE
        ends = {number: end for number, (_, end) in spans.items()}
        while ends:
            assert time.monotonic() < deadline, f"{topic} was not read to its end within {_PATIENCE} s"
            for message in reader.consume(10_000, 1.0):
                number = message.partition()
                if number not in ends:  # its span is read: behind it librdkafka meets what it cannot read
                    continue
                if error := message.error():
                    assert error.name() == "_PARTITION_EOF" or ends[number] < math.inf, error
                    del ends[number]
                    continue
                if message.offset() < ends[number]:
                    found.append(self._shortened(message))
                if message.offset() + 1 >= ends[number]:
                    del ends[number]
        reader.close()
        return found

    def _shortened(self, message: Message) -> Message:
        if self.shorten and (value := message.value()):
            message.set_value(self.shorten(value))
        return message

    def read_outcomes(self) -> list[Outcome]:
        """Read the scores and the dead letters."""
        scores, letters = map(self._records, (self._settings.scores_topic, self._settings.dead_letters_topic))
        return [*map(of_score, scores), *map(of_letter, letters)]

    def read_all(self, before: Reading | None = None) -> Reading:
        """Read everything: committed offsets first, which what is read later must cover.

        With a reading of before it is the outcomes and the changelog alone: that input is there no longer.
        """
        names = self._settings
        self._settle([names.scores_topic, names.dead_letters_topic, names.changelog], 30.0)
        own = before or self._read_input()
        topics = names.scores_topic, names.dead_letters_topic, names.changelog
        scores, dead_letters, changelog = map(self._records, topics)
        return replace(own, scores=scores, dead_letters=dead_letters, changelog=changelog)

    def _read_input(self) -> Reading:
        names, committed = self._settings, self._committed()
        return Reading(
            # Headers of the input may have names that are no text, of which confluent-kafka dies.
            events=[record(message, headers=False) for message in self.read(names.events_topic)],
            scores=(),
            dead_letters=(),
            changelog=(),
            begins=self._offsets(names.events_topic, _BEGIN),
            ends=self._offsets(names.events_topic, _END),
            committed=committed,
            unreadable=frozenset(self.unreadable),
        )

    def _settle(self, topics: Iterable[str], seconds: float) -> None:
        """Wait until no transaction is open in topics: its marker comes to each partition a moment later."""
        deadline = time.monotonic() + seconds
        for topic in topics:
            while self._offsets(topic, _END, _STABLE) != self._offsets(topic, _END):
                assert time.monotonic() < deadline, f"a transaction stays open in {topic}"
                time.sleep(0.1)

    def _committed(self) -> dict[int, int]:
        topic, reader = self._settings.events_topic, self._consumer(self._settings.group)
        found = reader.committed([TopicPartition(topic, number) for number in self._numbers(topic)], 10)
        reader.close()
        return {tp.partition: tp.offset for tp in found if tp.offset >= 0}

    def _consumer(self, group: str, **more: object) -> Consumer:
        names = {"bootstrap.servers": self._address, "group.id": group, "enable.auto.commit": False}
        return Consumer({**names, "isolation.level": "read_committed", "auto.offset.reset": "earliest", **more})

    def _numbers(self, topic: str) -> list[int]:
        return list(self._admin.list_topics(topic, 10).topics[topic].partitions)

    def _offsets(self, topic: str, spec: OffsetSpec, isolation: IsolationLevel = _HIGH) -> dict[int, int]:
        asked = {TopicPartition(topic, number): spec for number in self._numbers(topic)}
        answers = self._admin.list_offsets(asked, isolation_level=isolation, request_timeout=10)
        return {tp.partition: answer.result(11).offset for tp, answer in answers.items()}

    def _records(self, topic: str) -> list[Record]:
        return [record(message) for message in self.read(topic)]


def spans_between(unreadable: Collection[int]) -> list[tuple[int, float]]:
    """Return the begins and ends of what lies between offsets."""
    begins = sorted({0, *(offset + 1 for offset in unreadable)} - set(unreadable))
    ends = [*sorted(offset for offset in unreadable if offset and offset - 1 not in unreadable), math.inf]
    return list(zip(begins, ends, strict=True))


def record(message: Message, headers: bool = True) -> Record:
    """Return what the oracle needs of a message."""
    number, offset, stamp = message.partition(), message.offset(), message.timestamp()[1]
    found = tuple(message.headers() or ()) if headers else ()
    return Record(number, offset, stamp, message.key(), message.value(), found)


def replay(
    records: Iterable[Record], bundle: Bundle, settings: Settings, scored_at: Mapping[Place, int] | None = None
) -> Replay:
    """Score the input offline, partition by partition.

    With `scored_at` (ms) by place it is cut as the worker cut it, who wrote a chunk's time into its scores, and with
    the worker's clock: then states are equal bit for bit.
    """
    shape = topic_decoder(settings.mapping)
    scorer = Scorer(bundle, False, limits(settings), settings.events_topic, decoder=shape, most=settings.max_users)
    sessions: dict[tuple[int, bytes], Any] = {}
    clocks = {}
    ordered = sorted(records, key=lambda r: r.place)
    for number, own in groupby(ordered, key=lambda r: r.partition):
        part = Partition(number, SessionStore(scorer.layout))
        for now, lines in _chunks(list(own), scored_at):
            scorer.process(part, lines, now)
        clocks[number] = part.clock
        sessions |= {(number, user.encode()): part.store.get(user) for user in part.store}
    moved = settings.recommend_moved if settings.recommend_on == MOVED else 0.0
    return Replay(sessions, clocks, bundle.manifest.meaning.ttl, moved)


def _chunks(records: list[Record], scored_at: Mapping[Place, int] | None) -> Iterator[tuple[int, list[Line]]]:
    """Cut a partition's records; yield each chunk with the clock (ms) that it is scored by."""
    lines = [Line(r.offset, r.timestamp, r.key, r.value, list(r.headers)) for r in records]
    if scored_at is None:
        for begin in range(0, len(lines), CHUNK):
            yield int(time.time() * 1000), lines[begin : begin + CHUNK]
        return
    times, now = [], next((scored_at[r.place] for r in records if r.place in scored_at), 0)
    for r in records:  # a dead letter tells no time: it goes with what lies before it
        now = scored_at.get(r.place, now)
        times.append(now)
    for now, chunk in groupby(zip(times, lines, strict=True), key=lambda each: each[0]):
        yield now, [line for _, line in chunk]
