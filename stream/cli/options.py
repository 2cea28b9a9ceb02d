"""What the commands of serving and training share: the format of a log, name=value, and where they write."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stream.core.errors import DataError, SettingError
from stream.core.printable import printable
from stream.formats.mapped_log import MappedFormat
from stream.formats.registry import FORMATS, NUMBERED, BadRows, Form, named
from stream.formats.values import UNITS
from stream.mappings import load as load_mapping

_WIDE = 160  # columns where no terminal tells how many there are


Config = Annotated[Path | None, typer.Option("--config", help="A TOML file of settings.")]
Servers = Annotated[str | None, typer.Option("--bootstrap-servers", help="Kafka's address: host:port.")]
Json = Annotated[bool, typer.Option("--json", help="For machines.")]


def terminal(stderr: bool = True) -> Console:
    """Make a console that takes no text for markup; what goes to a file or program is not broken at 80 columns."""
    console = Console(stderr=stderr, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDE
    return console


def report(bad: BadRows, console: Console) -> None:
    """Say what was left out of a log, and of which days the rest is."""
    for line in bad.lines():
        console.print(printable(line), style="yellow")
    for line, style in zip(bad.days(), ("", "yellow"), strict=False):
        console.print(printable(line), style=style)


def tell_missing(form: Form, console: Console, whole: bool = False) -> None:
    """Say which types of a mapping a log, now read, lacks; raise DataError for it where the log is `whole`."""
    for text in form.missing() if isinstance(form, MappedFormat) else ():
        if whole:
            raise DataError(text, "correct `types` in the mapping, or take out what there is none of")
        console.print(printable(text), style="yellow")


def known(form: str, other: str = "") -> str:
    """Return a format's name as it was given; raise SettingError where it is none, nor `other`, which has units too."""
    name, _, unit = form.partition(":")
    if name == "parquet" != other:
        raise SettingError("Parquet is prepared first", "forecart prepare --format parquet --data PATH --out FOLDER")
    try:
        return form if name == other and unit in ("", *UNITS) else named(form).name
    except KeyError as error:
        names, units = (", ".join(filter(None, (other, *each))) for each in (FORMATS, NUMBERED))
        raise SettingError(
            f"there is no format {form!r}",
            f"the formats are {names}; {units} take the unit of their times behind a colon: s, us or ns; "
            "a table of your own takes a mapping: forecart map --data FILE > shop.yaml, then --mapping shop.yaml",
        ) from error


_OF_THE_LOG = typer.Option(
    "--format",
    callback=lambda form: form and known(form),
    help=f"Of the log: {', '.join(FORMATS)}; {NUMBERED[-1]}:s has its times in seconds.",
)
FormatOption = Annotated[str, _OF_THE_LOG]
OptionalFormat = Annotated[str, _OF_THE_LOG]


MappingOption = Annotated[
    Path | None, typer.Option("--mapping", help="A file that describes the shop's own log, instead of --format.")
]


def chosen(form: str, mapping: Path | None, usual: str = "") -> Form:
    """Return the format of a log: a mapping's, or a name; raise SettingError for both, or for neither."""
    if mapping and form:
        raise SettingError("--mapping and --format contradict each other", "give one of them")
    if not mapping and not (form or usual):
        raise SettingError(
            "no format is given",
            "give --format, or --mapping for a log of your own: `forecart map --data FILE` proposes one",
        )
    return load_mapping(mapping) if mapping else form or usual


def writable(path: Path) -> Path:
    """Return a folder's path where it can be made and written to; else raise SettingError before any work is done."""
    there = next(place for place in (path, *path.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return path
    except OSError as error:
        raise SettingError(f"cannot write {path}: {error.strerror}", "give another --out") from error


@contextmanager
def counted(what: str, console: Console, every: float = 4.0) -> Iterator[Callable[[int], None]]:
    """Show a number as it grows: in its place on a terminal, elsewhere in a line after so many seconds."""
    every, last = 0.2 if console.is_terminal else every, time.monotonic()
    with console.status(what) as status:

        def say(n: int) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last < every:
                return
            last = now
            if console.is_terminal:
                status.update(f"{n:,} {what}")
            else:
                console.print(f"{n:,} {what}")

        yield say


def pairs(words: list[str] | None, example: str) -> dict[str, str]:
    """Split the words of --set into names and values; raise SettingError for one without `=`."""
    found = {}
    for word in words or []:
        name, equals, value = word.partition("=")
        if not equals:
            raise SettingError(f"{word!r} is no setting", f"write --set name=value, such as --set {example}")
        found[name] = value
    return found
