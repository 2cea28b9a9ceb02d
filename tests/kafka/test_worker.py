"""The worker on a real broker: bad input, sessions, probes, the end."""

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import aiokafka
import msgspec
import pytest
from aiokafka.producer import message_accumulator, producer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from faust.types.settings import Settings

from stream.kafka.embedded_broker import free_port
from tests.fakes import HOUR
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.probes import ask, values
from tests.kafka.shop import BUNDLE, NoText, Upstream, event, wait_for

NOW = int(time.time() * 1000)


def _value(n: int, user: str = "u", time_ms: int = NOW, **more: object) -> bytes:
    fields = {"event_id": f"e{n}", "user_id": user, "type": "view", "item_id": "item-1", "timestamp": time_ms}
    return msgspec.json.encode({k: v for k, v in {**fields, **more}.items() if v is not ...})


POISON = {
    "null": None,
    "empty": b"",
    "not_utf8": b"\xff\xfe",
    "not_json": _value(0)[:-4],
    "too_deep": _value(0)[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "wrong_type": _value(0, timestamp="soon"),
    "unknown_type": _value(0, type="wave"),
    "missing_field": _value(0, user_id=...),
    "future": _value(0, time_ms=NOW + 400 * 24 * HOUR),
    "oversized": _value(0, padding="x" * 70_000),
}


def test_bad_input_is_a_dead_letter_and_the_worker_goes_on(shop):
    """Mix every kind of poison into good traffic, 10 to 1."""
    place = shop()
    dice = random.Random(0)
    rows: list[tuple[bytes | None, bytes | None]] = []
    for n in range(600):
        user = f"user-{n % 50}"
        rows.append((user.encode(), event(n, user, NOW + n, dice)))
        if n % 10 == 0:
            kind = sorted(POISON)[n // 10 % len(POISON)]
            rows.append((b"k", POISON[kind]))
    rows.append((b"k", b'{"price":NaN}'))
    place.send(rows)
    worker = place.start("w0")
    place.await_outcomes(40)
    assert_exactly_once(place.examine(faults=61), at_least=661, sessions=50)
    assert worker.poll() is None
    sent = {(m.partition(), m.offset()): m for m in place.read(place.settings.events_topic)}
    letters = place.read(place.settings.dead_letters_topic)
    for letter in letters:
        headers = dict(letter.headers())
        assert headers["forecart-topic"].decode() == place.settings.events_topic
        source = sent[int(headers["forecart-partition"]), int(headers["forecart-offset"])]
        assert (letter.key(), letter.value()) == (source.key(), source.value())
    reasons = Counter(dict(m.headers())["forecart-reason"].decode() for m in letters)
    assert reasons == Counter({name: 6 for name in POISON}) + Counter(not_json=1)


def test_the_heaviest_records_end_no_worker(shop):
    """Send what weighs by its number of headers alone, what is as long as Kafka takes, and what is just allowed."""
    place = shop(partitions=1)
    place.send([(b"u", _value(1))], headers=[("", b"")] * 450_000)
    place.send([(b"k" * 300_000, b"x" * 650_000)], headers=[("h", b"y" * 40_000)])
    place.send([(b"u", _value(2, event_id="\U0001f6d2" * 256))], headers=[("h" * 650, b"")] * 98)
    place.send([(b"u", _value(3))])
    worker = place.start("w0")
    place.await_outcomes(40)
    assert worker.poll() is None
    scored = [json.loads(m.value())["source"]["offset"] for m in place.read(place.settings.scores_topic)]
    reasons = [dict(m.headers())["forecart-reason"] for m in place.read(place.settings.dead_letters_topic)]
    assert (scored, reasons) == ([2, 3], [b"oversized"] * 2)
    assert_exactly_once(place.examine(faults=2), at_least=4)


def test_late_duplicate_and_returning_shoppers(shop):
    place = shop(partitions=1)
    hour = HOUR
    place.send(
        [
            (b"u", _value(1, time_ms=NOW)),
            (b"u", _value(1, time_ms=NOW)),
            (b"u", _value(2, time_ms=NOW - hour)),
            (b"u", _value(3, time_ms=NOW - hour - 1)),
            (b"u", _value(4, time_ms=NOW + hour // 2)),
            (b"u", _value(5, time_ms=NOW + hour + 1)),
            (None, _value(6, user="v")),
        ]
    )
    place.start("w0")
    place.await_outcomes(40)
    scores = [json.loads(m.value()) for m in place.read(place.settings.scores_topic)]
    assert [(s["event_id"], s["session"]["length"], s.get("late", False)) for s in scores if s["user_id"] == "u"] == [
        ("e1", 1, False),
        ("e2", 2, True),
        ("e4", 3, False),
        ("e5", 1, False),
    ]
    reasons = [dict(m.headers())["forecart-reason"] for m in place.read(place.settings.dead_letters_topic)]
    assert sorted(reasons) == [b"duplicate", b"late"]
    assert [s["user_id"] for s in scores if s["event_id"] == "e6"] == ["v"]
    assert_exactly_once(place.examine(), at_least=7, sessions=2)


def test_headers_are_carried_over(shop):
    place = shop()
    place.send([(b"u", _value(1))], headers=[("traceparent", b"00-abc-01")])
    place.start("w0")
    place.await_outcomes(40)
    (score,) = place.read(place.settings.scores_topic)
    assert score.headers() == [("traceparent", b"00-abc-01")]


def test_a_header_whose_name_is_no_text_ends_no_worker(shop, monkeypatch):
    for user in (producer, message_accumulator):  # the compiled one takes text alone
        monkeypatch.setattr(user, "DefaultRecordBatchBuilder", _DefaultRecordBatchBuilderPy)
    place = shop(partitions=1)
    place.send([(b"u", _value(1))])
    asyncio.run(_send_as_it_is(place, _value(2), [(NoText("n"), b"h")]))
    place.send([(b"u", _value(3))])
    worker = place.start("w0")
    place.await_outcomes(40)
    assert worker.poll() is None
    scores = place.read(place.settings.scores_topic)
    assert [json.loads(m.value())["source"]["offset"] for m in scores] == [0, 1, 2]
    assert [m.headers() for m in scores] == [None, [("n\\xff", b"h")], None]
    assert_exactly_once(place.examine(faults=1), at_least=3)


async def _send_as_it_is(place, value, headers):
    async with aiokafka.AIOKafkaProducer(bootstrap_servers=place.address) as out:
        await out.send_and_wait(place.settings.events_topic, value, b"u", headers=headers)


def test_idle_shoppers_end_as_tombstones_and_come_back_anew(shop):
    """The TTL runs on the record's time, and needs a record to run on."""
    place = shop(partitions=1)
    day = 24 * HOUR
    place.send([(b"old", _value(1, "old", NOW - 40 * day))], timestamp=NOW - 40 * day)
    place.send([(b"u", _value(2, "u", NOW))], timestamp=NOW)
    worker = place.start("w0")
    place.await_outcomes(40)
    changes = [(m.key(), m.value() is None) for m in place.read(place.settings.changelog) if m.key()[:1] == b"u"]
    assert changes.index((b"uold", True)) > changes.index((b"uold", False))
    place.send([(b"old", _value(3, "old", NOW))], timestamp=NOW)
    place.await_outcomes(40)
    last = json.loads(place.read(place.settings.scores_topic)[-1].value())
    assert last["session"]["length"] == 1
    assert worker.poll() is None
    assert_exactly_once(place.examine(), at_least=3, sessions=2)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_within_15_seconds(shop, number):
    """End it under load, start it again: nothing open, nothing lost."""
    place = shop()
    upstream = Upstream(place, rate=1000, seconds=14)
    worker = place.start("w0")
    upstream.start()
    wait_for(lambda: place.read(place.settings.scores_topic), 40, "the first scores")
    worker.send_signal(number)
    began = time.monotonic()
    assert worker.wait(20) == 0
    assert time.monotonic() - began < 15
    text = place.log_of("w0").read_text()
    assert "Traceback" not in text
    assert "stopped: positions are committed" in text.splitlines()[-1]
    place.start("w0")
    upstream.join()
    place.await_outcomes(40)
    assert_exactly_once(place.examine(faults=1), at_least=10_000, sessions=100)


def test_probes_and_metrics_tell_the_truth(shop):
    place = shop()
    port = free_port()
    place.send([(f"user-{n}".encode(), _value(n, f"user-{n}")) for n in range(300)])
    place.start("w0", metrics_port=port)
    seen = []
    wait_for(lambda: seen.append(ask(port, "/readyz")) or seen[-1][0] == 200, 40, "readiness")
    assert any(status == 503 for status, _ in seen)
    place.await_outcomes(40)
    assert ask(port, "/livez") == (200, "ok\n")
    model = json.loads((BUNDLE / "manifest.json").read_text())["model"]
    own = {"group": place.group, "worker": "w0"}
    assert values(port, "forecart_scores_published_total", model=model, **own) == [300]
    assert values(port, "forecart_build_info", bundle=model, **own) == [1]
    assert sum(values(port, "forecart_consumer_lag", **own)) == 0
    assert values(port, "forecart_state_users") == values(port, "forecart_event_to_score_seconds_count") == [300]


def test_a_worker_stays_ready_through_a_rebalance_that_leaves_it_what_it_had(shop):
    """Let a second worker join; the first is asked as often as it can answer."""
    place, port, seen = shop(), free_port(), Counter[tuple[int, str]]()
    place.send([(f"user-{n}".encode(), _value(n, f"user-{n}")) for n in range(300)])
    place.start("w0", metrics_port=port)
    wait_for(lambda: ask(port, "/readyz")[0] == 200, 60, "readiness")

    def joined() -> bool:
        began = time.monotonic()
        while time.monotonic() - began < 0.5:
            seen[ask(port, "/readyz")] += 1
        shared = values(port, "forecart_rebalances_total") == [2]
        return shared and "assigned in generation" in place.log_of("w1").read_text()

    place.start("w1")
    wait_for(joined, 90, "both have their shares")
    joined()
    assert set(seen) == {(200, "ok\n")}
    place.await_outcomes(40)
    assert_exactly_once(place.examine(), at_least=300, sessions=300)


def test_score_without_kafka_agrees_with_the_worker(shop, tmp_path: Path):
    """Score the captured input offline: the same events, the same scores to 1e-5."""
    place = shop(partitions=3)
    upstream = Upstream(place, rate=800, seconds=4, users=60)
    upstream.start()
    upstream.join()
    place.start("w0")
    place.await_outcomes(40)
    captured = tmp_path / "events.jsonl"
    forecart = [sys.executable, "-m", "forecart"]
    topic = ["--topic", place.settings.events_topic, "--bootstrap-servers", place.address]
    subprocess.run([*forecart, "capture", *topic, "--out", str(captured)], check=True)
    command = [*forecart, "score", "--bundle", str(BUNDLE), "--data", str(captured)]
    lines = subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    offline = {s["event_id"]: s for s in map(json.loads, lines)}
    online = {s["event_id"]: s for s in (json.loads(m.value()) for m in place.read(place.settings.scores_topic))}
    assert set(online) == set(offline)
    assert len(online) > 2500
    for name, score in online.items():
        mine = offline[name]
        assert score["session"] == mine["session"]
        assert score["intent"] == pytest.approx(mine["intent"], abs=1e-5)
        theirs, ours = ([r["score"] for r in s["recommendations"]] for s in (score, mine))
        assert theirs == pytest.approx(ours, abs=1e-3)


# Every variable that Faust would obey, those that it and others read when they are imported, and ordinary ones.
PREFIX = "APP_ENV_PREFIX"  # with it, Faust looks for all the others behind its value
FOREIGN = {p.env_name: "nonsense" for p in Settings.SETTINGS.values() if p.env_name not in (None, PREFIX)}
PREFIXED = {PREFIX: "nonsense", "nonsense_BROKER_URL": "kafka://nowhere.invalid:9092", "nonsense_APP_VERSION": "3.1"}
USUAL = {
    "APP_VERSION": "3.1.0",
    "APP_DEBUG": "production",
    "BROKER_URL": "kafka://nowhere.invalid:9092",
    "BROKER_CREDENTIALS": "secret",
    "PROCESSING_GUARANTEE": "exactly_once",
    "KAFKA_BOOTSTRAP_SERVERS": "nowhere.invalid:9092",
    "KAFKA_OPTS": "-Dnonsense",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://nowhere.invalid:4317",
    "TOPIC_PARTITIONS": "99",
}
AT_IMPORT = {
    **dict.fromkeys(("FAUST_LOOP", "F_LOOP", "FAUST_DATADIR", "F_WORKDIR", "FAUST_CONSOLE_PORT"), "nonsense"),
    **dict.fromkeys(("FAUST_BLOCKING_TIMEOUT", "FAUST_WEB_PORT", "DEVLOG", "NO_CYTHON", "TYPEXPR_DEBUG"), "nonsense"),
    "AIOKAFKA_NO_EXTENSIONS": "1",
    "DJANGO_SETTINGS_MODULE": "nonsense",
    "PROMETHEUS_MULTIPROC_DIR": "/nonsense",
}


@pytest.mark.parametrize("there", [FOREIGN, PREFIXED, USUAL, AT_IMPORT], ids=["every", "prefix", "usual", "import"])
def test_other_software_s_variables_change_nothing(shop, monkeypatch, there):
    place = shop()
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    place.send([(b"u", _value(1))])
    worker = place.start("w0")
    wait_for(lambda: place.read(place.settings.scores_topic) or worker.poll() is not None, 40, "a score")
    assert worker.poll() is None
    assert sum(place.outcomes().values()) == 1
    text = place.log_of("w0").read_text()
    assert "nonsense" not in text and "nowhere" not in text and "WARNING" not in text


def _listening(process: int) -> set[int]:
    """Return the TCP ports that a process listens on."""
    held = {os.readlink(path) for path in Path(f"/proc/{process}/fd").iterdir()}
    rows = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}


def test_faust_users_start_the_same_app(shop):
    """Its command line would open a web server, and obey the variables of its settings."""
    place, port = shop(), free_port()
    place.send([(b"u", _value(1))])
    given = {**place.names, **place.extra, "bundle": BUNDLE, "bootstrap_servers": place.address, "group": place.group}
    env = {f"FORECART_{k.upper()}": str(v) for k, v in {**given, "name": "f0", "metrics_port": port}.items()}
    with place.log_of("f0").open("wb") as log:
        command = [Path(sys.executable).with_name("faust"), "-A", "stream.app", "worker"]
        worker = subprocess.Popen(command, env=os.environ | FOREIGN | env, stdout=log, stderr=log)
    place.workers["f0"].append(worker)
    place.await_outcomes(40)
    assert sum(place.outcomes().values()) == 1
    assert _listening(worker.pid) == {port}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0


def test_a_missing_topic_ends_the_start_with_the_remedy(shop):
    place = shop()
    worker = place.start("w0", scores_topic="nowhere")
    assert worker.wait(30) == 78
    text = place.log_of("w0").read_text()
    assert "missing topics: nowhere (scores)" in text
    assert "FORECART_SCORES_TOPIC=nowhere" in text
    assert f"forecart topics apply --bootstrap-servers {place.address} --group {place.group}" in text
    assert "Traceback" not in text


def test_a_port_of_metrics_that_is_taken_ends_the_start_with_the_remedy(shop):
    place = shop()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        worker = place.start("w0", metrics_port=other.getsockname()[1], log_level="warn")
        assert worker.wait(30) == 78
    message, remedy = place.log_of("w0").read_text().splitlines()
    assert message.startswith("forecart: metrics cannot listen on 127.0.0.1:")
    assert remedy == "  give another --metrics-port, or 0"


def test_a_start_at_the_end_leaves_the_past_alone(shop):
    place = shop(partitions=1, start="latest")
    place.send([(b"u", _value(1))])
    worker = place.start("w0")
    wait_for(lambda: "assigned in generation" in place.log_of("w0").read_text(), 40, "the assignment")
    # The first record of the changelog is the claim; the position is settled after it.
    wait_for(lambda: "0 shoppers, position 1," in place.log_of("w0").read_text(), 40, "the first position")
    place.send([(b"u", _value(2))])
    wait_for(lambda: place.read(place.settings.scores_topic), 40, "a score")
    assert [json.loads(m.value())["event_id"] for m in place.read(place.settings.scores_topic)] == ["e2"]
    assert worker.poll() is None


def test_an_idle_worker_writes_nothing(shop):
    place = shop()
    place.send([(b"u", _value(1))])
    place.start("w0")
    place.await_outcomes(40)
    before = len(place.read(place.settings.changelog))
    time.sleep(5)
    assert len(place.read(place.settings.changelog)) == before


def test_an_unseen_item_is_recommended_before_and_after_a_restart(shop):
    """Sixty shoppers see items that no bundle knows; the restarted worker still names them, for old sessions too."""
    place = shop()
    users = [f"user-{n}" for n in range(60)]
    place.send([(u.encode(), _value(n, u, item_id=f"new-{n % 7}")) for n, u in enumerate(users)])
    worker = place.start("w0")
    place.await_outcomes(40)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    kept = {m.key() for m in place.read(place.settings.changelog) if m.key()[:1] == b"i"}
    assert kept == {b"inew-%d" % n for n in range(7)}
    place.send([(u.encode(), _value(100 + n, u, NOW + 1000, item_id="late")) for n, u in enumerate(users)])
    place.start("w0")
    place.await_outcomes(40)
    scores = [json.loads(m.value()) for m in place.read(place.settings.scores_topic)]
    assert len(scores) == 120
    for score in scores:
        n = int(score["user_id"].removeprefix("user-"))
        assert f"new-{n % 7}" in [r["item_id"] for r in score["recommendations"]], score["event_id"]
    assert_exactly_once(place.examine(faults=1), at_least=120, sessions=60)
