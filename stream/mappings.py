"""Mappings from files, and logs by their paths."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import yaml

from stream.core.errors import SettingError
from stream.core.events import Event
from stream.files import source
from stream.formats.mapped import Mapped
from stream.formats.mapped_log import MappedFormat
from stream.formats.mapping import Columns, Mapping, Time, nearest
from stream.formats.registry import BadRow, Form, read

Tables = Callable[[Path, MappedFormat], Iterable[Sequence[object]]]
TABLES: dict[str, Tables] = {}
"""What reads files that serving knows nothing of; the command line names it."""
_REMEDY = "docs/mapping.md describes a mapping, and `forecart map --data FILE` proposes one"


def load(path: Path) -> MappedFormat:
    """Read a mapping; raise SettingError where it is none."""
    try:
        text = path.read_bytes()
        _refuse_twice(text)
        mapping = msgspec.yaml.decode(text, type=Mapping)
        zone = ZoneInfo(mapping.time.zone)
    except OSError as error:
        raise SettingError(f"{path} cannot be read: {error.strerror}", "check --mapping") from error
    except (msgspec.DecodeError, ValueError, KeyError) as error:  # KeyError: no such zone
        raise SettingError(f"{path} is no mapping: {error}{_meant(str(error))}", _REMEDY) from error
    return MappedFormat.of(mapping, path.name, zone)


def _refuse_twice(text: bytes) -> None:
    """Raise ValueError where a name is given twice, of which YAML's readers take the last."""
    try:
        left = [yaml.compose(text, yaml.SafeLoader)]
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    while left:
        node = left.pop()
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise ValueError(f"{name} is given twice, in lines {lines[name]} and {line}")
            lines[name] = line
            left.append(value)


def _meant(said: str) -> str:
    """Return which field may be meant by one that there is not."""
    unknown = re.search("unknown field `(.*?)`", said)
    names = [name for each in (Mapping, Columns, Time) for name in each.__struct_fields__]
    found = nearest(unknown[1], names) if unknown else []
    return f": is it {' or '.join(found)}?" if found else ""


def decoder_of(form: Form | None) -> Mapped | None:
    """Return what decodes records of a shop's own shape, None where there is no mapping of JSON."""
    json = isinstance(form, MappedFormat) and form.mapping.format == "json"
    return Mapped(form.mapping, form.zone) if isinstance(form, MappedFormat) and json else None


def topic_decoder(path: Path | None) -> Mapped | None:
    """Return what decodes a topic's records by a mapping; raise SettingError where that is none of JSON."""
    if path is None:
        return None
    found = decoder_of(form := load(path))
    if found is None:
        raise SettingError(
            f"{path} describes {form.mapping.format}, and a topic's records are JSON",
            "write `format: json`, and the paths of the fields in a record",
        )
    return found


def served(model: str, path: Path | None) -> str:
    """Name what a worker makes scores by: its bundle's model and, where it has one, what its mapping says."""
    if path is None:
        return model
    return f"{model}-{hashlib.sha256(msgspec.json.encode(load(path).mapping)).hexdigest()[:8]}"


def is_parquet(form: Form) -> bool:
    """Tell whether a mapping is of Parquet, which is read by its path."""
    return isinstance(form, MappedFormat) and form.mapping.format == "parquet"


def named_after(form: Form, path: Path) -> None:
    """Make ids by the path's name for events of a mapped log without ids, so that two logs in one topic share none."""
    if isinstance(form, MappedFormat):
        form.of_file("" if str(path) == "-" else path.name)


def read_log(path: Path, form: Form) -> Iterator[Event | BadRow]:
    """Yield the events and the bad rows of the log at a path, as `registry.read` does; raise DataError."""
    named_after(form, path)
    if isinstance(form, MappedFormat) and is_parquet(form):
        yield from form.events(TABLES[form.mapping.format](path, form))
        return
    file = source(path)
    try:
        yield from read(file, form)
    finally:
        if file is not sys.stdin.buffer:
            file.close()
