"""The worker's log: how much our own modules say. What others say in detail is never written, at no level.

Kafka's clients write whole requests where they are asked for details: the password of a login, and shoppers' events.
"""

import logging

_OURS = "stream"
_OTHERS = ("aiokafka", "asyncio", "faust", "kafka", "mode")


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


def is_no_step(record: logging.LogRecord) -> bool:
    """Leave out the steps that Faust's services log under our modules' names, unless they warn."""
    return record.levelno >= logging.WARNING or not str(record.msg).startswith("[^")
