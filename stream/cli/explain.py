"""The command that explains scores of a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from stream.cli.options import MappingOption, OptionalFormat, chosen, report, tell_missing, terminal


def explain(
    bundle: Annotated[Path, typer.Option("--bundle", help="The model's folder.")],
    form: OptionalFormat = "",
    mapping: MappingOption = None,
    data: Annotated[Path, typer.Option("--data", help="The log; else stdin.")] = Path("-"),
    user: Annotated[list[str] | None, typer.Option(help="A shopper; else the one of the newest event.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Every shopper of the log.")] = False,
    recommend: Annotated[bool, typer.Option("--recommend/--intent-only", help="Explain the first item too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Lines of JSON, as without a terminal.")] = False,
) -> None:
    """Tell why a user has the score of now: what each recent event and each input field adds to it.

    The last events that the worker keeps of a user, the ring, are scored again from a fresh state: once
    whole, once without each event, as if it had not happened, and once with each field neutral in all of
    them (an unknown item, no category, the first type, 0). A contribution is the score of the whole ring
    less the one without; contributions overlap, and need not add up to the score. What came before the
    ring counts in the score and not here: how far the two lie apart is told. A single event has no
    contribution, for there is no score without it. What the fields mean is in docs/topics.md.
    `forecart attribute` explains a checkpoint, by gradients.

    Example: forecart explain --bundle bundles/taobao --format taobao --user 1000001 < events.csv
    """
    from stream import settings
    from stream.cli.display import show
    from stream.scoring.explain import explain_log

    given = settings.load()
    source = chosen(form, mapping or (None if form else given.mapping), "events")
    found, bad = explain_log(given, bundle, source, data, user or [], everyone, recommend)
    console = terminal()
    report(bad, console)
    tell_missing(source, console)
    show(found, as_json)
