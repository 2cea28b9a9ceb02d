"""What it costs to read a fetch, by codec: our reader beside aiokafka's. python benchmarks/fetching.py

A fetch of batches of 500 events each; microseconds of an event, the best of several rounds.
"""

import time
from collections.abc import Callable

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from stream.kafka.fetch.fetches import Fetched, Reader

PARTITION = TopicPartition("events", 0)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
BATCHES, EVENTS, ROUNDS = 40, 500, 15


def fetch(codec: int) -> bytes:
    """Build a fetch."""
    made = []
    for first in range(0, BATCHES * EVENTS, EVENTS):
        builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, 0, 1 << 30)
        for n in range(EVENTS):
            value = b'{"event_id":"e%d","user_id":"u%d","type":"view","item_id":"i%d","timestamp":%d}'
            number = first + n
            event = value % (number, number * 7919 % 9973, number * 31 % 1009, 1_700_000_000_000 + number)
            builder.append(n, number, b"u%d" % (number * 7919 % 9973), event, [])
        raw = builder.build()
        raw[:8] = first.to_bytes(8, "big")
        made.append(bytes(raw))
    return b"".join(made)


def aiokafkas(raw: bytes) -> int:
    """Read as aiokafka does."""
    return len(list(fetcher.PartitionRecords(PARTITION, MemoryRecords(raw), None, 0, None, None, True, 1)))


def ours(raw: bytes) -> int:
    """Read as the worker does."""
    reader = Reader(1 << 26, lambda _tp: BATCHES * EVENTS)
    return len(reader.partition(PARTITION, Fetched(raw), None, 0).take(1 << 30))


def best(read: Callable[[bytes], int], raw: bytes) -> float:
    """Return the microseconds of an event."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        assert read(raw) == BATCHES * EVENTS
        times.append(time.perf_counter() - began)
    return min(times) * 1e6 / (BATCHES * EVENTS)


def main() -> None:
    """Print the table."""
    print("| codec | bytes of an event in the topic | aiokafka, us an event | Forecart, us an event |")
    print("| --- | --- | --- | --- |")
    for name, codec in CODECS.items():
        raw = fetch(codec)
        size = len(raw) / (BATCHES * EVENTS)
        print(f"| {name} | {size:.0f} | {best(aiokafkas, raw):.2f} | {best(ours, raw):.2f} |")


if __name__ == "__main__":
    main()
