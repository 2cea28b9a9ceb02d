"""Names in arrays beside a dictionary and a list of them: bytes and processor time a name, in one run on one machine.

Names are of 6 or 7 digits, or UUIDs. Those of a chunk are made anew, as decoding makes them, and all are known. Times
are the thread's, the shortest of several rounds in turn; bytes are of a process that does nothing else. The last line
is JSON.

    python benchmarks/names.py
"""

import argparse
import json
import multiprocessing
import re
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from machine import facts

from stream.state.user_index import Slots, UserIndex

_CHUNKS = (1, 16, 64, 512, 2048)
_ROUNDS, _LOOKED_UP = 7, 8192
_ADDED = 2000  # at once


class Objects:
    """The plain way: a dictionary from names to slots, and a list of names."""

    def __init__(self) -> None:
        self.slot: dict[str, int] = {}
        self.name: list[str] = []

    def add(self, names: Sequence[str]) -> None:
        """Give slots to unknown names."""
        self.slot.update(zip(names, range(len(self.name), len(self.name) + len(names)), strict=True))
        self.name += names

    def find(self, names: Sequence[str]) -> Slots:
        """Return the slots of names, -1 where one is unknown."""
        return np.fromiter(map(self.slot.get, names, repeat(-1)), np.int64, len(names))


Holder = Objects | UserIndex
_WAYS: dict[str, Callable[[], Holder]] = {"arrays": UserIndex, "objects": Objects}


def digits(number: int) -> str:
    """Name a shopper by a number."""
    return str(100_000 + number)


def uuids(number: int) -> str:
    """Name a shopper by a UUID."""
    return str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC834 % 2**128))


def resident() -> int:
    """Return the process's resident memory, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) * 1024


def filled(way: str, n: int, name: Callable[[int], str]) -> tuple[Holder, float]:
    """Hold names; return their holder, and the bytes of resident memory that one takes."""
    held, before = _WAYS[way](), resident()
    for begin in range(0, n, _ADDED):
        held.add([name(number) for number in range(begin, min(begin + _ADDED, n))])
    return held, (resident() - before) / n


def weighed(way: str, n: int, name: Callable[[int], str]) -> int:
    """Return the bytes a name."""
    return round(filled(way, n, name)[1])


def looked_up(held: Holder, asked: list[list[bytes]]) -> float:
    """Look names up that were decoded just now; return ns a name."""
    chunks = [[raw.decode() for raw in chunk] for chunk in asked]
    began = time.thread_time()
    for chunk in chunks:
        held.find(chunk)
    return (time.thread_time() - began) / sum(map(len, chunks)) * 1e9


def measured(n: int, name: Callable[[int], str]) -> dict[str, Any]:
    """Measure both ways with so many names."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as alone:
        found: dict[str, Any] = {"bytes": {way: alone.submit(weighed, way, n, name).result() for way in _WAYS}}
    random, holders = np.random.default_rng(0), {way: filled(way, n, name)[0] for way in _WAYS}
    for size in _CHUNKS:
        asked = [
            [name(number).encode() for number in random.integers(0, n, size).tolist()]
            for _ in range(_LOOKED_UP // size)
        ]
        rounds = [{way: looked_up(held, asked) for way, held in holders.items()} for _ in range(_ROUNDS)]
        found[f"ns_{size}"] = {way: round(min(each[way] for each in rounds)) for way in holders}
    return found


def main() -> None:
    """Measure few and many names of two kinds, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--names", type=int, nargs="+", default=[100_000, 1_000_000])
    line: dict[str, Any] = {"benchmark": "names"}
    for n in parser.parse_args().names:
        for name in (digits, uuids):
            found = measured(n, name)
            print(n, name.__name__, found, file=sys.stderr, flush=True)
            line[f"{name.__name__}_{n}"] = found
    print(json.dumps(line | facts()))


if __name__ == "__main__":
    main()
