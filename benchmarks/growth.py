"""What grows with shoppers, partitions, one shopper's share and time, in one run on one machine.

A worker of hidden size 128 in float16 goes through backlogs. Bytes a shopper are the slope of its resident memory
between two numbers of shoppers, each of whom has had an event. Cost is the worker's processor time an event; the
shoppers of a backlog are drawn evenly, so that there is about one changelog record an event. A bot has half of all
events of a backlog. The soak sends at a fixed rate and fits a line to the resident memory after the first third. The
last line is JSON.

    python benchmarks/growth.py
    python benchmarks/growth.py --soak 3600
"""

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from common import Offsets, Worker, bundle, kafka, publish, worker
from machine import facts

from stream import settings as configuration
from stream.bundle.onnx import load
from stream.kafka.topics.admin import apply, remove
from stream.settings import Settings

_DIMENSION = 128
_FEW, _MANY = 100_000, 1_000_000
_BOT = -1
_TEN_MINUTES = 600.0


class Shop:
    """One group with topics of its own and a worker; `address` and `folder` of the run."""

    def __init__(self, address: str, folder: Path, model: Path, name: str, partitions: int) -> None:
        group = f"growth-{os.getpid()}-{name}"
        base = {"bootstrap_servers": address, "bundle": model, "recommend": False, "group": group}
        topics = {"events_topic": f"{group}-events", "scores_topic": f"{group}-out"}
        self.settings: Settings = configuration.load(**base, **topics)
        self.folder, self.partitions, self.sent = folder, partitions, 0
        self.items = load(model).vocabulary.items
        apply(self.settings, partitions, 1)

    def publish(self, users: "np.ndarray[Any, Any]") -> None:
        """Send an event of each of these shoppers."""
        publish(self.settings, users, self.items)
        self.sent += len(users)

    @contextmanager
    def working(self) -> Iterator["Work"]:
        """Run a worker on what was sent; remove the topics afterwards."""
        offsets = Offsets(self.settings, self.partitions)
        with worker(self.settings, self.folder, self.settings.group) as running:
            running.await_ready(60)
            yield Work(self, running, offsets)
        offsets.close()
        remove(self.settings)


class Work:
    """A worker at its backlog."""

    def __init__(self, shop: Shop, running: Worker, offsets: Offsets) -> None:
        self.shop, self.running, self.offsets = shop, running, offsets

    def through(self) -> None:
        """Wait until all that was sent is committed."""
        while self.offsets.done() < self.shop.sent:
            self.running.get("/livez")
            time.sleep(0.05)

    def cost(self, users: "np.ndarray[Any, Any]") -> float:
        """Send a backlog; return the processor's us an event of going through it."""
        began = self.running.processor
        self.shop.publish(users)
        self.through()
        return (self.running.processor - began) / len(users) * 1e6


def memory(address: str, folder: Path, model: Path, events: int) -> dict[str, Any]:
    """Measure bytes a shopper, and the cost of an event among few and among many of them."""
    random, shop = np.random.default_rng(1), Shop(address, folder, model, "memory", 8)
    with shop.working() as work:
        found: dict[int, tuple[int, float]] = {}
        known = 0
        for users in (_FEW, _MANY):
            shop.publish(np.arange(known, users))
            work.through()
            known = users
            cost = work.cost(random.integers(0, users, events))
            found[users] = work.running.rss, cost
    (few, cheap), (many, dear) = found[_FEW], found[_MANY]
    return {
        "bytes_a_shopper": round((many - few) / (_MANY - _FEW)),
        "rss_mib": [few >> 20, many >> 20],
        "cost_us": [round(cheap, 1), round(dear, 1)],
        "cost_ratio": round(dear / cheap, 2),
    }


def partitions(address: str, folder: Path, model: Path, events: int) -> dict[str, Any]:
    """Measure the cost of an event at 1, 8 and 64 partitions."""
    costs = {}
    for number in (1, 8, 64):
        shop = Shop(address, folder, model, f"partitions-{number}", number)
        with shop.working() as work:
            random = np.random.default_rng(2)
            work.cost(random.integers(0, _FEW, events))
            costs[number] = work.cost(random.integers(0, _FEW, events))
    return {
        "partitions_us": {number: round(cost, 1) for number, cost in costs.items()},
        "partitions_ratio": round(max(costs.values()) / min(costs.values()), 2),
    }


def bot(address: str, folder: Path, model: Path, events: int) -> dict[str, Any]:
    """Measure the cost of an event where one shopper has half of them, beside one where nobody stands out."""
    shop, random = Shop(address, folder, model, "bot", 4), np.random.default_rng(3)
    with shop.working() as work:
        even = random.integers(0, _FEW, events)
        work.cost(even)
        plain = work.cost(even)
        busy = work.cost(np.where(random.random(events) < 0.5, _BOT, even))
    return {"bot_us": [round(plain, 1), round(busy, 1)], "bot_ratio": round(busy / plain, 2)}


def soak(address: str, folder: Path, model: Path, seconds: float, rate: int) -> dict[str, Any]:
    """Send at a rate for so long; return the slope of the resident memory in MiB in 10 minutes."""
    shop, stop = Shop(address, folder, model, "soak", 8), threading.Event()

    def send() -> None:
        random = np.random.default_rng(4)
        while not stop.wait(1.0):
            shop.publish(random.integers(0, _FEW // 10, rate))

    with shop.working() as work:
        sending = threading.Thread(target=send)
        sending.start()
        began, seen = time.monotonic(), []
        while (at := time.monotonic() - began) < seconds:
            seen.append((at, work.running.rss / 2**20))
            work.running.get("/livez")
            time.sleep(min(seconds / 200, 5.0))
        stop.set()
        sending.join()
    at, rss = np.array(seen)[len(seen) // 3 :].T
    slope = float(np.polyfit(at, rss, 1)[0]) * _TEN_MINUTES
    return {"soak_seconds": seconds, "soak_rss_mib": round(float(rss[-1])), "soak_mib_in_10_minutes": round(slope, 2)}


def main() -> None:
    """Measure the parts that are asked for, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["memory", "partitions", "bot"], default=None)
    parser.add_argument("--events", type=int, default=200_000, help="of a backlog")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of a fixed rate; the other parts are left out")
    parser.add_argument("--rate", type=int, default=2000, help="events a second of the soak")
    parser.add_argument("--bootstrap-servers", help="a broker that runs; without it one is started")
    given = parser.parse_args()
    line: dict[str, Any] = {"benchmark": "growth", "dimension": _DIMENSION, "events": given.events}
    with tempfile.TemporaryDirectory() as name, kafka(given.bootstrap_servers) as address:
        folder = Path(name)
        model = bundle(folder, _DIMENSION)
        if given.soak:
            line |= soak(address, folder, model, given.soak, given.rate)
        else:
            parts = {"memory": memory, "partitions": partitions, "bot": bot}
            for part in given.parts or parts:
                found = parts[part](address, folder, model, given.events)
                print(found, file=sys.stderr, flush=True)
                line |= found
    print(json.dumps(line | facts()))


if __name__ == "__main__":
    main()
