"""The command that explains scores of a checkpoint."""

from pathlib import Path
from typing import Annotated

import typer

from models.cli import options
from models.cli.options import DataOption
from stream.cli.options import MappingOption, OptionalFormat, chosen


def attribute(
    checkpoint: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: DataOption,
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    user: Annotated[list[str] | None, typer.Option(help="A shopper; else the one of the newest event.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every shopper of the log.")] = False,
    newest: Annotated[int, typer.Option(min=1, help="Events that are explained, the newest.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Lines of JSON, as without a terminal.")] = False,
) -> None:
    """Tell by integrated gradients what each event and each input field adds to a user's score.

    The path of integration begins at neutral inputs: unknown items, no categories, the first type, zeros for
    numbers. The contributions add up to the score less that of the neutral inputs. What came before the
    explained events counts in the score and not here: how far the two lie apart is told.
    What the fields mean is in docs/topics.md. `forecart explain` explains a bundle, without torch.

    Example: forecart attribute runs/taobao --format taobao --data events.csv.gz --user 1000001
    """
    from models.evaluation.attribution import explain
    from models.training.checkpoint import load
    from stream.cli.display import show

    point = load(checkpoint)
    show(explain(point, options.load(data, chosen(form, mapping)), user or [], everyone, newest), as_json)
