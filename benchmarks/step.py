"""The cost of one step beside that of a plain LSTM, as ONNX, in one run on one core.

Plain is what the step cannot do without: the item's vector, a cell of the same width over it, and the state as the
query. Both run in the worker's runtime; ranking the catalog is left out of both. Rounds alternate, and the ratio is
of the medians. The last line is JSON.

    python benchmarks/step.py --batch 256
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import facts
from torch import Tensor, nn

from export.graph import write_step
from models.data.cooccurrence import RECENT
from models.training.checkpoint import Checkpoint, Run
from models.training.config import TrainConfig
from stream.bundle.onnx import session
from stream.core.features import NUMERIC
from stream.core.manifest import TaskSpec

_CALLS = 50  # a round


class Plain(nn.Module):
    """An LSTM over items alone."""

    def __init__(self, items: int, dimension: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items + 1, dimension)
        self.cell = nn.LSTMCell(dimension, dimension)

    def forward(self, item: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Take one event each, (n,); the new h is the query."""
        state: tuple[Tensor, Tensor] = self.cell(self.items(item), (h, c))
        return state


def plain(folder: Path, items: int, dimension: int, batch: int, item: np.ndarray[Any, Any]) -> Callable[[], object]:
    """Export the plain LSTM; return one call of it."""
    module, path = Plain(items, dimension).eval(), folder / "plain.onnx"
    given = (torch.zeros(3, dtype=torch.long), torch.zeros(3, dimension), torch.ones(3, dimension))
    n = torch.export.Dim("batch", min=1)
    torch.onnx.export(
        module, given, str(path), input_names=["item", "h", "c"], dynamic_shapes=({0: n},) * 3, verbose=False,
        external_data=False,
    )  # fmt: skip
    runs = session(path)
    state = np.random.default_rng(1).standard_normal((2, batch, dimension)).astype(np.float32)
    feed = {"item": item, "h": state[0], "c": state[1]}
    return lambda: runs.run(None, feed)


def step(folder: Path, run: Run, batch: int, item: np.ndarray[Any, Any]) -> Callable[[], object]:
    """Export the step of an untrained network; return one call of it."""
    network = run.network().eval()
    write_step(Checkpoint(network, run, {}), folder / "step.onnx")
    random = np.random.default_rng(1)
    feed: dict[str, np.ndarray[Any, Any]] = {
        "item": item,
        "category": np.zeros(batch, np.int64),
        "type": np.zeros(batch, np.int64),
        "numeric": random.standard_normal((batch, len(NUMERIC))).astype(np.float32),
    }
    for name, tensor in network.state(batch).items():
        value = random.standard_normal(tensor.shape).astype(np.float32)
        feed[name] = value if tensor.is_floating_point() else random.integers(1, len(run.items), (batch, RECENT))
    runs = session(folder / "step.onnx")
    kept = {value.name for value in runs.get_inputs()}  # an input without influence is left out of the graph
    return lambda: runs.run(None, {name: value for name, value in feed.items() if name in kept})


def measure(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median microseconds of a call, the contenders in turn."""
    for call in calls.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(_CALLS):
                call()
            found[name].append((time.perf_counter() - began) / _CALLS * 1e6)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--items", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=21)
    given = parser.parse_args()
    torch.manual_seed(0)
    names = [str(i) for i in range(given.items)]
    run = Run(
        config=TrainConfig(dimension=given.dimension),
        meaning=TaskSpec(),
        items=names,
        categories=["0"],
        category_of=[1] * given.items,
    )
    item = np.random.default_rng(0).integers(1, given.items, given.batch)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calls = {
            "plain": plain(folder, given.items, given.dimension, given.batch, item),
            "step": step(folder, run, given.batch, item),
        }
        found = measure(calls, given.rounds)
    dials = {"batch": given.batch, "dimension": given.dimension, "items": given.items, "rounds": given.rounds}
    figures = {f"{name}_us": round(value, 1) for name, value in found.items()}
    ratio = round(found["step"] / found["plain"], 2)
    print(json.dumps({"benchmark": "step", **dials, **figures, "ratio": ratio} | facts()))


if __name__ == "__main__":
    main()
