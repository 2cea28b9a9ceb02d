"""The tables and the pictures of docs/capacity.md, from the model and the result of benchmarks/capacity.py.

python benchmarks/capacity_page.py
"""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from capacity import predicted
from matplotlib import pyplot

from stream.capacity.constants import COSTS
from stream.capacity.model import EVENTS, USERS, Choices, Plan, plan

_ROOT = Path(__file__).parents[1]
PAGE, RESULT = _ROOT / "docs/capacity.md", _ROOT / "benchmarks/results/capacity.json"
_UNITS = {
    "worker_us": "us of the worker's processor an event",
    "broker_us": "us of the broker's processor an event",
    "resident_bytes": "resident bytes of the worker",
    "changes": "changelog records an event",
    "recovery_seconds": "seconds of recovery",
}
_LOOK = {"svg.hashsalt": "forecart", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3, "figure.dpi": 100}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Return the page's tables by the names of their markers."""
    return {"constants": _constants(), "measured": _measured(result["points"][-1]), "loads": _loads()}


def _constants() -> str:
    rows = [f"| `{name}` | {value:,} |" for name, value in dataclasses.asdict(COSTS).items()]
    return "\n".join(["| constant | value |", "| --- | --- |", *rows])


def _measured(held: dict[str, float]) -> str:
    rows = []
    for name, said in predicted(COSTS, held).items():
        digits = 3 if held[name] < 100 else 0
        off = f"{said / held[name] - 1:+.0%}"
        rows.append(f"| {_UNITS[name]} | {held[name]:,.{digits}f} | {said:,.{digits}f} | {off} |")
    return "\n".join(["| what | measured | predicted | off by |", "| --- | --- | --- | --- |", *rows])


def _loads() -> str:
    head = "| events/s | users | workers | partitions | memory of one | brokers | MB/s written | restart | first |"
    lines = [head, "| --- " * 9 + "|"]
    for events in EVENTS:
        for users in USERS:
            p = plan(events, users, COSTS)
            lines.append(
                f"| {events:,.0f} | {users / 1e6:,.0f} million | {p.workers:,} | {p.partitions:,} | "
                f"{p.worker_bytes / 2**30:,.1f} GiB | {p.brokers:,} | {p.write_bytes / 1e6:,.0f} | "
                f"{p.recovery:,.0f} s | {p.first} |"
            )
    return "\n".join(lines)


def placed(page: str, made: dict[str, str]) -> str:
    """Return the page with the tables between their markers."""
    for name, text in made.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}"
    return page


def picture(title: str, pick: Callable[[Plan], float], path: Path) -> None:
    """Draw a figure of the plan over events a second, a line for each number of users."""
    with pyplot.rc_context(_LOOK):
        figure, axes = pyplot.subplots(figsize=(5.2, 3.4))
        rates = [10 ** (3 + i / 12) for i in range(37)]
        for users, dash in zip(USERS, ("-", "--", "-.", ":"), strict=True):
            label = f"{users / 1e6:g} million users"
            axes.plot(rates, [pick(plan(rate, users, COSTS)) for rate in rates], dash, label=label)
        axes.set(xscale="log", yscale="log", xlabel="events a second", ylabel=title)
        axes.legend(frameon=False)
        figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
        pyplot.close(figure)


def points(result: dict[str, Any], path: Path) -> None:
    """Draw what was measured at each point over what the model says of it; the last was not fitted to."""
    found = result["points"][1:]
    with pyplot.rc_context(_LOOK):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.6))
        for name, mark in zip(_UNITS, "osd^v", strict=True):
            axes.plot([p[name] / predicted(COSTS, p)[name] for p in found], mark, label=_UNITS[name])
        axes.axhspan(0.8, 1.2, alpha=0.12)
        names = [f"{p['users_given'] / 1e3:g}k\n{p['partitions']}" for p in found]
        axes.set(xlabel="users, partitions; the last was kept back", ylabel="measured / predicted")
        axes.set_xticks(range(len(found)), names)
        axes.legend(frameon=False, fontsize=7)
        figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight")
        pyplot.close(figure)


def main() -> None:
    """Write the page's tables and its pictures."""
    result = json.loads(RESULT.read_text())
    folder = PAGE.with_suffix("")
    folder.mkdir(exist_ok=True)
    PAGE.write_text(placed(PAGE.read_text(), tables(result)))
    picture("workers", lambda p: p.workers, folder / "workers.svg")
    picture("MB/s written by the brokers", lambda p: p.write_bytes / 1e6, folder / "written.svg")
    picture("seconds until a restarted worker scores", lambda p: p.recovery, folder / "recovery.svg")
    points(result, folder / "points.svg")
    print(f"{PAGE.name} is written, limits by {Choices()}", file=sys.stderr)


if __name__ == "__main__":
    main()
