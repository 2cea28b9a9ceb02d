"""The worker's clock held against the broker's: to one that is behind, good events come from the future.

The broker stamps what is appended to the changelog (`message.timestamp.type=LogAppendTime`), and says so when it
acknowledges: its stamp lies between sending and acknowledgement, or the clocks differ by at least what it lies outside.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from stream.core.errors import SettingError
from stream.settings import Settings

log = logging.getLogger(__name__)
_MOST, _LEAST = 300.0, 1.0  # seconds: machines whose clocks are kept differ by less than a second


class Clocks:
    """How far the clocks differ, from the acknowledgements of one transaction to those of the next."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        # An event is not believed beyond `max_future_seconds`: so far behind, a worker refuses good ones.
        self._bound = max(min(settings.max_future_seconds, _MOST), _LEAST)
        self._changelog, self._now = settings.changelog, now
        self._behind = 0.0  # seconds that the broker is certainly ahead; negative: this machine is
        self._told = False

    def measured(self, then: Callable[[Any, Any], None] = lambda _error, _message: None) -> Callable[[Any, Any], None]:
        """Begin to measure as a record is sent: return its `on_delivery`, which calls `then` likewise."""
        sent = self._now()

        def acknowledged(error: Any, message: Any) -> None:
            if error is None:
                self._hear(sent, *message.timestamp())
            then(error, message)

        return acknowledged

    def _hear(self, sent: float, kind: int, stamp: int) -> None:
        if kind == TIMESTAMP_LOG_APPEND_TIME:
            self._measure(sent, stamp / 1000, self._now())
        elif not self._told:
            self._told = True
            log.warning(
                "this machine's clock is not compared with the broker's: %s has not"
                " message.timestamp.type=LogAppendTime; `forecart topics plan` prints the command",
                self._changelog,
            )

    def _measure(self, sent: float, stamp: float, acknowledged: float) -> None:
        if acknowledged < sent:  # the clock was set meanwhile
            return
        behind = max(stamp - acknowledged, 0.0) + min(stamp - sent, 0.0)
        if abs(behind) > abs(self._behind):
            self._behind = behind

    def check(self) -> None:
        """Raise SettingError where the clocks differ too much by what was acknowledged since the last call."""
        behind, self._behind = self._behind, 0.0
        if abs(behind) > self._bound:
            raise SettingError(
                f"this machine's clock is {abs(behind):.0f} s {'behind' if behind > 0 else 'ahead of'} the broker's;"
                f" {self._bound:.0f} s are borne, since events are held to it",
                "set the clocks, by NTP; nothing is lost, a restart goes on from the last commit",
            )
