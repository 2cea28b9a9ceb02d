"""The commands of training: shoppers, train; the others are added."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.progress import Progress, TextColumn

from models import cli_attribute, options
from models.cli_evaluate import evaluate
from models.cli_intent import intent
from models.options import GapOption, HorizonOption, bar, console
from stream.core.errors import DataError, SettingError
from stream.core.formats import name_of
from stream.core.manifest import Meaning, Vocabulary, milliseconds
from stream.core.printable import printable
from stream.options import MappingOption, OptionalFormat, chosen, writable

if TYPE_CHECKING:
    from models.baselines import Baseline
    from models.batches import Sequences, Source
    from models.checkpoint import Checkpoint, Run
    from models.config import TrainConfig
    from models.histories import Log
    from models.network import Network
    from models.train import Progress as Step

Validate = Callable[["Network | Baseline"], dict[str, Any]]

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
    mapping: MappingOption = None,
    out: Annotated[
        Path, typer.Option(callback=writable, help="The folder for the run; a run interrupted there goes on.")
    ] = Path("runs/run"),
    holdout_tail: Annotated[
        float,
        typer.Option(min=0.0, max=0.9, help="Part of the log, the latest, kept from training to choose the epoch."),
    ] = 0.0,
    horizon: HorizonOption = None,
    gap: GapOption = None,
    model: Annotated[str | None, typer.Option(help="What is trained: lstm, popularity or last-item.")] = None,
    preset: Annotated[str, typer.Option(help="How large a model: small, base or large.")] = "base",
    device: Annotated[str | None, typer.Option(help="cpu, or cuda.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and negatives.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", help="Any other dial: name=value.")] = None,
) -> None:
    """Train the LSTM on a log, next item and purchase at once; or count a baseline that can be served like it.

    Said on the way: item_loss, mixture_loss and intent_loss are those of the
    LSTM's ranking, of the list that mixes it with item pairs and repeats, and
    of the purchase; less is better. selection is hr + mrr + pr_auc on the
    tail: the epoch where it is highest is kept. rehearsing is a second
    training, on the log without its end: on that end the judge, which orders
    the best items, and the calibration of purchases learn.

    Examples: forecart train --format taobao --data events.csv.gz --out runs/taobao --holdout-tail 0.05
              forecart train --format sessions --data sessions.txt --set epochs=6 --set dropout=0.3
              torchrun --standalone --nproc-per-node 2 forecart.py train --format taobao --data events.csv.gz
    """
    from models.checkpoint import RUN
    from models.prepared import is_prepared

    if (out / RUN).exists():
        raise SettingError(f"{out} holds a finished run", "give another --out, or delete the folder")
    config = options.config(preset, setting, "dropout=0.3", model=model, device=device, seed=seed)
    meaning = options.meaning(horizon, gap)
    _join(config)
    if is_prepared(data):
        _fit(out, *_partitioned(data, config, meaning, holdout_tail))
        return
    source = chosen(form, mapping)
    facts = {"path": data.name, "format": name_of(source)}
    _fit(out, *prepared(options.load(data, source, whole=True), config, meaning, facts, holdout_tail))


def _join(config: "TrainConfig") -> None:
    """Join the other ranks, if any, of which the first one speaks; raise SettingError where that cannot be."""
    from models.config import LSTM, check_device
    from models.parallel import join

    check_device(config.device)
    ranks = join(config.device)
    console.quiet = not ranks.first
    if ranks.size > 1 and config.model != LSTM:
        raise SettingError(f"{config.model} is counted by one process", "leave torchrun out")


def prepared(
    log: "Log", config: "TrainConfig", meaning: Meaning, facts: dict[str, Any], tail: float
) -> tuple["Sequences", "Log", "Run", Validate | None]:
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


def _partitioned(
    data: Path, config: "TrainConfig", meaning: Meaning, tail: float
) -> tuple["Source", "Log", "Run", Validate | None]:
    """Return what `prepared` does, from partitions; the first one's shoppers stand for the log in what is measured."""
    from models.partitions import Partitions
    from models.prepared import Prepared

    with console.status(f"reading {data}"):
        source, run, since, end = Partitions.over(Prepared.open(data), config, meaning, tail)
    console.print(f"{source.events:,} events to train on, {len(run.items):,} items, {len(source)} partitions in {data}")
    log = source.log(0)
    seen = log.where(log.time < since)
    return source, seen, run, _validation(log, run.vocabulary, run, since, end) if tail else None


def _fit(out: Path, source: "Source", seen: "Log", run: "Run", validate: Validate | None) -> None:
    from models.config import LSTM
    from models.curve import draw
    from models.learned import findings, taught
    from models.novelty import fit as fit_novelty
    from models.train import count_baseline
    from models.train import train as fit

    run.data |= taught(source.parts(), run.meaning)
    for n, text in enumerate(findings(run.data, run.meaning.purchase)):
        console.print(printable(text), style="yellow" if n else "")
    if run.config.prices and not run.price_edges:
        console.print("prices=true does nothing: no item of the log has a price", style="yellow")
    if run.config.model != LSTM:
        count_baseline(source, run, out, validate)
        print(json.dumps({"checkpoint": str(out), **run.metrics}))
        return
    spoken = options.spoken()

    def conclude(point: "Checkpoint") -> None:
        draw(point.run, out)
        spoken("fitting how much unseen items deserve", "")
        run.novelty = fit_novelty(point, seen)

    with bar(TextColumn("loss {task.fields[loss]:.3f}"), TextColumn("{task.fields[rate]:,.0f} events/s")) as bars:
        try:
            fit(source, run, out, _watcher(bars, spoken), _aloud(validate, run) if validate else None, conclude)
        except KeyboardInterrupt:
            with suppress(OSError):
                out.rmdir()  # empty where it was too early for anything to be kept
            console.print("stopped; the same command goes on")
            raise
    for epoch in run.epochs:
        console.print(options.figures({name: epoch[name] for name in epoch if name == "epoch" or "loss" in name}))
    if not console.quiet:
        print(json.dumps({"checkpoint": str(out), **run.metrics}))


def _watcher(bars: Progress, spoken: Callable[[str, str], None]) -> Callable[["Step"], None]:
    """Return what shows the loop's steps."""
    task = bars.add_task("training", total=None, loss=0.0, rate=0.0)
    stages: set[str] = set()

    def watch(step: "Step") -> None:
        if step.stage not in stages and step.step > 1:
            console.print(f"{step.stage} goes on after step {step.step - 1:,} of {step.steps:,}")
        stages.add(step.stage)
        spoken(step.stage, f"step {step.step:,} of {step.steps:,}, loss {step.loss:.3f}")
        bars.update(
            task,
            description=step.stage,
            total=step.steps,
            completed=step.step,
            loss=step.loss,
            rate=step.events_per_second,
        )

    return watch


def _aloud(validate: Validate, run: "Run") -> Validate:
    """Return what measures a network and says its figures."""

    def measured(network: "Network | Baseline") -> dict[str, Any]:
        metrics = validate(network)
        kept = "as it is kept, with the judge and unseen items"
        console.print(f"{kept if run.novelty else 'after an epoch, before both'}: {options.figures(metrics)}")
        return metrics

    return measured


def _validation(log: "Log", vocab: Vocabulary, run: "Run", since: int, end: int) -> Validate:
    from models.batches import Sequences
    from models.checkpoint import Checkpoint
    from models.contenders import model
    from models.evaluate import evaluate, summary

    whole = Sequences(log, vocab, run.meaning, end, run.config.longest)

    def validate(network: "Network | Baseline") -> dict[str, Any]:
        contender = model(Checkpoint(network, run, {}))
        metrics = summary(evaluate(log, whole, *contender, since=since, end=end), run.meaning.k, run.meaning.horizons)
        k = run.meaning.k
        # One figure chooses the epoch: both heads count, each where it can be measured.
        parts = [metrics[name] for name in (f"hr@{k}", f"mrr@{k}", "pr_auc") if metrics[name] is not None]
        return metrics | {"selection": sum(parts)}

    return validate


app.command()(cli_attribute.attribute)
app.command()(evaluate)
app.command()(intent)
