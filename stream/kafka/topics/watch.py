"""The topics as they were when the worker began: deleted, made again or grown, they end it within a minute (rule 4).

A broker that starts may not know a topic for a moment, so only what two answers say some seconds apart counts. No
answer says nothing.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ResourceType  # type: ignore[attr-defined]

from stream.core.errors import ForecartError, RightsError, TopicError
from stream.kafka.client.admin import admin
from stream.kafka.client.errors import said
from stream.kafka.client.rights import missing, needed_still, refusal
from stream.settings import Settings
from stream.state.position import ANEW, GROW, RESTORE

log = logging.getLogger(__name__)
EVERY, AGAIN = 15.0, 10.0  # seconds between two looks, and before what differs is looked at again
_REQUEST_SECONDS = 5.0


class Seen(NamedTuple):
    """A topic's id, another one once it is deleted and made again, and its partition count."""

    id: str
    partitions: int


class Fault(NamedTuple):
    """What is wrong with a topic, and the way out."""

    text: str
    remedy: str
    error: type[ForecartError] = TopicError


def described(client: AdminClient, names: Iterable[str]) -> dict[str, Seen | None]:
    """Describe topics, None where there is none; raise KafkaException or TimeoutError where that is not known."""
    asked = list(names)
    answers = client.describe_topics(TopicCollection(asked), request_timeout=_REQUEST_SECONDS)
    found: dict[str, Seen | None] = {}
    for name in asked:
        try:
            topic = answers[name].result(_REQUEST_SECONDS + 1)
            found[name] = Seen(str(topic.topic_id), len(topic.partitions))
        except KafkaException as error:
            if error.args[0].code() not in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                raise
            found[name] = None
    return found


def faults(settings: Settings, first: Mapping[str, Seen], now: Mapping[str, Seen | None]) -> list[Fault]:
    """Compare the topics with what they first were, and the input with the changelog."""
    events, changelog = settings.events_topic, settings.changelog
    found = []
    for name, remedy in (
        (events, f"`forecart topics apply` makes an empty one: {ANEW} there"),
        (changelog, RESTORE),
        (settings.scores_topic, "`forecart topics apply` makes it again; a restart goes on from the last commit"),
        (settings.dead_letters_topic, "`forecart topics apply` makes it again; a restart goes on from the last commit"),
    ):
        if now.get(name) is None:
            found.append(Fault(f"{name} was deleted", remedy))
    for name, remedy in ((events, ANEW), (changelog, RESTORE)):
        then, seen = first.get(name), now.get(name)
        if then and seen and seen.id != then.id:
            found.append(Fault(f"{name} was deleted and made again", remedy))
        elif then and seen and seen.partitions != then.partitions:
            found.append(Fault(f"{name} has {seen.partitions} partitions, it had {then.partitions}", GROW))
    ours, theirs = now.get(events), now.get(changelog)
    if not found and ours and theirs and ours.partitions != theirs.partitions:
        text = f"{events} has {ours.partitions} partitions, {changelog} has {theirs.partitions}"
        found.append(Fault(text, GROW))
    return found


class TopicWatch:
    """Look at the topics every quarter of a minute, on a thread, and whenever partitions are assigned."""

    def __init__(self, settings: Settings, fail: Callable[[BaseException], None]) -> None:
        self._settings, self._fail = settings, fail
        self._client: AdminClient | None = None
        topics = (settings.events_topic, settings.changelog, settings.scores_topic, settings.dead_letters_topic)
        self._names = list(dict.fromkeys(topics))
        self._rights = [right for right in needed_still(settings) if right.kind is ResourceType.TOPIC]
        self._first: dict[str, Seen] = {}
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin to look; what is wrong is handed to `fail`."""
        threading.Thread(target=self._run, name="topics", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def reopen(self) -> None:
        """Let the next look begin with a new client."""
        self._client = None

    def check(self) -> None:
        """Raise TopicError where two answers say that a topic is gone, another one, or of another partition count.

        Raises RightsError where they say that a right was taken away.
        """
        if not (before := self._look()):
            return
        log.warning("looking again in %.0f s: %s", AGAIN, before[0].text)
        if self._stopped.wait(AGAIN):
            return
        if still := [fault for fault in self._look() if fault in before]:
            raise still[0].error("; ".join(fault.text for fault in still), still[0].remedy)

    def _look(self) -> list[Fault]:
        client = self._client or admin(self._settings)
        try:
            if lost := missing(self._settings, self._rights, client):
                refused = refusal(self._settings, lost)
                return [Fault(refused.message, refused.remedy, RightsError)]
            now = described(client, self._names)
        except (KafkaException, TimeoutError) as error:
            log.debug("the topics cannot be seen: %s", said(error))
            self._client = None  # a new one knows the bootstrap servers only, should the brokers have moved
            return []
        self._client = client
        for name, seen in now.items():
            if seen:
                self._first.setdefault(name, seen)
        return faults(self._settings, self._first, now)

    def _run(self) -> None:
        try:
            self.check()
            while not self._stopped.wait(EVERY):
                self.check()
        except Exception as error:
            self._fail(error)
