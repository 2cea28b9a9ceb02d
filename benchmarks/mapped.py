"""Topics of a shop's own shape beside Forecart's: the decoder alone, and scoring by the demo's bundle, intent only.

The same events in several shapes, chunk by chunk in turn in one process. Times are the thread's, the shortest of
several rounds; ratios are of speed, native time over mapped time. The last line is JSON.

    python benchmarks/mapped.py
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from machine import facts

from stream.bundle.onnx import load
from stream.formats.decoding import Decoder, Native
from stream.formats.mapped import Mapped
from stream.formats.mapping import Mapping
from stream.records import Limits
from stream.scoring.offline import Line
from stream.scoring.scorer import Partition, Scorer
from stream.state.sessions import SessionStore

BUNDLE = Path(__file__).parents[1] / "stream/demo/bundle"
_EVENTS, _BEGIN, _LARGEST = 4096, 1_767_261_600_000, 65_536
_NAMES = {"view": "page_view", "addtocart": "add_to_cart", "transaction": "purchase"}
_TYPES = {"view": "page_view", "cart": "add_to_cart", "purchase": "purchase"}
_FLAT = {"user": "user", "item": "product", "time": "at", "type": "event", "category": "category", "price": "price"}
_NESTED = {"user": "customer.id", "item": "product.sku", "category": "product.category", "price": "product.price"}
_MS = {"unit": "ms"}

Fields = dict[str, Any]


def native(e: Fields) -> Fields:
    """Return an event in Forecart's shape."""
    return e


def renamed(e: Fields) -> Fields:
    """Return it with a shop's names."""
    names = {"id": e["event_id"], "user": e["user_id"], "event": _NAMES[e["type"]], "product": e["item_id"]}
    return names | {"at": e["timestamp"], "category": e["category_id"], "price": e["price"]}


def in_iso(e: Fields) -> Fields:
    """Return it with a time in ISO 8601."""
    text = datetime.fromtimestamp(e["timestamp"] / 1000, UTC).isoformat(timespec="milliseconds")
    return renamed(e) | {"at": text.replace("+00:00", "Z")}


def without_id(e: Fields) -> Fields:
    """Return it without an id."""
    return {name: value for name, value in renamed(e).items() if name != "id"}


def with_numbers(e: Fields) -> Fields:
    """Return it with numbers for ids."""
    ids = {"user": int(e["user_id"].split("-")[1]), "product": int(e["item_id"].split("-")[1])}
    return renamed(e) | ids


def nested(e: Fields) -> Fields:
    """Return it with a customer and a product, which have fields that nobody asks for."""
    product = {"sku": e["item_id"], "category": e["category_id"], "price": e["price"], "stock": 7}
    own = {"id": e["event_id"], "event": _NAMES[e["type"]], "at": e["timestamp"]}
    return own | {"customer": {"id": e["user_id"], "country": "DE"}, "product": product}


_SHAPES: dict[str, tuple[Callable[[Fields], Fields], Fields, Fields]] = {
    "renamed": (renamed, _FLAT | {"event_id": "id"}, _MS),
    "iso": (in_iso, _FLAT | {"event_id": "id"}, {"format": "iso"}),
    "without_id": (without_id, _FLAT, _MS),
    "numbers": (with_numbers, _FLAT | {"event_id": "id"}, _MS),
    "nested": (nested, _FLAT | _NESTED | {"event_id": "id"}, _MS),
}


def events() -> list[Fields]:
    """Make events of the demo's items."""
    dice = np.random.default_rng(0)
    return [
        {
            "event_id": f"e-{n:07}",
            "user_id": f"shopper-{dice.integers(10_000)}",
            "type": str(dice.choice(list(_NAMES), p=(0.9, 0.07, 0.03))),
            "item_id": f"item-{dice.integers(1200)}",
            "timestamp": _BEGIN + 97 * n,
            "category_id": f"category-{dice.integers(40)}",
            "price": round(float(dice.gamma(2, 20)), 2),
        }
        for n in range(_EVENTS)
    ]


def fastest(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Run each way in turn, and return the shortest time of each, in s."""
    found = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            began = time.thread_time()
            made = way()
            found[name] = min(found[name], time.thread_time() - began)
            del made
    return found


def decoding(decoder: Decoder, raws: list[bytes]) -> Callable[[], object]:
    """Return what decodes a chunk."""
    newest = np.full(len(raws), 2**52)
    if decoder.all(raws, newest, _LARGEST, lambda: [f"0-{n}" for n in range(len(raws))]) is None:
        raise ValueError("the chunk is not decoded at once")
    return lambda: decoder.all(raws, newest, _LARGEST, lambda: [f"0-{n}" for n in range(len(raws))])


def scoring(decoder: Decoder, raws: list[bytes]) -> Callable[[], object]:
    """Return what scores a chunk by shoppers that are new."""
    scorer = Scorer(load(BUNDLE), False, Limits(_LARGEST, _LARGEST, 10**12), "events", decoder=decoder)
    lines = [Line(n, _BEGIN, None, raw) for n, raw in enumerate(raws)]

    def score() -> object:
        work = scorer.process(Partition(0, SessionStore(scorer.layout)), lines, _BEGIN)
        if len(work.scores) != len(lines):
            raise ValueError(f"not all is scored: {work.rejected}")
        return work

    return score


def main() -> None:
    """Measure all shapes, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    rounds, made = parser.parse_args().rounds, events()
    decoders: dict[str, tuple[Decoder, list[bytes]]] = {"native": (Native(), [msgspec.json.encode(e) for e in made])}
    for name, (shape, columns, times) in _SHAPES.items():
        said = {"format": "json", "columns": columns, "time": times, "types": _TYPES}
        raws = [msgspec.json.encode(shape(e)) for e in made]
        decoders[name] = Mapped(msgspec.convert(said, Mapping)), raws
    line: dict[str, Any] = {"benchmark": "mapped", "events": _EVENTS}
    for what, way, times in (("decoding", decoding, rounds), ("scoring", scoring, max(rounds // 10, 1))):
        took = fastest({name: way(*given) for name, given in decoders.items()}, times)
        line[f"{what}_ns"] = {name: round(t / _EVENTS * 1e9) for name, t in took.items()}
        line[what] = {name: round(took["native"] / t, 2) for name, t in took.items() if name != "native"}
        print(what, line[f"{what}_ns"], line[what], file=sys.stderr, flush=True)
    print(json.dumps(line | facts()))


if __name__ == "__main__":
    main()
