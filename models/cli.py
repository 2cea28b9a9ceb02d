"""The commands of training: shoppers, train, evaluate."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import TextColumn
from rich.table import Table

from models import cli_attribute, options
from models.cli_intent import intent
from models.options import DataOption, advance, bar, console
from stream.core.errors import DataError, SettingError
from stream.core.manifest import Meaning, milliseconds
from stream.options import FormatOption, OptionalFormat

app = typer.Typer(no_args_is_help=True)


@app.command()
def shoppers(
    count: Annotated[int, typer.Option("--shoppers", min=1, help="How many shoppers.")] = 2000,
    days: Annotated[float, typer.Option(min=0.01, help="How long they shop.")] = 14.0,
    seed: Annotated[int, typer.Option(help="The same seed gives the same events.")] = 0,
    begin: Annotated[str, typer.Option(help="The first day.")] = "2026-01-01",
    with_truth: Annotated[
        str, typer.Option("--truth", help="A horizon, such as 1h: write the true probabilities instead.")
    ] = "",
) -> None:
    """Write synthetic shoppers' events to stdout, as JSON lines in time order.

    Example: forecart shoppers --shoppers 5000 --days 14 > shoppers.jsonl
    """
    from models.shoppers import simulate, truth

    try:
        start = int(datetime.fromisoformat(begin).replace(tzinfo=UTC).timestamp() * 1000)
        horizon = milliseconds(with_truth) / 1000 if with_truth else 0.0
    except ValueError as error:
        raise SettingError(str(error), "dates look like 2026-01-01, horizons like 1h") from error
    traffic = simulate(count, days, seed, start)
    encode = msgspec.json.Encoder().encode
    if horizon:
        values = truth(traffic, horizon).tolist()
        pairs = zip(traffic.events(), values, strict=True)
        rows = (encode({"event_id": event.event_id, "probability": p}) for event, p in pairs)
    else:
        rows = (encode(event) for event in traffic.events())
    out = sys.stdout.buffer
    for row in rows:
        out.write(row + b"\n")
    out.flush()


@app.command()
def train(
    data: Annotated[Path, typer.Option("--data", help="The log, gzipped or not, or what prepare has written.")],
    form: OptionalFormat = "",
    out: Annotated[Path, typer.Option(help="The folder for the run; a run interrupted there goes on.")] = Path(
        "runs/run"
    ),
    holdout_tail: Annotated[
        float,
        typer.Option(min=0.0, max=0.9, help="Part of the log, the latest, kept from training to choose the epoch."),
    ] = 0.0,
    horizon: Annotated[
        list[str] | None, typer.Option(help="Purchase within: spans such as 1h, or session. The first is reported.")
    ] = None,
    gap: Annotated[str, typer.Option(help="The pause that ends a session.")] = "30m",
    model: Annotated[str | None, typer.Option(help="What is trained: lstm, popularity or last-item.")] = None,
    preset: Annotated[str, typer.Option(help="How large a model: small, base or large.")] = "base",
    device: Annotated[str | None, typer.Option(help="cpu, or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and negatives.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Any other dial: name=value.")] = None,
) -> None:
    """Train the LSTM on a log, next item and purchase at once; or count a baseline that can be served like it.

    Examples: forecart train --format taobao --data events.csv.gz --out runs/taobao --holdout-tail 0.05
              forecart train --format sessions --data sessions.txt --set epochs=6 --set dropout=0.3
              torchrun --standalone --nproc-per-node 2 forecart.py train --format taobao --data events.csv.gz
    """
    from models.checkpoint import RUN
    from models.config import LSTM, check_device
    from models.parallel import join
    from models.prepared import is_prepared

    if (out / RUN).exists():
        raise SettingError(f"{out} holds a finished run", "give another --out, or delete the folder")
    config = options.config(preset, setting, "dropout=0.3", model=model, device=device, seed=seed)
    check_device(config.device)
    meaning, ranks = options.meaning(horizon, gap), join(config.device)
    console.quiet = not ranks.first
    if ranks.size > 1 and config.model != LSTM:
        raise SettingError(f"{config.model} is counted by one process", "leave torchrun out")
    if is_prepared(data):
        _fit(out, *_partitioned(data, config, meaning, holdout_tail))
        return
    if not form:
        raise SettingError("no format is given", "give --format, or a --data that forecart prepare has written")
    _fit(out, *prepared(options.load(data, form), config, meaning, {"path": data.name, "format": form}, holdout_tail))


def prepared(log: Any, config: Any, meaning: Meaning, facts: dict[str, Any], tail: float) -> tuple[Any, Any, Any, Any]:
    """Return the training sequences and their log, the run, and what measures its epochs, if a tail is held out."""
    from models.batches import Sequences
    from models.checkpoint import Run
    from models.histories import cutoff

    end = int(log.time.max())
    since = cutoff(log, tail) if tail else end + 1
    seen = log.where(log.time < since)
    if not len(seen):
        raise DataError("nothing is left to train on", "hold out a smaller tail")
    counts = {"events": len(log), "trained": len(seen), "bad": dict(log.bad.count)}
    run = Run.over(seen, config, meaning, facts | counts)
    vocab = run.vocabulary
    sequences = Sequences(seen, vocab, run.meaning, min(since, end), config.longest)
    return sequences, seen, run, _validation(log, vocab, run, since, end) if tail else None


def _partitioned(data: Path, config: Any, meaning: Meaning, tail: float) -> tuple[Any, Any, Any, Any]:
    """Return what `prepared` does, from partitions; the first one's shoppers stand for the log in what is measured."""
    from models.partitions import Partitions
    from models.prepared import Prepared

    with console.status(f"reading {data}"):
        source, run, since, end = Partitions.over(Prepared.open(data), config, meaning, tail)
    console.print(f"{source.events:,} events to train on, {len(run.items):,} items, {len(source)} partitions in {data}")
    log = source.log(0)
    seen = log.where(log.time < since)
    return source, seen, run, _validation(log, run.vocabulary, run, since, end) if tail else None


def _fit(out: Path, source: Any, seen: Any, run: Any, validate: Any) -> None:
    from models.config import LSTM
    from models.curve import draw
    from models.novelty import fit as fit_novelty
    from models.train import Progress as Step
    from models.train import count_baseline
    from models.train import train as fit

    if run.config.model != LSTM:
        count_baseline(source, run, out, validate)
        print(json.dumps({"checkpoint": str(out), **run.metrics}))
        return
    kept = False

    def measured(network: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = validate(network)
        what = "as it is kept, with the judge and unseen items" if kept else "after an epoch, before both"
        console.print(f"{what}: {options.figures(metrics)}")
        return metrics

    with bar(TextColumn("loss {task.fields[loss]:.3f}"), TextColumn("{task.fields[rate]:,.0f} events/s")) as bars:
        task = bars.add_task("training", total=None, loss=0.0, rate=0.0)
        spoken = options.spoken()

        def watch(step: Step) -> None:
            spoken(step.stage, f"step {step.step:,} of {step.steps:,}, loss {step.loss:.3f}")
            bars.update(
                task,
                description=step.stage,
                total=step.steps,
                completed=step.step,
                loss=step.loss,
                rate=step.events_per_second,
            )

        def conclude(point: Any) -> None:
            nonlocal kept
            draw(point.run, out)
            spoken("fitting how much unseen items deserve", "")
            run.novelty, kept = fit_novelty(point, seen), True

        fit(source, run, out, watch, measured if validate else None, conclude)
    for epoch in run.epochs:
        console.print(options.figures({name: epoch[name] for name in epoch if name == "epoch" or "loss" in name}))
    if not console.quiet:
        print(json.dumps({"checkpoint": str(out), **run.metrics}))


def _validation(log: Any, vocab: Any, run: Any, since: int, end: int) -> Any:
    from models.batches import Sequences
    from models.checkpoint import Checkpoint
    from models.contenders import model
    from models.evaluate import evaluate, summary

    whole = Sequences(log, vocab, run.meaning, end, run.config.longest)

    def validate(network: Any) -> dict[str, Any]:
        contender = model(Checkpoint(network, run, {}))
        metrics = summary(evaluate(log, whole, *contender, since=since, end=end), run.meaning.k, run.meaning.horizons)
        k = run.meaning.k
        # One figure chooses the epoch: both heads count, each where it can be measured.
        parts = [metrics[name] for name in (f"hr@{k}", f"mrr@{k}", "pr_auc") if metrics[name] is not None]
        return metrics | {"selection": sum(parts)}

    return validate


@app.command()
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
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
) -> None:
    """Score held-out data through the same path as the worker; the last line is JSON.

    Example: forecart evaluate runs/taobao --format taobao --data events.csv.gz --tail 0.05 --baselines
    """
    from models.checkpoint import load
    from models.config import check_device

    if targets not in ("all", "last"):
        raise SettingError(f"--targets is {targets!r}", "give all or last")
    if baselines and not tail:
        raise SettingError("baselines are fitted to what comes before the tail", "give --tail as well")
    check_device(device)
    point = load(checkpoint, device)
    results = _measured(point, options.load(data, form), targets, tail, baselines, min_prefix)
    if baselines:
        console.print(_table(results))
    _warn_of_unlabelled(results[point.run.config.model], point.run.meaning.horizons)
    facts = {"horizon": point.run.meaning.horizons[0], "targets_of": targets, "min_prefix": min_prefix}
    line = results.pop(point.run.config.model) | facts
    print(json.dumps(line | ({"baselines": results} if results else {})))


def _warn_of_unlabelled(found: dict[str, Any], horizons: tuple[str, ...]) -> None:
    """Say which horizons nothing is known of: the held-out part ends before they do."""
    lost = [name for name in horizons if not found["horizons"][name]["labelled"]]
    if lost:
        console.print(f"no event is followed by {' or '.join(lost)} of log: hold out a longer --tail", style="yellow")


def _measured(
    point: Any, log: Any, targets: str, tail: float, baselines: bool, min_prefix: int
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
    contenders = {run.config.model: model(point)}
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


app.command()(cli_attribute.attribute)
app.command()(intent)
