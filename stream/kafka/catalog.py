"""The shop's catalog, from its compacted topic: read in full at the start, then followed by a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from stream.core.errors import StuckError, TopicError, UnreachableError
from stream.kafka.client.admin import ANSWER, Outbox, consumer, ended, reach
from stream.kafka.client.rights import Right, require
from stream.kafka.topics.admin import creation
from stream.logs import Sparing
from stream.recommend.list_filters import Rules
from stream.recommend.shop_catalog import Catalog
from stream.settings import Settings

log = logging.getLogger(__name__)
_BATCH, _WAIT = 10_000, 0.2  # a change is applied after so many seconds at most
_PATIENCE = 60.0  # without progress, or without a topic, seconds
_START, _ASK, _ANSWER = 10.0, 10.0, 5.0  # seconds for the first answer, between looks at a topic, for theirs
_FETCH = {
    **ANSWER,
    "fetch.message.max.bytes": 1 << 20,
    "fetch.max.bytes": 8 << 20,
    "fetch.wait.max.ms": 100,
    "enable.partition.eof": True,
}


class CatalogReader:
    """Hand out the rules that follow from the newest good records; without a topic, from the settings alone.

    `heard` is told of each record: the reason why it is none, empty where it was taken up.
    """

    def __init__(self, settings: Settings, catalog: Catalog, heard: Callable[[str], None] = lambda _: None) -> None:
        self._settings, self._catalog, self._heard = settings, catalog, heard
        self._rules = catalog.rules()
        self._reader: Any = None
        self._sparing = Sparing(log)
        self._stale = False
        self._ends: set[int] = set()  # partitions that are not yet read to their end
        self._asked = self._answered = 0.0  # monotonic seconds; 0: not yet
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def rules(self) -> Rules:
        """Return the rules of now."""
        return self._rules

    def start(self, fail: Callable[[BaseException], None]) -> None:
        """Read the topic to its end, then follow it; raise TopicError, UnreachableError or StuckError.

        What goes wrong later is given to `fail`.
        """
        topic = self._settings.catalog_topic
        if not topic:
            return
        if self._reader:  # a start that Kafka did not let end
            self._reader.close()
        self._open()
        try:
            found = self._described(_START)
        except KafkaException as error:
            said = error.args[0].str()
            raise UnreachableError(f"no broker tells of the catalog {topic}: {said}", "look at their health") from error
        if not found.partitions:
            raise TopicError(f"there is no topic {topic} (catalog)", f"create it: {creation(self._settings)}")
        self._ends = set(found.partitions)
        self._reader.assign([TopicPartition(topic, number, 0) for number in self._ends])
        began = moved = time.monotonic()
        records = 0
        while self._ends:
            taken, left = self._take(), len(self._ends)
            records += taken
            now = time.monotonic()
            moved = now if taken or len(self._ends) < left else moved
            if now - moved > _PATIENCE:
                raise StuckError(f"the catalog {topic} cannot be read to its end", "check the broker and the rights")
        self._rules = self._catalog.rules()
        self._asked = self._answered = time.monotonic()
        log.info("the catalog %s: %d records in %.2f s", topic, records, self._answered - began)
        self._thread = threading.Thread(target=self._follow, args=(fail,), name="catalog", daemon=True)
        self._thread.start()

    def reopen(self) -> None:
        """Let the thread go on with a new client, from where the one of now stands."""
        self._stale = True

    def _renew(self) -> None:
        self._stale, places = False, self._reader.position(self._reader.assignment())
        self._reader.close()
        self._open()
        self._reader.assign([TopicPartition(p.topic, p.partition, max(p.offset, 0)) for p in places])

    def _open(self) -> None:
        self._reader = consumer(self._settings, **{"group.id": self._settings.group, **_FETCH})

    def silence(self) -> float:
        """Return for how many seconds the topic has not answered; 0 where none is followed."""
        return time.monotonic() - self._answered if self._answered else 0.0

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread:
            self._thread.join(5)
            self._reader.close()

    def _follow(self, fail: Callable[[BaseException], None]) -> None:
        try:
            while not self._stopped.is_set():
                if self._stale:
                    self._renew()
                if self._take():
                    self._rules, self._answered = self._catalog.rules(), time.monotonic()
                self._ask()
        except Exception as error:
            fail(error)

    def _described(self, seconds: float) -> Any:
        """Return what is said of the topic; raise KafkaException for no answer, BrokerError where we may not read."""
        topic = self._settings.catalog_topic
        found = self._reader.list_topics(topic, seconds).topics[topic]
        if found.error:
            ended(found.error, f"the catalog {topic}")
        return found

    def _ask(self) -> None:
        """Look at times whether the topic answers, for a quiet one is no sign of it; raise TopicError once it is gone.

        No answer is no end: what is known of the items stays, and the silence is a metric.
        """
        if time.monotonic() - self._asked < _ASK:
            return
        self._asked, topic = time.monotonic(), self._settings.catalog_topic
        try:
            found = self._described(_ANSWER)
            faults = [each.error for each in (found, *found.partitions.values()) if each.error]
        except KafkaException as error:
            faults = [error.args[0]]
        if not faults:
            self._answered = time.monotonic()
            return
        self._sparing.warning("the catalog %s was not heard for %.0f s: %s", topic, self.silence(), faults[0].str())
        if faults[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART and self.silence() > _PATIENCE:
            raise TopicError(
                f"there is no topic {topic} (catalog) any more",
                f"create it: {creation(self._settings)}; then fill it: forecart catalog load",
            )

    def _take(self) -> int:
        """Take up what has come; return how many records."""
        taken = 0
        for message in self._reader.consume(_BATCH, _WAIT):
            if error := message.error():
                if ended(error, "the catalog"):
                    self._ends.discard(message.partition())
                continue
            taken += 1
            reason = self._catalog.apply(message.key(), message.value())
            self._heard(reason)
            if reason:
                self._sparing.warning("the catalog's record at offset %d is none: %s", message.offset(), reason)
        return taken


def publish(settings: Settings, records: Sequence[tuple[str, bytes | None]]) -> int:
    """Publish items' records, None to take one back; return how many. Raises BrokerError or TopicError."""
    client, topic = reach(settings), settings.catalog_topic
    require(settings, client, [Right(ResourceType.TOPIC, topic, AclOperation.WRITE)])
    if topic not in client.list_topics(timeout=10).topics:
        raise TopicError(f"there is no topic {topic}", f"create it: {creation(settings)}")
    out = Outbox(settings)
    for name, value in records:
        out.put(topic, value, name.encode())
    out.end("the catalog")
    return len(records)
