"""Write the parts of docs/topics.md that follow from the code: python docs/readers/page.py [--check]."""

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from stream.bundle.onnx import load
from stream.core.events import REASONS, Cause, Event, Recommendation, Score, SessionView, Source
from stream.core.features import NUMERIC
from stream.core.manifest import Manifest, TaskSpec
from stream.core.ring import fields as input_fields
from stream.core.session import record
from stream.kafka.fetch.fetches import FetchedRecord
from stream.kafka.topics.admin import DEFAULT_PARTITIONS, wanted
from stream.recommend.cold_items import ColdItem
from stream.records import HEADER_ROOM, Fault, Limits, Message
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.settings import PREFIX, Settings
from stream.state.position import Position
from stream.state.sessions import SessionStore

HERE = Path(__file__).parent
PAGE = HERE.parent / "topics.md"
BUNDLE = HERE.parents[1] / "stream/demo/bundle"
MEANINGS: dict[str, dict[str, Any]] = tomllib.loads((HERE / "meanings.toml").read_text())
NEAR = 1e-3  # what decimals of the example may differ by: processors sum in another order
TRACE = ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
# The settings that decide what stands in the topics.
SETTINGS = (
    *("events_topic", "scores_topic", "dead_letters_topic", "changelog_topic", "group"),
    *(
        "recommend",
        "explain",
        "max_event_bytes",
        "max_batch_bytes",
        "max_dead_letter_bytes",
        "max_future_seconds",
        "transaction_timeout_seconds",
    ),
)


def explained(what: str, names: Iterable[str], meanings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Pair names with their meanings; raise LookupError where a name lacks its meaning, or a meaning its name."""
    names = list(names)
    if missing := [name for name in names if name not in meanings]:
        raise LookupError(f"{what}: docs/readers/meanings.toml says nothing of {', '.join(missing)}")
    if gone := [name for name in meanings if name not in names]:
        raise LookupError(f"{what}: docs/readers/meanings.toml still has {', '.join(gone)}")
    return [(name, meanings[name]) for name in names]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def fields(owner: type, column: str, tell: Callable[[inspect.Field], str]) -> str:
    """Tabulate a struct's fields; `tell` fills the column."""
    info = inspect.type_info(owner)
    assert isinstance(info, inspect.StructType)
    found = {field.encode_name: field for field in info.fields}
    rows = []
    for name, (unit, meaning) in explained(owner.__name__, found, MEANINGS[owner.__name__]):
        rows.append([f"`{name}`", kind(found[name].type), unit, tell(found[name]), meaning])
    return table(("Field", "Type", "Unit", column, "Meaning"), rows)


def required(field: inspect.Field) -> str:
    """Tell whether an input field must be there."""
    return "yes" if field.required else "no"


def present(field: inspect.Field) -> str:
    """Tell when an output field is there: one that holds its default is left out."""
    if field.required:
        return "always"
    return "where true" if field.default is False else "where not empty"


def default(field: inspect.Field) -> str:
    """Return a field's default as JSON."""
    return "" if field.default is NODEFAULT else f"`{json.dumps(field.default)}`"


def kind(type_: inspect.Type) -> str:
    """Name a JSON type and its limits."""
    match type_:
        case inspect.UnionType(types=types):
            return " or ".join(kind(each) for each in types)
        case inspect.StrType(min_length=low, max_length=high) if high is not None:
            return f"string of {f'{low} to' if low else 'up to'} {high} characters"
        case inspect.IntType(gt=low, lt=high) if low is not None and high is not None:
            return f"integer, {low + 1} to {high - 1}"
        case inspect.ListType(item_type=item) | inspect.VarTupleType(item_type=item):
            return f"array of {kind(item)}s"
        case inspect.DictType(value_type=value):
            return f"object of {kind(value)}s"
    plain: dict[type, str] = {inspect.StrType: "string", inspect.IntType: "integer", inspect.FloatType: "number"}
    plain |= {inspect.BoolType: "boolean", inspect.NoneType: "null", inspect.StructType: "object"}
    return plain[type(type_)]


def topics() -> str:
    """Tabulate the topics as `forecart topics apply` creates them."""
    asked = Settings.model_construct(catalog_topic="none")  # unless it is named there is none
    planned = {topic.role: topic for topic in wanted(asked, DEFAULT_PARTITIONS, 3)}
    common = set.intersection(*(set(topic.config.items()) for topic in planned.values()))
    rows = []
    for role, (setting, *facts) in explained("topics", planned, MEANINGS["topics"]):
        own = [f"`{name}={value}`" for name, value in planned[role].config.items() if (name, value) not in common]
        rows.append([role, f"`{planned[role].name}`", f"`{setting}`", *facts, ", ".join(own)])
    head = ("Topic", "Default name", "Setting", "Key", "Written by", "Read by", "Records stay", "Created with")
    same = ", ".join(f"`{name}={value}`" for name, value in sorted(common))
    count = f"as many partitions as the events ({DEFAULT_PARTITIONS} by default), the catalog with one"
    return f"{table(head, rows)}\n\nAll are created with {count}, all with replication 3, {same}."


def settings() -> str:
    """Tabulate the worker's settings that decide what stands in the topics."""
    rows = []
    for name in SETTINGS:
        field = Settings.model_fields[name]
        value = "" if field.default == "" else f"`{json.dumps(field.default)}`"
        rows.append([f"`{name}`", f"`{PREFIX}{name.upper()}`", value, field.description or ""])
    return table(("Setting", "Environment", "Default", "Meaning"), rows)


def layout(manifest: Manifest) -> str:
    """Tabulate the session record."""
    dtype = record(manifest)
    meanings = dict(MEANINGS["record"])
    meanings |= dict.fromkeys(manifest.hidden, meanings.pop("STATE"))
    assert dtype.fields is not None
    rows = []
    for name, meaning in explained("the session record", dtype.fields, meanings):
        form, at = dtype.fields[name][:2]
        sizes = "".join(f"[{size}]" for size in form.shape)
        rows.append([f"`{name}`", f"{form.base.name}{sizes}", str(at), str(form.itemsize), meaning])
    return table(("Field", "Type", "Offset", "Bytes", "Meaning"), rows)


def listed(what: str, head: Sequence[str], names: Iterable[str]) -> str:
    """Tabulate names and their meanings."""
    return table(head, [[f"`{name}`", meaning] for name, meaning in explained(what, names, MEANINGS[what])])


class Examples:
    """Records as a worker reads and writes them: a shopper's event, its score, and dead letters, whole and cut."""

    def __init__(self) -> None:
        bundle, began = load(BUNDLE), 1_767_261_600_000
        self.manifest, items = bundle.manifest, bundle.vocabulary.items
        seen = [("view", items[0]), ("view", items[1]), ("addtocart", items[1])]
        lines = []
        for i, (type_, item) in enumerate(seen):
            time, more = began + 41_000 * i, ("category-9", 24.9, 1.0, "web-58a1")
            value = msgspec.json.encode(Event(f"e-{7301 + i}", "shopper-1042", type_, item, time, *more))
            lines.append(Line(40_210 + i, time + 120, b"shopper-1042", value, [TRACE]))
        bad = Line(40_213, began + 90_000, b"shopper-7", b'{"event_id": "e-7304", "user_id": 7}', [TRACE])
        long = Line(40_214, began + 90_000, b"k" * 10_000, b"x" * 2048)
        scorer = Scorer(bundle, True, Limits(1024, 1024, 0), Settings.model_construct().events_topic, explain=True)
        part = Partition(3, SessionStore(scorer.layout))
        batch = {"batch-offset": "40215", "batch-bytes": "16384"}
        reasons = {"unreadable": {"cause": "crc"}, "inflated": {"limit-bytes": "67108864"}}
        faults = [Fault(reason, batch | facts) for reason, facts in reasons.items()]
        unread = [FetchedRecord("events", 3, 40_215, -1, 0, None, None, (), fault=fault) for fault in faults]
        work = scorer.process(part, [*lines, bad, long, *unread], lines[-1].timestamp + 4)
        self.event, self.score, self.letters = lines[-1], work.scores[-1], work.dead

    @property
    def headers(self) -> list[str]:
        """Name the headers that dead letters have beside those of their records."""
        names = dict.fromkeys(name for letter in self.letters for name, _ in letter.headers)
        return [name for name in names if name != TRACE[0]]


def shown(source: Line | Message, value: str | None = None) -> str:
    """Show a record's key, headers and value."""
    key, raw = (source.key or b"").decode(), (source.value or b"").decode()
    headers = [f"    {name}: {content.decode()}" for name, content in source.headers]
    return "\n".join(["```text", "key", f"    {key}", "headers", *headers, "value", value or f"    {raw}", "```"])


def broken(source: Line | Message) -> str:
    """Show a record whose value is an object, with a line for each field and each element of a list."""
    rows = []
    for name, part in json.loads(source.value or b"").items():
        elements = ",\n".join(f"            {json.dumps(each)}" for each in part) if isinstance(part, list) else ""
        rows.append(f'        "{name}": ' + (f"[\n{elements}\n        ]" if elements else json.dumps(part)))
    return shown(source, "    {\n" + ",\n".join(rows) + "\n    }")


def file(name: str, language: str) -> str:
    """Show a file of this folder."""
    return f"```{language}\n{(HERE / name).read_text()}```"


def blocks() -> dict[str, str]:
    """Make all generated parts of the page, by name."""
    examples = Examples()
    return {
        "topics": topics(),
        "event": fields(Event, "Required", required),
        "event example": broken(examples.event),
        "score": fields(Score, "Present", present),
        "source": fields(Source, "Present", present),
        "session": fields(SessionView, "Present", present),
        "recommendation": fields(Recommendation, "Present", present),
        "cause": fields(Cause, "Present", present),
        "score example": broken(examples.score),
        "bundle": fields(TaskSpec, "Default", default),
        "reasons": listed("reasons", ("Reason", "Meaning"), REASONS),
        "headers": listed("headers", ("Header", "Meaning"), examples.headers),
        "room": f"The record's own headers come first, in their order, as far as {HEADER_ROOM} bytes reach.",
        "letter example": shown(examples.letters[0]),
        "record": layout(examples.manifest),
        "newcomer": fields(ColdItem, "Present", lambda field: "always" if field.required else "where known"),
        "position": fields(Position, "Present", lambda _: "always"),
        "fields": listed("fields", ("Field", "Meaning"), input_fields(NUMERIC)),
        "settings": settings(),
        "python": file("reader.py", "python"),
        "java": file("Reader.java", "java"),
    }


def near(old: str, new: str) -> bool:
    """Tell whether two texts differ in nothing but decimals, and in those by no more than `NEAR`."""
    decimal = re.compile(r"-?\d+\.\d+")
    pairs = zip(decimal.findall(old), decimal.findall(new), strict=False)
    return decimal.sub("#", old) == decimal.sub("#", new) and all(abs(float(a) - float(b)) <= NEAR for a, b in pairs)


def renewed(page: str, made: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the page with its parts as made, and the names of those that were not; raise LookupError without one."""
    stale = []
    if unknown := set(re.findall(r"<!-- begin (.*?) -->", page)) - set(made):
        raise LookupError(f"{PAGE.name} has parts that nothing makes: {', '.join(sorted(unknown))}")
    for name, new in made.items():
        found = re.search(rf"<!-- begin {name} -->\n(.*?)\n?<!-- end {name} -->", page, re.DOTALL)
        if found is None:
            raise LookupError(f"{PAGE.name} has no part {name}")
        if found[1] != new and not (name == "score example" and near(found[1], new)):
            stale.append(name)
            page = f"{page[: found.start(1)]}{new}\n{page[found.end() - len(f'<!-- end {name} -->') :]}"
    return page, stale


def main() -> int:
    """Renew the generated parts of docs/topics.md."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where a part is out of date")
    check = parser.parse_args().check
    page, stale = renewed(PAGE.read_text(), blocks())
    if stale and not check:
        PAGE.write_text(page)
    print(f"{PAGE.name}: {', '.join(stale) or 'nothing'} {'out of date' if check else 'renewed'}")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
