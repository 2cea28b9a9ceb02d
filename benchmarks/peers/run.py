"""Run what others would write for the same work, and count their scores as a reader of committed records does.

A peer whose tools are missing is not run, and there is no number of it: only why.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from bundle import cache
from confluent_kafka.admin import NewTopic

from stream.core.errors import BrokerError
from stream.core.events import Score
from stream.kafka.client.admin import admin, consumer, subscribe_all
from stream.kafka.embedded_broker import java
from stream.settings import Settings

_HERE = Path(__file__).parent
_QUIX = ("quixstreams==3.28.1", "onnxruntime==1.32.0", "numpy==2.4.6")
_WARM = 0.25  # share of the events that is not timed: compilers and caches get warm
_FIRST_SECONDS, _MAKE_SECONDS = 90, 900
_SAME = 1e-4  # the intents of two peers may differ by so much: sums are made in different orders
_COMPARED = 1000

Command = Callable[[Settings, str, Path, int], list[str]]


class MissingError(Exception):
    """Raised where a peer's tools are missing."""


@dataclass(frozen=True)
class Peer:
    """Something that scores the same topic: how it is called, by a guarantee of its own."""

    name: str
    command: Command


def _common(settings: Settings, name: str, folder: Path) -> list[str]:
    scores = _scores(settings, name)
    return [settings.bootstrap_servers, settings.events_topic, scores, scores, str(settings.bundle), str(folder)]


def _scores(settings: Settings, name: str) -> str:
    return f"{settings.scores_topic}-{name}"


def _faust(kept: str) -> Command:
    def command(settings: Settings, name: str, folder: Path, partitions: int) -> list[str]:
        common = _common(settings, name, folder)
        return [sys.executable, str(_HERE / "stock_faust.py"), *common, str(partitions), kept]

    return command


def _quix(guarantee: str) -> Command:
    def command(settings: Settings, name: str, folder: Path, partitions: int) -> list[str]:
        return [str(_quix_python()), str(_HERE / "quix.py"), *_common(settings, name, folder), guarantee]

    return command


def _streams(guarantee: str) -> Command:
    def command(settings: Settings, name: str, folder: Path, partitions: int) -> list[str]:
        path = _classes()
        return [*_java(), "-cp", path, "forecart.Peer", *_common(settings, name, folder), guarantee]

    return command


PEERS = (
    Peer("faust_json", _faust("json")),
    Peer("faust", _faust("bytes")),
    Peer("quix", _quix("at-least-once")),
    Peer("quix_exactly_once", _quix("exactly-once")),
    Peer("kafka_streams", _streams("at_least_once")),
    Peer("kafka_streams_exactly_once_v2", _streams("exactly_once_v2")),
)


def measure(
    settings: Settings,
    events: int,
    partitions: int,
    folder: Path,
    seconds: float,
    peers: tuple[Peer, ...] = PEERS,
) -> tuple[dict[str, float], dict[str, str]]:
    """Run each peer over the backlog, until `events` are scored or `seconds` are over.

    The settings' bundle is a folder of `bundle.light`. Returns the events a second of those that ran, and why the
    others did not.
    """
    rates: dict[str, float] = {}
    missing: dict[str, str] = {}
    said: dict[str, float] = {}
    for peer in peers:
        state = folder / peer.name
        state.mkdir()
        try:
            command = peer.command(settings, peer.name, state, partitions)
        except MissingError as error:
            missing[peer.name] = str(error)
        else:
            rates[peer.name] = _run(peer, command, settings, events, partitions, folder, seconds, said)
        print(f"{peer.name}: {missing.get(peer.name) or round(rates[peer.name])}", file=sys.stderr)
    return rates, missing


def _run(
    peer: Peer,
    command: list[str],
    settings: Settings,
    events: int,
    partitions: int,
    folder: Path,
    seconds: float,
    said: dict[str, float],
) -> float:
    topic, log = _scores(settings, peer.name), folder / f"{peer.name}.log"
    client = admin(settings)  # its answers come while it is kept
    for made in client.create_topics([NewTopic(topic, partitions, 1)]).values():
        made.result(30)
    with _running(command, log) as process:
        return _rate(settings, topic, events, seconds, process, log, said)


@contextmanager
def _running(command: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("FORECART_")}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=env)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _rate(
    settings: Settings,
    topic: str,
    events: int,
    seconds: float,
    process: "subprocess.Popen[bytes]",
    log: Path,
    said: dict[str, float],
) -> float:
    """Count the scores that are committed; the clock starts when a share of them is there."""
    reader = consumer(settings, **{"group.id": topic})
    subscribe_all(reader, topic)
    count, skipped, start, now = 0, 0, 0.0, time.perf_counter()
    limit = now + _FIRST_SECONDS
    while count < events and now < limit:
        assert process.poll() is None, log.read_text()[-3000:]
        messages = reader.consume(10_000, 0.1)
        if count < _COMPARED:
            _compare([bytes(m.value() or b"") for m in messages], said)
        if messages and not count:
            limit = time.perf_counter() + seconds
        count, now = count + len(messages), time.perf_counter()
        if not start and (count >= events * _WARM or (count and now > limit - seconds * (1 - _WARM))):
            start, skipped = now, count
    reader.close()
    assert count > skipped > 0, f"{topic}: {count} scores; {log.read_text()[-3000:]}"
    return (count - skipped) / (now - start)


def _compare(raw: list[bytes], said: dict[str, float]) -> None:
    """Hold a peer's scores to what another peer said of the same events."""
    for value in raw:
        score = msgspec.json.decode(value, type=Score)
        found = next(iter(score.intent.values()))
        assert abs(said.setdefault(score.event_id, found) - found) <= _SAME, f"{score} but {said[score.event_id]}"


def _quix_python() -> Path:
    """Return the Python of an environment that has Quix Streams, whose pins clash with ours; made once."""
    folder = cache() / "quix"
    python = folder / "bin/python"
    if not (folder / "made").exists():
        _call([sys.executable, "-m", "venv", "--clear", str(folder)])
        _call([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_QUIX])
        (folder / "made").touch()
    return python


def _java() -> list[str]:
    try:
        return [str(java())]
    except BrokerError as error:
        raise MissingError(str(error)) from error


def _classes() -> str:
    """Return the class path of the Kafka Streams application, built where its sources are newer."""
    maven, out, source = shutil.which("mvn"), cache() / "kafka-streams", _HERE / "kafka_streams"
    if not maven:
        raise MissingError("there is no mvn")
    jar = out / "peer.jar"
    newest = max(path.stat().st_mtime for path in source.rglob("*") if path.is_file())
    if not jar.exists() or jar.stat().st_mtime < newest:
        _call([maven, "-q", "-B", "-f", str(source / "pom.xml"), f"-Dout={out}", "package"])
    return f"{jar}{os.pathsep}{out / 'lib'}/*"


def _call(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MAKE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        raise MissingError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout).strip()[-300:]}")
