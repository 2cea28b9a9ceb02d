"""A mapping proposed from the first rows of a log: by the names of its columns, and by what stands in them."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from stream.core.printable import printable
from stream.formats.instants import ISO, Instants
from stream.formats.mapping import counted
from stream.formats.values import number, stamp

Rows = Sequence[dict[str, object]]
_WORDS = {
    "user": "user customer visitor client shopper member account buyer uid userid visitorid customerid",
    "item": "item product sku article asin itemid productid stockcode content offer",
    "time": "time timestamp ts date datetime at created occurred when invoicedate",
    "type": "type event action behavior behaviour activity interaction kind eventtype eventname",
    "category": "category categoryid cat department group",
    "price": "price unitprice cost amount",
    "quantity": "quantity qty units",
    "event_id": "id eventid uuid message",
    "session": "session visit sessionid",
}
_MEANT = {
    "purchase": "purchase purchased buy bought order ordered transaction sale sold paid payment conversion",
    "cart": "cart basket bag addtocart",
    "view": "view viewed pageview pv click clicked detail visit impression browse",
}
_UNDONE = {"remove", "removed", "delete", "deleted", "refund", "refunded", "return", "returned", "cancel", "cancelled"}
_PATTERNS = (
    *("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y"),
    *("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y", "%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y"),
    *("%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%a %b %d %H:%M:%S %Y"),
)
_UNITS = (("s", 1e8, 1e11), ("ms", 1e11, 1e14), ("us", 1e14, 1e17), ("ns", 1e17, 1e20))  # of a time of now
_MOST_TYPES = 60
_MOST = 0.9  # of a column's values are prices where it is one of prices
_SUFFIXES = {"id", "key", "code", "name", "ref", "no", "nr", "number"}
_LEAVES = [["id"], ["sku"], ["key"], ["uuid"], ["code"], ["name"]]  # of an object that says what it is of
_ORDER = ("view", "cart", "purchase")
NEEDED = ("user", "item", "time")


@dataclass(slots=True)
class Proposal:
    """Columns by what they are, how times are written, types by what they mean; and the types met, with counts."""

    columns: dict[str, str]
    time: dict[str, str]
    types: dict[str, list[str]]
    met: Counter[str] = field(default_factory=Counter)
    doubts: list[str] = field(default_factory=list)


def propose(rows: Rows) -> Proposal:
    """Propose a mapping of rows, whose columns are named by their paths."""
    values = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    columns = _columns(values)
    found = Proposal(columns, {}, {})
    if "time" in columns:
        forms = _forms([value for value in values[columns["time"]] if value not in (None, "")])
        found.time = {"format" if "%" in forms[0] or forms[0] == ISO else "unit": forms[0]}
        if len(forms) > 1:
            found.doubts.append(f"the times could be {' or '.join(forms)}: check the first one")
    if "type" in columns:
        found.met = Counter(f"{value}" for value in values[columns["type"]] if value not in (None, ""))
        for name in found.met:
            if meaning := meaning_of(name):
                found.types.setdefault(meaning, []).append(name)
    for name in NEEDED:
        if name not in columns:
            found.doubts.append(f"no column looks like the {name}: name it under columns")
    if not found.met:
        found.doubts.append("no column looks like the type: name it under columns, or the one type of all under types")
    elif not found.types.get("purchase"):
        met = f"the types are {counted(found.met)}"
        found.doubts.append(f"none of the types looks like a purchase: name it under types; {met}")
    return found


def _columns(values: dict[str, list[object]]) -> dict[str, str]:
    """Assign columns to what they may be, the surest pairs first."""
    pairs = [
        (likeness, -n, what, name)
        for what in _WORDS
        for n, name in enumerate(values)
        if (likeness := _likeness(name, _WORDS[what].split())) and _fits(what, values[name])
    ]
    found: dict[str, str] = {}
    for _, _, what, name in sorted(pairs, reverse=True):
        if what not in found and name not in found.values():
            found[what] = name
    return {what: found[what] for what in _WORDS if what in found}


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())


def _likeness(name: str, words: list[str]) -> float:
    """Tell how well a column's name says that it is what words stand for, 0: not at all."""
    *outer, last = [said for part in name.split(".") if (said := _words(part))] or [[]]
    bare = [word for word in last if word not in _SUFFIXES] or last
    inner = [word for part in outer for word in part]
    if "".join(last) in words and (last not in (["id"], ["uuid"]) or not inner):
        return 4 - words.index("".join(last)) / 100
    if "".join(bare) in words and (bare not in (["id"], ["uuid"]) or not inner):
        return 3 - words.index("".join(bare)) / 100 + 0.5 * ("id" in last)
    if last in _LEAVES and inner and inner[-1] in words:
        return 3 - _LEAVES.index(last) / 100
    return 1 + 0.5 * ("id" in last) if set(bare) & set(words) else 0


def _fits(what: str, values: list[object]) -> bool:
    """Tell whether a column's values can be what its name says."""
    told = [value for value in values if value not in (None, "")]
    if not told or any(isinstance(value, list | dict) for value in told):
        return False
    match what:
        case "time":
            return bool(_forms(told))
        case "price" | "quantity":
            return sum(_reads(lambda value: number(str(value)), value) for value in told) >= _MOST * len(told)
        case "type":
            return len({str(value) for value in told}) <= min(_MOST_TYPES, max(len(told) / 2, 8))
        case "event_id":
            return len({str(value) for value in told}) == len(values)
    return not isinstance(told[0], datetime)


def _forms(values: list[object]) -> list[str]:
    """Return how times may be written, the likeliest first."""
    if all(isinstance(value, datetime) for value in values):
        return [ISO]
    if stamps := {stamp(str(value)) for value in values} - {""}:
        return list(stamps) if len(stamps) == 1 and all(stamp(str(value)) for value in values) else []
    try:
        sizes = [float(value) for value in values if isinstance(value, str | int | float)]
        return [
            unit for unit, least, most in _UNITS if len(sizes) == len(values) and all(least <= n < most for n in sizes)
        ]
    except ValueError:
        return [form for form in (ISO, *_PATTERNS) if all(_reads(Instants(form).one, value) for value in values)]


def _reads(read: Callable[[object], object], value: object) -> bool:
    try:
        read(value)
    except (ValueError, OverflowError):
        return False
    return True


def meaning_of(name: str) -> str | None:
    """Return what a type may mean by its name: view, cart, purchase or None.

    >>> meaning_of("checkout_purchase"), meaning_of("remove_from_cart")
    ('purchase', None)
    """
    words = set(_words(name)) | {"".join(_words(name))}
    if words & _UNDONE:
        return None
    return next((meaning for meaning, meant in _MEANT.items() if words & set(meant.split())), None)


def flat(record: object, before: str = "") -> dict[str, object]:
    """Return a nested record's values by their dotted paths.

    >>> flat({"user": {"id": 7}, "sku": "a"})
    {'user.id': 7, 'sku': 'a'}
    """
    found: dict[str, object] = {}
    for name, value in record.items() if isinstance(record, dict) else ():
        found |= flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def written(form: str, found: Proposal, source: str, rows: int) -> str:
    """Write a proposal as the file of a mapping."""
    lines = [
        f"# Proposed by forecart map from the first {rows:,} rows of {printable(source)}; docs/mapping.md says more."
    ]
    lines += [f"# {printable(doubt)}" for doubt in found.doubts]
    lines += [f"format: {form}", "columns:"]
    lines += [f"  {name}: {_scalar(found.columns.get(name, ''))}" for name in dict.fromkeys((*NEEDED, *found.columns))]
    lines += ["time:", *(f"  {name}: {_scalar(value)}" for name, value in found.time.items())]
    lines += ["  zone: UTC  # of times that name none"]
    if "type" not in found.columns:
        return "\n".join([*lines, "types: view  # of all events"]) + "\n"
    lines += [f"types:{'' if found.types else ' {}'}  # met: {printable(counted(found.met))}"]
    for meaning in _ORDER:
        names = found.types.get(meaning, [])
        lines += [f"  {meaning}: {_several(names)}" if names else f"  # {meaning}: which?"]
    return "\n".join(lines) + "\n"


def _several(names: Iterable[str]) -> str:
    told = [_scalar(name) for name in names]
    return told[0] if len(told) == 1 else f"[{', '.join(told)}]"


def _scalar(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z][\w.-]*", text) and text.lower() not in (
        "yes",
        "no",
        "on",
        "off",
        "true",
        "false",
        "null",
        "y",
        "n",
    )
    if plain:
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text) + '"'
