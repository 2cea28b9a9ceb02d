"""A worker that recommends, exactly once, from 200,000 items, in one run with what lists alone allow.

The bundle's network is not trained: its speed is that of a trained one. Lists alone are the bundle's ranking of the
whole catalog, 256 shoppers at once on one core, with nothing read or written. Kafka Streams, exactly once v2, steps
an event at a time and ranks by MatMul and TopK in onnxruntime, without pairs, repeats or a judge. The last line is
JSON.

    python benchmarks/recommending.py
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bundle import cache, light
from machine import facts
from peers.run import PEERS, measure
from retrieval import exact
from throughput import backlog, worker

from export.bundle import write
from export.parity import random_histories
from models.data.cooccurrence import REACHES, Table
from models.data.log import KNOWN_TYPES
from models.network.lstm import Network
from models.training.checkpoint import Checkpoint, Run
from models.training.config import TrainConfig
from stream.bundle.files import CATALOG
from stream.bundle.onnx import load
from stream.core.manifest import TaskSpec
from stream.kafka.embedded_broker import Broker

_PEER = "kafka_streams_exactly_once_v2"
_ROWS = 256


def bundle(items: int, dimension: int = 128) -> Path:
    """Return the folder of a bundle of so many items, untrained, made once."""
    folder = cache() / f"bundle-{dimension}-{items}"
    if folder.exists():
        return folder
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    run = Run(
        config=TrainConfig(dimension=dimension),
        meaning=TaskSpec(types=KNOWN_TYPES),
        items=[f"item-{n}" for n in range(items)],
        categories=[],
        category_of=[0] * items,
    )
    network = run.network().eval()
    assert isinstance(network, Network)
    pairs = {r.name: random.integers(1, items + 1, (items + 1, r.width)).astype(np.int32) for r in REACHES}
    network.mixture.know({name: Table(near, np.full(near.shape, 0.1, np.float32)) for name, near in pairs.items()})
    point = Checkpoint(network, run, {})
    point.histories.update({name: torch.from_numpy(value) for name, value in random_histories(point, seed=1).items()})
    folder.parent.mkdir(parents=True, exist_ok=True)
    write(point, folder, "float16")
    return folder


def alone(folder: Path, seconds: float) -> float:
    """Return the lists a second of the bundle's own ranking, over the whole catalog."""
    found = load(folder)
    random, items = np.random.default_rng(0), len(found.vocabulary.items)
    of = found.manifest
    state = {n: np.zeros((_ROWS, *shape), "i8" if n in of.integers else "f4") for n, shape in of.hidden.items()}
    inputs = {
        "item": random.integers(1, items + 1, _ROWS),
        "category": np.zeros(_ROWS, np.int64),
        "type": np.zeros(_ROWS, np.int64),
        "numeric": np.zeros((_ROWS, len(of.inputs)), np.float32),
    }
    found.recommending_step(inputs, state)
    began, lists = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        found.recommending_step(inputs, state)
        lists += _ROWS
    return lists / (time.perf_counter() - began)


def main() -> None:
    """Measure all three and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--users", type=int, default=20_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of Kafka Streams, and of lists alone")
    options = parser.parse_args()
    options.bundle, options.recommend = bundle(options.items), True
    theirs = light(options.bundle, query=True)
    exact(np.load(options.bundle / CATALOG), theirs)
    peer = tuple(peer for peer in PEERS if peer.name == _PEER)
    line: dict[str, Any] = {"benchmark": "recommending", "items": options.items, "events": options.events}
    with tempfile.TemporaryDirectory() as name, Broker(heap="1g") as broker:
        folder = Path(name)
        settings = backlog(options, broker.address, 0)
        before = alone(options.bundle, options.seconds / 2)
        rate = worker(settings, options.events, folder, "w", options.partitions)
        lists = (before + alone(options.bundle, options.seconds / 2)) / 2
        print({"lists alone": round(lists), "worker": round(rate)}, file=sys.stderr)
        given = settings.model_copy(update={"bundle": theirs})
        rates, missing = measure(given, options.events, options.partitions, folder, options.seconds, peer)
    line |= {"lists_per_second": round(lists), "worker_events_per_second": round(rate)}
    line |= {"to_lists": round(rate / lists, 3)}
    line |= {f"{k}_events_per_second": round(v) for k, v in rates.items()}
    line |= {f"to_{k}": round(rate / v, 1) for k, v in rates.items()} | {"not_run": missing}
    print(json.dumps(line | facts()))


if __name__ == "__main__":
    main()
