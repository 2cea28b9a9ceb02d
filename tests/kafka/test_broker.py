"""The embedded broker: real, and never left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from stream.core.errors import BrokerError
from stream.kafka import embedded_broker as embedded
from stream.kafka.embedded_broker import Broker, jars, java
from tests.kafka.shop import wait_for


def _java_of(folder: Path) -> list[int]:
    """Find the Java processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line and b"kafka.Kafka" in line and b"guard" not in line:
            found.append(int(path.parent.name))
    return found


def _start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "forecart", "broker", "--data-dir", str(folder), "--port", "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout
    return running, running.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_java_stays_behind(tmp_path: Path, number: signal.Signals):
    running, address = _start(tmp_path / "data")
    assert re.fullmatch(r"127\.0\.0\.1:\d+", address)
    assert _java_of(tmp_path / "data")
    os.kill(running.pid, number)
    running.wait(30)
    wait_for(lambda: not _java_of(tmp_path / "data"), 30, "Java ends")
    if number != signal.SIGKILL:
        assert running.returncode == 0
    if running.stdout:
        running.stdout.close()


@pytest.mark.slow
def test_a_kafka_that_ends_by_itself_is_told(tmp_path: Path):
    command = [sys.executable, "-m", "forecart", "broker", "--data-dir", str(tmp_path / "data"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        running.stdout.readline()
        for number in _java_of(tmp_path / "data"):
            os.kill(number, signal.SIGKILL)
        said = running.communicate(timeout=30)[1]
    assert running.returncode == 69
    assert "Kafka stopped by itself" in said
    assert "broker.log" in said


@pytest.mark.parametrize("kafka", [True, False])
def test_a_port_that_is_taken_is_refused_before_anything_starts(kafka: bool, broker: Broker):
    """Give the port of another broker, and one of a program that is none."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = broker.port if kafka else other.getsockname()[1]
        command = [sys.executable, "-m", "forecart", "broker", "--port", str(port)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert done.stderr == f"forecart: port {port} is taken\n  give another --port, or 0\n"
    assert not done.stdout


def test_the_log_of_a_failed_start_outlives_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(embedded, "java", lambda: "/bin/false")
    monkeypatch.setattr(Broker, "_format", lambda *_: None)
    monkeypatch.setattr(embedded.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(BrokerError, match="did not start") as told, Broker():
        pass
    assert Path(told.value.remedy.removeprefix("see ")).exists()


def test_settings_of_the_environment_do_not_reach_the_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORECART_METRICS_PORT", "abc")
    monkeypatch.setenv("FORECART_KAFKA_PROPERTIES", str(tmp_path / "none"))
    with Broker(tmp_path / "data") as broker:
        assert broker.alive()


@pytest.mark.slow
def test_data_outlive_the_broker_and_a_temporary_folder_does_not(tmp_path: Path):
    from stream.kafka.topics.admin import apply
    from stream.settings import load

    with Broker(tmp_path / "kept") as first:
        apply(load(bootstrap_servers=first.address), 2, 1)
    with Broker(tmp_path / "kept") as second:
        assert not apply(load(bootstrap_servers=second.address)).missing
    with Broker() as third:
        folder = third.data
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_an_identity_that_looks_like_an_option_formats_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dash = uuid.UUID(int=0b111110 << 122)  # its URL-safe base64 begins with "-"
    monkeypatch.setattr(embedded.uuid, "uuid4", lambda: dash)
    with Broker(tmp_path / "data") as broker:
        assert broker.alive()


@pytest.mark.parametrize("command", [["broker", "--port", "0"], ["demo"]])
def test_without_network_and_jars_the_remedy_is_one_that_the_command_has(command: list[str], tmp_path: Path):
    env = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
        "https_proxy": "http://127.0.0.1:1",
        "http_proxy": "http://127.0.0.1:1",
    }
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "forecart", *command],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 69
    assert "cannot be fetched" in done.stderr
    assert "Maven Central" in done.stderr
    assert ("--bootstrap-servers" in done.stderr) == (command[0] == "demo")
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 60


def test_a_jar_that_is_not_the_pinned_one_is_refused(broker: Broker, tmp_path: Path):
    name = sorted(embedded.lock())[0]
    (tmp_path / name).write_bytes(b"other")
    for jar in jars(broker._cache):
        if jar.name != name:
            (tmp_path / jar.name).symlink_to(jar)
    with pytest.raises(BrokerError, match="not the pinned one"):
        jars(tmp_path)


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    old = tmp_path / "bin" / "java"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    old.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/sbin:/sbin")
    found = java()
    assert found != old
    assert "version" in subprocess.run([found, "-version"], capture_output=True, text=True).stderr
