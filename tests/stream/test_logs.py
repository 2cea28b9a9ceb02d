"""The log: our own details where they are asked for, others' never."""

import logging
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import aiokafka
import pytest
from mode.utils.logging import setup_logging

from stream.logs import hush, set_levels


@pytest.fixture(autouse=True)
def _levels() -> Iterator[None]:
    """Leave all levels as they were."""
    root = logging.getLogger()
    was, handlers = {name: logging.getLogger(name).level for name in [*root.manager.loggerDict, ""]}, root.handlers[:]
    yield
    root.handlers[:] = handlers
    for name in [*root.manager.loggerDict, ""]:
        logging.getLogger(name).setLevel(was.get(name, logging.NOTSET))


def _others() -> list[str]:
    """Name each logger that others have, or would have for a module of theirs."""
    import faust
    import mode

    # The training's libraries, which other tests of this process have imported, are in no worker.
    absent = ("stream", "torch", "c10d-NullHandler-default")
    found = {name for name in logging.root.manager.loggerDict if name.partition(".")[0] not in absent}
    for package in (aiokafka, faust, mode):
        found |= {m.name for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.", lambda _: None)}
    return sorted(found)


@pytest.mark.parametrize("level", ["debug", "info", "warn", "error"])
def test_others_say_no_details_at_any_level(level: str):
    set_levels(level)
    assert not [name for name in _others() if logging.getLogger(name).isEnabledFor(logging.DEBUG)]
    assert logging.getLogger("stream.kafka.transport").isEnabledFor(logging.DEBUG) == (level == "debug")


def test_faust_cannot_turn_them_on():
    """`faust -A stream.app worker -l debug` sets the root's level after our app was built."""
    hush()
    setup_logging(loglevel="debug", logfile=sys.stderr)
    clients = [name for name in _others() if name.partition(".")[0] in ("aiokafka", "faust", "mode")]
    assert not [name for name in clients if logging.getLogger(name).isEnabledFor(logging.DEBUG)]


def test_the_settings_that_are_shown_hold_no_secret(tmp_path):
    path = tmp_path / "kafka.properties"
    path.write_text(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=shop\nsasl.password=hunter2\n"
    )
    for more in ([], ["--json"], ["--markdown"]):
        shown = subprocess.run(
            [sys.executable, "forecart.py", "settings", *more],
            env={"FORECART_KAFKA_PROPERTIES": str(path), "PATH": "/usr/bin"},
            capture_output=True,
            check=True,
        )
        assert b"hunter2" not in shown.stdout + shown.stderr
