"""Compressed input on a real broker: of every codec, broken in the topic, and far larger than it looks."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import aiokafka
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from stream.kafka.client.admin import admin
from stream.kafka.embedded_broker import Broker
from stream.kafka.fetch.batches import cut
from tests.kafka.built import HEAD, MiB, flipped, with_data
from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Shop, event, wait_for

CODECS = ("gzip", "snappy", "lz4", "zstd")
NOW = int(time.time() * 1000)
DICE = random.Random(7)


class Ledger:
    """What was sent, numbered on from batch to batch."""

    def __init__(self) -> None:
        self.sent = 0

    def rows(self, count: int) -> list[tuple[bytes, bytes]]:
        """Make the next events."""
        numbers = range(self.sent, self.sent + count)
        self.sent += count
        return [(f"user-{n % 17}".encode(), event(n, f"user-{n % 17}", NOW + n, DICE)) for n in numbers]


def _send(place: Shop, rows: list[tuple[bytes, bytes]], **producer: object) -> None:
    """Send records as one batch, with headers."""
    out = place.producer(**{"linger.ms": 200, **producer})
    for key, value in rows:
        out.produce(place.settings.events_topic, value, key, headers=[("traceparent", b"00-1"), ("empty", None)])
    assert out.flush(30) == 0


def _compress_in_topic(place: Shop, codec: str) -> None:
    entry = ConfigEntry("compression.type", codec, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, place.settings.events_topic, incremental_configs=[entry])
    client = admin(place.settings)
    for done in client.incremental_alter_configs([resource]).values():
        done.result(20)


async def _send_as_java_does(place: Shop, rows: list[tuple[bytes, bytes]], codec: str) -> None:
    """Send with snappy in Java's frame, which librdkafka does not write, within a transaction."""
    more = {"bootstrap_servers": place.address, "compression_type": codec, "transactional_id": f"{place.group}-{codec}"}
    async with aiokafka.AIOKafkaProducer(**more) as out:
        for send in (True, False):
            await out.begin_transaction()
            for key, value in rows:
                await out.send(place.settings.events_topic, value, key)
            await (out.commit_transaction() if send else out.abort_transaction())


def test_all_codecs_mixed_in_one_topic_are_scored(shop):
    """Compress by producer, by topic, in transactions, some of them aborted."""
    place, ledger = shop(), Ledger()
    for codec in ("none", *CODECS):
        _send(place, ledger.rows(50), **{"compression.type": codec})
        asyncio.run(_send_as_java_does(place, ledger.rows(30), codec if codec != "none" else None))
    for codec in CODECS:
        _compress_in_topic(place, codec)
        _send(place, ledger.rows(50))
    worker = place.start("w0")
    place.await_outcomes(60)
    assert worker.poll() is None
    finding = place.examine()
    assert_exactly_once(finding)
    assert finding.want == ledger.sent
    assert place.read(place.settings.dead_letters_topic) == []


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[Broker, Shop]]:
    """Run a broker whose files may be broken while it is stopped."""
    with Broker(data=tmp_path / "broker") as broker:
        place = Shop(broker.address, "broken", tmp_path, partitions=1)
        yield broker, place
        place.close()


def _batches(segment: bytes) -> list[bytes]:
    found, at = [], 0
    while batch := cut(memoryview(segment), at):
        found.append(bytes(batch.raw))
        at += batch.size
    return found


def test_broken_batches_of_each_codec_are_dead_letters_and_the_rest_is_scored(own):
    """Break batches where they lie: a byte of the checksum's, compressed data, records; then work through them."""
    broker, place = own
    ledger, expected = Ledger(), {}
    for codec in ("none", *CODECS):
        for cause in ("", "crc", "inside"):
            first = ledger.sent
            _send(place, ledger.rows(20), **{"compression.type": codec})
            inside = "structure" if codec == "none" else "compression"
            if cause:
                expected |= dict.fromkeys(range(first, ledger.sent), inside if cause == "inside" else cause)
    _send(place, ledger.rows(20))
    broker.stop()
    (path,) = (broker.data / "log" / f"{place.settings.events_topic}-0").glob("*.log")
    batches = _batches(path.read_bytes())
    assert len(batches) == 16
    for n in range(0, 15, 3):
        batches[n + 1] = flipped(batches[n + 1], HEAD + 20)
        whole = batches[n + 2]
        if n == 0:
            batches[n + 2] = flipped(whole, HEAD, seal=True)  # the first record's length
        else:
            data = bytearray(whole[HEAD:])
            data[:12] = b"\xff" * 12
            batches[n + 2] = with_data(whole, bytes(data))
    path.write_bytes(b"".join(batches))
    broker.start()
    worker = place.start("w0")
    wait_for(lambda: sum(place.outcomes().values()) >= ledger.sent or worker.poll() is not None, 60, "all outcomes")
    assert worker.poll() is None
    assert place.outcomes() == Counter({(0, n): 1 for n in range(ledger.sent)})
    letters = [dict(m.headers()) for m in place.read(place.settings.dead_letters_topic)]
    assert {int(m["forecart-offset"]): m["forecart-cause"].decode() for m in letters} == expected
    assert {m["forecart-reason"] for m in letters} == {b"unreadable"}
    place.send(ledger.rows(5))
    wait_for(lambda: sum(place.outcomes().values()) >= ledger.sent, 30, "what comes later")
    worker.terminate()
    assert worker.wait(30) == 0
    assert place.committed_lag() == 0
    place.unreadable.update((0, offset) for offset in expected)
    assert_exactly_once(place.examine(faults=10), at_least=ledger.sent)


def _peak(worker: subprocess.Popen[bytes]) -> float:
    """Return the most memory that a process ever had, in MiB."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


_BOMB = """
import sys
from confluent_kafka import Producer
address, topic, codec = sys.argv[1:]
out = Producer({"bootstrap.servers": address, "compression.type": codec, "message.max.bytes": 1_000_000_000})
out.produce(topic, bytes(400_000_000), b"k")
assert out.flush(120) == 0
"""


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_a_batch_that_inflates_to_400_mb_is_told_and_the_worker_keeps_its_size(shop, codec: str):
    place, ledger = shop(partitions=2), Ledger()
    _send(place, ledger.rows(2000), **{"compression.type": codec})
    worker = place.start("w0")
    place.await_outcomes(60)
    before = _peak(worker)
    topic = place.settings.events_topic
    for _ in range(3):
        subprocess.run([sys.executable, "-c", _BOMB, place.address, topic, codec], check=True)
    _send(place, ledger.rows(100), **{"compression.type": codec})
    wait_for(lambda: sum(place.outcomes().values()) >= ledger.sent + 3, 60, "all outcomes")
    assert worker.poll() is None
    assert set(place.outcomes().values()) == {1}
    letters = [dict(m.headers()) for m in place.read(place.settings.dead_letters_topic)]
    assert [m["forecart-reason"] for m in letters] == [b"inflated"] * 3
    assert {m["forecart-limit-bytes"] for m in letters} == {b"%d" % (64 * MiB)}
    assert all(0 < int(m["forecart-batch-bytes"]) < MiB for m in letters)
    place.unreadable.update((int(m["forecart-partition"]), int(m["forecart-offset"])) for m in letters)
    assert_exactly_once(place.examine(faults=3), at_least=ledger.sent + 3, sessions=17)
    grown = _peak(worker) - before
    print(f"{codec}: {before:.0f} MiB, and {grown:.0f} more")
    assert grown < 200


def test_without_its_library_a_worker_says_so_and_ends(tmp_path: Path):
    """Hide cramjam from a worker: one message with the remedy, no traceback."""
    (tmp_path / "cramjam.py").write_text("raise ImportError('hidden')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from forecart import main; sys.argv[1:] = ['worker']; main()"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 78
    assert ended.stderr.startswith("forecart: compressed topics cannot be read: cramjam is not installed (hidden)")
    assert "pip install" in ended.stderr
    assert "Traceback" not in ended.stderr
