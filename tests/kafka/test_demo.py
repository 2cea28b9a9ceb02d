"""The demo: the whole of it on one machine, and on no other cluster than the one given."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stream.kafka.client.admin import admin
from stream.kafka.embedded_broker import Broker
from stream.settings import Settings
from tests.kafka.shop import wait_for

pytestmark = pytest.mark.slow
_MISLEADING = {
    "FORECART_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "FORECART_KAFKA_PROPERTIES": "none",
    "FORECART_EVENTS_TOPIC": "elsewhere",
    "FORECART_METRICS_PORT": "abc",
    "FORECART_BROKERS": "x",
}


def _demo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forecart", "demo", "--seconds", "2", *words]
    return subprocess.run(command, env=os.environ | _MISLEADING, capture_output=True, text=True, timeout=180)


def test_settings_of_the_environment_do_not_reach_the_demo():
    done = _demo()
    assert done.returncode == 0, done.stderr
    assert "starting Apache Kafka" in done.stderr
    assert "scores" in done.stdout
    assert "buys within" in done.stdout


def test_a_running_kafka_is_left_as_it_was(broker: Broker):
    client = admin(Settings(bootstrap_servers=broker.address))
    before = {name for name in client.list_topics(timeout=10).topics if not name.startswith("__")}
    done = _demo("--bootstrap-servers", broker.address)
    assert done.returncode == 0, done.stderr
    assert "starting Apache Kafka" not in done.stderr
    assert "scores" in done.stdout
    after = {name for name in client.list_topics(timeout=10).topics if not name.startswith("__")}
    assert after == before


def test_a_background_demo_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path):
    """Start it as a shell's background job, which begins with SIGINT ignored."""
    command = ["sh", "-c", f"trap '' INT; exec {sys.executable} -m forecart demo"]
    with (tmp_path / "out").open("w") as out:
        running = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=out, stderr=out)
    wait_for(lambda: "scores" in (tmp_path / "out").read_text(), 90, "the first score")
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == 0
    assert "stopping" in (tmp_path / "out").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    wait_for(lambda: not _mentions(tmp_path), 10, "all processes end")


def _mentions(folder: Path) -> list[bytes]:
    """Find the command lines that name a folder."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return [line for line in lines if str(folder).encode() in line]
