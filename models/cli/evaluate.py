"""The command `evaluate`: held-out data through the worker's path, and beside it what a model must beat."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from models.cli import options
from models.cli.options import DataOption, advance, bar, console
from models.enough import RULE, TOO_FEW
from models.evaluation.metrics import INTENT, RANKING
from stream.cli.options import MappingOption, OptionalFormat, chosen
from stream.core.errors import SettingError
from stream.core.manifest import STATES

Results = dict[str, dict[str, Any]]  # metrics by compared model
_FEW = 0.05  # share of the targets: with fewer that the model knows it is likely another shop's

if TYPE_CHECKING:
    from models.data.log import Log
    from models.training.checkpoint import Checkpoint


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: DataOption,
    form: OptionalFormat = "",
    mapping: MappingOption = None,
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
    """Score held-out data through the same path as the worker: tables on stderr, a line of JSON to programs.

    hr, mrr and ndcg: how high the next item stands in the list. They are
    told apart by the next item: known, one of training; joined, none of
    training, but seen earlier in this log; new, one that this user has
    not met. What the report calls a cold start are all that training never
    saw, joined or not.

    lead: how far the model is above another, in hr, mrr and ndcg as a
    difference, in pr_auc as a share of the other's.

    Example: forecart evaluate runs/taobao --format taobao --data events.csv.gz --tail 0.05 --baselines
    """
    from models.training.checkpoint import load
    from models.training.config import check_device, check_state

    if targets not in ("all", "last"):
        raise SettingError(f"--targets is {targets!r}", "give all or last")
    if baselines and not tail:
        raise SettingError("baselines are fitted to what comes before the tail", "give --tail as well")
    check_state(state)
    check_device(device)
    point = load(checkpoint, device)
    log = options.load(data, chosen(form, mapping))
    results = _measured(point, log, targets, tail, baselines, min_prefix, state)
    meaning = point.run.meaning
    tables = _tables(results, meaning.k, meaning.horizons)
    for title, table in tables:
        console.print(title, style="bold")
        console.print(table)
    if any(TOO_FEW in column.cells for _, table in tables for column in table.columns):
        console.print(f"{TOO_FEW}: {RULE}; hold out a longer --tail", style="yellow")
    _warn(point, log, tail, results[point.run.config.model])
    facts = {"horizon": meaning.horizons[0], "targets_of": targets, "min_prefix": min_prefix, "state": state}
    found = results.pop(point.run.config.model) | facts
    options.line(found | ({"baselines": results} if results else {}))


def _warn(point: "Checkpoint", log: "Log", tail: float, found: dict[str, Any]) -> None:
    """Say what speaks against the figures: a model that has seen the events, or their items never; no labels."""
    from models.data.log import cutoff
    from models.report.findings import seen

    before = int((log.time < cutoff(log, tail)).sum()) if tail else 0
    said = [finding.text for finding in seen("the model", point.run, len(log), before)]
    if found["unscored"]:
        said.append(f"Events: {found['unscored']:,} got no score that is a number, and count in no figure.")
    if found["targets_known"] < _FEW * found["targets"]:
        known = f"{found['targets_known']:,} of {found['targets']:,}"
        said.append(f"Items: the model knows {known} next items: is this the shop that it was trained on?")
    if lost := [name for name, figures in found["horizons"].items() if not figures["labelled"]]:
        remedy = "hold out a longer --tail" if log.timed else "sessions have no times, so no purchase can be judged"
        said.append(f"Purchases: no event is followed by {' or '.join(lost)} of log: {remedy}.")
    for text in said:
        console.print(text, style="yellow")


def _measured(
    point: "Checkpoint", log: "Log", targets: str, tail: float, baselines: bool, min_prefix: int, state: str
) -> Results:
    """Return the metrics by compared model."""
    from models.data.log import cutoff
    from models.data.sequences import Sequences
    from models.evaluation.comparison import compare, model, rivals, tabular_rivals
    from models.evaluation.prequential import evaluate, summary

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


def _tables(results: Results, k: int, horizons: tuple[str, ...]) -> list[tuple[str, Table]]:
    """Show compared models as rows, so that 80 columns hold them; intervals of 95 % stand below the figures."""
    of, first = next(iter(results.items()))
    ranking, hits = [f"{name}@{k}" for name in RANKING], f"hr@{k}"
    asked = f"{first['targets']:,} next items of {first['users']:,} shoppers"
    parts = {f"{part} ({first[f'targets_{part}']:,})": part for part in ("known", "joined", "new")}
    overall = {n: [_figure(r, name, "targets") for name in ranking] for n, r in results.items()}
    apart = {n: [_figure(r, f"{hits}_{p}", f"targets_{p}") for p in parts.values()] for n, r in results.items()}
    tables = [
        _table(f"Next item: {asked}", ranking, overall),
        _table(f"{hits} where the next item is", list(parts), apart),
    ]
    for horizon in horizons:
        figures = {name: r["horizons"][horizon] for name, r in results.items()}
        if horizon == horizons[0]:  # the one that intervals are for
            figures = {name: found | {"interval": results[name].get("interval", {})} for name, found in figures.items()}
        counts = f"{figures[of]['positives']:,} of {figures[of]['labelled']:,} events"
        rows = {name: [_figure(found, metric, "labelled") for metric in INTENT] for name, found in figures.items()}
        tables.append(_table(f"Purchase within {horizon}: {counts}", list(INTENT), rows))
    if leads := {name: r["lead"] for name, r in results.items() if "lead" in r}:
        rows = {name: [*(_points(lead, m) for m in ranking), _share(lead, "pr_auc")] for name, lead in leads.items()}
        title = f"Lead of {of} over each: points of 0.01; in pr_auc % of the other's"
        tables.append(_table(title, [*ranking, "pr_auc"], rows))
    return [(title, table) for title, table in tables if table.row_count]


def _table(title: str, names: list[str], rows: dict[str, list[str]]) -> tuple[str, Table]:
    """Lay out compared models that have a figure at all."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name, cells in rows.items():
        if any(cell != "-" for cell in cells):
            table.add_row(name, *cells)
    return title, table


def _figure(found: dict[str, Any], metric: str, of: str) -> str:
    """Write a figure, or why there is none; `of` names the count of what it was asked on."""
    if found.get(metric) is None:
        return TOO_FEW if found[of] else "-"
    bounds = found.get("interval", {}).get(metric)
    return f"{found[metric]:.4f}" + ("\n{:.4f} to {:.4f}".format(*bounds) if bounds else "")


def _points(lead: dict[str, Any], metric: str) -> str:
    return "{:+.1f}\n{:.1f} to {:.1f}".format(*(100 * v for v in lead[metric])) if metric in lead else "-"


def _share(lead: dict[str, Any], metric: str) -> str:
    return "{:+.0f} %\n{:.0f} to {:.0f} %".format(*(100 * v for v in lead[metric])) if metric in lead else "-"
