"""The command `search`: which dials suit a log."""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.table import Table

from models.cli import options
from models.cli.options import DataOption, GapOption, HorizonOption, console
from models.enough import RULE
from stream.cli.options import MappingOption, OptionalFormat, chosen, pairs, writable
from stream.core.errors import DataError, SettingError
from stream.formats.registry import name_of

if TYPE_CHECKING:
    from models.data.sequences import Sequences
    from models.evaluation.validation import Holdout
    from models.network.lstm import Network
    from models.training.checkpoint import Run
    from models.training.search import Dials, Result

app = typer.Typer(no_args_is_help=True)


@app.command()
def search(
    data: DataOption,
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    out: Annotated[
        Path, typer.Option(callback=writable, help="The folder of the search; one interrupted there goes on.")
    ] = Path("runs/search"),
    holdout_tail: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Part of the log, the latest, that trials are compared on.")
    ] = 0.05,
    trials: Annotated[int, typer.Option(min=1, help="How many trials in all.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="No trial begins after so many; 0: no bound.")] = 0.0,
    horizon: HorizonOption = None,
    gap: GapOption = None,
    preset: Annotated[str, typer.Option(help="What the search begins with: small, base or large.")] = "small",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the search and of each training.")] = 0,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A dial that is fixed: name=value.")] = None,
) -> None:
    """Search the dials of training: each trial trains without a reranker, and the tail tells how well.

    The tail has then been learned from: report the winner on later data.

    Example: forecart search --format sessions --data sessions.txt.gz --trials 20 --minutes 60
    """
    from models.cli.train import prepared
    from models.training.config import check_device
    from models.training.search import SPACE
    from models.training.search import search as look

    check_device(device)
    config = options.config(preset, ["judged=0", *(setting or [])], "epochs=2", device=device, seed=seed)
    source = chosen(form, mapping)
    log, facts = options.load(data, source, whole=True), {"path": data.name, "format": name_of(source)}
    sequences, _, run, validate = prepared(log, config, options.meaning(horizon, gap), facts, holdout_tail)
    out.mkdir(parents=True, exist_ok=True)
    first = {name: getattr(config, name) for name in SPACE if name not in pairs(setting, "epochs=2")}
    train, until = partial(_trial, sequences, run, validate, out), minutes * 60 or float("inf")
    results = look(out / "trials.jsonl", train, first, trials, run.identity(), until, seed, partial(_heard, trials))
    how = f"--mapping {mapping}" if mapping else f"--format {form}"
    given = [f"{how} --data {data} --preset {preset} --seed {seed}", *(f"--set {w}" for w in setting or ())]
    more = [f"--holdout-tail {holdout_tail} --device {device}", *(f"--horizon {span}" for span in horizon or ())]
    _tell(results, preset, given, [*more, *([f"--gap {gap}"] if gap else []), f"--out {out / 'best'}"])


def _tell(results: "list[Result]", preset: str, given: list[str], more: list[str]) -> None:
    """Show the trials, and write the best one with the command that trains it; raise SettingError for none."""
    if not results:
        raise SettingError("no trial began in time", "give more --minutes")
    console.print(_table(results))
    best = results[0]
    line = {"best": best.value, "dials": best.dials, "trials": len(results), "preset": preset}
    print(json.dumps(line | {"command": " ".join(["forecart train", *given, _words(best.dials), *more])}))


def _heard(trials: int, number: int, result: "Result") -> None:
    end = "given up" if result.pruned else "ended"
    console.print(f"trial {number} of {trials} {end} at {result.value:.4f}: {_words(result.dials)}")


def _trial(
    sequences: "Sequences",
    run: "Run",
    validate: "Holdout | None",
    out: Path,
    dials: "Dials",
    hear: Callable[[int, float], None],
) -> float:
    """Train with some dials in a folder of their own, which stays for the next time only where it is interrupted."""
    from models.training.search import Pruned

    assert validate is not None  # a tail is held out
    config = msgspec.structs.replace(run.config, **dials)
    folder = out / hashlib.sha256(msgspec.json.encode(config)).hexdigest()[:12]
    try:
        best = _trained(sequences, msgspec.structs.replace(run, config=config), folder, validate, hear)
    except Pruned:
        shutil.rmtree(folder)
        raise
    shutil.rmtree(folder)
    return best


def _trained(
    sequences: "Sequences", run: "Run", folder: Path, validate: "Holdout", hear: Callable[[int, float], None]
) -> float:
    """Train in a folder, or go on there; say each epoch's figure, and return the best."""
    from models.training.epochs import train

    said: list[float] = []

    def measure(network: "Network") -> dict[str, Any]:
        metrics = validate(network)
        if "selection" not in metrics:
            raise DataError(f"trials cannot be compared on the tail: {RULE}", "hold out a longer --holdout-tail")
        said.append(metrics["selection"])
        hear(len(said), said[-1])
        return metrics

    done = train(sequences, run, folder, validate=measure)
    return max(float(epoch["selection"]) for epoch in done.run.epochs)


def _words(dials: "Dials") -> str:
    return " ".join(f"--set {name}={_word(value)}" for name, value in dials.items())


def _word(value: float) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value}"


def _table(results: "list[Result]") -> Table:
    """Show the trials, the best first."""
    table = Table("selection", *results[0].dials, title="HR + MRR + PR-AUC, each where it can be measured")
    for result in results:
        cells = map(_word, result.dials.values())
        table.add_row(f"{result.value:.4f}" + (", given up" if result.pruned else ""), *cells)
    return table
