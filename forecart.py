"""The front door: one command line over serving, training and export; each part is imported when its command runs."""

import errno
import importlib
import os
import sys
from collections.abc import Callable

import typer
from typer.core import TyperGroup

from stream.cli.sampling import SAMPLES
from stream.core.errors import ForecartError, SettingError
from stream.mappings import TABLES

COMMANDS = {
    "demo": "stream.demo.cli",
    "worker": "stream.cli.worker",
    "broker": "stream.cli.worker",
    "topics": "stream.cli.worker",
    "catalog": "stream.cli.catalog",
    "leave": "stream.cli.leave",
    "replay": "stream.cli.worker",
    "capture": "stream.cli.worker",
    "score": "stream.cli.worker",
    "explain": "stream.cli.worker",
    "settings": "stream.cli.worker",
    "capacity": "stream.cli.worker",
    "map": "stream.cli.map",
    "shoppers": "models.cli.train",
    "prepare": "models.cli.prepare",
    "train": "models.cli.train",
    "evaluate": "models.cli.train",
    "report": "models.cli.report",
    "attribute": "models.cli.train",
    "intent": "models.cli.train",
    "search": "models.cli.search",
    "export": "export.cli",
}
_INSTALL = "pip install --constraint constraints.txt '.[train]', where Forecart's source is"


TABLES["parquet"] = lambda *log: importlib.import_module("models.data.mapped_parquet").rows(*log)
SAMPLES["parquet"] = lambda *log: importlib.import_module("models.data.mapped_parquet").first(*log)


class Lazy(TyperGroup):
    """Find a command's module when it is asked for, so that serving never waits for torch."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Name the commands in the order of use."""
        return list(COMMANDS)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run a command; end with 141 where whoever read its output has gone, which Click would make a 1."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)

    def get_command(self, ctx: typer.Context, cmd_name: str):  # type: ignore[no-untyped-def,override]
        """Import the module that holds a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name])
        group = typer.main.get_group(module.app)
        return group.get_command(ctx, cmd_name)


app = typer.Typer(cls=Lazy, no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Score shoppers' behaviour as it happens: LSTM states kept exactly once, from Kafka to Kafka."""


def run(command: Callable[[], object]) -> int:
    """Run a command; an error of Forecart's own becomes its message, remedy and exit code."""
    try:
        command()
    except ForecartError as error:
        print(f"forecart: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if error.name in (
            "torch",
            "onnx",
            "onnxscript",
            "matplotlib",
            "sklearn",
            "scipy",
            "jinja2",
            "captum",
            "lightgbm",
            "optuna",
            "polars",
        ):
            print(f"forecart: {error.name} is not installed\n  {_INSTALL}", file=sys.stderr)
            return 69
        raise
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise  # of no file: a fault of ours
        path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the output"
        print(f"forecart: cannot read or write {path}: {error.strerror}", file=sys.stderr)
        print("  check the path, its rights and the room there, or give another", file=sys.stderr)
        return SettingError.exit_code
    return 0


def main() -> None:
    """Enter from the console script."""
    sys.exit(run(app))


if __name__ == "__main__":
    main()
