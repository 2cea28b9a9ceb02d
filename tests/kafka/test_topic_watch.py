"""Topics that are deleted, made again or grown under a worker: it ends within a minute, with the way out."""

import time
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka.admin import NewPartitions, NewTopic

from stream.core.errors import TopicError
from stream.kafka.client.admin import admin
from stream.kafka.topics import watch as topic_watch
from stream.kafka.topics.admin import apply, wanted
from stream.kafka.topics.watch import Seen, TopicWatch
from tests.kafka.oracle import Reading, assert_exactly_once
from tests.kafka.shop import Shop, wait_for
from tests.kafka.test_worker import NOW, _value

MINUTE = 60.0
GROW, ANEW, APPLY, RESTORE = "forecart topics grow", "another --group", "forecart topics apply", "restore the changelog"


def _delete(place: Shop, topic: str) -> None:
    client = admin(place.settings)
    client.delete_topics([topic])[topic].result(10)
    wait_for(lambda: topic not in client.list_topics(timeout=5).topics, 20, "the topic is gone")


def _make_again(place: Shop, topic: str) -> None:
    _delete(place, topic)
    config = next(t.config for t in wanted(place.settings, 1, 1) if t.name == topic)
    client = admin(place.settings)
    client.create_topics([NewTopic(topic, place.partitions, 1, config=config)])[topic].result(10)
    wait_for(lambda: topic in client.list_topics(timeout=5).topics, 20, "the topic is there")


def _grow(place: Shop, topic: str) -> None:
    client = admin(place.settings)
    client.create_partitions([NewPartitions(topic, 4)])[topic].result(10)
    wait_for(lambda: len(client.list_topics(timeout=5).topics[topic].partitions) == 4, 20, "the topic has grown")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again soon."""
    monkeypatch.setattr(topic_watch, "AGAIN", 0.3)


@pytest.mark.parametrize(
    ("change", "setting", "text", "remedy"),
    [
        (_delete, "events_topic", "was deleted", ANEW),
        (_make_again, "events_topic", "was deleted and made again", ANEW),
        (_grow, "events_topic", "has 4 partitions, it had 2", GROW),
        (_delete, "changelog", "was deleted", RESTORE),
        (_make_again, "changelog", "was deleted and made again", RESTORE),
        (_grow, "changelog", "has 4 partitions, it had 2", GROW),
        (_delete, "scores_topic", "was deleted", APPLY),
        (_delete, "dead_letters_topic", "was deleted", APPLY),
    ],
)
def test_a_topic_that_changes_is_refused(shop: Any, quick: None, change: Any, setting: str, text: str, remedy: str):
    place = shop(partitions=2)
    watch = TopicWatch(place.settings, pytest.fail)
    watch.check()
    watch.check()
    topic = getattr(place.settings, setting)
    change(place, topic)
    with pytest.raises(TopicError, match=f"^{topic} {text}\n") as caught:
        watch.check()
    assert remedy in caught.value.remedy


def test_scores_that_are_made_again_or_grown_are_no_fault(shop: Any, quick: None):
    place = shop(partitions=2)
    watch = TopicWatch(place.settings, pytest.fail)
    watch.check()
    _make_again(place, place.settings.scores_topic)
    _grow(place, place.settings.scores_topic)
    watch.check()


def test_one_answer_alone_or_none_says_nothing(shop: Any, quick: None, monkeypatch: pytest.MonkeyPatch):
    """A broker that starts may know no topic yet; one that is away says nothing."""
    place = shop(partitions=2)
    watch = TopicWatch(place.settings, pytest.fail)
    watch.check()
    answers: list[Any] = [dict.fromkeys(watch._names), None]
    real = topic_watch.described

    def described(*given: Any) -> dict[str, Seen | None]:
        return (answers.pop(0) if answers else None) or real(*given)

    monkeypatch.setattr(topic_watch, "described", described)
    watch.check()
    assert not answers
    away = TopicWatch(place.settings.model_copy(update={"bootstrap_servers": "127.0.0.1:1"}), pytest.fail)
    monkeypatch.setattr(topic_watch, "_REQUEST_SECONDS", 0.5)
    away.check()


def _scored(shop: Any, name: str) -> Shop:
    """Start a worker that has scored 100 users."""
    place = shop(partitions=2, stall_seconds=120)
    place.send([(b"u%d" % n, _value(n, f"u{n}", NOW + n)) for n in range(100)])
    place.start(name)
    return place


def _anew(before: Reading, now: Reading, field: str) -> Reading:
    """Return what lies there now, with the records of before in front of those of a topic that was made again."""
    first = getattr(before, field)
    later = 1 + max(r.offset for r in first)
    return replace(now, **{field: [*first, *(r._replace(offset=later + r.offset) for r in getattr(now, field))]})


def _was_right(place: Shop, reading: Reading) -> None:
    """Ask the oracle of what a worker scored until it ended: the input up to some offset of each partition."""
    ends = dict(reading.begins)
    for number, offset in reading.counts:
        ends[number] = max(ends.get(number, 0), offset + 1)
    place.ledger.records[:] = [r for r in place.ledger.records if r.offset < ends.get(r.partition, 0)]
    events = [e for e in reading.events if e.offset < ends[e.partition]]
    found = place.examine(faults=1, reading=replace(reading, events=events, ends=ends))
    assert_exactly_once(found, at_least=100, sessions=100)


def test_workers_end_within_a_minute(shop: Any):
    """Change a topic under each of four groups at once; a new start is refused too, where it must be."""
    names = ("deleted", "grown", "made-again", "scores")
    deleted, grown, again, scores = places = [_scored(shop, name) for name in names]
    workers = [place.workers[name][0] for place, name in zip(places, names, strict=True)]
    for place in places:
        place.await_outcomes(90)
    before = [place.reader.read_all() for place in places]
    began = time.monotonic()
    _delete(deleted, deleted.settings.events_topic)
    _make_again(again, again.settings.changelog)
    _delete(scores, scores.settings.scores_topic)
    scores.send([(b"u%d" % n, _value(200 + n, f"u{n}", NOW + n)) for n in range(50)])
    again.send([(b"u1", _value(200, "u1", NOW))])
    _grow(grown, grown.settings.events_topic)
    grown.send([(b"u%d" % n, _value(200 + n, f"u{n}", NOW + n)) for n in range(100)])
    codes = [worker.wait(max(began + MINUTE - time.monotonic(), 1)) for worker in workers]
    texts = [place.log_of(name).read_text() for place, name in zip(places, names, strict=True)]
    assert codes == [78] * 4, texts
    for text, line in zip(
        texts, ("was deleted\n", "has 4 partitions", "was deleted and made again\n", "was deleted\n"), strict=True
    ):
        assert line in text and "Traceback" not in text
    assert GROW in texts[1]
    assert {number for number, _ in grown.outcomes()} == {0, 1}
    # The changelog that was made again is refused at each start, though positions were written to it since.
    worker = again.start("made-again")
    assert worker.wait(60) == 78
    # Where nothing but outcomes was deleted, it goes on where it was.
    apply(scores.settings, 2, 1)
    scores.start("scores")
    wait_for(lambda: len(scores.read(scores.settings.scores_topic)) == 50, 60, "the rest is scored")
    assert grown.start("grown").wait(60) == 78
    _was_right(deleted, deleted.reader.read_all(before[0]))
    _was_right(grown, grown.reader.read_all())
    _was_right(again, _anew(before[2], again.reader.read_all(), "changelog"))
    reading = _anew(before[3], scores.reader.read_all(), "scores")
    assert_exactly_once(scores.examine(faults=1, reading=reading), at_least=150, sessions=100)
