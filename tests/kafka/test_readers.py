"""The readers of docs/topics.md, and what the page says of dead letters, with a real worker."""

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.bundle.onnx import load
from stream.core.session import record
from stream.kafka.embedded_broker import Broker, jars
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import BUNDLE, Shop, event

DOCS = Path(__file__).parents[2] / "docs"
ABORTED = "never-committed"
USERS, EVENTS = 40, 200
CUT = {"forecart-length", "forecart-sha256", "forecart-key-length"}
# Of batches that cannot be read: see test_compressed.py.
UNREAD = {f"forecart-{name}" for name in ("batch-offset", "batch-bytes", "cause", "limit-bytes")}
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")


def _jdk() -> Path | None:
    """Find a Java of 11 or newer that can compile: what runs a single source file."""
    home = os.environ.get("JAVA_HOME")
    compiler = shutil.which("javac", path=str(Path(home) / "bin")) if home else shutil.which("javac")
    if compiler is None:
        return None
    done = subprocess.run([compiler, "-version"], capture_output=True, text=True)
    version = re.search(r"javac (\d+)", done.stdout + done.stderr)
    return Path(compiler).resolve().with_name("java") if version and int(version[1]) >= 11 else None


JDK = _jdk()
READERS = [
    "reader.py",
    pytest.param("Reader.java", marks=pytest.mark.skipif(JDK is None, reason="there is no JDK of 11 or newer")),
]


@pytest.fixture(scope="module")
def place(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Score events, some with headers, before and after an aborted transaction on the scores; then bad ones."""
    folder = tmp_path_factory.mktemp("readers")
    shop = Shop(broker.address, folder.name, folder, max_event_bytes=1024, max_dead_letter_bytes=1024)
    try:
        _send(shop, 0)
        shop.start("w0")
        shop.await_outcomes(60)
        _abort(shop)
        _send(shop, EVENTS)
        shop.send([(b"shopper-7", b'{"event_id": "e", "user_id": 7}'), (b"k" * 10_000, b"x" * 2048)], headers=[TRACE])
        shop.await_outcomes(60)
        yield shop
    finally:
        shop.close()


def _send(shop: Shop, first: int) -> None:
    """Send events at once, every other one of a shopper with a header."""
    dice, now = random.Random(first), int(time.time() * 1000)
    out = shop.producer()
    for n in range(first, first + EVENTS):
        user = f"user-{n % USERS}"
        headers = [TRACE] if n // USERS % 2 else []
        out.produce(shop.settings.events_topic, event(n, user, now + n, dice), user.encode(), headers=headers)
    assert out.flush(30) == 0


def _abort(shop: Shop) -> None:
    """Write a score to each partition in a transaction that is aborted."""
    topic = shop.settings.scores_topic
    score = json.loads(shop.read(topic)[0].value()) | {"event_id": ABORTED}
    out = shop.producer(**{"transactional.id": "foreign"})
    out.init_transactions(30)
    out.begin_transaction()
    for number in range(shop.partitions):
        out.produce(topic, json.dumps(score), score["user_id"], number)
    assert out.flush(30) == 0
    out.abort_transaction(30)


def _run(broker: Broker, place: Shop, reader: Path, count: int) -> list[str]:
    command: list[object] = [sys.executable, reader]
    if reader.suffix == ".java":
        wanted = ("kafka-clients", "slf4j-api")
        path = os.pathsep.join(str(jar) for jar in jars(broker._cache) if jar.name.startswith(wanted))
        command = [JDK, "-cp", path, reader]
    arguments = [place.address, place.settings.scores_topic, str(count)]
    done = subprocess.run([*map(str, command), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def _expected(place: Shop, reader: str) -> list[str]:
    """Return the lines that a reader is to print, one a score of the topic."""
    lines = []
    for message in place.read(place.settings.scores_topic):
        score = json.loads(message.value())
        items = [each["item_id"] for each in score["recommendations"][:3]]
        printed = f"{score['event_id']} {score['user_id']} {score['intent']} {items}"
        lines.append(printed if reader == "reader.py" else f"{message.key().decode()}\t{message.value().decode()}")
    return lines


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_prints_the_committed_scores_and_no_other(broker, place, reader):
    """Compare what it prints with what the topic holds."""
    expected = _expected(place, reader)
    assert len(expected) == 2 * EVENTS
    assert sorted(_run(broker, place, DOCS / "readers" / reader, len(expected))) == sorted(expected)


@pytest.mark.parametrize(("words", "said"), [([], "HOST:PORT TOPIC"), (["nowhere", "1"], "nowhere: ")])
def test_a_reader_that_is_called_wrongly_says_so_in_a_line(broker, words, said):
    """Leave out the arguments, and name a topic that is not there."""
    command = [sys.executable, DOCS / "readers/reader.py", *([broker.address, *words] if words else [])]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


# A producer that begins aborts a tombstone in each partition.
SKIPPING = {
    "        if message.error():": "        if not message.value():\n            continue\n        if message.error():",
    "System.out.println(record.key()": "if (record.value() == null) { continue; } System.out.println(record.key()",
}


@pytest.mark.parametrize("reader", READERS)
def test_without_read_committed_it_would_print_aborted_scores(broker, place, reader, tmp_path):
    """Change the one setting: the test above can fail."""
    source = (DOCS / "readers" / reader).read_text()
    changed = source.replace('"read_committed"', '"read_uncommitted"').replace('"score-reader', '"uncommitted-reader')
    assert source.count('"read_committed"') == source.count('"score-reader') == 1
    for line, kept in SKIPPING.items():
        changed = changed.replace(line, kept)
    (tmp_path / reader).write_text(changed)
    lines = _run(broker, place, tmp_path / reader, 2 * EVENTS + place.partitions)
    assert sum(ABORTED in line for line in lines) == place.partitions


def test_a_score_lies_where_its_event_lies_and_has_its_headers(place):
    """Hold what the page says of partitions and headers."""
    events = {(m.partition(), m.offset()): m.headers() for m in place.read(place.settings.events_topic)}
    for message in place.read(place.settings.scores_topic):
        score = json.loads(message.value())
        assert message.partition() == score["source"]["partition"]
        assert message.key().decode() == score["user_id"]
        assert message.headers() == events[message.partition(), score["source"]["offset"]]


def test_the_scores_of_a_shopper_come_in_order(place):
    """Compare the order of the scores with that of the events."""
    offsets = defaultdict(list)
    for message in place.read(place.settings.scores_topic):
        score = json.loads(message.value())
        offsets[score["user_id"]].append(score["source"]["offset"])
    assert len(offsets) == USERS
    assert all(each == sorted(each) for each in offsets.values())


def test_dead_letters_have_the_headers_of_the_page(place):
    """Compare a bad record and one that is too long with the page."""
    whole, cut = sorted(place.read(place.settings.dead_letters_topic), key=lambda m: len(m.value()))
    documented = re.search(r"<!-- begin headers -->(.*?)<!-- end", (DOCS / "topics.md").read_text(), re.DOTALL)
    names = set(re.findall(r"^\| `(.*?)` \|", documented[1], re.MULTILINE)) - UNREAD
    assert cut.headers()[0] == TRACE
    assert {name for name, _ in cut.headers()} == names | {TRACE[0]}
    assert {name for name, _ in whole.headers()} == names - CUT | {TRACE[0]}
    assert whole.value() == b'{"event_id": "e", "user_id": 7}'
    assert cut.value() == b"x" * 1024
    facts = {name: value.decode() for name, value in cut.headers()}
    source = {(m.partition(), m.offset()): m for m in place.read(place.settings.events_topic)}
    origin = source[int(facts["forecart-partition"]), int(facts["forecart-offset"])]
    assert facts["forecart-topic"] == place.settings.events_topic
    assert facts["forecart-reason"] == "oversized"
    assert facts["forecart-timestamp"] == str(origin.timestamp()[1])
    assert facts["forecart-length"] == "2048"
    assert facts["forecart-sha256"] == hashlib.sha256(origin.value()).hexdigest()
    assert cut.key() == origin.key()[:8192]


def test_the_changelog_has_the_keys_of_the_page(place):
    """Look at the keys, the session records and the positions."""
    size = record(load(BUNDLE).manifest).itemsize
    found = defaultdict(list)
    for message in place.read(place.settings.changelog):
        found[message.key()[:1]].append(message)
    assert set(found) == {b"u", b"p", b"w"}
    assert {len(m.value()) for m in found[b"u"]} == {size}
    assert {tuple(json.loads(m.value())) for m in found[b"p"]} == {
        ("topic_id", "offset", "clock", "changelog_id", "partitions", "growing")
    }
    assert {m.value() for m in found[b"w"]} == {None}
    assert {m.key() for m in found[b"w"]} == {b"ww0"}


def test_the_oracle_finds_the_topics_right(place):
    """Count nothing of the aborted transaction, in which scores were written by another hand."""
    assert_exactly_once(place.examine(faults=1), at_least=2 * EVENTS + 2, sessions=USERS)
