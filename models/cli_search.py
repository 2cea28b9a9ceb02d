"""The command `search`: which dials suit a log."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from models import options
from models.options import DataOption, console
from stream.core.errors import SettingError
from stream.options import FormatOption, pairs

app = typer.Typer(no_args_is_help=True)


@app.command()
def search(
    form: FormatOption,
    data: DataOption,
    out: Annotated[Path, typer.Option(help="The folder of the search; one interrupted there goes on.")] = Path(
        "runs/search"
    ),
    holdout_tail: Annotated[
        float, typer.Option(min=0.001, max=0.9, help="Part of the log, the latest, that trials are compared on.")
    ] = 0.05,
    trials: Annotated[int, typer.Option(min=1, help="How many trials in all.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="No trial begins after so many; 0: no bound.")] = 0.0,
    horizon: Annotated[list[str] | None, typer.Option(help="Purchase within: spans such as 1h, or session.")] = None,
    gap: Annotated[str, typer.Option(help="The pause that ends a session.")] = "30m",
    preset: Annotated[str, typer.Option(help="What the search begins with: small, base or large.")] = "small",
    device: Annotated[str, typer.Option(help="cpu, or cuda.")] = "cpu",
    seed: Annotated[int, typer.Option(help="Of the search and of each training.")] = 0,
    setting: Annotated[list[str] | None, typer.Option("--set", help="A dial that is fixed: name=value.")] = None,
) -> None:
    """Search the dials of training: each trial trains without a judge, and the tail tells how well.

    The tail has then been learned from: report the winner on later data.

    Example: forecart search --format sessions --data sessions.txt.gz --trials 20 --minutes 60
    """
    from models.cli import prepared
    from models.config import check_device
    from models.search import SPACE, Result
    from models.search import search as look

    check_device(device)
    config = options.config(preset, ["judged=0", *(setting or [])], "epochs=2", device=device, seed=seed)
    log, facts = options.load(data, form), {"path": data.name, "format": form}
    sequences, _, run, validate = prepared(log, config, options.meaning(horizon, gap), facts, holdout_tail)

    def train(dials: dict[str, float], hear: Any) -> float:
        own = msgspec.structs.replace(config, **dials)
        folder = out / hashlib.sha256(msgspec.json.encode(own)).hexdigest()[:12]
        best = _trained(sequences, msgspec.structs.replace(run, config=own), folder, validate, hear)
        shutil.rmtree(folder)
        return best

    def heard(number: int, result: Result) -> None:
        end = "given up" if result.pruned else "ended"
        console.print(f"trial {number} of {trials} {end} at {result.value:.4f}: {_words(result.dials)}")

    out.mkdir(parents=True, exist_ok=True)
    first = {name: getattr(config, name) for name in SPACE if name not in pairs(setting, "epochs=2")}
    results = look(
        out / "trials.jsonl", train, first, trials, run.identity(), minutes * 60 or float("inf"), seed, heard
    )
    if not results:
        raise SettingError("no trial began in time", "give more --minutes")
    console.print(_table(results))
    best = results[0]
    line = {"best": best.value, "dials": best.dials, "trials": len(results), "preset": preset}
    fixed = "".join(f" --set {word}" for word in setting or ())
    again = f"forecart train --format {form} --data {data} --preset {preset} --seed {seed}{fixed} {_words(best.dials)}"
    print(json.dumps(line | {"command": again}))


def _trained(sequences: Any, run: Any, folder: Path, validate: Any, hear: Any) -> float:
    """Train in a folder, or go on there; say each epoch's figure, and return the best."""
    from models.train import train

    said: list[float] = []

    def measure(network: Any) -> dict[str, Any]:
        metrics: dict[str, Any] = validate(network)
        said.append(metrics["selection"])
        hear(len(said), said[-1])
        return metrics

    done = train(sequences, run, folder, validate=measure)
    return max(float(epoch["selection"]) for epoch in done.run.epochs)


def _words(dials: dict[str, float]) -> str:
    return " ".join(f"--set {name}={value:.3g}" for name, value in dials.items())


def _table(results: Any) -> Table:
    """Show the trials, the best first."""
    table = Table("selection", *results[0].dials, title="HR + MRR + PR-AUC, each where it can be measured")
    for result in results:
        cells = (f"{value:.3g}" for value in result.dials.values())
        table.add_row(f"{result.value:.4f}" + (", given up" if result.pruned else ""), *cells)
    return table
