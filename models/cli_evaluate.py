"""The command `evaluate`: held-out data through the worker's path, and beside it what a model must beat."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from models import options
from models.options import DataOption, advance, bar, console
from stream.core.errors import SettingError
from stream.core.manifest import STATES
from stream.options import FormatOption

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint
    from models.histories import Log


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    form: FormatOption,
    data: DataOption,
    targets: Annotated[str, typer.Option(help="all: each event's next item; last: each shopper's last item.")] = "all",
    tail: Annotated[float, typer.Option(min=0.0, max=0.99, help="Measure the last part only; 0: all of it.")] = 0.0,
    baselines: Annotated[
        bool,
        typer.Option(help="Measure popularity, V-SkNN, LightGBM and others too, fitted to what comes before the tail."),
    ] = False,
    min_prefix: Annotated[
        int, typer.Option(min=1, help="Ask for the next item from a shopper's so manyth event on; papers: 2.")
    ] = 1,
    state: Annotated[str, typer.Option(help="Stored type of the shoppers' states, as export has it.")] = STATES[0],
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
) -> None:
    """Score held-out data through the same path as the worker; the last line is JSON.

    Example: forecart evaluate runs/taobao --format taobao --data events.csv.gz --tail 0.05 --baselines
    """
    from models.checkpoint import load
    from models.config import check_device, check_state

    if targets not in ("all", "last"):
        raise SettingError(f"--targets is {targets!r}", "give all or last")
    if baselines and not tail:
        raise SettingError("baselines are fitted to what comes before the tail", "give --tail as well")
    check_state(state)
    check_device(device)
    point = load(checkpoint, device)
    results = _measured(point, options.load(data, form), targets, tail, baselines, min_prefix, state)
    if baselines:
        console.print(_table(results))
    _warn_of_unlabelled(results[point.run.config.model], point.run.meaning.horizons)
    facts = {"horizon": point.run.meaning.horizons[0], "targets_of": targets, "min_prefix": min_prefix, "state": state}
    line = results.pop(point.run.config.model) | facts
    print(json.dumps(line | ({"baselines": results} if results else {})))


def _warn_of_unlabelled(found: dict[str, Any], horizons: tuple[str, ...]) -> None:
    """Say which horizons nothing is known of: the held-out part ends before they do."""
    lost = [name for name in horizons if not found["horizons"][name]["labelled"]]
    if lost:
        console.print(f"[yellow]no event is followed by {' or '.join(lost)} of log: hold out a longer --tail")


def _measured(
    point: "Checkpoint", log: "Log", targets: str, tail: float, baselines: bool, min_prefix: int, state: str
) -> dict[str, dict[str, Any]]:
    """Return the metrics by contender."""
    from models.batches import Sequences
    from models.contenders import compare, model, rivals, tabular_rivals
    from models.evaluate import evaluate, summary
    from models.histories import cutoff

    run = point.run
    meaning, vocab, end = run.meaning, run.vocabulary, int(log.time.max())
    since = cutoff(log, tail) if tail else int(log.time.min())
    whole = Sequences(log, vocab, meaning, end, run.config.longest)
    contenders = {run.config.model: model(point, state)}
    if baselines:
        before = Sequences(log.where(log.time < since), vocab, meaning, since, run.config.longest)
        contenders |= rivals(run, before)
    found = {}
    with bar() as bars:
        for name, contender in contenders.items():
            moved = advance(bars, name, len(log))
            found[name] = evaluate(log, whole, *contender, since, end, targets, min_prefix, moved)
    if baselines:
        found |= tabular_rivals(run, log, since, found[run.config.model])
    results = {name: summary(examples, meaning.k, meaning.horizons) for name, examples in found.items()}
    compared = compare(found, run.config.model, meaning.k) if baselines else {}
    return {name: result | compared.get(name, {}) for name, result in results.items()}


def _table(results: dict[str, dict[str, Any]]) -> Table:
    """Show the contenders side by side, with the intervals of 95 %; last how far the first leads the others."""
    first, *others = results.values()
    table = Table("", *results)
    for name, value in first.items():
        if not isinstance(value, dict):
            table.add_row(name, *(_cell(r[name], r["interval"].get(name)) for r in results.values()))
    for name in first["interval"]:
        leads = (other["lead"].get(name) for other in others)
        table.add_row(f"{name}, lead", "", *(_cell(lead.value, lead[1:]) if lead else "-" for lead in leads))
    return table


def _cell(value: float | int | None, interval: tuple[float, float] | None) -> str:
    if value is None or isinstance(value, int):
        return "-" if value is None else f"{value:,}"
    return f"{value:.4f}" + ("\n{:.4f} to {:.4f}".format(*interval) if interval else "")
