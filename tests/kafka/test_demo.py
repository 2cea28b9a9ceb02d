"""The demo: the whole of it on one machine, and on no other cluster than the one given."""

import os
import subprocess
import sys

import pytest

from stream.kafka.broker import Broker
from stream.kafka.client import admin
from stream.settings import Settings

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


def test_a_running_kafka_is_left_as_it_was(broker: Broker):
    client = admin(Settings(bootstrap_servers=broker.address))
    before = {name for name in client.list_topics(timeout=10).topics if not name.startswith("__")}
    done = _demo("--bootstrap-servers", broker.address)
    assert done.returncode == 0, done.stderr
    assert "starting Apache Kafka" not in done.stderr
    assert "scores" in done.stdout
    after = {name for name in client.list_topics(timeout=10).topics if not name.startswith("__")}
    assert after == before
