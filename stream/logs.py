"""The worker's log: how much our own modules say. What others say in detail is never written, at no level.

Kafka's clients write whole requests where they are asked for details: the password of a login, and users' events.
"""

import logging
import time

_OURS = "stream"
_OTHERS = ("aiokafka", "asyncio", "faust", "kafka", "mode")
_SAY_EVERY = 60.0  # seconds between two lines of one kind


def set_levels(level: str) -> None:
    """Set the level of our own modules' log, and hold all others' above details; `debug`, `info`, `warn` or `error`."""
    number = logging.getLevelNamesMapping()[{"warn": "WARNING"}.get(level, level.upper())]
    logging.getLogger().setLevel(max(number, logging.INFO))
    logging.getLogger(_OURS).setLevel(number)
    hush(logging.WARNING if number == logging.DEBUG else logging.ERROR)


def hush(least: int = logging.WARNING) -> None:
    """Hold others' loggers to `least`, whatever is said of the root: Faust's own command line sets it too."""
    for name in _OTHERS:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))


def keep_out(lines: logging.Filter, of: str) -> None:
    """Let a filter hear all loggers of a package that was imported, whoever sets the handlers up."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == of:
            logging.getLogger(name).addFilter(lines)


class Sparing:
    """Warn of what happens again and again: of each kind, which is its text before it is filled in, once a minute."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._kinds: dict[str, tuple[float, int]] = {}  # when it was last told (monotonic seconds), and how often since

    def warning(self, text: str, *given: object) -> None:
        """Write a line, or count it."""
        now = time.monotonic()
        told, held_back = self._kinds.get(text, (-_SAY_EVERY, 0))
        if now - told < _SAY_EVERY:
            self._kinds[text] = told, held_back + 1
            return
        self._kinds[text] = now, 0
        more = f" ({held_back} more like it since the last line)" if held_back else ""
        self._log.warning(f"{text}%s", *given, more)


def is_no_step(record: logging.LogRecord) -> bool:
    """Leave out the steps that Faust's services log under our modules' names, unless they warn."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")
