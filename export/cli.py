"""The command that makes a bundle."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream.core.errors import SettingError
from stream.core.manifest import STATES

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make bundles."""


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    bundle: Annotated[Path, typer.Argument(help="The folder to write, which is not there yet.")],
    index: Annotated[
        str,
        typer.Option(help="An index of the catalog: never, always, or auto, where the catalog is large."),
    ] = "never",
    state: Annotated[str, typer.Option(help="Stored type of the shoppers' states: float16 or float32.")] = STATES[0],
    any_intent: Annotated[
        bool, typer.Option("--any-intent", help="Publish the `intent` of a horizon, too, that nothing was learned of.")
    ] = False,
) -> None:
    """Export a checkpoint to a bundle: ONNX step, catalog, vocabulary, manifest, parity vectors.

    Nothing is written unless whole sequence, torch step and ONNX step agree to 1e-5 on random and real histories, and
    unless an index finds what the exact answer holds.

    Example: forecart export runs/taobao bundles/taobao
    """
    from export.bundle import write
    from export.index import CHOICES
    from models.training.checkpoint import load
    from models.training.config import check_state
    from models.training.label_coverage import unlearned

    check_state(state)
    if index not in CHOICES:
        raise SettingError(f"--index is {index!r}", "give auto, always or never")
    point = load(checkpoint)
    console = Console(stderr=True)
    with console.status("exporting and comparing"):
        manifest = write(point, bundle, state, index, any_intent=any_intent)
    for horizon, why in ({} if any_intent else unlearned(point.run.data)).items():
        console.print(f"no `intent` within {horizon} is published: {why}; --any-intent does it", style="yellow")
    print(json.dumps({"bundle": str(bundle), "model": manifest.model, "parity": manifest.parity}))
