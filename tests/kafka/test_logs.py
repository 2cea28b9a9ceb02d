"""Replay and capture: a log to a topic, a topic to a file."""

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from aiokafka.partitioner import murmur2

from stream.core.events import Event
from tests.fakes import NOON
from tests.kafka.shop import wait_for


def forecart(*words: str, place) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forecart", *words, "--bootstrap-servers", place.address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    rows = [msgspec.json.encode(Event(f"e{n}", f"user-{n % 40}", "view", f"i{n}", NOON + n * 100)) for n in range(200)]
    path.write_bytes(b"\n".join([*rows[:100], b"{broken", *rows[100:]]) + b"\n")
    return path


def test_a_log_is_published_by_shopper_as_java_partitions(shop, log: Path):
    place = shop()
    topic = place.settings.events_topic
    done = forecart("replay", "--format", "events", "--data", str(log), "--topic", topic, "--json", place=place)
    assert json.loads(done.stdout) == {"published": 200, "left_out": {"not_json": 1}}
    assert "line 101" in done.stderr
    records = place.read(topic)
    assert len(records) == 200
    for m in records:
        assert m.key() == msgspec.json.decode(m.value())["user_id"].encode()
        assert m.partition() == (murmur2(m.key()) & 0x7FFFFFFF) % 4


def test_a_log_of_a_shop_s_own_is_published_in_our_shape_and_a_type_it_lacks_is_told(shop, tmp_path: Path):
    (tmp_path / "shop.yaml").write_text(
        "format: csv\ncolumns: {user: who, item: what, time: at, type: did}\ntime: {unit: ms}\n"
        "types: {view: looked, purchase: purchased}\n"
    )
    (tmp_path / "log.csv").write_text(f"who,what,at,did\nu,i,{NOON},looked\nu,i,{NOON + 1},purchase\n")
    place = shop()
    topic = place.settings.events_topic
    log = ("--mapping", str(tmp_path / "shop.yaml"), "--data", str(tmp_path / "log.csv"))
    done = forecart("replay", *log, "--topic", topic, "--json", place=place)
    assert json.loads(done.stdout) == {"published": 2, "left_out": {}}
    assert "no event is of type 'purchased' (is it 'purchase'?): the log has looked 1, purchase 1" in " ".join(
        done.stderr.split()
    )
    assert {msgspec.json.decode(m.value())["type"] for m in place.read(topic)} == {"view", "purchase"}


def test_an_interrupted_replay_tells_what_it_published(shop, log: Path):
    place = shop()
    command = [sys.executable, "-m", "forecart", "replay", "--format", "events", "--data", str(log), "--rate", "20"]
    more = ["--topic", place.settings.events_topic, "--bootstrap-servers", place.address]
    running = subprocess.Popen([*command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: place.read(place.settings.events_topic), 30, "the first event")
    running.send_signal(signal.SIGINT)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert running.returncode == 0, err
    published = int(out.split()[0])
    assert 0 < published < 200
    assert len(place.read(place.settings.events_topic)) == published
    assert "Traceback" not in err


@pytest.mark.parametrize(("pace", "seconds"), [(("--rate", "100"), 2.0), (("--speed", "10"), 2.0)])
def test_a_replay_keeps_its_pace(shop, log: Path, pace: tuple[str, str], seconds: float):
    place = shop()
    words = ["replay", "--format", "events", "--data", str(log), "--topic", place.settings.events_topic, *pace]
    assert forecart(*words, place=place).returncode == 0
    times = sorted(m.timestamp()[1] for m in place.read(place.settings.events_topic))
    assert (times[-1] - times[0]) / 1000 == pytest.approx(seconds, rel=0.2)


def test_a_captured_topic_can_be_replayed(shop, log: Path, tmp_path: Path):
    place = shop()
    topic, copy = place.settings.events_topic, tmp_path / "copy.jsonl.gz"
    forecart("replay", "--format", "events", "--data", str(log), "--topic", topic, place=place)
    place.send([(b"k", b"two\nlines"), (b"k", None)])
    done = forecart("capture", "--topic", topic, "--out", str(copy), place=place)
    assert done.returncode == 0, done.stderr
    assert "2 left out" in done.stderr
    lines = gzip.decompress(copy.read_bytes()).splitlines()
    assert sorted(lines) == sorted(m.value() for m in place.read(topic) if m.key() != b"k")
    again = forecart("replay", "--format", "events", "--data", str(copy), "--topic", topic, place=place)
    assert "200 events published" in again.stdout


def test_an_envelope_keeps_everything(shop, tmp_path: Path):
    place = shop(partitions=1)
    place.send([(b"k", b"\xff"), (None, None)], headers=[("h", b"v")], timestamp=NOON)
    out = tmp_path / "all.jsonl"
    topic = place.settings.events_topic
    assert forecart("capture", "--topic", topic, "--out", str(out), "--envelope", place=place).returncode == 0
    first, second = map(json.loads, out.read_text().splitlines())
    assert first == {
        "partition": 0,
        "offset": 0,
        "timestamp": NOON,
        "key": "k",
        "headers": [["h", "v"]],
        "value": {"base64": "/w=="},
    }
    assert (second["key"], second["value"]) == (None, None)


def test_a_missing_topic_is_told(shop, log: Path, tmp_path: Path):
    place = shop()
    for words in (["replay", "--format", "events", "--data", str(log)], ["capture", "--out", str(tmp_path / "x")]):
        began = time.monotonic()
        done = forecart(*words, "--topic", "nowhere", place=place)
        assert done.returncode == 78
        assert "there is no topic nowhere" in done.stderr
        assert time.monotonic() - began < 30
