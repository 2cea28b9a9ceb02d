"""How much a worker holds: rounds and what waits for them are bounded in bytes, on a real broker."""

import re
import resource
import subprocess
import time
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaException

from tests.kafka.oracle import assert_exactly_once
from tests.kafka.shop import Shop, wait_for

pytestmark = pytest.mark.slow
MIB = 1 << 20
# A worker that holds nothing has about 140 MiB. Beyond it there are, of 64 MiB each at most: what waits, the round that
# is scored, the one that is committed, and librdkafka's copy of that; a quarter of it each in what was fetched, in the
# answers of brokers, and in Faust's buffer. malloc keeps some of what is freed.
MOST = 600 * MIB
# What the kernel gives a worker to write to, in memory or not yet: beyond it allocations fail, and the worker ends.
# Stacks of threads and room that malloc has set aside are within it.
LIMIT = 1200 * MIB
FILLER = re.compile(rb"x{1000,}")


def _memory(worker: subprocess.Popen[bytes], field: str) -> int:
    """Return what the kernel says of a process's memory, in bytes."""
    with open(f"/proc/{worker.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def _shortened(value: bytes) -> bytes:
    """Return a value without its filler, which decides nothing: all of them would be gigabytes."""
    return FILLER.sub(b"", value)


def _large(n: int, size: int) -> bytes:
    """Make an event of nearly so many bytes, most of them in a field that is passed over."""
    event = {"event_id": f"e{n}", "user_id": f"u{n}", "type": "view", "item_id": f"item-{n % 50}"}
    event |= {"timestamp": int(time.time() * 1000), "more": ""}
    event["more"] = "x" * (size - len(msgspec.json.encode(event)))
    return msgspec.json.encode(event)


def _send(place: Shop, values: int, make) -> None:
    def enter(error: Any, message: Any) -> None:
        message.set_value(_shortened(message.value()))
        place.ledger.enter(error, message)

    out = place.producer(**{"queue.buffering.max.kbytes": 64 * 1024})
    for n in range(values):
        while True:
            try:
                out.produce(place.settings.events_topic, make(n), f"u{n}".encode(), on_delivery=enter)
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
    """2,000 records of 900 KB that are no events, or 9,000 large events: three times of what a worker may have."""
    place = shop(max_event_bytes=262_144)
    if kind == "events":
        n, size = 9_000, 200_000
        _send(place, n, lambda i: _large(i, size))
    else:
        n = 2_000
        raw = b"{" + b"x" * 900_000
        _send(place, n, lambda _: raw)
    began = time.monotonic()
    worker = place.start("w0")
    resource.prlimit(worker.pid, resource.RLIMIT_DATA, (LIMIT, LIMIT))
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, _memory(worker, "VmData"))
        return _done(place, worker)

    wait_for(done, 240, "all is scored")
    peak = _memory(worker, "VmHWM")
    print(kind, f"{peak / MIB:.0f} MiB of {most / MIB:.0f} MiB that were given, {time.monotonic() - began:.0f} s")
    place.reader.shorten = _shortened
    assert_exactly_once(place.examine(), at_least=n, sessions=0 if kind == "dead letters" else n)
    assert peak < MOST
