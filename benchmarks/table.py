"""README's table of speed, from the last JSON lines of the benchmarks, kept in benchmarks/results.

python benchmarks/throughput.py --peers > benchmarks/results/throughput.json
python benchmarks/table.py        # write the table into README.md
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- benchmarks/table.py -->", "<!-- /benchmarks/table.py -->"
Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """A line of the table: whose result it reads, what it says, and how it was measured."""

    result: str
    what: str
    figure: Callable[[Result], str]
    command: str


def _to_peers(r: Result) -> str:
    names = {
        "faust_json": "Faust with tables of JSON, as documented",
        "faust": "Faust with tables of bytes",
        "kafka_streams_exactly_once_v2": "Kafka Streams, exactly once v2",
        "kafka_streams": "Kafka Streams, at least once",
        "quix_exactly_once": "Quix Streams, exactly once",
        "quix": "Quix Streams, at least once",
    }
    times = (f"{r[f'to_{name}']:.0f} times {said}" for name, said in names.items() if f"to_{name}" in r)
    return "; ".join([_loops(r), *times])


def _loops(r: Result) -> str:
    ratios = f"{r['to_changelog']:.2f} of a loop with a changelog, {r['to_bare']:.2f} of one that keeps nothing"
    return f"{ratios}, over {r['events']:,} events"


def _latency(r: Result) -> str:
    each = (f"at {rate}: {v['p50_ratio']:.1f} and {v['p99_ratio']:.1f}" for rate, v in r["rates"].items())
    return "; ".join(each).replace("at half", "at half of the highest rate")


def _growth(r: Result) -> str:
    cost = f"{r['cost_ratio']:.2f} from 100,000 to 1,000,000, {r['partitions_ratio']:.2f} over partitions"
    return f"{r['bytes_a_shopper']:,} bytes; an event's cost times {cost}, {r['bot_ratio']:.1f} with a bot"


def _retrieval(r: Result) -> str:
    best = max(r["best"], key=lambda one: (one["items"], one["ratio"]))
    return f"{best['ratio']:.1f} of the exact answer's speed at recall@20 {best['recall']:.4f}, {best['items']:,} items"


ROWS = (
    Row("throughput", "one worker, intent only, exactly once, hidden size 128", _loops, "throughput.py"),
    Row("peers", "the same worker in another run, beside what others would write", _to_peers, "throughput.py --peers"),
    Row("latency", "event to score, over a plain echo, median and 99 %, by events/s", _latency, "latency.py"),
    Row(
        "recovery",
        "a million users recovered, over a bare read",
        lambda r: f"{r['ratio']:.1f} times, {r['ratio_alike']:.1f} of one with the worker's settings",
        "recovery.py",
    ),
    Row("growth", "a shopper more", _growth, "growth.py"),
    Row(
        "soak",
        "ten minutes at a fixed rate",
        lambda r: f"{r['soak_mib_in_10_minutes']:.1f} MiB more",
        "growth.py --soak 600",
    ),
    Row("retrieval", "the best items by an index", _retrieval, "retrieval.py"),
    Row(
        "recommending",
        "one worker that recommends, exactly once, from 200,000 items",
        lambda r: (
            f"{r['to_lists']:.2f} of what lists alone allow;"
            f" {r['to_kafka_streams_exactly_once_v2']:.0f} times Kafka Streams, exactly once v2"
        ),
        "recommending.py",
    ),
    Row("step", "one step, to a plain LSTM's of the same width", lambda r: f"{r['ratio']:.1f} times", "step.py"),
    Row(
        "capacity",
        "memory of a user; a restart reads",
        lambda r: f"{r['costs']['user_bytes']:,} bytes; {r['costs']['recovery_rate']:,} users/s",
        "capacity.py",
    ),
    Row(
        "large",
        "50 million events, peak memory",
        lambda r: f"prepared {r['prepare_peak_mib'] / 1024:.1f} GiB, trained on {r['train_peak_mib'] / 1024:.1f} GiB",
        "large.py",
    ),
)


def table(folder: Path) -> str:
    """Return the table, with a row for each result that is there."""
    lines = ["| what | figure | measured | command |", "| --- | --- | --- | --- |"]
    for row in ROWS:
        path = folder / f"{row.result}.json"
        if path.exists():
            result = json.loads(path.read_text().splitlines()[-1])
            where = f"{result['date']}, {result['cores']} cores"
            lines.append(f"| {row.what} | {row.figure(result)} | {where} | `python benchmarks/{row.command}` |")
    return "\n".join(lines)


def placed(readme: str, made: str) -> str:
    """Return the README with the table between its markers."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def main() -> None:
    """Write the table into the README."""
    path = _ROOT / "README.md"
    path.write_text(placed(path.read_text(), table(_ROOT / "benchmarks/results")))
    print(f"{path.name} is written", file=sys.stderr)


if __name__ == "__main__":
    main()
