"""Whether Kafka answers: asked again and again on a thread of its own, so that a worker can wait and say so.

An outage is a state. Its begin and its end are one line of the log each, and one a minute lies between them; what
aiokafka logs of lost connections, 60 lines a second, is counted here and told in one line a minute.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from stream.core.errors import SettingError, UnreachableError
from stream.kafka.client.admin import admin, hear
from stream.kafka.client.connection import properties
from stream.kafka.client.renewal import Renewal
from stream.logs import Sparing
from stream.settings import Settings

log = logging.getLogger(__name__)
_EVERY, _ANSWER = 2.0, 2.0  # seconds between questions, and for an answer
_AWAY_EVERY = 0.5  # between questions while there is no answer
_SAY_EVERY = 60.0  # between two lines of the log during an outage
_ANEW_EVERY = 60.0  # of an outage, until clients are made anew from the bootstrap servers
_LOOK = 0.2  # how often a coroutine that waits looks
_OUTAGE_LINES = (
    "Unable connect to",
    "Unable to request metadata",
    "Unable to update metadata",
    "Failed fetch messages",
    "Failed fetch offsets",
    "Error sending",
    "Heartbeat send request failed",
    "Heartbeat session expired",
    "Heartbeat failed for group %s: coordinator",
    "Group Coordinator Request failed",
    "Marking the coordinator dead",
    "Unexpected error while fetching data",
)


class Reachability(logging.Filter):
    """Know since when Kafka answers, or does not; times are monotonic seconds.

    As a filter of the log it keeps aiokafka's lines of lost connections out, and tells of them once a minute.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.address, self._settings = properties(settings)["bootstrap.servers"], settings
        self.reachable, self.outages = False, 0  # those that ended, and renewed logins
        self.since = time.monotonic()  # of the last change
        self.disturbed_at = self.since  # when a client or a question last had no answer
        self._away_at = self.since  # when no broker at all last answered
        self.heard = hear(settings)
        self._renew: Callable[[], object] = lambda: None
        self.renewed_at = 0.0  # when another login was last taken up
        self._ever, self._told = False, 0.0
        self._lines, self._line, self._line_told = 0, "", 0.0
        self._stopped, self._renewal = threading.Event(), Renewal(settings)
        self._sparing = Sparing(log)
        self._client: Any = None
        self._made = 0.0

    def start(self, back: Callable[[], None] = lambda: None, renew: Callable[[], object] = lambda: None) -> None:
        """Ask from now on; call `back` at the end of each outage, `renew` before it where the login was renewed."""
        self._back, self._renew = back, renew
        threading.Thread(target=self._run, name="reachability", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def steady_since(self, when: float) -> bool:
        """Tell whether Kafka answered throughout from `when` (monotonic seconds) to now, as far as anybody noticed."""
        return self.reachable and self.disturbed_at < when

    def up_since(self, when: float) -> bool:
        """Tell whether there was a broker to talk to throughout from `when` (monotonic seconds) to now."""
        return self.reachable and self._away_at < when

    def why_not(self) -> str:
        """Return why Kafka cannot be reached, in words; nothing where it can."""
        if self.reachable:
            return ""
        seconds = time.monotonic() - self.since
        return f"Kafka at {self.address} does not answer, for {seconds:.0f} s now: {self.heard.why()}"

    async def wait(self, wanted: Callable[[], bool] = lambda: True) -> None:
        """Return once Kafka answers, or is no longer `wanted`.

        Raises UnreachableError beyond the setting `kafka_wait_seconds`, BrokerError where credentials are refused
        before there ever was an answer.
        """
        while not self.reachable and wanted():
            limit = self._settings.kafka_wait_seconds
            if limit and time.monotonic() - self.since > limit:
                raise UnreachableError(self.why_not(), f"{self.heard.remedy()}; a restart is safe")
            if self.heard.refused and not self._ever:
                raise self.heard.failure()
            await asyncio.sleep(_LOOK)

    def note(self, error: KafkaError) -> None:
        """Take note of what a client says of its connections (librdkafka's `error_cb`)."""
        self.heard.note(error)
        self.disturbed_at = time.monotonic()
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._away_at = self.disturbed_at

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._renewal.changed():
                self._take_up()
            self._take(self._ask())
            self._tell_lines()
            self._stopped.wait(_EVERY if self.reachable else _AWAY_EVERY)

    def _take_up(self) -> None:
        """Let all clients be made anew, as after an outage: a client keeps the login that it was made with."""
        self._client, self.renewed_at = None, time.monotonic()
        self._renew()
        if self.reachable:
            self.outages, self.since = self.outages + 1, time.monotonic()
            self._back()

    def _ask(self) -> bool:
        now = time.monotonic()
        try:
            if self._client is None or (not self.reachable and now - self._made > _ANEW_EVERY):
                self._client, self._made = admin(self._settings, error_cb=self.note), now
            self._client.poll(0)
            self._client.describe_cluster(request_timeout=_ANSWER).result(2 * _ANSWER)
            return True
        except (KafkaException, TimeoutError) as error:
            self.heard.note(error)
            self._client.poll(0)
            self.heard.look()
        except SettingError as error:  # the files are being renewed
            self._sparing.warning("the Kafka login cannot be used now: %s", error)
        return False

    def _take(self, answered: bool) -> None:
        now = time.monotonic()
        if answered:
            self.heard.forget()
        else:
            self.disturbed_at = self._away_at = now
        if answered and not self.reachable:
            if self._told:
                log.warning("Kafka answers again after %.0f s", now - self.since)
            again, self._ever = self._ever, True
            self.reachable, self.since, self._told = True, now, 0.0
            if again:
                self.outages += 1
                self._back()
        elif not answered and self.reachable:
            self.reachable, self.since = False, now
        if not self.reachable and now - self._told > _SAY_EVERY:
            self._told = now
            log.warning("%s; waiting", self.why_not())

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep aiokafka's lines of lost connections out of the log."""
        if not record.name.startswith("aiokafka") or not str(record.msg).startswith(_OUTAGE_LINES):
            return True
        self._lines, self._line = self._lines + 1, record.getMessage()
        return False

    def _tell_lines(self) -> None:
        """Tell of the lines that were kept out, where no outage explains them."""
        now = time.monotonic()
        if not self.reachable or now - self.disturbed_at < _SAY_EVERY:
            self._lines = 0
        elif self._lines and now - self._line_told > _SAY_EVERY:
            log.warning("aiokafka lost connections, %d lines like this one: %s", self._lines, self._line)
            self._lines, self._line_told = 0, now
