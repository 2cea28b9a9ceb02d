"""The constants of the capacity model: what one worker and the broker beside it cost, by users and partitions.

Each point is a backlog that a worker goes through, and then a worker that is started again over the changelog. The
first gives the price of lists of items alone. The constants are fitted to the others but the last, which the model
then has to predict. The last line is JSON.

A user's memory and a recovery's speed are those of results/growth.json and results/recovery.json, where they are there.

    python benchmarks/capacity.py --write > capacity.json  # the constants; keep the line in results/
    python benchmarks/capacity.py --write --points benchmarks/results/capacity.json       # measure nothing, fit again
    python benchmarks/capacity_page.py                         # the tables and the pictures of docs/capacity.md
"""

import argparse
import dataclasses
import json
import os
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from bundle import bundle
from machine import facts
from prometheus_client.parser import text_string_to_metric_families
from throughput import backlog, drain, per_event, running

from stream.bundle.onnx import load
from stream.capacity import model
from stream.capacity.model import Costs
from stream.core.events import Event
from stream.core.session import record
from stream.kafka.client.admin import consumer, producer, subscribe_all
from stream.kafka.embedded_broker import Broker, free_port
from stream.settings import Settings

# Events, users, partitions. The first is with lists of items, and warms the broker; the last is kept back.
_POINTS = (
    (20_000, 10_000, 4),
    (100_000, 10_000, 4),
    (500_000, 300_000, 4),
    (150_000, 60_000, 12),
    (150_000, 60_000, 8),
)
_TRICKLE = 60  # events
_SAMPLE, _RECORD = 1000, 8  # records; bytes of lengths, times and offsets in a log of uncompressed batches
_TICKS = os.sysconf("SC_CLK_TCK")
_MEASURED = Path(__file__).parents[1] / "stream/capacity/constants.py"
_RESULTS = Path(__file__).parent / "results"
Point = dict[str, float]


def processor(pid: int) -> float:
    """Return the processor seconds that a process and its children have used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    below = sum(processor(int(child)) for text in children for child in text.split())
    return (int(words[11]) + int(words[12])) / _TICKS + below


def resident(pid: int) -> int:
    """Return a process's resident memory in bytes."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def metric(port: int, series: str, **labels: str) -> float:
    """Return one series of a worker."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    samples = (sample for family in families for sample in family.samples if sample.name == series)
    return next(sample.value for sample in samples if labels.items() <= sample.labels.items())


def through(settings: Settings, options: argparse.Namespace, broker: Broker, folder: Path, name: str) -> Point:
    """Run a worker over a backlog; return what it cost."""
    port, kafka = free_port(), broker._process.pid
    given = settings.model_copy(update={"metrics_port": port})
    with running(given, folder, name) as process:

        def check() -> None:
            assert process.poll() is None, (folder / f"{name}.log").read_text()[-2000:]

        def used() -> tuple[float, float]:
            return processor(process.pid), processor(kafka)

        seconds, done, (worker, before) = drain(settings, options.events, options.partitions, check, used)
        after = used()
        return {
            "rate": done / seconds,
            "worker_us": (after[0] - worker) / done * 1e6,
            "broker_us": (after[1] - before) / done * 1e6,
            "resident_bytes": resident(process.pid),
            "users": metric(port, "forecart_state_users"),
        }


def size(settings: Settings, topic: str) -> float:
    """Return the mean bytes of a topic's first records: key, value, and what the log adds to each."""
    reader = consumer(settings, **{"group.id": "sizes"})
    subscribe_all(reader, topic)
    found: list[int] = []
    while len(found) < _SAMPLE:
        found += [len(m.key() or b"") + len(m.value() or b"") + _RECORD for m in reader.consume(_SAMPLE, 1.0)]
    reader.close()
    return statistics.mean(found)


def again(settings: Settings, options: argparse.Namespace, folder: Path, name: str) -> Point:
    """Start a worker again; return the seconds of its recovery, the records that it read, and a commit's seconds."""
    log, port = folder / f"{name}.log", free_port()
    with running(settings.model_copy(update={"metrics_port": port}), folder, name) as process:
        while not (seconds := re.findall(r"recovered \d+ partitions in ([\d.]+) s", log.read_text())):
            assert process.poll() is None, log.read_text()[-2000:]
            time.sleep(0.1)
        found = re.findall(r"shoppers, position \d+, changelog (\d+)", log.read_text())
        trickle(settings)
        total, count = (metric(port, f"forecart_stage_seconds_{part}", stage="commit") for part in ("sum", "count"))
    records = sum(map(int, found))
    return {"records": records, "recovery_seconds": float(seconds[-1]), "commit_seconds": total / count}


def trickle(settings: Settings) -> None:
    """Publish events one by one, so that each is a round."""
    out, encode = producer(settings, **{"linger.ms": 0}), msgspec.json.Encoder().encode
    for n in range(_TRICKLE):
        event = Event(f"trickle-{n}", f"trickle-{n}", "view", "item", 1_767_225_600_000)
        out.produce(settings.events_topic, encode(event), event.user_id)
        out.flush(10)
        time.sleep(0.05)


def point(options: argparse.Namespace, broker: Broker, folder: Path, turn: int) -> Point:
    """Measure one point."""
    settings = backlog(options, broker.address, turn)
    found = through(settings, options, broker, folder, f"w{turn}")
    found["changes"] = per_event(settings, options.partitions, options.events)
    found |= {
        "event_bytes": size(settings, settings.events_topic),
        "score_bytes": size(settings, settings.scores_topic),
    }
    found |= again(settings, options, folder, f"again{turn}")
    given = {"events": options.events, "users_given": options.users, "partitions": options.partitions}
    print({k: round(v, 3) for k, v in (given | found).items()}, file=sys.stderr)
    return given | found


def fit(points: list[Point], recommending: Point, folder: Path) -> Costs:
    """Return the model's constants from measured points."""
    manifest = load(folder).manifest
    line = np.polyfit([p["users"] for p in points], [p["resident_bytes"] for p in points], 1)
    read = np.array([[p["partitions"], p["records"]] for p in points])
    recovery = np.linalg.lstsq(read, np.array([p["recovery_seconds"] for p in points]), rcond=None)[0]
    worker = statistics.mean(p["worker_us"] for p in points)
    chunks = [chunk(p["changes"], p["users_given"] / p["partitions"]) for p in points]
    return Costs(
        hidden=manifest.hidden["h"][0],
        worker_rate=round(statistics.median(p["rate"] for p in points)),
        worker_us_per_event=round(worker, 2),
        # A young broker compiles its code: the smallest is what stays.
        broker_us_per_event=round(min(p["broker_us"] for p in points), 2),
        recommend_factor=round(recommending["worker_us"] / worker, 2),
        round_events=round(statistics.median(chunks)),
        round_seconds=round(min(p["commit_seconds"] for p in points), 4),
        event_bytes=round(points[-1]["event_bytes"]),
        score_bytes=round(points[-1]["score_bytes"]),
        change_bytes=record(manifest).itemsize + 16,  # the key, and what the log adds
        base_bytes=round(float(line[1])),
        user_bytes=round(float(line[0])),
        recovery_seconds=round(float(recovery[0]), 3),
        recovery_rate=round(1 / float(recovery[1])),
    )


def taken(costs: Costs, points: list[Point], folder: Path) -> Costs:
    """Replace constants by those that the results of growth.py and of recovery.py give, where they are there."""
    growth, recovery = (_result(folder / f"{name}.json") for name in ("growth", "recovery"))
    if growth and growth["dimension"] == costs.hidden:
        each = growth["bytes_a_shopper"]
        base = statistics.mean(p["resident_bytes"] - each * p["users"] for p in points)
        costs = dataclasses.replace(costs, user_bytes=each, base_bytes=round(base))
    if recovery and (reading := recovery["seconds"] - recovery["partitions"] * costs.recovery_seconds) > 0:
        costs = dataclasses.replace(costs, recovery_rate=round(recovery["users"] / reading))
    return costs


def _result(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text().splitlines()[-1]) if path.exists() else {}


def chunk(changes: float, users: float) -> int:
    """Return how many events of a partition are scored at once, by the changelog records that an event has."""
    low, high = 1.0, 1e6
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if model.changes(middle, users) > changes else (low, middle)
    return round(low)


def predicted(costs: Costs, at: Point) -> Point:
    """Return what the model says of a point."""
    return {
        "worker_us": costs.worker_us_per_event,
        "broker_us": costs.broker_us_per_event,
        "resident_bytes": costs.base_bytes + at["users"] * costs.user_bytes,
        "changes": model.changes(costs.round_events, at["users_given"] / at["partitions"]),
        "recovery_seconds": model.restart(at["partitions"], at["records"], costs),
    }


def write(costs: Costs) -> None:
    """Write the constants where the model finds them."""
    fields = "".join(f"    {name}={getattr(costs, name)!r},\n" for name in Costs.__slots__)
    head = '"""What a worker costs, written by benchmarks/capacity.py."""'
    text = f"{head}\n\nfrom stream.capacity.model import Costs\n\n\n"
    _MEASURED.write_text(f"{text}COSTS = Costs(\n{fields})\n")


def measured(options: argparse.Namespace) -> list[Point]:
    """Measure all points."""
    points = []
    with tempfile.TemporaryDirectory() as name, Broker(heap="1g") as broker:
        for turn, (events, users, partitions) in enumerate(_POINTS):
            options.events, options.users, options.partitions = events, users, partitions
            options.recommend = turn == 0
            points.append(point(options, broker, Path(name), turn))
    return points


def main() -> None:
    """Measure the points, fit the constants, and predict the last point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="Replace the model's constants.")
    parser.add_argument(
        "--points", type=Path, help="Measure nothing: fit to the points of a result, the last kept back."
    )
    parser.add_argument("--bundle", type=Path, help="Else one of hidden size 128, made once.")
    options = parser.parse_args()
    options.bundle = options.bundle or bundle()
    points = json.loads(options.points.read_text())["points"] if options.points else measured(options)
    recommending, *fitted, held = points
    costs = taken(fit(fitted, recommending, options.bundle), fitted, _RESULTS)
    said = predicted(costs, held)
    if options.write:
        write(costs)
    off = {k: round(v / held[k] - 1, 3) for k, v in said.items()}
    line: dict[str, Any] = {"benchmark": "capacity", "costs": {k: getattr(costs, k) for k in Costs.__slots__}}
    print(json.dumps(line | {"points": points, "predicted": said, "off": off} | facts()))


if __name__ == "__main__":
    main()
