"""A deadline of our own for each call of librdkafka's, which has calls that outlast what they were given."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

_OVERDUE_SECONDS = 2.0  # a call that outlasts what was asked of it by so much is left alone


class Deadline:
    """When the running call should have returned: set by the thread that makes it, looked at by another one."""

    def __init__(self) -> None:
        self._due = math.inf  # monotonic seconds
        self.running = ""  # the name of the last call

    @property
    def over(self) -> bool:
        """Tell whether a call runs that should have returned."""
        return time.monotonic() > self._due

    @contextmanager
    def of(self, name: str, seconds: float) -> Iterator[None]:
        """Give so many seconds to what is called by `name`."""
        self.running, self._due = name, time.monotonic() + seconds + _OVERDUE_SECONDS
        try:
            yield
        finally:
            self._due = math.inf
