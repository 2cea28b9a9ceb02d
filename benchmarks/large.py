"""Memory of a log larger than it: synthetic events, prepared on disk, and the first steps of an epoch over them.

The events are written as Parquet, some at a time; `forecart prepare` and `forecart train` run as their users run
them, and are ended when training has taken some steps. The last line is JSON, with the peak of each in MiB.

    python benchmarks/large.py --events 50000000 --folder /var/tmp
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from machine import facts

_BEGIN, _DAY = 1_767_225_600_000, 86_400_000  # 2026-01-01, ms
_ROWS = 1_000_000  # written at once
_TYPES = np.array(["view", "view", "view", "view", "view", "view", "view", "view", "addtocart", "transaction"])


def write(folder: Path, events: int, items: int) -> None:
    """Write events of a tenth as many shoppers in time order: favourites by shopper, items by Zipf."""
    random = np.random.default_rng(0)
    for file, at in enumerate(range(0, events, _ROWS)):
        n = min(_ROWS, events - at)
        user = random.integers(0, events // 10, n)
        rank = (items ** random.random(n)).astype(np.int64) - 1
        item = np.where(random.random(n) < 0.5, (user * 7919 + rank % 10) % items, rank)
        frame = pl.DataFrame(
            {
                "user_id": user,
                "type": _TYPES[random.integers(0, len(_TYPES), n)],
                "item_id": item,
                "category_id": item % 500,
                "timestamp": _BEGIN + np.sort(at + random.integers(0, n, n)) * 14 * _DAY // events,
            }
        )
        named = [pl.format(f"{name}-{{}}", f"{name}_id").alias(f"{name}_id") for name in ("user", "item", "category")]
        frame.with_columns(named).write_parquet(folder / f"events-{file:05}.parquet")


def watched(command: list[str], log: Path, enough: Callable[[], bool]) -> tuple[int, float]:
    """Run a command to its end, or until it is enough; return its peak in MiB, and the seconds."""
    began, peak = time.monotonic(), 0
    with log.open("wb") as out:
        running = subprocess.Popen([sys.executable, "-m", "forecart", *command], stdout=out, stderr=out)
        while running.poll() is None:
            status = Path(f"/proc/{running.pid}/status").read_text()
            peak = max(peak, int(found[1]) if (found := re.search(r"VmHWM:\s+(\d+)", status)) else 0)
            if enough():
                running.kill()
                running.wait()
                return peak // 1024, time.monotonic() - began
            time.sleep(0.2)
    assert running.returncode == 0, log.read_text()[-2000:]
    return max(peak, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024, time.monotonic() - began


def main() -> None:
    """Write, prepare, begin to train, and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000_000)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--each", type=int, default=1_000_000, help="events a partition")
    parser.add_argument("--folder", type=Path, help="where there is room: about 60 bytes an event")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        source, prepared, run, log = (folder / part for part in ("events", "prepared", "run", "log"))
        source.mkdir()
        write(source, options.events, options.items)
        sizes = {"events_mib": sum(path.stat().st_size for path in source.iterdir()) >> 20}
        words = ["--format", "parquet", "--data", str(source), "--out", str(prepared), "--each", str(options.each)]
        prepare, prepare_seconds = watched(["prepare", *words], log, lambda: False)
        print(f"prepared in {prepare_seconds:.0f} s, {prepare} MiB", file=sys.stderr, flush=True)
        shutil.rmtree(source)
        sizes["prepared_mib"] = sum(path.stat().st_size for path in prepared.iterdir()) >> 20
        # The state is written after a minute of steps: with it an epoch has begun.
        words = ["--data", str(prepared), "--out", str(run), "--holdout-tail", "0.01", "--set", "state_every=60"]
        train, train_seconds = watched(["train", *words], log, (run / "resume.npz").exists)
    line = {"events": options.events, "items": options.items, "each": options.each, **sizes}
    line |= {"prepare_peak_mib": prepare, "prepare_seconds": round(prepare_seconds)}
    line |= {"train_peak_mib": train, "minute_of_training_after_seconds": round(train_seconds)}
    print(json.dumps({"benchmark": "large"} | line | facts()))


if __name__ == "__main__":
    main()
