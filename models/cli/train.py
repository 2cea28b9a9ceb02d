"""The commands of training: users, train; the others are added."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from models.cli import attribute, options
from models.cli.evaluate import evaluate
from models.cli.intent import intent
from models.cli.options import GapOption, HorizonOption, console
from models.cli.progress import compared, watched
from models.enough import SHOPPERS
from stream.cli.options import MappingOption, OptionalFormat, chosen, writable
from stream.core.errors import DataError, SettingError
from stream.core.manifest import TaskSpec, milliseconds
from stream.core.printable import printable
from stream.formats.mapped_log import MappedFormat
from stream.formats.registry import name_of

if TYPE_CHECKING:
    from models.data.log import Log
    from models.data.sequences import Sequences, Source
    from models.evaluation.validation import Holdout
    from models.training.checkpoint import Checkpoint, Run
    from models.training.config import TrainConfig

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
    from models.data.synthetic import simulate, truth

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

    The loss says how wrong next items and purchases are; less is better. Of
    the epochs the one is kept where hit rate, MRR and PR-AUC on the tail sum
    to most. The second training is on the log without its end: on
    that end the reranker, which orders the best items, and the calibration of
    purchases learn. At the end a table shows the run beside what must be
    beaten; a stdout that is no terminal gets the same and more as a line of JSON.

    A first run: forecart train --preset small --format taobao --data events.csv.gz --out runs/first --holdout-tail 0.05
    Examples: forecart train --format taobao --data events.csv.gz --out runs/taobao --holdout-tail 0.05
              forecart train --format sessions --data sessions.txt --set epochs=6 --set dropout=0.3
              torchrun --standalone --nproc-per-node 2 forecart.py train --format taobao --data events.csv.gz
    """
    from models.data.prepared import is_prepared
    from models.training.checkpoint import RUN

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
    log = options.load(data, source, whole=True)
    own = source.own_names() if isinstance(source, MappedFormat) else {}
    _fit(out, *prepared(log, config, meaning, facts, holdout_tail), own)


def _join(config: "TrainConfig") -> None:
    """Join the other ranks, if any, of which the first one speaks; raise SettingError where that cannot be."""
    from models.training.config import LSTM, check_device
    from models.training.distributed import join

    check_device(config.device)
    ranks = join(config.device)
    console.quiet = not ranks.first
    if ranks.size > 1 and config.model != LSTM:
        raise SettingError(f"{config.model} is counted by one process", "leave torchrun out")


def prepared(
    log: "Log", config: "TrainConfig", meaning: TaskSpec, facts: dict[str, Any], tail: float
) -> tuple["Sequences", "Log", "Run", "Holdout | None"]:
    """Return the training sequences and their log, the run, and what measures its epochs, if a tail is held out."""
    import numpy as np

    from models.data.log import cutoff
    from models.data.sequences import Sequences
    from models.evaluation.validation import Holdout
    from models.training.checkpoint import Run

    end = int(log.time.max())
    since = cutoff(log, tail) if tail else end + 1
    seen = log.where(log.time < since)
    if not len(seen):
        raise DataError("nothing is left to train on", "hold out a smaller tail")
    if (users := len(np.unique(seen.user))) < SHOPPERS:
        text = f"trained on {options.counted(users, 'shopper')}: a model of so few says nothing of others"
        console.print(text, style="yellow")
    counts = {"events": len(log), "trained": len(seen), "bad": dict(log.bad.count)}
    run = Run.over(seen, config, meaning, facts | counts)
    sequences = Sequences(seen, run.vocabulary, run.meaning, min(since, end), config.longest)
    return sequences, seen, run, Holdout.over(log, run, since, end) if tail else None


def _partitioned(
    data: Path, config: "TrainConfig", meaning: TaskSpec, tail: float
) -> tuple["Source", "Log", "Run", "Holdout | None"]:
    """Return what `prepared` does, from partitions; the first one's users stand for the log in what is measured."""
    from models.data.prepared import Prepared
    from models.evaluation.validation import Holdout
    from models.training.partitions import Partitions

    with console.status(f"reading {data}"):
        source, run, since, end = Partitions.over(Prepared.open(data), config, meaning, tail)
    console.print(f"{source.events:,} events to train on, {len(run.items):,} items, {len(source)} partitions in {data}")
    log = source.log(0)
    seen = log.where(log.time < since)
    return source, seen, run, Holdout.over(log, run, since, end) if tail else None


def _fit(
    out: Path, source: "Source", seen: "Log", run: "Run", held: "Holdout | None", own: dict[str, str] | None = None
) -> None:
    """Train; `own` are the log's names for types."""
    from models.evaluation.cold_start import fit as fit_novelty
    from models.report.training_curve import draw
    from models.training.config import LSTM
    from models.training.epochs import count_baseline, rehearsal
    from models.training.epochs import train as fit
    from models.training.label_coverage import findings, taught

    run.data |= taught(source.parts(), run.meaning)
    for n, text in enumerate(findings(run.data, run.meaning.purchase, own)):
        console.print(printable(text), style="yellow" if n else "")
    if run.config.prices and not run.price_edges:
        console.print("prices=true does nothing: no item of the log has a price", style="yellow")
    if run.config.model != LSTM:
        count_baseline(source, run, out, held)
        _told(out, source, run, held)
        return

    def conclude(point: "Checkpoint") -> None:
        draw(point.run, out)
        run.novelty = fit_novelty(point, seen)

    with watched(run, rehearsal(run.config, source.events)) as watch:
        try:
            fit(source, run, out, watch, held, conclude)
        except KeyboardInterrupt:
            with suppress(OSError):
                out.rmdir()  # empty where it was too early for anything to be kept
            console.print("stopped; the same command goes on")
            raise
    if not console.quiet:
        _told(out, source, run, held)


def _told(out: Path, source: "Source", run: "Run", held: "Holdout | None") -> None:
    """Show a finished run beside the baselines; for programs the same as a line of JSON."""
    with console.status("measuring the baselines"):
        baselines = held.baselines(source) if held else {}
    compared({run.config.model: run.metrics} | baselines if held else {}, run)
    console.print(f"the run is in {out}")
    found = {"checkpoint": str(out), **run.metrics} | ({"baselines": baselines} if held else {})
    options.line(found)


app.command()(attribute.attribute)
app.command()(evaluate)
app.command()(intent)
