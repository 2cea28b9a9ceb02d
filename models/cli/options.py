"""What the commands of training share: a log read in sight, dials, what a model means, bars of progress."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream.cli.options import pairs, report, tell_missing, terminal
from stream.core.errors import SettingError
from stream.core.manifest import TaskSpec, milliseconds
from stream.formats.registry import Form

if TYPE_CHECKING:  # torch and numpy are loaded when a command runs
    from models.data.log import Log
    from models.training.config import TrainConfig

console = terminal()
_MEANING = TaskSpec()

DataOption = Annotated[Path, typer.Option("--data", help="The log, gzipped or not.")]
HorizonOption = Annotated[
    list[str] | None, typer.Option(help="Purchase within: spans such as 1h, or session. The first is reported.")
]
GapOption = Annotated[
    str | None, typer.Option(help=f"The pause that ends a session; {_MEANING.gap // 60_000}m if none is given.")
]


def bar(*columns: Any) -> Progress:
    """Make bars of progress, a line each; where there is no terminal nothing of them stays."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), *columns, TimeRemainingColumn(),
        console=console, transient=not console.is_terminal,
    )  # fmt: skip


def advance(bars: Progress, name: str, total: int | None) -> Callable[[int, int], None]:
    """Add a task; return what moves it on, called with what is done and of how much."""
    task = bars.add_task(name, total=total)
    return lambda done, of: bars.update(task, completed=done, total=of)


def line(found: dict[str, Any]) -> None:
    """Write for programs what a table shows to people, as a line of JSON; a terminal has the table."""
    if not sys.stdout.isatty():
        print(json.dumps(found))


def load(data: Path, form: Form, whole: bool = False) -> "Log":
    """Read a log, and say what is in it and what was left out.

    Raises DataError where all that training learns from lacks a type of a mapping: `whole`.
    """
    from models.data.log import load as read

    with console.status(f"reading {data}") as status:
        log = read(data, form, lambda n: status.update(f"reading {data}: {n:,} events"))
    report(log.bad, console)
    tell_missing(form, console, whole)
    parts = counted(len(log), "event"), counted(len(log.users), "shopper"), counted(len(log.items), "item")
    console.print(f"{', '.join(parts)} in {data}")
    return log


def counted(n: int, noun: str) -> str:
    """Write a count of things, in the plural where they are not one.

    >>> counted(1, "user"), counted(1200, "user")
    ('1 user', '1,200 users')
    """
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def config(preset: str, setting: list[str] | None, example: str, **given: Any) -> "TrainConfig":
    """Set the dials: the preset's, and over them those of --set and the given ones that are not None.

    Raises SettingError for a preset or a dial that is none, and for a dial that is given twice.
    """
    from models.training.config import PRESETS, TrainConfig

    if preset not in PRESETS:
        raise SettingError(f"there is no preset {preset!r}", f"the presets are {', '.join(PRESETS)}")
    own = pairs(setting, example)
    flags = {name: value for name, value in given.items() if value is not None}
    if twice := [name for name in flags if name in own]:
        raise SettingError(f"{twice[0]} is given twice", f"give either --{twice[0]} or --set {twice[0]}=...")
    dials = PRESETS[preset] | own | flags
    try:
        return msgspec.convert(dials, TrainConfig, strict=False)
    except msgspec.ValidationError as error:
        names = TrainConfig.__struct_fields__
        if unknown := [f"there is no setting {name!r}" for name in dials if name not in names]:
            raise SettingError(", ".join(unknown), f"the settings are {', '.join(names)}") from error
        said, _, place = str(error).partition(" - at `$.")
        name = place.rstrip("`")
        usual = PRESETS[preset].get(name, getattr(TrainConfig(), name, ""))
        raise SettingError(f"{name}: {said.lower()}", f"write --set {name}=VALUE, such as {usual}") from error


def meaning(horizons: list[str] | None, gap: str | None) -> TaskSpec:
    """Say what a model means by a purchase and by a session; raise SettingError where it is no span."""
    try:
        given = {"horizons": tuple(horizons or ()), "gap": milliseconds(gap) if gap else None}
        return msgspec.structs.replace(_MEANING, **{name: value for name, value in given.items() if value})
    except ValueError as error:
        raise SettingError(str(error), "see forecart train --help") from error
