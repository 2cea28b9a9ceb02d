"""Explanations as people read them on a terminal, and as programs do from a pipe."""

import sys
from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.table import Table

from stream.core.printable import printable
from stream.explain.schema import Amounts, Explanation
from stream.terminal import stdout

_encode = msgspec.json.Encoder().encode


def show(explanations: Iterable[Explanation], as_json: bool) -> None:
    """Write to stdout: tables on a terminal, else, or if asked to, a line of JSON each."""
    for each in explanations:
        if as_json or not sys.stdout.isatty():
            out = stdout()
            out.write(_encode(each) + b"\n")
            out.flush()
        else:
            _tables(each, Console(markup=False, emoji=False, highlight=False))


def _tables(one: Explanation, console: Console) -> None:
    horizons = list(one.explained)
    event = printable(one.event_id) or "the newest event"
    console.print(f"\n{printable(one.user_id)} after {event}, by {one.method}", style="bold")
    scores = Table("score", *horizons)
    scores.add_row("of now", *(f"{one.intent[h]:.4f}" for h in horizons))
    scores.add_row("explained: of the events below alone", *(f"{one.explained[h]:.4f}" for h in horizons))
    scores.add_row("not explained", *(f"{one.intent[h] - one.explained[h]:+.4f}" for h in horizons))
    if one.baseline:
        scores.add_row("baseline: of neutral inputs", *(f"{one.baseline[h]:.4f}" for h in horizons))
    console.print(scores)
    item = f"next: {printable(one.recommendation.item_id)}" if one.recommendation else ""
    events = Table("event", "before it, s", "type", "item", *horizons, *([item] if item else []))
    for share in one.events:
        bound = "≥ " if share.at_least else ""
        recommended = "" if share.next_item is None else f"{bound}{share.next_item:+.4f}"
        age = f"{(one.event_time - share.event_time) / 1000:,.0f}"
        event, kind, what = map(printable, (share.event_id, share.type, share.item_id or "unknown"))
        row = (event, age, kind, what, *_signed(share.contribution, horizons))
        events.add_row(*row, *([recommended] if item else []))
    console.print(events)
    table = Table("field", *horizons)
    for name, amounts in one.fields.items():
        table.add_row(name, *_signed(amounts, horizons))
    console.print(table)


def _signed(amounts: Amounts, horizons: list[str]) -> list[str]:
    return [f"{amounts[h]:+.4f}" if h in amounts else "" for h in horizons]
