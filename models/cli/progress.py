"""What a person sees of a training: a bar with the time left, a line an epoch, and at the end a table."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.cli.options import console, counted
from models.enough import RULE, TOO_FEW
from models.report.wording import said, span, title

if TYPE_CHECKING:
    from models.training.checkpoint import Run
    from models.training.epochs import Progress as Step

Metrics = dict[str, Any]


def figures(run: "Run") -> list[str]:
    """Name the few metrics that tell how good a run is."""
    return [f"hr@{run.meaning.k}", f"mrr@{run.meaning.k}", f"hr@{run.meaning.k}_new", "pr_auc", "ece"]


@contextmanager
def watched(run: "Run", again: float) -> Iterator[Callable[["Step"], None]]:
    """Yield what shows the steps of a training; the temporal holdout after it takes about `again` as many."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[loss]}")),
        *(TextColumn("{task.fields[rate]}"), TimeRemainingColumn(), TextColumn("left")),
    )
    # Where there is no terminal nothing of the bar stays.
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield _Watcher(run, bars, again).see


class _Watcher:
    """Follow a training's steps over its stages."""

    def __init__(self, run: "Run", bars: Progress, again: float) -> None:
        self.run, self.bars, self.again = run, bars, again
        self.began, self.first = time.monotonic(), 0  # the step that this process begins after
        self.before = self.steps = 0  # of the stages that have ended, and of this one
        self.stage = ""
        self.task = bars.add_task("training", total=None, loss="", rate="")

    def see(self, step: "Step") -> None:
        """Move the bar on; say a line at the end of an epoch."""
        if step.stage != self.stage:
            if step.step > 1:
                console.print(f"{step.stage} goes on after step {step.step - 1:,} of {step.steps:,}")
            self.before = self.before + self.steps if self.stage else 0
            self.first += step.step - 1
            self.stage = step.stage
        self.steps = step.steps
        done = self.before + step.step
        total = self.before + step.steps * (1 if self.before or step.stage != "training" else 1 + self.again)
        self.bars.update(
            self.task,
            description=f"{step.stage}, epoch {step.epoch} of {step.epochs}",
            completed=done,
            total=total,
            loss=f"loss {step.loss:.3f}",
            rate=f"{step.events_per_second:,.0f} events/s",
        )
        if step.ended:
            self._line(step, step.ended, (total - done) / max(done - self.first, 1))

    def _line(self, step: "Step", epoch: Metrics, ahead: float) -> None:
        """Say what an epoch gave, how long it took so far, and how long it will take: `ahead` times as much."""
        spent, k = time.monotonic() - self.began, self.run.meaning.k
        names = [name for name in (f"hr@{k}", f"mrr@{k}", "pr_auc") if epoch.get(name) is not None]
        shown = [f"{title(name)} {said(name, epoch[name])}" for name in names]
        parts = [f"loss {step.loss:.3f}", *shown, f"{span(spent)} so far", f"about {span(ahead * spent)} left"]
        text = f"{step.stage}, epoch {step.epoch} of {step.epochs}: {', '.join(parts)}"
        console.print(text, soft_wrap=True)  # one line, however narrow


def compared(measured: dict[str, Metrics], run: "Run") -> None:
    """Show how good a run is beside what it must beat, by compared model, the run first; say so where nothing tells."""
    if not measured:
        console.print("no part of the log was held out, so nothing was measured: give --holdout-tail 0.05")
        return
    first = next(iter(measured.values()))
    counts = f"{counted(first['targets'], 'next item')} of {counted(first['users'], 'shopper')}"
    bought = f"{first['positives']:,} of {first['labelled']:,} events with a purchase within {run.meaning.horizons[0]}"
    table = Table("", *(title(name) for name in figures(run)), box=None, padding=(0, 2, 0, 0))
    for name, metrics in measured.items():
        table.add_row(name, *(_cell(metrics, metric) for metric in figures(run)))
    console.print(f"Held out: {counts}; {bought}", style="bold")
    console.print(table)
    if any(TOO_FEW in column.cells for column in table.columns):
        console.print(f"{TOO_FEW}: {RULE}; hold out a longer --holdout-tail", style="yellow")


def _cell(metrics: Metrics, name: str) -> str:
    value = metrics.get(name)
    return TOO_FEW if value is None else said(name, value)
