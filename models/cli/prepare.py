"""The command that prepares a log larger than memory."""

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from models.cli.options import console
from stream.cli.options import MappingOption, chosen, known, report, tell_missing, writable
from stream.core.errors import SettingError
from stream.formats.registry import FORMATS

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Hold one command as a group."""


@app.command()
def prepare(
    data: Annotated[Path, typer.Option("--data", help="The log, compressed or not; Parquet: a file or a folder.")],
    out: Annotated[Path, typer.Option(callback=writable, help="The folder for the partitions.")],
    form: Annotated[str, typer.Option("--format", help=f"Of the log: parquet, {', '.join(FORMATS)}.")] = "",
    mapping: MappingOption = None,
    each: Annotated[int, typer.Option(min=1, help="Events a partition, about; training holds one.")] = 1_000_000,
) -> None:
    """Prepare a log that is larger than memory: partitions of whole users, which train reads one by one.

    Example: forecart prepare --format parquet --data events/ --out prepared && forecart train --data prepared
    """
    from models.data.prepared import PARQUET, is_prepared
    from models.data.prepared import prepare as write

    source = chosen(known(form, PARQUET) if form else "", mapping, PARQUET)
    if is_prepared(out):
        raise SettingError(f"{out} holds a prepared log", "give another --out, or delete the folder")
    with console.status(f"preparing {data}") as status:
        facts, bad = write(data, source, out, each, status.update)
    report(bad, console)
    tell_missing(source, console)
    print(json.dumps({"prepared": str(out), **msgspec.to_builtins(facts)}))
