"""How much a worker holds: rounds and what waits for them are bounded in bytes, on a real broker."""

import subprocess
import time

import msgspec
import pytest
from confluent_kafka import KafkaException

from tests.kafka.shop import Shop, wait_for

pytestmark = pytest.mark.slow
MIB = 1 << 20
# A worker that holds nothing has about 140 MiB. Beyond it there are, of 64 MiB each at most: what waits, the round that
# is scored, the one that is committed, and librdkafka's copy of that; a quarter of it each in what was fetched, in the
# answers of brokers, and in Faust's buffer. malloc keeps some of what is freed.
MOST = 600 * MIB


def _peak(worker: subprocess.Popen[bytes]) -> int:
    """Return the most memory that a process ever had, in bytes."""
    with open(f"/proc/{worker.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def _large(n: int, size: int) -> bytes:
    """Make an event of nearly so many bytes, most of them in a field that is passed over."""
    event = {"event_id": f"e{n}", "user_id": f"u{n}", "type": "view", "item_id": f"item-{n % 50}"}
    event |= {"timestamp": int(time.time() * 1000), "more": ""}
    event["more"] = "x" * (size - len(msgspec.json.encode(event)))
    return msgspec.json.encode(event)


def _send(place: Shop, values: int, make) -> None:
    out = place.producer(**{"queue.buffering.max.kbytes": 64 * 1024})
    for n in range(values):
        while True:
            try:
                out.produce(place.settings.events_topic, make(n), f"u{n}".encode())
                break
            except BufferError:
                out.poll(0.1)
    assert out.flush(60) == 0


def _done(place: Shop, worker: subprocess.Popen[bytes]) -> bool:
    assert worker.poll() is None, "the worker ended"
    try:
        return place.committed_lag() == 0
    except KafkaException:  # the broker has much to write
        return False


@pytest.mark.parametrize("kind", ["dead letters", "events"])
def test_a_backlog_of_large_records_needs_little_memory(shop, kind):
    """4,500 records of 900 KB that are no events, or 20,000 events as large as they may be."""
    place = shop(max_event_bytes=262_144)
    if kind == "events":
        n, size = 20_000, 200_000
        _send(place, n, lambda i: _large(i, size))
    else:
        n = 4_500
        raw = b"{" + b"x" * 900_000
        _send(place, n, lambda _: raw)
    began = time.monotonic()
    worker = place.start("w0")
    wait_for(lambda: _done(place, worker), 240, "all is scored")
    peak = _peak(worker)
    print(kind, f"{peak / MIB:.0f} MiB, {time.monotonic() - began:.0f} s")
    assert peak < MOST
