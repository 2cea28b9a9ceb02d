"""What the commands of serving and training share: the format of a log, name=value, and where they write."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream.core.errors import SettingError
from stream.core.formats import FORMATS, BadRows

_WIDE = 160  # columns where no terminal tells how many there are


Config = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Servers = Annotated[str | None, typer.Option("--bootstrap-servers", help="Kafka's address: host:port.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


def terminal(stderr: bool = True) -> Console:
    """Make a console that takes no text for markup; what goes to a file or program is not broken at 80 columns."""
    console = Console(stderr=stderr, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def report(bad: BadRows, console: Console) -> None:
    """Say which rows of a log were left out."""
    for line in bad.lines():
        console.print(line, style="yellow")


def _known(form: str) -> str:
    if form not in FORMATS:
        raise SettingError(f"there is no format {form!r}", f"the formats are {', '.join(FORMATS)}")
    return form


FormatOption = Annotated[str, typer.Option("--format", callback=_known, help=f"Of the log: {', '.join(FORMATS)}.")]
OptionalFormat = Annotated[
    str,
    typer.Option("--format", callback=lambda form: form and _known(form), help=f"Of the log: {', '.join(FORMATS)}."),
]


def pairs(words: list[str] | None, example: str) -> dict[str, str]:
    """Split the words of --set into names and values; raise SettingError for one without `=`."""
    found = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not equals:
            raise SettingError(f"{word!r} is no setting", f"write --set name=value, such as --set {example}")
        found[name] = value
    return found
