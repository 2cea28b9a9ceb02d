"""The command report: checkpoints measured against the baselines, as one HTML page."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.cli import options
from models.cli.options import DataOption, advance, bar
from stream.cli.options import MappingOption, OptionalFormat, chosen, writable
from stream.core.errors import SettingError

if TYPE_CHECKING:
    from models.data.log import Log
    from models.evaluation.prequential import Examples
    from models.training.checkpoint import Checkpoint

app = typer.Typer(no_args_is_help=True)


@app.command()
def report(
    checkpoints: Annotated[list[Path], typer.Argument(help="Folders of finished runs; the first is spoken of.")],
    data: DataOption,
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    tail: Annotated[float, typer.Option(min=0.001, max=0.99, help="Part of the log, the latest, to measure on.")] = 0.1,
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    rounds: Annotated[int, typer.Option(min=20, help="Resamples of the shoppers, for the intervals.")] = 300,
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
) -> None:
    """Write one HTML page about checkpoints: figures with intervals, pictures, the data's faults.

    The page needs nothing else and asks nothing of the network. The last line of stdout is JSON.

    Example: forecart report runs/taobao --format taobao --data events.csv.gz --tail 0.1 --out report.html
    """
    from models.data.log import cutoff
    from models.files import replace_file
    from models.report.build import gather
    from models.report.html import render
    from models.training.checkpoint import load
    from models.training.config import check_device

    check_device(device)
    if not out.parent.is_dir():
        raise SettingError(f"there is no folder {out.parent}", "give --out in a folder that exists")
    writable(out.parent)
    points = _named(checkpoints, [load(folder, device) for folder in checkpoints])
    log = options.load(data, chosen(form, mapping))
    since = cutoff(log, tail)
    examples = _examined(points, log, since)
    runs = {name: point.run for name, point in points.items()}
    with bar() as bars:
        found = gather(examples, runs, log, since, rounds, advance(bars, "intervals", None))
    replace_file(out, render(found, data.name, datetime.now(UTC)).encode())
    figures = found.first.figures
    values = dict.fromkeys(found.metrics) | {name: one.value for name, one in figures.items()}
    bounds = {"intervals": {name: [one.low, one.high] for name, one in figures.items()}}
    print(json.dumps({"report": str(out)} | values | bounds | found.examples))


def _named(folders: list[Path], points: "list[Checkpoint]") -> "dict[str, Checkpoint]":
    """Name the runs by their folders; raise SettingError where they cannot stand side by side."""
    names = [folder.resolve().name for folder in folders]
    names = [name if names.count(name) == 1 else str(folder) for name, folder in zip(names, folders, strict=True)]
    meanings = {(p.run.meaning.k, p.run.meaning.gap, p.run.meaning.purchase, p.run.meaning.horizons[0]) for p in points}
    if len(meanings) > 1:
        raise SettingError("the runs differ in k, gap, purchase or first horizon", "report on each of them apart")
    if len(set(names)) < len(names):
        raise SettingError("a checkpoint is named twice", "name each once")
    return dict(zip(names, points, strict=True))


def _examined(points: "dict[str, Checkpoint]", log: "Log", since: int) -> "dict[str, Examples]":
    """Score the held-out part by each run, and by the baselines, those of purchases last."""
    from models.data.sequences import Sequences
    from models.evaluation.comparison import model, rivals, tabular_rivals
    from models.evaluation.prequential import evaluate

    first, end, found = next(iter(points.values())).run, int(log.time.max()), {}
    before = Sequences(log.where(log.time < since), first.vocabulary, first.meaning, since, first.config.longest)
    contenders = {name: (p.run, model(p)) for name, p in points.items()}
    named = {p.run.config.model for p in points.values()}  # a baseline that is named stands once
    contenders |= {name: (first, rival) for name, rival in rivals(first, before).items() if name not in named}
    with bar() as bars:
        for name, (run, contender) in contenders.items():
            whole = Sequences(log, run.vocabulary, run.meaning, end, run.config.longest)
            moved = advance(bars, name, len(log))
            found[name] = evaluate(log, whole, *contender, since, end, progress=moved)
    return found | tabular_rivals(first, log, since, next(iter(found.values())))
