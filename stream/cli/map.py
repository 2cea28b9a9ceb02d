"""The command that proposes a mapping."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from stream.cli.options import terminal
from stream.core.errors import DataError, SettingError
from stream.core.events import Event
from stream.core.printable import printable, printable_lines
from stream.formats.mapped_log import MappedFormat
from stream.formats.mapping import FIELDS, Mapping
from stream.formats.registry import BadRow

app = typer.Typer(no_args_is_help=True)
console = terminal()
_SHOWN = 10


@app.callback()
def _group() -> None:
    """Hold one command as a group."""


@app.command("map")
def propose_mapping(
    data: Annotated[Path, typer.Option("--data", help="The log: CSV, TSV, JSON lines or Parquet.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; else stdout.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows are looked at.")] = 1000,
) -> None:
    """Look at a shop's own log, propose a mapping of it, and show what its first rows become.

    Check it, and correct it where it guessed wrong: above all which type is a purchase.

    Example: forecart map --data shop.csv > shop.yaml && forecart train --mapping shop.yaml --data shop.csv
    """
    from stream.cli.sampling import sample
    from stream.formats.proposal import NEEDED, propose, written

    if str(data) == "-":
        raise SettingError("the log is read twice, which no pipe can be", "give a file: --data shop.csv")
    form, looked_at = sample(data, rows)
    found = propose(looked_at)
    text = written(form, found, data.name, len(looked_at))
    for doubt in found.doubts:
        console.print(printable(doubt), style="yellow")
    if lacking := [name for name in NEEDED if name not in found.columns]:
        columns = ", ".join(dict.fromkeys(name for row in looked_at for name in row))
        raise DataError(f"which column is the {' and the '.join(lacking)}?", f"the columns are {columns}")
    if out:
        out.write_text(text)
    else:
        print(printable_lines(text), end="", flush=True)
    mapping = msgspec.yaml.decode(text, type=Mapping)
    console.print(_table(MappedFormat.of(mapping, data.name), data))


def _table(form: MappedFormat, data: Path) -> Table:
    """Show what the first rows become."""
    names = {name: field for name, field in FIELDS.items() if field in form.mapping.paths}
    table = Table(*names, title=f"What the first {_SHOWN} rows become")
    for row in islice(_first(form, data), _SHOWN):
        if isinstance(row, BadRow):
            table.add_row(f"line {row.line} is left out: {row.reason} {printable(row.hint)}", style="yellow")
        else:
            table.add_row(*(_cell(row, field) for field in names.values()))
    return table


def _first(form: MappedFormat, data: Path) -> Iterator[Event | BadRow]:
    from stream.mappings import read_log

    yield from read_log(data, form)


def _cell(event: Event, field: str) -> str:
    from datetime import UTC, datetime

    value = getattr(event, field)
    if field == "timestamp":
        return datetime.fromtimestamp(value / 1000, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00") + "Z"
    return "" if value is None else printable(f"{value}")
