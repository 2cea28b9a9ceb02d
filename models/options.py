"""What the commands of training share: a log read in sight, dials, what a model means, bars of progress."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stream.core.errors import SettingError
from stream.core.manifest import Meaning, milliseconds
from stream.options import pairs

console = Console(stderr=True)

DataOption = Annotated[Path, typer.Option("--data", help="The log, gzipped or not.")]


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


def load(data: Path, form: str) -> Any:
    """Read a log, and say what is in it and what was left out."""
    from models.histories import load as read

    with console.status(f"reading {data}") as status:
        log = read(data, form, lambda n: status.update(f"reading {data}: {n:,} events"))
    for line in log.bad.lines():
        console.print(f"[yellow]{line}")
    console.print(f"{len(log):,} events, {len(log.users):,} shoppers, {len(log.items):,} items in {data}")
    return log


def config(preset: str, setting: list[str] | None, example: str, **given: Any) -> Any:
    """Set the dials: the preset's, those of --set over them, and over these the given ones.

    Raises SettingError for a preset or a dial that is none.
    """
    from models.config import PRESETS, TrainConfig

    if preset not in PRESETS:
        raise SettingError(f"there is no preset {preset!r}", f"the presets are {', '.join(PRESETS)}")
    dials = PRESETS[preset] | pairs(setting, example) | given
    try:
        return msgspec.convert(dials, TrainConfig, strict=False)
    except msgspec.ValidationError as error:
        names = TrainConfig.__struct_fields__
        unknown = [f"there is no setting {name!r}" for name in dials if name not in names]
        raise SettingError(", ".join(unknown) or str(error), f"the settings are {', '.join(names)}") from error


def meaning(horizons: list[str] | None, gap: str) -> Meaning:
    """Say what a model means by a purchase and by a session; raise SettingError where it is no span."""
    try:
        return Meaning(horizons=tuple(horizons or ("1h", "24h")), gap=milliseconds(gap))
    except ValueError as error:
        raise SettingError(str(error), "see forecart train --help") from error
