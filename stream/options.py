"""What the commands of serving and training ask for alike: the format of a log, and name=value."""

from typing import Annotated

import typer

from stream.core.errors import SettingError
from stream.core.formats import FORMATS


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
