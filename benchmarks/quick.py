"""Ratios that a change may worsen, on a short backlog, beside those of benchmarks/baseline.json, in under 3 minutes.

A ratio is worse when it is beyond the baseline by more than its margin, which is what repeated runs on shared cores
differ by. That is said loudly; the exit code is 1 for it with --strict alone. The last line is JSON.

    python benchmarks/quick.py
    python benchmarks/quick.py --renew 5      # measure five times: the medians, and margins by how far runs differ
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from machine import facts
from throughput import rounds, summary

from stream.kafka.embedded_broker import Broker

_HERE = Path(__file__).parent
_BASELINE = _HERE / "baseline.json"
_DEMO = _HERE.parent / "stream/demo/bundle"
_LEAST = 0.1  # of a margin
_ROUNDS = "9"  # of the step: as many as take ten seconds

Baseline = dict[str, dict[str, Any]]


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Return the ratios: of the worker to the loops, higher is better; of the step to a plain LSTM, lower is."""
    with tempfile.TemporaryDirectory() as name, Broker(heap="1g") as broker:
        line = summary(rounds(options, Path(name), broker.address), options)
    step = subprocess.run(
        [sys.executable, str(_HERE / "step.py"), "--rounds", _ROUNDS], stdout=subprocess.PIPE, check=True, text=True
    )
    found = {name: line[name] for name in ("to_bare", "to_changelog")}
    return found | {"step": json.loads(step.stdout.splitlines()[-1])["ratio"]}


def compare(found: dict[str, float], baseline: Baseline) -> list[str]:
    """Name the ratios that are worse than the baseline by more than its margin."""
    worse = []
    for name, value in found.items():
        was = baseline[name]
        change = value / was["value"] - 1
        if (change if was["better"] == "lower" else -change) > was["margin"]:
            worse.append(name)
    return worse


def renewed(runs: list[dict[str, float]], baseline: Baseline) -> Baseline:
    """Return the medians of runs as the baseline, and as margins twice what a run was off by at most."""
    found = {}
    for name, was in baseline.items():
        values = [run[name] for run in runs]
        middle = statistics.median(values)
        off = max(abs(value / middle - 1) for value in values)
        found[name] = was | {"value": round(middle, 3), "margin": round(max(2 * off, _LEAST), 2)}
    return found


def table(found: dict[str, float], baseline: Baseline) -> str:
    """Write the ratios beside the baseline's."""
    lines = [f"{'ratio':14}{'now':>8}{'baseline':>10}{'change':>9}{'margin':>9}"]
    for name, value in found.items():
        was = baseline[name]
        sign = "+" if was["better"] == "lower" else "-"
        change = value / was["value"] - 1
        lines.append(f"{name:14}{value:8.3f}{was['value']:10.3f}{change:+9.1%}{sign + format(was['margin'], '.0%'):>9}")
    return "\n".join(lines)


def main() -> None:
    """Measure, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strict", action="store_true", help="Exit with 1 where a ratio is worse.")
    parser.add_argument("--renew", type=int, default=0, metavar="RUNS", help="Write the baseline from so many runs.")
    options = parser.parse_args()
    options.events, options.users, options.partitions, options.rounds = 150_000, 20_000, 4, 3
    options.bundle = _DEMO
    baseline = json.loads(_BASELINE.read_text())
    runs = [measure(options) for _ in range(max(options.renew, 1))]
    found = runs[-1]
    print(table(found, baseline), file=sys.stderr)
    worse = compare(found, baseline)
    for name in worse:
        print(
            f"\n*** WORSE THAN THE BASELINE: {name}. Run it again; if it stays, profile what changed. ***\n",
            file=sys.stderr,
        )
    if options.renew:
        _BASELINE.write_text(json.dumps(renewed(runs, baseline), indent=2) + "\n")
    print(json.dumps({"benchmark": "quick", **found, "worse": worse} | facts()))
    sys.exit(bool(worse) and options.strict)


if __name__ == "__main__":
    main()
