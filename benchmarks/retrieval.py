"""The best 20 of a large catalog: the index against all products in ONNX, in one run on one core.

Vectors and queries are a run's over RetailRocket's sessions, the queries from the latest sessions, which
training did not see. A catalog of more items than the run knows is extended by perturbed copies of its vectors, as
far from their originals as an item from its nearest neighbour in the median; the perturbation is white, or has the
spectrum of the run's own vectors. Rounds alternate, the ratio is of the medians. The last line is JSON.

    python benchmarks/retrieval.py --data train_sessions.txt.gz --checkpoint runs/sessions --sizes 20000 200000
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.graph import write_product
from models.cli.options import load as read_log
from models.data.log import cutoff
from models.data.sequences import Sequences
from models.training.checkpoint import RUN, load
from stream.bundle import retrieval
from stream.bundle.onnx import product, session

Floats = NDArray[np.float32]
_K, _RECALL = 20, 0.999
_TAIL = 0.05  # of the log, held out
_QUERIES = 512
_GOALS = {200_000: 7.0, 1_000_000: 20.0}
NOISES = WHITE, SPECTRUM = "white", "spectrum"


def train(data: Path, out: Path) -> None:
    """Train for an epoch as users do."""
    words = ["--format", "sessions", "--data", str(data), "--out", str(out), "--holdout-tail", str(_TAIL)]
    dials = ["--preset", "base", "--set", "epochs=1", "--set", "judged=0"]
    subprocess.run([sys.executable, "-m", "forecart", "train", *words, *dials], check=True, stdout=sys.stderr)


def trained(data: Path, folder: Path) -> tuple[Floats, Floats]:
    """Return a run's catalog (items, D + 2), and queries (q, D + 2) of held-out sessions."""
    point, log = load(folder), read_log(data, "sessions")
    run, network = point.run, point.network
    rest = log.where(log.time >= cutoff(log, _TAIL))
    sequences = Sequences(rest, run.vocabulary, run.meaning, int(log.time.max()), run.config.longest)
    with torch.inference_mode():
        catalog = network.catalog(torch.arange(1, len(run.items) + 1), torch.tensor(run.category_of)).numpy()
        queries = []
        for batch in sequences.batches(4096, np.random.default_rng(0)):
            said = network(batch.item, batch.category, batch.type, batch.numeric, **network.state(len(batch.item)))
            queries.append(said.query[batch.target > 0])
    query = torch.cat(queries).numpy()
    chosen = np.random.default_rng(0).permutation(len(query))[:_QUERIES]
    return np.ascontiguousarray(catalog, np.float32), np.ascontiguousarray(query[chosen], np.float32)


def extended(catalog: Floats, items: int, noise: str) -> Floats:
    """Return the first `items` of a catalog, or all of it and perturbed copies; popularity is copied as it is."""
    if items <= len(catalog):
        return catalog[:items].copy()
    random, vectors = np.random.default_rng(1), catalog[:, :-2]
    some = random.choice(len(vectors), 1000, replace=False)
    near = vectors[some] @ vectors.T
    near[np.arange(len(some)), some] = -1
    like = float(np.median(near.max(1)))
    copied = random.integers(0, len(catalog), items - len(catalog))
    moved = random.standard_normal((len(copied), vectors.shape[1]), np.float32) / vectors.shape[1] ** 0.5
    if noise == SPECTRUM:
        moved = (moved @ np.linalg.cholesky(np.cov(vectors.T) * vectors.shape[1]).T).astype(np.float32)
    copies = like * vectors[copied] + (1 - like**2) ** 0.5 * moved
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    return np.concatenate([catalog, np.concatenate([copies, catalog[copied, -2:]], 1)]).astype(np.float32)


def exact(catalog: Floats, folder: Path) -> Callable[[Floats], NDArray[np.int64]]:
    """Return MatMul and TopK as one graph in the worker's runtime."""
    columns = np.ascontiguousarray(catalog.T)
    big = TensorProto(name="columns", data_type=TensorProto.FLOAT, dims=columns.shape)
    big.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "columns.bin", "offset": "0", "length": str(columns.nbytes)}.items():
        big.external_data.add(key=key, value=value)
    columns.tofile(folder / "columns.bin")
    count = helper.make_tensor("k", TensorProto.INT64, [1], [_K])
    nodes = [
        helper.make_node("MatMul", ["query", "columns"], ["products"]),
        helper.make_node("TopK", ["products", "k"], ["best", "places"]),
    ]
    graph = helper.make_graph(
        nodes,
        "exact",
        [helper.make_tensor_value_info("query", TensorProto.FLOAT, ["n", columns.shape[0]])],
        [helper.make_tensor_value_info("places", TensorProto.INT64, ["n", _K])],
        [big, count],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    (folder / "exact.onnx").write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(folder / "exact.onnx"))
    runs = session(folder / "exact.onnx")
    return lambda query: runs.run(("places",), {"query": query})[0]


def recall(found: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the share of `truth` that the same rows of `found` hold."""
    return float(np.mean([np.isin(*pair).mean() for pair in zip(truth, found, strict=True)]))


def times(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of a call, the contenders in turn."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in taken.items()}


def compare(catalog: Floats, query: Floats, batches: list[int], rounds: int, noise: str) -> list[dict[str, Any]]:
    """Measure a catalog: a row for each batch."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        brute = exact(catalog, Path(name))
        write_product(Path(name) / "product.onnx")
        began = time.monotonic()
        search = retrieval.Retrieval(catalog, retrieval.build(catalog), product(Path(name) / "product.onnx"))
        built = time.monotonic() - began
        truth = np.concatenate([brute(query[at : at + 64]) for at in range(0, len(query), 64)])
        hit = recall(search.search(query, _K)[1], truth)
        for batch in batches:
            part = query[:batch]
            calls: dict[str, Callable[[], object]] = {
                "exact": partial(brute, part),
                "index": partial(search.search, part, _K),
            }
            took = {who: seconds / batch * 1e6 for who, seconds in times(calls, rounds).items()}
            ratio, goal = took["exact"] / took["index"], _GOALS.get(len(catalog), 0.0)
            served = "index" if len(catalog) > retrieval.EXACT else "exact"
            row: dict[str, Any] = {"items": len(catalog), "batch": batch, "noise": noise, "recall": round(hit, 5)}
            row |= {f"{who}_us": round(us, 1) for who, us in took.items()} | {"ratio": round(ratio, 2)}
            row |= {"build_seconds": round(built, 1), "served": served, "goal": goal}
            rows.append(row | {"reached": served == "exact" or (hit >= _RECALL and ratio >= goal)})
            print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="  ", file=sys.stderr, flush=True)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0], title=f"top {_K}, microseconds a query on one core")
    for row in rows:
        table.add_row(*map(str, row.values()))
    Console(stderr=True, width=140).print(table)


def main() -> None:
    """Train where there is no run, measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="RetailRocket's train_sessions.txt.gz")
    parser.add_argument("--checkpoint", type=Path, help="a run to take, or to train and keep there")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000, 1_000_000])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--noise", nargs="+", choices=NOISES, default=list(NOISES), help="of perturbed copies")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.checkpoint or Path(name) / "run"
        if not (folder / RUN).exists():
            train(given.data, folder)
        catalog, query = trained(given.data, folder)
    rows = []
    for size in given.sizes:
        for noise in given.noise if size > len(catalog) else ["none"]:
            rows += compare(extended(catalog, size, noise), query, given.batches, given.rounds, noise)
    show(rows)
    facts = {"k": _K, "width": catalog.shape[1], "trained_items": len(catalog), "queries": len(query)}
    facts |= {"rounds": given.rounds, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
    print(json.dumps({"benchmark": "retrieval", **facts, "cores": os.cpu_count(), "best": rows}))


if __name__ == "__main__":
    main()
