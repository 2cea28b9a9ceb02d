"""The log: our own details where they are asked for, others' never."""

import logging
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import aiokafka
import pytest
from mode.utils.logging import setup_logging

from stream import logs
from stream.logs import Sparing, hush, set_levels


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
    assert logging.getLogger("stream.kafka.fetch.transport").isEnabledFor(logging.DEBUG) == (level == "debug")


def test_faust_cannot_turn_them_on():
    """`faust -A stream.app worker -l debug` sets the root's level after our app was built."""
    hush()
    setup_logging(loglevel="debug", logfile=sys.stderr)
    clients = [name for name in _others() if name.partition(".")[0] in ("aiokafka", "faust", "mode")]
    assert not [name for name in clients if logging.getLogger(name).isEnabledFor(logging.DEBUG)]


OUTAGE = """
import logging, sys
import stream.app
stream.app.app
from mode.utils.logging import setup_logging
setup_logging(loglevel="info", logfile=sys.stderr)
names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "aiokafka"]
for name in names:
    logging.getLogger(name).error("Unable connect to node with id %s: refused", 1)
logging.getLogger("aiokafka.client").error("something else")
print(len(names))
"""


def test_lost_connections_flood_no_log_by_faust_s_own_command_line_either():
    """It sets handlers up by itself, after our app was built."""
    env = {"FORECART_BUNDLE": "stream/demo/bundle", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", OUTAGE], env=env, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 10
    assert "Unable connect" not in done.stderr
    assert "something else" in done.stderr


def test_what_happens_again_and_again_is_told_once_a_minute(caplog, monkeypatch):
    now, log = [1000.0], logging.getLogger("stream.kafka.catalog")
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    sparing = Sparing(log)
    for _ in range(600):
        now[0] += 1
        sparing.warning("no answer from %s for %.0f s", "items", now[0] - 1000)
    sparing.warning("another thing: %s", "x")
    assert len(caplog.messages) == 11
    assert caplog.messages[0] == "no answer from items for 1 s"
    assert caplog.messages[1] == "no answer from items for 61 s (59 more like it since the last line)"
    assert caplog.messages[-1] == "another thing: x"


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
